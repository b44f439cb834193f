"""Networks and their parts that several segmenters use; plugins stand on them, never on each other."""

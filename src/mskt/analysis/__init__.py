"""What the masks say: assessment of one case, evaluation against a reference, statistics."""

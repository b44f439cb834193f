"""One training loop for every network; its data are synthesised on the fly."""

"""Segmenters and uncertainties head to head: who is better on the same cases, and by how much."""

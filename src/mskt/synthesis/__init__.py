"""Synthetic patients: parametric anatomy, shape, tissue, surroundings, scanner."""

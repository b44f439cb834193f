"""Accuracy against the number of dropout samples (Soufi 2024, table 8)."""

from __future__ import annotations

from mskt.analysis.reproduction.catalogue import experiment
from mskt.analysis.reproduction.findings import Findings
from mskt.analysis.reproduction.inputs import Inputs
from mskt.analysis.reproduction.sweep import Sweep, run


def compute(inputs: Inputs) -> Findings:
    """Each number of samples against 10, above which the paper found no gain."""
    makes = experiment("dropout-samples").makes
    table = ("soufi2024_table8_dropout_samples", "dropout_samples")
    return run(inputs, Sweep("draws", "dropout samples", table, "reference", 10, makes))

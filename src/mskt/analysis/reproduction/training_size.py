"""Accuracy against the number of training cases (Soufi 2024, table 7)."""

from __future__ import annotations

from mskt.analysis.reproduction.catalogue import experiment
from mskt.analysis.reproduction.findings import Findings
from mskt.analysis.reproduction.inputs import Inputs
from mskt.analysis.reproduction.sweep import Sweep, run


def compute(inputs: Inputs) -> Findings:
    """Each number of training cases against the next larger one."""
    makes = experiment("training-size").makes
    table = ("soufi2024_table7_training_cases", "training_cases")
    return run(inputs, Sweep("training_cases", "training cases", table, "next", 40, makes))

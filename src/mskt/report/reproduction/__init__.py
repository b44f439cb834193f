"""Reads results, runs an experiment of :mod:`mskt.analysis.reproduction`, writes tables and figures."""

from mskt.report.reproduction.api import Outcome, reproduce

__all__ = ["Outcome", "reproduce"]

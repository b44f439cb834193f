"""The papers' analyses on a cohort of one's own.

:mod:`~mskt.analysis.reproduction.catalogue` names the experiments and what each needs; each is a module
with a function ``compute`` from :class:`~mskt.analysis.reproduction.inputs.Inputs` to
:class:`~mskt.analysis.reproduction.findings.Findings`: tables, data of figures and remarks, nothing
drawn and nothing written. :func:`mskt.report.reproduction.reproduce` reads, runs and writes.
"""

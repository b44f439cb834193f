"""Pairs of Dice and doubt out of results tables."""

from __future__ import annotations

from dataclasses import replace

import pytest
from calibration_cohorts import cohort, row

from mskt.analysis.pairs import pairs_of, patient_of
from mskt.core.errors import InputError, UsageError


def test_sides_are_pairs_and_their_sum_is_not():
    pairs = pairs_of(cohort(3))
    assert len(pairs) == 12
    assert set(pairs.side) == {"left", "right"}
    assert 0.123 not in pairs.dice
    sacrum = [row("a", "sacrum", "both", m, v) for m, v in (("dice", 0.9), ("uncertainty", 1e-3))]
    assert pairs_of(sacrum).side.tolist() == ["both"]


def test_missed_cut_and_unmatched_structures():
    records = [
        row("a", "femur", "left", "dice", 0.0, "absent_prediction"),
        row("a", "femur", "left", "uncertainty", None, "absent_prediction"),
        row("a", "femur", "right", "dice", 0.8, "truncated"),
        row("a", "femur", "right", "uncertainty", 2e-4, "truncated"),
        row("a", "pelvis", "left", "dice", None, "absent_reference"),
        row("a", "pelvis", "left", "uncertainty", 1e-4),
        row("a", "iliopsoas", "left", "dice", 0.7),
    ]
    pairs = pairs_of(records)
    assert pairs.dice.tolist() == [0.0, 0.8]
    assert pairs.found.tolist() == [False, True]
    assert (pairs.without_doubt, pairs.structures) == (1, ("femur",))


def test_checksum_is_of_the_rows_used_in_any_order():
    records = cohort(4)
    digest = pairs_of(records).sha256
    assert pairs_of(records[::-1]).sha256 == digest
    assert pairs_of([*records, row("p000", "femur", "left", "volume", 3.0)]).sha256 == digest
    changed = [replace(r, value=0.5) if r is records[0] else r for r in records]
    assert pairs_of(changed).sha256 != digest


def test_unusable_tables_are_refused():
    records = cohort(3)
    with pytest.raises(InputError, match="two rows of dice for femur \\(left\\)"):
        pairs_of([*records, records[0]])
    with pytest.raises(InputError, match="no Dice"):
        pairs_of([r for r in records if r.metric != "dice"])
    with pytest.raises(UsageError, match="Did you mean uncertainty:soft_dice"):
        pairs_of([*records, row("p000", "femur", "left", "uncertainty:soft_dice", 0.1)],
                 "uncertainty:softdice")  # fmt: skip


def test_visits_of_a_patient_belong_together():
    assert patient_of("sub-07_ses-2_ct") == "sub-07"
    assert patient_of("case_07") == "case_07"

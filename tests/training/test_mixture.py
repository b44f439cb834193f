"""A mixture gives each member's cases in their order, in proportion, the same every time."""

from __future__ import annotations

import pickle
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mskt.core.anatomy import LabelSet, label_set
from mskt.training.cases import CaseStream, TrainingCase
from mskt.training.mixture import Mixture

MSK22 = label_set("msk22")


@dataclass(frozen=True)
class Numbered(CaseStream):
    """Says which case it was asked for."""

    name: str
    label_set: LabelSet = MSK22
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def case(self, number):
        values = np.full((1, 1, 1), number)
        return TrainingCase(
            values.astype(np.int16), values.astype(np.uint8), values > 0, (), self.name
        )

    def describe(self):
        return {"kind": "numbered", "name": self.name}


SHARES = st.lists(st.floats(0.05, 1.0), min_size=1, max_size=4)


@settings(deadline=None, max_examples=25)
@given(SHARES, st.integers(0, 2**40))
def test_members_advance_one_by_one(shares, seed):
    mixture = Mixture.of([Numbered(str(i)) for i in range(len(shares))], shares, seed)
    seen = dict.fromkeys(range(len(shares)), 0)
    for number in range(60):
        member, own = mixture.place(number)
        assert own == seen[member]
        seen[member] += 1
        case = mixture.case(number)
        assert (case.patient, int(case.image[0, 0, 0])) == (str(member), own)


@settings(deadline=None, max_examples=25)
@given(SHARES, st.integers(0, 2**40))
def test_case_is_a_function_of_its_number(shares, seed):
    mixture = Mixture.of([Numbered(str(i)) for i in range(len(shares))], shares, seed)
    numbers = [97, 3, 50, 3, 0]
    again = pickle.loads(pickle.dumps(mixture))
    assert [mixture.place(n) for n in numbers] == [again.place(n) for n in numbers]


def test_shares_are_kept():
    mixture = Mixture.of([Numbered("a"), Numbered("b"), Numbered("c")], [0.2, 0.1, 0.1], 5)
    assert mixture.shares == (0.5, 0.25, 0.25)
    _, own = zip(*(mixture.place(n) for n in range(2990, 3000)), strict=True)
    members = [mixture.place(n)[0] for n in range(1000)]
    assert np.bincount(members, minlength=3) / 1000 == pytest.approx([0.5, 0.25, 0.25], abs=0.05)
    assert max(own) == pytest.approx(1500, abs=100)


def test_seeds_differ():
    first, second = (Mixture.of([Numbered("a"), Numbered("b")], [1, 1], s) for s in (1, 2))
    assert [first.place(n) for n in range(40)] != [second.place(n) for n in range(40)]


def test_describe_tells_the_members():
    told = Mixture.of([Numbered("a"), Numbered("b")], [3, 1], 7).describe()
    assert [(m["name"], m["share"]) for m in told["members"]] == [("a", 0.75), ("b", 0.25)]


def test_what_does_not_fit():
    with pytest.raises(ValueError, match="shares"):
        Mixture.of([Numbered("a")], [0.0])
    with pytest.raises(ValueError, match="shares"):
        Mixture.of([], [])
    with pytest.raises(ValueError, match="one label set"):
        Mixture.of([Numbered("a"), Numbered("b", label_set("thigh10"))], [1, 1])

"""Label sets, and what two of them have in common: properties over random sets of atoms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mskt.core.anatomy import (
    BUILT_IN_LABEL_SETS,
    LEFT_OFFSET,
    LabelSet,
    Structure,
    anonymous_label_set,
    atoms,
    common_coarsening,
    known_structures,
    label_set,
    mapping,
    read_label_table,
)
from mskt.core.errors import InputError, UsageError

ELEMENTS = sorted(element for atom in list(atoms().values())[:8] for element in atom.elements)
PAIRS = [(a, b) for a in BUILT_IN_LABEL_SETS for b in BUILT_IN_LABEL_SETS]


@st.composite
def partitions(draw, name="random"):
    """A label set whose structures are disjoint sets of elements; some elements in none."""
    owner = draw(st.lists(st.integers(0, 5), min_size=len(ELEMENTS), max_size=len(ELEMENTS)))
    groups = {}
    for element, group in zip(ELEMENTS, owner, strict=True):
        groups.setdefault(group, set()).add(element)
    groups.pop(0, None)
    return LabelSet(
        name,
        tuple(
            Structure(index, f"{name}_{group}", elements=frozenset(groups[group]))
            for index, group in enumerate(sorted(groups), start=1)
        ),
    )


def all_elements(structures):
    return frozenset().union(*(structure.elements for structure in structures))


def sided_value(element):
    name, side = element
    return atoms()[name].index + (LEFT_OFFSET if side == "left" else 0)


def check_coarsening(first, second):
    """What must hold for the groups common to any two label sets."""
    groups = common_coarsening(first, second)
    seen = set()
    for group in groups:
        mine = all_elements(first[name] for name in group.first)
        assert mine == all_elements(second[name] for name in group.second) == group.elements
        assert not (seen & group.elements), "groups overlap"
        seen |= group.elements
    return groups


def as_sets(groups, turned=False):
    return {((g.second, g.first) if turned else (g.first, g.second), g.elements) for g in groups}


@given(partitions("first"), partitions("second"))
@settings(max_examples=60, deadline=None)
def test_coarsening_is_symmetric_disjoint_and_equal_on_both_sides(first, second):
    forth, back = check_coarsening(first, second), check_coarsening(second, first)
    assert as_sets(forth) == as_sets(back, turned=True)


@given(partitions())
@settings(max_examples=30, deadline=None)
def test_a_set_has_all_its_structures_in_common_with_itself(one):
    groups = check_coarsening(one, one)
    assert [group.first for group in groups] == [(name,) for name in one.names]


@given(partitions("fine"), st.lists(st.integers(1, 3), min_size=6, max_size=6))
@settings(max_examples=60, deadline=None)
def test_mapping_to_a_coarser_set_commutes_with_reading_atoms(fine, owner):
    merged = {}
    for structure, group in zip(fine.structures, owner, strict=False):
        merged.setdefault(group, set()).update(structure.elements)
    coarse = LabelSet(
        "coarse",
        tuple(
            Structure(index, f"coarse_{group}", elements=frozenset(merged[group]))
            for index, group in enumerate(sorted(merged), start=1)
        ),
    )
    table, unmapped = mapping(fine, coarse)
    assert unmapped == () and table[0] == 0
    sided = np.array([0, *map(sided_value, ELEMENTS)], np.uint8)
    assert np.array_equal(table[fine.from_atoms(sided)], coarse.from_atoms(sided))


@given(partitions())
@settings(max_examples=30, deadline=None)
def test_from_atoms_gives_each_element_to_its_structure(one):
    for element in ELEMENTS:
        found = int(one.from_atoms(np.array([sided_value(element)], np.uint8))[0])
        owner = [s.index for s in one.structures if element in s.elements]
        assert found == (owner[0] if owner else 0)


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_built_in_sets_coarsen_symmetrically(first, second):
    a, b = label_set(first), label_set(second)
    assert as_sets(check_coarsening(a, b)) == as_sets(check_coarsening(b, a), turned=True)


@pytest.mark.parametrize("name", BUILT_IN_LABEL_SETS)
def test_built_in_set_is_complete(name):
    one = label_set(name)
    assert [s.index for s in one.structures] == list(range(1, len(one.structures) + 1))
    seen = set()
    for structure in one.structures:
        assert structure.elements and not structure.elements & seen, structure.name
        seen |= structure.elements
        assert all(0 <= channel <= 255 for channel in structure.rgb)
        assert structure.name == known_structures()[structure.name].name
    sided = np.array(sorted(map(sided_value, seen)), np.uint8)
    assert set(one.from_atoms(sided)) == {s.index for s in one.structures}
    table, unmapped = mapping(one, one)
    assert unmapped == () and np.array_equal(
        table[: len(one.structures) + 1], np.arange(len(one.structures) + 1)
    )


def test_subset_keeps_indices():
    one = label_set("msk22")
    names = one.names[3:6]
    assert [s.index for s in one.subset(names).structures] == [4, 5, 6]


def test_unknown_names_are_explained():
    with pytest.raises(UsageError, match="Did you mean 'msk22'"):
        label_set("msk23")
    with pytest.raises(UsageError, match="Did you mean 'gluteus_maximus'"):
        label_set("msk22")["gluteus_maximum"]


@pytest.mark.parametrize(
    "twice", [(Structure(1, "a"), Structure(1, "b")), (Structure(1, "a"), Structure(2, "a"))]
)
def test_duplicates_are_refused(twice):
    with pytest.raises(InputError, match="more than once"):
        LabelSet("twice", twice)


def test_structures_without_elements_map_to_background():
    own = anonymous_label_set([0, 3, 7])
    table, unmapped = mapping(own, label_set("msk22"))
    assert not table.any() and unmapped == ("label_3", "label_7")
    assert common_coarsening(own, label_set("msk22")) == ()


@given(st.sampled_from(BUILT_IN_LABEL_SETS), st.booleans())
@settings(max_examples=8, deadline=None)
def test_label_table_round_trip(tmp_path_factory, name, with_bom):
    one = label_set(name)
    path = tmp_path_factory.mktemp("table") / f"{name}.tsv"
    lines = ["index\tname", "0\tbackground", *(f"{s.index}\t{s.name}" for s in one.structures)]
    path.write_text("\n".join(lines), encoding="utf-8-sig" if with_bom else "utf-8")
    found = read_label_table(path)
    assert [(s.index, s.name) for s in found.structures] == [
        (s.index, s.name) for s in one.structures
    ]
    assert all(s.elements for s in found.structures)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "columns none"),
        ("index\tname\n", "columns none"),
        ("a\tb\n1\tx\n", "has the columns"),
        ("index\tname\n-1\tx\n", "line 2: index '-1'"),
        ("index\tname\n1.5\tx\n", "line 2"),
        ("index\tname\n\tx\n", "line 2: index ''"),
        ("index\tname\n1\tx\n1\ty\n", "more than once"),
        ("index\tname\n300\tx\n", "line 2: index '300'"),
        ("index\tname\n²\tx\n", "line 2"),
        ("index\tname\n1\n", "line 2: index 1 has no name"),
    ],
)
def test_bad_label_tables_are_refused(tmp_path, text, fault):
    path = tmp_path / "labels.tsv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=fault):
        read_label_table(path)


def test_label_table_that_cannot_be_read(tmp_path):
    (tmp_path / "binary.tsv").write_bytes(b"\xff\xfe\x00index")
    for name in ("missing.tsv", "binary.tsv"):
        with pytest.raises(InputError, match=name):
            read_label_table(tmp_path / name)

"""Atoms, label sets made of atoms, and what two label sets have in common.

An *atom* is the smallest piece of anatomy that any supported label set distinguishes; with a side
it is an *element*. A *structure* of a label set is a set of elements, so two models with different
labels can be compared on the finest grouping that both can express: TotalSegmentator's
``iliopsoas_left`` and ``iliopsoas_right`` against ``iliacus`` + ``psoas_major`` of ``msk22``.

Sources: the classes of ``msk22`` are those of Hiasa 2020 (Fig. 2) and Soufi 2024 (Fig. 2); of
``thigh30`` those of Kim 2024; ``thigh10`` is our reading of Haque 2019, which shows ten thigh
muscles in its figure 1 without naming them in the text. SNOMED CT codes are those of the concept
dictionary that pydicom ships from DICOM PS3.16; that dictionary has none for single muscles.
"""

from __future__ import annotations

import csv
import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from importlib import resources
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mskt.core.errors import InputError, UsageError

Side = Literal["left", "right", "both", "midline"]
Element = tuple[str, str]
"""(atom name, ``left``/``right``/``midline``)."""

BUILT_IN_LABEL_SETS = ("msk22", "thigh10", "thigh30", "totalseg")
LEFT_OFFSET = 100
"""In sided atom maps (synthesis, phantom) a left atom is its index + 100, a right one its index."""


@dataclass(frozen=True, slots=True)
class Atom:
    """The smallest piece of anatomy that a label set distinguishes.

    Attributes:
        index: 1 … 99; with :data:`LEFT_OFFSET` the value in a sided atom map.
        tissue: ``muscle`` or ``bone``.
        midline: true where the body has one of it, not a pair.
    """

    index: int
    name: str
    tissue: str
    midline: bool

    @property
    def elements(self) -> tuple[Element, ...]:
        """The atom with each side it occurs on."""
        if self.midline:
            return ((self.name, "midline"),)
        return ((self.name, "right"), (self.name, "left"))


@dataclass(frozen=True, slots=True)
class Structure:
    """One foreground class of a label set.

    Attributes:
        index: value in the label map, 1 … n.
        group: the papers' group (``hip_muscle``, ``thigh_muscle``, ``bone``; Kim's five groups).
        side: ``both`` if left and right share the class, ``midline`` if there is only one.
        elements: what it is made of; empty for a structure that only a user's table names.
        color: ``#rrggbb``.
        snomed: SNOMED CT code, empty where no source could be named.
    """

    index: int
    name: str
    abbreviation: str = ""
    group: str = ""
    tissue: str = ""
    side: Side = "both"
    elements: frozenset[Element] = frozenset()
    color: str = "#808080"
    snomed: str = ""

    @property
    def rgb(self) -> tuple[int, int, int]:
        """The colour as three integers 0 … 255."""
        value = int(self.color.lstrip("#"), 16)
        return (value >> 16, (value >> 8) & 255, value & 255)


@dataclass(frozen=True)
class LabelSet:
    """Structures in the order of their indices; index 0 is background."""

    name: str
    structures: tuple[Structure, ...]

    def __post_init__(self) -> None:
        """Refuse duplicate names or indices: a table with them cannot be read back."""
        for what in ("name", "index"):
            values = [getattr(structure, what) for structure in self.structures]
            double = sorted({str(value) for value in values if values.count(value) > 1})
            if double:
                raise InputError(
                    f"label set {self.name!r}",
                    f"{what} {', '.join(double)} stands more than once",
                    f"Give every structure its own {what}.",
                )

    @cached_property
    def by_name(self) -> Mapping[str, Structure]:
        """Structures by canonical name."""
        return {structure.name: structure for structure in self.structures}

    @cached_property
    def by_index(self) -> Mapping[int, Structure]:
        """Structures by their value in the label map."""
        return {structure.index: structure for structure in self.structures}

    @property
    def names(self) -> tuple[str, ...]:
        """Names in the order of the channels, without background."""
        return tuple(structure.name for structure in self.structures)

    def __getitem__(self, name: str) -> Structure:
        """The structure of that name; an unknown one is refused with the nearest names."""
        if name not in self.by_name:
            raise UsageError(
                "",
                f"no structure named {name!r} in label set {self.name!r}.",
                suggestion(name, self.names),
            )
        return self.by_name[name]

    def subset(self, names: Iterable[str]) -> LabelSet:
        """The same structures with the same indices, only those named."""
        keep = {self[name].name for name in names}
        return LabelSet(self.name, tuple(s for s in self.structures if s.name in keep))

    def from_atoms(self, sided_atoms: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A label map of this set from a map of sided atoms (right = index, left = index + 100)."""
        table = np.zeros(256, np.uint8)
        for structure in self.structures:
            for name, side in structure.elements:
                index = atoms()[name].index
                table[index + (LEFT_OFFSET if side == "left" else 0)] = structure.index
        return table[sided_atoms]


@dataclass(frozen=True, slots=True)
class CommonGroup:
    """One class of a common coarsening: these structures of one set equal those of the other."""

    name: str
    first: tuple[str, ...]
    second: tuple[str, ...]
    elements: frozenset[Element]


def suggestion(name: str, known: Sequence[str]) -> str:
    """``Did you mean …?`` and the list of what there is."""
    near = difflib.get_close_matches(name, known, n=3)
    lines = [f"Did you mean {' or '.join(repr(n) for n in near)}?"] if near else []
    lines.append(f"Available: {', '.join(sorted(known)) or 'none'}.")
    return "\n".join(lines)


def _rows(file: str) -> list[dict[str, str]]:
    text = resources.files("mskt.core").joinpath("data", file).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines(), delimiter="\t"))


@cache
def atoms() -> Mapping[str, Atom]:
    """All atoms by name, in the order of their indices."""
    return {
        row["name"]: Atom(int(row["index"]), row["name"], row["tissue"], row["midline"] == "1")
        for row in _rows("atoms.tsv")
    }


@cache
def label_set(name: str) -> LabelSet:
    """A built-in label set: ``msk22``, ``thigh10``, ``thigh30`` or ``totalseg``.

    Raises:
        UsageError: there is no set of that name.
    """
    if name not in BUILT_IN_LABEL_SETS:
        raise UsageError(
            "",
            f"no label set named {name!r}.",
            suggestion(name, BUILT_IN_LABEL_SETS) + "\nA table of your own: give the path of a "
            ".tsv file with the columns index and name.",
        )
    rows = [row for row in _rows("label_sets.tsv") if row["set"] == name]
    return LabelSet(name, tuple(_structure(row) for row in rows))


def _structure(row: Mapping[str, str]) -> Structure:
    side = row["side"]
    names = [name for name in row["atoms"].split(",") if name]
    elements = frozenset(
        element
        for name in names
        for element in atoms()[name].elements
        if side == "both" or element[1] == side
    )
    return Structure(
        index=int(row["index"]),
        name=row["name"],
        abbreviation=row["abbreviation"],
        group=row["group"],
        tissue=row["tissue"],
        side=side,  # type: ignore[arg-type]
        elements=elements,
        color=row["color"],
        snomed=row["snomed"],
    )


def read_label_table(path: Path) -> LabelSet:
    """A user's label table: TSV with the columns ``index`` and ``name`` (others are optional).

    Names that a built-in set knows keep its atoms, group and colour, so that they can be mapped.

    Raises:
        InputError: the file is no such table.
    """
    try:
        rows = list(
            csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines(), delimiter="\t")
        )
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            str(path.name),
            f"cannot be read as a label table ({type(error).__name__})",
            "Give a tab-separated text file with the columns index and name.",
        ) from error
    if not rows or not {"index", "name"} <= set(rows[0]):
        raise InputError(
            path.name,
            f"has the columns {list(rows[0]) if rows else 'none'}",
            "A label table needs the tab-separated columns index and name.",
        )
    known = known_structures()
    structures = []
    for line, row in enumerate(rows, start=2):
        index, name = (row["index"] or "").strip(), (row["name"] or "").strip()
        if not index.isdecimal() or int(index) > 255:
            raise InputError(
                path.name,
                f"line {line}: index {index!r} is no whole number from 0 to 255",
                "Indices are the values in the label map: 0, 1, 2, …",
            )
        if not name:
            raise InputError(
                path.name, f"line {line}: index {index} has no name", "Give every index a name."
            )
        if int(index) == 0:
            continue
        base = known.get(name, Structure(0, name))
        structures.append(
            Structure(
                int(index),
                name,
                row.get("abbreviation") or base.abbreviation,
                base.group,
                base.tissue,
                (row.get("side") or base.side),  # type: ignore[arg-type]
                base.elements,
                row.get("color") or base.color,
                row.get("snomed") or base.snomed,
            )
        )
    return LabelSet(path.stem, tuple(structures))


@cache
def known_structures() -> Mapping[str, Structure]:
    """Structures of all built-in sets by name; where two sets share a name, the first set's.

    ``iliacus`` and ``psoas_major`` mean the whole muscle here (``msk22``): Kim's ``thigh30`` gives
    their distal part to ``iliopsoas``.
    """
    found: dict[str, Structure] = {}
    for name in BUILT_IN_LABEL_SETS:
        for structure in label_set(name).structures:
            found.setdefault(structure.name, structure)
    return found


def elements_named(name: str) -> frozenset[Element]:
    """What a name is made of: a known structure or an atom, also with ``_left`` or ``_right``.

    Empty for a name that no built-in set knows.
    """
    if name in known_structures():
        return known_structures()[name].elements
    if name in atoms():
        return frozenset(atoms()[name].elements)
    stem, _, side = name.rpartition("_")
    if stem and side in ("left", "right"):
        return frozenset(element for element in elements_named(stem) if element[1] == side)
    return frozenset()


def with_anatomy(names: LabelSet) -> LabelSet:
    """The same structures, made of what their names say.

    If one built-in set has all the names, they mean what they mean there: ``iliacus`` beside
    ``iliopsoas`` is the proximal part (``thigh30``), without it the whole muscle (``msk22``).
    A structure whose side is left or right has the elements of that side only, and the other way
    round; a name that says nothing gives none.
    """
    same = [one for one in map(label_set, BUILT_IN_LABEL_SETS) if {*names.names} <= {*one.names}]
    found = []
    for structure in names.structures:
        elements = structure.elements or elements_named(structure.name)
        if same:
            elements = same[0][structure.name].elements
        if structure.side in ("left", "right"):
            elements = frozenset(one for one in elements if one[1] == structure.side)
        sides = {one[1] for one in elements}
        side = sides.pop() if len(sides) == 1 else structure.side
        found.append(replace(structure, elements=elements, side=side))  # type: ignore[arg-type]
    return LabelSet(names.name, tuple(found))


def anonymous_label_set(values: Iterable[int]) -> LabelSet:
    """Names for a mask without a table: ``label_1``, ``label_2``, …"""
    return LabelSet("unnamed", tuple(Structure(v, f"label_{v}") for v in sorted(values) if v))


def common_coarsening(first: LabelSet, second: LabelSet) -> tuple[CommonGroup, ...]:
    """The finest classes that both sets can express as unions of their own structures.

    Structures that overlap in an element belong together (connected components of the overlap
    graph); such a component is usable only if both sides cover exactly the same elements.

    Returns:
        Groups in the order of the first set. Structures in no group have no equal in the other.
    """
    groups: list[CommonGroup] = []
    done: set[str] = set()
    for start in first.structures:
        if start.name in done or not start.elements:
            continue
        mine, theirs = _component(start, first, second)
        done |= {structure.name for structure in mine}
        union = frozenset().union(*(structure.elements for structure in mine))
        if theirs and union == frozenset().union(*(structure.elements for structure in theirs)):
            small = mine if len(mine) <= len(theirs) else theirs
            groups.append(
                CommonGroup(
                    "+".join(structure.name for structure in small),
                    tuple(structure.name for structure in mine),
                    tuple(structure.name for structure in theirs),
                    union,
                )
            )
    return tuple(groups)


def _component(
    start: Structure, first: LabelSet, second: LabelSet
) -> tuple[list[Structure], list[Structure]]:
    """All structures of both sets that hang together with ``start`` by shared elements."""
    elements = set(start.elements)
    while True:
        mine = [s for s in first.structures if s.elements & elements]
        theirs = [s for s in second.structures if s.elements & elements]
        grown = elements.union(*(s.elements for s in mine + theirs))
        if grown == elements:
            return mine, theirs
        elements = grown


def mapping(source: LabelSet, target: LabelSet) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """How label values of one set become values of another that is as coarse or coarser.

    Returns:
        A lookup table of 256 values (``table[labels]``), and the names of source structures that
        lie inside no structure of the target (they become background).
    """
    table = np.zeros(256, np.uint8)
    unmapped = []
    for structure in source.structures:
        fit = [
            t for t in target.structures if structure.elements and structure.elements <= t.elements
        ]
        if fit:
            table[structure.index] = fit[0].index
        else:
            unmapped.append(structure.name)
    return table, tuple(unmapped)

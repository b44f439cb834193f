"""The two loops that numba compiles: one walk over both maps, and the search for the nearest voxel.

Plain Python that also runs as it is, only some hundred times slower: nothing here imports numba
(:mod:`mskt.plugins.metrics.engine` does, when it is installed and worth it).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

P_HERE, R_HERE, P_BORDER, R_BORDER = 1, 2, 4, 8
"""What is noted of a voxel: foreground and border, in the first map (P) and the second (R)."""


def scan(  # noqa: C901 - one walk that numba compiles as a whole
    first: NDArray[Any],
    second: NDArray[Any],
    begin: int,
    end: int,
    table: Ints,
    counts: Ints,
    places: tuple[NDArray[np.int32], NDArray[np.int32]],
    labels: tuple[NDArray[Any], NDArray[Any]],
    shared: tuple[NDArray[np.bool_], NDArray[np.bool_]],
) -> tuple[int, int]:
    """Walk once over some planes of both maps: count the joint labels and collect the borders.

    Args:
        first: prediction, C order: the planes to walk over, and one more on either side unless the
            volume ends there.
        second: reference, likewise.
        begin: first plane to walk over.
        end: the plane after the last.
        table: place of each label value in ``counts``; 0 for labels that nobody asks for.
        counts: ``(n + 1, n + 1)``, added to; voxels that are background in both are not counted.
        places: for either map room for its border voxels, as long as there are voxels to walk
            over; filled with their flat places, counted from plane ``begin``.
        labels: the same with their labels.
        shared: the same; true for a border voxel of the same structure in the other map too.

    Returns:
        How many border voxels either map has.
    """
    planes, rows, columns = first.shape
    words = (columns + 7) // 8
    flags = np.zeros(8 * words, np.uint8)
    eight_flags = flags.view(np.uint64)
    n_first = 0
    n_second = 0
    run_p = 0
    run_r = 0
    run = 0
    for i in range(begin, end):
        for j in range(rows):
            p_row = first[i, j]
            r_row = second[i, j]
            if i == 0 or i == planes - 1 or j == 0 or j == rows - 1:
                # On the edge of the volume every voxel has a neighbour outside.
                for k in range(columns):
                    flags[k] = (P_HERE + P_BORDER) * (p_row[k] != 0)
                for k in range(columns):
                    flags[k] |= (R_HERE + R_BORDER) * (r_row[k] != 0)
            else:
                # No branches, and one map at a time: so the compiler makes vectors of it.
                before, after = first[i - 1, j], first[i + 1, j]
                over, under = first[i, j - 1], first[i, j + 1]
                left, right = p_row[:-2], p_row[2:]
                for k in range(1, columns - 1):
                    v = p_row[k]
                    differs = (
                        (before[k] != v)
                        | (after[k] != v)
                        | (over[k] != v)
                        | (under[k] != v)
                        | (left[k - 1] != v)
                        | (right[k - 1] != v)
                    )
                    flags[k] = (P_HERE + P_BORDER * differs) * (v != 0)
                before, after = second[i - 1, j], second[i + 1, j]
                over, under = second[i, j - 1], second[i, j + 1]
                left, right = r_row[:-2], r_row[2:]
                for k in range(1, columns - 1):
                    v = r_row[k]
                    differs = (
                        (before[k] != v)
                        | (after[k] != v)
                        | (over[k] != v)
                        | (under[k] != v)
                        | (left[k - 1] != v)
                        | (right[k - 1] != v)
                    )
                    flags[k] |= (R_HERE + R_BORDER * differs) * (v != 0)
                for k in (0, columns - 1):
                    flags[k] = (P_HERE + P_BORDER) * (p_row[k] != 0)
                    flags[k] |= (R_HERE + R_BORDER) * (r_row[k] != 0)
            base = ((i - begin) * rows + j) * columns
            for word in range(words):
                if eight_flags[word] == 0:
                    continue
                for k in range(8 * word, min(8 * word + 8, columns)):
                    flag = flags[k]
                    if flag == 0:
                        continue
                    p = p_row[k]
                    r = r_row[k]
                    # Neighbours mostly have the same labels: count them together.
                    if p != run_p or r != run_r:
                        counts[table[run_p], table[run_r]] += run
                        run_p, run_r, run = p, r, 0
                    run += 1
                    both = p == r and flag & (P_BORDER | R_BORDER) == P_BORDER | R_BORDER
                    if flag & P_BORDER:
                        places[0][n_first] = base + k
                        labels[0][n_first] = p
                        shared[0][n_first] = both
                        n_first += 1
                    if flag & R_BORDER:
                        places[1][n_second] = base + k
                        labels[1][n_second] = r
                        shared[1][n_second] = both
                        n_second += 1
    counts[table[run_p], table[run_r]] += run
    return n_first, n_second


def row_starts(
    targets: Ints, shape: tuple[int, int, int], low: Ints, starts: Ints, columns: NDArray[np.int32]
) -> None:
    """Note where the targets of each row begin.

    Args:
        targets: flat places, ascending, in a volume of ``shape``.
        shape: of the volume.
        low: first plane and first row in which there are targets.
        starts: ``(planes, rows + 1)`` of the box of the targets, filled: those in a row of it are
            the targets ``starts[plane, row]`` to ``starts[plane, row + 1]`` (exclusive).
        columns: filled: place of each target in its row.
    """
    width = shape[2]
    rows = shape[1]
    n_planes = starts.shape[0]
    n_rows = starts.shape[1] - 1
    at = 0
    for i in range(n_planes):
        for j in range(n_rows):
            starts[i, j] = at
            row = (i + low[0]) * rows + j + low[1]
            while at < targets.size and targets[at] < (row + 1) * width:
                columns[at] = targets[at] - row * width
                at += 1
        starts[i, n_rows] = at


def nearest(
    points: Ints,
    skip: NDArray[np.bool_],
    shape: tuple[int, int, int],
    low: Ints,
    starts: Ints,
    columns: NDArray[np.int32],
    step_mm: float,
    offsets: NDArray[np.int32],
    offset_mm2: NDArray[np.float64],
    beyond_mm2: float,
    found: NDArray[np.float64],
) -> int:
    """Find the exact distance from each point to the nearest target, row by row.

    Rows are visited from near to far; once the next one is further away than the nearest target so
    far, no other can be nearer. Inside a row the targets are sorted.

    Args:
        points: flat places in a volume of ``shape``.
        skip: points that are targets themselves: their distance is 0.
        shape: of the volume.
        low: as in :func:`row_starts`, as are the next two.
        starts: where the targets of each row begin.
        columns: place of each target in its row.
        step_mm: spacing inside a row.
        offsets: ``(m, 2)``: planes and rows from the point to the row to visit, sorted by distance.
        offset_mm2: their squared distances, in mm².
        beyond_mm2: no row that is not among them is nearer.
        found: filled: the distances in mm; −1 where the targets are further away than the rows to
            visit.

    Returns:
        How many distances are −1.
    """
    width = shape[2]
    rows = shape[1]
    n_planes = starts.shape[0]
    n_rows = starts.shape[1] - 1
    missing = 0
    for n in range(points.size):
        if skip[n]:
            found[n] = 0.0
            continue
        row_of_point = points[n] // width
        k = points[n] - row_of_point * width
        plane = row_of_point // rows
        i = plane - low[0]
        j = row_of_point - plane * rows - low[1]
        best = np.inf
        m = 0
        while m < offset_mm2.size and offset_mm2[m] < best:
            a = i + offsets[m, 0]
            b = j + offsets[m, 1]
            if 0 <= a < n_planes and 0 <= b < n_rows:
                head = starts[a, b]
                tail = starts[a, b + 1]
                if head < tail:
                    while tail - head > 8:
                        middle = (head + tail) // 2
                        if columns[middle] < k:
                            head = middle
                        else:
                            tail = middle + 1
                    apart = abs(columns[head] - k)
                    for t in range(head + 1, tail):
                        apart = min(apart, abs(columns[t] - k))
                    here = offset_mm2[m] + (apart * step_mm) ** 2
                    best = min(best, here)
            m += 1
        if best <= beyond_mm2 and best < np.inf:
            found[n] = np.sqrt(best)
        else:
            found[n] = -1.0
            missing += 1
    return missing

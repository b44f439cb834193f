"""What all measures and aggregations cost beside the variance alone.

    python benchmarks/measures.py

One phantom, the shipped weights, ten dropout draws. ``bare``: the map of the variance, nothing noted
about structures. ``default``: what a run does: variance, all aggregations, intervals. ``all``: every
measure by every aggregation. Interleaved; medians of CPU time and wall time of segment_case.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from unittest import mock

import numpy as np
from torch import Tensor

from mskt.core import recorder
from mskt.core.interfaces import Estimate, Region, Segmenter
from mskt.core.pipeline import segment_case
from mskt.core.registry import registry
from mskt.core.volume import Volume
from mskt.synthesis.phantom import make_phantom


class Nothing(recorder.Recorder):
    """A recorder that notes nothing."""

    def watched(self, region: Region, draws: Iterable[Tensor]) -> Iterator[Tensor]:
        """The draws."""
        yield from draws

    def add(self, region: Region, estimate: Estimate, primary: str) -> None:
        """Forget it."""


def once(image: Volume, segmenter: Segmenter, measures: str, bare: bool) -> tuple[float, float]:
    """CPU and wall seconds of one case."""
    estimator = registry().get("uncertainty", "mcdropout", measures=measures)
    wall, cpu = time.perf_counter(), time.process_time()
    if bare:
        with mock.patch.object(recorder, "Recorder", Nothing):
            segment_case(image, segmenter, estimator)
    else:
        segment_case(image, segmenter, estimator)
    return time.process_time() - cpu, time.perf_counter() - wall


def main() -> None:
    """Print the table; the ratio comes last."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--slices", type=int, default=40)
    args = parser.parse_args()
    whole = make_phantom(1, spacing_mm=(1.5, 1.5, 3.0)).image
    middle = whole.data.shape[2] * 2 // 3
    part = slice(middle - args.slices // 2, middle + args.slices // 2)
    image = Volume(np.ascontiguousarray(whole.data[:, :, part]), whole.affine)
    segmenter = registry().get("segmenter", "unet_bayes")
    ways: dict[str, Callable[[], tuple[float, float]]] = {
        "bare": lambda: once(image, segmenter, "", True),
        "default": lambda: once(image, segmenter, "", False),
        "all": lambda: once(image, segmenter, "all", False),
    }
    once(image, segmenter, "", False)  # warm-up
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(args.repeat):
        for name, way in ways.items():
            found[name].append(way())
    print("| way | CPU, s | wall, s |\n|---|---|---|")
    middle_of = {
        name: [statistics.median(column) for column in zip(*times, strict=True)]
        for name, times in found.items()
    }
    for name, (cpu, wall) in middle_of.items():
        print(f"| {name} | {cpu:.1f} | {wall:.1f} |")
    for name in ("default", "all"):
        ratios = [a / b for a, b in zip(middle_of[name], middle_of["bare"], strict=True)]
        print(f"{name} / bare: CPU {ratios[0]:.3f}, wall {ratios[1]:.3f}")


if __name__ == "__main__":
    main()

"""What a metric must do."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mskt.core.interfaces import LabelPair, Measurement, Metric, MetricInfo
from mskt.core.records import STATUSES
from mskt.core.seeding import generator
from mskt.testing import brute_force
from mskt.testing.outcome import Build, NotApplicable, require

SHAPE = (20, 18, 14)
SPACING_MM = (0.8, 1.1, 2.5)
Values = dict[tuple[int, str], Measurement]


def blobs(shift: int = 0) -> NDArray[np.uint8]:
    """Three boxes with the labels 1, 2, 3, the first moved by ``shift`` voxels."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[2 + shift : 9 + shift, 3:9, 3:10] = 1
    labels[11:18, 10:16, 2:8] = 2
    labels[12:17, 2:7, 9:13] = 3
    return labels


def speckled(seed: int) -> NDArray[np.uint8]:
    """Boxes with random voxels relabelled: rough surfaces, islands, holes."""
    labels = blobs()
    random = generator(seed, "metric check")
    changed = random.random(SHAPE) < 0.06
    labels[changed] = random.integers(0, 4, int(changed.sum()))
    return labels


def pair(
    prediction: NDArray[np.uint8],
    reference: NDArray[np.uint8],
    indices: tuple[int, ...] = (1, 2, 3),
) -> LabelPair:
    """A pair with anisotropic spacing and an image."""
    image = generator("metric check", "image").normal(40, 30, SHAPE).astype(np.float32)
    return LabelPair(prediction, reference, indices, SPACING_MM, image)


def measured(metric: Metric, labels: LabelPair) -> Values:
    """What the metric says, by (index, name)."""
    return {(m.index, m.metric): m for m in metric.measure(labels)}


def _infos(metric: Metric, wanted: Callable[[MetricInfo], bool], why: str) -> list[MetricInfo]:
    infos = [info for info in metric.infos if wanted(info)]
    if not infos:
        raise NotApplicable(why)
    return infos


def _close(a: float | None, b: float | None) -> bool:
    if a is None or b is None:
        return a is b
    return math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-7)


def check_metric_declarations(build: Build) -> None:
    """Names, units and directions are declared, once each."""
    infos = getattr(build(), "infos", ())
    good = isinstance(infos, tuple) and infos and all(isinstance(i, MetricInfo) for i in infos)
    require(good, f"infos is {infos!r}", "Set infos = (MetricInfo(name, unit, direction, …), …).")
    names = [info.name for info in infos]
    require(
        len(set(names)) == len(names),
        f"a name stands twice in infos: {names}",
        "Give every metric its own name.",
    )
    for info in infos:
        require(
            info.direction in ("higher", "lower", "none") and bool(info.unit),
            f"{info.name}: direction {info.direction!r}, unit {info.unit!r}",
            "direction is 'higher', 'lower' or 'none'; the unit of a plain number is '1'.",
        )
        require(
            info.unit != "mm" or info.scales_with_mm,
            f"{info.name} is in mm but does not scale",
            "Set scales_with_mm=True for a distance.",
        )


def check_metric_complete(build: Build) -> None:
    """Exactly one measurement for each index and each metric, in its unit."""
    metric = build()
    measurements = list(metric.measure(pair(speckled(1), speckled(2))))
    found = sorted((m.index, m.metric) for m in measurements)
    expected = sorted((index, info.name) for index in (1, 2, 3) for info in metric.infos)
    require(
        found == expected,
        f"measure() yields {len(found)} measurements for {len(expected)} (index, metric) pairs",
        "Yield one Measurement for each of pair.indices and each of infos, no other.",
    )
    units = {info.name: info.unit for info in metric.infos}
    for m in measurements:
        require(
            m.unit == units[m.metric],
            f"{m.metric} is given in {m.unit!r}, declared {units[m.metric]!r}",
            "Use the unit of the MetricInfo.",
        )


def check_metric_identity(build: Build) -> None:
    """A prediction that equals its reference has the perfect value."""
    metric = build()
    infos = _infos(metric, lambda info: info.perfect is not None, "no metric has a perfect value")
    found = measured(metric, pair(blobs(), blobs()))
    for info in infos:
        for index in (1, 2, 3):
            m = found[index, info.name]
            require(
                m.status == "ok" and m.value is not None and _close(m.value, info.perfect),
                f"{info.name} of equal masks is {m.value} ({m.status}), not {info.perfect}",
                "Correct the formula, or declare the true perfect value.",
            )


def check_metric_direction(build: Build) -> None:
    """A prediction that is farther off never has a better value."""
    metric = build()
    infos = _infos(metric, lambda info: info.direction != "none", "no metric has a direction")
    series = [measured(metric, pair(blobs(shift), blobs())) for shift in (0, 1, 2, 4)]
    for info in infos:
        found = [values[1, info.name].value for values in series]
        numbers = [value for value in found if value is not None]
        sign = 1 if info.direction == "higher" else -1
        falling = all(sign * b <= sign * a + 1e-9 for a, b in pairwise(numbers))
        require(
            falling and len(numbers) == 4,
            f"{info.name}, declared {info.direction} is better, is {found} for a mask moved by "
            "0, 1, 2, 4 voxels",
            "Turn the direction, or declare 'none' if the value does not rank predictions.",
        )


def check_metric_spacing(build: Build) -> None:
    """Values in mm scale with the spacing."""
    metric = build()
    infos = _infos(metric, lambda info: info.scales_with_mm, "no metric scales with mm")
    labels = pair(speckled(1), speckled(2))
    double = replace(labels, spacing_mm=tuple(2 * s for s in SPACING_MM))  # type: ignore[arg-type]
    plain, scaled = measured(metric, labels), measured(metric, double)
    for info in infos:
        a, b = plain[1, info.name].value, scaled[1, info.name].value
        require(
            a is not None and _close(2 * a, b),
            f"{info.name} is {a} mm, and {b} with twice the spacing",
            "Use pair.spacing_mm.",
        )


def check_metric_axes(build: Build) -> None:
    """Exchanging axes together with their spacing changes nothing."""
    metric = build()
    labels = pair(speckled(1), speckled(2))
    assert labels.image is not None
    turned = replace(
        labels,
        prediction=labels.prediction.T,
        reference=labels.reference.T,
        spacing_mm=SPACING_MM[::-1],
        image=labels.image.T,
    )
    plain, other = measured(metric, labels), measured(metric, turned)
    for key, m in plain.items():
        require(
            _close(m.value, other[key].value),
            f"{m.metric} is {m.value}, and {other[key].value} when axes and spacings are exchanged",
            "spacing_mm[a] belongs to array axis a; the arrays may be views in any order.",
        )


def check_metric_empty(build: Build) -> None:
    """Absent structures follow the table of statuses and never give NaN or infinity."""
    metric = build()
    reference, prediction = blobs(), blobs()
    prediction[prediction == 1] = 0
    reference[reference == 2] = 0
    expected = {1: "absent_prediction", 2: "absent_reference", 9: "absent_both", 3: "ok"}
    try:
        found = measured(metric, pair(prediction, reference, tuple(expected)))
    except Exception as error:  # an empty mask must not end a run of a thousand cases
        require(
            False,
            f"an absent structure raises {type(error).__name__}: {error}",
            "Look for empty masks first, and yield value None with the status.",
        )
        return
    for info in metric.infos:
        for index, status in expected.items():
            m = found[index, info.name]
            what = f"{info.name} of a structure that is {status}"
            require(
                m.value is None or math.isfinite(m.value),
                f"{what} is {m.value}",
                "Yield None where there is no value, with the status that says why.",
            )
            require(
                m.status in STATUSES,
                f"{what} has the status {m.status!r}",
                f"Use one of {', '.join(STATUSES)}.",
            )
            if info.direction == "none":
                continue  # describes one mask, so it may exist where the other is empty
            require(m.status == status, f"{what} has the status {m.status!r}", f"Use {status!r}.")
            require(
                status != "absent_both" or m.value is None,
                f"{what} has the value {m.value}",
                "There is nothing to compare: yield None.",
            )
            if info.name == "dice" and status == "absent_prediction":
                require(m.value == 0, f"{what} is {m.value}", "A missed structure has Dice 0.")


def check_metric_indices(build: Build) -> None:
    """The value of a structure depends neither on the other indices nor on their order."""
    metric = build()
    first, second = speckled(1), speckled(2)
    together = measured(metric, pair(first, second, (1, 2, 3)))
    turned = measured(metric, pair(first, second, (3, 1, 2)))
    alone = measured(metric, pair(first, second, (2,)))
    for key, m in together.items():
        others = [turned.get(key)] + ([alone.get(key)] if key[0] == 2 else [])
        for other in others:
            require(
                other is not None and _close(m.value, other.value),
                f"{m.metric} of structure {m.index} changes with the other indices asked for",
                "Look values up by pair.indices, not by position; use each mask alone.",
            )


def check_metric_input_unchanged(build: Build) -> None:
    """The label maps and the image are not written into."""
    labels = pair(speckled(1), speckled(2))
    assert labels.image is not None
    arrays: dict[str, NDArray[Any]] = {
        "prediction": labels.prediction,
        "reference": labels.reference,
        "image": labels.image,
    }
    before = {name: array.copy() for name, array in arrays.items()}
    list(build().measure(labels))
    for name, array in arrays.items():
        require(
            np.array_equal(before[name], array),
            f"measure() changed {name}",
            "Work on a copy: other metrics read the same arrays.",
        )


def check_metric_dtypes(build: Build) -> None:
    """Label maps of 16 and 32 bits give what those of 8 bits give."""
    metric = build()
    first, second = speckled(1), speckled(2)
    plain = measured(metric, pair(first, second))
    for dtype in (np.uint16, np.uint32):
        wide = measured(metric, pair(first.astype(dtype), second.astype(dtype)))
        for key, m in plain.items():
            require(
                _close(m.value, wide[key].value),
                f"{m.metric} is {m.value} for uint8 and {wide[key].value} for {dtype.__name__}",
                "Compare with the index (labels == index) before any arithmetic.",
            )


def check_metric_brute_force(build: Build) -> None:
    """Metrics with the names dice, assd, hd, hd95, nsd are those, to 1e-6."""
    metric = build()
    infos = _infos(
        metric,
        lambda info: info.name in brute_force.DEFINITIONS,
        f"no metric is named {', '.join(brute_force.DEFINITIONS)}",
    )
    tolerance_mm = float(getattr(metric, "tolerance_mm", 2.0))
    edge = speckled(3)
    edge[0, :4, :5] = 1  # touches the border of the image
    for first, second in ((speckled(1), speckled(2)), (edge, blobs(1))):
        found = measured(metric, pair(first, second))
        for index in (1, 2, 3):
            exact = brute_force.all_of(first == index, second == index, SPACING_MM, tolerance_mm)
            for info in infos:
                value = found[index, info.name].value
                require(
                    _close(value, exact[info.name]),
                    f"{info.name} is {value}; its definition gives {exact[info.name]:.9g}",
                    f"{brute_force.DEFINITIONS[info.name]} Give yours another name.",
                )

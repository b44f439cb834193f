"""How much the definition of a metric changes its value, on muscle-like shapes.

``python benchmarks/metric_definitions.py`` prints the table of ``docs/metrics.md``. Twelve tapered,
bent, muscle-like shapes on a 0.8 × 0.8 × 2.0 mm grid stand for the reference, a smooth random
deformation of them (standard deviation 1.2 mm) and a stray blob in one of them for the prediction.
Nothing but the definition differs between the rows of a metric. MedPy is measured too if installed.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree
from skimage.measure import marching_cubes

from mskt.core.interfaces import LabelPair
from mskt.plugins.metrics.overlap import Overlap
from mskt.plugins.metrics.surface import Surface

SPACING_MM = (0.8, 0.8, 2.0)
SHAPE = (90, 90, 70)
COUNT = 12
Mask = NDArray[np.bool_]


def shapes(seed: int) -> tuple[Mask, Mask]:
    """A reference and its prediction."""
    rng = np.random.default_rng(seed)
    x, y, z = np.meshgrid(
        *((np.arange(n) - n / 2) * s for n, s in zip(SHAPE, SPACING_MM, strict=True)), indexing="ij"
    )
    length, width, depth = rng.uniform(45, 62), rng.uniform(9, 22), rng.uniform(7, 16)
    bend, twist = rng.uniform(-8, 8), rng.uniform(-0.6, 0.6)
    moved = [1.2 * _smooth(rng) for _ in range(3)]

    def inside(dx: NDArray[np.float64], dy: NDArray[np.float64], dz: NDArray[np.float64]) -> Mask:
        along = (z + dz) / length
        a = x + dx - bend * (1 - 4 * along**2)
        b = y + dy
        angle = twist * along
        u, v = a * np.cos(angle) + b * np.sin(angle), b * np.cos(angle) - a * np.sin(angle)
        taper = np.sqrt(np.clip(1 - along**2, 0, None)) + 1e-6
        return ((u / (width * taper)) ** 2 + (v / (depth * taper)) ** 2 < 1) & (abs(along) < 1)

    zero = np.zeros(SHAPE)
    prediction = inside(*moved)
    if seed == 0:
        prediction[2:6, 2:6, 2:4] = True
    return inside(zero, zero, zero), prediction


def _smooth(rng: np.random.Generator) -> NDArray[np.float64]:
    """A random field of unit variance with features of about 12 mm."""
    field = ndimage.gaussian_filter(rng.normal(size=SHAPE), [12 / s / 2 for s in SPACING_MM])
    return np.asarray(field / field.std())


def border(mask: Mask, connectivity: int) -> NDArray[np.float64]:
    """Border voxels in mm; neighbours over faces (1), or faces, edges and corners (3)."""
    structure = ndimage.generate_binary_structure(3, connectivity)
    return np.argwhere(mask & ~ndimage.binary_erosion(mask, structure)) * np.asarray(SPACING_MM)


def directed(first: NDArray[np.float64], second: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    return [cKDTree(b).query(a)[0] for a, b in ((first, second), (second, first))]


def area_weighted(prediction: Mask, reference: Mask) -> tuple[float, float]:
    """ASSD and surface Dice over triangles of the isosurface, each counted by its area."""
    centres, areas = [], []
    for mask in (prediction, reference):
        points, faces, _, _ = marching_cubes(
            np.pad(mask, 1).astype(np.float32), 0.5, spacing=SPACING_MM
        )
        corners = points[faces].astype(np.float64)
        normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        centres.append(corners.mean(axis=1))
        areas.append(np.linalg.norm(normal, axis=1) / 2)
    distances = np.concatenate(directed(*centres))
    weights = np.concatenate(areas)
    return (
        float(distances @ weights / weights.sum()),
        float(weights[distances <= 2.0].sum() / weights.sum()),
    )


def definitions(prediction: Mask, reference: Mask) -> dict[tuple[str, str], float]:
    """Every metric by every definition."""
    pair = LabelPair(prediction.astype(np.uint8), reference.astype(np.uint8), (1,), SPACING_MM)
    ours = {m.metric: m.value for f in (Overlap(), Surface()) for m in f.measure(pair)}
    found = {(name, "mskt"): ours[name] for name in ("dice", "assd", "hd95", "nsd")}
    both = prediction.sum(axis=(0, 1)) + reference.sum(axis=(0, 1))
    shared = (prediction & reference).sum(axis=(0, 1))
    found["dice", "mean over slices with either mask"] = (
        2 * shared[both > 0] / both[both > 0]
    ).mean()
    faces = directed(border(prediction, 1), border(reference, 1))
    found["assd", "mean of the two directed means"] = np.mean([d.mean() for d in faces])
    found["hd95", "percentile of both directions pooled"] = np.percentile(np.concatenate(faces), 95)
    found["hd95", "mean of the two directed percentiles"] = np.mean(
        [np.percentile(d, 95) for d in faces]
    )
    corners = directed(border(prediction, 3), border(reference, 3))
    pooled = np.concatenate(corners)
    found["assd", "border by 26 neighbours"] = pooled.mean()
    found["hd95", "border by 26 neighbours"] = max(np.percentile(d, 95) for d in corners)
    found["nsd", "border by 26 neighbours"] = np.mean(pooled <= 2.0)
    found["assd", "mesh, weighted by area"], found["nsd", "mesh, weighted by area"] = area_weighted(
        prediction, reference
    )
    return found | medpy(prediction, reference)


def medpy(prediction: Mask, reference: Mask) -> dict[tuple[str, str], float]:
    try:
        from medpy.metric import binary
    except ImportError:
        return {}
    named: dict[str, Callable[..., float]] = {"assd": binary.assd, "hd95": binary.hd95}
    found = {
        (name, "MedPy"): float(function(prediction, reference, SPACING_MM))
        for name, function in named.items()
    }
    return found | {("dice", "MedPy"): float(binary.dc(prediction, reference))}


def main() -> None:
    """Print the mean over the shapes as a Markdown table."""
    rows = [
        definitions(prediction, reference) for reference, prediction in map(shapes, range(COUNT))
    ]
    print("| metric | definition | mean | differs from mskt by |")
    print("|---|---|---|---|")
    for metric, definition in sorted(rows[0], key=lambda key: (key[0], key[1] != "mskt")):
        mean = np.mean([row[metric, definition] for row in rows])
        ours = np.mean([row[metric, "mskt"] for row in rows])
        change = "" if definition == "mskt" else f"{100 * (mean / ours - 1) + 0.0:+.1f} %"
        print(f"| `{metric}` | {definition} | {mean:.4f} | {change} |")


if __name__ == "__main__":
    main()

"""What a segmenter must do in unusual settings: odd images, orientations, other processes."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from mskt.core.interfaces import Estimate, Region, UncertaintyEstimator
from mskt.core.volume import Volume, to_canonical
from mskt.testing import phantoms
from mskt.testing.elsewhere import run_elsewhere
from mskt.testing.memory import peak_bytes
from mskt.testing.outcome import Build, ConformanceError, NotApplicable, require
from mskt.testing.segmenter_checks import (
    middle,
    one_draw,
    require_probabilities,
    same,
    tolerance,
    values,
    working_grid,
)


class _FirstDraw(UncertaintyEstimator):
    """The draw itself, and one minus its largest probability: enough to run the pipeline."""

    needs = "any"
    unit = "1"
    range = (0.0, 1.0)
    measure = "one_minus_maximum"
    draws = 1

    def reduce(self, draws: Any) -> Estimate:
        """The first draw."""
        draw = next(iter(draws)).float()
        return Estimate(draw, 1 - draw.amax(dim=0))


def _canonical_labels(build: Build, image: Volume) -> NDArray[Any]:
    from mskt.core.pipeline import segment_case

    labels = segment_case(image, build(), _FirstDraw(), seed=0).labels
    return to_canonical(labels.data, labels.grid)


def check_segmenter_orientation(build: Build) -> None:
    """The same anatomy stored as RAS, LPS or with other axes gives the same labels in the body."""
    image = phantoms.phantom()
    expected = _canonical_labels(build, image)
    for name, order, flips in (
        ("LPS", (0, 1, 2), (True, True, False)),
        ("sagittal slices", (1, 2, 0), (False, True, True)),
    ):
        found = _canonical_labels(build, phantoms.stored_as(image, order, flips))
        agree = float((found == expected).mean())
        require(
            agree >= 0.995,
            f"stored as {name}, {100 * (1 - agree):.1f} % of the voxels get other labels",
            "Bring the image into one orientation in prepare(), for example with "
            "mskt.core.volume.to_canonical; the way back is the affine you return.",
        )


def check_segmenter_mirror(build: Build) -> None:
    """A segmenter that claims mirror symmetry gives mirrored labels for a mirrored image."""
    segmenter = build()
    if not segmenter.describe().get("mirror_symmetric", False):
        raise NotApplicable("describe() does not claim mirror_symmetric")
    image = phantoms.phantom()
    mirrored = Volume(np.ascontiguousarray(image.data[::-1]), image.affine)
    plain = _canonical_labels(build, Volume(image.data, image.affine))
    back = _canonical_labels(build, mirrored)[::-1]
    names = {structure.name: structure.index for structure in segmenter.label_set.structures}
    swap = np.arange(256, dtype=np.uint8)
    for name, index in names.items():
        for side, other in (("left", "right"), ("right", "left")):
            if name.endswith(f"_{side}"):
                swap[index] = names.get(f"{name.removesuffix(side)}{other}", index)
    agree = float((swap[back] == plain).mean())
    require(
        agree >= 0.99,
        f"in the mirrored image {100 * (1 - agree):.1f} % of the voxels stay on their side",
        "Do not claim mirror_symmetric in describe(), or average with the mirrored image.",
    )


def _require_works(build: Build, image: Volume, where: str) -> None:
    """Every region of every working grid gives probabilities."""
    segmenter = build()
    for grid in segmenter.prepare(image):
        for region in segmenter.regions(grid):
            try:
                draw = one_draw(segmenter, grid, region=region)
            except Exception as error:
                raise ConformanceError(
                    f"{where}: draw() raised {type(error).__name__}: {error}",
                    "Pad the image to what the network needs, and crop the result.",
                ) from error
            require_probabilities(draw, len(segmenter.labels), region.shape, where)


def check_segmenter_small_image(build: Build) -> None:
    """An image smaller than any patch works."""
    _require_works(build, phantoms.phantom((5, 4, 3)), "image of 5×4×3 voxels")


def check_segmenter_one_slice(build: Build) -> None:
    """A single slice works."""
    _require_works(build, phantoms.phantom((44, 28, 1)), "image of one slice")


def check_segmenter_odd_sizes(build: Build) -> None:
    """Sizes that are no multiples of anything, on an oblique grid, work."""
    image = phantoms.phantom((37, 29, 7), (9.0, 8.0, 6.5), phantoms.oblique())
    _require_works(build, image, "oblique image of 37×29×7 voxels")


def check_segmenter_strided_input(build: Build) -> None:
    """An image whose array is a reversed view gives the same as its copy."""
    image = phantoms.phantom()
    turned = Volume(image.data[::-1, ::-1], image.affine, mask=None)
    plain = Volume(np.ascontiguousarray(turned.data), image.affine, mask=None)
    try:
        segmenter = build()
        found = one_draw(segmenter, working_grid(segmenter, turned))
    except Exception as error:
        raise ConformanceError(
            f"an image that is a reversed view is refused ({type(error).__name__}: {error})",
            "torch.from_numpy takes no negative strides: use np.ascontiguousarray first.",
        ) from error
    segmenter = build()
    require(
        same(found, one_draw(segmenter, working_grid(segmenter, plain))),
        "an image that is a reversed view gives another result than its copy",
        "Index the array, do not read its buffer.",
    )


def check_segmenter_memory(build: Build) -> None:
    """The memory of one draw does not grow with the probabilities of the whole image."""
    segmenter = build()

    def peak(slices: int) -> tuple[int, int]:
        grid = working_grid(segmenter, phantoms.phantom((44, 28, slices)))
        region = middle(segmenter.regions(grid))
        top = min(region.start[2] + 2, region.stop[2])
        box = Region(region.start, (*region.stop[:2], top))
        one_draw(segmenter, grid, region=box)  # lazily made buffers are not the draw's
        return peak_bytes(lambda: one_draw(segmenter, grid, region=box)), grid.data.size

    (small, few), (large, many) = peak(32), peak(128)
    growth = (large - small) / (many - few)
    classes = len(segmenter.labels)
    # The image may be copied and normalised in float64, twice; probabilities may not be held.
    allowed = max(24.0, 3.0 * classes)
    require(
        growth <= allowed,
        f"one draw of two slices takes {growth:.0f} bytes more for each further voxel of the "
        f"image (probabilities of all {classes} classes: {4 * classes})",
        "Compute the region asked for with the context it needs, not the whole image.",
    )


@contextmanager
def _no_network() -> Iterator[list[str]]:
    """Refuse every connection, and remember who was called."""
    calls: list[str] = []

    def refuse(*args: Any, **_: Any) -> Any:
        calls.append(str(args[-1] if len(args) == 2 else args[:1]))
        raise OSError("the conformance check allows no network access")

    with (
        mock.patch.object(socket.socket, "connect", refuse),
        mock.patch.object(socket, "create_connection", refuse),
        mock.patch.object(socket, "getaddrinfo", refuse),
    ):
        yield calls


def check_segmenter_no_network(build: Build) -> None:
    """Making the object and drawing need no network."""
    with _no_network() as calls:
        fault = ""
        try:
            segmenter = build()
            one_draw(segmenter, working_grid(segmenter))
        except Exception as error:  # reported below only if it comes from the network
            if not calls:
                raise
            fault = f" ({type(error).__name__})"
    require(
        not calls,
        f"the network is used while building or drawing{fault}",
        "Hospitals have no internet: read weights from a local file that was fetched before "
        "('mskt models fetch'), and build networks with pretrained=False.",
    )


def _draw_here(build: Build) -> tuple[NDArray[np.float32], float]:
    segmenter = build()
    draw = one_draw(segmenter, working_grid(segmenter), index=1)
    return values(draw), tolerance(draw)


def check_segmenter_spawn(build: Build) -> None:
    """A worker process makes the same draw."""
    there, _ = run_elsewhere(_draw_here, build)
    here, allowed = _draw_here(build)
    require(
        here.shape == there.shape and np.abs(here - there).max() <= allowed,
        "another Python process gives another draw",
        "Let nothing depend on the process: no hash() of strings (salted), no process id or "
        "time in a seed, no state set at import by somebody else.",
    )

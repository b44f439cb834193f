"""What a segmenter must do: its output, its purity, its tags, its regions.

Each check makes its own object with ``build()`` and says what to change when it fails. What a
segmenter does in unusual settings (odd images, other processes) is in ``segmenter_settings``.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mskt.core.interfaces import Region, Segmenter, Tags, still
from mskt.core.volume import Volume
from mskt.testing import phantoms
from mskt.testing.outcome import Build, NotApplicable, require

if TYPE_CHECKING:
    from torch import Tensor

SEED = 20


def working_grid(segmenter: Segmenter, image: Volume | None = None) -> Volume:
    """The first working grid of an image, by default of the phantom."""
    return segmenter.prepare(phantoms.phantom() if image is None else image)[0]


def middle(regions: Sequence[Region]) -> Region:
    """The region in the middle of the list: inside the body."""
    return regions[len(regions) // 2]


def one_draw(
    segmenter: Segmenter,
    grid: Volume,
    *,
    index: int = 0,
    seed: int = SEED,
    region: Region | None = None,
) -> Tensor:
    """One draw, by default of the middle region."""
    where = middle(segmenter.regions(grid)) if region is None else region
    return segmenter.draw(grid, where, index=index, seed=seed)


def values(draw: Tensor) -> NDArray[np.float32]:
    """A draw as a float32 array on the CPU."""
    return np.asarray(draw.detach().float().cpu().numpy(), np.float32)


def tolerance(draw: Tensor) -> float:
    """Largest difference of two computations of the same probability: 16-bit types round."""
    return 3e-2 if draw.element_size() == 2 else 1e-4


def same(first: Tensor, second: Tensor) -> bool:
    """True if two draws are equal up to the rounding of their type."""
    a, b = values(first), values(second)
    return a.shape == b.shape and bool(np.abs(a - b).max() <= tolerance(first))


def require_probabilities(
    draw: Tensor, classes: int, shape: tuple[int, int, int], where: str
) -> None:
    """Fail unless a draw has the right shape and is finite, non-negative and sums to 1."""
    expected = (classes, *shape)
    require(
        tuple(draw.shape) == expected,
        f"{where}: draw() gave the shape {tuple(draw.shape)}, expected {expected}",
        "Return (number of classes with background, *region.shape): crop what was padded and "
        "drop the batch axis.",
    )
    found = values(draw)
    require(
        np.isfinite(found).all(),
        f"{where}: draw() gave values that are not finite",
        "Look for a division by zero or an overflow; clip the HU before the network.",
    )
    require(
        found.min() >= 0,
        f"{where}: a probability is {found.min():.3g}",
        "Return probabilities, not logits: apply softmax over the classes.",
    )
    sums = found.sum(axis=0)
    worst = sums.flat[np.abs(sums - 1).argmax()]
    require(
        abs(worst - 1) <= max(1e-3, tolerance(draw)),
        f"{where}: probabilities of a voxel sum to {worst:.4g}",
        "Apply softmax over the class axis (0); no sigmoid class by class.",
    )


def check_segmenter_labels(build: Build) -> None:
    """Classes are a label set with the indices 1 … n, and tags are a Tags object."""
    segmenter = build()
    label_set = getattr(segmenter, "label_set", None)
    require(
        label_set is not None,
        "the segmenter has no label_set",
        "Set the attribute: label_set = label_set('msk22'), or a LabelSet of your own.",
    )
    indices = [structure.index for structure in segmenter.label_set.structures]
    require(
        indices == list(range(1, len(indices) + 1)),
        f"the structures of label_set have the indices {indices[:8]}",
        "Number them 1 … n in the order of the channels: channel n is structure n, channel 0 "
        "background.",
    )
    require(
        isinstance(segmenter.tags, Tags),
        f"tags is {segmenter.tags!r}",
        "Set tags = Tags(…), or leave it out for a deterministic network.",
    )


def check_segmenter_describe(build: Build) -> None:
    """What describe() says can be written to run.json."""
    described = build().describe()
    try:
        json.dumps(dict(described))
        fault = ""
    except (TypeError, ValueError) as error:
        fault = str(error)
    require(
        not fault,
        f"describe() cannot be written to run.json ({fault})",
        "Return a mapping of names to strings, numbers, lists: str() paths and devices.",
    )


def check_segmenter_output_shape(build: Build) -> None:
    """A draw has one channel a class and the shape of the region asked for."""
    segmenter = build()
    grid = working_grid(segmenter)
    i, j, k = grid.data.shape
    odd_box = Region((1, 2, 0), (i // 2, j - 1, (k + 1) // 2))
    for region in (middle(segmenter.regions(grid)), odd_box):
        draw = one_draw(segmenter, grid, region=region)
        expected = (len(segmenter.labels), *region.shape)
        require(
            tuple(draw.shape) == expected,
            f"draw() of a region {region.shape} has the shape {tuple(draw.shape)}, "
            f"expected {expected}",
            "Return (number of classes with background, *region.shape): crop what was padded "
            "and drop the batch axis.",
        )


def check_segmenter_probabilities(build: Build) -> None:
    """Draws are finite, non-negative and sum to 1 over the classes."""
    segmenter = build()
    grid = working_grid(segmenter)
    region = middle(segmenter.regions(grid))
    require_probabilities(one_draw(segmenter, grid), len(segmenter.labels), region.shape, "phantom")


def check_segmenter_extreme_values(build: Build) -> None:
    """Air only, and metal, give probabilities too."""
    segmenter = build()
    image = phantoms.phantom()
    metal = image.data.copy()
    metal[20:24, 12:15] = 30_000
    for name, data in (("air only", np.full_like(image.data, -1024)), ("metal of 30000 HU", metal)):
        grid = working_grid(segmenter, Volume(data, image.affine, mask=image.mask))
        region = middle(segmenter.regions(grid))
        draw = one_draw(segmenter, grid, region=region)
        require_probabilities(draw, len(segmenter.labels), region.shape, name)


def check_segmenter_dtype_and_device(build: Build) -> None:
    """All draws share one floating type, at least bfloat16, and one device."""
    segmenter = build()
    grid = working_grid(segmenter)
    draws = [
        one_draw(segmenter, grid, region=region, index=index)
        for region in segmenter.regions(grid)[:2]
        for index in (0, 1)
    ]
    kinds = {(str(draw.dtype), str(draw.device)) for draw in draws}
    require(
        draws[0].is_floating_point() and draws[0].element_size() >= 2,
        f"draws have the type {draws[0].dtype}",
        "Return bfloat16, float16 or float32.",
    )
    require(
        len(kinds) == 1,
        f"draws have different types or devices: {sorted(kinds)}",
        "Convert at the end of draw(), the same way for every region and index.",
    )


def check_segmenter_no_graph(build: Build) -> None:
    """Draws carry no autograd graph, which would keep all activations in memory."""
    segmenter = build()
    draw = one_draw(segmenter, working_grid(segmenter))
    require(
        not draw.requires_grad,
        "the draw requires a gradient: it keeps every activation alive",
        "Compute under torch.inference_mode() or torch.no_grad().",
    )


def check_segmenter_input_unchanged(build: Build) -> None:
    """Neither prepare, regions nor draw write into the image they are given."""
    segmenter = build()
    image = phantoms.phantom()
    grid = working_grid(segmenter, image)
    for what, volume in (("the image", image), ("the working grid", grid)):
        arrays: dict[str, NDArray[Any]] = {"data": volume.data, "affine": volume.affine}
        if volume.mask is not None:
            arrays["mask"] = volume.mask
        before = {name: array.copy() for name, array in arrays.items()}
        one_draw(segmenter, segmenter.prepare(volume)[0] if volume is image else volume)
        for name, array in arrays.items():
            require(
                np.array_equal(array, before[name]),
                f"{name} of {what} was changed",
                "Work on a copy: torch.from_numpy and views share memory with the image, so "
                "in-place operations (-=, clip(out=…), .mul_()) write into it.",
            )


def check_segmenter_pure(build: Build) -> None:
    """The same arguments give the same draw, whatever was asked before."""
    segmenter = build()
    grid = working_grid(segmenter)
    regions = segmenter.regions(grid)
    first = one_draw(segmenter, grid, index=1)
    one_draw(segmenter, grid, index=3, seed=SEED + 1, region=regions[0])
    require(
        same(first, one_draw(segmenter, grid, index=1)),
        "draw() gives another result when called again with the same arguments",
        "Keep no state between draws, put batch norm and the network into eval mode, and "
        "derive randomness from (seed, index) with mskt.core.seeding.",
    )


def check_segmenter_fresh_instance(build: Build) -> None:
    """Two objects made by the same call agree."""
    grid = working_grid(build())
    first, second = one_draw(build(), grid), one_draw(build(), grid)
    require(
        same(first, second),
        "two objects made with the same options give different draws",
        "Load weights, or initialise them from a fixed seed of their own generator "
        "(torch.Generator().manual_seed(…)), never from the global one.",
    )


def _generator_states() -> dict[str, bytes]:
    import torch

    return {
        "random": repr(random.getstate()).encode(),
        "numpy.random": repr(np.random.get_state(legacy=False)).encode(),  # noqa: NPY002
        "torch": torch.get_rng_state().numpy().tobytes(),
    }


def check_segmenter_global_rng(build: Build) -> None:
    """The global random generators are neither read nor set by a draw."""
    import torch

    segmenter = build()
    grid = working_grid(segmenter)
    before = _generator_states()
    first = one_draw(segmenter, grid)
    changed = [name for name, state in _generator_states().items() if state != before[name]]
    require(
        not changed,
        f"draw() uses or seeds the global generator of {', '.join(changed)}",
        "Take random numbers from mskt.core.seeding or a torch.Generator of your own, made "
        "from (seed, index).",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        require(
            same(first, one_draw(segmenter, grid)),
            "the draw depends on torch's global seed",
            "Take random numbers from (seed, index) alone.",
        )


def check_segmenter_stochastic_tag(build: Build) -> None:
    """Draws differ by index and seed if and only if the tag says stochastic."""
    segmenter = build()
    grid = working_grid(segmenter)
    tags = segmenter.tags
    first = one_draw(segmenter, grid, index=0)
    other = one_draw(segmenter, grid, index=tags.members)
    reseeded = one_draw(segmenter, grid, index=0, seed=SEED + 1)
    if not tags.stochastic:
        require(
            same(first, other) and same(first, reseeded),
            "tags say stochastic=False, but draws of the same member differ",
            "Set Tags(stochastic=True), or switch dropout off (eval mode).",
        )
        return
    for what, draw in (("index", other), ("seed", reseeded)):
        require(
            not np.array_equal(values(first), values(draw)),
            f"tags say stochastic=True, but draws with another {what} are identical",
            f"Make the draw depend on {what} (dropout masks from key(seed, index, …)), or set "
            "Tags(stochastic=False).",
        )


def check_segmenter_still(build: Build) -> None:
    """A stochastic segmenter has one pass without randomness, whatever the seed."""
    segmenter = build()
    if not segmenter.tags.stochastic:
        raise NotApplicable("not stochastic")
    grid = working_grid(segmenter)
    first = one_draw(segmenter, grid, index=still())
    require(
        same(first, one_draw(segmenter, grid, index=still(), seed=SEED + 1)),
        f"draw(index={still()}), the pass without randomness, depends on the seed",
        "Where index < 0, leave dropout and noise out: --uncertainty deterministic and ensembles "
        "ask for it.",
    )


def check_segmenter_members_tag(build: Build) -> None:
    """An ensemble has as many different members as its tag says, used in turn."""
    segmenter = build()
    members = segmenter.tags.members
    require(
        isinstance(members, int) and members >= 1,
        f"tags.members is {members!r}",
        "Set the number of ensemble members; 1 for a single network.",
    )
    if members == 1:
        raise NotApplicable("one member: not an ensemble")
    grid = working_grid(segmenter)
    draws = [values(one_draw(segmenter, grid, index=index)) for index in range(members)]
    twins = [(a, b) for a in range(members) for b in range(a) if np.array_equal(draws[a], draws[b])]
    require(
        not twins,
        f"tags say members={members}, but members {twins[:1]} give identical draws",
        "Use member_of(index, members) in draw(), and count members without duplicates.",
    )
    if not segmenter.tags.stochastic:
        again = values(one_draw(segmenter, grid, index=members))
        require(
            np.abs(again - draws[0]).max() <= 3e-2,
            f"draw {members} is not member 0 again",
            "Use member_of(index, members) in draw().",
        )


def check_segmenter_fast_draws_tag(build: Build) -> None:
    """The tag says fast_draws if and only if the method draw_many exists."""
    segmenter = build()
    has = callable(getattr(segmenter, "draw_many", None))
    require(
        has == segmenter.tags.fast_draws,
        f"tags say fast_draws={segmenter.tags.fast_draws}, but draw_many "
        f"{'exists' if has else 'does not exist'}",
        "Set Tags(fast_draws=True) if and only if the class has draw_many().",
    )


def check_segmenter_fast_equals_plain(build: Build) -> None:
    """All draws at once are the draws one by one, in the same order."""
    segmenter: Any = build()
    if not callable(getattr(segmenter, "draw_many", None)):
        raise NotApplicable("no draw_many()")
    grid = working_grid(segmenter)
    region = middle(segmenter.regions(grid))
    fast = [values(draw) for draw in segmenter.draw_many(grid, region, count=3, seed=SEED)]
    require(len(fast) == 3, f"draw_many(count=3) yields {len(fast)} draws", "Yield count draws.")
    for index, found in enumerate(fast):
        plain = one_draw(segmenter, grid, index=index)
        require(
            found.shape == tuple(plain.shape)
            and np.abs(found - values(plain)).max() <= tolerance(plain),
            f"draw {index} of draw_many() is not draw(index={index})",
            "Use the same keys (seed, index) in both paths, and yield copies, not one buffer "
            "that is overwritten.",
        )


def _boxes_hit(regions: Sequence[Region], shape: tuple[int, int, int]) -> NDArray[np.uint16]:
    count = np.zeros(shape, np.uint16)
    for region in regions:
        count[region.slices] += 1
    return count


def check_segmenter_regions(build: Build) -> None:
    """Regions cover every working grid once and are ordered in slabs."""
    segmenter = build()
    for shape in (phantoms.SHAPE, (31, 17, 23)):
        for grid in segmenter.prepare(phantoms.phantom(shape)):
            size = grid.grid.shape
            regions = segmenter.regions(grid)
            inside = all(
                0 <= a < b <= n
                for r in regions
                for a, b, n in zip(r.start, r.stop, size, strict=True)
            )
            require(
                inside,
                f"regions() of a grid {size} gives a box that is empty or outside",
                "Clip stop to image.data.shape, and leave empty boxes out.",
            )
            hit = _boxes_hit(regions, size)
            require(
                hit.min() == 1 and hit.max() == 1,
                f"regions() of a grid {size} cover voxels {hit.min()} to {hit.max()} times",
                "Cover every voxel exactly once: overlap belongs inside draw().",
            )
            slabs = [(r.start[2], r.stop[2]) for r in regions]
            ordered = all(a == b or a[1] <= b[0] for a, b in pairwise(slabs))
            require(
                ordered,
                f"regions() of a grid {size} are not ordered in slabs",
                "Sort by start[2], and give boxes with the same start[2] the same stop[2].",
            )


def check_segmenter_region_size(build: Build) -> None:
    """One draw of one region of a whole-body sized grid fits into 4 GiB."""
    segmenter = build()
    shape = (512, 512, 500)
    # One voxel with zero strides: a large image that takes no memory.
    data = np.broadcast_to(np.float32(0), shape)
    large = Volume(data, phantoms.centred_affine(shape, (0.7, 0.7, 1.0)))
    voxels = max(int(np.prod(region.shape)) for region in segmenter.regions(large))
    gib = voxels * len(segmenter.labels) * 4 / 2**30
    require(
        gib <= 4,
        f"one draw of one region of a grid {shape} takes {gib:.1f} GiB",
        "Override regions(): return slabs of a few slices along the last axis.",
    )


def check_segmenter_region_independence(build: Build) -> None:
    """A voxel has the same value, whatever box it is asked for with."""
    segmenter = build()
    grid = working_grid(segmenter)
    i, j, k = grid.data.shape
    boxes = [
        Region((0, 0, k // 2), (i, j, k // 2 + 1)),
        Region((i // 3, j // 4, 0), (i // 3 + max(i // 4, 1), j // 4 + max(j // 2, 1), k)),
    ]
    for box in boxes:
        draw = one_draw(segmenter, grid, region=box)
        for region in segmenter.regions(grid):
            start = tuple(map(max, box.start, region.start))
            stop = tuple(map(min, box.stop, region.stop))
            if any(a >= b for a, b in zip(start, stop, strict=True)):
                continue
            whole = one_draw(segmenter, grid, region=region)
            mine, theirs = (
                values(d)[
                    (
                        slice(None),
                        *(
                            slice(a - o, b - o)
                            for a, b, o in zip(start, stop, r.start, strict=True)
                        ),
                    )
                ]
                for d, r in ((draw, box), (whole, region))
            )
            worst = float(np.abs(mine - theirs).max())
            require(
                worst <= tolerance(draw),
                f"the same voxels differ by {worst:.2g} between the regions {box} and {region}",
                "Nothing may depend on the box: read context around the region from the image "
                "(padding only where the image ends), normalise with constants or with the "
                "whole image, and key dropout masks by place in the grid.",
            )

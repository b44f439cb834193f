"""One broken plugin for each check: a fault that somebody could really make.

``MUTANTS`` maps the name of a check to the maker it must catch and words of its advice.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import socket
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from kit_reference import (
    TISSUES,
    Good,
    GoodDistances,
    GoodEntropy,
    GoodLoader,
    GoodStochastic,
    GoodVariance,
)

from mskt.core.anatomy import label_set
from mskt.core.errors import InputError
from mskt.core.interfaces import Estimate, Region, Tags
from mskt.core.volume import Volume

MUTANTS = {}


def caught_by(check, advice):
    """Register a maker as the mutant of a check."""

    def register(maker):
        assert check not in MUTANTS
        MUTANTS[check] = (maker, advice)
        return maker

    return register


# --- segmenters ---------------------------------------------------------------------------------


@caught_by("check_segmenter_labels", "Number them 1")
class GapInIndices(Good):
    label_set = TISSUES.subset(["muscle", "bone_right"])


@caught_by("check_segmenter_describe", "str()")
class PathInDescription(Good):
    def describe(self):
        return {"weights": Path("weights.safetensors")}


@caught_by("check_segmenter_output_shape", "drop the batch axis")
class KeepsBatchAxis(Good):
    def draw(self, image, region, *, index, seed):
        return super().draw(image, region, index=index, seed=seed)[None]


@caught_by("check_segmenter_probabilities", "softmax")
class Logits(Good):
    def draw(self, image, region, *, index, seed):
        return super().draw(image, region, index=index, seed=seed).logit(eps=1e-6)


@caught_by("check_segmenter_extreme_values", "clip the HU")
class Overflow(Good):
    def draw(self, image, region, *, index, seed):
        odds = torch.from_numpy(np.ascontiguousarray(image.data[region.slices])).div(60).exp()
        rest = torch.zeros(3, *region.shape)
        return torch.cat([(odds / (1 + odds))[None], rest + (1 / (1 + odds)) / 3])


@caught_by("check_segmenter_dtype_and_device", "Convert at the end")
class ChangingType(Good):
    def draw(self, image, region, *, index, seed):
        draw = super().draw(image, region, index=index, seed=seed)
        return draw.double() if index else draw


@caught_by("check_segmenter_no_graph", "inference_mode")
class KeepsGraph(Good):
    def __init__(self):
        self.kernel = torch.nn.Parameter(Good.kernel.clone())


@caught_by("check_segmenter_input_unchanged", "Work on a copy")
class ClipsInPlace(Good):
    def smooth(self, image, region):
        np.clip(image.data, -200, 300, out=image.data)
        return super().smooth(image, region)


@caught_by("check_segmenter_pure", "Keep no state")
class CountsDraws(Good):
    def __init__(self):
        self.calls = 0

    def scores(self, image, region, index, seed):
        self.calls += 1
        return self.smooth(image, region) + self.calls


@caught_by("check_segmenter_fresh_instance", "Load weights")
class RandomWeights(Good):
    def __init__(self):
        self.kernel = torch.from_numpy(np.random.default_rng().normal(size=(1, 1, 3, 3, 3)))
        self.kernel = self.kernel.float()


@caught_by("check_segmenter_global_rng", "mskt.core.seeding")
class SeedsTheWorld(GoodStochastic):
    def scores(self, image, region, index, seed):
        torch.manual_seed(seed + index)
        return self.smooth(image, region) + torch.randn(region.shape[2])


@caught_by("check_segmenter_stochastic_tag", "Tags(stochastic=False)")
class ClaimsDropout(Good):
    tags = Tags(stochastic=True)


@caught_by("check_segmenter_still", "Where index < 0")
class NeverStill(GoodStochastic):
    def draw(self, image, region, *, index, seed):
        return super().draw(image, region, index=abs(index), seed=seed)


@caught_by("check_segmenter_members_tag", "without duplicates")
class ClaimsMembers(Good):
    tags = Tags(members=2)


@caught_by("check_segmenter_fast_draws_tag", "if and only if")
class ClaimsFastDraws(Good):
    tags = Tags(fast_draws=True)


@caught_by("check_segmenter_fast_equals_plain", "same keys")
class FastPathOffByOne(GoodStochastic):
    def draw_many(self, image, region, *, count, seed):
        for index in range(count):
            yield self.draw(image, region, index=index + 1, seed=seed)


@caught_by("check_segmenter_regions", "exactly once")
class OverlappingRegions(Good):
    def regions(self, image):
        i, j, k = image.data.shape
        return [Region((0, 0, a), (i, j, min(a + 5, k))) for a in range(0, k, 4)]


@caught_by("check_segmenter_region_size", "slabs")
class OneHugeRegion(Good):
    label_set = label_set("msk22")

    def regions(self, image):
        return [Region((0, 0, 0), image.data.shape)]


@caught_by("check_segmenter_region_independence", "Nothing may depend on the box")
class NormalisesByRegion(Good):
    def scores(self, image, region, index, seed):
        hu = self.smooth(image, region)
        return hu - hu.mean()


@caught_by("check_segmenter_orientation", "to_canonical")
class IgnoresOrientation(Good):
    def prepare(self, image):
        return (image,)

    def draw(self, image, region, *, index, seed):
        draw = super().draw(image, region, index=index, seed=seed)
        return draw if region.start[0] else self.front_is_bone(draw)

    def front_is_bone(self, draw):
        draw[:, : draw.shape[1] // 2] = torch.tensor([0.0, 0, 1, 0])[:, None, None, None]
        return draw


@caught_by("check_segmenter_mirror", "Do not claim")
class OneSided(Good):
    def draw(self, image, region, *, index, seed):
        draw = super().draw(image, region, index=index, seed=seed)
        return torch.stack([draw[0], draw[1], draw[2] + draw[3], 0 * draw[3]])


@caught_by("check_segmenter_small_image", "Pad the image")
class NeedsAPatch(Good):
    def smooth(self, image, region):
        if min(image.data.shape[:2]) < 16:
            raise ValueError("patch larger than image")
        return super().smooth(image, region)


@caught_by("check_segmenter_one_slice", "Pad the image")
class NeedsNeighbours(Good):
    def smooth(self, image, region):
        k = min(region.start[2], image.data.shape[2] - 2)
        assert np.isfinite(image.data[:, :, k + 1]).all() and k >= 0, "no neighbouring slice"
        return super().smooth(image, region)


@caught_by("check_segmenter_odd_sizes", "crop what was padded")
class ForgetsToCrop(Good):
    def draw(self, image, region, *, index, seed):
        draw = super().draw(image, region, index=index, seed=seed)
        if region.shape[0] == image.data.shape[0]:  # a whole slice, padded for the network
            draw = torch.nn.functional.pad(draw, (0, 0, 0, 0, 0, draw.shape[1] % 4))
        return draw


@caught_by("check_segmenter_strided_input", "ascontiguousarray")
class ReadsTheBuffer(Good):
    def prepare(self, image):
        return (image,)

    def smooth(self, image, region):
        return torch.from_numpy(image.data)[region.slices]


@caught_by("check_segmenter_memory", "not the whole image")
class WholeImageEveryTime(Good):
    def smooth(self, image, region):
        whole = super().smooth(image, Region((0, 0, 0), image.data.shape))
        features = torch.stack([whole] * 16)
        return features.mean(dim=0)[region.slices]


@caught_by("check_segmenter_no_network", "pretrained=False")
class DownloadsWeights(Good):
    def __init__(self):
        with contextlib.suppress(OSError):
            socket.create_connection(("weights.example.org", 443), timeout=1).close()


@caught_by("check_segmenter_spawn", "process id")
class SeededByProcess(Good):
    def scores(self, image, region, index, seed):
        return self.smooth(image, region) + os.getpid() % 1000


class SpecMaker:
    """A maker that says who announces it, as the command line's does."""

    def __init__(self, announced_in):
        self.announced_in = announced_in

    def __call__(self):
        return Good()


caught_by("check_announcement_is_light", "a module of its own")(SpecMaker("kit_heavy"))


# --- estimators ---------------------------------------------------------------------------------


@caught_by("check_estimator_declarations", "Set needs")
class UnknownNeeds(GoodVariance):
    needs = "dropout"


@caught_by("check_estimator_shapes", "reduce the class axis")
class UncertaintyPerClass(GoodVariance):
    def reduce(self, draws):
        mean = super().reduce(draws).probabilities
        return Estimate(mean, mean * (1 - mean))


@caught_by("check_estimator_mean", "unweighted")
class LastDrawOnly(GoodVariance):
    def reduce(self, draws):
        draws = list(draws)
        return Estimate(draws[-1], super().reduce(draws).uncertainty)


@caught_by("check_estimator_none", "no uncertainty")
class Offset(GoodVariance):
    def reduce(self, draws):
        found = super().reduce(draws)
        return Estimate(found.probabilities, found.uncertainty * 0.5 + 0.1)


@caught_by("check_estimator_responds", "turn the sign")
class AlwaysSure(GoodVariance):
    def reduce(self, draws):
        found = super().reduce(draws)
        return Estimate(found.probabilities, torch.zeros_like(found.uncertainty))


@caught_by("check_estimator_range", "Declare the range")
class NarrowRange(GoodEntropy):
    range = (0.0, 1.0)


@caught_by("check_estimator_finite", "xlogy")
class LogOfZero(GoodEntropy):
    def reduce(self, draws):
        mean = super().reduce(draws).probabilities
        return Estimate(mean, -(mean * mean.log()).sum(dim=0))


@caught_by("check_estimator_order", "Treat all draws alike")
class FirstIsReference(GoodVariance):
    def reduce(self, draws):
        draws = list(draws)
        found = super().reduce(draws)
        spread = torch.stack([(draw - draws[0]).square() for draw in draws])
        return Estimate(found.probabilities, spread.mean(dim=(0, 1)))


@caught_by("check_estimator_one_pass", "one loop")
class NeedsLength(GoodVariance):
    def reduce(self, draws):
        if hasattr(draws, "__next__"):
            return super().reduce(draws)
        assert len(draws) > 1
        return super().reduce(draws)


@caught_by("check_estimator_no_state", "local variables")
class Remembers(GoodVariance):
    def __init__(self, samples=10):
        super().__init__(samples)
        self.calls = 0

    def reduce(self, draws):
        found = super().reduce(draws)
        self.calls += 1
        return Estimate(found.probabilities, found.uncertainty / self.calls)


@caught_by("check_estimator_region_independence", "each voxel's own draws")
class NormalisedMap(GoodVariance):
    def reduce(self, draws):
        found = super().reduce(draws)
        return Estimate(found.probabilities, found.uncertainty / found.uncertainty.max() / 4)


@caught_by("check_estimator_too_few_draws", "MsktError")
class CountsNothing(GoodEntropy):
    def reduce(self, draws):
        return Estimate(torch.stack(list(draws)).mean(dim=0), torch.zeros(()))


@caught_by("check_estimator_constant_memory", "running sums")
class StacksDraws(GoodVariance):
    def reduce(self, draws):
        return super().reduce(list(torch.stack([draw.clone() for draw in draws])))


@caught_by("check_estimator_input_unchanged", "not yours")
class AccumulatesIntoFirst(GoodVariance):
    def reduce(self, draws):
        draws = iter(draws)
        first = next(draws)
        found = super().reduce(itertools.chain([first.clone()], draws))
        first += 1
        return found


@caught_by("check_estimator_bfloat16", ".float()")
class AddsInDrawType(GoodEntropy):
    def reduce(self, draws):
        draws = list(draws)
        mean = sum(draws[1:], draws[0]) / len(draws)
        return Estimate(mean, -torch.xlogy(mean, mean).sum(dim=0))


@caught_by("check_estimator_samples_option", "self.draws = samples")
class IgnoresSamples(GoodVariance):
    def __init__(self, samples=10):
        self.draws = 10


# --- metrics ------------------------------------------------------------------------------------


@caught_by("check_metric_declarations", "scales_with_mm")
class MillimetresThatDoNotScale(GoodDistances):
    infos = (replace(GoodDistances.infos[1], scales_with_mm=False),)


@caught_by("check_metric_complete", "one Measurement for each")
class SkipsAStructure(GoodDistances):
    def measure(self, pair):
        return (m for m in super().measure(pair) if m.index != 2)


@caught_by("check_metric_identity", "perfect value")
class PerfectIsHundred(GoodDistances):
    infos = (replace(GoodDistances.infos[0], perfect=100.0),)


@caught_by("check_metric_direction", "Turn the direction")
class WrongDirection(GoodDistances):
    infos = (replace(GoodDistances.infos[0], direction="lower"),)


class _Changed(GoodDistances):
    """Measures a changed pair."""

    def change(self, pair):
        raise NotImplementedError

    def measure(self, pair):
        return super().measure(self.change(pair))


@caught_by("check_metric_spacing", "pair.spacing_mm")
class InVoxels(_Changed):
    def change(self, pair):
        return replace(pair, spacing_mm=(1.0, 1.0, 1.0))


@caught_by("check_metric_axes", "belongs to array axis")
class SpacingReversed(_Changed):
    def change(self, pair):
        a, b, c = pair.spacing_mm
        return replace(pair, spacing_mm=(max(a, b, c), b, c))


@caught_by("check_metric_empty", "empty masks first")
class RaisesWhenEmpty(GoodDistances):
    def measure(self, pair):
        for index in pair.indices:
            if not (pair.prediction == index).any():
                raise ValueError("zero-size array")
        return super().measure(pair)


@caught_by("check_metric_indices", "not by position")
class ByPosition(GoodDistances):
    def measure(self, pair):
        found = list(super().measure(replace(pair, indices=tuple(sorted(pair.indices)))))
        many = len(self.infos)
        for number, index in enumerate(pair.indices):
            for m in found[number * many : (number + 1) * many]:
                yield replace(m, index=index)


@caught_by("check_metric_input_unchanged", "Work on a copy")
class ClearsOthers(GoodDistances):
    def measure(self, pair):
        found = list(super().measure(pair))
        pair.prediction[pair.prediction == 3] = 0
        return found


@caught_by("check_metric_dtypes", "before any arithmetic")
class EightBitsOnly(_Changed):
    def change(self, pair):
        if pair.prediction.dtype != np.uint8:
            low = pair.prediction.view(np.uint8)[..., : pair.reference.shape[2]]
            return replace(pair, prediction=low)
        return pair


@caught_by("check_metric_brute_force", "Give yours another name")
class OneSidedPercentile(GoodDistances):
    def measure(self, pair):
        for m in super().measure(pair):
            scale = 0.99 if m.metric == "hd95" and m.value is not None else 1
            yield replace(m, value=m.value * scale) if scale != 1 else m


# --- loaders ------------------------------------------------------------------------------------


@caught_by("check_loader_types", "np.float32")
class KeepsDouble(GoodLoader):
    def load(self, path, options):
        image = super().load(path, options)
        return Volume(image.data.astype(np.float64), image.affine)


@caught_by("check_loader_hounsfield", "slope and intercept")
class NoRescale(GoodLoader):
    def load(self, path, options):
        image = super().load(path, options)
        return Volume(image.data + 1024, image.affine)


@caught_by("check_loader_geometry", "negating")
class KeepsLps(GoodLoader):
    flip = np.eye(4)


@caught_by("check_loader_labels", "Return integers")
class ScalesLabels(GoodLoader):
    def load_labels(self, path, options):
        data, affine = super().load_labels(path, options)
        return data.astype(np.float32), affine


@caught_by("check_loader_refuses_junk", "InputError")
class LibraryErrors(GoodLoader):
    def read(self, path):
        return self.nifti(path) if ".nii" in path.name else super().read(path)


@caught_by("check_loader_files_unchanged", "Open for reading only")
class WritesACache(GoodLoader):
    def load(self, path, options):
        if path.is_file():
            shutil.copy(path, path.with_name("cache.tmp"))
        return super().load(path, options)


@caught_by("check_loader_private", "without their")
class NamesTheFolder(GoodLoader):
    def read(self, path):
        try:
            return super().read(path)
        except InputError as error:
            raise InputError(str(path), error.fault, error.remedy) from None

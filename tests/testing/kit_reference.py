"""Plugins that keep their contracts: they must pass every check."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import torch

from mskt.core.anatomy import LabelSet, Structure
from mskt.core.errors import InputError, UsageError
from mskt.core.interfaces import (
    Estimate,
    Loader,
    Measurement,
    Metric,
    MetricInfo,
    Region,
    Segmenter,
    Tags,
    UncertaintyEstimator,
    member_of,
)
from mskt.core.seeding import generator
from mskt.core.volume import Volume, to_canonical
from mskt.testing import brute_force

TISSUES = LabelSet(
    "tissues",
    (
        Structure(1, "muscle"),
        Structure(2, "bone_left", side="left"),
        Structure(3, "bone_right", side="right"),
    ),
)


class Good(Segmenter):
    """Smoothing by one convolution, soft thresholds, optional noise and members."""

    label_set = TISSUES
    tags = Tags()
    kernel = torch.full((1, 1, 3, 3, 3), 1 / 27)

    def describe(self):
        return {"parameters": 27, "mirror_symmetric": True}

    def prepare(self, image):
        return (Volume(to_canonical(image.data, image.grid), image.grid.canonical().affine),)

    def regions(self, image):
        i, j, k = image.data.shape
        return [Region((0, 0, a), (i, j, min(a + 4, k))) for a in range(0, k, 4)]

    def smooth(self, image, region):
        low = [max(a - 1, 0) for a in region.start]
        high = [min(b + 1, n) for b, n in zip(region.stop, image.data.shape, strict=True)]
        box = image.data[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
        missing = [
            (1 - (a - x), 1 - (y - b))
            for a, b, x, y in zip(region.start, region.stop, low, high, strict=True)
        ]
        padded = np.pad(np.clip(box, -1000, 3000), missing, mode="edge")
        return torch.conv3d(torch.from_numpy(padded)[None, None], self.kernel)[0, 0]

    def scores(self, image, region, index, seed):
        return self.smooth(image, region)

    def draw(self, image, region, *, index, seed):
        hu = self.scores(image, region, index, seed)
        bone = ((hu - 200) / 60).sigmoid()
        muscle = (1 - bone) * ((hu + 30) / 20).sigmoid()
        i = torch.arange(region.start[0], region.stop[0])[:, None, None]
        right = (image.affine[0, 0] * i + image.affine[0, 3] > 0).float()
        return torch.stack([1 - bone - muscle, muscle, bone * (1 - right), bone * right])


class GoodStochastic(Good):
    """Noise keyed by (seed, index, slice): independent of the region asked for."""

    tags = Tags(stochastic=True, fast_draws=True)

    def describe(self):
        return {}

    def scores(self, image, region, index, seed):
        if index < 0:
            return self.smooth(image, region)
        i, j, _ = image.data.shape
        noise = [
            generator(seed, index, k).normal(0, 20, (i, j))
            for k in range(region.start[2], region.stop[2])
        ]
        plane = np.stack(noise, axis=-1)[(*region.slices[:2],)]
        return self.smooth(image, region) + torch.from_numpy(plane.astype(np.float32))

    def draw_many(self, image, region, *, count, seed):
        for index in range(count):
            yield self.draw(image, region, index=index, seed=seed)


class GoodEnsemble(Good):
    """Three members with thresholds of their own, in bfloat16."""

    tags = Tags(members=3)

    def scores(self, image, region, index, seed):
        return self.smooth(image, region) + 15 * member_of(index, 3)

    def draw(self, image, region, *, index, seed):
        return super().draw(image, region, index=index, seed=seed).bfloat16()


class GoodVariance(UncertaintyEstimator):
    """Predictive variance, mean over the classes."""

    needs = "any"
    unit = "1"
    range = (0.0, 0.25)
    minimum_draws = 2
    measure = "variance"

    def __init__(self, samples=10):
        self.draws = samples

    def reduce(self, draws):
        count, total, squares = 0, None, None
        for draw in draws:
            draw = draw.float()
            if total is None or squares is None:
                total, squares = torch.zeros_like(draw), torch.zeros_like(draw)
            total += draw
            squares += draw * draw
            count += 1
        if count < self.minimum_draws:
            raise UsageError("draws", f"{count} given", "Give two at least.")
        mean = total / count
        return Estimate(mean, (squares / count - mean * mean).clamp(min=0).mean(dim=0))


class GoodEntropy(UncertaintyEstimator):
    """Entropy of the mean."""

    needs = "any"
    unit = "nat"
    range = (0.0, 8.0)
    measure = "entropy"
    draws = 1

    def reduce(self, draws):
        count, total = 0, torch.zeros(())
        for draw in draws:
            total = total + draw.float()
            count += 1
        if not count:
            raise UsageError("draws", "none given", "Give one at least.")
        mean = total / count
        return Estimate(mean, -torch.xlogy(mean, mean).sum(dim=0))


class GoodDistances(Metric):
    """The definitions themselves."""

    infos = (
        MetricInfo("dice", "1", "higher", 1.0),
        MetricInfo("assd", "mm", "lower", 0.0, scales_with_mm=True),
        MetricInfo("hd", "mm", "lower", 0.0, scales_with_mm=True),
        MetricInfo("hd95", "mm", "lower", 0.0, scales_with_mm=True),
        MetricInfo("nsd", "1", "higher", 1.0),
    )
    tolerance_mm = 2.0

    def measure(self, pair):
        for index in pair.indices:
            prediction, reference = pair.prediction == index, pair.reference == index
            status = {
                (True, True): "ok",
                (False, True): "absent_prediction",
                (True, False): "absent_reference",
                (False, False): "absent_both",
            }[bool(prediction.any()), bool(reference.any())]
            found = (
                brute_force.all_of(prediction, reference, pair.spacing_mm, self.tolerance_mm)
                if status == "ok"
                else {}
            )
            if status == "absent_prediction":
                found = {"dice": 0.0, "nsd": 0.0}
            for info in self.infos:
                yield Measurement(index, info.name, found.get(info.name), info.unit, status)


class GoodLoader(Loader):
    """NIfTI by nibabel, NRRD and MetaImage by SimpleITK, DICOM by pydicom."""

    flip = np.diag([-1.0, -1.0, 1.0, 1.0])

    def accepts(self, path):
        if path.is_dir():
            return any(file.suffix == ".dcm" for file in path.iterdir())
        return path.is_file() and path.name.endswith((".nii", ".nii.gz", ".nrrd", ".mha"))

    def load(self, path, options):
        data, affine = self.read(path)
        return Volume(np.asarray(data, np.float32), affine)

    def load_labels(self, path, options):
        data, affine = self.read(path)
        return np.rint(data).astype(np.int32), affine

    def read(self, path: Path):
        try:
            if path.is_dir():
                return self.dicom(path)
            return self.nifti(path) if ".nii" in path.name else self.itk(path)
        except Exception as error:
            raise InputError(
                path.name, f"cannot be read ({type(error).__name__})", "Export it again."
            ) from None

    def nifti(self, path):
        import nibabel

        content = path.read_bytes()
        if path.name.endswith(".gz"):
            content = gzip.decompress(content)
        image = nibabel.Nifti1Image.from_bytes(content)
        return np.asarray(image.dataobj), np.asarray(image.affine, np.float64)

    def itk(self, path):
        import SimpleITK

        SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
        image = SimpleITK.ReadImage(str(path))
        affine = np.eye(4)
        affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
        affine[:3, 3] = image.GetOrigin()
        return SimpleITK.GetArrayFromImage(image).T, self.flip @ affine

    def dicom(self, path):
        import pydicom

        slices = [pydicom.dcmread(file) for file in sorted(path.iterdir())]
        first, last = slices[0], slices[-1]
        data = np.stack(
            [
                item.pixel_array.T * float(item.RescaleSlope) + float(item.RescaleIntercept)
                for item in slices
            ],
            axis=-1,
        )
        row, column = np.array(first.ImageOrientationPatient, float).reshape(2, 3)
        between, along = (float(v) for v in first.PixelSpacing)
        step = np.subtract(last.ImagePositionPatient, first.ImagePositionPatient)
        affine = np.eye(4)
        affine[:3, :3] = np.column_stack([row * along, column * between, step / (len(slices) - 1)])
        affine[:3, 3] = first.ImagePositionPatient
        return data, self.flip @ affine

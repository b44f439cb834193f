"""Figure 1 with a segmenter whose right answer is known."""

import numpy as np
import pytest
import torch

from mskt.core.anatomy import label_set
from mskt.core.errors import UsageError
from mskt.core.interfaces import Region, Segmenter, Tags
from mskt.core.pipeline import segment_case
from mskt.core.resample import resample_image, working_grid
from mskt.core.sweeps import axial_slabs
from mskt.core.viewcheck import Stack
from mskt.core.volume import Volume
from mskt.plugins.uncertainty.estimators import DeterministicEstimator, McDropoutEstimator

FEMUR = 21


class ByIntensity(Segmenter):
    """Femur where the HU exceed 300, on a grid of its own; optionally with noise for each draw."""

    label_set = label_set("msk22")

    def __init__(self, stochastic=False, depth=4, size=1.0):
        self.tags = Tags(stochastic=stochastic)
        self.depth = depth
        self.spacing = (2.0 * size, 2.0 * size, 3.0 * size)

    def prepare(self, image):
        grid = working_grid(image.grid, self.spacing)
        return (Volume(resample_image(image.data, image.grid, grid), grid.affine),)

    def regions(self, image):
        return axial_slabs(image.data.shape, self.depth)

    def draw(self, image, region: Region, *, index, seed):
        hu = torch.from_numpy(np.ascontiguousarray(image.data[region.slices]))
        logit = (hu - 300) / 50
        if self.tags.stochastic:
            logit = logit + (index % 2 - 0.5)
        out = torch.zeros((23, *region.shape))
        out[FEMUR] = torch.sigmoid(logit)
        out[0] = 1 - out[FEMUR]
        return out


WIDE = 4.0
"""What makes the small scan as wide as a patient, so that no structure lies beside it."""


def scan(affine, size=1.0) -> Volume:
    affine = np.diag([size, size, size, 1.0]) @ affine
    index = np.stack(np.meshgrid(np.arange(48), np.arange(40), np.arange(20), indexing="ij"), -1)
    world = index @ affine[:3, :3].T + affine[:3, 3]
    data = np.full(index.shape[:3], 40.0, np.float32)
    for x in (-20 * size, 20 * size):
        data[((world[..., 0] - x) ** 2 + world[..., 1] ** 2) < (11 * size) ** 2] = 800
    return Volume(data, affine)


def affine(flips):
    matrix = np.diag([*(np.array([1.5, 1.5, 2.5]) * flips), 1.0])
    matrix[:3, 3] = -matrix[:3, :3] @ (23.5, 19.5, 9.5)
    return matrix


@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, -1, 1), (-1, 1, -1)])
def test_labels_sides_and_grid(flips):
    image = scan(affine(flips))
    result = segment_case(image, ByIntensity(), DeterministicEstimator())
    truth = image.data > 300
    found = result.labels.data == FEMUR
    dice = 2 * (truth & found).sum() / (truth.sum() + found.sum())
    assert dice > 0.97
    assert result.labels.data.shape == image.data.shape
    x = (np.arange(48) * image.affine[0, 0] + image.affine[0, 3])[:, None, None]
    assert (result.sides[found & (x > 0)] == 1).all(), "+x is the patient's right"
    assert (result.sides[found & (x < 0)] == 2).all()
    assert (FEMUR, "right") in result.truncated


@pytest.mark.parametrize("depth", [1, 3, 100])
def test_the_result_does_not_depend_on_slabs(depth):
    image = scan(affine((1, 1, 1)))
    estimator = McDropoutEstimator(4)
    want = segment_case(image, ByIntensity(True, 5), estimator)
    got = segment_case(image, ByIntensity(True, depth), estimator)
    assert np.array_equal(got.labels.data, want.labels.data)
    np.testing.assert_array_equal(got.uncertainty, want.uncertainty)
    assert want.uncertainty.max() > 0


def test_regions_are_planned_for_the_number_of_draws():
    class Planned(ByIntensity):
        def regions(self, image):
            raise AssertionError("the number of draws is known")

        def regions_for(self, image, draws):
            asked.append(draws)
            return axial_slabs(image.data.shape, draws)

    asked = []
    image = scan(affine((1, 1, 1)))
    got = segment_case(image, Planned(True), McDropoutEstimator(3))
    want = segment_case(image, ByIntensity(True), McDropoutEstimator(3))
    assert asked == [3]
    assert np.array_equal(got.labels.data, want.labels.data)


def test_only_the_largest_component_of_each_side_is_kept():
    image = scan(affine((1, 1, 1)))
    image.data[2:6, 2:6, 8:12] = 800
    result = segment_case(image, ByIntensity(), DeterministicEstimator())
    assert not (result.labels.data[2:6, 2:6] == FEMUR).any()
    assert result.removed["femur"] > 0
    kept = segment_case(image, ByIntensity(), DeterministicEstimator(), keep_largest=False)
    assert (kept.labels.data[3:5, 3:5, 9:11] == FEMUR).all()


def test_dropout_asked_of_a_network_without_it_is_refused():
    with pytest.raises(UsageError, match="deterministic"):
        segment_case(scan(affine((1, 1, 1))), ByIntensity(), McDropoutEstimator(4))


def test_progress_ends_after_it_began():
    seen = []
    segment_case(
        scan(affine((1, 1, 1))),
        ByIntensity(),
        DeterministicEstimator(),
        progress=lambda stage, part: seen.append((stage, part)),
    )
    assert seen[0][0] == "prepare"
    assert seen[-1][0] == "post-process"
    parts = [part for stage, part in seen if stage == "segment"]
    assert parts == sorted(parts)


class Narrow(ByIntensity):
    """The same, with a grid that ends in the middle of the body; says how far it is."""

    def prepare_reporting(self, image, tell):
        tell(0.5)
        (work,) = self.prepare(image)
        half = work.data.shape[2] // 2
        return (Volume(np.ascontiguousarray(work.data[:, :, :half]), work.affine),)


def test_what_may_lie_beyond_the_grid_of_a_segmenter_is_truncated_not_absent():
    image = scan(affine((1, 1, 1)), WIDE)
    heard = []
    result = segment_case(
        image,
        Narrow(size=WIDE),
        DeterministicEstimator(),
        progress=lambda *said: heard.append(said),
    )
    psoas = next(s.index for s in ByIntensity.label_set.structures if s.name == "psoas_major")
    assert {(FEMUR, "right"), (FEMUR, "left"), (psoas, "left"), (psoas, "both")} <= result.truncated
    assert any("psoas_major" in note for note in result.notes)
    assert ("prepare", 0.5) in heard
    whole = segment_case(image, ByIntensity(size=WIDE), DeterministicEstimator())
    assert (psoas, "both") not in whole.truncated


def test_what_is_not_expected_in_view_is_truncated_not_absent():
    names = label_set("msk22")
    sacrum, gracilis, pectineus = (names[n].index for n in ("sacrum", "gracilis", "pectineus"))

    class Leveled(ByIntensity):
        def prepare(self, image):
            (work,) = super().prepare(image)
            shown = np.ones(23, bool)
            shown[[sacrum, gracilis]] = False  # pectineus should have been found
            return (Stack(work.data, work.affine, expected=shown),)

    image = scan(affine((1, 1, 1)), WIDE)
    result = segment_case(image, Leveled(size=WIDE), DeterministicEstimator())
    for index in (sacrum, gracilis):
        assert (index, "both") in result.truncated
    assert {index for index, _ in result.truncated} == {FEMUR, sacrum, gracilis}
    assert pectineus not in {index for index, _ in result.truncated}


@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, -1, 1)])
def test_the_other_hip_of_a_scan_of_one_is_truncated_not_absent(flips):
    """The patient's left half and 9 mm of the right one: nothing is looked for further to the right."""
    names = label_set("msk22")
    whole = scan(affine(flips), WIDE)
    x = np.arange(48) * whole.affine[0, 0] + whole.affine[0, 3]
    kept = np.flatnonzero(x <= 9)
    matrix = whole.affine.copy()
    matrix[:3, 3] = (whole.affine @ [kept[0], 0, 0, 1])[:3]
    half = Volume(np.ascontiguousarray(whole.data[kept]), matrix)

    class OneLeg(ByIntensity):
        """Bone is femur, but for a midline that tells where the other side is."""

        def draw(self, image, region, *, index, seed):
            out = super().draw(image, region, index=index, seed=seed)
            x = np.arange(image.data.shape[0]) * image.affine[0, 0] + image.affine[0, 3]
            middle = torch.from_numpy(np.abs(x[region.slices[0]]) < 12)
            out[0, middle], out[names["sacrum"].index, middle] = 0, 1
            return out

    result = segment_case(half, OneLeg(size=WIDE), DeterministicEstimator())
    assert (result.labels.data == FEMUR).any() and not (result.sides == 1).any()
    absent = {one.index for one in names.structures if one.side == "both"} - {FEMUR}
    for index in absent:
        assert {(index, "right"), (index, "both")} <= result.truncated
        assert (index, "left") not in result.truncated, "should have been found"
    assert (FEMUR, "right") in result.truncated

"""Where draws come from: dropout off, members, planes, changed images, and when to stop."""

import numpy as np
import pytest
import torch

from mskt.core.anatomy import LabelSet, Structure, label_set
from mskt.core.ensemble import Ensemble
from mskt.core.errors import UsageError
from mskt.core.interfaces import Region, Segmenter, Tags, member_of, still
from mskt.core.pipeline import check_pair, segment_case, wanted_draws
from mskt.core.seeding import generator
from mskt.core.viewcheck import Stack
from mskt.core.volume import Volume
from mskt.plugins.uncertainty import estimators as e
from mskt.plugins.uncertainty.transforms import Transformed

SHAPE = (24, 10, 8)
AFFINE = np.diag([2.0, 2.0, 4.0, 1.0])


class Sides(Segmenter):
    """Bone above 100 HU, named by the half of the grid it lies in; random or not."""

    label_set = LabelSet(
        "sided",
        (
            Structure(1, "femur_right", side="right", elements=frozenset({("femur", "right")})),
            Structure(2, "femur_left", side="left", elements=frozenset({("femur", "left")})),
        ),
    )

    def __init__(self, level=100.0, *, random=True, noise=30, mirror=True, spacing=1.0):
        self.level, self.noise, self.spacing = level, noise, spacing
        self.tags = Tags(stochastic=random, mirror=mirror)
        self.asked = []

    def prepare(self, image):
        if self.spacing == 1.0:
            return (image,)
        step = int(self.spacing)
        affine = image.affine @ np.diag([step, step, 1, 1])
        return (Volume(image.data[::step, ::step].copy(), affine),)

    def regions(self, image):
        i, j, k = image.data.shape
        return [Region((0, 0, n), (i, j, min(n + 3, k))) for n in range(0, k, 3)]

    def draw(self, image, region, *, index, seed):
        self.asked.append(index)
        level = self.level
        if self.tags.stochastic and index >= 0:
            level += generator(seed, "level", index).normal(0, self.noise)
        hu = torch.from_numpy(np.ascontiguousarray(image.data[region.slices]))
        bone = ((hu - level) / 20).sigmoid()
        right = torch.arange(region.start[0], region.stop[0]) >= image.data.shape[0] / 2
        right = right[:, None, None].expand(bone.shape)
        return torch.stack([1 - bone, bone * right, bone * ~right])


def scan():
    hu = np.full(SHAPE, 0, np.float32)
    hu[3:7, 3:7] = 300
    hu[15:21, 2:8] = 200
    return Volume(hu, AFFINE)


def labels(segmenter, estimator, **options):
    return segment_case(scan(), segmenter, estimator, **options)


def test_a_deterministic_pass_has_no_randomness():
    segmenter = Sides()
    first = labels(segmenter, e.DeterministicEstimator(), seed=1)
    assert set(segmenter.asked) == {still()}
    again = labels(Sides(), e.DeterministicEstimator(), seed=2)
    np.testing.assert_array_equal(first.uncertainty, again.uncertainty)


def test_members_take_turns_with_and_without_randomness():
    assert [member_of(n, 3) for n in range(5)] == [0, 1, 2, 0, 1]
    assert [member_of(still(n), 3) for n in range(5)] == [0, 1, 2, 0, 1]
    members = [Sides(50.0), Sides(100.0), Sides(150.0)]
    ensemble = Ensemble([(f"m{n}", one) for n, one in enumerate(members)])
    assert list(wanted_draws(ensemble, e.EnsembleEstimator())) == [-1, -2, -3]
    labels(ensemble, e.EnsembleEstimator())
    assert all(set(one.asked) == {still()} for one in members)
    for one in members:
        one.asked.clear()
    labels(ensemble, e.EnsembleDropoutEstimator(5))
    assert [sorted(set(one.asked)) for one in members] == [[0, 1], [0, 1], [0]]


def test_an_ensemble_is_the_mean_of_its_members():
    image, region = scan(), Region((2, 1, 2), (20, 9, 7))
    members = [Sides(50.0), Sides(150.0)]
    ensemble = Ensemble([("a", members[0]), ("b", members[1])])
    (work,) = ensemble.prepare(image)
    for n, member in enumerate(members):
        got = ensemble.draw(work, region, index=still(n), seed=0)
        want = member.draw(image, region, index=still(), seed=0)
        assert torch.equal(got, want)


def test_a_member_on_another_grid_is_interpolated():
    ensemble = Ensemble([("fine", Sides()), ("coarse", Sides(spacing=2.0))])
    (work,) = ensemble.prepare(scan())
    whole = Region((0, 0, 0), SHAPE)
    got = ensemble.draw(work, whole, index=still(1), seed=0)
    assert tuple(got.shape) == (3, *SHAPE)
    assert got.sum(0).allclose(torch.ones(SHAPE), atol=1e-5)
    own = Sides(spacing=2.0)
    (coarse,) = own.prepare(scan())
    want = own.draw(coarse, Region((0, 0, 0), coarse.data.shape), index=still(), seed=0)
    assert got[:, ::2, ::2].allclose(want, atol=1e-5), "voxels that both grids have"
    part = Region((4, 2, 1), (15, 9, 5))
    assert ensemble.draw(work, part, index=still(1), seed=0).allclose(
        got[(slice(None), *part.slices)], atol=1e-5
    )


def test_what_makes_no_ensemble_is_refused():
    class Other(Sides):
        label_set = label_set("thigh10")

    class TwoLegs(Sides):
        def prepare(self, image):
            return (image, image)

    with pytest.raises(UsageError, match="at least two"):
        Ensemble([("a", Sides())])
    with pytest.raises(UsageError, match="'b' has the label set thigh10, 'a' has sided"):
        Ensemble([("a", Sides()), ("b", Other())])
    with pytest.raises(UsageError, match="grids of its own"):
        Ensemble([("a", Sides()), ("b", TwoLegs())]).prepare(scan())
    with pytest.raises(UsageError, match="two members"):
        check_pair(Sides(), e.EnsembleEstimator(), "ensemble")
    still_members = Ensemble([("a", Sides(random=False)), ("b", Sides(random=False))])
    with pytest.raises(UsageError, match="members with dropout"):
        check_pair(still_members, e.EnsembleDropoutEstimator(), "ensemble+mcdropout")


def test_a_mirrored_draw_comes_back_on_its_own_side():
    """Half of the draws are mirrored: structures keep their side, and sided classes are exchanged."""
    result = labels(Sides(random=False), e.AugmentationEstimator(6))
    found, truth = result.labels.data, labels(Sides(random=False), e.DeterministicEstimator())
    np.testing.assert_array_equal(found, truth.labels.data)
    assert result.uncertainty.max() > 0, "other contrasts give other probabilities"
    segmenter = Transformed(Sides(random=False), random=False)
    (work,) = segmenter.prepare(scan())
    whole = Region((0, 0, 0), SHAPE)
    plain = segmenter.draw(work, whole, index=still(0), seed=0)
    for number in (1, 2, 3):
        draw = segmenter.draw(work, whole, index=still(number), seed=0)
        assert torch.equal(draw.argmax(0), plain.argmax(0))
        part = Region((3, 1, 2), (19, 8, 6))
        assert segmenter.draw(work, part, index=still(number), seed=0).equal(
            draw[(slice(None), *part.slices)]
        )


def test_a_segmenter_that_knows_one_side_is_never_mirrored():
    class Watched(Sides):
        def draw(self, image, region, *, index, seed):
            assert image.data[15:21, 2:8].min() > 100, "the larger bone stays on its side"
            return super().draw(image, region, index=index, seed=seed)

    result = labels(Watched(random=False, mirror=False), e.AugmentationEstimator(4))
    assert (result.labels.data > 0).any()


def test_dropout_and_augmentation_differ_in_every_draw():
    segmenter = Sides()
    labels(segmenter, e.AugmentationDropoutEstimator(4))
    assert sorted(set(segmenter.asked)) == [0, 1, 2, 3]


def test_auto_stops_where_draws_agree_and_goes_on_where_they_do_not():
    calm, wild = Sides(noise=0), Sides(noise=200)
    result = labels(calm, e.McDropoutEstimator("auto"))
    assert result.structurewise.drawn == 4
    assert max(calm.asked) == 3, "nothing to settle"
    labels(wild, e.McDropoutEstimator("auto"))
    assert max(wild.asked) == e.MOST_DRAWS - 1


@pytest.mark.parametrize(
    ("build", "fault"),
    [
        (lambda: e.DeterministicEstimator("variance"), "variance compares draws"),
        (lambda: e.DeterministicEstimator(measures="entropy,variance"), "variance compares draws"),
        (lambda: e.DeterministicEstimator(aggregation="pairwise_dice"), "only one"),
        (lambda: e.McDropoutEstimator(aggregation="medain"), "Did you mean 'mean'"),
        (lambda: e.McDropoutEstimator("many"), "no number"),
        (lambda: e.AugmentationEstimator(1), "too few"),
    ],
)
def test_what_cannot_be_computed_is_refused_in_words(build, fault):
    with pytest.raises(UsageError, match=fault):
        build()


def test_all_measures_come_of_one_pass():
    result = labels(Sides(), e.McDropoutEstimator(4, measures="all"))
    names = {one.name for one in e.MEASURES.values()}
    assert set(result.structurewise.sums) == names
    single = labels(Sides(), e.DeterministicEstimator(measures="all"))
    assert set(single.structurewise.sums) == {m.name for m in e.MEASURES.values() if not m.spread}


def test_a_structure_is_expected_if_a_member_expects_it():
    class Checked(Sides):
        def __init__(self, *shown):
            super().__init__(level=1000.0)  # finds nothing
            self.shown = np.array([True, *shown])

        def prepare(self, image):
            return (Stack(image.data, image.affine, expected=self.shown),)

    def beyond(*members):
        joint = Ensemble([(str(n), one) for n, one in enumerate(members)])
        return {index for index, _ in labels(joint, e.EnsembleEstimator()).truncated}

    assert beyond(Checked(True, False), Checked(False, False)) == {2}
    assert beyond(Checked(True, False), Sides(level=1000.0)) == set(), "one without a check"

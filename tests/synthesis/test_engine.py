from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mskt.synthesis.config import SynthesisConfig
from mskt.synthesis.engine import Fov, SyntheticCase, synthesise
from mskt.synthesis.lattice import CoarseLattice, NoiseField, child_rng, grid_axes
from mskt.synthesis.source import PreparedSource, prepare
from mskt.synthesis.tissue import BONES, mean_hu_table

COARSE = (6.0, 6.0, 6.0)
WINDOW = (64, 64, 60)
TRAINING = SynthesisConfig.training()
PLAIN = replace(
    SynthesisConfig.phantom(), p_table=0.0, p_phantom=0.0, noise_hu=(0.0, 0.0), streak_hu=(0.0, 0.0)
)


@pytest.fixture(scope="module")
def phantom(prepared: PreparedSource) -> SyntheticCase:
    return synthesise(
        prepared, seed=3, spacing_mm=(4.0, 4.0, 4.0), config=SynthesisConfig.phantom()
    )


def test_same_seed_same_case(prepared: PreparedSource) -> None:
    first, second = (
        synthesise(prepared, seed=5, spacing_mm=COARSE, shape=WINDOW, config=TRAINING)
        for _ in range(2)
    )
    assert np.array_equal(first.image, second.image)
    assert np.array_equal(first.labels, second.labels)
    assert first.meta == second.meta


def test_other_seed_other_case(prepared: PreparedSource) -> None:
    fov = Fov((-190.0, -150.0, -200.0), WINDOW)
    a, b = (
        synthesise(prepared, seed=s, spacing_mm=COARSE, fov=fov, config=TRAINING) for s in (5, 6)
    )
    assert (a.labels != b.labels).mean() > 0.01


@pytest.mark.parametrize("seed", range(6))
def test_training_cases_are_sane(prepared: PreparedSource, seed: int) -> None:
    config = replace(TRAINING, p_implant=0.5, p_screws=0.5, p_arms=1.0, p_blanket=1.0, p_motion=0.5)
    case = synthesise(prepared, seed=seed, spacing_mm=COARSE, shape=WINDOW, config=config)
    assert case.image.shape == case.labels.shape == case.body.shape == WINDOW
    assert case.image.dtype == np.float32
    assert case.labels.dtype == np.uint8
    assert np.isfinite(case.image).all()
    assert case.image.min() >= -1024
    assert case.image.max() <= 3071
    assert set(np.unique(case.labels)) <= prepared.ids
    assert case.body[case.labels > 0].all()


def test_mirror_swaps_sides(prepared: PreparedSource) -> None:
    fov = Fov((-198.0, -150.0, -300.0), (67, 60, 60))
    plain, mirrored = (
        synthesise(
            prepared, seed=8, spacing_mm=COARSE, fov=fov, config=replace(PLAIN, p_mirror=p)
        ).labels
        for p in (0.0, 1.0)
    )
    expected = plain[::-1].astype(int)
    paired = (expected > 0) & (expected != 36)
    expected[paired] += np.where(expected[paired] > 100, -100, 100)
    assert (expected != mirrored).mean() < 0.002  # ties at voxel edges may round the other way


def test_right_is_positive_x(phantom: SyntheticCase) -> None:
    x = np.argwhere(phantom.labels == 34)[:, 0].mean()
    assert x > np.argwhere(phantom.labels == 134)[:, 0].mean()


def test_volumes_do_not_depend_on_the_grid(prepared: PreparedSource) -> None:
    box = ((-200.0, -150.0, -460.0), (400.0, 300.0, 640.0))
    volumes = []
    for step in (2.5, 5.0):
        shape = tuple(int(e / step) for e in box[1])
        origin = tuple(o + step / 2 for o in box[0])
        case = synthesise(
            prepared, seed=4, spacing_mm=(step,) * 3, fov=Fov(origin, shape), config=PLAIN
        )
        volumes.append(np.bincount(case.labels.ravel(), minlength=256) * step**3 / 1000)
    big = volumes[0] > 30
    assert big.sum() > 10
    assert np.abs(volumes[1][big] / volumes[0][big] - 1).max() < 0.03


def test_phantom_has_the_densities_of_the_table(phantom: SyntheticCase) -> None:
    checked = 0
    for atom, (_, hu) in mean_hu_table().items():
        for code in (atom, atom + 100):
            where = phantom.labels == code
            if where.sum() > 100:
                assert phantom.image[where].mean() == pytest.approx(hu, abs=5)
                checked += 1
    assert checked > 12


def test_air_outside_and_objects_are_not_body(prepared: PreparedSource) -> None:
    fov = Fov((-250.0, -230.0, -200.0), (84, 76, 40))
    config = replace(PLAIN, p_table=1.0, p_phantom=1.0, psf_mm=(0.3, 0.3), slice_mm=(0.5, 0.5))
    bare = synthesise(prepared, seed=9, spacing_mm=COARSE, fov=fov, config=PLAIN)
    case = synthesise(prepared, seed=9, spacing_mm=COARSE, fov=fov, config=config)
    assert np.array_equal(bare.body, case.body)
    dense = (case.image > -300) & ~case.body
    assert dense.sum() > 500  # the calibration phantom is there
    far = ~case.body
    far[:, : int((case.meta["fov"]["shape"][1]) * 0.75)] = False
    assert np.median(case.image[far]) == pytest.approx(-1000, abs=5)
    assert not case.labels[~case.body].any()


def test_implant_is_labelled_as_bone(prepared: PreparedSource) -> None:
    fov = Fov((-150.0, -80.0, -180.0), (76, 40, 60))
    config = replace(PLAIN, p_implant=1.0, p_implant_second=1.0, calibrate_means=False)
    case = synthesise(prepared, seed=2, spacing_mm=(4.0, 4.0, 4.0), fov=fov, config=config)
    metal = case.image > 2500
    assert metal.sum() > 100
    on_bone = np.isin(case.labels[metal], (33, 133, 34, 134))
    assert on_bone.mean() > 0.95
    assert case.meta["hip_implants"] == 2


def test_truncation_hides_labels_too(prepared: PreparedSource) -> None:
    config = replace(PLAIN, p_truncated=1.0)
    case = synthesise(prepared, seed=2, spacing_mm=COARSE, shape=(80, 80, 20), config=config)
    lost = case.image == -1000
    assert lost[0, 0].all()
    assert not case.body[0, 0].any()
    assert not case.labels[0, 0].any()


def test_preparing_twice_is_free(prepared: PreparedSource) -> None:
    assert prepare(prepared) is prepared


def test_components_draw_independently() -> None:
    a = child_rng(3, "shape").random()
    child_rng(3, "table").random(100)
    assert a == child_rng(3, "shape").random()
    assert a != child_rng(3, "pose").random()
    assert a != child_rng(4, "shape").random()


def test_noise_depends_on_position_only() -> None:
    field = NoiseField.draw(child_rng(1, "test"), 30.0)
    fine = field.at(grid_axes((40, 40, 40), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)))
    rough = field.at(grid_axes((10, 10, 10), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0)))
    assert np.allclose(fine[::4, ::4, ::4], rough, atol=1e-4)
    wide = field.at(grid_axes((90, 90, 90), (8.0, 8.0, 8.0), (0.0, 0.0, 0.0)))
    assert wide.std() == pytest.approx(1, abs=0.15)


def test_coarse_lattice_reproduces_linear_maps() -> None:
    axes = grid_axes((20, 15, 10), (3.0, 3.0, 5.0), (-13.0, 7.0, 2.0))
    lattice = CoarseLattice.covering(axes)
    x, y, z = np.ix_(*lattice.axes)
    values = (2 * x - y + 0.5 * z).astype(np.float32)
    x, y, z = np.ix_(*axes)
    assert np.allclose(lattice.upsample(values), 2 * x - y + 0.5 * z, atol=1e-2)


def test_ranges_are_checked() -> None:
    with pytest.raises(ValueError, match="p_table"):
        replace(TRAINING, p_table=1.5)
    with pytest.raises(ValueError, match="fat_mm"):
        replace(TRAINING, fat_mm=(5.0, 1.0))


def test_negative_seed_is_refused(prepared: PreparedSource) -> None:
    with pytest.raises(ValueError, match="seed"):
        synthesise(prepared, seed=-1)


def test_a_mass_takes_the_place_of_muscle_and_of_nothing_else(prepared: PreparedSource) -> None:
    found = 0
    for seed in range(4):
        plain, grown = (
            synthesise(prepared, seed=seed, spacing_mm=(4.0, 4.0, 4.0), config=config)
            for config in (replace(PLAIN, p_lesion=0.0), replace(PLAIN, p_lesion=1.0))
        )
        assert plain.meta["mass_mm"] is None
        changed = plain.labels != grown.labels
        assert (grown.labels[changed] == 0).all(), "no other label appears"
        assert not np.isin(plain.labels[changed] % 100, BONES).any(), "bone stays bone"
        assert np.array_equal(plain.body, grown.body)
        found += int(changed.sum())
        centre = np.argwhere(changed).mean(0) if changed.any() else None
        if centre is not None:
            away = np.linalg.norm(4.0 * (np.argwhere(changed) - centre), axis=1)
            assert away.max() < 4 * max(grown.meta["mass_mm"])
    assert found > 200


def test_a_deep_socket_grows_around_the_head_and_takes_nothing_from_it(
    prepared: PreparedSource,
) -> None:
    fov = Fov((-150.0, -80.0, -80.0), (100, 54, 54))
    plain, deep = (
        synthesise(
            prepared, seed=5, spacing_mm=(3.0, 3.0, 3.0), fov=fov,
            config=replace(
                PLAIN, p_deep_socket=chance, socket_reach_mm=(12.0, 12.0), calibrate_means=False
            ),
        )
        for chance in (0.0, 1.0)
    )  # fmt: skip
    changed = plain.labels != deep.labels
    assert np.isin(deep.labels[changed], (33, 133)).all(), "nothing but hip bone grows"
    assert not np.isin(plain.labels[changed] % 100, (34,)).any(), "the femur stays"
    assert (deep.labels == 33).sum() > (plain.labels == 33).sum() + 50
    assert (deep.labels == 133).sum() > (plain.labels == 133).sum() + 50
    where = np.argwhere(changed) * 3.0 + np.array(fov.origin_mm)
    joints = prepared.skeleton.hip
    away = np.min([np.linalg.norm(where - hip, axis=1) for hip in joints], axis=0)
    assert np.quantile(away, 0.95) < 45, "near the joints"

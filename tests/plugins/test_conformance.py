"""Every plugin that mskt itself announces passes the kit that third parties are asked to pass."""

import pytest

from mskt.core.registry import KINDS, registry
from mskt.testing import parametrize_with_checks
from mskt.testing.maker import SpecMaker

# Options that a plugin needs to be built without trained weights; the checks are about machinery.
UNTRAINED = {"weights": "random"}
TINY = {**UNTRAINED, "variant": "tiny"}
OPTIONS = {
    "unet_bayes": UNTRAINED,
    "unet2d": UNTRAINED,
    "fcn8s": UNTRAINED,
    "unet25d": TINY,
    "unetr": TINY,
    "unet3d": TINY,
}
# These need files: they pass the kit in tests/plugins/baselines, where the files are made.
NEED_FILES = {"multi_atlas", "precomputed"}


def makers(kind: str) -> list[SpecMaker]:
    return [
        SpecMaker(announced.spec, announced.module, OPTIONS.get(announced.spec.name, {}))
        for announced in registry().announced(kind)
        if announced.distribution == "mskt" and announced.spec.name not in NEED_FILES
    ]


def test_our_plugins_are_all_there():
    assert not [broken for broken in registry().broken if broken.distribution == "mskt"]
    assert {kind: len(makers(kind)) for kind in KINDS} == {
        "segmenter": len(OPTIONS),
        "uncertainty": 8,
        "metric": 2,
        "loader": 3,
    }


@parametrize_with_checks(*makers("segmenter"), kind="segmenter")
def test_segmenters(check, build):
    check(build)


@parametrize_with_checks(*makers("uncertainty"), kind="uncertainty")
def test_estimators(check, build):
    check(build)


@parametrize_with_checks(*makers("metric"), kind="metric")
def test_metrics(check, build):
    check(build)


@parametrize_with_checks(*makers("loader"), kind="loader")
def test_loaders(check, build):
    check(build)


@pytest.mark.parametrize("measure", ["variance_sum", "entropy", "mutual_information"])
def test_every_measure_of_mcdropout(measure):
    from mskt.testing import run_checks

    announced = registry().find("uncertainty", "mcdropout")
    maker = SpecMaker(announced.spec, announced.module, {"measure": measure})
    bad = [r for r in run_checks(maker, "uncertainty") if r.status in ("failed", "xpass")]
    assert not bad, "\n".join(f"{r.name}: {r.message}" for r in bad)


# A backbone changes the network alone: the checks that look at what the network gives.
OF_A_NETWORK = {
    "check_segmenter_probabilities",
    "check_segmenter_stochastic_tag",
    "check_segmenter_fast_equals_plain",
    "check_segmenter_region_independence",
    "check_segmenter_odd_sizes",
}


@pytest.mark.parametrize("backbone", ["resnet34", "efficientnet-b0", "tu-convnext_tiny", "mit_b0"])
def test_unet_bayes_with_a_backbone(backbone):
    from mskt.testing import checks_for

    announced = registry().find("segmenter", "unet_bayes")
    build = SpecMaker(announced.spec, announced.module, {**UNTRAINED, "backbone": backbone})
    chosen = [check for check in checks_for("segmenter") if check.__name__ in OF_A_NETWORK]
    assert len(chosen) == len(OF_A_NETWORK)
    for check in chosen:
        check(build)

"""What an uncertainty estimator must do."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mskt.core.errors import MsktError
from mskt.core.interfaces import Estimate, UncertaintyEstimator
from mskt.core.seeding import generator
from mskt.testing.memory import peak_bytes
from mskt.testing.outcome import Build, NotApplicable, require

if TYPE_CHECKING:
    from torch import Tensor

CLASSES = 4
SHAPE = (6, 5, 4)
CLOSE = 1e-5


def random_draws(count: int, shape: Sequence[int] = SHAPE, seed: int = 0) -> list[Tensor]:
    """Probability maps that differ from draw to draw, ``(CLASSES, *shape)`` float32."""
    import torch

    draws = []
    for index in range(count):
        logits = 2 * generator(seed, "draw", index).standard_normal((CLASSES, *shape))
        draws.append(torch.from_numpy(logits.astype(np.float32)).softmax(0))
    return draws


def one_hot(classes: NDArray[np.int64]) -> Tensor:
    """Probability 1 for the class named at each voxel."""
    import torch

    return torch.nn.functional.one_hot(torch.from_numpy(classes), CLASSES).movedim(-1, 0).float()


def enough(estimator: UncertaintyEstimator, at_least: int = 4) -> int:
    """A number of draws with which the measure is defined."""
    return max(at_least, estimator.minimum_draws)


def hard_cases(count: int) -> dict[str, list[Tensor]]:
    """Draws at the corners of what can occur."""
    import torch

    zeros = np.zeros(SHAPE, np.int64)
    certain = one_hot(zeros)
    uniform = torch.full((CLASSES, *SHAPE), 1 / CLASSES)
    tiny = torch.full((CLASSES, *SHAPE), 1e-30)
    tiny[0] = 1
    return {
        "identical one-hot draws": [certain] * count,
        "uniform draws": [uniform] * count,
        "one-hot draws that all disagree": [one_hot(zeros + i % CLASSES) for i in range(count)],
        "probabilities of 1e-30": [tiny] * count,
    }


def uncertainty(estimate: Estimate) -> NDArray[np.float64]:
    """The uncertainty map as a float64 array."""
    return np.asarray(estimate.uncertainty.detach().double().cpu().numpy(), np.float64)


def probabilities(estimate: Estimate) -> NDArray[np.float64]:
    """The mean probabilities as a float64 array."""
    return np.asarray(estimate.probabilities.detach().double().cpu().numpy(), np.float64)


def check_estimator_declarations(build: Build) -> None:
    """Needs, unit, range, measure and numbers of draws are declared."""
    estimator = build()
    needs = getattr(estimator, "needs", None)
    require(
        needs in ("any", "stochastic", "members"),
        f"needs is {needs!r}",
        "Set needs = 'any', 'stochastic' or 'members'.",
    )
    for name in ("unit", "measure"):
        text = getattr(estimator, name, None)
        require(
            isinstance(text, str) and text,
            f"{name} is {text!r}",
            f"Set {name} to a text: it becomes a column of the results table.",
        )
    limits = getattr(estimator, "range", None)
    require(
        isinstance(limits, tuple)
        and len(limits) == 2
        and limits[0] < limits[1]
        and math.isfinite(limits[0]),
        f"range is {limits!r}",
        "Set range = (value of no uncertainty, largest possible value).",
    )
    draws, minimum = getattr(estimator, "draws", None), estimator.minimum_draws
    require(
        isinstance(draws, int) and 1 <= minimum <= draws,
        f"draws is {draws!r} and minimum_draws {minimum!r}",
        "Set draws to the number the pipeline should ask for, at least minimum_draws ≥ 1.",
    )


def check_estimator_shapes(build: Build) -> None:
    """Probabilities keep the shape of a draw, uncertainty has one value a voxel."""
    for shape in (SHAPE, (1, 1, 1), (7, 3, 1)):
        estimator = build()
        estimate = estimator.reduce(iter(random_draws(enough(estimator), shape)))
        found = (tuple(estimate.probabilities.shape), tuple(estimate.uncertainty.shape))
        expected = ((CLASSES, *shape), shape)
        require(
            found == expected,
            f"reduce() gave the shapes {found}, expected {expected}",
            "Return Estimate(mean over the draws (C, *shape), one value a voxel (shape)): "
            "reduce the class axis of the uncertainty, squeeze no axis of the image.",
        )
        require(
            estimate.uncertainty.is_floating_point(),
            f"the uncertainty has the type {estimate.uncertainty.dtype}",
            "Return float32.",
        )


def check_estimator_mean(build: Build) -> None:
    """The probabilities are the plain mean over the draws, and sum to 1."""
    estimator = build()
    draws = random_draws(enough(estimator))
    found = probabilities(estimator.reduce(iter(draws)))
    expected = np.mean([draw.double().numpy() for draw in draws], axis=0)
    worst = float(np.abs(found - expected).max())
    require(
        worst <= CLOSE,
        f"the probabilities differ from the mean of the draws by {worst:.2g}",
        "Return sum / count over all draws, unweighted, accumulated in float32.",
    )


def check_estimator_none(build: Build) -> None:
    """Identical, certain draws have the smallest value of the declared range."""
    estimator = build()
    smallest = estimator.range[0]
    classes = np.arange(int(np.prod(SHAPE))).reshape(SHAPE) % CLASSES
    found = uncertainty(estimator.reduce(iter([one_hot(classes)] * enough(estimator))))
    worst = float(np.abs(found - smallest).max())
    require(
        worst <= CLOSE,
        f"identical one-hot draws are {worst:.2g} away from range[0]={smallest}",
        "Draws that agree with certainty mean no uncertainty: check the formula, or declare "
        "its true minimum in range.",
    )


def check_estimator_responds(build: Build) -> None:
    """Uniform or disagreeing draws are more uncertain than certain ones that agree."""
    estimator = build()
    cases = hard_cases(enough(estimator))
    least, uniform, disagree = (
        float(uncertainty(estimator.reduce(iter(cases[name]))).mean())
        for name in ("identical one-hot draws", "uniform draws", "one-hot draws that all disagree")
    )
    require(
        max(uniform, disagree) > least + CLOSE,
        "neither uniform nor disagreeing draws are more uncertain than certain ones "
        f"({uniform:.3g}, {disagree:.3g}, {least:.3g})",
        "Larger must mean less certain: turn the sign, or check that the draws are used.",
    )


def check_estimator_range(build: Build) -> None:
    """No draws lead out of the declared range."""
    estimator = build()
    count = enough(estimator)
    low, high = estimator.range
    slack = CLOSE * (1 + (abs(high) if math.isfinite(high) else 0))
    for name, draws in {**hard_cases(count), "random draws": random_draws(count)}.items():
        found = uncertainty(estimator.reduce(iter(draws)))
        inside = found[np.isfinite(found)]
        require(
            inside.size == 0 or (inside.min() >= low - slack and inside.max() <= high + slack),
            f"{name}: uncertainty from {inside.min():.4g} to {inside.max():.4g} leaves the "
            f"declared range {estimator.range}",
            "Declare the range that the formula can reach for any number of classes and draws.",
        )


def check_estimator_finite(build: Build) -> None:
    """The result is finite for zeros, ones, equal and tiny probabilities."""
    estimator = build()
    for name, draws in hard_cases(enough(estimator)).items():
        estimate = estimator.reduce(iter(draws))
        maps = (uncertainty(estimate), probabilities(estimate))
        require(
            all(np.isfinite(found).all() for found in maps),
            f"{name}: the result has NaN or infinite values",
            "Use torch.xlogy or clamp before log and division; clamp variances at 0.",
        )


def check_estimator_order(build: Build) -> None:
    """The order of the draws does not matter."""
    estimator = build()
    draws = random_draws(enough(estimator, 5))
    first, second = (estimator.reduce(iter(order)) for order in (draws, draws[::-1]))
    worst = float(np.abs(uncertainty(first) - uncertainty(second)).max())
    require(
        worst <= CLOSE,
        f"reversing the draws changes the uncertainty by {worst:.2g}",
        "Treat all draws alike: none is the reference for the others.",
    )


def check_estimator_one_pass(build: Build) -> None:
    """An iterator that can be read once is enough, and all of it is read."""
    estimator = build()
    count = enough(estimator, 6)
    draws = random_draws(count)
    read = []

    class Stream:
        """No length, no index, and a second pass is an error."""

        passes = 0

        def __iter__(self) -> Iterator[Tensor]:
            Stream.passes += 1
            for index, draw in enumerate(draws):
                read.append(index)
                yield draw

    try:
        found = estimator.reduce(Stream())
    except TypeError as error:
        require(
            False,
            f"reduce() needs more than an iterator ({error})",
            "Use one loop over the draws: no len(), no index, no torch.stack of a list.",
        )
        return
    require(
        Stream.passes == 1,
        f"reduce() reads the draws {Stream.passes} times",
        "Use a one-pass formula (Welford's mean and variance, running sums).",
    )
    require(
        len(read) == count,
        f"reduce() reads {len(read)} of {count} draws",
        "Use all draws you are given: the pipeline decides how many.",
    )
    expected = estimator.reduce(iter(draws))
    require(
        np.allclose(uncertainty(found), uncertainty(expected), atol=CLOSE),
        "an iterable and an iterator of the same draws give different results",
        "Use one loop over the draws.",
    )


def check_estimator_no_state(build: Build) -> None:
    """One call leaves nothing behind for the next: the pipeline calls reduce for every region."""
    estimator = build()
    draws = random_draws(enough(estimator))
    first = estimator.reduce(iter(draws))
    estimator.reduce(iter(random_draws(enough(estimator), (3, 2, 1), seed=1)))
    second = estimator.reduce(iter(draws))
    fresh = build().reduce(iter(draws))
    require(
        all(
            np.allclose(uncertainty(first), uncertainty(other), atol=CLOSE)
            for other in (second, fresh)
        ),
        "the same draws give another uncertainty after other draws were reduced",
        "Keep sums in local variables of reduce(), not in self.",
    )


def check_estimator_region_independence(build: Build) -> None:
    """The uncertainty of a voxel does not depend on the other voxels of its region."""
    estimator = build()
    draws = random_draws(enough(estimator), (6, 5, 8))
    whole = uncertainty(estimator.reduce(iter(draws)))
    halves = [
        uncertainty(estimator.reduce(iter([draw[..., part] for draw in draws])))
        for part in (slice(0, 3), slice(3, 8))
    ]
    worst = float(np.abs(np.concatenate(halves, axis=-1) - whole).max())
    require(
        worst <= CLOSE,
        f"a voxel's uncertainty changes by {worst:.2g} with the size of the region",
        "Use each voxel's own draws only: no normalising by the maximum of the map, no smoothing.",
    )


def check_estimator_too_few_draws(build: Build) -> None:
    """Fewer draws than minimum_draws, and none at all, are refused with an explanation."""
    estimator = build()
    for count in sorted({0, estimator.minimum_draws - 1}):
        outcome = "returned a result"
        try:
            estimator.reduce(iter(random_draws(count)))
        except MsktError:
            continue
        except Exception as error:  # any other type is what this check is about
            outcome = f"raised {type(error).__name__}: {error}"
        require(
            False,
            f"reduce() of {count} draws {outcome}",
            "Count the draws, and raise MsktError (for example UsageError) if there are fewer "
            "than minimum_draws.",
        )


def check_estimator_constant_memory(build: Build) -> None:
    """Memory does not grow with the number of draws."""
    import torch

    estimator = build()
    shape = (CLASSES, 16, 16, 16)

    def stream(count: int) -> Iterable[Tensor]:
        for index in range(count):
            yield torch.full(shape, 1 / (index + 2)).softmax(0)

    few = enough(estimator)
    small = peak_bytes(lambda: estimator.reduce(stream(few)))
    large = peak_bytes(lambda: estimator.reduce(stream(few + 24)))
    one = int(np.prod(shape)) * 4
    more = (large - small) / one
    require(
        more <= 2,
        f"24 more draws take the memory of {more:.0f} more draws",
        "Add each draw to running sums and let it go: no list, no torch.stack.",
    )


def check_estimator_input_unchanged(build: Build) -> None:
    """The draws are not written into."""
    estimator = build()
    draws = random_draws(enough(estimator))
    before = [draw.clone() for draw in draws]
    estimator.reduce(iter(draws))
    require(
        all(bool((a == b).all()) for a, b in zip(draws, before, strict=True)),
        "reduce() changed a draw it was given",
        "The first draw is not yours to accumulate into: start from torch.zeros_like(draw).",
    )


def check_estimator_bfloat16(build: Build) -> None:
    """Draws in bfloat16 are accepted, and accumulated in float32."""
    estimator = build()
    draws = [draw.bfloat16() for draw in random_draws(max(estimator.minimum_draws, 40))]
    found = estimator.reduce(iter(draws))
    exact = estimator.reduce(iter([draw.float() for draw in draws]))
    worst = max(
        float(np.abs(probabilities(found) - probabilities(exact)).max()),
        float(np.abs(uncertainty(found) - uncertainty(exact)).max()),
    )
    require(
        worst <= 1e-3,
        f"bfloat16 draws change the result by {worst:.2g}",
        "Convert each draw with .float() before adding it up.",
    )


def check_estimator_samples_option(build: Build) -> None:
    """A maker that takes the option ``samples`` asks for as many draws: ``--samples`` works."""
    if "samples" not in inspect.signature(build).parameters:
        raise NotApplicable("the maker has no option samples")
    wanted = build().minimum_draws + 6
    found = build(samples=wanted).draws  # type: ignore[call-arg]
    require(
        found == wanted,
        f"made with samples={wanted}, the estimator asks for {found} draws",
        "Keep the option: self.draws = samples.",
    )

"""What the user asked of ``mskt run``, and the part of it that decides the numbers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mskt.core.errors import UsageError


def not_both(*, resume: bool, overwrite: bool) -> None:
    """Refuse a call that keeps finished cases and computes them again.

    Raises:
        UsageError: both are asked for.
    """
    if resume and overwrite:
        raise UsageError(
            "--resume and --overwrite",
            "contradict each other.",
            "--resume keeps finished cases, --overwrite computes them again.",
        )


@dataclass(frozen=True)
class RunOptions:
    """The call. None means: not given, the plugin's own default holds.

    Attributes:
        extra: ``--option NAME=VALUE``: further options of the segmenter.
        calibration: a file, the name of a shipped one, or ``auto``.
        part_id: this process takes cases number ``part_id``, ``part_id + num_parts``, …
    """

    inputs: tuple[Path, ...]
    out: Path
    segmenter: str
    uncertainty: str
    weights: str | None = None
    backbone: str | None = None
    measure: str | None = None
    measures: str | None = None
    aggregation: str | None = None
    calibration: str | None = None
    force_calibration: bool = False
    samples: int | str | None = None
    seed: int = 0
    fast: bool | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    device: str = "auto"
    precision: str | None = None
    threads: int | None = None
    label_set: str | None = None
    roi_subset: tuple[str, ...] | None = None
    split_sides: bool = False
    series: str | None = None
    allow: frozenset[str] = frozenset()
    height_m: float | None = None
    resume: bool = False
    overwrite: bool = False
    num_parts: int = 1
    part_id: int = 0
    report: bool = False
    json: bool = False
    quiet: bool = False
    verbose: bool = False

    def check(self) -> None:
        """Refuse combinations that contradict each other.

        Raises:
            UsageError: with what to leave out.
        """
        not_both(resume=self.resume, overwrite=self.overwrite)
        if self.part_id >= self.num_parts:
            raise UsageError(
                "--part-id",
                f"{self.part_id} is not below --num-parts {self.num_parts}.",
                f"Parts are numbered 0 … {self.num_parts - 1}.",
            )
        if self.roi_subset == ():
            raise UsageError(
                "--roi-subset", "names no structure.", "Give names separated by commas."
            )
        if self.force_calibration and self.calibration in (None, "auto"):
            raise UsageError(
                "--force-calibration",
                "needs a calibration to force.",
                "Name it: --calibration FILE. 'auto' takes none but one that fits.",
            )

    @property
    def segmenter_options(self) -> dict[str, Any]:
        """What the segmenter's factory gets, as far as it was given."""
        named = {
            "weights": self.weights,
            "backbone": self.backbone,
            "precision": self.precision,
        }
        return {**{key: value for key, value in named.items() if value is not None}, **self.extra}

    @property
    def estimator_options(self) -> dict[str, Any]:
        """What the estimator's factory gets, as far as it was given."""
        named = {
            "samples": self.samples,
            "measure": self.measure,
            "measures": self.measures,
            "aggregation": self.aggregation,
        }
        return {key: value for key, value in named.items() if value is not None}

    def settings(
        self, providers: Mapping[str, str], calibration: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Everything that decides the numbers, and nothing else: no device, no path, no time.

        Args:
            providers: distribution and version of the plugins used.
            calibration: which one it is (:attr:`mskt.cli.judging.Chosen.settings`). Without one
                there is no entry, so that runs from before there were calibrations can be resumed.
        """
        from mskt import __version__

        return {
            "mskt": __version__,
            **providers,
            "segmenter": self.segmenter,
            "uncertainty": self.uncertainty,
            "weights": self.weights and ",".join(Path(w).name for w in self.weights.split(",")),
            "backbone": self.backbone,
            "measure": self.measure,
            "measures": self.measures,
            "aggregation": self.aggregation,
            "samples": self.samples,
            "seed": self.seed,
            "fast": bool(self.fast),
            "extra": {key: _without_folders(self.extra[key]) for key in sorted(self.extra)},
            "label_set": self.label_set and Path(self.label_set).name,
            "roi_subset": list(self.roi_subset) if self.roi_subset else None,
            "split_sides": self.split_sides,
            "series": self.series,
            "allow": sorted(self.allow),
            "height_m": self.height_m,
            # Like a calibration it has no entry if it is not given: older runs can be resumed.
            **({} if self.precision is None else {"precision": self.precision}),
            **(calibration or {}),
        }


def _without_folders(value: Any) -> Any:
    """Of a path, or a data set with a path in it, only the last name goes into a record."""
    return value.replace("\\", "/").rsplit("/", 1)[-1] if isinstance(value, str) else value


def run_id(settings: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """Twelve hexadecimal digits that are the same for the same settings, weights and version.

    Args:
        settings: :meth:`RunOptions.settings`.
        facts: ``Segmenter.describe()``; the device in it does not count.
    """
    counted = {key: value for key, value in facts.items() if key != "device"}
    text = json.dumps([settings, counted], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def parse_extra(pairs: list[str]) -> dict[str, Any]:
    """``NAME=VALUE`` pairs; numbers, ``true`` and ``false`` become what they say.

    Raises:
        UsageError: a pair without ``=`` or a name twice.
    """
    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not name.isidentifier():
            raise UsageError(
                "--option", f"{pair!r} is no NAME=VALUE.", "For example: --option variant=6layers"
            )
        if name in found:
            raise UsageError("--option", f"{name!r} is given twice.", "Give every option once.")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


def parse_samples(text: str | None) -> int | str | None:
    """A number of draws, or ``auto``.

    Raises:
        UsageError: neither, or no draw at all.
    """
    if text is None or text == "auto":
        return text
    if not text.isdecimal() or int(text) < 1:
        raise UsageError("--samples", f"{text!r} is no number of draws.", "Give 10, or auto.")
    return int(text)

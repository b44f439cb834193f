"""A fixed number of cases of a stream, made once, kept on disk and shown again and again.

For cases that cost more than the steps that learn from them, and for several trainings (members of an
ensemble, planes, systems to be compared) that shall see the same patients.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import mskt
from mskt.core import atomic
from mskt.core.anatomy import LabelSet
from mskt.core.seeding import generator
from mskt.training.cases import CaseStream, TrainingCase

FORMAT = 1
"""Raised when kept cases of an older mskt must not be used any more."""


@dataclass(frozen=True)
class KeptStream(CaseStream):
    """The first ``count`` cases of a stream, epoch after epoch, each epoch in an order of its own.

    Attributes:
        stream: that makes them.
        count: how many.
        folder: where they lie; shared by runs, since a case is a function of stream and number.
        label_set, spacing_mm: of the stream.
        seed: of the order.
    """

    stream: CaseStream
    count: int
    folder: str
    label_set: LabelSet
    spacing_mm: tuple[float, float, float]
    seed: int = 0

    @classmethod
    def of(
        cls, stream: CaseStream, count: int, cache: Path, facts: object, seed: int = 0
    ) -> KeptStream:
        """Keep cases below ``cache``, in a folder named after all that they depend on.

        Args:
            stream: what makes the cases.
            count: how many of them.
            cache: of the run; may be shared.
            facts: what ``stream.describe()`` does not tell, such as checksums; JSON-ready.
            seed: of the order.
        """
        known = [FORMAT, mskt.__version__, stream.describe(), facts]
        name = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()
        return cls(stream, count, str(cache / name), stream.label_set, stream.spacing_mm, seed)

    def case(self, number: int) -> TrainingCase:
        """Case ``number``: of the place that it has in its epoch.

        Raises:
            OutputError: it cannot be written.
        """
        epoch, place = divmod(number, self.count)
        order = generator(self.seed, "epoch", epoch).permutation(self.count)
        return self.kept(int(order[place]))

    def kept(self, own: int) -> TrainingCase:
        """Case ``own`` of the stream, from disk if it is there and whole."""
        file = Path(self.folder) / f"case_{own:05d}.npz"
        found = _read(file)
        if found is None:
            found = self.stream.case(own)
            atomic.make_folder(file.parent)
            _write(file, found)
        return found

    def describe(self) -> Mapping[str, Any]:
        """The stream, and how many of its cases are used."""
        return {**self.stream.describe(), "kept_cases": self.count}


def _read(file: Path) -> TrainingCase | None:
    try:
        with file.open("rb") as raw, np.load(raw) as held:
            told = json.loads(str(held["told"]))
            body = np.unpackbits(held["body"], count=held["image"].size).astype(bool)
            image: np.ndarray[Any, np.dtype[np.int16]] = held["image"]
            return TrainingCase(
                image,
                held["target"],
                body.reshape(image.shape),
                None if told["known"] is None else tuple(told["known"]),
                told["patient"],
            )
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None


def _write(file: Path, case: TrainingCase) -> None:
    told = json.dumps({"known": case.known, "patient": case.patient})
    body = np.packbits(case.body)
    with atomic.writing(file) as out:
        np.savez(out, image=case.image, target=case.target, body=body, told=np.array(told))

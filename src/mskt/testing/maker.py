"""A maker from an announcement: what ``mskt plugins check`` gives to the checks."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mskt.core.specs import Spec


@dataclass(frozen=True)
class SpecMaker:
    """Builds what a spec announces. Can be sent to another process: it holds addresses only.

    Attributes:
        spec: what is announced.
        announced_in: the module whose hook yields the spec.
        options: for the factory.
    """

    spec: Spec
    announced_in: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, **more: Any) -> Any:
        """A fresh object."""
        return self.spec.load()(**{**self.options, **more})

    @property
    def __signature__(self) -> inspect.Signature:
        """That of the factory, so that checks see its options."""
        return inspect.signature(self.spec.load())

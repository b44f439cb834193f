"""``scripts/average_weights.py``."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "scripts" / "average_weights.py"


@pytest.fixture(scope="module")
def mean():
    spec = importlib.util.spec_from_file_location("average_weights", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.mean


def test_mean_of_weights(mean):
    """In half precision too; a counter is no weight."""
    sets = [
        {"weight": torch.full((2, 3), value).half(), "batches": torch.tensor(int(value))}
        for value in (1.0, 2.0, 6.0)
    ]
    found = mean(sets)
    assert found["weight"].dtype == torch.float16 and (found["weight"] == 3).all()
    assert found["batches"] == 6


def test_other_networks_are_refused(mean):
    one = {"weight": torch.zeros(2, 3)}
    for other in ({"weight": torch.zeros(3, 2)}, {"bias": torch.zeros(2, 3)}):
        with pytest.raises(SystemExit, match="not of the same network"):
            mean([one, other])

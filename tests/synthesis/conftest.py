from __future__ import annotations

import pytest

from mskt.synthesis.labelmap import LabelMap
from mskt.synthesis.source import PreparedSource, prepare


@pytest.fixture(scope="session")
def prepared(ellipsoid_person: LabelMap) -> PreparedSource:
    return prepare(ellipsoid_person)

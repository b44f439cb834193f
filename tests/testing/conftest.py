"""The kit's markers, also where mskt is on the path without being installed."""

from mskt.testing import pytest_markers


def pytest_configure(config):
    pytest_markers.pytest_configure(config)

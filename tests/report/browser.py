"""A browser for the pages, or a reason why there is none."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

REQUIRED = "MSKT_REQUIRE_BROWSER"
"""Set where a missing browser is a fault: continuous integration."""
_ARGUMENTS = [
    "--no-sandbox",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--no-first-run",
    "--disable-background-networking",
]


def executable() -> str:
    """The path of Chromium, or a skip with the reason."""
    found = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if found is None:
        if os.environ.get(REQUIRED):
            pytest.fail("no Chromium, which this run requires")
        pytest.skip("no Chromium on this machine")
    return found


@contextmanager
def launched() -> Iterator[Any]:
    """A browser without a window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable(), args=_ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened(browser: Any, page: Path, *, height: int = 1000) -> Iterator[tuple[Any, list[str]]]:
    """The page in the browser, and what it asked of the network or complained of."""
    complaints: list[str] = []
    view = browser.new_page(viewport={"width": 1400, "height": height})
    view.on("pageerror", lambda error: complaints.append(f"error: {error}"))
    view.on("console", lambda line: complaints.append(line.text) if line.type == "error" else None)
    view.on(
        "request",
        lambda request: (
            None
            if request.url.startswith(("file:", "data:", "blob:"))
            else complaints.append(f"request: {request.url}")
        ),
    )
    try:
        view.goto(page.as_uri())
        yield view, complaints
    finally:
        view.close()

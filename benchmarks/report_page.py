"""How large the page of a case is, how long it takes to make, and how long until a browser shows it.

    mskt phantom --count 1 --seed 5 --spacing 0.8,0.8,1 --out large
    mskt run large -s precomputed -u deterministic --option masks=large/labelsTr --out run
    python benchmarks/report_page.py run large

Chromium draws without a graphics card here (SwiftShader), which is the slowest that there is. A fresh
browser each time; medians of the repetitions. The clock starts when the browser is told to open the file.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ARGUMENTS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]


def once(playwright: Any, page: Path) -> dict[str, float]:
    """Open the page in a new browser; seconds until each stage."""
    browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS)
    view = browser.new_page(viewport={"width": 1400, "height": 1000})
    begin = time.perf_counter()
    view.goto(page.as_uri(), wait_until="domcontentloaded")
    found = {"numbers": time.perf_counter() - begin}
    for stage, mark in (("slices", "slices"), ("surfaces", "ready")):
        view.wait_for_selector(f"html[data-{mark}]", state="attached", timeout=120_000)
        found[stage] = time.perf_counter() - begin
    browser.close()
    return found


def main() -> None:
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path, help="folder of mskt run")
    parser.add_argument("images", type=Path, help="its images")
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()
    begin = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "mskt", "report", str(args.run), str(args.images), "-q"], check=True
    )
    made = time.perf_counter() - begin
    pages = sorted(args.run.glob("*/report.html"))
    print("| case | MB | numbers, s | slices, s | surfaces, s |\n|---|---|---|---|---|")
    with sync_playwright() as playwright:
        for page in pages:
            runs = [once(playwright, page) for _ in range(args.repeat)]
            times = [f"{statistics.median(run[name] for run in runs):.2f}" for name in runs[0]]
            print(f"| {page.parent.name} | {page.stat().st_size / 1e6:.1f} | {' | '.join(times)} |")
    print(f"\nmade in {made / len(pages):.1f} s a case, start of Python and reading included")


if __name__ == "__main__":
    main()

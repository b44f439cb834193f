"""A person opens the report: a real browser draws it, clicks, types, sorts and prints."""

import io
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from browser import executable, launched, opened
from matplotlib.image import imread
from typer.testing import CliRunner

from mskt.cli import app
from mskt.core.registry import registry

PLUGIN = Path(__file__).parents[1] / "cli" / "plugin"
READY = "html[data-ready], html[data-failed]"
pytestmark = pytest.mark.slow


def save_leg(path, seed):
    """Two thighs with a muscle and a bone each; the right one is doubtful to the fake segmenter."""
    i, j, _ = np.meshgrid(*(np.arange(n) for n in (40, 30, 24)), indexing="ij")
    hu = np.full((40, 30, 24), -1000.0)
    for centre, radius, muscle in ((11, 8, 50), (28, 10, 5)):
        distance = np.hypot(i - centre, j - 15)
        hu[distance < radius] = muscle
        hu[distance < 2.5] = 700
    inside = hu > -500
    hu[inside] += np.random.default_rng(seed).normal(0, 20, int(inside.sum()))
    image = nib.Nifti1Image(hu.astype(np.int16), np.diag([4.0, 4.0, 5.0, 1.0]))
    image.set_sform(image.affine, 1)
    image.to_filename(path)


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """Three cases with pages, made once; skipped where no browser could open them."""
    executable()
    folder = tmp_path_factory.mktemp("browser")
    (folder / "in").mkdir()
    for number in range(3):
        save_leg(folder / "in" / f"case{number}.nii.gz", number)
    sys.path.insert(0, str(PLUGIN))
    registry.cache_clear()
    try:
        call = [
            "run",
            str(folder / "in"),
            "--segmenter",
            "fake",
            "--samples",
            "3",
            "--report",
            "-q",
        ]
        result = CliRunner().invoke(app, [*call, "--out", str(folder / "out")])
        assert result.exit_code == 0, result.output
    finally:
        sys.path.remove(str(PLUGIN))
        registry.cache_clear()
    return folder / "out"


@pytest.fixture(scope="module")
def browser(reports):
    with launched() as found:
        yield found


def pixels(view, canvas):
    """What the canvas shows, as a person sees it."""
    return imread(io.BytesIO(view.locator(f"#{canvas}").screenshot()))[..., :3]


def changed(before, after):
    """Share of pixels that look different."""
    return float((np.abs(before - after).max(axis=-1) > 0.05).mean())


def drawn(view, canvas, before, share):
    """Wait until so much of the canvas looks different, ten seconds at most; returns its pixels."""
    for _ in range(50):
        now = pixels(view, canvas)
        if changed(before, now) > share:
            return now
        view.wait_for_timeout(200)
    raise AssertionError(f"{canvas} has not changed by {share}")


@pytest.fixture(scope="module")
def case_page(browser, reports):
    with opened(browser, reports / "case0" / "report.html", height=1100) as (view, complaints):
        view.wait_for_selector(READY, state="attached", timeout=120_000)
        yield view, complaints


def test_the_viewer_starts_and_asks_nothing_of_the_network(case_page):
    view, complaints = case_page
    assert view.locator("html").get_attribute("data-failed") is None
    assert complaints == []


def test_slices_are_grey_with_coloured_labels_and_surfaces_are_there(case_page):
    view, _ = case_page
    slices, solid = pixels(view, "slices"), pixels(view, "solid")
    coloured = np.ptp(slices, axis=-1) > 0.15
    assert 0.01 < coloured.mean() < 0.9
    assert (slices.max(axis=-1) < 0.02).mean() > 0.05  # air
    assert 0.02 < (np.ptp(solid, axis=-1) > 0.1).mean() < 0.9


def test_keys_and_boxes_change_the_layers(case_page):
    view, _ = case_page
    with_labels = pixels(view, "slices")
    view.keyboard.press("q")
    plain = drawn(view, "slices", with_labels, 0.01)
    assert not view.locator("#show-labels").is_checked()
    coloured = [(np.ptp(one, axis=-1) > 0.15).mean() for one in (with_labels, plain)]
    assert coloured[1] < 0.5 * coloured[0]  # the crosshair keeps its colour
    view.locator("#show-doubt").check()
    doubt = drawn(view, "slices", plain, 0.002)
    view.locator("#show-doubt").uncheck()
    drawn(view, "slices", doubt, 0.002)
    view.keyboard.press("e")
    tissue = drawn(view, "slices", plain, 0.01)
    view.keyboard.press("e")
    drawn(view, "slices", tissue, 0.01)
    view.keyboard.press("4")
    drawn(view, "slices", plain, 0.01)
    assert view.locator("button.window[aria-pressed=true]").inner_text().endswith("bone")
    view.keyboard.press("1")
    view.keyboard.press("q")


def test_a_click_on_a_structure_goes_there(case_page):
    view, _ = case_page
    button = view.locator("#structures button.name", has_text="femur").first
    place = [round(float(value)) for value in button.get_attribute("data-mm").split(",")]
    before = pixels(view, "solid")
    button.click()
    drawn(view, "solid", before, 0.01)  # the others become transparent
    told = view.locator("#readout").inner_text()
    assert "femur" in told and " HU" in told
    shown = [int(part) for part in told.split(" mm")[0].split(",")]
    assert np.abs(np.subtract(shown, place)).max() <= 3


def test_arrow_keys_move_the_axial_slice(case_page):
    view, _ = case_page
    readout = view.locator("#readout")
    before = readout.inner_text()
    view.locator("#slices").focus()
    view.keyboard.press("ArrowUp")
    drawn(view, "slices", pixels(view, "slices"), -1)
    heights = [int(text.split(" mm")[0].split(",")[2]) for text in (before, readout.inner_text())]
    assert heights[1] > heights[0]


def test_surfaces_can_be_chosen(case_page):
    view, _ = case_page
    everything = pixels(view, "solid")
    view.locator("#surfaces").select_option("bone")
    drawn(view, "solid", everything, 0.01)
    view.locator("#surfaces").select_option("all")


def test_the_table_sorts_by_click_and_by_key(case_page):
    view, _ = case_page
    heading = view.locator("#structures thead th", has_text="HU").first
    column = "#structures tbody tr td:nth-of-type(3)"

    def values():
        texts = view.locator(column).evaluate_all(
            "cells => cells.map(c => c.firstChild.textContent)"
        )
        return [float(text) for text in texts if text.strip()]

    heading.click()
    assert values() == sorted(values()) and len(values()) >= 4
    heading.press("Enter")
    assert values() == sorted(values(), reverse=True)


def test_it_prints_without_the_viewer(case_page):
    view, _ = case_page
    view.emulate_media(media="print")
    assert not view.locator("#viewer").is_visible()
    assert view.locator("#structures table").is_visible()
    assert view.locator("#preview img").is_visible()
    assert view.pdf()[:5] == b"%PDF-"
    view.emulate_media(media="screen")


def test_a_page_without_the_ct_shows_labels(browser, reports, tmp_path):
    target = tmp_path / "out"
    (target / "case1").mkdir(parents=True)
    for file in (reports / "case1").iterdir():
        (target / "case1" / file.name).write_bytes(file.read_bytes())
    (target / "results.csv").write_bytes((reports / "results.csv").read_bytes())
    assert CliRunner().invoke(app, ["report", str(target), "-q"]).exit_code == 0
    with opened(browser, target / "case1" / "report.html") as (view, complaints):
        view.wait_for_selector(READY, state="attached", timeout=120_000)
        assert complaints == []
        assert view.locator("button.window").first.is_disabled()
        assert (np.ptp(pixels(view, "slices"), axis=-1) > 0.15).mean() > 0.01


def test_the_overview_filters_sorts_and_leads_to_the_cases(browser, reports):
    with opened(browser, reports / "report.html") as (view, complaints):
        rows = view.locator("#case-table tbody tr")
        assert rows.count() == 3
        view.locator("input[data-filters]").fill("case2")
        assert [row.is_visible() for row in rows.all()].count(True) == 1
        view.locator("#case-table a:visible").click()
        view.wait_for_selector(READY, state="attached", timeout=120_000)
        assert view.locator("h1").inner_text() == "case2"
        assert complaints == []

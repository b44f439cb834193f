"""The picture: size, sides, marks; looked at through its pixels."""

import io
from itertools import islice, pairwise

import numpy as np
import pytest
from matplotlib.image import imread

from mskt.analysis.flags import FlagRow
from mskt.core.anatomy import label_set
from mskt.core.volume import Labels, Volume
from mskt.report import preview, views
from mskt.report.flagged import remarks
from mskt.report.preview import Caption, render

MSK22 = label_set("msk22")
RED, BLUE = 1, 2  # gluteus maximus (red) on the patient's right, medius (blue) on the left
CAPTION = Caption("case", "mskt · fake + mcdropout", "predictive_variance_mean", "1")


def body(first_axis_right=True):
    """A box of a body with a red block on the patient's right and a blue one on the left."""
    shape = (60, 40, 50)
    labels = np.zeros(shape, np.uint8)
    labels[40:52, 10:30, 10:40] = RED
    labels[8:20, 10:30, 10:40] = BLUE
    labels[24:28, 14:22, 5:45] = 21
    hu = np.where(labels > 0, 50.0, -1000.0).astype(np.float32)
    affine = np.diag([3.0, 3.0, 5.0, 1.0])
    if not first_axis_right:
        labels, hu = labels[::-1], hu[::-1]
        affine[0, 0] = -3.0
    sides = np.where(labels == BLUE, 2, np.where(labels > 0, 1, 0)).astype(np.uint8)
    return Volume(hu, affine), Labels(labels, affine, MSK22), sides


def picture(volume, labels, sides, caption=CAPTION, uncertainty=None):
    if uncertainty is None:
        uncertainty = np.where(labels.data == BLUE, 0.05, 0.0).astype(np.float32)
    png = render(volume, labels, sides, uncertainty, caption)
    assert len(png) < 2_500_000
    return imread(io.BytesIO(png))[..., :3]


def columns_of(pixels, channel):
    """Where a colour is strong, in the first picture of the upper row."""
    upper = pixels[150 : pixels.shape[0] // 2, : 3 * pixels.shape[1] // 10]
    others = [c for c in range(3) if c != channel]
    strong = (upper[..., channel] > 0.3) & (upper[..., channel] > 1.6 * upper[..., others].max(-1))
    return np.flatnonzero(strong.any(axis=0))


@pytest.mark.parametrize("first_axis_right", [True, False])
def test_the_patients_right_is_on_the_left(first_axis_right):
    pixels = picture(*body(first_axis_right))
    assert pixels.shape[1] == 2100
    red, blue = columns_of(pixels, 0), columns_of(pixels, 2)
    assert red.size > 10 and blue.size > 10
    assert red.max() < blue.min()


def test_orientation_marks_and_warning_are_drawn():
    pixels = picture(*body())
    amber = (pixels[..., 0] > 0.9) & (np.abs(pixels[..., 1] - 0.69) < 0.1) & (pixels[..., 2] < 0.2)
    assert amber[:100, 1600:].sum() > 200  # research use
    assert amber[150:].sum() > 200  # letters
    assert amber[:100, 600:1400].sum() == 0
    loud = picture(*body(), Caption("case", "", "m", "1", synthetic=True))
    amber = (loud[..., 0] > 0.9) & (np.abs(loud[..., 1] - 0.69) < 0.1) & (loud[..., 2] < 0.2)
    assert amber[:100, 600:1400].sum() > 200


def test_uncertainty_shows_where_it_is():
    volume, labels, sides = body()
    certain = picture(volume, labels, sides, uncertainty=np.zeros(labels.data.shape, np.float32))
    doubtful = picture(volume, labels, sides)
    lower = slice(certain.shape[0] // 2, None)
    assert np.abs(doubtful[lower] - certain[lower]).sum() > 1000


def test_nothing_segmented_is_a_picture_too():
    volume, labels, sides = body()
    empty = Labels(np.zeros_like(labels.data), labels.affine, MSK22)
    assert picture(volume, empty, np.zeros_like(sides)).shape[1] == 2100


def test_one_slice():
    volume, labels, sides = body()
    cut = (slice(None), slice(None), slice(20, 21))
    picture(
        Volume(volume.data[cut], volume.affine),
        Labels(labels.data[cut], labels.affine, MSK22),
        sides[cut],
        uncertainty=np.zeros((60, 40, 1), np.float32),
    )


def test_levels_follow_the_femur():
    shape = (60, 40, 150)
    labels = np.zeros(shape, np.uint8)
    labels[40:46, 15:21, 10:100] = 21  # 450 mm of right femur
    labels[12:18, 15:21, 10:100] = 21
    labels[10:50, 10:30, 90:120] = np.maximum(labels[10:50, 10:30, 90:120], 20)
    affine = np.diag([3.0, 3.0, 5.0, 1.0])
    volume = Volume(np.zeros(shape, np.float32), affine)
    sides = np.zeros(shape, np.uint8)
    sides[30:], sides[:30] = 1, 2
    joint, thigh, coronal, sagittal = views.choose(labels, sides, volume.grid, MSK22)
    assert (joint.title, thigh.title) == ("axial, hip joint", "axial, thigh")
    assert abs(joint.index - 94) <= 2
    assert abs(thigh.index - 56) <= 2
    assert 15 <= coronal.index <= 20
    assert sagittal.title == "sagittal, right hip" and 40 <= sagittal.index < 46


@pytest.mark.parametrize(("right_mm", "shown"), [(15, "left"), (90, "right")])
def test_the_sagittal_slice_shows_a_hip_that_is_there(right_mm, shown):
    """A stray piece on the right is not worth it; a head that is a little smaller is."""
    labels = np.zeros((60, 40, 40), np.uint8)
    labels[10:20, 15:25, 5:35] = 21
    labels[40:50, 15:25, 35 - right_mm // 3 : 35] = 21
    sides = np.zeros(labels.shape, np.uint8)
    sides[30:], sides[:30] = 1, 2
    volume = Volume(np.zeros(labels.shape, np.float32), np.diag([3.0, 3.0, 3.0, 1.0]))
    *_, sagittal = views.choose(labels, sides, volume.grid, MSK22)
    assert sagittal.title == f"sagittal, {shown} hip"


def test_a_thin_slab_leaves_room_for_its_axial_pictures():
    from types import SimpleNamespace

    flat = SimpleNamespace(hu=np.zeros((24, 512)), mm=(1.0, 1.0))
    axial = SimpleNamespace(hu=np.zeros((350, 512)), mm=(1.0, 1.0))
    page = preview._Page.of([axial, axial, flat, flat], 10)
    assert page.widths[0] > 2.0, "inches"
    assert sum(page.widths) <= preview._WIDTH_IN


def flagged(**flags):
    """Both sides of the first structures of the label set, so many of each flag."""
    names = iter(sorted((s.name for s in MSK22.structures), key=len, reverse=True))
    return [
        FlagRow(name, side, flag, None, None, None, "")
        for flag, count in flags.items()
        for name in islice(names, count)
        for side in ("left", "right")
    ]


def with_remarks(told):
    return picture(*body(), Caption("case", "", "m", "1", remarks=told))


def colour(pixels, rgb):
    return (np.abs(pixels - np.array(rgb)) < 0.05).all(axis=-1)


RED_TEXT, AMBER_TEXT = (1, 0.333, 0.282), (1, 0.69, 0)


def test_flags_stand_between_heading_and_pictures_and_cover_nothing():
    plain = picture(*body())
    told = remarks(
        flagged(failed=12, inaccurate=7, unknown=3), "c" * 300, ["made for another method " * 12]
    )
    assert len(told) == 5
    pixels = with_remarks(told)
    more = pixels.shape[0] - plain.shape[0]
    assert abs(more - 5 * preview._REMARK * 140) < 2, "the page grows by the lines"
    # What is below is as it was, so the lines lie in the room that was made for them.
    first = round((preview._REMARKS - 0.04) * 140)
    last = first + more
    np.testing.assert_array_equal(pixels[last + 2 :][:600], plain[first + 2 :][:600])
    block = pixels[first : last + 2]
    assert colour(block, RED_TEXT).sum() > 300 and colour(block, AMBER_TEXT).sum() > 300
    red, amber = (np.flatnonzero(colour(block, c).any(axis=1)) for c in (RED_TEXT, AMBER_TEXT))
    assert red.max() < amber.min()
    assert block[:, -25:].max() < 0.1, "no line runs off the page"
    assert block[:, 1600:].max() > 0.5, "the longest lines were tried"
    gaps = [row.max() < 0.1 for row in block]
    assert sum(1 for a, b in pairwise(gaps) if a and not b) == 5


def test_where_nearly_all_failed_the_letters_are_to_be_looked_at():
    def warnings(**flags):
        return [one.text for one in remarks(flagged(**flags), "c") if one.tone == "warning"]

    (hint,) = warnings(failed=9, ok=2)
    assert hint.startswith("18 of 22 structures are probably wrong") and not hint.endswith("…")
    assert warnings(failed=6, ok=4) == []


def test_a_case_without_flags_says_so_in_no_alarming_colour():
    pixels = with_remarks(remarks(flagged(ok=4), "c.json"))
    block = pixels[round((preview._REMARKS - 0.04) * 140) :][: round(2 * preview._REMARK * 140)]
    assert not colour(block, RED_TEXT).any() and not colour(block, AMBER_TEXT).any()
    assert colour(block, (0.91, 0.91, 0.91)).sum() > 50

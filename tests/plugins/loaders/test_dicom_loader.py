from __future__ import annotations

import io
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from bodies import rotation, thigh, volume
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.uid import JPEGLSLossless, RLELossless

from mskt.core.errors import GeometryError, HounsfieldError, InputError
from mskt.core.interfaces import LoadOptions
from mskt.core.volume import Grid, Subject, Volume, to_canonical
from mskt.plugins.loaders.dicom import DicomLoader
from mskt.synthesis.dicom_writer import write_dicom_series

PLAIN = LoadOptions()
LOADER = DicomLoader()
Edit = Callable[[pydicom.Dataset], None]


def series(folder: Path, image: Volume | None = None, **options) -> list[Path]:
    options = {"series_description": "thigh", "seed": 7, **options}
    return write_dicom_series(folder, image or volume(), **options)


def edit(files: list[Path], change: Edit) -> None:
    for file in files:
        dataset = pydicom.dcmread(file)
        change(dataset)
        dataset.save_as(file)


def refusal(path: Path, options: LoadOptions = PLAIN, kind=InputError) -> str:
    with pytest.raises(kind) as caught:
        LOADER.load(path, options)
    text = str(caught.value)
    assert str(path.parent) not in text and "\n" in text, text
    return text


def allow(name: str) -> LoadOptions:
    return LoadOptions(allow=frozenset({name}))


# --- what is read -------------------------------------------------------------------------------


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    angles=st.tuples(*[st.floats(-3.1, 3.1)] * 3),
    mirror=st.booleans(),
    spacing=st.tuples(*[st.floats(0.4, 5.0)] * 3),
    origin=st.tuples(*[st.floats(-900, 900)] * 3),
)
def test_any_orientation_comes_back(tmp_path_factory, angles, mirror, spacing, origin):
    axes = rotation(*angles) * ([1, 1, -1] if mirror else [1, 1, 1])
    image = volume((9, 8, 5), spacing, axes, origin)
    folder = tmp_path_factory.mktemp("scan")
    series(folder, image)

    read = LOADER.load(folder, PLAIN)

    if mirror:  # slices are sorted along the normal: the same places in opposite order
        assert np.abs(read.data[:, :, ::-1] - image.data).max() <= 0.5
        assert (
            Grid(read.data.shape, read.affine)
            .canonical()
            .same_as(Grid(image.data.shape, image.affine).canonical(), 1e-3)
        )
    else:
        assert np.abs(read.data - image.data).max() <= 0.5
        np.testing.assert_allclose(read.affine, image.affine, atol=1e-4)
    assert read.notes == () and read.data.dtype == np.float32


def test_rows_are_not_columns(tmp_path):
    image = volume((24, 10, 4), (0.5, 1.5, 3.0))
    series(tmp_path / "s", image)
    read = LOADER.load(tmp_path / "s", PLAIN)
    assert read.data.shape == (24, 10, 4)
    np.testing.assert_allclose(read.spacing_mm, (0.5, 1.5, 3.0), atol=1e-6)


def test_file_names_and_instance_numbers_do_not_matter(tmp_path):
    files = series(tmp_path / "s")
    expected = LOADER.load(tmp_path / "s", PLAIN)
    order = np.random.default_rng(0).permutation(len(files))
    for file, number in zip(files, order, strict=True):
        dataset = pydicom.dcmread(file)
        dataset.InstanceNumber, dataset.SliceLocation = int(number), 0
        dataset.save_as(tmp_path / "s" / f"{number:02d}")
        file.unlink()
    assert LOADER.accepts(tmp_path / "s")
    assert np.array_equal(LOADER.load(tmp_path / "s", PLAIN).data, expected.data)


def test_slope_and_intercept_of_each_slice(tmp_path):
    files = series(tmp_path / "s")
    expected = LOADER.load(tmp_path / "s", PLAIN).data

    def change(dataset):
        stored = np.frombuffer(dataset.PixelData, "<i2") - 1024
        dataset.PixelData = (stored * 2 + 400).astype("<i2").tobytes()
        dataset.RescaleSlope, dataset.RescaleIntercept = "0.5", "-200"

    edit(files[3:5], change)
    np.testing.assert_allclose(LOADER.load(tmp_path / "s", PLAIN).data, expected, atol=0.51)


@pytest.mark.parametrize(
    ("height", "weight", "expected"),
    [
        ("1.71", "68", Subject(1.71, 68.0)),
        ("171", "68", Subject(1.71, 68.0)),
        ("0", "0", Subject()),
        ("17", "", Subject()),
    ],
)
def test_height_and_weight(tmp_path, height, weight, expected):
    def change(dataset):
        dataset.PatientSize, dataset.PatientWeight = height, weight

    edit(series(tmp_path / "s"), change)
    read = LOADER.load(tmp_path / "s", PLAIN)
    assert read.subject == expected
    assert any("centimetres" in note for note in read.notes) == (height == "171")


def test_zip_with_folders_and_junk(tmp_path):
    files = series(tmp_path / "s")
    (tmp_path / "s" / "readme.txt").write_text("hello")
    with zipfile.ZipFile(tmp_path / "s.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in [*files, tmp_path / "s" / "readme.txt"]:
            archive.write(file, f"study/series/{file.name}")
        archive.writestr("__MACOSX/._IM0001.dcm", b"junk")
    for path in (tmp_path / "s.zip", tmp_path / "s"):
        read = LOADER.load(path, PLAIN)
        assert read.data.shape == (24, 20, 12)
        assert read.notes == ("Skipped, not DICOM: 1 file.",)


@pytest.mark.parametrize("value", [-3000, 32767])
def test_padding_is_air(tmp_path, value):
    files = series(tmp_path / "s")

    def change(dataset):
        stored = np.frombuffer(dataset.PixelData, "<i2").copy().reshape(20, 24)
        stored[:2] = value
        dataset.PixelData = stored.tobytes()
        dataset.add_new("PixelPaddingValue", "SS", value)

    edit(files, change)
    read = LOADER.load(tmp_path / "s", PLAIN)
    assert (read.data[:, :2] == -1024).all() and read.data.max() < 3072


def test_padding_inside_the_range_of_tissue_is_left_alone(tmp_path):
    files = series(tmp_path / "s")
    expected = LOADER.load(tmp_path / "s", PLAIN).data
    edit(files, lambda dataset: dataset.add_new("PixelPaddingValue", "SS", 1079))
    assert np.array_equal(LOADER.load(tmp_path / "s", PLAIN).data, expected)


@pytest.mark.parametrize("codec", ["JPEG", "JPEG2000", "RLE"])
def test_compressed_slices(tmp_path, codec):
    files = series(tmp_path / "s")
    expected = LOADER.load(tmp_path / "s", PLAIN).data
    for file in files:
        dataset = pydicom.dcmread(file)
        if codec == "RLE":
            dataset.compress(RLELossless)
        else:
            compressed = _encode(dataset.pixel_array, codec, tmp_path)
            dataset.file_meta.TransferSyntaxUID = compressed.file_meta.TransferSyntaxUID
            dataset.PixelData = compressed.PixelData
            dataset["PixelData"].is_undefined_length = True
            dataset["PixelData"].VR = "OB"
        dataset.save_as(file)
    assert np.array_equal(LOADER.load(tmp_path / "s", PLAIN).data, expected)


def _encode(pixels: np.ndarray, codec: str, folder: Path) -> pydicom.Dataset:
    writer = sitk.ImageFileWriter()
    writer.SetFileName(str(folder / "one.dcm"))
    writer.UseCompressionOn()
    writer.SetCompressor(codec)
    writer.Execute(sitk.GetImageFromArray(pixels[None]))
    return pydicom.dcmread(folder / "one.dcm")


def test_a_codec_that_nothing_can_decode(tmp_path):
    files = series(tmp_path / "s")

    def change(dataset):
        dataset.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8\xff\x00no stream"])
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
        dataset.file_meta.TransferSyntaxUID = JPEGLSLossless

    edit(files, change)
    text = refusal(tmp_path / "s")
    assert "JPEG-LS Lossless" in text and "1.2.840.10008.1.2.4.80" in text and "pylibjpeg" in text


# --- intervals ----------------------------------------------------------------------------------


def test_a_changing_interval_is_resampled_from_true_positions(tmp_path):
    image = volume((10, 9, 61), (1.0, 1.0, 1.0))
    ramp = np.linspace(0, 80, 61, dtype=np.float32)
    image = Volume(image.data + ramp.round(), image.affine)
    series(tmp_path / "s", image, interval_schedule=[(20, 2), (24, 6), (100, 1)])
    assert len(list((tmp_path / "s").iterdir())) == 1 + 10 + 4 + 16

    read = LOADER.load(tmp_path / "s", PLAIN)

    assert read.data.shape == (10, 9, 61) and read.source["resampled"]
    np.testing.assert_allclose(read.affine, image.affine, atol=1e-4)
    sampled = [*range(0, 21, 2), *range(26, 45, 6), *range(45, 61)]
    assert np.abs(read.data[:, :, sampled] - image.data[:, :, sampled]).max() <= 0.51
    middle = (image.data[:, :, 20] + image.data[:, :, 26]) / 2
    assert np.abs(read.data[:, :, 23] - middle).max() <= 0.51
    (note,) = read.notes
    assert "2 mm from -300.0 to -280.0, 6 mm from -280.0 to -256.0, 1 mm from" in note


def test_a_missing_slice(tmp_path):
    files = series(tmp_path / "s")
    files[5].unlink()
    text = refusal(tmp_path / "s", kind=GeometryError)
    assert text.startswith("s: about 1 slice is missing: no slice between -292.00 and -288.00 mm")
    assert "--allow missing-slices" in text
    read = LOADER.load(tmp_path / "s", allow("missing-slices"))
    assert read.data.shape[2] == 12 and "interpolated" in read.notes[0]


def test_a_slice_twice(tmp_path):
    files = series(tmp_path / "s")
    shutil.copy(files[5], tmp_path / "s" / "copy.dcm")
    text = refusal(tmp_path / "s", kind=GeometryError)
    assert "1 of 13 slices lie where another one lies (positions -290.00 mm" in text


def test_tilt_from_positions(tmp_path):
    files = series(tmp_path / "s")
    for index, file in enumerate(files):
        dataset = pydicom.dcmread(file)
        dataset.ImagePositionPatient[1] += index * 2.0 * np.tan(np.radians(15))
        dataset.save_as(file)
    text = refusal(tmp_path / "s", kind=GeometryError)
    assert "tilted by 15.00°" in text and "0018,1120" in text


def test_tilt_from_the_tag(tmp_path):
    edit(series(tmp_path / "s"), lambda dataset: setattr(dataset, "GantryDetectorTilt", "-7.5"))
    text = refusal(tmp_path / "s", kind=GeometryError)
    assert "GantryDetectorTilt (0018,1120) is -7.5°" in text and "--allow gantry-tilt" in text
    assert "ignored" in LOADER.load(tmp_path / "s", allow("gantry-tilt")).notes[0]


def test_slices_shifted_sideways(tmp_path):
    files = series(tmp_path / "s")

    def change(dataset):
        dataset.ImagePositionPatient[0] += 31

    edit(files[6:], change)
    assert "shifted sideways against each other by up to 31.00 mm" in refusal(tmp_path / "s")


# --- which series -------------------------------------------------------------------------------


def test_two_series_are_listed_and_one_is_chosen(tmp_path):
    series(tmp_path / "s" / "a", kernel="B30f")
    series(
        tmp_path / "s" / "b",
        volume((24, 20, 6), seed=1),
        kernel="B70f",
        series_number=2,
        series_description="Doe sharp",
    )
    text = refusal(tmp_path / "s")
    assert "holds 2 CT series" in text and "Doe" not in text
    assert "1: CT, 12 slices, 24×20, axial, pixel 0.8 mm, slice thickness 2 mm, kernel B30f" in text
    assert "2: CT, 6 slices" in text and "--series 1 … --series 2" in text
    for number, slices in (("1", 12), ("2", 6)):
        read = LOADER.load(tmp_path / "s", LoadOptions(series=number))
        assert read.data.shape[2] == slices
        assert read.notes == (f"Not read: 1 CT series ({18 - slices} images).",)
    uid = pydicom.dcmread(tmp_path / "s" / "b" / "IM0001.dcm").SeriesInstanceUID
    assert LOADER.load(tmp_path / "s", LoadOptions(series=uid)).data.shape[2] == 6
    assert "has no series '3'" in refusal(tmp_path / "s", LoadOptions(series="3"))


def test_localizer_and_other_modalities_are_passed_over(tmp_path):
    series(tmp_path / "s" / "ct")
    edit(
        series(tmp_path / "s" / "scout", volume((24, 20, 2)), series_number=9),
        lambda dataset: setattr(dataset, "ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"]),
    )
    edit(
        series(tmp_path / "s" / "pet", volume((24, 20, 5)), series_number=5),
        lambda dataset: setattr(dataset, "Modality", "PT"),
    )
    read = LOADER.load(tmp_path / "s", PLAIN)
    assert read.data.shape[2] == 12
    assert read.notes == ("Not read: 1 PT series (5 images), 1 localizer (2 images).",)


def test_two_orientations_under_one_identifier(tmp_path):
    files = series(tmp_path / "s")
    edit(
        files[6:], lambda dataset: setattr(dataset, "ImageOrientationPatient", [1, 0, 0, 0, 0, -1])
    )
    text = refusal(tmp_path / "s")
    assert "holds 2 CT series" in text and "axial" in text and "coronal" in text


@pytest.mark.parametrize(
    ("keyword", "value", "kind", "words"),
    [
        ("Modality", "MR", InputError, "holds no CT: its modality is MR (1 MR series (12 images))"),
        (
            "RescaleIntercept",
            None,
            HounsfieldError,
            "12 of 12 slices lack RescaleIntercept (0028,1052), the first is IM0001.dcm",
        ),
        ("RescaleSlope", None, HounsfieldError, "lack RescaleSlope (0028,1053)"),
        ("RescaleSlope", "0", HounsfieldError, "RescaleSlope (0028,1053) is 0"),
        ("RescaleIntercept", "0", HounsfieldError, "looks like stored values without the offset"),
        ("ImagePositionPatient", None, GeometryError, "lacks ImagePositionPatient (0020,0032)"),
        (
            "ImageOrientationPatient",
            None,
            GeometryError,
            "lacks ImageOrientationPatient (0020,0037)",
        ),
        ("ImageOrientationPatient", [1, 0, 0, 1, 0, 0], GeometryError, "perpendicular"),
        ("PixelSpacing", None, GeometryError, "lacks PixelSpacing (0028,0030)"),
        ("PixelSpacing", [0, 0], GeometryError, "not invertible"),
        ("ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"], InputError, "only scout views"),
        ("SOPClassUID", "1.2.840.10008.5.1.4.1.1.2.1", InputError, "enhanced (multi-frame) CT"),
        ("NumberOfFrames", "40", InputError, "40 frames in one file"),
        ("SamplesPerPixel", 3, InputError, "3 samples a pixel"),
    ],
)
def test_headers_that_are_refused(tmp_path, keyword, value, kind, words):
    def change(dataset):
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)

    edit(series(tmp_path / "s"), change)
    text = refusal(tmp_path / "s", kind=kind)
    assert text.startswith("s: ") or "IM00" in text
    assert words in text, text


# --- damaged and hostile files ------------------------------------------------------------------


@pytest.mark.parametrize("keep", [140, 500, 900, 1400, -20])
@pytest.mark.parametrize("index", [4, -1])
def test_a_truncated_slice(tmp_path, keep, index):
    files = series(tmp_path / "s")
    files[index].write_bytes(files[index].read_bytes()[:keep])
    text = refusal(tmp_path / "s")
    assert text.startswith(f"{files[index].name}: ") and "truncated or damaged" in text, text


def test_objects_without_an_image_are_passed_over(tmp_path):
    files = series(tmp_path / "s")
    dataset = pydicom.dcmread(files[0])
    for keyword in ("Rows", "Columns", "PixelData"):
        delattr(dataset, keyword)
    dataset.SOPClassUID, dataset.Modality = "1.2.840.10008.5.1.4.1.1.88.67", "SR"
    dataset.save_as(tmp_path / "s" / "dose.dcm")
    read = LOADER.load(tmp_path / "s", PLAIN)
    assert read.notes == ("Skipped, DICOM without an image: 1 SR.",)


def test_nothing_to_read(tmp_path):
    (tmp_path / "empty").mkdir()
    assert "holds no DICOM files (no files)" in refusal(tmp_path / "empty")
    assert not LOADER.accepts(tmp_path / "empty")
    (tmp_path / "junk").mkdir()
    (tmp_path / "junk" / "a.png").write_bytes(b"\x89PNG" * 100)
    assert "holds no DICOM files (other files: 1)" in refusal(tmp_path / "junk")


def test_a_single_file(tmp_path):
    files = series(tmp_path / "s")
    assert LOADER.accepts(files[0])
    text = refusal(files[0])
    assert "is a single DICOM file" in text and "Give the folder" in text
    for file in files[1:]:
        file.unlink()
    assert "has one slice (IM0001.dcm)" in refusal(tmp_path / "s")
    (tmp_path / "fake.dcm").write_bytes(b"nothing" * 40)
    assert "is no DICOM file" in refusal(tmp_path / "fake.dcm")


def test_archives(tmp_path):
    path = tmp_path / "s.zip"
    path.write_bytes(b"PK\x03\x04 no archive")
    assert "no readable zip archive" in refusal(path)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("../../evil.dcm", b"x" * 200)
    path.write_bytes(buffer.getvalue())
    text = refusal(path)
    assert "'evil.dcm' has a path that leads out of the archive" in text
    series(tmp_path / "s")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in (tmp_path / "s").iterdir():
            archive.write(file, file.name)
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 3 : len(raw) // 3 + 40] = b"\xff" * 40
    path.write_bytes(bytes(raw))
    assert "damaged" in refusal(path)


def test_labels_are_refused(tmp_path):
    series(tmp_path / "s")
    with pytest.raises(InputError, match="does not read as a label map"):
        LOADER.load_labels(tmp_path / "s", PLAIN)


# --- nothing about the person -------------------------------------------------------------------

SECRETS = ("Musterfrau", "Erika", "4711-0815", "19541012", "Klinikum Irgendwo")


def personal(dataset: pydicom.Dataset) -> None:
    dataset.PatientName, dataset.PatientID = "Musterfrau^Erika", "4711-0815"
    dataset.PatientBirthDate, dataset.InstitutionName = "19541012", "Klinikum Irgendwo"
    dataset.SeriesDescription = dataset.StudyDescription = "Musterfrau hip"
    dataset.PatientSize = "168"


def damaged(name: str, files: list[Path]) -> None:
    changes: dict[str, Callable[[], object]] = {
        "intact": list,
        "missing": files[5].unlink,
        "twice": lambda: shutil.copy(files[5], files[5].with_name("copy.dcm")),
        "modality": lambda: edit(files, lambda dataset: setattr(dataset, "Modality", "MR")),
        "unscaled": lambda: edit(files, lambda dataset: delattr(dataset, "RescaleSlope")),
        "raw": lambda: edit(files, lambda dataset: setattr(dataset, "RescaleIntercept", "0")),
        "truncated": lambda: files[4].write_bytes(files[4].read_bytes()[:-50]),
        "two series": lambda: edit(files[:4], lambda dataset: setattr(dataset, "SeriesNumber", 3)),
    }
    changes[name]()


@pytest.mark.parametrize(
    "fault",
    ["intact", "missing", "twice", "modality", "unscaled", "raw", "truncated", "two series"],
)
def test_no_patient_data_leaves_the_loader(tmp_path, fault, capfd):
    files = series(tmp_path / "s")
    edit(files, personal)
    uid = pydicom.dcmread(files[0]).SeriesInstanceUID
    damaged(fault, files)
    try:
        read = LOADER.load(tmp_path / "s", PLAIN)
        text = repr((read.notes, read.source, read.subject))
        assert fault == "intact" and "centimetres" in text
    except InputError as error:
        text = f"{error} {error.args} {error.__cause__}"
    shown = capfd.readouterr()
    for secret in (*SECRETS, uid, str(tmp_path)):
        assert secret not in text + shown.out + shown.err


# --- the writer ---------------------------------------------------------------------------------


def test_writing_twice_gives_the_same_bytes(tmp_path):
    first, second = series(tmp_path / "a"), series(tmp_path / "b")
    other = series(tmp_path / "c", seed=8)
    assert [file.read_bytes() for file in first] == [file.read_bytes() for file in second]
    headers = [pydicom.dcmread(files[0]) for files in (first, other)]
    assert headers[0].SeriesInstanceUID != headers[1].SeriesInstanceUID
    assert headers[0].PatientName == "PHANTOM^SYNTHETIC"
    assert headers[0].SOPInstanceUID.startswith("2.25.") and headers[0].SOPInstanceUID.is_valid
    assert not list((tmp_path / "a").glob(".*"))


def test_other_software_reads_the_same(tmp_path):
    image = volume()
    series(tmp_path / "s", image)
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path / "s"))
    stack = sitk.ReadImage(names)
    assert np.array_equal(sitk.GetArrayFromImage(stack).transpose(2, 1, 0), image.data)
    lps = np.reshape(stack.GetDirection(), (3, 3)) * stack.GetSpacing()
    np.testing.assert_allclose(np.diag([-1, -1, 1]) @ lps, image.affine[:3, :3], atol=1e-6)


def test_writer_options(tmp_path):
    image = Volume(thigh(), np.diag([-1.0, -1, 2, 1]), subject=Subject(1.62, 55.5))
    files = series(tmp_path / "s", image, positions_mm=[0, 3, 6, 9])
    assert len(files) == 4
    read = LOADER.load(tmp_path / "s", PLAIN)
    assert read.subject == image.subject and read.spacing_mm[2] == pytest.approx(3)
    expected = (image.data[:, :, 1] + image.data[:, :, 2]) / 2
    assert np.abs(to_canonical(read.data, read.grid)[::-1, ::-1, 1] - expected).max() <= 0.51
    with pytest.raises(Exception, match="leave the volume"):
        series(tmp_path / "t", image, positions_mm=[0, 90])
    with pytest.raises(Exception, match="exclude each other"):
        series(tmp_path / "t", image, positions_mm=[0, 3], interval_schedule=[(9, 3)])

"""``mskt benchmark`` end to end on small scans, with a plugin that fails, crashes or does not fit."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from mskt.cli.benchmark_options import BenchmarkOptions, without_folders
from mskt.cli.benchmarking import benchmark
from mskt.core.errors import InputError, UsageError
from mskt.core.records import read_csv

sys.path.insert(0, str(Path(__file__).parent))
from leg_scans import PLUGIN, leg_scan, save_scan

pytestmark = pytest.mark.usefixtures("fake_plugin")


@pytest.fixture(autouse=True)
def child_processes(monkeypatch):
    """Processes that are started find the plugin and the sources, and take one thread."""
    source = Path(__file__).parents[2] / "src"
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(source), str(PLUGIN)]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture
def legs(tmp_path):
    """nnU-Net data set of three legs; the second has six slices. Muscle and bone are the reference."""
    return make_legs(tmp_path / "legs", (24, 6, 24))


def make_legs(root, depths, references=True):
    (root / "imagesTr").mkdir(parents=True)
    (root / "labelsTr").mkdir()
    for number, depth in enumerate(depths):
        data = leg_scan((40, 30, depth), number)
        affine = save_scan(root / "imagesTr" / f"leg{number}_0000.nii.gz", data)
        labels = np.zeros(data.shape, np.uint8)
        labels[(data > -20) & (data < 150)] = 10
        labels[data >= 150] = 21
        labels[:, :, : 2 + number] = 0
        if references:
            nib.Nifti1Image(labels, affine).to_filename(root / "labelsTr" / f"leg{number}.nii.gz")
    (root / "dataset.json").write_text(
        json.dumps(
            {
                "channel_names": {"0": "CT"},
                "labels": {"background": 0, "adductors": 10, "femur": 21},
                "file_ending": ".nii.gz",
                "numTraining": len(depths),
            }
        )
    )
    return root


def call(legs, out, **changes):
    given = {
        "segmenters": ("fake",),
        "uncertainties": ("deterministic",),
        "data": str(legs),
        "out": out,
        "devices": ("cpu",),
        "samples": 2,
        "include_truncated": True,
        "warm_up": False,
    }
    return BenchmarkOptions(**{**given, **changes})


def by_key(found):
    return {cell["key"]: cell for cell in found["cells"]}


def test_all_outputs_tell_the_same_and_no_path(legs, tmp_path):
    out = tmp_path / "bench"
    tool = f"{sys.executable} -c \"import shutil; shutil.copy(r'{legs}/labelsTr/leg0.nii.gz', '{{out}}')\""
    found = benchmark(
        call(
            legs, out,
            segmenters=("fake", "half=fake"),
            uncertainties=("deterministic", "planes"),
            options=("half.refuse_below=10", "copy.label_set=msk22"),
            external=(f"copy={tool} {{image}}",),
        )
    )  # fmt: skip
    cells = by_key(found)
    assert {key: cell["status"] for key, cell in cells.items()} == {
        "fake+deterministic+cpu": "done",
        "fake+planes+cpu": "incompatible",
        "half+deterministic+cpu": "partial",
        "half+planes+cpu": "incompatible",
        "copy+none+outside": "done",
    }
    assert list(cells)[-1] == "copy+none+outside"
    half = cells["half+deterministic+cpu"]
    assert "1 of 3 cases failed" in half["reason"] and "leg1" in half["failed"]
    assert "unet25d" in cells["fake+planes+cpu"]["reason"]
    assert "leg1" not in found["comparisons"]["dice"]["cases"]
    assert half["cases_counted"] == len(found["comparisons"]["dice"]["cases"])
    # The same voxels in a run of its own give the same numbers.
    own = read_csv(out / "cells" / "fake+deterministic+cpu" / "results.csv")
    rows = read_csv(out / "results.csv")
    assert [r.value for r in rows if (r.segmenter, r.uncertainty) == ("fake", "deterministic")] == [
        r.value for r in own
    ]
    assert {r.segmenter for r in rows} == {"fake", "half", "copy"}
    written = json.loads((out / "benchmark.json").read_text())
    assert written == json.loads(json.dumps(found, default=str))
    text, page = ((out / f"benchmark.{end}").read_text() for end in ("md", "html"))
    for cell in found["cells"]:
        if cell["dice"]:
            assert f"{cell['dice']['mean']:.3f}" in text and f"{cell['dice']['mean']:.3f}" in page
    assert page.count("<svg") == 2 and not re.search(r"(?:src|href)=[\"']?(?:https?:|/)", page)
    for file in out.glob("*.*"):
        assert str(tmp_path) not in file.read_text(), file
    assert cells["copy+none+outside"]["doubt"] is None
    done = [cell for cell in found["cells"] if cell["segmenter"] == "fake" and cell["done"]]
    assert all(cell["peak_memory_bytes"] > 50e6 for cell in done)


def test_it_goes_on_where_it_stopped_and_takes_more_cells(legs, tmp_path):
    out = tmp_path / "bench"
    benchmark(call(legs, out))
    run = out / "cells" / "fake+deterministic+cpu" / "leg0" / "run.json"
    before = run.stat().st_mtime_ns
    with pytest.raises(UsageError, match="holds a benchmark already"):
        benchmark(call(legs, out))
    with pytest.raises(UsageError, match="seed 0, now 1"):
        benchmark(call(legs, out, seed=1, resume=True))
    (out / "cells" / "fake+deterministic+cpu" / "leg2" / "run.json").unlink()
    lines = []
    found = benchmark(
        call(legs, out, uncertainties=("deterministic", "mcdropout"), resume=True), lines.append
    )
    assert [cell["status"] for cell in found["cells"]] == ["done", "done"]
    assert run.stat().st_mtime_ns == before
    assert next(line for line in lines if "done in" in line).startswith("  [1/1] leg2")
    fresh = benchmark(call(legs, out, overwrite=True))
    assert run.stat().st_mtime_ns > before and len(fresh["cells"]) == 1


def test_a_warm_up_changes_no_number(legs, tmp_path):
    cold = benchmark(call(legs, tmp_path / "a", uncertainties=("mcdropout",)))
    warm = benchmark(call(legs, tmp_path / "b", uncertainties=("mcdropout",), warm_up=True))
    assert (tmp_path / "a" / "results.csv").read_text() == (
        tmp_path / "b" / "results.csv"
    ).read_text()
    assert "warm-up, which is in no time" in (tmp_path / "b" / "benchmark.md").read_text()
    assert "No warm-up" in (tmp_path / "a" / "benchmark.md").read_text()
    assert cold["cells"][0]["dice"] == warm["cells"][0]["dice"]


def test_a_process_that_dies_costs_its_case_and_not_the_others(legs, tmp_path, monkeypatch):
    """A plugin that takes its whole process with it, as a segfault or the kernel would."""
    plugin = tmp_path / "deadly"
    plugin.mkdir()
    (plugin / "deadly.py").write_text(
        "import os, signal\n"
        "from mskt.core.hookspecs import hookimpl\n"
        "from mskt.core.specs import SegmenterSpec\n"
        "@hookimpl\n"
        "def mskt_segmenter():\n"
        "    yield SegmenterSpec('deadly', 'deadly_model:Deadly', 'dies')\n"
    )
    (plugin / "deadly_model.py").write_text(
        "import os, signal\n"
        "from mskt_fake.segmenter import Fake\n"
        "class Deadly(Fake):\n"
        "    def draw(self, image, region, *, index, seed):\n"
        "        if image.data.shape[2] < 10:\n"
        "            os.kill(os.getpid(), signal.SIGKILL)\n"
        "        return super().draw(image, region, index=index, seed=seed)\n"
    )
    info = plugin / "deadly-0.1.dist-info"
    info.mkdir()
    (info / "entry_points.txt").write_text("[mskt]\ndeadly = deadly\n")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: deadly\nVersion: 0.1\n")
    monkeypatch.syspath_prepend(str(plugin))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([os.environ["PYTHONPATH"], str(plugin)]))
    from mskt.core.registry import registry

    registry.cache_clear()
    (cell,) = benchmark(call(legs, tmp_path / "bench", segmenters=("deadly",)))["cells"]
    assert (cell["status"], cell["done"]) == ("partial", 2)
    assert list(cell["failed"]) == ["leg1"] and "SIGKILL" in cell["failed"]["leg1"]


def test_external_tools_that_fail_say_so_with_what_they_said(legs, tmp_path):
    words = "import sys; print('no licence', file=sys.stderr); sys.exit(3)"
    found = benchmark(
        call(
            legs, tmp_path / "bench", segmenters=(),
            external=(
                f'bad={sys.executable} -c "{words}" {{image}} {{out}}',
                "gone=/no/such/tool {image} {out_dir}",
            ),
        )
    )  # fmt: skip
    cells = by_key(found)
    bad, gone = cells["bad+none+outside"], cells["gone+none+outside"]
    assert bad["status"] == gone["status"] == "failed" and not bad["done"]
    assert "exit code 3: no licence" in bad["failed"]["leg0"]
    assert "could not be started" in gone["failed"]["leg2"] and "/no/such" not in str(gone)
    assert found["comparisons"]["dice"]["best"] is None
    assert "What is missing" in (tmp_path / "bench" / "benchmark.html").read_text()


def test_a_reference_in_another_space_is_named(legs, tmp_path):
    path = legs / "labelsTr" / "leg1.nii.gz"
    image = nib.load(path)
    affine = image.affine.copy()
    affine[2, 3] += 500
    nib.Nifti1Image(np.asarray(image.dataobj), affine).to_filename(path)
    found = benchmark(call(legs, tmp_path / "bench"))
    (note,) = [note for note in found["notes"] if "not evaluated" in note]
    assert "case leg1" in note and "another grid" in note
    assert found["cells"][0]["status"] == "done"
    assert "another grid" in (tmp_path / "bench" / "benchmark.md").read_text()


def test_one_case_is_shown_and_not_ranked_against_anybody(tmp_path):
    legs = make_legs(tmp_path / "one", (24,))
    found = benchmark(call(legs, tmp_path / "bench", uncertainties=("deterministic", "mcdropout")))
    assert any("One case only" in note for note in found["notes"])
    assert found["comparisons"]["dice"]["tests"] == 0
    assert found["cells"][1]["dice"]["low"] is None
    cut = benchmark(call(legs, tmp_path / "bench", include_truncated=False, resume=True))
    assert cut["cells"][0]["rank"] is None and "field of view" in cut["cells"][0]["not_ranked"]


def test_cuda_that_is_not_there_is_a_failed_cell_and_never_the_cpu(legs, tmp_path):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is one")
    found = benchmark(call(legs, tmp_path / "bench", devices=("cuda",)))
    (cuda,) = found["cells"]
    assert cuda["status"] == "failed" and cuda["done"] == 0
    assert "CUDA" in cuda["reason"]


def test_folds_give_every_case_to_a_model_once(tmp_path):
    legs = make_legs(tmp_path / "legs", (24, 24, 24, 24))
    found = benchmark(call(legs, tmp_path / "bench", folds=2))
    folds = found["data"]["folds"]
    assert sorted(case for fold in folds for case in fold) == ["leg0", "leg1", "leg2", "leg3"]
    (cell,) = found["cells"]
    assert cell["status"] == "done" and not cell["trained_here"]
    splits = json.loads((tmp_path / "bench" / "training" / "splits_final.json").read_text())
    assert [set(s["train"]) & set(s["val"]) for s in splits] == [set(), set()]
    assert "validate_every = 0" in (tmp_path / "bench" / "training" / "recipe.toml").read_text()
    with pytest.raises(UsageError, match="5 folds"):
        benchmark(call(legs, tmp_path / "other", folds=5))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"segmenters": ("fake", "fake")}, "named twice"),
        ({"segmenters": ("fak",)}, "no segmenter named 'fak'"),
        ({"uncertainties": ("mcdropot",)}, "mcdropout"),
        ({"options": ("nobody.x=1",)}, "of none of the segmenters"),
        ({"external": ("tool -i {image}",)}, "where image and result go"),
        ({"max_steps": 3}, "without --folds nothing is trained"),
        ({"resume": True, "overwrite": True}, "contradict"),
        ({"data": "phantom:db9?n=1"}, "no cohort of phantoms 'db9'"),
        ({"data": "synthesis"}, "no fixed cases"),
        ({"data": "nowhere/at/all"}, "nothing at this path"),
        ({"segmenters": ()}, "names nobody"),
    ],
)  # fmt: skip
def test_wrong_calls_are_refused_before_anything_is_written(legs, tmp_path, changes, text):
    out = tmp_path / "bench"
    with pytest.raises(UsageError, match=text):
        benchmark(call(legs, out, **changes))
    assert not out.exists()


def test_data_without_references_are_refused(tmp_path):
    legs = make_legs(tmp_path / "legs", (6,), references=False)
    with pytest.raises(InputError, match="no label map"):
        benchmark(call(legs, tmp_path / "bench"))


def test_command_prints_a_table_or_json_and_says_by_its_code_what_failed(legs, tmp_path):
    def mskt(*more, code):
        words = [
            sys.executable, "-m", "mskt", "benchmark", "-s", "fake", "-u", "deterministic", "--data",
            str(legs), "--no-warm-up", "--include-truncated", "-d", "cpu", *more,
        ]  # fmt: skip
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        return done

    out = str(tmp_path / "bench")
    shown = mskt("-o", out, "--option", "fake.refuse_below=10", code=1)
    assert "fake + deterministic" in shown.stdout and "PARTIAL" in shown.stdout
    told = json.loads(
        mskt("-o", out, "--option", "fake.refuse_below=10", "--resume", "--json", code=1).stdout
    )
    assert told["cells"][0]["status"] == "partial"
    assert mskt("-o", out, code=2).stderr.startswith("error:")


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("cp /home/jane/ct/a.nii.gz b", "cp a.nii.gz b"),
        ("ratio 3/4 and -i {image}", "ratio 3/4 and -i {image}"),
        ("file 'C:\\Users\\jane\\x.nii'", "file 'x.nii'"),
    ],
)
def test_folders_are_left_out_of_what_is_shown(text, kept):
    assert without_folders(text) == kept

"""The commands around ``run``: help, version, phantom, models, doctor."""

import json
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from mskt import __version__
from mskt.cli import app
from mskt.cli.options import parse_extra, run_id
from mskt.cli.sources import says_synthetic
from mskt.core.cases import find_cases
from mskt.core.errors import UsageError


def mskt(*arguments, code=0):
    result = CliRunner().invoke(app, [*map(str, arguments)])
    assert result.exit_code == code, result.output + str(result.exception)
    return result


def test_help_imports_nothing_heavy(environment):
    program = (
        "import sys\nfrom typer.testing import CliRunner\nfrom mskt.cli import app\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0\n"
        "heavy = {'torch', 'numpy', 'nibabel', 'scipy', 'matplotlib', 'SimpleITK', 'pydicom', "
        "'skimage', 'sklearn'}\nprint(*sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""


def test_every_command_has_help():
    for command in (["run"], ["phantom"], ["models"], ["models", "list"], ["plugins"], ["doctor"]):
        assert "Usage" in mskt(*command, "--help").stdout


def test_version():
    assert mskt("--version").stdout == f"mskt {__version__}\n"


def test_unknown_option_is_a_wrong_call():
    assert "No such option" in mskt("run", "--sample", "3", code=2).stderr


def test_options_of_a_plugin():
    assert parse_extra(["a=1", "b=true", "c-d=text", "e=0.5"]) == {
        "a": 1,
        "b": True,
        "c_d": "text",
        "e": 0.5,
    }
    with pytest.raises(UsageError, match="twice"):
        parse_extra(["a=1", "a=2"])


def test_run_id_does_not_know_the_device():
    facts = {"sha256": "0", "device": "cpu"}
    assert run_id({"seed": 1}, facts) == run_id({"seed": 1}, {**facts, "device": "cuda:0"})
    assert run_id({"seed": 1}, facts) != run_id({"seed": 2}, facts)
    assert run_id({"seed": 1}, facts) != run_id({"seed": 1}, {**facts, "sha256": "1"})


def test_doctor_gives_a_verdict():
    result = CliRunner().invoke(app, ["doctor", "--json"])
    facts = json.loads(result.stdout)
    assert facts["mskt"] == __version__
    assert "unet_bayes" in facts["plugins"]["segmenter"]
    assert facts["verdict"]
    assert result.exit_code == (1 if facts["problems"] else 0)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home with one set of weights."""
    from mskt.core import weights

    torch = pytest.importorskip("torch")
    monkeypatch.setenv("MSKT_HOME", str(tmp_path))
    weights.save(
        tmp_path / "weights",
        "mine",
        {"w": torch.ones(2)},
        {"segmenter": "unet_bayes", "label_set": "msk22"},
    )
    return tmp_path / "weights"


def test_models_are_listed_described_and_verified(home):
    names = [entry["name"] for entry in json.loads(mskt("models", "list", "--json").stdout)]
    assert "mine" in names
    assert "unet_bayes" in mskt("models", "info", "mine").stdout
    assert mskt("models", "verify", "mine").stdout == "mine: intact\n"
    with (home / "mine.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x01")
    assert "sha256" in mskt("models", "verify", "mine", code=1).stdout
    assert "no weights named 'nine'" in mskt("models", "info", "nine", code=2).stderr


@pytest.mark.parametrize("text", ["2,3", "a,b,c", "0,1,1", "nan", "1,1,100"])
def test_impossible_voxels_are_refused(text, tmp_path):
    assert "is no voxel size" in mskt("phantom", "-o", tmp_path, "--spacing", text, code=2).stderr


def test_phantoms_are_a_dataset_that_run_reads(tmp_path):
    mskt("phantom", "-o", tmp_path, "--spacing", "9,9,12", "--seed", "3", "-q", "--format", "both")
    (case,) = find_cases([tmp_path])
    assert case.case_id == "phantom_0001"
    assert case.reference.name == "phantom_0001.nii.gz" and case.table.name == "dataset.json"
    image, labels = nib.load(case.image), nib.load(case.reference)
    assert image.shape == labels.shape
    np.testing.assert_array_equal(image.affine, labels.affine)
    assert bytes(image.header["descrip"]).startswith(b"synthetic phantom")
    assert set(range(1, 23)) - {3, 5, 7, 8} <= set(np.unique(labels.dataobj))
    series = tmp_path / "dicom" / "phantom_0001"
    assert len(list(series.glob("*.dcm"))) == image.shape[2]
    assert says_synthetic(series) and says_synthetic(case.image)
    person = dict(
        zip(
            *(
                line.split("\t")
                for line in (tmp_path / "participants.tsv").read_text().splitlines()
            ),
            strict=True,
        )
    )
    assert person["seed"] == "3" and 1.4 <= float(person["height_m"]) <= 2.05
    assert json.loads((tmp_path / "dataset.json").read_text())["synthetic"] is True
    assert "holds a dataset already" in mskt("phantom", "-o", tmp_path, code=2).stderr


def test_weights_are_imported_by_name(home, tmp_path):
    """From a folder of a training to a name; intact ones only, and nothing is replaced by accident."""
    import torch

    from mskt.core import weights

    trained = tmp_path / "runs" / "hip-2026"
    card = {"segmenter": "unet_bayes", "label_set": "msk22"}
    file = weights.save(trained, "weights", {"w": torch.zeros(2)}, card).path
    assert "--weights hip-2026" in mskt("models", "import", file).stdout
    assert weights.find("hip-2026", "unet_bayes").path.parent == home
    assert mskt("models", "verify", "hip-2026").stdout == "hip-2026: intact\n"
    assert "other weights already" in mskt("models", "import", file, code=1).stderr
    other = weights.save(trained, "weights", {"w": torch.ones(2)}, card)
    mskt("models", "import", file, "--overwrite")
    assert weights.find("hip-2026", "unet_bayes").sha256 == other.sha256
    assert other.sha256 in mskt("models", "info", file).stdout
    shipped = mskt("models", "import", file, "--name", "unet_bayes-compact", "--overwrite", code=1)
    assert "They come with mskt" in shipped.stderr
    assert "cannot be the name" in mskt("models", "import", file, "--name", "../x", code=1).stderr
    assert "does not exist" in mskt("models", "import", tmp_path / "no.safetensors", code=1).stderr
    file.write_bytes(file.read_bytes()[:-1])
    damaged = mskt("models", "import", file, "--name", "bad", code=1)
    assert "sha256" in damaged.stderr
    assert not (home / "bad.safetensors").exists()

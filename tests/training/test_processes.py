"""Real processes: one that is killed, and two that share a batch."""

from __future__ import annotations

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import box_run
import pytest
import torch

import mskt.training.datasets

SCRIPT = Path(__file__).with_name("box_run.py")
ALONE = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE")}


def start(*words, **environment):
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), *map(str, words)],
        env={**ALONE, "OMP_NUM_THREADS": "1", **environment},
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(*processes):
    for process in processes:
        _, said = process.communicate(timeout=300)
        assert process.returncode == 0, said


@pytest.fixture
def here(monkeypatch):
    """The same training in this process, which is neither killed nor one of several."""
    monkeypatch.setattr(mskt.training.datasets, "open_data", None)  # restored afterwards
    threads = torch.get_num_threads()
    yield box_run.main
    torch.set_num_threads(threads)


def state(folder):
    return torch.load(folder / "net" / "checkpoint.pt", weights_only=True)


def leaves(value, where=""):
    """All tensors and numbers of nested containers."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, f"{where}.{key}")
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from leaves(inner, f"{where}.{number}")
    else:
        yield where, value


def rows(file, *columns):
    with file.open(newline="") as opened:
        return [tuple(row[c] for c in columns) for row in csv.DictReader(opened)]


def test_a_killed_run_goes_on_to_the_same_bits(tmp_path, here):
    """SIGKILL in step 17, after the checkpoint of step 15."""
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    killed = start(torn, 24, 17)
    here(whole, 24)
    killed.communicate(timeout=300)
    assert killed.returncode == -signal.SIGKILL
    assert state(torn)["step"] == 15
    assert not (torn / "weights.safetensors").exists()
    here(torn, 24)
    first, second = dict(leaves(state(whole))), dict(leaves(state(torn)))
    assert first.keys() == second.keys() and len(first) > 30
    for name, value in first.items():
        same = torch.equal(value, second[name]) if torch.is_tensor(value) else value == second[name]
        assert same, name
    read = (whole / "weights.safetensors").read_bytes()
    assert read == (torn / "weights.safetensors").read_bytes()
    for name, columns in (("log.csv", ("step", "loss")), ("validation.csv", ("step", "mean_dice"))):
        assert rows(whole / "net" / name, *columns) == rows(torn / "net" / name, *columns)
    facts = json.loads((torn / "run.json").read_text())
    assert facts["fold"] == {"train": ["a", "b", "c"], "validation": ["d"]}
    assert facts["ended"] and facts["parts"]["net"]["steps"] == 24


WAITING = """
import os, time
from dataclasses import dataclass
from mskt.core.anatomy import label_set
from mskt.training.cases import CaseStream, CaseWindow

@dataclass(frozen=True)
class Tells(CaseStream):
    label_set: object = label_set("msk22")
    spacing_mm: tuple = (1.0, 1.0, 1.0)
    def case(self, number):
        return os.getpid()
    def describe(self):
        return {}

if __name__ == "__main__":
    window = CaseWindow(Tells(), 1, workers=1)
    print(window.at(0)[0], flush=True)
    time.sleep(300)
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")
def test_workers_do_not_outlive_a_killed_training(tmp_path):
    script = tmp_path / "waits.py"
    script.write_text(WAITING)
    training = subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, env=ALONE, text=True
    )
    worker = int(training.stdout.readline())
    training.kill()
    training.wait()
    training.stdout.close()
    for _ in range(600):
        if not running(worker):
            return
        time.sleep(0.05)
    os.kill(worker, signal.SIGKILL)
    pytest.fail("the worker still waits for work from nobody")


def running(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="torch without gloo")
def test_two_processes_train_as_one(tmp_path, here, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    together = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    two = [start(tmp_path / "two", 12, RANK=str(rank), **together) for rank in range(2)]
    monkeypatch.setenv("PLAIN", "1")
    here(tmp_path / "one", 12)
    finish(*two)
    one, shared = state(tmp_path / "one"), state(tmp_path / "two")
    assert one["step"] == shared["step"] == 12
    for name, value in one["network"].items():
        torch.testing.assert_close(shared["network"][name], value, rtol=2e-3, atol=2e-4)
    for name, columns in (("log.csv", ("loss",)), ("validation.csv", ("loss", "mean_dice"))):
        values = [
            torch.tensor(
                [[float(v) for v in row] for row in rows(tmp_path / w / "net" / name, *columns)]
            )
            for w in ("one", "two")
        ]
        torch.testing.assert_close(*values, rtol=5e-3, atol=2e-3)
    assert json.loads((tmp_path / "two" / "run.json").read_text())["processes"] == 2

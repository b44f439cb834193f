"""Words for a lack of memory."""

import subprocess
import sys
from pathlib import Path

import pytest

from mskt.cli.memory import advice, ran_out


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
        RuntimeError("CUDA out of memory. Tried to allocate 2 GiB."),
        OSError(12, "Cannot allocate memory"),
    ],
)
def test_every_way_to_say_it_is_known(error):
    assert ran_out(error)
    assert not ran_out(RuntimeError("shape mismatch"))


def test_it_says_what_the_scan_takes():
    text = advice((512, 512, 500), MemoryError())
    assert "512 × 512 × 500" in text and "crop" in text
    small = advice((64, 64, 10), MemoryError())
    gigabytes = [float(t.split("takes about ")[1].split(" GB")[0]) for t in (text, small)]
    assert gigabytes[0] > 2 * gigabytes[1] > 1
    assert "GPU" in advice((4, 4, 4), RuntimeError("CUDA out of memory"))
    assert "voxels" not in advice(None, MemoryError())


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="limits of Linux")
def test_a_limit_is_named():
    code = (
        "import resource as r; r.setrlimit(r.RLIMIT_AS, (3 * 10**9, 3 * 10**9));"
        "from mskt.cli.memory import advice; print(advice(None, MemoryError()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "ulimit -v allows 3.0 GB, of which programs and libraries take 0." in done.stdout

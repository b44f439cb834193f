"""One part of a cell in a process of its own: ``mskt run`` itself, warmed up, its energy noted.

Reads the call as JSON from stdin and writes what came of it to the file named there. So a plugin that
crashes takes nobody else with it, and peak memory is its own.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

from mskt.cli.options import RunOptions
from mskt.core.errors import MsktError, UsageError

INCOMPATIBLE, FAILED = "incompatible", "failed"
_EVERY_S = 0.1


class Meter:
    """Energy of a CUDA device, by sampling its power; none where the device does not tell it."""

    def __init__(self, device: str) -> None:
        self._device = device.replace("gpu", "cuda", 1)
        self._joules: float | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to count, if there is anything to be counted."""
        import torch

        if self._device == "auto":
            self._device = "cuda" if torch.cuda.is_available() else "cpu"
        if self._device.startswith("cuda") and self._watts() is not None:
            self._joules = 0.0
            self._thread = threading.Thread(target=self._watch, daemon=True)
            self._thread.start()

    def stop(self) -> float | None:
        """Joules since the start; None if the device does not report its power."""
        if self._thread is not None:
            self._stop.set()
            self._thread.join()
        return self._joules

    def _watts(self) -> float | None:
        import torch

        try:
            return torch.cuda.power_draw(self._device) / 1000.0
        except Exception:  # no NVML, a driver that does not tell, a device without a sensor
            return None

    def _watch(self) -> None:
        before, power = time.perf_counter(), self._watts()
        while not self._stop.wait(_EVERY_S):
            now, watts = time.perf_counter(), self._watts()
            if watts is not None and power is not None and self._joules is not None:
                self._joules += 0.5 * (watts + power) * (now - before)
            before, power = now, watts


def main() -> None:
    """Do what stdin says."""
    request = json.load(sys.stdin)
    options = _options(request["options"])
    answer = _answer(options, request["warm_up"])
    Path(request["answer"]).write_text(json.dumps(answer), encoding="utf-8")


def _answer(options: RunOptions, warm_up: bool) -> dict[str, Any]:
    from mskt.cli.runner import run

    meter = Meter(options.device)
    try:
        code = run(options, warmed_up=meter.start, warm_up=warm_up)
    except MsktError as error:
        kind = INCOMPATIBLE if _does_not_fit(error, options) else FAILED
        lines = [line.strip().rstrip(".") for line in str(error).splitlines()]
        return {"kind": kind, "reason": ". ".join(lines) + "."}
    except Exception as error:  # a plugin may raise anything while it is built
        text = " ".join(f"{type(error).__name__}: {error}".split())
        return {"kind": FAILED, "reason": f"could not begin ({text})"}
    return {"code": code, "energy_j": meter.stop(), **_machine(options.device)}


def _does_not_fit(error: MsktError, options: RunOptions) -> bool:
    """Segmenter and uncertainty are fine, but not for each other."""
    pair = (options.uncertainty, f"--uncertainty {options.uncertainty}")
    return isinstance(error, UsageError) and error.thing in pair


def _machine(device: str) -> dict[str, Any]:
    import torch

    on_gpu = torch.cuda.is_available() and not device.startswith("cpu")
    return {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if on_gpu else None,
    }


def _options(told: dict[str, Any]) -> RunOptions:
    """The options of the run, out of JSON."""
    known = {field.name for field in fields(RunOptions)}
    values = {name: value for name, value in told.items() if name in known}
    values["inputs"] = tuple(Path(path) for path in values["inputs"])
    values["out"] = Path(values["out"])
    values["allow"] = frozenset(values["allow"])
    return RunOptions(**values)


if __name__ == "__main__":
    main()

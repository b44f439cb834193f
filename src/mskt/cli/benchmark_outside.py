"""Run one command and note, from outside, its wall time, largest memory and exit code.

Run as a script by its path, not imported: ``python -I -S benchmark_outside.py REPORT COMMAND…``. It
stands between mskt and what is measured because a process inherits the peak memory of the one that
starts it (Linux keeps ``ru_maxrss`` over exec), and this one is small.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time


def main(report: str, command: list[str]) -> None:
    """Write ``REPORT``: seconds, exit code (negative: signal), peak memory in bytes or null."""
    # Ctrl-C is for the command, which gets it too; a handler, unlike SIG_IGN, is not inherited.
    signal.signal(signal.SIGINT, lambda *_: None)
    begin = time.perf_counter()
    try:
        process = subprocess.Popen(command)
    except OSError as error:
        _write(report, {"error": f"{command[0]}: {error.strerror or type(error).__name__}"})
        return
    peak = None
    if hasattr(os, "wait4"):
        _, status, usage = os.wait4(process.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    else:
        code = process.wait()
    seconds = time.perf_counter() - begin
    _write(report, {"seconds": seconds, "code": code, "peak_memory_bytes": peak})


def _write(report: str, content: dict[str, object]) -> None:
    with open(report, "w", encoding="utf-8") as file:  # noqa: PTH123 (nothing else is imported)
        json.dump(content, file)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])

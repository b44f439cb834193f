"""Run a function in a fresh interpreter, as a worker on another node would.

A process of its own, not ``multiprocessing``: nothing of the caller's main module is imported
there, so the kit also works from a script without a main guard.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mskt.testing.outcome import ConformanceError, NotApplicable

_REQUEST, _ANSWER = "request.pickle", "answer.pickle"


def run_elsewhere(function: Callable[..., Any], *args: Any, timeout_s: float = 600) -> Any:
    """The result of ``function(*args)``, computed in a new Python process.

    Raises:
        NotApplicable: function or arguments cannot be pickled (a lambda, a local class).
        ConformanceError: the call raised, or the process died.
    """
    try:
        request = pickle.dumps((function, args))
    except Exception as error:  # pickle raises three different types for the same fault
        raise NotApplicable(
            f"the maker cannot be pickled ({error}); give a class or a function "
            "of a module instead of a lambda"
        ) from error
    if b"__main__" in request:
        raise NotApplicable("the maker is defined in __main__; move it into a module")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, _REQUEST).write_bytes(request)
        done = subprocess.run(
            [sys.executable, "-m", "mskt.testing.elsewhere", folder],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        answer = Path(folder, _ANSWER)
        if done.returncode or not answer.exists():
            lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            raise ConformanceError(
                f"in a fresh Python process: {lines[-1]}",
                "Make the module importable by itself: nothing may depend on what the parent "
                "process has imported or set.",
            )
        # Written by our own child in a folder that only this user can read.
        return pickle.loads(answer.read_bytes())


def _main(folder: Path) -> None:
    function, args = pickle.loads((folder / _REQUEST).read_bytes())
    (folder / _ANSWER).write_bytes(pickle.dumps(function(*args)))


if __name__ == "__main__":
    _main(Path(sys.argv[1]))

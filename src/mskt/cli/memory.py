"""What to say when memory runs out."""

from __future__ import annotations

import sys
from math import prod
from pathlib import Path

GB_ALWAYS = 1.0
"""Python, torch and a network."""
GB_A_MILLION_VOXELS = 0.014
"""Of the scan: image, maps and what is derived from them (``benchmarks/end_to_end.py``)."""
_SIGNS = ("out of memory", "can't allocate memory", "not enough memory", "cannot allocate memory")


def ran_out(error: BaseException) -> bool:
    """True if an error means that memory was not enough; torch and NumPy say it in many ways."""
    return isinstance(error, MemoryError) or any(sign in str(error).lower() for sign in _SIGNS)


def advice(shape: tuple[int, ...] | None, error: BaseException) -> str:
    """One line that says what would do.

    Args:
        shape: of the scan; None if it could not even be read.
        error: for which :func:`ran_out` holds.
    """
    if "cuda" in str(error).lower():
        return (
            "the memory of the GPU ran out. Close other programs that use it, or use --device cpu."
        )
    if shape is None:
        return f"memory ran out{_allowed()}. Close other programs, or allow more."
    needed = GB_ALWAYS + GB_A_MILLION_VOXELS * prod(shape) / 1e6
    return (
        f"memory ran out: a scan of {' × '.join(map(str, shape))} voxels takes about "
        f"{needed:.1f} GB{_allowed()}. Close other programs, allow more, or crop the scan to hip "
        "and thigh."
    )


def _allowed() -> str:
    """What this process may have, where that is set; empty otherwise.

    The limit counts addresses, and the libraries of torch take some gigabytes of those.
    """
    if sys.platform == "win32":
        return ""
    import resource

    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return ""
    taken = _addresses()
    beside = f", of which programs and libraries take {taken / 1e9:.1f} GB" if taken else ""
    return f" (ulimit -v allows {limit / 1e9:.1f} GB{beside})"


def _addresses() -> int:
    """Bytes of addresses in use, 0 where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:
        return 0
    import resource

    return pages * resource.getpagesize()

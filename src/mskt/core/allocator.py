"""Memory that is freed is kept for the next tensor."""

from __future__ import annotations

import ctypes
import sys
from typing import Final

M_TRIM_THRESHOLD: Final = -1
M_MMAP_MAX: Final = -4
M_ARENA_MAX: Final = -8


def keep_freed_memory() -> bool:
    """Ask the C library not to give large blocks back to the system as soon as they are free.

    A network frees and asks for blocks of many megabytes hundreds of times a second; each new one
    costs a page fault every four kilobytes, in all a fifth to a half of the time (docs/performance.md). The
    peak of memory stays about the same; it is the process that holds it, to its end. All threads
    share one pool, since those of single threads are given back all the same. Only glibc knows
    these settings; elsewhere nothing happens. Once a process, before the first thread.

    Returns:
        Whether it was done.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    settings = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_ARENA_MAX, 1))
    return all([mallopt(name, value) for name, value in settings])

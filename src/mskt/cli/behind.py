"""Write one case while the network works on the next."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType


class WriteBehind:
    """Work that is done beside, one piece at a time and in order.

    No more than one piece waits, so that a run needs memory for one case more and no further. What
    it raises is raised by the next call: a disk that is full stops the run.

    Args:
        beside: False does each piece at once, for whoever measures times.
    """

    def __init__(self, *, beside: bool) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="write-behind") if beside else None
        self._waiting: Future[None] | None = None

    def __enter__(self) -> WriteBehind:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """What has begun is done to its end, also after Ctrl-C: a finished case is kept."""
        try:
            self.wait()
        except Exception:
            if error is None:  # else the run ends for a reason of its own, which comes first
                raise
        finally:
            if self._pool is not None:
                self._pool.shutdown()

    def wait(self) -> None:
        """Until nothing is left to do.

        Raises:
            Exception: what the last piece raised.
        """
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.result()

    def do(self, work: Callable[[], None], *, last: bool = False) -> None:
        """Begin ``work`` when what was begun before is done; the last piece is waited for."""
        self.wait()
        if self._pool is None or last:
            work()
        else:
            self._waiting = self._pool.submit(work)

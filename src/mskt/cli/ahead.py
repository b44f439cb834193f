"""Read the next case while the network works on this one."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mskt.cli.sources import Source
    from mskt.core.volume import Volume


class ReadAhead:
    """Images of cases in their order, one case ahead.

    No more than one image waits, so that a run needs memory for one image more and no further. What
    is wrong with a file is raised when its own turn comes.

    Args:
        sources: in the order in which they will be asked for.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        self._following = dict(zip((s.case_id for s in sources), sources[1:], strict=False))
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="read-ahead")
        self._waiting: dict[str, Future[Volume]] = {}

    def __enter__(self) -> ReadAhead:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Begin nothing more; what is being read is read to its end and forgotten."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def load(self, source: Source) -> Volume:
        """The image of ``source``; begins to read the one after it.

        Raises:
            MsktError: whatever reading this image raises.
        """
        waiting = self._waiting.pop(source.case_id, None)
        try:
            return source.load() if waiting is None else waiting.result()
        finally:
            following = self._following.get(source.case_id)
            if following is not None:
                self._waiting[following.case_id] = self._pool.submit(following.load)

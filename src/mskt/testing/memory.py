"""How much memory an action holds at its worst moment: tensors and NumPy arrays together."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from typing import Any


def peak_bytes(action: Callable[[], object]) -> int:
    """Largest number of bytes of tensors and arrays alive at once while ``action`` runs.

    Counts storages, not tensors, so that a view does not count twice and a view that keeps a large
    storage alive counts in full. Scratch memory inside one operation is not seen.
    """
    import torch
    from torch.multiprocessing.reductions import StorageWeakRef
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    weak: Any = StorageWeakRef
    alive: dict[int, tuple[Any, int]] = {}
    peak = before = 0

    class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            nonlocal peak
            result = func(*args, **(kwargs or {}))
            for tensor in tree_leaves(result):
                if isinstance(tensor, torch.Tensor):
                    storage = tensor.untyped_storage()
                    alive[storage._cdata] = (weak(storage), storage.nbytes())
            for address in [a for a, (reference, _) in alive.items() if reference.expired()]:
                del alive[address]
            tensors = sum(size for _, size in alive.values())
            arrays = tracemalloc.get_traced_memory()[0] - before if tracemalloc.is_tracing() else 0
            peak = max(peak, tensors + arrays)
            return result

    with Watch():  # type: ignore[no-untyped-call]
        torch.zeros(1)  # torch imports half of itself when a mode is first used
    alive.clear()
    peak = 0
    gc.collect()
    started = not tracemalloc.is_tracing()
    if started:
        tracemalloc.start(1)
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        with Watch():  # type: ignore[no-untyped-call]
            action()
        return max(peak, tracemalloc.get_traced_memory()[1] - before)
    finally:
        if started:
            tracemalloc.stop()

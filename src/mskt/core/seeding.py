"""Counter-based randomness: a draw depends on (seed, draw, place), never on order or batching.

Philox (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") turns a key and a counter
into random bits without a state that would have to be carried along. Two processes that ask for the
same key get the same numbers, whatever either of them has asked for before.
"""

from __future__ import annotations

import hashlib
from operator import index

import numpy as np
from numpy.typing import NDArray


def key(*parts: int | str) -> int:
    """A 128-bit key made of a seed and of names or numbers of places.

    Args:
        parts: integers and strings, in an order that means something: ``key(seed, "dropout", 3)``.
            Integers of NumPy are integers; a name may hold any character.

    Returns:
        An integer in ``[0, 2**128)``. Different parts give different keys (up to hash collisions).
    """
    text = "\x1f".join(
        "str:" + part.replace("\x1f", "\x1f\x1f") if isinstance(part, str) else f"int:{index(part)}"
        for part in parts
    )
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "little")


def generator(*parts: int | str) -> np.random.Generator:
    """A NumPy generator that depends on ``parts`` alone (see :func:`key`)."""
    return np.random.Generator(np.random.Philox(key=key(*parts)))


def random_bytes(count: int, *parts: int | str) -> NDArray[np.uint8]:
    """``count`` random bytes that depend on ``parts`` alone: the first bytes of a longer request.

    Returns:
        uint8, shape ``(count,)``; ``random_bytes(n, …)`` is a prefix of ``random_bytes(n + m, …)``.
    """
    words = np.random.Philox(key=key(*parts)).random_raw((count + 7) // 8)
    return words.view(np.uint8)[:count]

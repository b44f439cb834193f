"""Counter-based randomness: a draw depends on (seed, draw, place), never on order or batching.

A key and a counter become random bits without a state that would have to be carried along. Two
processes that ask for the same key get the same numbers, whatever either has asked for before.
Generators of NumPy are Philox (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3");
plain bits are SplitMix64 (Steele, Lea, Flood 2014): a dozen integer operations, which any device
does, and so the same bits on a GPU (:func:`mskt.core.dropout.random_words`).
"""

from __future__ import annotations

import hashlib
from operator import index
from typing import Final

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


STEP: Final = 0x9E3779B97F4A7C15
ROUNDS: Final = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1))
"""Of SplitMix64: the distance from counter to counter; shifts, each with a factor after it."""


def word_key(*parts: int | str) -> int:
    """A 64-bit key for :func:`random_words`: the lower half of :func:`key`."""
    return key(*parts) & (2**64 - 1)


def random_words(count: int, start: int) -> NDArray[np.uint64]:
    """``count`` random words of 64 bits (SplitMix64).

    Args:
        count: how many; fewer are the first of more.
        start: from :func:`word_key`.
    """
    words = np.arange(1, count + 1, dtype=np.uint64)
    words *= np.uint64(STEP)
    words += np.uint64(start)
    shifted = np.empty_like(words)
    for shift, factor in ROUNDS:
        np.right_shift(words, np.uint64(shift), out=shifted)
        words ^= shifted
        if factor != 1:
            words *= np.uint64(factor)
    return words


def random_bytes(count: int, *parts: int | str) -> NDArray[np.uint8]:
    """``count`` random bytes that depend on ``parts`` alone: the first bytes of a longer request.

    Returns:
        uint8, shape ``(count,)``; ``random_bytes(n, …)`` is a prefix of ``random_bytes(n + m, …)``.
    """
    words = random_words((count + 7) // 8, word_key(*parts))
    return words.astype("<u8", copy=False).view(np.uint8)[:count]

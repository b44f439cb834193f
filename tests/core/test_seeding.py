"""A number depends on its key alone."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mskt.core.seeding import generator, key, random_bytes, random_words

FEW = settings(max_examples=30, deadline=None)
part_lists = st.lists(st.integers(-(2**70), 2**70) | st.text(max_size=6), min_size=1, max_size=4)


@given(part_lists, st.integers(0, 200), st.integers(0, 200))
@FEW
def test_fewer_bytes_are_a_prefix_of_more(parts, few, more):
    long = random_bytes(few + more, *parts)
    assert long.dtype == np.uint8 and long.shape == (few + more,)
    assert np.array_equal(random_bytes(few, *parts), long[:few])


@given(part_lists, part_lists)
@FEW
def test_keys_are_equal_if_and_only_if_their_parts_are(first, second):
    same = [(type(a), a) for a in first] == [(type(a), a) for a in second]
    assert (key(*first) == key(*second)) == same
    assert 0 <= key(*first) < 2**128


@given(part_lists)
@FEW
def test_what_was_asked_before_does_not_matter(parts):
    first = generator(*parts).normal(size=5)
    generator("other").normal(size=100)
    np.random.default_rng(0).normal()
    assert np.array_equal(generator(*parts).normal(size=5), first)


def test_a_separator_inside_a_name_makes_no_other_key():
    texts = [
        ("a", "b"),
        ("a\x1fstr:b",),
        ("a\x1fb",),
        ("ab",),
        ("a", "", "b"),
        (1, 2),
        ("1", "2"),
        (12,),
    ]
    assert len({key(*parts) for parts in texts}) == len(texts)


def test_numpy_integers_are_integers():
    assert key(np.int64(3), "x") == key(3, "x")


def test_bytes_are_uniform_and_neighbouring_keys_independent():
    draws = np.stack([random_bytes(1 << 16, 7, "dropout", index) for index in range(4)])
    counts = np.stack([np.bincount(draw, minlength=256) for draw in draws])
    chi2 = ((counts - 256.0) ** 2 / 256).sum(axis=1)
    assert (chi2 < 255 + 6 * np.sqrt(2 * 255)).all()
    bits = np.unpackbits(draws, axis=1).astype(float) - 0.5
    correlation = np.corrcoef(bits) - np.eye(4)
    assert np.abs(correlation).max() < 6 / np.sqrt(bits.shape[1])


def test_another_process_gets_the_same_numbers():
    code = "from mskt.core.seeding import key, random_bytes as r; print(key(1, 'a'), r(9, 1, 'a').tolist())"
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert there.stdout.strip() == f"{key(1, 'a')} {random_bytes(9, 1, 'a').tolist()}"


def test_words_are_those_of_the_published_generator():
    # First outputs of SplitMix64 for the seeds 0 and 1234567, as other libraries have them.
    assert random_words(1, 0).tolist() == [0xE220A8397B1DCDAF]
    assert random_words(2, 1234567).tolist() == [6457827717110365317, 3203168211198807973]

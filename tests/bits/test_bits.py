"""Bit helpers: the same for ints and arrays, checked against plain Python arithmetic."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitless import bits
from hitless.bits import Field, Layout, bit, reserved

words = st.integers(0, 2**64 - 1)
fields = st.tuples(st.integers(0, 63), st.integers(0, 63)).map(lambda p: Field("f", max(p), min(p)))


@given(st.lists(words, min_size=1, max_size=5), fields, words)
def test_helpers_agree_on_ints_and_arrays(values, at, other):
    """get, masked, put, place, keep, drop, join, test, equals, lowest_zero: one meaning."""
    array = np.array(values, dtype=np.uint64)
    low = other & at.ones
    pairs = [
        (bits.get(array, at), [bits.get(v, at) for v in values]),
        (bits.masked(array, at), [bits.masked(v, at) for v in values]),
        (bits.put(array, at, low), [bits.put(v, at, low) for v in values]),
        (bits.place(array, at, other), [bits.place(v, at, other) for v in values]),
        (bits.keep(array, other), [bits.keep(v, other) for v in values]),
        (bits.drop(array, other), [bits.drop(v, other) for v in values]),
        (bits.join(array, other), [bits.join(v, other) for v in values]),
        (bits.test(array, at), [bits.test(v, at) for v in values]),
        (bits.equals(array, at, low), [bits.equals(v, at, low) for v in values]),
        (bits.lowest_zero(array, at.lo), [bits.lowest_zero(v, at.lo) for v in values]),
    ]
    for many, single in pairs:
        assert many.tolist() == single
        assert many.dtype in (np.dtype(np.uint64), np.dtype(np.bool_))
        assert all(type(each) in (int, bool) for each in single)


@given(words, fields)
def test_get_is_plain_shifting(word, at):
    """The oracle is text: the bits of the word as a binary string."""
    text = f"{word:064b}"[63 - at.hi : 64 - at.lo]
    assert bits.get(word, at) == int(text, 2)


@given(words, st.integers(0, 63))
def test_lowest_zero_is_the_first_0_in_the_text(word, lo):
    """Counted from the right of the binary text."""
    text = f"{word:064b}"[::-1]
    assert bits.lowest_zero(word, lo) == (text.find("0", lo) if "0" in text[lo:] else 64)


def test_put_refuses_what_does_not_fit():
    """A value wider than its field is an error, not a silent cut."""
    with pytest.raises(ValueError, match="4 bits wide"):
        bits.put(0, Field("f", 3, 0), 16)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ((Field("a", 31, 0), Field("b", 40, 31), reserved(63, 41)), "overlaps"),
        ((Field("a", 31, 0), reserved(62, 32)), "declare every bit"),
        ((Field("a", 31, 0), Field("a", 63, 32)), "two fields"),
    ],
)
def test_a_layout_declares_every_bit_once(fields, message):
    """Overlaps, gaps and double names are refused when the layout is made."""
    with pytest.raises(ValueError, match=message):
        Layout("x", "nowhere", fields)


@given(st.integers(0, 1), st.integers(0, 2**20 - 1), st.integers(0, 2**40 - 1))
def test_multi_word_layouts_round_trip(flag, low, high):
    """A field may cross words; encode and decode are inverse."""
    layout = Layout("x", "", (bit("flag", 0), Field("low", 20, 1), Field("mid", 80, 21), Field("high", 127, 81)), 128)
    words = layout.encode(flag=flag, low=low, high=high)
    assert layout.decode(words) == {"flag": flag, "low": low, "mid": 0, "high": high}
    assert words[1] >> 17 == high

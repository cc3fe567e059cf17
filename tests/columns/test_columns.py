"""Rows kept as columns: they are a sequence of rows, and ranges join as a plain loop joins them."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitless.columns import Blocks, Ranges, words

TOP = (1 << 64) - 1
RANGES = st.lists(
    st.tuples(st.integers(0, 40), st.integers(1, 6)).map(lambda each: (each[0], each[0] + each[1])), max_size=12
)


@given(RANGES)
def test_columns_are_a_sequence_of_rows(pairs):
    """Length, indices from both ends, slices, equality to lists and tuples."""
    ranges = Ranges.of(pairs)
    assert len(ranges) == len(pairs)
    assert list(ranges) == pairs
    assert ranges == pairs
    assert ranges == tuple(pairs)
    assert [ranges[i] for i in range(-len(pairs), 0)] == pairs
    assert list(ranges[1:3]) == pairs[1:3]
    assert list(ranges.take(np.arange(len(pairs))[::-1])) == pairs[::-1]
    with pytest.raises(IndexError):
        ranges[len(pairs)]


def test_columns_of_other_rows_are_not_equal():
    """Neither another length nor another row."""
    ranges = Ranges.of([(1, 2), (4, 5)])
    assert ranges != [(1, 2)]
    assert ranges != [(1, 2), (4, 6)]
    assert ranges != "ranges"


@given(RANGES, st.sampled_from([0, TOP - 45]))
def test_joined_ranges_cover_the_same_with_the_fewest(pairs, base):
    """Each number of a joined range is in one of the ranges; no two joined ones touch; up to the end of a space."""
    pairs = sorted((base + start, base + end) for start, end in pairs)
    found = list(Ranges.of(pairs).joined())
    inside = {number for start, end in pairs for number in range(start, end)}
    assert {number for start, end in found for number in range(start, end)} == inside
    assert all(end < start for (_, end), (start, _) in pairwise(found))


def test_a_range_may_end_with_the_space():
    """Its last word is 2**64 - 1, its end as a row 2**64."""
    ranges = Ranges.of([(0, 1), (5, 1 << 64)])
    assert ranges.last.tolist() == [0, TOP]
    assert list(ranges) == [(0, 1), (5, 1 << 64)]
    assert list(ranges.joined()) == [(0, 1), (5, 1 << 64)]


def test_blocks_are_addresses_with_sizes():
    """A row is (address, size_lg2), as Python ints."""
    blocks = Blocks(words([0x1000, 0x8000]), words([12, 13]))
    assert list(blocks) == [(0x1000, 12), (0x8000, 13)]
    assert all(type(each) is int for row in blocks for each in row)

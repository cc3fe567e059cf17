"""The page format vocabulary on a small format that has it all: runs, skipped levels, sign-extended input.

Its words are those of nobody: bit 0 present, bit 1 leaf, bit 2 run of four, bits 5:3 the level of the
table pointed to; 16 entries a table, three levels, 24 bits of input.
"""

import numpy as np
import pytest

from hitless.bits import Field, Layout, bit, join, keep, reserved, select
from hitless.bits import test as is_set
from hitless.memory import Arena
from hitless.pagetable import (
    READ,
    WRITE,
    Leaf,
    LeafSize,
    Level,
    PageFormat,
    Position,
    WalkFault,
    count_leaves,
    table_leaves,
    translate,
    walk,
)

P, LEAF, RUN = bit("P", 0), bit("leaf", 1), bit("run", 2)
CHILD, ADDRESS = Field("child", 5, 3), Field("address", 51, 12)
ENTRY = Layout("entry", "nowhere", (P, LEAF, RUN, CHILD, reserved(11, 6), ADDRESS, reserved(63, 52)))
RW = READ | WRITE


class Runs(PageFormat):
    """Runs of four at level 0: 16K; leaves of 64K at level 1; the root's pointers may skip level 1."""

    name, source, oa_bits = "test/runs", "nowhere", 52
    levels = tuple(Level(i, 12 + 4 * i, 4, i, f"test {i}") for i in range(3))
    leaf_sizes = (LeafSize(12, 0), LeafSize(14, 0, 2), LeafSize(16, 1))

    def layout(self, kind, level):
        return ENTRY if (kind == "leaf") == (level == 0) or level == 1 else None

    def present(self, word):
        return is_set(word, P)

    def is_leaf(self, word, level):
        return is_set(word, LEAF)

    def table_pa(self, word):
        return keep(word, ADDRESS.mask)

    def leaf_lg2(self, word, level):
        return select(is_set(word, RUN), 14, self.levels[level].lo)

    def leaf_oa(self, word, level):
        return keep(word, ADDRESS.mask >> self.leaf_lg2(word, level) << self.leaf_lg2(word, level))

    def attrs(self, word, level):
        return 0

    def leaf(self, size_lg2, oa, attrs):
        return join(oa, P.mask | LEAF.mask | (RUN.mask if size_lg2 == 14 else 0))

    def run_step(self, size_lg2):
        return 0x1000 if size_lg2 == 14 else 0

    def table(self, level, child_pa):
        return child_pa | P.mask | (level - 1) << 3

    def child_level(self, word, level):
        return word >> 3 & 7

    def default_attrs(self, rights):
        return 0

    def rights(self, word, level):
        return RW


class Signed(Runs):
    """The same with sign-extended input."""

    name = "test/signed"

    def canonical(self, iova):
        return iova | (1 << 64) - (1 << 24) if iova >> 23 else iova


FMT, SIGNED = Runs(), Signed()
TOP = 0xFFFF_FFFF_FF00_0000


@pytest.fixture
def memory():
    """Tables: root at 0x1000, level 1 at 0x2000, level 0 at 0x3000 (linked by level 1) and 0x4000 (by the root)."""
    arena = Arena(0, 1 << 16)
    root = {0: 0x2000 | 1 | 1 << 3, 1: 0x4000 | 1, 15: 0x2000 | 1 | 1 << 3}
    tables = {
        0x1000: root,
        0x2000: {0: 0x3000 | 1, 2: 0x70_0000 | 3},
        0x3000: {i: 0x10_0000 + 0x1000 * (i - 4) | 7 for i in range(4, 8)} | {9: 0x9000 | 3},
        0x4000: {3: 0x8000 | 3},
    }
    for pa, entries in tables.items():
        for index, word in entries.items():
            arena.store(pa + 8 * index, word)
    yield arena
    arena.close()


def test_sizes_of_leaves_and_their_levels():
    """A run is a size of its own; without a declaration there is one plain size per level."""
    assert FMT.leaf_lg2s == (12, 14, 16)
    assert FMT.leaf_size(14) == LeafSize(14, 0, 2)
    with pytest.raises(KeyError, match="no leaf of 32K; it has 4K, 16K, 64K"):
        FMT.leaf_size(15)


@pytest.mark.parametrize("index", [4, 5, 6, 7])
def test_every_entry_of_a_run_is_the_whole_leaf(memory, index):
    """Start, size and output address are the run's, from whichever entry the walk came."""
    found = walk(memory.load, FMT, FMT.start(0x1000, index << 12 | 0xABC))
    assert found[:6] == ("2", 0, 0x4000, 14, 0x10_0000, RW)
    assert translate(memory, FMT, 0x1000, index << 12 | 0xABC) == 0x10_0000 + ((index - 4) << 12) + 0xABC


def test_plain_leaves_beside_runs(memory):
    """A page beside the run, a leaf one level above it."""
    assert translate(memory, FMT, 0x1000, 0x9123) == 0x9123
    assert translate(memory, FMT, 0x1000, 0x2_1234) == 0x70_1234


def test_a_pointer_may_skip_levels_but_the_skipped_bits_must_be_0(memory):
    """The root's entry 1 goes straight to pages: IOVA bits 19:16 index nothing."""
    step = FMT.step(Position("2", 2, 0x1000, 0x10_3000, RW), 0x4001)
    assert step == Position("2", 0, 0x4000, 0x10_3000, RW)
    assert translate(memory, FMT, 0x1000, 0x10_3000) == 0x8000
    assert walk(memory.load, FMT, FMT.start(0x1000, 0x11_3000)) == WalkFault("2", 2, 0x11_3000, 0x4001, "range")


def test_an_iova_that_the_root_cannot_index_is_a_fault_of_range():
    """24 bits, or 24 bits sign-extended."""
    assert FMT.start(0x1000, 1 << 24) == WalkFault("2", 2, 1 << 24, 0, "range")
    assert FMT.start(0x1000, (1 << 24) - 1) == Position("2", 2, 0x1000, (1 << 24) - 1, RW)
    assert SIGNED.start(0x1000, 1 << 23).kind == "range"
    assert SIGNED.start(0x1000, TOP).kind == "range"
    for iova in (0, (1 << 23) - 1, TOP | 1 << 23, (1 << 64) - 1):
        assert SIGNED.start(0x1000, iova) == Position("2", 2, 0x1000, iova, RW)


def test_sign_extended_input_indexes_with_its_low_bits(memory):
    """The upper half is walked through the root's upper entries, and its leaves carry whole addresses."""
    found = walk(memory.load, SIGNED, SIGNED.start(0x1000, TOP | 0xF0_5000))
    assert isinstance(found, Leaf)
    assert (found.iova, found.size_lg2) == (TOP | 0xF0_4000, 14)
    assert TOP | 0xF0_4000 in {leaf.iova for leaf in table_leaves(memory, SIGNED, 0x1000)}


def test_a_run_is_listed_and_counted_once(memory):
    """As one leaf of its size, wherever it is reached from."""
    found = sorted((leaf.iova, leaf.size_lg2, leaf.oa) for leaf in table_leaves(memory, FMT, 0x1000))
    first = [(0x4000, 14, 0x10_0000), (0x9000, 12, 0x9000), (0x2_0000, 16, 0x70_0000)]
    again = [(0xF0_0000 + iova, lg2, oa) for iova, lg2, oa in first]
    assert found == [*first, (0x10_3000, 12, 0x8000), *again]
    assert count_leaves(memory, FMT, 0x1000) == {12: 3, 14: 2, 16: 2}


def test_a_size_that_its_level_does_not_have_is_illegal():
    """The run bit of level 1: hardware refuses it, and the fault says why."""
    assert FMT.malformed(0x10_0007, 1)
    assert list(FMT.faults(0x10_0007, 1)) == ["test/runs: no leaf of 16K is legal at level 1 (test 1)"]
    assert not FMT.malformed(0x10_0007, 0)
    assert not FMT.faults(0x10_0007, 0)


def test_sizes_of_many_words_at_once():
    """An array of entries gives an array of sizes."""
    words = np.array([0x9003, 0x10_0007], dtype=np.uint64)
    assert FMT.leaf_lg2(words, 0).tolist() == [12, 14]

"""What stands in a table: its entries by leaf, run, pointer and gap, with the ranges that touch them."""

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from attrs import define

from hitless.bits import MASK64, U64Array, as_words, drop
from hitless.pagetable import Level, PageFormat
from hitless.refresh.commands import Target
from hitless.refresh.grow import Planned

Ranges: TypeAlias = Sequence[tuple[int, int]]


class Slot(NamedTuple):
    """Adjacent entries that are one thing: a leaf, a run, a pointer, or empty; with the ranges inside.

    ``pa`` and ``iova`` are the first entry's, ``word`` is what it holds (of an empty slot: all hold it).
    ``kind`` is ``leaf``, ``table`` or empty.
    """

    level: Level
    pa: int
    iova: int
    end: int
    word: int
    kind: str
    ranges: list[tuple[int, int]]

    @property
    def entries(self) -> int:
        return (self.end - self.iova) >> self.level.lo

    @property
    def covered(self) -> bool:
        """Whether all that it translates converts."""
        return len(self.ranges) == 1 and self.ranges[0] == (self.iova, self.end)

    @property
    def size_lg2(self) -> int:
        """log2 of the bytes that a leaf or pointer here translates."""
        return (self.end - self.iova).bit_length() - 1

    def pa_of(self, iova: int) -> int:
        """Address of the entry for an IOVA inside."""
        return self.pa + 8 * ((iova - self.iova) >> self.level.lo)

    def target(self, *, tables: bool = False) -> Target:
        """What a cache may hold of the slot as it is."""
        iova, end = self.iova, self.end
        return Target(iova, end - 1, (end - iova).bit_length() - 1, None if tables else self.level.number, tables)


@define(eq=False)
class Table:
    """One table: where it lies, and the first IOVA that it translates.

    ``parent`` is the slot whose pointer leads to it; None: it is the root. ``planned`` is what it will hold, where
    memory does not say so yet.
    """

    level: Level
    pa: int
    base: int
    memory: Planned
    parent: Slot | None
    planned: U64Array | None = None

    @property
    def words(self) -> U64Array:
        """All its words."""
        if self.planned is None:
            return self.memory.view(self.pa, 1 << self.level.bits)
        return self.planned

    def word(self, index: int) -> int:
        """One of its words."""
        return self.memory.load(self.pa + 8 * index) if self.planned is None else int(self.planned[index])

    def index_of(self, iova: int) -> int:
        """The index of the entry for an IOVA."""
        return (iova - self.base) >> self.level.lo


def slots(fmt: PageFormat, table: Table, ranges: Ranges) -> list[Slot]:
    """The slots of a table that sorted ranges touch, in order."""
    found: list[Slot] = []
    now: Slot | None = None
    for start, end in ranges:
        at = start
        while at < end:
            if now is None or at >= now.end:
                here = _slot(fmt, table, at, end)
                if now is not None and not now.word and not here.word and now.end == here.iova:
                    now = found[-1] = now._replace(end=here.end)
                else:
                    now = here
                    found.append(now)
            stop = min(end, now.end)
            if now.ranges and now.ranges[-1][1] == at:
                now.ranges[-1] = (now.ranges[-1][0], stop)
            else:
                now.ranges.append((at, stop))
            at = stop
    return found


def _slot(fmt: PageFormat, table: Table, at: int, end: int) -> Slot:
    """The slot at an IOVA; a gap reaches up to the next entry that is not empty, or to ``end``."""
    level, lo = table.level, table.level.lo
    index = (at - table.base) >> lo
    word = table.word(index)
    first = at >> lo << lo
    stop = first + (1 << lo)
    kind = ""
    if not word:
        last = table.index_of(end - 1)
        used: list[int] = np.flatnonzero(table.words[index : last + 1]).tolist() if last > index else []
        stop = table.base + ((index + used[0] if used else last + 1) << lo)
    elif not fmt.present(word):
        pass
    elif not fmt.is_leaf(word, level.number):
        kind = "table"
    else:
        kind = "leaf"
        lg2 = fmt.leaf_lg2(word, level.number)
        if lg2 > lo:
            first = at >> lg2 << lg2
            index = table.index_of(first)
            stop, word = first + (1 << lg2), table.word(index)
    return Slot(level, table.pa + 8 * index, first, stop, word, kind, [])


def without(ranges: Ranges, gone: Ranges) -> list[tuple[int, int]]:
    """Sorted ranges without what sorted spans cover."""
    left: list[tuple[int, int]] = []
    for start, end in ranges:
        at = start
        for a, b in gone:
            if b <= at or a >= end:
                continue
            if a > at:
                left.append((at, a))
            at = max(at, b)
        if at < end:
            left.append((at, end))
    return left


# -- many words at once


def joined_attrs(fmt: PageFormat, words: U64Array, level: int) -> int:
    """The attributes of leaves that become one, or of all entries of a run: A and D of any (rule M1)."""
    found = as_words(fmt.attrs(words, level))
    clears = fmt.hardware_clears(level)
    return int(np.bitwise_or.reduce(found)) & ~clears | int(np.bitwise_and.reduce(found)) & clears


def lead_to(fmt: PageFormat, words: U64Array, level: Level, iova: int, oa: int, attrs: int) -> bool:
    """Whether adjacent entries, the first for ``iova``, are leaves that map it to ``oa`` on with these attributes."""
    number = level.number
    if not bool(np.all(np.logical_and(fmt.present(words), fmt.is_leaf(words, number)))):
        return False
    hardware = fmt.hardware_set(number)
    if bool(np.any(drop(as_words(fmt.attrs(words, number)), hardware) != np.uint64(attrs & ~hardware & MASK64))):
        return False
    away = np.arange(len(words), dtype=np.uint64) << np.uint64(level.lo)
    sizes = np.broadcast_to(as_words(fmt.leaf_lg2(words, number)), words.shape)
    inside = (away + np.uint64(iova)) & ((np.uint64(1) << sizes) - np.uint64(1))
    return bool(np.array_equal(as_words(fmt.leaf_oa(words, number)) + inside, away + np.uint64(oa)))

"""The live entries that ranges touch: leaves, gaps, and tables that go, found level by level."""

from collections.abc import Callable

import numpy as np
from attrs import define, field

from hitless.bits import BoolArray, U64Array, as_words
from hitless.columns import Ranges
from hitless.memory import PhysicalMemory
from hitless.pagetable import Level, PageFormat
from hitless.refresh.batch import NotBatched
from hitless.refresh.batch.spans import by_entry, fresh, u64
from hitless.refresh.batch.words import kinds

_CHUNK = 1 << 20


@define(eq=False)
class Entries:
    """Live entries of one level, in the order of their IOVAs."""

    level: Level
    iova: U64Array
    pa: U64Array
    word: U64Array


@define(eq=False)
class Gaps:
    """Parts of ranges, of one level, where entries are empty; ``table_pa`` is the table of each."""

    level: Level
    start: U64Array
    last: U64Array
    table_pa: U64Array


@define(eq=False)
class Found:
    """What a walk found, from the root down.

    Args:
        leaves, gaps: by level, those that have any.
        pruned: pointers all of whose IOVAs are in the ranges and shall map nothing.
        pointers: the others, by level: what stands below them stays, and may be one leaf after the plan.
    """

    leaves: list[Entries] = field(factory=list)
    gaps: list[Gaps] = field(factory=list)
    pruned: list[Entries] = field(factory=list)
    pointers: list[Entries] = field(factory=list)


def walk(
    fmt: PageFormat,
    memory: PhysicalMemory,
    root_pa: int,
    ranges: Ranges,
    unmapped: Callable[[U64Array, U64Array], BoolArray],
) -> Found:
    """What sorted, joined ranges touch; ``unmapped`` says which spans shall map nothing.

    Raises:
        NotBatched: a run, a pointer that skips levels, or an entry that is neither empty nor present.
    """
    found = Found()
    start, last = ranges.start, ranges.last
    table = np.full(len(ranges), root_pa, dtype=np.uint64)
    for level in reversed(fmt.levels):
        if not len(start):
            break
        entry, start, last, which = by_entry(level.lo, start, last)
        table = table if which is None else table[which]
        first = fresh(entry)
        heads = np.flatnonzero(first)
        many = len(heads) < len(entry)
        ours = entry[heads] if many else entry
        pa = (table[heads] if many else table) + ((ours & u64((1 << level.bits) - 1)) << u64(3))
        entries = Entries(level, ours << u64(level.lo), pa, memory.gather(pa))
        leaf, pointer = kinds(fmt, entries.word, level.number)
        empty = entries.word == 0
        if not np.logical_or(np.logical_or(leaf, pointer), empty).all():
            raise NotBatched
        of = np.repeat(np.arange(len(heads)), np.diff(np.append(heads, len(entry)))) if many else None
        if leaf.any():
            found.leaves.append(_leaves(fmt, _take(entries, leaf)))
        if empty.any():
            mine = _rows(empty, of)
            found.gaps.append(Gaps(level, start[mine], last[mine], table[mine]))
        if not pointer.any():
            break
        _check_children(fmt, entries.word[pointer], level)
        if gone := _pruned(entries, pointer, start, last, of, unmapped):
            found.pruned.append(gone)
        found.pointers.append(_take(entries, pointer))
        down = np.broadcast_to(as_words(fmt.table_pa(entries.word)), entries.word.shape)
        mine = _rows(pointer, of)
        table = (down if of is None else down[of])[mine]
        start, last = start[mine], last[mine]
    return found


def _rows(which: BoolArray, of: "np.ndarray[tuple[int], np.dtype[np.intp]] | None") -> BoolArray | slice:
    """The ranges of some entries."""
    if which.all():
        return slice(None)
    return which if of is None else which[of]


def _take(entries: Entries, which: BoolArray) -> Entries:
    if which.all():
        return entries
    return Entries(entries.level, entries.iova[which], entries.pa[which], entries.word[which])


def _leaves(fmt: PageFormat, leaves: Entries) -> Entries:
    if np.any(fmt.leaf_lg2(leaves.word, leaves.level.number) != u64(leaves.level.lo)):
        raise NotBatched
    return leaves


def _check_children(fmt: PageFormat, words: U64Array, level: Level) -> None:
    if np.any(fmt.child_level(words, level.number) != u64(level.number - 1)):
        raise NotBatched


def _pruned(
    entries: Entries,
    pointer: BoolArray,
    start: U64Array,
    last: U64Array,
    of: "np.ndarray[tuple[int], np.dtype[np.intp]] | None",
    unmapped: Callable[[U64Array, U64Array], BoolArray],
) -> Entries | None:
    """The pointers that go; they are taken out of ``pointer``."""
    whole = last - start == u64((1 << entries.level.lo) - 1)
    if not whole.any():
        return None
    index = np.flatnonzero(whole) if of is None else of[whole]
    index = index[pointer[index]]
    if not len(index):
        return None
    iova = entries.iova[index]
    index = index[unmapped(iova, iova + u64((1 << entries.level.lo) - 1))]
    if not len(index):
        return None
    which = np.zeros(len(pointer), dtype=bool)
    which[index] = True
    pointer[index] = False
    return Entries(entries.level, entries.iova[which], entries.pa[which], entries.word[which])


def tables_under(fmt: PageFormat, memory: PhysicalMemory, pointers: Entries) -> tuple[U64Array, U64Array, U64Array]:
    """The tables that pointers lead to and all below: first IOVA, level number and address of each, in any order."""
    iovas, numbers, pas = [], [], []
    level = fmt.levels[pointers.level.number - 1]
    iova, pa = pointers.iova, as_words(fmt.table_pa(pointers.word))
    while True:
        iovas.append(iova)
        numbers.append(np.full(len(pa), level.number, dtype=np.uint64))
        pas.append(pa)
        if not level.number or not len(pa):
            return np.concatenate(iovas), np.concatenate(numbers), np.concatenate(pas)
        below = [_below(fmt, memory, level, iova[at], pa[at]) for at in _chunks(len(pa), level)]
        iova, pa = (np.concatenate([each[i] for each in below]) for i in (0, 1))
        level = fmt.levels[level.number - 1]


def _chunks(count: int, level: Level) -> list[slice]:
    step = max(1, _CHUNK >> level.bits)
    return [slice(at, at + step) for at in range(0, count, step)]


def _below(
    fmt: PageFormat, memory: PhysicalMemory, level: Level, iova: U64Array, pa: U64Array
) -> tuple[U64Array, U64Array]:
    """The tables that the entries of some tables lead to: first IOVA and address."""
    index = np.arange(1 << level.bits, dtype=np.uint64)
    words = memory.gather(pa[:, None] + (index << u64(3))).ravel()
    _, pointer = kinds(fmt, words, level.number)
    _check_children(fmt, words[pointer], level)
    return (
        (iova[:, None] + (index << u64(level.lo))).ravel()[pointer],
        as_words(fmt.table_pa(words[pointer])),
    )


__all__ = ["Entries", "Found", "Gaps", "tables_under", "walk"]

"""The survey: walk the tables that a conversion touches and say which entries have to change.

One algorithm for all vendors. From what memory maps and what the layout asks for, it finds the
fewest stores that lead from one to the other with the largest legal leaves; how each store is
made is the recipes' matter.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeAlias, cast

import numpy as np

from hitless.bits import MASK64, U64Array, as_words, drop
from hitless.memory import PhysicalMemory
from hitless.pagetable import Level, PageFormat
from hitless.plan import Fold
from hitless.refresh.build import Builder, LeafRun
from hitless.refresh.changes import Change, Changes
from hitless.refresh.commands import Target
from hitless.refresh.recipes import Kind
from hitless.refresh.target import Piece, PlanRequest, Segment

Ranges: TypeAlias = Sequence[tuple[int, int]]


class Outcome(NamedTuple):
    """What a table will hold after the plan.

    ``empty``: nothing, so that its pointer can go. ``whole``: the word of the one leaf that could
    stand in its place. ``tables``: it and the tables below it, to be freed in either case.
    """

    empty: bool
    whole: int | None
    tables: list[tuple[int, int]]
    folds: list[Fold]


class Entry(NamedTuple):
    """A reachable entry, with the converting ranges that it translates."""

    level: Level
    pa: int
    iova: int
    word: int
    ranges: Ranges

    @property
    def end(self) -> int:
        return self.iova + (1 << self.level.lo)

    @property
    def covered(self) -> bool:
        """Whether all that the entry translates converts."""
        return len(self.ranges) == 1 and self.ranges[0] == (self.iova, self.end)

    def target(self, *, tables: bool = False) -> Target:
        """What a cache may hold of the entry as it is."""
        lo, level = self.level.lo, None if tables else self.level.number
        return Target(self.iova, self.end - 1, lo, level, tables)


class Survey:
    """Fills :class:`Changes` for one request; allocates tables, writes nothing."""

    def __init__(self, fmt: PageFormat, memory: PhysicalMemory, builder: Builder, request: PlanRequest) -> None:
        self._fmt = fmt
        self._memory = memory
        self._builder = builder
        self._request = request
        self.changes = Changes()

    def table(self, number: int, pa: int, base: int, ranges: Ranges) -> Outcome:
        """Survey ``ranges`` in the table of level ``number`` at ``pa`` whose first IOVA is ``base``."""
        level = self._fmt.levels[number]
        words = self._memory.view(pa, 1 << level.bits)
        wipes = len(self.changes.wipe)
        after: dict[int, int | None] = {}
        mergeable: dict[int, Outcome] = {}
        for index, inside in _by_entry(ranges, base, level.lo):
            entry = Entry(level, pa + 8 * index, base + (index << level.lo), int(words[index]), inside)
            if not self._fmt.present(entry.word):
                after[index] = self._map(entry)
            elif self._fmt.is_leaf(entry.word, number):
                after[index] = self._leaf(entry)
            else:
                outcome = self._pointer(entry)
                after[index] = 0 if outcome.empty else outcome.whole
                if outcome.whole is not None:
                    mergeable[index] = outcome
        if self._request.merge and number != self._fmt.top.number:
            mine = [(pa, level.table_lg2)]
            if _stays_empty(words, after):
                del self.changes.wipe[wipes:]
                return Outcome(True, None, mine, [])
            whole = self._whole(level, base, words, after)
            if whole is not None:
                for outcome in mergeable.values():
                    mine += outcome.tables
                return Outcome(False, whole, mine, self._folds(level, pa, mergeable))
        for index, outcome in mergeable.items():
            self._merge(level, pa + 8 * index, base + (index << level.lo), int(words[index]), outcome)
        return Outcome(False, None, [], [])

    # -- one entry; each returns the word that it will hold, None for a pointer

    def _map(self, entry: Entry) -> int | None:
        """Map into an empty entry what the layout asks for."""
        return self._lay_out(entry, entry.ranges)

    def _lay_out(self, entry: Entry, ranges: Ranges) -> int | None:
        """Map ``ranges`` of an entry that is empty by now: one leaf if it fits, else new tables."""
        wanted = [s for start, end in ranges for s in self._request.layout(start, end) if s.oa is not None]
        if not wanted:
            return 0
        number, iova, only = entry.level.number, entry.iova, wanted[0]
        if (only.start, only.end) == (iova, entry.end) and self._builder.fits(number, cast(int, only.oa), iova):
            new = self._fmt.leaf(entry.level.lo, cast(int, only.oa), only.attrs)
            self._link(entry, new)
            return new
        pieces = [Piece(s.start, s.end, cast(int, s.oa), s.attrs, None, "") for s in wanted]
        known = len(self._builder.allocated)
        child, _ = self._builder.build(number - 1, iova, pieces)
        self.changes.unplaced += self._builder.allocated[known:]
        self._link(entry, self._fmt.table(number, child))
        return None

    def _leaf(self, entry: Entry) -> int | None:
        """Keep, replace, wipe or cut a leaf."""
        if self._request.remap:
            return self._remap(entry)
        number, iova = entry.level.number, entry.iova
        pieces = self._pieces(entry)
        if len(pieces) == 1:
            piece = pieces[0]
            later = piece.later.oa if piece.later else None
            if not piece.change:
                if self._request.owed:
                    self.changes.owed.append(entry.target())
                return entry.word
            if later is None or self._builder.fits(number, later, iova):
                return self._convert(LeafRun(entry.pa, 1, number, iova, entry.word, 0, piece))
        child, leaves = self._builder.build(number - 1, iova, pieces)
        fold = [(run.entry_pa, run.entries) for run in leaves]
        new = self._fmt.table(number, child)
        self.changes.cut.append(Change("cut", entry.pa, number, iova, entry.word, new, entry.target(), fold))
        for run in leaves:
            if run.piece.change:
                self._convert(run)
            elif self._request.owed:
                self._owe(run, entry.ranges)
        return None

    def _remap(self, entry: Entry) -> int | None:
        """Clear a leaf before the owner change, and lay its whole span out again after it."""
        self.changes.wipe.append(
            Change("wipe", entry.pa, entry.level.number, entry.iova, entry.word, 0, entry.target())
        )
        return self._lay_out(entry._replace(word=0), ((entry.iova, entry.end),))

    def _pointer(self, entry: Entry) -> Outcome:
        """Descend; or unlink the table, where all that it translates goes."""
        number = entry.level.number
        child = int(self._fmt.table_pa(entry.word))
        if entry.covered and all(s.oa is None for s in self._request.layout(entry.iova, entry.end)):
            outcome = Outcome(True, None, list(self._subtree(number - 1, child)), [])
        else:
            outcome = self.table(number - 1, child, entry.iova, entry.ranges)
        if outcome.empty:
            self.changes.unlinked += outcome.tables
            self.changes.wipe.append(
                Change("prune", entry.pa, number, entry.iova, entry.word, 0, entry.target(tables=True))
            )
        return outcome

    # -- parts

    def _pieces(self, entry: Entry) -> list[Piece]:
        """The leaf's span by what becomes of it; every edge is one that a leaf may not cross."""
        number = entry.level.number
        old_oa, attrs = self._fmt.leaf_oa(entry.word, number), self._fmt.attrs(entry.word, number)
        hardware = self._fmt.hardware_set(number)
        pieces = []
        for segment in self._request.layout(entry.iova, entry.end):
            oa = old_oa + segment.start - entry.iova
            if segment.oa is None:
                change = "wipe"
            elif segment.oa == oa and drop(segment.attrs ^ attrs, hardware) == 0:
                change = ""
            else:
                change = "replace"
            pieces.append(Piece(segment.start, segment.end, oa, attrs, segment if change else None, change))
        return pieces

    def _convert(self, run: LeafRun) -> int:
        """Replace or wipe each leaf of a run; the last one's word afterwards."""
        size_lg2 = self._fmt.levels[run.level].lo
        later = cast(Segment, run.piece.later)
        new = 0
        for i in range(run.entries):
            pa, iova = run.entry_pa + 8 * i, run.iova + (i << size_lg2)
            old = (run.first + i * run.increment) & MASK64
            target = Target(iova, iova + (1 << size_lg2) - 1, size_lg2, run.level, False)
            new = 0 if later.oa is None else self._fmt.leaf(size_lg2, later.oa + iova - later.start, later.attrs)
            if later.oa is None or self._request.wipe_first:
                self.changes.wipe.append(Change("wipe", pa, run.level, iova, old, 0, target))
                old = 0
            if later.oa is not None:
                kind: Kind = "replace" if old else "map"
                self.changes.place.append(Change(kind, pa, run.level, iova, old, new, target))
        return new

    def _link(self, entry: Entry, new: int) -> None:
        """Store into an empty entry."""
        self.changes.place.append(
            Change("map", entry.pa, entry.level.number, entry.iova, entry.word, new, entry.target())
        )

    def _owe(self, run: LeafRun, ranges: Ranges) -> None:
        """Owe an invalidation for the leaves of an unchanged run that the conversion touches."""
        lo = self._fmt.levels[run.level].lo
        end = run.iova + (run.entries << lo)
        for start, stop in ranges:
            at, until = max(start, run.iova) >> lo << lo, min(-(-stop >> lo) << lo, end)
            if at < until:
                self.changes.owed.append(Target(at, until - 1, lo, run.level, False))

    def _subtree(self, number: int, pa: int) -> Iterator[tuple[int, int]]:
        """The tables of a subtree, root first."""
        level = self._fmt.levels[number]
        yield pa, level.table_lg2
        if number:
            words = self._memory.view(pa, 1 << level.bits)
            for word in words[words != 0].tolist():
                if self._fmt.present(word) and not self._fmt.is_leaf(word, number):
                    yield from self._subtree(number - 1, int(self._fmt.table_pa(word)))

    # -- merging

    def _whole(self, level: Level, base: int, words: U64Array, after: dict[int, int | None]) -> int | None:
        """The one leaf that could stand in this table's place after the plan, with A and D of all (rule M1)."""
        if None in after.values():
            return None
        segments = self._request.layout(base, base + (1 << level.lo + level.bits))
        segment = next(segments)
        parent = level.number + 1
        if segment.oa is None or next(segments, None) is not None or not self._builder.fits(parent, segment.oa, base):
            return None
        now = words.copy()
        now[list(after)] = as_words(cast(U64Array, list(after.values())))
        count = np.arange(len(now), dtype=np.uint64)
        should = self._fmt.leaf(level.lo, as_words(segment.oa) + (count << np.uint64(level.lo)), segment.attrs)
        hardware = self._fmt.hardware_set(level.number)
        if not np.array_equal(drop(now, hardware), drop(should, hardware)):
            return None
        attrs = int(np.bitwise_or.reduce(self._fmt.attrs(now, level.number)))
        return self._fmt.leaf(self._fmt.levels[parent].lo, segment.oa, attrs)

    def _folds(self, level: Level, pa: int, below: dict[int, Outcome]) -> list[Fold]:
        """Where A and D may still appear until the merge's wait; the entry is known only to the parent."""
        mine = Fold(0, pa, 1 << level.bits, self._fmt.hardware_set(level.number))
        return [mine, *(fold for outcome in below.values() for fold in outcome.folds)]

    def _merge(self, level: Level, pa: int, iova: int, word: int, outcome: Outcome) -> None:
        """Put the leaf in place of the table that an outcome describes."""
        target = Target(iova, iova + (1 << level.lo) - 1, level.lo, None, True)
        self.changes.merge.append(Change("merge", pa, level.number, iova, word, cast(int, outcome.whole), target))
        self.changes.freed += outcome.tables
        self.changes.folds += [fold._replace(entry_pa=pa) for fold in outcome.folds if fold.hardware]


def _by_entry(ranges: Ranges, base: int, lo: int) -> Iterator[tuple[int, list[tuple[int, int]]]]:
    """Sorted ranges by the table entry that translates them."""
    index, inside = -1, list[tuple[int, int]]()
    for start, end in ranges:
        at = start
        while at < end:
            here = (at - base) >> lo
            stop = min(end, base + (here + 1 << lo))
            if here != index and inside:
                yield index, inside
                inside = []
            index = here
            inside.append((at, stop))
            at = stop
    if inside:
        yield index, inside


def _stays_empty(words: U64Array, after: dict[int, int | None]) -> bool:
    """Whether nothing is left in a table once the touched entries hold what they shall."""
    if any(word != 0 for word in after.values()):
        return False
    touched = int(np.count_nonzero(words[list(after)]))
    return int(np.count_nonzero(words)) == touched

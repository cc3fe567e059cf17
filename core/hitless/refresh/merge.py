"""Merging: what a table could be after a plan, and leaves that become runs again."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, cast

import numpy as np

from hitless.bits import MASK64, U64Array, as_words
from hitless.ownership import Follow
from hitless.pagetable import LeafSize, Level, PageFormat
from hitless.plan import Fold
from hitless.refresh.build import Builder
from hitless.refresh.changes import Change, Changes
from hitless.refresh.commands import Target
from hitless.refresh.slots import Slot, Table, joined_attrs, lead_to
from hitless.refresh.target import LayoutSource, Owners


class Outcome(NamedTuple):
    """What a table will be after the plan.

    Args:
        empty: it maps nothing, so that its pointer can go.
        whole: the word of the one leaf that could stand in its place.
        tables: it and the tables below it, to be freed in either case.
        folds: where A and D go that walkers set in them until the wait.
        pointer: what leads to the table that the plan puts in its place.
        merged: the one leaf takes its place already, with the owner table's entry.
    """

    empty: bool = False
    whole: int | None = None
    tables: Sequence[tuple[int, int]] = ()
    folds: Sequence[Fold] = ()
    pointer: int = 0
    merged: bool = False


class Merger:
    """Merges for one plan; see :class:`hitless.refresh.survey.Survey` for the arguments."""

    def __init__(
        self,
        fmt: PageFormat,
        builder: Builder,
        changes: Changes,
        layout: LayoutSource,
        owners: Owners,
        *,
        in_place: bool,
        joins: bool,
    ) -> None:
        self._fmt = fmt
        self._builder = builder
        self._changes = changes
        self._layout = layout
        self._owners = owners
        self._in_place = in_place
        self._joins = joins

    def outcome(self, table: Table, after: Mapping[int, int], below: Mapping[int, Outcome]) -> Outcome:
        """What becomes of a table whose entries will hold ``after``, and of those below it that could be one leaf."""
        if table.parent is not None:
            mine = [(table.pa, table.level.table_lg2)]
            if _stays_empty(table.words, after):
                return Outcome(empty=True, tables=mine)
            whole = self._whole(table, after)
            follow = Follow.FREE if whole is None else self._follow(table.parent, whole)
            if whole is not None and follow is not Follow.NEVER:
                for outcome in below.values():
                    mine += outcome.tables
                found = Outcome(whole=whole, tables=mine, folds=self._folds(table, below))
                return found if follow is Follow.FREE else self._merge_together(table.parent, found)
        self.merge(table, below)
        return Outcome(pointer=self._join(table, after))

    def _follow(self, parent: Slot, whole: int) -> Follow:
        """How the owner table goes along with a merge."""
        lg2 = parent.level.lo
        return self._owners.follow(parent.iova, self._fmt.leaf_oa(whole, parent.level.number), lg2 - 1, lg2)

    def _merge_together(self, parent: Slot, found: Outcome) -> Outcome:
        """Merge with the owner table's entry, by a store of its own: what merges further takes another."""
        self._merge(self._changes.merge_together, parent.level, parent.pa, parent.iova, parent.word, found)
        return Outcome(whole=found.whole, merged=True)

    def merge(self, table: Table, below: Mapping[int, Outcome]) -> None:
        """Put leaves in place of the tables that outcomes describe."""
        level = table.level
        for index, outcome in below.items():
            pa, iova = table.pa + 8 * index, table.base + (index << level.lo)
            self._merge(self._changes.merge, level, pa, iova, int(table.words[index]), outcome)

    def _merge(self, stage: list[Change], level: Level, pa: int, iova: int, old: int, outcome: Outcome) -> None:
        target = Target(iova, iova + (1 << level.lo) - 1, level.lo, None, True)
        together = stage is self._changes.merge_together
        stage.append(Change("merge", pa, level.number, iova, old, cast(int, outcome.whole), target, together=together))
        self._changes.freed += outcome.tables
        self._changes.folds += [fold._replace(entry_pa=pa) for fold in outcome.folds if fold.hardware]

    def _whole(self, table: Table, after: Mapping[int, int]) -> int | None:
        """The one leaf that could stand in this table's place after the plan, with A and D of all (rule M1)."""
        if 0 in after.values() or table.parent is None:
            return None
        lg2 = table.parent.level.lo
        oa, attrs = self._wanted(table.base, lg2)
        if oa is None:
            return None
        now = _updated(table.words, after)
        if not lead_to(self._fmt, now, table.level, table.base, oa, attrs):
            return None
        return self._fmt.leaf(lg2, oa, joined_attrs(self._fmt, now, table.level.number))

    def _wanted(self, iova: int, lg2: int) -> tuple[int | None, int]:
        """What the layout asks for in a naturally aligned block, if one leaf may map it."""
        segments = self._layout(iova, iova + (1 << lg2))
        first = next(segments)
        if first.oa is None or next(segments, None) is not None or not self._builder.fits(lg2, first.oa, iova):
            return None, 0
        return first.oa, first.attrs

    def _folds(self, table: Table, below: Mapping[int, Outcome]) -> list[Fold]:
        """Where A and D may still appear until the merge's wait; the entry is known only to the parent."""
        number = table.level.number
        hardware, clears = self._fmt.hardware_set(number), self._fmt.hardware_clears(number)
        mine = Fold(0, table.pa, 1 << table.level.bits, hardware & ~clears, clears=clears)
        return [mine, *(fold for outcome in below.values() for fold in outcome.folds)]

    # -- leaves to runs

    def _join(self, table: Table, after: Mapping[int, int]) -> int:
        """Join leaves that the plan touches into runs; the pointer to the table that replaces this one, or 0."""
        if not self._joins or not (self._in_place or table.parent):
            return 0
        sizes = self._builder.runs(table.level.number)
        now = _updated(table.words, after) if sizes else table.words
        new, joined = now.copy(), list[tuple[int, int]]()
        for size in sizes:
            for first, word in self._joinable(table, now, after, size):
                if any(start <= first < end for start, end in joined):
                    continue
                entries = 1 << size.entries_lg2
                step = self._fmt.run_step(size.lg2)
                new[first : first + entries] = [(word + i * step) & MASK64 for i in range(entries)]
                joined.append((first, first + entries))
        if not joined:
            return 0
        if self._in_place:
            for first, end in joined:
                self._rewrite(table, now, new, first, end)
            return 0
        return self._rebuild(table, now, new)

    def _joinable(
        self, table: Table, now: U64Array, after: Mapping[int, int], size: LeafSize
    ) -> Iterator[tuple[int, int]]:
        """The first entries of blocks that could be a run of this size and are not, with the run's first word."""
        level, entries = table.level, 1 << size.entries_lg2
        for first in sorted({table.index_of((table.base + (i << level.lo)) >> size.lg2 << size.lg2) for i in after}):
            words = now[first : first + entries] if first >= 0 else now[:0]
            iova = table.base + (first << level.lo)
            if len(words) < entries or not np.all(words):
                continue
            if bool(np.any(as_words(self._fmt.leaf_lg2(words, level.number)) >= size.lg2)):
                continue
            oa, attrs = self._wanted(iova, size.lg2)
            if oa is not None and lead_to(self._fmt, words, level, iova, oa, attrs):
                yield first, self._fmt.leaf(size.lg2, oa, joined_attrs(self._fmt, words, level.number))

    def _rewrite(self, table: Table, now: U64Array, new: U64Array, first: int, end: int) -> None:
        """Make a run of leaves in their place."""
        level = table.level
        start, stop = table.base + (first << level.lo), table.base + (end << level.lo)
        largest = int(np.max(self._fmt.leaf_lg2(now[first:end], level.number)))
        target = Target(start, stop - 1, largest, level.number, False)
        spread = [(table.pa + 8 * first, end - first)]
        for index in range(first, end):
            pa, iova = table.pa + 8 * index, table.base + (index << level.lo)
            old, word = int(now[index]), int(new[index])
            self._changes.join.append(Change("resize", pa, level.number, iova, old, word, target, [], spread))

    def _rebuild(self, table: Table, now: U64Array, new: U64Array) -> int:
        """Swap a table for one with runs; the pointer to it."""
        parent, level = table.parent, table.level
        if parent is None:
            raise ValueError("the root has no pointer that could be swapped")
        pa, _ = self._builder.build(level.number, table.base, (), new)
        self._changes.unplaced.append((pa, level.table_lg2))
        word = self._fmt.table(parent.level.number, pa)
        target = parent.target(tables=True)
        change = Change("resize", parent.pa, parent.level.number, parent.iova, parent.word, word, target)
        self._changes.join.append(change)
        self._changes.freed.append((table.pa, level.table_lg2))
        self._changes.folds += carried(self._fmt, level, now, table.pa, pa)
        return word


def carried(fmt: PageFormat, level: Level, words: U64Array, table_pa: int, new_pa: int) -> list[Fold]:
    """Where A and D of a table's entries go that another table takes over as they are."""
    leaf = np.logical_and(fmt.present(words), fmt.is_leaf(words, level.number))
    pointer = np.logical_and(fmt.present(words), np.logical_not(leaf))
    clears = fmt.hardware_clears(level.number)
    layout = fmt.layout("table", level.number)
    folds = []
    for which, hardware, cleared in (
        (leaf, fmt.hardware_set(level.number) & ~clears, clears),
        (pointer, layout.hardware if layout else 0, 0),
    ):
        edges = np.flatnonzero(np.diff(which, prepend=False, append=False)) if hardware | cleared else np.empty(0, int)
        for first, end in edges.reshape(-1, 2).tolist():
            folds.append(Fold(new_pa + 8 * first, table_pa + 8 * first, 1, hardware, 1, end - first, cleared))
    return folds


def _updated(words: U64Array, after: Mapping[int, int]) -> U64Array:
    """The words of a table after a plan."""
    now = words.copy()
    now[list(after)] = as_words(cast(U64Array, list(after.values())))
    return now


def _stays_empty(words: U64Array, after: Mapping[int, int]) -> bool:
    """Whether nothing is left in a table once the touched entries hold what they shall."""
    if any(after.values()):
        return False
    return int(np.count_nonzero(words[list(after)])) == int(np.count_nonzero(words))

"""What a batch changes, as columns: what :mod:`hitless.refresh.changes` says one entry at a time."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import overload

import numpy as np
from attrs import define, evolve, field

from hitless.bits import BoolArray, U64Array
from hitless.columns import Blocks, Columns, Ranges
from hitless.pagetable import Level
from hitless.plan import Fold, Folds
from hitless.refresh.batch.spans import fresh, repeated, u64
from hitless.refresh.changes import Change
from hitless.refresh.commands import Target, join_targets
from hitless.refresh.recipes import Kind

_NO_LEVEL = 0xFF


@define(eq=False)
class Targets(Columns[Target]):
    """Targets as columns; ``level`` is 255 where there is none."""

    first: U64Array
    last: U64Array
    leaf_lg2: U64Array
    level: U64Array
    tables: BoolArray

    @property
    def alike(self) -> bool:
        """Whether they differ in their ranges only."""
        return all(not any(each.strides) or bool((each == each[:1]).all()) for each in self._columns()[2:])

    def _rows(self) -> Iterator[Target]:
        columns = (self.first, self.last, self.leaf_lg2, self.level, self.tables)
        for first, last, leaf_lg2, level, tables in zip(*(each.tolist() for each in columns), strict=True):
            yield Target(first, last, leaf_lg2, None if level == _NO_LEVEL else level, tables)

    @classmethod
    def uniform(cls, first: U64Array, last: U64Array, leaf_lg2: int, level: int | None, *, tables: bool) -> "Targets":
        """Targets that differ in their ranges only."""
        of = _NO_LEVEL if level is None else level
        size, number = (np.broadcast_to(u64(value), first.shape) for value in (leaf_lg2, of))
        return cls(first, last, size, number, np.broadcast_to(np.bool_(tables), first.shape))

    @classmethod
    def all_of(cls, parts: Sequence["Targets"]) -> "Targets":
        """All of several, sorted by their first IOVA."""
        if len(parts) == 1:
            return parts[0]
        first, last, size, level = (
            np.concatenate([getattr(part, name) for part in parts] or [np.empty(0, dtype=np.uint64)])
            for name in ("first", "last", "leaf_lg2", "level")
        )
        tables = np.concatenate([part.tables for part in parts] or [np.empty(0, dtype=bool)])
        found = cls(first, last, size, level, tables)
        return found if len(parts) < 2 else found.take(np.argsort(first, kind="stable"))

    def joined(self) -> Sequence[Target]:
        """Adjacent targets of one kind as one, as :func:`hitless.refresh.commands.join_targets` does it."""
        if not (self.first[1:] > self.last[:-1]).all():
            return join_targets(list(self))
        starts = np.ones(len(self), dtype=bool)
        np.not_equal(self.first[1:] - self.last[:-1], u64(1), out=starts[1:])
        if not self.alike:
            starts |= fresh((self.leaf_lg2 << u64(9)) | (self.level << u64(1)) | self.tables)
        heads = np.flatnonzero(starts)
        if len(heads) == len(self):
            return self
        last = self.last[np.append(heads[1:], len(self)) - 1]
        rest = (each[: len(heads)] if self.alike else each[heads] for each in self._columns()[2:])
        return Targets(self.first[heads], last, *rest)  # type: ignore[arg-type]


@define(eq=False)
class ChangeBatch(Sequence[Change]):
    """:class:`Change` for many entries of one level and kind, in the order of their IOVAs.

    ``tables``: cached table pointers have to go too. ``folds``: of cuts, by entry.
    """

    kind: Kind
    level: Level
    pa: U64Array
    iova: U64Array
    old: U64Array
    new: U64Array
    tables: bool = False
    folds: Folds | None = None

    def __len__(self) -> int:
        return len(self.pa)

    @property
    def last(self) -> U64Array:
        """The last IOVA that each entry translates."""
        return self.iova | u64((1 << self.level.lo) - 1)

    @property
    def targets(self) -> Targets:
        """What caches may hold of the old words."""
        number = None if self.tables else self.level.number
        return Targets.uniform(self.iova, self.last, self.level.lo, number, tables=self.tables)

    @property
    def first(self) -> Change:
        """The first of them, without its folds: what is true of all is true of it."""
        return evolve(self, folds=None)[0]

    def _row(self, at: int) -> Change:
        pa, iova, old, new = (int(each[at]) for each in (self.pa, self.iova, self.old, self.new))
        lo, number = self.level.lo, self.level.number
        target = Target(iova, iova + (1 << lo) - 1, lo, None if self.tables else number, self.tables)
        return Change(self.kind, pa, number, iova, old, new, target, self.folds.of(at) if self.folds else [])

    @overload
    def __getitem__(self, at: int) -> Change: ...

    @overload
    def __getitem__(self, at: slice) -> list[Change]: ...

    def __getitem__(self, at: int | slice) -> Change | list[Change]:
        if isinstance(at, slice):
            return [self._row(i) for i in range(*at.indices(len(self)))]
        return self._row(range(len(self))[at])


@define(eq=False)
class Stage(Sequence[Change]):
    """All changes of one stage: batches, one after the other."""

    batches: list[ChangeBatch] = field(factory=list)

    def add(self, batch: ChangeBatch) -> None:
        """One batch more, if there is anything in it."""
        if len(batch):
            self.batches.append(batch)

    def __len__(self) -> int:
        return sum(map(len, self.batches))

    def __iter__(self) -> Iterator[Change]:
        return (change for batch in self.batches for change in batch)

    @overload
    def __getitem__(self, at: int) -> Change: ...

    @overload
    def __getitem__(self, at: slice) -> list[Change]: ...

    def __getitem__(self, at: int | slice) -> Change | list[Change]:
        if isinstance(at, slice):
            start, stop, step = at.indices(len(self))
            if step > 0:
                return list(islice(self, start, stop, step))
            return [self[i] for i in range(start, stop, step)]
        index = range(len(self))[at]
        for batch in self.batches:
            if index < len(batch):
                return batch[index]
            index -= len(batch)
        raise IndexError(at)


def folds_between(folds: Folds, first: U64Array, stop: U64Array) -> Folds:
    """The folds of stores whose rows are those from ``first[i]`` up to ``stop[i]``."""
    if len(first) == len(folds.first) - 1 and np.array_equal(stop, folds.first[1:]):
        return folds
    of, step = repeated(stop - first)
    at = (first[of] + step).astype(np.intp)
    return Folds(np.append(u64(0), np.cumsum(stop - first, dtype=np.uint64)), folds.pa[at], folds.entries[at])


def no_targets() -> Targets:
    """None at all."""
    return Targets.all_of(())


def no_blocks() -> Blocks:
    """None at all."""
    return Blocks(np.empty(0, dtype=np.uint64), np.empty(0, dtype=np.uint64))


@define(eq=False)
class BatchChanges:
    """All changes of one plan, by stage; :class:`hitless.refresh.changes.Changes` says what each is.

    What runs, owner tables that go along, and merges would need stays empty.
    """

    cut: Stage = field(factory=Stage)
    wipe: Stage = field(factory=Stage)
    place: Stage = field(factory=Stage)
    owed: Targets = field(factory=no_targets)
    unlinked: Blocks = field(factory=no_blocks)
    unplaced: Blocks = field(factory=no_blocks)
    resize: Stage = field(factory=Stage)
    swapped: Blocks = field(factory=no_blocks)
    swap_folds: list[Fold] = field(factory=list)
    cut_together: Stage = field(factory=Stage)
    merge_together: Stage = field(factory=Stage)
    merge: Stage = field(factory=Stage)
    join: Stage = field(factory=Stage)
    freed: Blocks = field(factory=no_blocks)
    folds: list[Fold] = field(factory=list)

    @property
    def batches(self) -> list[ChangeBatch]:
        """Every batch, in the order of the stages."""
        return [batch for stage in (self.cut, self.wipe, self.place) for batch in stage.batches]

    def all(self) -> list[Change]:
        """Every change, in the order of the stages."""
        return [change for batch in self.batches for change in batch]

    def settle(self) -> None:
        """Where the owner has changed already, what is invalidated before ``place`` is owed no more."""
        gone = [batch.targets for stage in (self.cut, self.wipe) for batch in stage.batches]
        if not gone or not len(self.owed):
            return
        every = Targets.all_of(gone)
        reach = Ranges(every.first, every.last).joined()
        at = np.searchsorted(reach.start, self.owed.first, side="right")
        done = (at > 0) & (self.owed.last <= reach.last[np.maximum(at, 1) - 1])
        self.owed = self.owed.take(~done)

    def span(self, start: int, end: int) -> tuple[int, int]:
        """A range, widened to all that the entries translate that are stored to."""
        for batch in self.batches:
            start = min(start, int(batch.iova[0]))
            end = max(end, int(batch.last[-1]) + 1)
        return start, end


__all__ = ["BatchChanges", "ChangeBatch", "Stage", "Targets"]

"""Steps of a batch: many steps of one kind as columns. Whoever looks at steps one by one asks :func:`singles`."""

from collections.abc import Iterable, Iterator
from typing import TypeAlias

import numpy as np
from attrs import define, field

from hitless.bits import U64Array
from hitless.plan.steps import Clean, Fill, FillRun, Invalidate, Own, Step, Store

_NONE: U64Array = np.empty(0, dtype=np.uint64)


@define(eq=False)
class Fills:
    """Words into tables that no walker can reach yet: :class:`Fill` for many tables of one size.

    Args:
        size_lg2: log2 of a table's bytes.
        pa: the tables, in the order in which they were allocated.
        run_pa, run_entries, run_first, run_increment: runs as in :class:`FillRun`; each lies in one table.
        override_pa, override_word: words that override them.
    """

    size_lg2: int
    pa: U64Array
    run_pa: U64Array = field(default=_NONE)
    run_entries: U64Array = field(default=_NONE)
    run_first: U64Array = field(default=_NONE)
    run_increment: U64Array = field(default=_NONE)
    override_pa: U64Array = field(default=_NONE)
    override_word: U64Array = field(default=_NONE)

    def singles(self) -> Iterator[Fill]:
        """One step a table."""
        fills = {pa: Fill(pa, self.size_lg2) for pa in self.pa.tolist()}
        columns = (self.run_pa, self.run_entries, self.run_first, self.run_increment)
        for pa, entries, first, increment in zip(*(each.tolist() for each in columns), strict=True):
            fills[pa >> self.size_lg2 << self.size_lg2].runs.append(FillRun(pa, entries, first, increment))
        for pa, word in zip(self.override_pa.tolist(), self.override_word.tolist(), strict=True):
            fills[pa >> self.size_lg2 << self.size_lg2].overrides.append((pa, word))
        yield from fills.values()


@define(eq=False)
class Folds:
    """Where A and D of replaced leaves go: of store ``i`` to rows ``first[i]`` up to ``first[i + 1]``.

    ``first`` has one element more than there are stores; a row is ``entries`` adjacent leaf entries from ``pa`` on.
    """

    first: U64Array
    pa: U64Array
    entries: U64Array

    def of(self, number: int) -> list[tuple[int, int]]:
        """The rows of one store."""
        part = slice(int(self.first[number]), int(self.first[number + 1]))
        return list(zip(self.pa[part].tolist(), self.entries[part].tolist(), strict=True))


@define(eq=False)
class Stores:
    """:class:`Store` for many entries of one level that one recipe changes; in any order, for none waits for another.

    Args:
        what, level, hardware: of all of them, as in :class:`Store`.
        pa, expected, new, iova: one element a store.
        folds: as in a cut; None: A and D are folded into the new word.
    """

    what: str
    level: int
    hardware: int
    pa: U64Array
    expected: U64Array
    new: U64Array
    iova: U64Array
    folds: Folds | None = None

    def __len__(self) -> int:
        return len(self.pa)

    def single(self, number: int) -> Store:
        """One of them."""
        pa, expected, new, iova = (int(each[number]) for each in (self.pa, self.expected, self.new, self.iova))
        found = Store(pa, expected, new, self.hardware, self.what, self.level, iova)
        if self.folds is not None:
            found.fold = self.folds.of(number)
        return found

    def singles(self) -> Iterator[Store]:
        """One step an entry."""
        return map(self.single, range(len(self)))


@define(eq=False)
class Invalidates:
    """:class:`Invalidate` for many ranges: ``words`` has a row a command; ``last`` is inclusive."""

    unit: str
    tag: int
    words: U64Array
    first: U64Array
    last: U64Array

    def __len__(self) -> int:
        return len(self.first)

    def singles(self) -> Iterator[Invalidate]:
        """One step a command."""
        for row, first, last in zip(self.words.tolist(), self.first.tolist(), self.last.tolist(), strict=True):
            yield Invalidate(self.unit, self.tag, tuple(row), first, last)


@define(eq=False)
class Cleans:
    """:class:`Clean` for many places of one size."""

    pa: U64Array
    size: int

    def __len__(self) -> int:
        return len(self.pa)

    def singles(self) -> Iterator[Clean]:
        """One step a place."""
        return (Clean(pa, self.size) for pa in self.pa.tolist())


@define(eq=False)
class Owns:
    """:class:`Own` for many physical ranges that get one owner, in order; ``last_pa`` is inclusive."""

    op: str
    start_pa: U64Array
    last_pa: U64Array
    owner: int
    size_lg2: int
    drops: str = "none"

    def __len__(self) -> int:
        return len(self.start_pa)

    def singles(self) -> Iterator[Own]:
        """One step a range."""
        for start, last in zip(self.start_pa.tolist(), self.last_pa.tolist(), strict=True):
            yield Own(self.op, start, last + 1, self.owner, self.size_lg2, self.drops)


Bulk: TypeAlias = Fills | Stores | Cleans | Invalidates | Owns
PlanStep: TypeAlias = Step | Bulk
_BULK = (Fills, Stores, Cleans, Invalidates, Owns)


def singles(steps: Iterable[PlanStep]) -> Iterator[Step]:
    """Steps one by one, in order."""
    for step in steps:
        if isinstance(step, _BULK):
            yield from step.singles()
        else:
            yield step

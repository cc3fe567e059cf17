"""A conversion: complete before anybody prepares for it."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from attrs import define, field

from hitless.bits import U64Array
from hitless.columns import Columns, Ranges
from hitless.guest_memfd.intervals import IntervalMap
from hitless.units import PAGE_LG2


class ChangeRun(NamedTuple):
    """A GPA range that gets a new owner, physically contiguous before and after."""

    start: int
    end: int
    old_owner: int
    new_owner: int
    old_pa: int
    new_pa: int


@define(eq=False)
class ChangeRuns(Columns[ChangeRun]):
    """Many of them; ``last`` is inclusive."""

    start: U64Array
    last: U64Array
    old_owner: U64Array
    new_owner: U64Array
    old_pa: U64Array
    new_pa: U64Array

    def _rows(self) -> Iterator[ChangeRun]:
        for start, last, *others in zip(*(each.tolist() for each in self._columns()), strict=True):
            yield ChangeRun(start, last + 1, *others)


@define(eq=False)
class Conversion:
    """What guest_memfd tells its notifiers.

    Args:
        number: counts up; notifiers file what they prepared under it.
        ranges: GPA ranges that change owner, sorted, disjoint, not adjacent; many of them are :class:`Ranges`.
        owner: the new owner.
        runs: the same with old and new physicals; many of them are :class:`ChangeRuns`.
        done: the ranges whose owner has changed; empty until the owner change.
        fenced: what did not answer: (unit, devices).
        refused: what a notifier's firmware refused before the owner change, which is then not made.
        after: of many ranges, owners by offset in pages as they will be; None once they are.
        entered: how often owners had been entered before ``after`` was worked out.
    """

    number: int
    ranges: Sequence[tuple[int, int]]
    owner: int
    runs: Sequence[ChangeRun]
    done: Sequence[tuple[int, int]] = ()
    fenced: list[tuple[str, tuple[int, ...]]] = field(factory=list)
    refused: list[str] = field(factory=list)
    after: IntervalMap | None = None
    entered: int = 0

    @property
    def pages(self) -> int:
        """How many 4 KiB pages convert."""
        if isinstance(self.ranges, Ranges):
            return int((self.ranges.last - self.ranges.start >> PAGE_LG2).sum()) + len(self.ranges)
        return sum(end - start for start, end in self.ranges) >> PAGE_LG2

    def meets(self, start: int, end: int) -> bool:
        """Whether any page of a GPA range converts."""
        if isinstance(self.ranges, Ranges):
            first = int(np.searchsorted(self.ranges.last, np.uint64(start)))
            return start < end and first < len(self.ranges) and int(self.ranges.start[first]) < end
        for a, b in self.ranges:  # noqa: SIM110 - a generator would cost three times as much
            if a < end and start < b:
                return True
        return False

    @property
    def complete(self) -> bool:
        """Whether the owner change did all of it."""
        return self.done is self.ranges or self.done == self.ranges


class ConversionRecord(NamedTuple):
    """What an observer is told of one finished conversion."""

    ranges: Sequence[tuple[int, int]]
    owner: int
    notifiers: tuple[str, ...]
    outcome: str

"""Owner changes as columns: what vendors answer many of at once."""

from collections.abc import Iterator

import numpy as np
from attrs import define

from hitless.bits import BoolArray, U64Array
from hitless.columns import Columns, Places, Ranges, distinct
from hitless.ownership.strategy import OwnerChange
from hitless.plan import Owns


@define(eq=False)
class OwnerChanges(Columns[OwnerChange]):
    """Many changes, sorted, disjoint; ``last_pa`` is inclusive."""

    start_pa: U64Array
    last_pa: U64Array
    owner: U64Array
    leaf_lg2: U64Array

    @property
    def ranges(self) -> Ranges:
        """The physical ranges alone."""
        return Ranges(self.start_pa, self.last_pa)

    def _rows(self) -> Iterator[OwnerChange]:
        for start, last, owner, leaf_lg2 in zip(*(each.tolist() for each in self._columns()), strict=True):
            yield OwnerChange(start, last + 1, owner, leaf_lg2)


def edges(ranges: Ranges, size_lg2: int) -> U64Array:
    """The aligned blocks, by first address and in order, that reach over an edge of one of many disjoint ranges."""
    within = np.uint64((1 << size_lg2) - 1)
    first, last = ranges.start & ~within, ranges.last & ~within
    apart = last != first
    if apart.any():
        over = np.empty((len(ranges), 2), dtype=bool)
        np.logical_or(first < ranges.start, first + within > ranges.last, out=over[:, 0])
        np.logical_and(apart, last + within > ranges.last, out=over[:, 1])
        # First and last blocks in turn are sorted, as the ranges are.
        found = np.stack([first, last], axis=1).ravel()[np.flatnonzero(over)]
    else:
        found = first[np.flatnonzero(ranges.last - ranges.start != within)]
    fresh = np.ones(len(found), dtype=bool)
    np.not_equal(found[1:], found[:-1], out=fresh[1:])
    return found[np.flatnonzero(fresh)]


def inner(ranges: Ranges, size_lg2: int) -> tuple[Places, Ranges]:
    """Of many ranges that hold whole aligned blocks, which they are, and the part that is whole blocks."""
    within = np.uint64((1 << size_lg2) - 1)
    start, last = ranges.start + within & ~within, (ranges.last + np.uint64(1) & ~within) - np.uint64(1)
    which = np.flatnonzero((start < last) & (start >= ranges.start) & (last <= ranges.last))
    return which, Ranges(start[which], last[which])


def owns(op: str, ranges: Ranges, owners: U64Array, size_lg2: int, drops: str = "none") -> list[Owns]:
    """One step for each new owner of many physical ranges, none of which waits for another; empty: no step."""
    return [Owns(op, ranges.start[here], ranges.last[here], owner, size_lg2, drops) for owner, here in by_owner(owners)]


def by_owner(owners: U64Array) -> Iterator[tuple[int, "BoolArray | slice"]]:
    """Each owner, and which of many places are its own."""
    if len(owners) and (owners == owners[0]).all():
        yield int(owners[0]), slice(None)
        return
    for owner in distinct(owners):
        yield owner, owners == np.uint64(owner)

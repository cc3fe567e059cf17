"""Owner changes as columns: what vendors answer many of at once."""

from collections.abc import Iterator

import numpy as np
from attrs import define

from hitless.bits import BoolArray, U64Array
from hitless.columns import Columns, Ranges
from hitless.ownership.strategy import OwnerChange
from hitless.plan import Owns


@define(eq=False)
class OwnerChanges(Columns[OwnerChange]):
    """Many changes, sorted, disjoint; ``last_pa`` is inclusive."""

    start_pa: U64Array
    last_pa: U64Array
    owner: U64Array
    leaf_lg2: U64Array

    def _rows(self) -> Iterator[OwnerChange]:
        for start, last, owner, leaf_lg2 in zip(*(each.tolist() for each in self._columns()), strict=True):
            yield OwnerChange(start, last + 1, owner, leaf_lg2)


def owns(op: str, ranges: Ranges, owners: U64Array, size_lg2: int, drops: str = "none") -> list[Owns]:
    """One step for each new owner of many physical ranges, none of which waits for another; empty: no step."""
    return [Owns(op, ranges.start[here], ranges.last[here], owner, size_lg2, drops) for owner, here in by_owner(owners)]


def by_owner(owners: U64Array) -> Iterator[tuple[int, "BoolArray | slice"]]:
    """Each owner, and which of many places are its own."""
    if len(owners) and (owners == owners[0]).all():
        yield int(owners[0]), slice(None)
        return
    for owner in np.unique(owners).tolist():
        yield owner, owners == owner

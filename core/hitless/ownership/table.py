"""An owner table as the model holds it: owner and entry size of every page, as runs."""

from collections.abc import Iterator

import numpy as np
from attrs import define, field

from hitless.bits import BoolArray, U64Array
from hitless.columns import Ranges
from hitless.guest_memfd.backing import GUEST, HOST
from hitless.guest_memfd.intervals import IntervalMap
from hitless.plan import Own, Owns
from hitless.units import PAGE_LG2

OTHER_GUEST = 6
"""Pages of some guest that is not the one whose memory is looked at."""
FIRMWARE = 7
"""Pages that neither the host nor a guest may write: a unit's event log under SNP, and the like."""
_OWNERS = 8
_FEW = 64
_PAGE = np.uint64(PAGE_LG2)


@define
class OwnerTable:
    """RMP, GPT and their like: for each physical page an owner, and the size of the entry that says so.

    Everything starts host-owned in 4 KiB entries. Pages are 4 KiB; addresses are bytes.
    """

    _map: IntervalMap = field(factory=lambda: IntervalMap(HOST + PAGE_LG2 * _OWNERS, 1 << 52))

    def owner(self, pa: int) -> int:
        """Who owns the page at an address."""
        return self._map.get(pa >> PAGE_LG2) % _OWNERS

    def entry_lg2(self, pa: int) -> int:
        """log2 of the size of the entry that covers an address."""
        return self._map.get(pa >> PAGE_LG2) // _OWNERS

    def uniform(self, start_pa: int, end_pa: int) -> int | None:
        """The one owner of a range, or None."""
        found: int | None = None
        for _, _, value in self._map.runs(start_pa >> PAGE_LG2, end_pa >> PAGE_LG2):
            owner = value % _OWNERS
            if found is not None and owner != found:
                return None
            found = owner
        return found

    def run(self, pa: int) -> tuple[int, int]:
        """The physical range around an address with one owner and entry size."""
        start, end = self._map.run(pa >> PAGE_LG2)
        return start << PAGE_LG2, end << PAGE_LG2

    def copy(self) -> "OwnerTable":
        """A table with the same entries that changes on its own."""
        return OwnerTable(self._map.copy())

    def sizes(self, start_pa: int, end_pa: int) -> set[int]:
        """log2 of the sizes of all entries in a range."""
        start, end = start_pa >> PAGE_LG2, end_pa >> PAGE_LG2
        if self._map.count(start, end) > _FEW:
            sizes = self._map.columns(start, end)[1] // np.uint64(_OWNERS)
            return set(np.flatnonzero(np.bincount(sizes.astype(np.intp))).tolist())
        return {value // _OWNERS for _, _, value in self._map.runs(start, end)}

    def entries(self, start_pa: int, end_pa: int) -> Iterator[tuple[int, int, int, int]]:
        """A range by owner and entry size: (start, end, owner, log2 of the size)."""
        for start, end, value in self._map.runs(start_pa >> PAGE_LG2, end_pa >> PAGE_LG2):
            yield start << PAGE_LG2, end << PAGE_LG2, value % _OWNERS, value // _OWNERS

    def set(self, start_pa: int, end_pa: int, owner: int, size_lg2: int) -> None:
        """Make a range owned by ``owner`` in entries of one size."""
        self._map.set(start_pa >> PAGE_LG2, end_pa >> PAGE_LG2, owner + size_lg2 * _OWNERS)

    def apply(self, own: Own | Owns) -> None:
        """Do an Own step, or many."""
        if isinstance(own, Owns):
            self._set_many(Ranges(own.start_pa, own.last_pa), own.owner, own.size_lg2)
            return
        self.set(own.start_pa, own.end_pa, own.owner, own.size_lg2)

    def states(self, pas: U64Array) -> tuple[U64Array, U64Array]:
        """Owner and log2 of the entry's size at each of many addresses."""
        values = self._map.get_many(pas >> _PAGE)
        return values % np.uint64(_OWNERS), values // np.uint64(_OWNERS)

    def blocks(self, pas: U64Array, size_lg2: int) -> tuple[BoolArray, U64Array, U64Array]:
        """Which of many aligned blocks have one owner and one size of entries; both at the block's begin."""
        ends, values = self._map.runs_at(pas >> _PAGE)
        whole = ends >= (pas >> _PAGE) + np.uint64(1 << size_lg2 - PAGE_LG2)
        return whole, values % np.uint64(_OWNERS), values // np.uint64(_OWNERS)

    def _set_many(self, ranges: Ranges, owner: int, size_lg2: int) -> None:
        if len(ranges) > 1 and not (ranges.start[1:] > ranges.last[:-1]).all():
            ranges = ranges.ordered().joined()
        ends = (ranges.last >> _PAGE) + np.uint64(1)
        self._map.set_many(ranges.start >> _PAGE, ends, owner + size_lg2 * _OWNERS)


__all__ = ["FIRMWARE", "GUEST", "HOST", "OTHER_GUEST", "OwnerTable"]

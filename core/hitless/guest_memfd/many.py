"""Guest memory as columns: many ranges at once, without a look at each."""

from typing import TypeAlias

import numpy as np

from hitless.bits import BoolArray, U64Array
from hitless.columns import Places, Ranges, distinct, spread
from hitless.guest_memfd.backing import Backing
from hitless.guest_memfd.conversion import ChangeRuns
from hitless.guest_memfd.intervals import IntervalMap
from hitless.guest_memfd.runs import GuestRuns
from hitless.guest_memfd.slots import Slots
from hitless.units import PAGE, PAGE_LG2

_PAGE_LG2 = np.uint64(PAGE_LG2)
_WITHIN = np.uint64(PAGE - 1)
_ONE = np.uint64(1)
_Owned: TypeAlias = tuple[Ranges, U64Array, U64Array]
"""Guest physical ranges, with the offset and the owner of each."""


def unfit(slots: Slots, ranges: Ranges, page_size: int) -> Places:
    """Which ranges are empty, not of whole pages, or not wholly memory."""
    odd = (ranges.start | (ranges.last + _ONE)) & np.uint64(page_size - 1) != 0
    memory = slots.columns[0].joined()
    slot = np.minimum(np.searchsorted(memory.last, ranges.start), len(memory) - 1)
    outside = (memory.start[slot] > ranges.start) | (memory.last[slot] < ranges.last)
    return np.flatnonzero(odd | outside | (ranges.start > ranges.last))


def offsets(slots: Slots, ranges: Ranges) -> tuple[Ranges, U64Array]:
    """The parts of sorted, disjoint GPA ranges that are memory, and where each begins in the guest_memfd."""
    memory, starts = slots.columns
    if not len(ranges):
        return ranges, ranges.start
    slot = int(np.searchsorted(memory.last, ranges.start[0]))
    if slot < len(memory) and memory.start[slot] <= ranges.start[0] and ranges.last[-1] <= memory.last[slot]:
        shift = memory.start[slot : slot + 1] - starts[slot]
        return ranges, ranges.start - shift if shift else ranges.start
    _, slots_of, part = ranges.cut(memory)
    return part, part.start - memory.start[slots_of] + starts[slots_of]


def enter(owners: IntervalMap, slots: Slots, ranges: Ranges, owner: int) -> None:
    """Give GPA ranges, sorted and disjoint, an owner."""
    pages = _pages(*offsets(slots, ranges)).ordered()
    owners.set_many(pages.start, pages.last + _ONE, owner)


def runs(slots: Slots, backing: Backing, owners: IntervalMap, start: int, end: int) -> GuestRuns:
    """Guest memory of a GPA range of whole pages, in order."""
    whole = Ranges.of([(start, end)] if start < end else [])
    part, first, owner = _contiguous(backing, _owned(slots, owners, whole))
    return GuestRuns(part.start, part.last, owner, backing.pas(first, owner))


def changes(
    slots: Slots, backing: Backing, owners: IntervalMap, ranges: Ranges, owner: int
) -> tuple[Ranges, ChangeRuns] | None:
    """What really changes of sorted, disjoint GPA ranges that get an owner; None if nothing does."""
    owned = _owned(slots, owners, ranges)
    changing = np.flatnonzero(owned[2] != np.uint64(owner))
    if not len(changing):
        return None
    part, first, old = owned
    if len(changing) < len(old):
        part, first, old = part.take(changing), first[changing], old[changing]
    changed = part.joined()
    part, first, old = _contiguous(backing, (part, first, old), owner)
    new = np.full(len(old), owner, np.uint64)
    return changed, ChangeRuns(part.start, part.last, old, new, backing.pas(first, old), backing.pas(first, new))


def _pages(part: Ranges, first: U64Array) -> Ranges:
    """The numbers of the pages that lie from offsets on."""
    return Ranges(first >> _PAGE_LG2, first + (part.last - part.start) >> _PAGE_LG2)


def _owned(slots: Slots, owners: IntervalMap, ranges: Ranges) -> _Owned:
    """GPA ranges by owner, in order; what is no memory is left out."""
    part, first = offsets(slots, ranges)
    if not len(part):
        return part, first, first
    pages = _pages(part, first)
    starts, values = owners.columns(int(pages.start.min()), int(pages.last.max()) + 1)
    if len(values) == 1:
        return part, first, np.full(len(part), values[0])
    if len(part) == 1:
        first = starts << _PAGE_LG2
        start = part.start[0] + (first - first[0])
        return Ranges(start, np.append(start[1:] - _ONE, part.last)), first, values
    which, run, cut = pages.cut(Ranges(starts, np.append(starts[1:] - _ONE, pages.last.max())))
    if len(which) == len(part):
        return part, first, values[run]
    start = part.start[which] + (cut.start - pages.start[which] << _PAGE_LG2)
    last = start + (cut.last - cut.start << _PAGE_LG2) + _WITHIN
    return Ranges(start, last), cut.start << _PAGE_LG2, values[run]


def _contiguous(backing: Backing, owned: _Owned, *owners: int) -> _Owned:
    """The same in physically contiguous parts, for the owners of each and for others."""
    part, first, owner = owned
    everywhere = [backing.pieces(each) for each in owners]
    loose = np.full(len(owner), any(pieces is None for pieces in everywhere))
    for each in distinct(owner):
        pieces = backing.pieces(each)
        if pieces is None:
            loose |= owner == np.uint64(each)
        everywhere.append(pieces)
    for pieces in everywhere:
        if pieces is not None and len(pieces) > 1:
            which, _, cut = Ranges(first, first + (part.last - part.start)).cut(pieces)
            start = part.start[which] + (cut.start - first[which])
            part, first = Ranges(start, start + (cut.last - cut.start)), cut.start
            owner, loose = owner[which], loose[which]
    return _one_by_one((part, first, owner), loose) if loose.any() else (part, first, owner)


def _one_by_one(owned: _Owned, loose: BoolArray) -> _Owned:
    """Some of the ranges page by page."""
    part, first, owner = owned
    counts = np.where(loose, (part.last - part.start >> _PAGE_LG2) + _ONE, _ONE).astype(np.intp)
    if (counts == 1).all():
        return owned
    which = np.repeat(np.arange(len(part)), counts)
    step = spread(np.zeros_like(counts), counts).astype(np.uint64) << _PAGE_LG2
    start = part.start[which] + step
    last = np.where(loose[which], start + _WITHIN, part.last[which])
    return Ranges(start, last), first[which] + step, owner[which]

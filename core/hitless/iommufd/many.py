"""A domain's layout and owner changes as columns: what many ranges at once are planned from."""

import numpy as np

from hitless.bits import MASK64, BoolArray
from hitless.columns import Places, Ranges, order, words
from hitless.guest_memfd.conversion import ChangeRuns, Conversion
from hitless.guest_memfd.guest import HOST, GuestMemfd
from hitless.guest_memfd.runs import GuestRuns
from hitless.iommufd.ioas import Ioas
from hitless.ownership import ANY_LG2, Boundary, OwnerChanges, Policy
from hitless.refresh.target import Segments

_ONE = np.uint64(1)


def iovas(ioas: Ioas, ranges: Ranges) -> Ranges:
    """The IOVA ranges that lead into guest physical ranges, sorted and joined."""
    found = [Ranges.of([])]
    for iova, gpa, size in ioas.areas:
        _, _, part = ranges.cut(Ranges.of([(gpa, gpa + size)]))
        shift = np.uint64(iova - gpa & MASK64)
        found.append(Ranges(part.start + shift, part.last + shift))
    return Ranges.together(found).ordered().joined()


def runs_of(guest: GuestMemfd, ioas: Ioas | None, start: int, end: int, conversion: Conversion | None) -> GuestRuns:
    """Guest memory of an IOVA range, in order of the IOVAs, now or after a conversion."""
    if ioas is None:
        return guest.columns(start, end, conversion)
    found = [GuestRuns(words(()), words(()), words(()), words(()))]
    for iova, gpa, size in ioas.inside(start, end):
        runs = guest.columns(gpa, gpa + size, conversion)
        shift = np.uint64(iova - gpa & MASK64)
        found.append(GuestRuns(runs.start + shift, runs.last + shift, runs.owner, runs.pa))
    return GuestRuns.together(found)


def segments(runs: GuestRuns, policy: Policy, attributes: int, start: int, end: int) -> Segments:
    """What :func:`hitless.iommufd.layout.segments` gives, as columns."""
    mapped = _mapped(policy, runs)
    runs, mapped = _without_gaps(runs, mapped, start, end)
    joins = _joins(policy, runs, mapped)
    first, last, oa = runs.start, runs.last, runs.pa
    if joins.any():
        edges = np.flatnonzero(~joins)
        firsts = np.append(0, edges + 1)
        first, last = first[firsts], last[np.append(edges, len(runs) - 1)]
        oa, mapped = oa[firsts], mapped[firsts]
    if mapped.all():
        return Segments(first, last, oa, np.full(len(first), attributes, np.uint64), mapped)
    none = np.uint64(0)
    return Segments(first, last, np.where(mapped, oa, none), np.where(mapped, np.uint64(attributes), none), mapped)


def _mapped(policy: Policy, runs: GuestRuns) -> BoolArray:
    """Which runs are mapped."""
    if policy.private_below is None and policy.maps_shared == policy.maps_private:
        return np.full(len(runs), policy.maps_shared)
    shared = runs.owner == np.uint64(HOST)
    found: BoolArray = np.where(shared, policy.maps_shared, policy.maps_private)
    if policy.private_below is not None:
        found &= shared == (runs.start >= np.uint64(policy.private_below))
    return found


def _without_gaps(runs: GuestRuns, mapped: BoolArray, start: int, end: int) -> tuple[GuestRuns, BoolArray]:
    """The runs of a range that is not empty, with one that is not mapped wherever there is no memory."""
    gap = np.ones(len(runs) + 1, dtype=bool)
    if len(runs):
        np.not_equal(runs.last[:-1] + _ONE, runs.start[1:], out=gap[1:-1])
        gap[0], gap[-1] = runs.start[0] != np.uint64(start), runs.last[-1] != np.uint64(end - 1)
    at = np.flatnonzero(gap)
    if not len(at):
        return runs, mapped
    # A gap begins behind a run, or with the range, and ends before the next run, or with the range.
    low = np.append(np.uint64(start), runs.last + _ONE)[at]
    last = np.append(runs.start - _ONE, np.uint64(end - 1))[at]
    none = np.zeros(len(at), np.uint64)
    columns = zip((runs.start, runs.last, runs.owner, runs.pa), (low, last, none, none), strict=True)
    whole = GuestRuns(*(np.insert(column, at, added) for column, added in columns))
    return whole, np.insert(mapped, at, np.zeros(len(at), dtype=bool))


def _joins(policy: Policy, runs: GuestRuns, mapped: BoolArray) -> BoolArray:
    """Whether a leaf may reach over the edge between a run and the next one."""
    one, other = slice(None, -1), slice(1, None)
    found: BoolArray = runs.pa[other] - runs.pa[one] == runs.start[other] - runs.start[one]
    if policy.boundary is not Boundary.NONE or policy.private_below is not None:
        free = runs.owner[other] == runs.owner[one]
        if policy.boundary is Boundary.CHECK_UNIT:
            free |= runs.start[other] & np.uint64((1 << policy.check_unit_lg2) - 1) == 0
        found &= free
    if not mapped.all():
        found &= mapped[one] & mapped[other]
        found |= ~(mapped[one] | mapped[other])
    return found


def owner_changes(runs: ChangeRuns) -> OwnerChanges:
    """What gets another owner when runs convert, sorted and joined; no leaf's size matters."""
    moved = runs.old_pa != runs.new_pa
    host = np.uint64(HOST)
    # What moves is left by one owner and taken by another, unless either is the host, whose table says nothing of it.
    left = Ranges(runs.old_pa, runs.old_pa + (runs.last - runs.start)).take(_picks(moved & (runs.old_owner != host)))
    picks = _picks(~moved | (runs.new_owner != host))
    taken = Ranges(runs.new_pa, runs.new_pa + (runs.last - runs.start)).take(picks)
    ranges = Ranges.together([left, taken])
    owner = np.append(np.full(len(left), HOST, np.uint64), runs.new_owner[picks])
    if (ranges.start[1:] < ranges.start[:-1]).any():
        places = order(ranges.start)
        ranges, owner = ranges.take(places), owner[places]
    joins = (ranges.start[1:] == ranges.last[:-1] + _ONE) & (owner[1:] == owner[:-1])
    if joins.any():
        edges = np.flatnonzero(~joins)
        firsts = np.append(0, edges + 1)
        ranges = Ranges(ranges.start[firsts], ranges.last[np.append(edges, len(ranges) - 1)])
        owner = owner[firsts]
    return OwnerChanges(ranges.start, ranges.last, owner, np.full(len(owner), ANY_LG2, np.uint64))


def _picks(mask: BoolArray) -> Places | slice:
    """The places of a mask; of all, or of none, without a copy of what is picked."""
    if mask.all():
        return slice(None)
    return np.flatnonzero(mask)


def clipped(runs: ChangeRuns, ranges: Ranges) -> ChangeRuns:
    """The parts of runs that lie in sorted, disjoint ranges."""
    which, _, part = Ranges(runs.start, runs.last).cut(ranges)
    whole = runs.take(which)
    shift = part.start - whole.start
    old_pa, new_pa = whole.old_pa + shift, whole.new_pa + shift
    return ChangeRuns(part.start, part.last, whole.old_owner, whole.new_owner, old_pa, new_pa)

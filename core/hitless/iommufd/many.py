"""A domain's layout and owner changes as columns: what many ranges at once are planned from."""

import numpy as np

from hitless.bits import MASK64, BoolArray
from hitless.columns import Ranges, words
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
    edges = np.append(np.zeros(1, np.intp), np.flatnonzero(~_joins(policy, runs, mapped)) + 1)
    lasts = np.append(edges[1:] - 1, len(runs) - 1)
    mapped = mapped[edges]
    oa = np.where(mapped, runs.pa[edges], np.uint64(0))
    attrs = np.where(mapped, np.uint64(attributes), np.uint64(0))
    return Segments(runs.start[edges], runs.last[lasts], oa, attrs, mapped)


def _mapped(policy: Policy, runs: GuestRuns) -> BoolArray:
    """Which runs are mapped."""
    shared = runs.owner == HOST
    found: BoolArray = np.where(shared, policy.maps_shared, policy.maps_private)
    if policy.private_below is not None:
        found &= shared == (runs.start >= np.uint64(policy.private_below))
    return found


def _without_gaps(runs: GuestRuns, mapped: BoolArray, start: int, end: int) -> tuple[GuestRuns, BoolArray]:
    """The runs of a range that is not empty, with one that is not mapped wherever there is no memory."""
    low = np.append(np.uint64(start), runs.last + _ONE)
    last = np.append(runs.start - _ONE, np.uint64(end - 1))
    # After a run at the end of a 64-bit space comes 0, before one at its beginning the last address: no gap.
    gap = low[:-1] != runs.start
    gap = np.append(gap, runs.last[-1] != last[-1] if len(runs) else True)
    at = np.flatnonzero(gap)
    if not len(at):
        return runs, mapped
    none = np.zeros(len(at), np.uint64)
    columns = zip((runs.start, runs.last, runs.owner, runs.pa), (low[at], last[at], none, none), strict=True)
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
    found &= mapped[one]
    found &= mapped[other]
    found |= ~(mapped[one] | mapped[other])
    return found


def owner_changes(runs: ChangeRuns) -> OwnerChanges:
    """What gets another owner when runs convert, sorted and joined; no leaf's size matters."""
    sizes, moved = runs.last - runs.start, runs.old_pa != runs.new_pa
    left = np.flatnonzero(moved & (runs.old_owner != HOST))
    taken = np.flatnonzero(~moved | (runs.new_owner != HOST))
    start = np.append(runs.old_pa[left], runs.new_pa[taken])
    last = start + np.append(sizes[left], sizes[taken])
    owner = np.append(np.full(len(left), HOST, np.uint64), runs.new_owner[taken])
    if (start[1:] < start[:-1]).any():
        order = np.argsort(start, kind="stable")
        start, last, owner = start[order], last[order], owner[order]
    edges = np.flatnonzero((start[1:] != last[:-1] + _ONE) | (owner[1:] != owner[:-1]))
    firsts, lasts = np.append(0, edges + 1)[: len(start)], np.append(edges, len(start) - 1)[: len(start)]
    start, last, owner = start[firsts], last[lasts], owner[firsts]
    return OwnerChanges(start, last, owner, np.full(len(start), ANY_LG2, np.uint64))


def clipped(runs: ChangeRuns, ranges: Ranges) -> ChangeRuns:
    """The parts of runs that lie in sorted, disjoint ranges."""
    which, _, part = Ranges(runs.start, runs.last).cut(ranges)
    whole = runs.take(which)
    shift = part.start - whole.start
    old_pa, new_pa = whole.old_pa + shift, whole.new_pa + shift
    return ChangeRuns(part.start, part.last, whole.old_owner, whole.new_owner, old_pa, new_pa)

"""The layout that a policy asks for: what IOVAs shall map, and where leaves have to end."""

from collections.abc import Iterable, Iterator

import attrs

from hitless.guest_memfd.conversion import Conversion
from hitless.guest_memfd.guest import GuestMemfd, GuestRun
from hitless.hardware.vendor import Vendor
from hitless.iommufd.ioas import Ioas
from hitless.ownership import Boundary, Policy
from hitless.pagetable import PageFormat
from hitless.refresh.recipes import Recipe, SplitRules
from hitless.refresh.target import Segment


def rules_under(vendor: Vendor, largest_lg2: int, fmt: PageFormat) -> SplitRules:
    """The vendor's split rules without leaves larger than a hunk, and without such as could never be cut.

    That is a run in the root, which has no table to be swapped, where its entries may not be rewritten.
    """
    in_place = fmt.run_mix or isinstance(vendor.recipes.resize, Recipe)
    stuck = {each.lg2 for each in fmt.leaf_sizes if each.entries_lg2 and each.level == fmt.top.number and not in_place}
    allowed = tuple(lg2 for lg2 in vendor.split_rules.leaf_lg2s if lg2 <= largest_lg2 and lg2 not in stuck)
    return attrs.evolve(vendor.split_rules, leaf_lg2s=allowed)


def runs_of(
    guest: GuestMemfd, ioas: Ioas | None, start: int, end: int, conversion: Conversion | None
) -> Iterator[GuestRun]:
    """Guest memory of an IOVA range, in order of the IOVAs, now or after a conversion."""
    if ioas is None:
        return guest.runs(start, end, conversion)
    return _runs_through(guest, ioas, start, end, conversion)


def _runs_through(
    guest: GuestMemfd, ioas: Ioas, start: int, end: int, conversion: Conversion | None
) -> Iterator[GuestRun]:
    for iova, gpa, size in ioas.inside(start, end):
        for run in guest.runs(gpa, gpa + size, conversion):
            yield run._replace(start=run.start + iova - gpa, end=run.end + iova - gpa)


def segments(runs: Iterable[GuestRun], policy: Policy, attributes: int, start: int, end: int) -> Iterator[Segment]:
    """What ``[start, end)`` shall map for runs of guest memory; the edges are where leaves have to end."""
    # The segment [first, at) is under way: it maps `oa` on, the last of it for `owner`.
    first = at = start
    oa: int | None = None
    owner = -1
    for a, b, run_owner, pa in runs:
        if a > at:
            if oa is not None:
                yield Segment(first, at, oa, attributes)
                first, oa = at, None
            at = a
        to = pa if policy.maps(run_owner, a) else None
        if first < at and not _joins(policy, oa, to, a - first, a, owner == run_owner):
            yield Segment(first, at, oa, 0 if oa is None else attributes)
            first = at
        if first == at:
            oa = to
        owner, at = run_owner, b
    if at < end:
        if oa is not None:
            yield Segment(first, at, oa, attributes)
            first, oa = at, None
        at = end
    if first < at:
        yield Segment(first, at, oa, 0 if oa is None else attributes)


def _joins(policy: Policy, old: int | None, new: int | None, away: int, at: int, same_owner: bool) -> bool:
    """Whether a leaf may reach over the edge between two runs, at an IOVA so far away from the first one's start."""
    if old is None or new is None:
        return old is new
    if old + away != new:
        return False
    if same_owner or (policy.boundary is Boundary.NONE and policy.private_below is None):
        return True
    return policy.boundary is Boundary.CHECK_UNIT and at % (1 << policy.check_unit_lg2) == 0

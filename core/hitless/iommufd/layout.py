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
        yield from guest.runs(start, end, conversion)
        return
    for iova, gpa, size in ioas.inside(start, end):
        for run in guest.runs(gpa, gpa + size, conversion):
            yield run._replace(start=run.start + iova - gpa, end=run.end + iova - gpa)


def segments(runs: Iterable[GuestRun], policy: Policy, attributes: int, start: int, end: int) -> Iterator[Segment]:
    """What ``[start, end)`` shall map for runs of guest memory; the edges are where leaves have to end."""
    at, last = start, Segment(start, start, None, 0)
    last_owner = -1
    for run in runs:
        if run.start > at:
            if last.oa is not None or last.start == last.end:
                if last.start < last.end:
                    yield last
                last = Segment(at, at, None, 0)
            last = last._replace(end=run.start)
        oa = run.pa if policy.maps(run.owner, run.start) else None
        if last.start < last.end and _joins(policy, last, run.start, oa, last_owner, run.owner):
            last = last._replace(end=run.end)
        else:
            if last.start < last.end:
                yield last
            last = Segment(run.start, run.end, oa, attributes if oa is not None else 0)
        last_owner = run.owner
        at = run.end
    if at < end:
        if last.oa is not None and last.start < last.end:
            yield last
            last = Segment(at, at, None, 0)
        last = Segment(last.start, end, None, 0)
    if last.start < last.end:
        yield last


def _joins(policy: Policy, last: Segment, at: int, oa: int | None, old_owner: int, owner: int) -> bool:
    """Whether a leaf may reach over the edge between two runs."""
    if oa is None or last.oa is None:
        return oa is None and last.oa is None
    if last.oa + at - last.start != oa:
        return False
    if old_owner == owner or (policy.boundary is Boundary.NONE and policy.private_below is None):
        return True
    return policy.boundary is Boundary.CHECK_UNIT and at % (1 << policy.check_unit_lg2) == 0

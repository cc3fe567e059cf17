"""The plans of conversions that are only thought through."""

from collections.abc import Sequence
from itertools import groupby

from attrs import evolve, frozen

from hitless.check import Report
from hitless.config import Config
from hitless.errors import Refused
from hitless.guest_memfd.guest import GUEST, HOST
from hitless.iommufd import Domain
from hitless.plan import Plan
from hitless.plugin import Vendor, VendorRegistry
from hitless.refresh.planner import Prepared
from hitless.run.checking import check_plan
from hitless.run.world import open_world
from hitless.units import Range


@frozen
class PlannedDomain:
    """What one domain would do for one conversion; ``plan`` is None if it refuses, or nothing changes.

    ``report`` is what a check of the plan found, None if it was not checked; ``story`` tells a violation.
    """

    domain: str
    vendor: Vendor
    owner: str
    ranges: tuple[Range, ...]
    plan: Plan | None
    refusal: Refused | None
    report: Report | None = None
    story: str = ""


def plan_conversions(
    config: Config, registry: VendorRegistry, conversions: Sequence[tuple[Range, str]], *, check: bool = False
) -> list[PlannedDomain]:
    """The plan of each conversion on a fresh guest of its own for each domain; with ``check``, each is checked.

    Conversions of one owner that follow each other are one plan; where the owner changes, the
    earlier ones are carried out first.

    Raises:
        BadInput: a range is not the guest's memory.
    """
    found = []
    for told in config.domains:
        world = open_world(config, (told,), registry, "refresh", 0)
        try:
            domain = world.stations[0].domain
            groups = [(owner, [r for r, _ in of]) for owner, of in groupby(conversions, key=lambda each: each[1])]
            for number, (owner, ranges) in enumerate(groups, 1):
                planned = _plan(domain, owner, ranges, check=check)
                found.append(planned)
                if planned.refusal is not None:
                    break
                if number < len(groups):
                    world.guest.convert(ranges, HOST if owner == "shared" else GUEST)
        finally:
            world.close()
    return found


def _after(vendor: Vendor, prepared: object) -> Vendor:
    """The vendor with the format that reads all tables of a plan: a root may grow."""
    grown = prepared.grown if isinstance(prepared, Prepared) else None
    return vendor if grown is None else evolve(vendor, page_format=grown.page_format)


def _plan(domain: Domain, owner: str, ranges: Sequence[Range], *, check: bool) -> PlannedDomain:
    to = HOST if owner == "shared" else GUEST
    planned = PlannedDomain(domain.name, domain.vendor, owner, tuple(ranges), None, None)
    try:
        prepared = domain.guest.plan(ranges, to)
    except Refused as error:
        return evolve(planned, refusal=error)
    if not prepared:
        return planned
    planned = evolve(planned, plan=prepared[0].plan, vendor=_after(domain.vendor, prepared[0]))
    conversion = domain.guest.conversion(ranges, to) if check else None
    if conversion is None:
        return planned
    report, story = check_plan(domain, conversion, prepared[0].plan)
    return evolve(planned, report=report, story=story)

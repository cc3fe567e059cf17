"""Scenarios of structures: a root table that grows while devices go on below it."""

from collections.abc import Iterator

from hitless.check.scenarios.base import Attempt, Case, G, Ground, M, Scenario, Trial
from hitless.check.stage import Setting
from hitless.guest_memfd.guest import GUEST, HOST
from hitless.units import PAGE

_UNITS = (((1, (5, 6)), (2, ())), ((1, ()),))


def _stays(ground: Ground) -> str:
    vendor = ground.vendor
    if vendor.page_format.grown() is None:
        return "the root table of this format does not grow"
    if vendor.structures is None:
        return "this vendor declares no structures that could lead to another root"
    wipes = any(not policy.maps_private for policy in vendor.ownership.policies.values())
    return "" if wipes else "no policy of this vendor leaves memory unmapped, so that all is mapped at first"


def _beyond(backing: str, before: int, behind: int, **more: object) -> Attempt:
    """Half of the guest lies beyond what the root translates; a range around that edge turns shared, and private."""

    def attempt(ground: Ground) -> Iterator[Case | Trial]:
        vendor = ground.vendor
        edge = 1 << vendor.page_format.iova_bits
        policy = next(name for name, each in vendor.ownership.policies.items() if not each.maps_private)
        setting = Setting(backing, gpa=edge - G, memory=2 * G, policy=policy, **more)  # type: ignore[arg-type]
        with ground.open(setting) as stage:
            stage.convert([(edge - G, edge - 2 * M)], HOST)
            for owner in (HOST, GUEST):
                ranges = [stage.range(edge - before, edge + behind)]
                note = f"{backing}, to {'shared' if owner == HOST else 'private'}"
                for subject in stage.plans(ranges, owner):
                    yield Case(subject, note)
                stage.convert(ranges, owner)

    return attempt


SCENARIOS = (
    Scenario(
        "root-grows",
        "the root table grows to map what lies beyond it, while devices reach what it maps",
        (
            _beyond("separate", 0, PAGE),
            _beyond("in-place", 5 * PAGE, 4 * M, merge="at_once"),
            _beyond("separate", PAGE, PAGE, units=_UNITS),
        ),
        _stays,
    ),
)

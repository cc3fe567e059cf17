"""Scenarios of structures: a root table that grows while devices go on below it; devices that leave."""

from collections.abc import Iterator

from hitless.check.scenarios.base import Attempt, Case, G, Ground, M, Scenario, Trial
from hitless.check.stage import Setting
from hitless.guest_memfd.guest import GUEST, HOST
from hitless.iommufd.live import move, plan_move
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


def _no_structures(ground: Ground) -> str:
    return "" if ground.vendor.structures is not None else "this vendor declares no structures that could change"


def _leaves(backing: str, how: str, spaces: int = 1) -> Attempt:
    """A device with an ATC goes, fenced or to another domain; another one stays."""

    def attempt(ground: Ground) -> Iterator[Case | Trial]:
        with ground.open(Setting(backing, units=_UNITS[:1], spaces=spaces)) as stage:
            stage.share_all()
            source, target = stage.domains[0], stage.domains[1] if spaces > 1 else None
            plan, _, _ = plan_move(source, target, 5, fence=how == "block")
            yield Case(stage.subject(source, stage.truth(source), list(plan.steps())), f"{backing}, {how}")
            move(source, target, 5, fence=how == "block")
            for subject in stage.plans([stage.range(G, G + PAGE)], GUEST):
                yield Case(subject, f"{backing}, a page turns private after {how}")

    return attempt


SCENARIOS = (
    Scenario(
        "device-leaves",
        "a device leaves, is fenced, or moves to another domain, while others stay",
        (_leaves("separate", "detach"), _leaves("separate", "block"), _leaves("separate", "replace", 2)),
        _no_structures,
    ),
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

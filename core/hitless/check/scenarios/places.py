"""Scenarios of where translations may be cached: units, tags, functions, address spaces, ATS, no snooping."""

from hitless.check.scenarios.base import Attempt, G, Ground, Scenario, both_ways, everywhere, pages
from hitless.check.stage import Setting
from hitless.units import PAGE

_PAGE = pages(G + 5 * PAGE)
_SOME = [*_PAGE, (G + (2 << 20), G + (4 << 20))]


def _on(units: tuple[tuple[tuple[int, tuple[int, ...]], ...], ...], **more: object) -> tuple[Attempt, ...]:
    return tuple(
        both_ways(Setting(backing, units=units, **more), _SOME)  # type: ignore[arg-type]
        for backing in ("separate", "in-place")
    )


def _snoops(ground: Ground) -> str:
    return "walkers snoop the CPU's caches in this configuration" if ground.vendor.hardware.coherent else ""


def _forgets_nothing(ground: Ground) -> str:
    return (
        "" if ground.vendor.hardware.caches_not_present else "not-present entries are not cached in this configuration"
    )


def _not_nested(ground: Ground) -> str:
    if ground.vendor.page_format.stage != "2":
        return "this is the upper one of two nested tables"
    return "" if ground.upper() is not None else "no format of this vendor stands over this one"


SCENARIOS = (
    Scenario("ats", "a device that caches translations itself", _on((((1, (8,)),),))),
    Scenario("two-units", "two units, each with a device with ATS", _on((((1, (8,)),), ((1, (9,)),)))),
    Scenario("two-tags", "one unit that files the address space under two tags", _on((((1, ()), (2, ())),))),
    Scenario("two-functions", "two functions with ATS behind one unit", _on((((1, (8, 9)),),))),
    Scenario("two-spaces", "two address spaces that map the guest", _on((((1, ()),),), spaces=2)),
    Scenario(
        "nested",
        "devices behind a guest's own tables, with and without ATS",
        (*_on((((1, ()),),), nested=True), *_on((((1, (8,)),),), nested=True)),
        _not_nested,
    ),
    Scenario("no-snoop", "walkers that do not snoop", everywhere(_SOME), _snoops),
    Scenario(
        "caching-mode",
        "units that cache not-present entries",
        (*everywhere(_SOME), *everywhere(_SOME, merge="at_once")),
        _forgets_nothing,
    ),
)

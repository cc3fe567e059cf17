"""Scenarios of policies: wiping, merging, emptying, truncating, trusted devices."""

from collections.abc import Iterator
from functools import partial

from hitless.check.recording import recorded
from hitless.check.scenarios.base import Attempt, Case, G, Ground, M, Scenario, Trial, both_ways, everywhere, pages
from hitless.check.stage import Setting, Stage
from hitless.guest_memfd.guest import GUEST, HOST
from hitless.units import PAGE

_BOTH = ("separate", "in-place")


def _no_wipe(ground: Ground) -> str:
    has = "wipe" in ground.vendor.ownership.policies
    return "" if has else "this vendor has no policy that unmaps before the owner changes"


def _wiped(backing: str) -> Attempt:
    return both_ways(Setting(backing, policy="wipe"), [*pages(G + 5 * PAGE), (G + 2 * M, G + 4 * M)])


def _merged(backing: str) -> Attempt:
    """A page goes and comes back: the plan of its return joins what the first one cut."""
    return both_ways(Setting(backing, merge="at_once"), pages(G + 5 * PAGE))


def _merged_late(backing: str) -> Attempt:
    """Merging on request, when nothing converts."""

    def attempt(ground: Ground) -> Iterator[Case | Trial]:
        with ground.open(Setting(backing, merge="on_request")) as stage:
            stage.share_all()
            stage.hide(G + 5 * PAGE)
            stage.share(G + 5 * PAGE)
            for domain in stage.domains:
                yield Case(recorded(stage, domain, partial(domain.merge, G, 2 * G)), f"{backing}, merge on request")

    return attempt


def _one_size(ground: Ground) -> str:
    if len(ground.vendor.split_rules.leaf_lg2s) > 1:
        return ""
    return "leaves of one size only are laid out in this configuration: there is nothing to join"


def _pruned(backing: str) -> Attempt:
    """With policy wipe the last shared page of a table goes, and the table with it."""
    setting = Setting(backing, policy="wipe", merge="at_once")
    return both_ways(setting, [(G, G + 4 * PAGE)], private=True)


def _revoked(backing: str) -> Attempt:
    def attempt(ground: Ground) -> Iterator[Case | Trial]:
        with ground.open(Setting(backing)) as stage:
            stage.share_all()
            yield from _revoke(stage, backing, G + 2 * M, G + 6 * M)
            yield from _revoke(stage, backing, G, 2 * G)

    return attempt


def _revoke(stage: Stage, backing: str, start: int, end: int) -> Iterator[Case]:
    start, end = stage.range(start, end)
    for domain in stage.domains:
        subject = recorded(stage, domain, partial(domain.revoke, start, end), gone=(start, end))
        yield Case(subject, f"{backing}, truncate [{start:#x}, {end:#x})")


def _no_runs(ground: Ground) -> str:
    """Runs come from the format, and are laid out where the split rules list them."""
    fmt, allowed = ground.vendor.page_format, ground.vendor.split_rules.leaf_lg2s
    if any(size.entries_lg2 and size.lg2 in allowed for size in fmt.leaf_sizes):
        return ""
    return "no leaf of several entries is laid out in this configuration"


def _in_runs(backing: str, merge: str) -> Attempt:
    """One page is cut out beside, so that runs stand there; then a page, and two runs at their edge, convert."""

    def cut_beside(stage: Stage) -> None:
        stage.share_all()
        stage.hide(G + 300 * PAGE)

    ranges = [*pages(G + 5 * PAGE), *pages(G + 63 * PAGE, 2)]
    return both_ways(Setting(backing, merge=merge), ranges, private=True, before=cut_beside, owners=(GUEST, HOST))


SCENARIOS = (
    Scenario(
        "runs",
        "pages inside leaves of several entries",
        tuple(_in_runs(backing, merge) for backing in _BOTH for merge in ("never", "at_once")),
        _no_runs,
    ),
    Scenario("wipe-policy", "unmapped before the owner changes, mapped after", tuple(map(_wiped, _BOTH)), _no_wipe),
    Scenario(
        "merge",
        "leaves join again when pages come back",
        tuple(f(b) for f in (_merged, _merged_late) for b in _BOTH),
        _one_size,
    ),
    Scenario("prune", "tables that map nothing any more go", tuple(map(_pruned, _BOTH)), _no_wipe),
    Scenario("revoke", "truncate: nothing maps the range any more", tuple(map(_revoked, _BOTH))),
    Scenario(
        "trusted-2m", "whole 2 MiB under a trusted device", everywhere([(G, G + 2 * M)], trusted=True, private=True)
    ),
    Scenario(
        "trusted-page", "one page under a trusted device", everywhere(pages(G + 5 * PAGE), trusted=True, private=True)
    ),
)

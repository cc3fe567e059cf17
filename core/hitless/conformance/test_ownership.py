"""Ownership: verdicts, and the steps that change owners, beside a plain dictionary of owners."""

import random
from collections.abc import Iterator

import pytest

from hitless.conformance.cases import Case
from hitless.conformance.failing import asked, fail, require
from hitless.conformance.kit import Kit
from hitless.errors import Refused
from hitless.ownership import GUEST, HOST, OwnerChange, OwnerTable, Verdict
from hitless.plan import Own, effects_of, singles
from hitless.units import PAGE

_SPAN = 8 << 20
_OUTCOMES = ("owner", "machine-check")


def _initial(at: Case) -> OwnerTable:
    """Eight MiB that are a guest's from the start."""
    table = OwnerTable()
    asked(f"{at.title}: initial()", lambda: at.vendor.ownership.initial(table, 0, _SPAN, GUEST, 21))
    return table


def _verdict(at: Case, table: OwnerTable, pa: int, leaf_lg2: int, *, trusted: bool) -> Verdict:
    what = f"{at.title}: verdict({pa:#x}, {leaf_lg2})"
    found = asked(what, lambda: at.vendor.ownership.verdict(table, pa, leaf_lg2, trusted))
    require(isinstance(found, Verdict), f"{what} must answer a Verdict, not {found!r:.80}")
    return found


@pytest.mark.iommu("OWN1", each="configuration")
def test_strangers_never_get_at_a_guests_page(kit: Kit, at: Case) -> None:
    """A device that is not trusted reaches the host's pages; a guest's it is refused, or they are never mapped."""
    ownership, guest = at.vendor.ownership, _initial(at)
    policies = ownership.policies.values()
    host = OwnerTable()
    for lg2 in at.vendor.split_rules.leaf_lg2s:
        if lg2 > 22:
            continue
        require(
            _verdict(at, host, 0, lg2, trusted=False).ok or not any(each.maps_shared for each in policies),
            f"{at.title}: a device is refused the host's own page, through a leaf of 2**{lg2} bytes",
        )
        found = _verdict(at, guest, 0, lg2, trusted=False)
        if found.ok:
            maps = [name for name, policy in ownership.policies.items() if policy.maps_private]
            require(
                not maps,
                f"{at.title}: nothing keeps a device from a guest's page, and policy {', '.join(maps)} maps it",
                do="refuse it in verdict(), or declare maps_private=False for each policy",
            )
        else:
            told = found.outcome in _OUTCOMES and found.why
            require(told, f"{at.title}: a refusal names one of {', '.join(_OUTCOMES)} and why, not {found}")


@pytest.mark.iommu("OWN2", each="configuration")
def test_a_verdict_holds_for_its_block(kit: Kit, at: Case) -> None:
    """Everywhere in the block that a verdict names, the verdict is the same; it is no larger than the leaf."""
    table = _mixed(at)
    for lg2 in at.vendor.split_rules.leaf_lg2s:
        for trusted in (False, True):
            for pa in range(0, _SPAN, max(1 << lg2, _SPAN // 32)) if lg2 <= 22 else ():
                found = _verdict(at, table, pa, lg2, trusted=trusted)
                where = f"{at.title}: the verdict on {pa:#x} through a leaf of 2**{lg2} bytes"
                require(found.size_lg2 <= lg2, f"{where} holds for 2**{found.size_lg2} bytes, more than the leaf")
                start = pa >> found.size_lg2 << found.size_lg2
                for other in _pages(start, 1 << found.size_lg2):
                    again = _verdict(at, table, other, lg2, trusted=trusted)
                    require(
                        again.ok == found.ok, f"{where} is {found.ok} for its block, at {other:#x} it is {again.ok}"
                    )


def _pages(start: int, size: int) -> Iterator[int]:
    yield from range(start, start + size, max(PAGE, size // 16))


def _mixed(at: Case) -> OwnerTable:
    """A guest's memory of which the host has taken some pages and whole blocks."""
    table = _initial(at)
    changes = [OwnerChange(5 * PAGE, 6 * PAGE, HOST), OwnerChange(4 << 20, 6 << 20, HOST)]
    _apply(at, table, changes)
    return table


def _apply(at: Case, table: OwnerTable, changes: list[OwnerChange]) -> None:
    """Do a change of owners, and hold its steps against what was asked for."""
    before = {pa: table.owner(pa) for pa in range(0, _SPAN, PAGE)}
    try:
        found = at.vendor.ownership.own(table, changes, trusted=False, allow_break=False)
    except Refused as refused:
        fail(f"{at.title}: an owner change under a device that is not trusted is refused: {refused}")
    steps = [*found.before, *found.own, *found.after]
    owns = [step for step in effects_of(singles(steps)) if isinstance(step, Own)]
    for own in owns:
        table.apply(own)
    if not owns:
        return  # there is no owner table in this configuration
    for change in changes:
        before.update(dict.fromkeys(range(change.start_pa, change.end_pa, PAGE), change.owner))
    for pa, owner in before.items():
        require(
            table.owner(pa) == owner,
            f"{at.title}: own() of {changes} leaves the page at {pa:#x} to owner {table.owner(pa)}, not {owner}",
        )


@pytest.mark.iommu("OWN3", each="configuration")
def test_owner_changes_make_the_owners(kit: Kit, at: Case) -> None:
    """After the steps of random changes, every page belongs to whom it should."""
    table, rng = _initial(at), random.Random(at.title)
    for _ in range(12):
        start = rng.randrange(0, _SPAN - (4 << 20), PAGE)
        size = rng.choice((PAGE, 3 * PAGE, 2 << 20, 4 << 20))
        if rng.random() < 0.5:
            start = start >> 21 << 21
        _apply(at, table, [OwnerChange(start, start + size, rng.choice((HOST, GUEST)))])

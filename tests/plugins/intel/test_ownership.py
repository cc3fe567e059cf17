"""TDX: verdicts and owner changes, from INTEL-TDX-*."""

import pytest

from hitless.ownership import GUEST, HOST, Boundary, OwnerChange, OwnerTable
from hitless.plan import Own, Plan, format_plan, parse_plan
from hitless_intel.ownership import Tdx

TDX = Tdx()
PA, G1 = 0x4000_0000, 1 << 30
FIRMWARE = 2


def owners() -> OwnerTable:
    """1G of the guest with one shared page in it, and one page of the module's."""
    table = OwnerTable()
    TDX.initial(table, PA, PA + G1, GUEST, 30)
    table.set(PA + 0x5000, PA + 0x6000, HOST, 12)
    table.set(PA + 0x7000, PA + 0x8000, FIRMWARE, 12)
    return table


@pytest.mark.parametrize("trusted", [False, True])
@pytest.mark.parametrize("leaf_lg2", [12, 21, 30])
@pytest.mark.parametrize(
    ("offset", "ok"), [(0x5000, True), (0x5FFF, True), (0x4FFF, False), (0x6000, False), (0x7000, False), (G1, True)]
)
def test_a_private_page_is_a_machine_check(offset, ok, leaf_lg2, trusted):
    """Page by page, whatever the leaf's size, for trusted devices too (INTEL-TDX-4, INTEL-TDX-5)."""
    verdict = TDX.verdict(owners(), PA + offset, leaf_lg2, trusted)
    assert verdict.ok is ok
    assert verdict.outcome == ("" if ok else "machine-check")
    assert verdict.size_lg2 <= leaf_lg2
    assert bool(verdict.why) is not ok


def test_the_one_policy_maps_what_is_shared():
    """Wiped before, mapped after, and no boundary where owners change (INTEL-TDX-6)."""
    assert (list(TDX.policies), TDX.default_policy) == (["wipe"], "wipe")
    wipe = TDX.policies["wipe"]
    assert (wipe.maps_private, wipe.boundary) == (False, Boundary.NONE)


def test_nothing_is_cached_and_nothing_owed():
    """The unit makes no check, so no verdict can go stale."""
    assert (TDX.cached, TDX.invalidate_after) == (False, False)


@pytest.mark.parametrize("trusted", [False, True])
def test_one_step_per_change(trusted):
    """Pages are removed from the guest, or given to it, in entries of 4K; nothing is refused."""
    changes = [OwnerChange(PA, PA + 0x3000, HOST), OwnerChange(PA + 0x5000, PA + 0x6000, GUEST)]
    steps = TDX.own(owners(), changes, trusted=trusted, allow_break=False).own
    assert steps == [
        Own("TDH.MEM.PAGE.REMOVE", PA, PA + 0x3000, HOST, 12),
        Own("TDH.MEM.PAGE.AUG", PA + 0x5000, PA + 0x6000, GUEST, 12),
    ]
    table = owners()
    for step in steps:
        table.apply(step)
    assert [table.owner(PA + offset) for offset in (0, 0x2FFF, 0x3000, 0x5000)] == [HOST, HOST, GUEST, GUEST]


def test_any_guest_can_be_given_pages():
    """The step records whichever guest it is."""
    (step,) = TDX.own(OwnerTable(), [OwnerChange(PA, PA + 0x1000, 3)], trusted=False, allow_break=False).own
    assert (step.op, step.owner) == ("TDH.MEM.PAGE.AUG", 3)


def test_the_steps_have_a_text_form():
    """The names of the module's calls print and parse (plan text)."""
    steps = TDX.own(owners(), [OwnerChange(PA, PA + 0x1000, HOST)], trusted=False, allow_break=False).own
    plan = Plan("intel0", own=list(steps))
    assert parse_plan(format_plan(plan)) == plan


@pytest.mark.parametrize("owner", [HOST, GUEST])
def test_initial_enters_a_range(owner):
    """Exactly the range, no page beyond."""
    table = OwnerTable()
    table.set(0, 4 * G1, 1 - owner, 12)
    TDX.initial(table, PA, PA + G1, owner, 30)
    assert table.uniform(PA, PA + G1) == owner
    assert [table.owner(PA - 1), table.owner(PA + G1)] == [1 - owner, 1 - owner]

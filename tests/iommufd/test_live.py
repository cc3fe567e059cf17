"""Live structures: roots that grow, and devices that leave, come back and move, under DMA."""

import pytest

from hitless.errors import HitlessError
from hitless.guest_memfd.slots import Slot
from hitless.iommufd import Domain, DomainSettings
from hitless.iommufd.live import move, plan_move
from hitless.plan import Barrier, Invalidate, Store, StoreStructure, Wait
from stand import PAGE, G, M, Stand

EDGE = 1 << 39
"""The first IOVA beyond three levels."""
FEATURES = {"mode": 3, "dynamic_top": True, "snp": False}
V_TV, HAD, IR_IW = 3, 3 << 7, 3 << 61


def growing(high=EDGE, **more):
    """Half of the guest's memory lies beyond the root that the domain has when it opens."""
    return Stand("amd", features=FEATURES, slots=[Slot(0, 0, 2 * G), Slot(high, 2 * G, 2 * G)], **more)


@pytest.mark.parametrize(("high", "levels"), [(EDGE, 4), (1 << 49, 5), (1 << 58, 6)])
def test_a_root_grows_under_dma_when_what_it_cannot_index_is_mapped(high, levels):
    """As many levels as it takes, in one store a device; DMA to what was mapped before sees nothing of it."""
    stand = growing(high, units=2, devices=2, ats=True)
    old = stand.domain.planner.root_pa
    stand.share(0, G)
    assert len(stand.fmt.levels) == 3
    stand.warm()
    stand.share(high + 5 * PAGE, 4 * PAGE)
    stand.warm()
    stand.hide(high + 6 * PAGE)
    assert len(stand.fmt.levels) == levels and stand.domain.planner.root_pa != old
    assert not stand.violations() and stand.seen.neighbour > 500 and stand.seen.converted
    for unit in stand.domain.units:
        for attachment in unit.attachments.values():
            found = unit.translate(attachment, high + 5 * PAGE + 8, False)
            assert found.pa == stand.guest.pa(high + 5 * PAGE) + 8


def test_the_plan_of_a_growing_root():
    """One 128-bit store of root and Mode a device, one command each, one wait a unit (AMD-LIVE-8); then the mapping."""
    stand = growing(units=2, devices=2)
    stand.share(0, G)
    old = stand.domain.planner.root_pa
    plan = stand.plan(EDGE)
    kinds = [type(step) for step in plan.isolate]
    assert kinds == [StoreStructure] * 4 + [Barrier] + [Invalidate] * 4 + [Wait] * 2
    root = plan.prepare[0].pa
    assert plan.prepare[0].overrides == [(root, old | 1 | 3 << 9 | IR_IW)]
    flags = V_TV | HAD | IR_IW
    for step in plan.isolate[:4]:
        assert (step.what, step.structure) == ("grow", "dte")
        assert (step.expected, step.new) == ((flags | 3 << 9 | old, 1), (flags | 4 << 9 | root, 1))
    assert [step.words for step in plan.isolate[5:9]] == [(2 << 60 | device, 0) for device in (8, 9, 9, 10)]
    (store,) = (step for step in plan.refresh if isinstance(step, Store))
    assert (store.pa, store.level, store.iova) == (root + 8, 3, EDGE)
    assert stand.domain.planner.root_pa == old, "a plan changes nothing"


def test_a_cancelled_growth_leaves_nothing():
    """Every table is given back, and the next conversion grows the root as if nothing had been."""
    stand = growing()
    used = stand.machine.tables.used_pages
    conversion = stand.guest.conversion([(EDGE, EDGE + PAGE)], 0)
    stand.domain.prepare(conversion)
    assert stand.machine.tables.used_pages > used
    stand.domain.cancel(conversion)
    assert stand.machine.tables.used_pages == used and len(stand.fmt.levels) == 3
    stand.share(EDGE)
    assert len(stand.fmt.levels) == 4


def test_what_stays_unmapped_beyond_the_root_needs_no_growth():
    """A private page is not mapped by this policy, wherever it lies."""
    stand = growing()
    stand.hide(EDGE)
    assert len(stand.fmt.levels) == 3


def test_a_root_that_may_not_grow_is_an_error():
    """The sentence names the range and the bits."""
    with pytest.raises(HitlessError, match="cannot translate all of") as caught:
        Stand("amd", features={"mode": 3, "snp": False}, slots=[Slot(0, 0, 2 * G), Slot(EDGE, 2 * G, 2 * G)])
    assert "39 bits" in caught.value.why


def test_a_nested_parent_grows():
    """The device's v1 root grows under its own v2 table (AMD-DTE-3)."""
    slots = [Slot(0, 0, 64 * M), Slot(EDGE, 64 * M, 64 * M)]
    stand = Stand("amd", features=FEATURES, slots=slots, hunk_lg2=21, stage1="amd/v2", page_format="amd/v1")
    assert len(stand.fmt.levels) == 4, "the guest's tables lie beyond the root"
    stand.share(5 * PAGE, 4 * PAGE)
    stand.share(EDGE + 5 * PAGE, 4 * PAGE)
    stand.warm()
    assert not stand.violations()


# -- devices that leave, come and move


VENDORS = [
    ("amd", {}),
    ("amd", {"snp": False}),
    ("intel", {"mode": "legacy"}),
    ("intel", {"mode": "scalable"}),
    ("arm_smmu", {}),
]


def two_domains(vendor, features, **more):
    """A stand, and a second domain of the same guest behind the same unit, with a device of its own."""
    stand = Stand(vendor, features=features, memory=64 * M, hunk_lg2=21, **more)
    stand.share(0, 64 * M)
    domain = stand.domain
    other = Domain.open(
        "other",
        domain.vendor,
        stand.guest,
        stand.machine.arena,
        stand.machine.tables,
        [(domain.units[0], 2, [(20, False)])],
        DomainSettings(),
    )
    stand.guest.notifiers.append(other)
    return stand, other


def answers(stand, device, iova=8 * M, count=60):
    """What a device's requests come to, as its structures and caches say; the model's own flag left out."""
    unit = stand.domain.units[0]
    attachment = unit.attachments[device, None]
    attachment.blocked = False
    found = {unit.translate(attachment, iova, False) for _ in range(count)}
    return {each if isinstance(each, str) else (each.pa, each.tag) for each in found}


@pytest.mark.parametrize("ats", [False, True])
@pytest.mark.parametrize(("vendor", "features"), VENDORS)
def test_a_device_leaves_and_comes_back(vendor, features, ats):
    """Held off by its structures alone, with nothing cached; then it is translated as before, and plans reach it."""
    stand, _ = two_domains(vendor, features, ats=ats)
    pa = stand.guest.pa(8 * M)
    before = answers(stand, 8)
    assert {each[0] for each in before} == {pa}
    plan = move(stand.domain, None, 8)
    assert {step.what for step in plan.isolate if isinstance(step, StoreStructure)} == {"detach"}
    assert all(isinstance(each, str) for each in answers(stand, 8)), "no request gets through"
    stand.hide(8 * M)
    stand.share(8 * M)
    stand.domain.units[0].attachments[8, None].blocked = True
    assert {step.what for step in move(None, stand.domain, 8).isolate if isinstance(step, StoreStructure)} == {"attach"}
    assert {each[0] for each in answers(stand, 8)} == {stand.guest.pa(8 * M)}
    assert bool(stand.domain.planner.assembler.units[0].devices) is ats


@pytest.mark.parametrize(("vendor", "features"), VENDORS)
def test_a_device_moves_to_another_domain(vendor, features):
    """One store, or by way of nowhere where it takes several; afterwards each domain's plans tell the right devices."""
    stand, other = two_domains(vendor, features, ats=True)
    answers(stand, 8)
    plan = move(stand.domain, other, 8)
    what = [step.what for step in plan.isolate if isinstance(step, StoreStructure)]
    assert what == ["replace"] if vendor == "amd" else set(what) == {"detach", "attach"}
    tag = other.attachments[-1].tag
    assert answers(stand, 8) == {(stand.guest.pa(8 * M), tag)} and tag != stand.domain.planner.assembler.units[0].tag
    assert stand.domain.planner.assembler.units[0].devices == () and other.planner.assembler.units[0].devices == (8,)
    stand.hide(8 * M)
    assert all(isinstance(each, str) for each in answers(stand, 8)) or stand.domain.policy.maps_private
    assert answers(stand, 20, 16 * M) == {(stand.guest.pa(16 * M), tag)}


def test_a_device_moves_only_from_where_it_is():
    """The errors say what is wrong."""
    stand, other = two_domains("amd", {})
    with pytest.raises(HitlessError, match="not attached to this domain"):
        plan_move(other, None, 8)
    with pytest.raises(HitlessError, match="attached to this domain already"):
        plan_move(None, stand.domain, 8)
    with pytest.raises(HitlessError, match="not behind a unit"):
        plan_move(stand.domain, None, 99)
    with pytest.raises(HitlessError, match="nowhere"):
        plan_move(None, None, 8)

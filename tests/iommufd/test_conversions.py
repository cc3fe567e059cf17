"""Conversions through a domain: what is mapped afterwards, with how many stores and commands, and what is refused."""

import random

import pytest
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st

from hitless.errors import HitlessError, OutOfTableMemory, Refused
from hitless.guest_memfd.guest import GUEST, HOST
from hitless.guest_memfd.slots import Slot
from hitless.hardware.facts import Drops
from hitless.iommufd import DomainSettings
from hitless.pagetable import translate
from hitless.plan import Invalidate, Store, Wait
from stand import PAGE, G, K, M, Stand

VENDORS = ("amd", "intel", "arm_smmu")
BACKINGS = ("in-place", "separate", "scattered")


def expected(stand: Stand, gpa: int) -> int | None:
    """Where a page has to lead: guest_memfd's word, and the policy's."""
    if stand.guest.owner(gpa) != HOST and not stand.domain.policy.maps_private:
        return None
    return stand.guest.pa(gpa)


def agrees(stand: Stand, pages) -> None:
    """Every page leads where it has to."""
    for gpa in pages:
        found = translate(stand.machine.arena, stand.fmt, stand.domain.planner.root_pa, gpa)
        assert found == expected(stand, gpa), hex(gpa)


@pytest.mark.slow
@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("backing", BACKINGS)
@pytest.mark.parametrize("merge", ["never", "at_once"])
@profile(max_examples=12)
@given(data=st.data())
def test_after_any_conversions_every_page_is_as_guest_memfd_holds_it(vendor, backing, merge, data):
    """Random conversions in a 16 MiB guest: each page leads where its owner and physicals say; no rule breaks."""
    stand = Stand(vendor, backing, memory=16 * M, hunk_lg2=21, settings={"merge": merge}, rate=1)
    each = st.tuples(st.integers(0, 4095), st.sampled_from([1, 1, 2, 7, 512, 513, 1024]), st.booleans())
    conversions = data.draw(st.lists(each, max_size=8))
    for page, count, private in conversions:
        start = page * PAGE if count < 512 else page // 512 * 512 * PAGE
        end = min(start + count * PAGE, 16 * M)
        stand.guest.convert([(start, end)], GUEST if private else HOST)
    agrees(stand, range(0, 16 * M, PAGE))
    assert stand.violations() == {}


@pytest.mark.parametrize("vendor", VENDORS)
def test_large_leaves_stay_where_hunks_are_untouched(vendor):
    """1G where a hunk is untouched, 2M where a 2M part is; AMD and Arm map all, Intel what is shared."""
    stand = Stand(vendor, "separate")
    stand.share(0x40000000, 4 * M)
    stand.hide(0x40001000)
    if vendor == "intel":
        assert stand.leaves() == {"4K": 511, "2M": 1}
    else:
        assert stand.leaves() == {"4K": 512, "2M": 511, "1G": 3}


def test_arm_in_place_keeps_its_gigabytes():
    """The GPT is checked per granule: no entry has to change."""
    stand = Stand("arm_smmu", "in-place")
    stand.share(0x40001000)
    assert stand.leaves() == {"1G": 4}
    assert stand.domain.executor.counters.stores == 0


@pytest.mark.slow
@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("backing", BACKINGS)
def test_there_and_back_with_merge_at_once(vendor, backing):
    """With merge at once the first leaves and the first number of tables come back."""
    stand = Stand(vendor, backing, settings={"merge": "at_once"})
    stand.share(0x80000000, 2 * M)
    before = stand.leaves(), stand.machine.tables.used_pages
    for start, size in ((0x80001000, PAGE), (0x40000000, 2 * M), (0xC0003000, 3 * PAGE)):
        old = stand.guest.owner(start)
        stand.guest.convert([(start, start + size)], GUEST if old == HOST else HOST)
        stand.guest.convert([(start, start + size)], old)
    assert (stand.leaves(), stand.machine.tables.used_pages) == before
    assert stand.violations() == {}


@pytest.mark.parametrize("vendor", ["amd", "arm_smmu"])
def test_merge_on_request(vendor):
    """Policy on_request merges when it is asked, not before."""
    stand = Stand(vendor, settings={"merge": "on_request"})
    before = stand.leaves()
    stand.share(0x40000000)
    stand.hide(0x40000000)
    assert stand.leaves() != before
    stand.domain.merge(0, 4 * G)
    assert stand.leaves() == before
    assert stand.domain.merges == 1


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("backing", ["in-place", "separate"])
def test_no_command_covers_more_than_the_leaf(vendor, backing):
    """One 4K conversion in a 1G leaf: no command beyond that 1 GiB; in a 4K leaf: none beyond 4K."""
    stand = Stand(vendor, backing)
    stand.share(0x40000000, G) if vendor == "intel" else None
    for start, bound in ((0x40005000, G), (0x40006000, 4 * K)):
        owner = GUEST if stand.guest.owner(start) == HOST else HOST
        plan = stand.plan(start, owner=owner)
        decode = stand.domain.vendor.commands.decode
        for _, step in plan.steps():
            for effect in decode(step.words) if isinstance(step, Invalidate) else ():
                assert isinstance(effect, Drops) and effect.last - effect.first + 1 <= bound
                assert effect.first >> 30 == 1
        stand.guest.convert([(start, start + PAGE)], owner)


@pytest.mark.parametrize("vendor", VENDORS)
def test_many_ranges_are_one_plan_with_one_wait_a_round(vendor):
    """Two ranges in two leaves: rounds are joined, one wait a round and unit."""
    stand = Stand(vendor, units=2, settings={})
    stand.share(0x40000000, 4 * M)
    ranges = [(0x40001000, 0x40002000), (0x40203000, 0x40204000)]
    plan = stand.guest.plan(ranges, GUEST)[0].plan
    waits = [step.unit for _, step in plan.steps() if isinstance(step, Wait)]
    single = stand.guest.plan(ranges[:1], GUEST)[0].plan
    assert waits == [step.unit for _, step in single.steps() if isinstance(step, Wait)]
    assert sum(isinstance(step, Store) and step.what.startswith("cut") for _, step in plan.steps()) == 2
    stand.guest.convert(ranges, GUEST)
    assert stand.violations() == {}


def test_amd_smashes_the_rmp_and_invalidates_after_the_owner_change():
    """AMD in place: boundary, PSMASH, RMPUPDATE, and only then the 4K invalidation and a second wait."""
    stand = Stand("amd", "in-place")
    plan = stand.plan(0x40005000)
    assert [step.op for step in plan.own] == ["PSMASH", "RMPUPDATE"]
    assert [type(step).__name__ for step in plan.refresh] == ["Invalidate", "Wait"]
    assert plan.refresh[0].words == (0x3000000100000000, 0x40005000)


def test_amd_boundary_at_check_units_only():
    """With check_unit a transition at a 2M boundary needs no cut of the 1G leaf."""
    for boundary, stores in (("every_transition", 1), ("check_unit", 0)):
        stand = Stand("amd", "in-place", features={"boundary": boundary})
        stand.share(0x40200000, 2 * M)
        stand.warm()
        assert stand.domain.executor.counters.stores == stores
        assert stand.violations() == {}


def test_intel_wipes_before_private_and_maps_after_shared():
    """Intel: to-private unmaps in isolate, to-shared maps in refresh; nothing else is stored."""
    stand = Stand("intel", "in-place")
    assert [s.what for _, s in stand.plan(0x40000000).steps() if isinstance(s, Store)] == ["map"]
    stand.share(0x40000000, 2 * M)
    plan = stand.plan(0x40000000, owner=GUEST)
    assert [s.what for s in plan.isolate if isinstance(s, Store)] == ["cut", "wipe"]
    assert not [s for s in plan.refresh if isinstance(s, Store)]


@pytest.mark.parametrize(("vendor", "features"), [("intel", {"coherent": False}), ("arm_smmu", {"coherent": False})])
def test_a_walker_that_does_not_snoop_gets_cleans(vendor, features):
    """Fills and stores are pushed out of the cache before what makes them reachable."""
    stand = Stand(vendor, features=features)
    stand.share(0x40000000, 2 * M)
    plan = stand.plan(0x40001000, owner=GUEST)
    names = [type(step).__name__ for _, step in plan.steps()]
    assert names[names.index("Store") + 1] == "Clean"
    assert names[: names.index("Barrier")].count("Fill") == names[: names.index("Barrier")].count("Clean") == 1


@pytest.mark.parametrize(("vendor", "feature"), [("amd", "np_cache"), ("intel", "caching_mode")])
def test_caching_mode_invalidates_after_a_map(vendor, feature):
    """NpCache and CM: not-present to present needs an invalidation too."""
    for on in (False, True):
        stand = Stand(vendor, "in-place", features={feature: on}, settings={"policy": "wipe"})
        commands = [step for _, step in stand.plan(0x40000000).steps() if isinstance(step, Invalidate)]
        assert bool(commands) is on


def test_bbml0_refuses_the_cut_and_names_the_ways_out():
    """Arm BBML0: refused, unless allow_break; the conversion that was refused changes nothing."""
    stand = Stand("arm_smmu", features={"bbml": 0})
    before = stand.machine.tables.state(), stand.leaves()
    with pytest.raises(Refused, match="cut") as caught:
        stand.share(0x40001000)
    assert caught.value.reason == "arm_smmu.bbml0-cut"
    assert "allow_break" in str(caught.value)
    assert (stand.machine.tables.state(), stand.leaves()) == before
    stand.share(0x40000000, G)
    assert stand.guest.owner(0x40000000) == HOST
    assert stand.violations() == {}


def test_a_smash_under_a_trusted_device_is_refused():
    """AMD trusted: a 4K conversion inside a guest-owned 2M RMP entry is refused; whole 2M are not."""
    stand = Stand("amd", "in-place", settings={"trusted": True})
    with pytest.raises(Refused) as caught:
        stand.share(0x40001000)
    assert caught.value.reason == "amd.trusted-smash"
    stand.share(0x40000000, 2 * M)
    stand.hide(0x40000000, 2 * M)
    stand.warm()
    assert stand.violations() == {}
    assert stand.seen.neighbour > 100


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("backing", ["in-place", "separate"])
def test_out_of_memory_at_every_allocation_changes_nothing(vendor, backing):
    """Rule A1: whichever allocation fails, memory, tables, allocator and owners are as before, byte for byte."""
    stand = Stand(vendor, backing, settings={"merge": "at_once"})
    stand.share(0x80000000, 4 * M)
    stand.share(0x40003000)
    start, owner = 0x80001000, GUEST
    base, used = stand.machine.tables.state(), 64 * 512
    memory = stand.machine.arena.view(stand.machine.base_pa, used).copy()
    failures = 0
    for number in range(1, 10):
        stand.machine.tables.fail_after(number)
        try:
            stand.guest.convert([(start, start + PAGE), (0x80201000, 0x80202000)], owner)
        except OutOfTableMemory:
            failures += 1
            assert stand.machine.tables.state() == base
            assert (stand.machine.arena.view(stand.machine.base_pa, used) == memory).all()
            assert stand.guest.owner(start) == HOST
            continue
        break
    stand.machine.tables.fail_after(None)
    assert failures == (0 if (vendor, backing) == ("arm_smmu", "in-place") else 2)
    assert stand.guest.owner(start) == GUEST
    assert stand.violations() == {}


def test_the_last_page_of_a_64_bit_space():
    """AMD mode 6: the page that ends at 2**64 is cut, converted and comes back."""
    top = 1 << 64
    stand = Stand("amd", features={"mode": 6}, slots=[Slot(0, 0, G), Slot(top - G, G, G)])
    stand.share(top - PAGE)
    stand.share(top - 2 * M, 2 * M - PAGE)
    agrees(stand, [top - PAGE, top - 2 * PAGE, top - 4 * M, top - G, 0])
    stand.hide(top - PAGE)
    agrees(stand, [top - PAGE, top - 2 * PAGE])
    assert stand.violations() == {}
    assert stand.seen.converted > 0


@pytest.mark.parametrize("vendor", VENDORS)
def test_revoke_unmaps_and_frees(vendor):
    """Truncate: nothing maps the range, and tables that map nothing are free again."""
    stand = Stand(vendor, "in-place")
    stand.share(0x40000000, 4 * M)
    stand.hide(0x40001000)
    stand.guest.revoke(0x40000000, 0x80000000)
    for gpa in (0x40000000, 0x40001000, 0x7FFFF000):
        assert translate(stand.machine.arena, stand.fmt, stand.domain.planner.root_pa, gpa) is None
    structures = sum(1 << size_lg2 - 12 for unit in stand.domain.units for _, size_lg2 in unit._blocks)
    assert stand.machine.tables.used_pages - structures <= 2


@pytest.mark.parametrize("vendor", VENDORS)
def test_unmap_remap_faults_neighbours_and_refresh_does_not(vendor):
    """The baseline really is worse: neighbours fault while their leaf is gone."""
    faults = {}
    for strategy in ("refresh", "unmap-remap"):
        stand = Stand(vendor, settings={"strategy": strategy})
        stand.share(0x40000000, 4 * M)
        stand.engine._near = [(0x40000000, 0x40400000)]
        stand.warm()
        stand.hide(0x40005000)
        agrees(stand, range(0x40000000, 0x40400000, 64 * K))
        faults[strategy] = stand.violations().get("N1", 0)
    assert faults["refresh"] == 0 < faults["unmap-remap"]


def test_an_unknown_policy_names_those_there_are():
    """A policy that the vendor has not is an error that lists what it has."""
    with pytest.raises(HitlessError, match="match"):
        Stand("amd", settings={"policy": "hope"})


def test_settings_default_to_the_vendors_policy():
    """Without a policy the vendor's default one holds."""
    assert Stand("intel").domain.policy.name == "wipe"
    assert DomainSettings().merge == "never"


@pytest.mark.parametrize("vendor", VENDORS)
def test_dirty_bits_set_during_a_cut_are_folded(vendor):
    """Hardware sets D in the old leaf between prepare and the store: the new table's leaves carry it."""
    features = {"intel": {"ssads": True, "mode": "scalable"}, "arm_smmu": {"httu": True, "bbml": 1}}.get(vendor, {})
    stand = Stand(vendor, features=features)
    stand.share(0x40000000, 2 * M)
    bit = stand.fmt.hardware_set(1) & -stand.fmt.hardware_set(1)
    seen = []

    def touch(step):
        if isinstance(step, Store) and step.what in ("cut", "cut-1") and not seen:
            word = stand.machine.arena.load(step.pa)
            if not word & bit:
                seen.append(step)
                stand.machine.arena.compare_exchange(step.pa, word, word | bit)

    stand.domain.executor.between = touch
    stand.hide(0x40005000)
    if not seen:
        pytest.fail("the cut's leaf had the bit already")
    word = stand.machine.arena.load(stand.machine.arena.load(seen[0].pa) & 0xF_FFFF_FFFF_F000)
    assert word & bit


@profile(max_examples=20)
@given(st.integers(0, 2**32))
def test_ranges_of_random_size_do_not_leak_tables(seed):
    """Any sequence there and back leaves no table behind with merge at once."""
    rng = random.Random(seed)
    stand = Stand("amd", memory=64 * M, hunk_lg2=21, settings={"merge": "at_once"}, rate=0)
    before = stand.machine.tables.used_pages
    done = []
    for _ in range(4):
        start = rng.randrange(0, 64 * M, PAGE)
        size = min(rng.choice([PAGE, 5 * PAGE, 2 * M, 5 * M]), 64 * M - start)
        stand.share(start, size)
        done.append((start, size))
    for start, size in done:
        stand.hide(start, size)
    assert stand.machine.tables.used_pages == before


def test_pages_invalidated_are_those_of_the_domains_own_stage():
    """VT-d's page-selective command also takes what nests through a domain; that is no page of this one."""
    counts = []
    for mode in ("legacy", "scalable"):
        stand = Stand("intel", features={"mode": mode})
        stand.share(0x40000000, 2 * M)
        stand.hide(0x40005000)
        counts.append(stand.domain.executor.counters.invalidated_pages)
    assert counts[0] == counts[1] > 0

"""Address spaces: one page at two IOVAs, guest memory in two address spaces, and what a conversion does to them."""

import random

import pytest
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st

from hitless.errors import BadInput
from hitless.guest_memfd.guest import GUEST, HOST
from hitless.guest_memfd.slots import Slot, Slots
from hitless.hardware.dma import DmaEngine, Lane
from hitless.iommufd import Area, Domain, Ioas
from hitless.pagetable import translate
from hitless.units import joined
from stand import PAGE, K, M, Stand

VENDORS = ("amd", "intel", "arm_smmu")
TWICE = (Area(0, 0, 16 * M), Area(64 * M, 4 * M, 4 * M), Area(80 * M + PAGE, 2 * M, 2 * M))


def leads_to(domain, memory, iova):
    """The physical address that a domain's tables lead an IOVA to."""
    return translate(memory, domain.vendor.page_format, domain.planner.root_pa, iova)


def agrees(stand, domain, areas) -> None:
    """Every page of every area leads where guest_memfd says, or nowhere where the policy maps it not."""
    for area in areas:
        for offset in range(0, area.size, 16 * PAGE):
            gpa = area.gpa + offset
            mapped = stand.guest.owner(gpa) == HOST or domain.policy.maps_private
            expected = stand.guest.pa(gpa) if mapped else None
            assert leads_to(domain, stand.machine.arena, area.iova + offset) == expected, hex(area.iova + offset)


class Watching:
    """Tells a second domain's DMA what converts."""

    def __init__(self, engine):
        self.begin = lambda conversion: engine.begin(conversion, list(conversion.ranges))
        self.end = engine.end


@pytest.mark.parametrize("vendor", VENDORS)
def test_one_page_at_two_iovas(vendor):
    """A conversion reaches every IOVA of a page, also where an area is aligned to nothing but pages."""
    stand = Stand(vendor, "separate", memory=16 * M, hunk_lg2=21, ioas=Ioas(TWICE))
    agrees(stand, stand.domain, TWICE)
    stand.share(4 * M, 2 * M)
    stand.share(2 * M + 5 * PAGE, PAGE)
    stand.hide(4 * M + 16 * PAGE)
    agrees(stand, stand.domain, TWICE)
    page = stand.guest.pa(2 * M + 5 * PAGE)
    for iova in (2 * M + 5 * PAGE, 80 * M + 6 * PAGE):
        assert leads_to(stand.domain, stand.machine.arena, iova) == page
    assert leads_to(stand.domain, stand.machine.arena, 80 * M) is None
    stand.warm()
    assert stand.violations() == {}
    assert stand.seen.neighbour > 300


@pytest.mark.parametrize("vendor", VENDORS)
def test_guest_memory_in_two_address_spaces(vendor):
    """Two domains behind one unit, each with its own IOVAs and tag: both follow one conversion, no rule breaks."""
    stand = Stand(vendor, "separate", memory=16 * M, hunk_lg2=21)
    unit, far = stand.domain.units[0], (Area(1 << 32, 0, 16 * M),)
    second = Domain.open(
        "second",
        stand.domain.vendor,
        stand.guest,
        stand.machine.arena,
        stand.machine.tables,
        [(unit, 2, [(9, False)])],
        ioas=Ioas(far),
    )
    stand.guest.notifiers.append(second)
    engine = DmaEngine(
        stand.guest,
        [Lane(unit, second.attachments[0])],
        second.default_attrs,
        random.Random(1),
        second.policy.maps_private,
        8,
        second.view.points,
    )
    second.executor.between = lambda step: engine.burst()
    stand.guest.watchers.append(Watching(engine))
    for start, size, share in ((4 * M, 4 * M, True), (4 * M + PAGE, PAGE, False), (5 * M, 64 * K, False)):
        (stand.share if share else stand.hide)(start, size)
        for _ in range(10):
            engine.burst()
    agrees(stand, stand.domain, [Area(0, 0, 16 * M)])
    agrees(stand, second, far)
    assert stand.violations() == {}
    seen = engine.counters
    assert (seen.neighbour_faults, seen.neighbour_misrouted, seen.stale, seen.converted_misrouted) == (0, 0, 0, 0)
    assert seen.neighbour > 100


@pytest.mark.parametrize("vendor", VENDORS)
def test_what_no_area_leads_to_converts_without_the_domain(vendor):
    """A page without an IOVA: no entry is stored; revoking and merging it do nothing."""
    stand = Stand(vendor, "separate", memory=16 * M, hunk_lg2=21, ioas=Ioas([Area(0, 0, 2 * M)]))
    before = stand.domain.executor.counters.stores
    assert stand.share(8 * M) is not None
    stand.guest.revoke(8 * M, 10 * M)
    stand.domain.merge(8 * M, 10 * M)
    assert stand.domain.executor.counters.stores == before


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_revoked_range_is_gone_at_every_iova(vendor):
    """Truncate: 2 MiB that three areas lead into are mapped nowhere; what lies beside them stays."""
    stand = Stand(vendor, "separate", memory=16 * M, hunk_lg2=21, ioas=Ioas(TWICE))
    stand.share(0, 16 * M)
    stand.guest.revoke(5 * M, 6 * M)
    for iova in (5 * M, 65 * M, 66 * M - PAGE):
        assert leads_to(stand.domain, stand.machine.arena, iova) is None
    for iova, gpa in ((5 * M - PAGE, 5 * M - PAGE), (66 * M, 6 * M), (80 * M + PAGE, 2 * M)):
        assert leads_to(stand.domain, stand.machine.arena, iova) == stand.guest.pa(gpa)


@profile(max_examples=10)
@given(data=st.data())
def test_random_conversions_in_a_scrambled_space(data):
    """Any order of conversions, pieces of 64K that have changed places: every page is where guest_memfd holds it."""
    ioas = Ioas.scrambled(Slots([Slot(0, 0, 4 * M)]), 64 * K, data.draw(st.integers(0, 99)))
    stand = Stand("amd", "separate", memory=4 * M, hunk_lg2=21, ioas=ioas, rate=1)
    each = st.tuples(st.integers(0, 1023), st.sampled_from([1, 3, 16, 512]), st.booleans())
    for page, count, private in data.draw(st.lists(each, max_size=5)):
        end = min(page + count, 1024)
        stand.guest.convert([(page * PAGE, end * PAGE)], GUEST if private else HOST)
    agrees(stand, stand.domain, ioas.areas)
    assert stand.violations() == {}


def test_areas_are_whole_pages_that_do_not_overlap():
    """An empty, an unaligned and an overlapping area are refused with the IOVA."""
    for areas in ([Area(0, 0, 0)], [Area(0, 1, PAGE)], [Area(0, 0, 2 * PAGE), Area(PAGE, 0, PAGE)]):
        with pytest.raises(BadInput, match="IOVA 0x"):
            Ioas(areas)


@given(seed=st.integers(0, 1000), start=st.integers(0, 63), size=st.integers(1, 16))
def test_both_ways_through_an_address_space_agree(seed, start, size):
    """GPAs of an IOVA range and back: the range itself; the oracle is a dictionary of pages."""
    ioas = Ioas.scrambled(Slots([Slot(0, 0, 32 * PAGE), Slot(40 * PAGE, 32 * PAGE, 30 * PAGE)]), 4 * PAGE, seed)
    pages = {area.iova + at: area.gpa + at for area in ioas.areas for at in range(0, area.size, PAGE)}
    assert sorted(pages) == sorted(pages.values()) == [*range(0, 32 * PAGE, PAGE), *range(40 * PAGE, 70 * PAGE, PAGE)]
    low, high = start * PAGE, (start + size) * PAGE
    wanted = [iova for iova in pages if low <= iova < high]
    found = [gpa for a, b in ioas.gpas(low, high) for gpa in range(a, b, PAGE)]
    assert sorted(found) == sorted(pages[iova] for iova in wanted)
    back = joined(each for a, b in ioas.gpas(low, high) for each in ioas.iovas(a, b))
    assert [iova for a, b in back for iova in range(a, b, PAGE)] == sorted(wanted)
    assert all(ioas.points(pages[iova]) == [iova] for iova in wanted)

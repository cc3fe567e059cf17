"""A domain's layout and owner changes as columns, against the same ones one by one."""

from itertools import pairwise
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitless.columns import Ranges
from hitless.errors import Pinned
from hitless.guest_memfd import guest as guest_module
from hitless.guest_memfd.backing import GUEST, HOST, make_backing
from hitless.guest_memfd.conversion import ChangeRun, ChangeRuns
from hitless.guest_memfd.guest import GuestMemfd
from hitless.guest_memfd.slots import Slot, Slots
from hitless.iommufd import layout, many
from hitless.iommufd.ioas import Area, Ioas
from hitless.iommufd.owning import DomainOwners
from hitless.ownership import ANY_LG2, Boundary, Policy
from hitless.refresh.changes import Changes
from stand import PAGE, G, M, Stand

PAGES = 96
TOP = (1 << 64) - 32 * PAGE
SLOTS = [Slot(0, 64 * PAGE, 32 * PAGE), Slot(40 * PAGE, 0, 64 * PAGE), Slot(TOP, 96 * PAGE, 32 * PAGE)]
AREAS = [
    Area(16 * PAGE, 40 * PAGE, 32 * PAGE),
    Area(64 * PAGE, 0, 8 * PAGE),
    Area(80 * PAGE, 44 * PAGE, 8 * PAGE),  # an alias
    Area(TOP, 8 * PAGE, 24 * PAGE),
    Area(TOP + 28 * PAGE, TOP, 4 * PAGE),
]
ATTRS = 0x3
POLICIES = [
    Policy("match", maps_private=True, boundary=Boundary.EVERY_TRANSITION),
    Policy("unit", maps_private=True, boundary=Boundary.CHECK_UNIT, check_unit_lg2=14),
    Policy("wipe", maps_private=False),
    Policy("check", maps_private=True),
    Policy("half", maps_private=True, maps_shared=False),
    Policy("halves", maps_private=True, private_below=64 * PAGE),
    Policy("nothing", maps_private=False, maps_shared=False),
]
SPOTS = st.sampled_from([*range(104), *(TOP // PAGE + at for at in range(33))]).map(lambda page: page * PAGE)


@st.composite
def pages(draw):
    """Single pages and small ranges of memory."""
    found = []
    for _ in range(draw(st.integers(1, 10))):
        slot = draw(st.sampled_from(SLOTS))
        first = draw(st.integers(0, slot.size // PAGE - 1))
        size = draw(st.integers(1, min(4, slot.size // PAGE - first)))
        found.append((slot.gpa + first * PAGE, slot.gpa + (first + size) * PAGE))
    return found


@given(
    backing=st.sampled_from(["in-place", "separate", "scattered"]),
    shared=pages(),
    wanted=st.none() | st.tuples(pages(), st.sampled_from([HOST, GUEST])),
    policy=st.sampled_from(POLICIES),
    areas=st.booleans(),
    span=st.tuples(SPOTS, SPOTS).map(sorted).filter(lambda span: span[0] < span[1]),
)
def test_segments_are_those_of_the_layout(backing, shared, wanted, policy, areas, span):
    """The same edges, addresses and attributes, now and after a conversion, wherever IOVAs lead."""
    slots = Slots(SLOTS)
    guest = GuestMemfd(slots, make_backing(backing, 1 << 40, slots.size, 21), 21)
    guest.convert(shared, HOST)
    ioas = Ioas(AREAS) if areas else None
    for crossover in (0, 1000):  # the conversion itself as columns, and not
        with patch.object(guest_module, "MANY", crossover):
            conversion = guest.conversion(*wanted) if wanted else None
        runs = layout.runs_of(guest, ioas, *span, conversion)
        expected = list(layout.segments(runs, policy, ATTRS, *span))
        found = many.segments(many.runs_of(guest, ioas, *span, conversion), policy, ATTRS, *span)
        assert list(found) == expected


@given(pages())
def test_iovas_of_many_ranges(wanted):
    """The IOVAs that lead into ranges, joined, where areas alias and where they do not."""
    ioas = Ioas(AREAS)
    expected = {
        at for start, end in wanted for low, high in ioas.iovas(start, end) for at in range(low // PAGE, high // PAGE)
    }
    found = many.iovas(ioas, Ranges.of(wanted).ordered())
    assert [at for low, high in found for at in range(low // PAGE, high // PAGE)] == sorted(expected)
    assert all(one[1] < other[0] for one, other in pairwise(found))


RUNS = st.lists(
    st.tuples(st.integers(1, 3), st.integers(0, 2), st.integers(0, 2), st.sampled_from(["stay", "move", "swap"])),
    min_size=1,
    max_size=12,
)


@given(RUNS, st.randoms())
def test_owner_changes_name_what_is_left_and_what_is_taken(pieces, rng):
    """Every physical page gets the owner that it has afterwards; what the host neither owns nor gets is left out."""
    runs, at, expected = [], 0, {}
    order = list(range(len(pieces)))
    rng.shuffle(order)
    for (size, old, new, how), place in zip(pieces, order, strict=True):
        here, there = (1 << 30) + place * 4 * PAGE, (1 << 31) + place * 4 * PAGE
        old_pa, new_pa = {"stay": (here, here), "move": (here, there), "swap": (there, here)}[how]
        runs.append(ChangeRun(at, at + size * PAGE, old, new, old_pa, new_pa))
        at += size * PAGE
        for page in range(size):
            if old_pa != new_pa and old != HOST:
                expected[old_pa + page * PAGE] = HOST
            if old_pa == new_pa or new != HOST:
                expected[new_pa + page * PAGE] = new
    columns = [np.array(each, dtype=np.uint64) for each in zip(*runs, strict=True)]
    columns[1] -= np.uint64(1)
    found = many.owner_changes(ChangeRuns(*columns))
    rows = list(found)
    assert rows == sorted(rows)
    assert {at: row.owner for row in rows for at in range(row.start_pa, row.end_pa, PAGE)} == expected
    assert all(row.leaf_lg2 == ANY_LG2 for row in rows)
    assert not any(a.end_pa == b.start_pa and a.owner == b.owner for a, b in pairwise(rows))


@pytest.mark.parametrize("vendor", ["amd", "intel", "arm_smmu", "riscv"])
@pytest.mark.parametrize("backing", ["in-place", "separate"])
def test_a_domain_converts_many_as_one_by_one(vendor, backing):
    """The owner table, the guest's owners and what devices see are those of single conversions, there and back."""
    wanted = [(at, at + PAGE) for at in range(M, G, 37 * M)] + [(G + 2 * M, G + 4 * M)]
    one, other = Stand(vendor, backing), Stand(vendor, backing)
    for owner in (HOST, GUEST):
        with patch.object(guest_module, "MANY", 10**9):
            one.guest.convert(wanted, owner)
        other.guest.convert(np.array(wanted, dtype=np.uint64), owner)
        assert other.domain.owners == one.domain.owners
        assert list(other.guest.runs(0, 4 * G)) == list(one.guest.runs(0, 4 * G))
        assert other.leaves() == one.leaves()
        seen = other.seen
        assert (seen.neighbour_faults, seen.neighbour_misrouted, seen.converted_misrouted, seen.stale) == (0, 0, 0, 0)


@pytest.mark.parametrize(
    ("vendor", "features", "settings", "plain"),
    [
        ("amd", {}, {}, True),
        ("amd", {}, {"trusted": True}, False),  # sizes of leaves and RMP entries agree
        ("amd", {}, {"trusted": True, "policy": "wipe"}, True),
        ("intel", {}, {}, True),
        ("arm_smmu", {}, {"trusted": True}, True),
        ("arm_smmu", {"half": "protected", "rmm_bbml2": True}, {}, False),  # the RMM stores
    ],
)
def test_plain_owners_are_asked_about_no_leaf(vendor, features, settings, plain):
    """Whoever checks sizes, stores or sends commands in the host's place is not plain."""
    domain = Stand(vendor, features=features, settings=settings).domain
    assert DomainOwners(domain).plain is plain


def test_pins_hold_among_many():
    """A pinned page among many that convert is named as it is for one."""
    stand = Stand("intel")
    stand.domain.pinned = [(64 * M, 64 * M + PAGE), (1 << 40, 1 << 41)]
    wanted = [(at * M, at * M + PAGE) for at in range(100)]
    with pytest.raises(Pinned, match=f"{64 * M:#x}"):
        stand.guest.convert(wanted, HOST)
    assert stand.guest.owner(0) == GUEST


def test_no_table_is_copied_for_what_cannot_fuse():
    """An owner change is worked out on the domain's own table, which stays as it is."""
    stand = Stand("arm_smmu")
    conversion = stand.guest.conversion([(at * M, at * M + PAGE) for at in range(100)], HOST)
    before = stand.domain.owners.copy()
    with patch.object(type(before), "copy", side_effect=before.copy) as copies:
        found = DomainOwners(stand.domain, conversion, conversion.runs).change(Changes(), [])
    assert len(found.own) == 4
    assert copies.call_count == 0
    assert stand.domain.owners == before


@given(st.lists(st.tuples(st.integers(0, 90), st.integers(1, 6)), min_size=1), pages())
def test_clipped_runs(parts, wanted):
    """The parts of runs that lie in ranges keep their physicals."""
    slots = Slots(SLOTS)
    guest = GuestMemfd(slots, make_backing("separate", 1 << 40, slots.size, 21), 21)
    with patch.object(guest_module, "MANY", 0):
        conversion = guest.conversion(wanted, HOST)
    ranges = Ranges.of((a * PAGE, (a + b) * PAGE) for a, b in parts).ordered().joined()
    found = many.clipped(conversion.runs, ranges)
    expected = {
        (at, run.old_pa + at - run.start, run.new_pa + at - run.start)
        for run in conversion.runs
        for at in range(run.start, run.end, PAGE)
        if any(a <= at < b for a, b in ranges)
    }
    assert {
        (at, run.old_pa + at - run.start, run.new_pa + at - run.start)
        for run in found
        for at in range(run.start, run.end, PAGE)
    } == expected

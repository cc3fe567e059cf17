"""Many ranges at once against the same ranges one by one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitless.columns import Ranges, order
from hitless.errors import BadInput, OwnerChangeRefused
from hitless.guest_memfd import guest as guest_module
from hitless.guest_memfd.backing import GUEST, HOST, make_backing
from hitless.guest_memfd.conversion import ChangeRun, ChangeRuns, Conversion
from hitless.guest_memfd.cpu import CpuMapping
from hitless.guest_memfd.guest import GuestMemfd
from hitless.guest_memfd.slots import Slot, Slots

PAGE, M = 1 << 12, 1 << 20
PAGES = 96
LAYOUTS = {
    "one": [Slot(0, 0, PAGES * PAGE)],
    "moved": [Slot(64 * PAGE, 32 * PAGE, PAGES * PAGE)],
    "several": [Slot(0, 64 * PAGE, 32 * PAGE), Slot(40 * PAGE, 0, 40 * PAGE), Slot(80 * PAGE, 40 * PAGE, 16 * PAGE)],
    "top": [Slot(0, 0, 40 * PAGE), Slot((1 << 64) - 56 * PAGE, 40 * PAGE, 56 * PAGE)],
}
BACKINGS = ["in-place", "separate", "scattered"]


def made(layout: str, backing: str) -> GuestMemfd:
    """A small guest whose memory has some host-owned pages."""
    slots = Slots(LAYOUTS[layout])
    return GuestMemfd(slots, make_backing(backing, 1 << 40, slots.size, 21), 21)


@st.composite
def ranges_of(draw, layout: str):
    """Ranges of whole pages inside slots, in any order; they may overlap."""
    found = []
    for _ in range(draw(st.integers(1, 8))):
        slot = draw(st.sampled_from(LAYOUTS[layout]))
        first = draw(st.integers(0, slot.size // PAGE - 1))
        size = draw(st.integers(1, min(6, slot.size // PAGE - first)))
        found.append((slot.gpa + first * PAGE, slot.gpa + (first + size) * PAGE))
    return found


@st.composite
def situations(draw):
    """A guest's layout and backing, earlier conversions, and one that is looked at."""
    layout = draw(st.sampled_from(sorted(LAYOUTS)))
    earlier = draw(st.lists(st.tuples(ranges_of(layout), st.sampled_from([HOST, GUEST])), max_size=3))
    return (
        layout,
        draw(st.sampled_from(BACKINGS)),
        earlier,
        draw(ranges_of(layout)),
        draw(st.sampled_from([HOST, GUEST])),
    )


def by_page(runs) -> dict[int, ChangeRun]:
    """Each page that changes, as a run of its own."""
    found = {}
    for start, end, old, new, old_pa, new_pa in runs:
        for at in range(start, end, PAGE):
            row = ChangeRun(at, at + PAGE, old, new, old_pa + at - start, new_pa + at - start)
            assert found.setdefault(at, row) == row
    return found


def with_columns(crossover: int):
    """The crossover from which ranges are columns."""
    patch = pytest.MonkeyPatch()
    patch.setattr(guest_module, "MANY", crossover)
    return patch


@given(situations())
def test_a_conversion_as_columns_is_the_same(situation):
    """The same pages change, with the same owners and physicals, whatever form the ranges are given in."""
    layout, backing, earlier, wanted, owner = situation
    guest = made(layout, backing)
    for ranges, to in earlier:
        guest.convert(ranges, to)
    expected = guest.conversion(wanted, owner)
    array = np.array([(start, end % 2**64) for start, end in wanted], dtype=np.uint64)
    patch = with_columns(0)
    try:
        for form in (wanted, iter(wanted), Ranges.of(wanted), array):
            found = guest.conversion(form, owner)
            assert (found is None) == (expected is None)
            if found is None or expected is None:
                continue
            assert isinstance(found.runs, ChangeRuns)
            assert isinstance(found.ranges, Ranges)
            assert list(found.ranges) == list(expected.ranges)
            assert by_page(found.runs) == by_page(expected.runs)
            assert found.pages == expected.pages == len(by_page(expected.runs))
            assert [run.start for run in found.runs] == sorted(run.start for run in found.runs)
    finally:
        patch.undo()


@given(situations())
def test_owners_after_a_conversion_of_many(situation):
    """Owners and places of all pages afterwards are those of single conversions; the layout ahead says the same."""
    layout, backing, earlier, wanted, owner = situation
    one, other = made(layout, backing), made(layout, backing)
    for ranges, to in [*earlier, (wanted, owner)]:
        for each in ranges:
            one.convert([each], to)
    patch = with_columns(0)
    try:
        for ranges, to in earlier:
            other.convert(ranges, to)
        ahead = other.conversion(wanted, owner)
        spans = [(slot.gpa, slot.end) for slot in other.slots.slots]
        rows = [list(other.columns(*span, ahead)) for span in spans]
        other.convert(wanted, owner)
    finally:
        patch.undo()
    assert rows == [list(other.columns(*span)) for span in spans]
    for row, span in zip(rows, spans, strict=True):
        joined = list(one.runs(*span))
        assert pages_of(row) == pages_of(joined)
    for slot in one.slots.slots:
        for at in range(slot.gpa, slot.end, PAGE):
            assert (one.owner(at), one.pa(at)) == (other.owner(at), other.pa(at))


def pages_of(runs) -> list[tuple[int, int, int]]:
    """Owner and physical of each page of runs."""
    return [(at, run.owner, run.pa + at - run.start) for run in runs for at in range(run.start, run.end, PAGE)]


def test_what_is_wrong_is_told_as_for_one_range():
    """Among many ranges the first that is unaligned, empty or no memory is named."""
    guest = made("several", "separate")
    good = [(at * PAGE, (at + 1) * PAGE) for at in range(30)]
    for wrong in (
        (30 * PAGE, 34 * PAGE),
        (5 * PAGE + 8, 7 * PAGE),
        (PAGE, PAGE),
        (2 * PAGE, PAGE),
        (2**63, 2**63 + PAGE),
    ):
        with pytest.raises(BadInput) as alone:
            guest.convert([wrong], HOST)
        with pytest.raises(BadInput) as among:
            guest.convert([*good, wrong], HOST)
        assert str(among.value) == str(alone.value)
        with pytest.raises(BadInput) as array:
            guest.convert(np.array([*good, wrong], dtype=np.uint64), HOST)
        assert str(array.value) == str(alone.value)
    with pytest.raises(ValueError, match="shape"):
        guest.convert(np.zeros(40, dtype=np.uint64), HOST)


def test_a_range_with_many_owners_is_columns():
    """One range that was converted in many pieces comes back as columns; one that was not does not."""
    guest = made("one", "separate")
    assert not isinstance(guest.conversion([(0, 64 * PAGE)], HOST).runs, ChangeRuns)
    guest.convert([(at * PAGE, (at + 1) * PAGE) for at in range(0, 64, 2)], HOST)
    back = guest.conversion([(0, 64 * PAGE)], GUEST)
    assert isinstance(back.runs, ChangeRuns)
    assert len(back.runs) == 32


def test_a_refused_part_of_many_changes_only_what_was_done():
    """Owners follow what the host says it has done."""

    def half(conversion: Conversion) -> None:
        raise OwnerChangeRefused("busy", done=list(conversion.ranges)[:8])

    guest = made("one", "separate")
    guest.authority = half
    wanted = [(at * PAGE, (at + 1) * PAGE) for at in range(0, 64, 2)]
    with pytest.raises(OwnerChangeRefused):
        guest.convert(wanted, HOST)
    assert [guest.owner(start) for start, _ in wanted] == [HOST] * 8 + [GUEST] * 24


def test_owners_that_changed_meanwhile_stay():
    """A conversion worked out before another one ended does not take that one's owners back."""
    guest = made("one", "separate")
    first = guest.conversion([(at * PAGE, (at + 1) * PAGE) for at in range(0, 64, 2)], HOST)
    guest.convert([(PAGE, 2 * PAGE)], HOST)
    guest._carry_out(first)
    assert [guest.owner(at * PAGE) for at in range(4)] == [HOST, HOST, HOST, GUEST]


def test_vcpus_fault_while_many_pages_convert():
    """What a vCPU had mapped is gone, and it cannot fault in a page in conversion, but any other."""
    guest, cpu = made("one", "separate"), CpuMapping()
    conversion = guest.conversion([(at * PAGE, (at + 1) * PAGE) for at in range(0, 64, 2)], HOST)
    assert cpu.fault(0, 64 * PAGE)
    cpu.isolate(conversion)
    assert [cpu.maps(at * PAGE) for at in range(4)] == [False, True, False, True]
    assert not cpu.fault(2 * PAGE, 3 * PAGE)
    assert not cpu.fault(0, 64 * PAGE)
    assert cpu.fault(3 * PAGE, 4 * PAGE)
    cpu.refresh(conversion)
    assert cpu.fault(2 * PAGE, 3 * PAGE)


@given(st.lists(st.integers(0, 2**64 - 1)) | st.lists(st.integers(0, 2**20)))
def test_order_is_that_of_words(values):
    """The radix sort sorts words of any size, equal ones in their order."""
    array = np.array(values, dtype=np.uint64)
    assert order(array).tolist() == sorted(range(len(values)), key=values.__getitem__)


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 8))), st.lists(st.integers(0, 60), unique=True))
def test_cut_finds_every_part(pieces, marks):
    """Bounds cut ranges as looking at each pair of them does."""
    ranges = Ranges.of((start, start + size + 1) for start, size in pieces)
    marks = sorted(marks)
    bounds = Ranges.of(zip(marks[::2], marks[1::2], strict=False))
    which, bound, part = ranges.cut(bounds)
    expected = [
        (i, j, (max(a, c), min(b, d)))
        for i, (a, b) in enumerate(ranges)
        for j, (c, d) in enumerate(bounds)
        if a < d and c < b
    ]
    assert list(zip(which.tolist(), bound.tolist(), part, strict=True)) == expected

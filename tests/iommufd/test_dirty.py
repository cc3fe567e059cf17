"""Dirty tracking beside a plain set: every page that a device wrote to is reported, whatever happens meanwhile."""

from itertools import pairwise

import pytest
from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st

from hitless.errors import HitlessError
from hitless.guest_memfd.guest import GUEST, HOST
from hitless.hardware.facts import Drops
from hitless.iommufd.dirty import DirtyTracker
from hitless.pagetable import count_leaves
from hitless.plan import Invalidate, Wait
from stand import PAGE, M, Stand

MEMORY = 8 * M
SETUPS = [
    ("amd", {}, "in-place"),
    ("amd", {}, "separate"),
    ("amd", {"size7": True}, "in-place"),
    ("intel", {"mode": "scalable", "ssads": True}, "separate"),
    ("arm_smmu", {"bbml": 2, "httu": True}, "in-place"),
    ("arm_smmu", {"bbml": 2, "httu": True, "contiguous": True}, "separate"),
]


@define(eq=False)
class Device:
    """Hardware that marks pages as it may: what it has cached as written it does not mark again.

    It reads raw words, and forgets what the vendor's decoder says that a command targets, when the wait completes.
    """

    stand: Stand
    cached: dict[int, tuple[int, int, bool]] = field(factory=dict)  # by page: entry, level, whether it is marked
    pending: list[Drops] = field(factory=list)
    ahead: list[int] = field(factory=list)  # pages that will be written to, one at each moment
    written: set[int] = field(factory=set)

    def write(self, page: int) -> None:
        """A write; it reaches memory only where the page is mapped writable."""
        found = self.cached.get(page) or self._walk(page)
        if found is None:
            return
        pa, level, marked = found
        fmt, memory = self.stand.fmt, self.stand.machine.arena
        ones, zeros = fmt.dirty_bits(level)
        word = memory.load(pa)
        if not marked:
            if not (fmt.present(word) and fmt.is_leaf(word, level)):
                self.cached.pop(page, None)
                self.write(page)  # the walker finds it changed, and walks again
                return
            memory.store(pa, (word | ones) & ~zeros)
        self.cached[page] = pa, level, True
        self.written.add(page)

    def _walk(self, page: int) -> tuple[int, int, bool] | None:
        fmt, memory, table = self.stand.fmt, self.stand.machine.arena, self.stand.domain.planner.root_pa
        for level in reversed(fmt.levels):
            pa = table + 8 * (page >> level.lo & (1 << level.bits) - 1)
            word = memory.load(pa)
            if not fmt.present(word):
                return None
            if fmt.is_leaf(word, level.number):
                ones, zeros = fmt.dirty_bits(level.number)
                return pa, level.number, bool(word & ones) or bool(zeros and not word & zeros)
            table = fmt.table_pa(word)
        return None

    def between(self, step) -> None:
        """A moment: commands take effect at their wait, and the next write comes."""
        if isinstance(step, Invalidate):
            decoded = self.stand.domain.vendor.commands.decode(step.words)
            self.pending += [each for each in decoded if isinstance(each, Drops) and each.device is None]
        if self.ahead:
            self.write(self.ahead.pop())
        if isinstance(step, Wait):
            for drops in self.pending:
                for page in [page for page in self.cached if drops.first <= page <= drops.last]:
                    del self.cached[page]
            self.pending = []


def opened(vendor, features, backing, merge="at_once"):
    """A guest of which all is shared, and a device that writes."""
    settings_ = {"merge": merge}
    stand = Stand(vendor, backing, features, MEMORY, hunk_lg2=21, settings=settings_, rate=0)
    stand.share(0, MEMORY)
    device = Device(stand)
    stand.domain.executor.between = device.between
    return stand, device


few = st.sampled_from([0, 1, 5, 511, 512, 517, 2047])
pages = st.one_of(few, few, st.integers(0, MEMORY // PAGE - 1)).map(lambda number: number * PAGE)
operations = st.one_of(
    st.tuples(st.just("write"), pages),
    st.tuples(st.just("ahead"), st.lists(pages, min_size=1, max_size=6)),
    st.tuples(st.just("convert"), pages, st.integers(1, 700), st.sampled_from([HOST, GUEST])),
    st.tuples(st.just("merge"), pages),
    st.tuples(st.just("read")),
    st.tuples(st.just("restart"), st.sampled_from([12, 21])),
)


def covered(ranges, page):
    """Whether a page lies in reported ranges."""
    return any(start <= page < end for start, end in ranges)


@pytest.mark.parametrize(("vendor", "features", "backing"), SETUPS)
@settings(max_examples=12)
@given(ops=st.lists(operations, max_size=14))
def test_every_written_page_is_reported(vendor, features, backing, ops):
    """Random writes, also at every moment of a plan, conversions, merges, reads and restarts of the tracking."""
    stand, device = opened(vendor, features, backing)
    tracker = DirtyTracker.start(stand.domain, 12)
    for op in [*ops, ("read",)]:
        match op:
            case ("write", page):
                device.write(page)
            case ("ahead", several):
                device.ahead = list(several)
            case ("convert", page, count, owner):
                stand.guest.convert([(page, min(page + count * PAGE, MEMORY))], owner)
            case ("merge", page):
                stand.domain.merge(page // (2 * M) * 2 * M, page // (2 * M) * 2 * M + 2 * M)
            case ("restart", size_lg2):
                device.ahead = []  # what is written when the tracking has ended is nobody's
                reported = tracker.read()
                assert [hex(page) for page in device.written if not covered(reported, page)] == []
                tracker.stop()
                tracker = DirtyTracker.start(stand.domain, size_lg2)
                device.written.clear()
            case _:
                before, device.written = device.written, set()
                reported = tracker.read()
                assert [hex(page) for page in before if not covered(reported, page)] == []
                assert all(a[1] < b[0] for a, b in pairwise(reported))
                device.written = {page for page in device.written if not covered(reported, page)}
    assert stand.domain.fenced == []


@pytest.mark.parametrize(("vendor", "features", "backing"), SETUPS)
def test_nothing_else_is_reported(vendor, features, backing):
    """With 4K leaves exactly the written pages, and nothing twice; what converts counts as written."""
    stand, device = opened(vendor, features, backing)
    tracker = DirtyTracker.start(stand.domain, 12)
    assert tracker.read() == ()
    for page in (5 * PAGE, 6 * PAGE, 3 * M):
        device.write(page)
    assert tracker.read() == ((5 * PAGE, 7 * PAGE), (3 * M, 3 * M + PAGE))
    assert tracker.read() == ()
    device.write(5 * PAGE)  # written again: what was cached as written is gone
    assert tracker.read() == ((5 * PAGE, 6 * PAGE),)
    stand.hide(9 * PAGE)
    assert tracker.read() == ((9 * PAGE, 10 * PAGE),)


@pytest.mark.parametrize(("vendor", "features", "backing"), SETUPS)
def test_leaves_are_cut_and_join_again(vendor, features, backing):
    """While pages are tracked no leaf is larger, and afterwards all is as before."""
    stand, _ = opened(vendor, features, backing)
    domain = stand.domain
    before = count_leaves(domain.memory, stand.fmt, domain.planner.root_pa)
    used = stand.machine.tables.used_pages
    tracker = DirtyTracker.start(domain, 12)
    stand.hide(9 * PAGE)
    stand.share(9 * PAGE)
    assert set(count_leaves(domain.memory, stand.fmt, domain.planner.root_pa)) == {12}
    tracker.stop()
    assert count_leaves(domain.memory, stand.fmt, domain.planner.root_pa) == before
    assert stand.machine.tables.used_pages == used


def test_hardware_that_marks_nothing_cannot_be_asked():
    """An error with the way out, and no leaf is cut."""
    stand, _ = opened("amd", {"had": 0}, "in-place")
    used = stand.machine.tables.used_pages
    with pytest.raises(HitlessError, match="does not tell which pages"):
        DirtyTracker.start(stand.domain, 12)
    assert stand.machine.tables.used_pages == used

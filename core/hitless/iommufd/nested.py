"""Nested domains: a guest's own stage 1 over the host's stage 2.

iommufd calls the host's table a nest parent and the guest's one a nested HWPT. The guest's tables lie in guest
memory; here they are static: a guest that changes its own tables is not modelled.
"""

from collections.abc import Iterable

from attrs import define, field, frozen

from hitless.errors import HitlessError, OutOfTableMemory, Pinned
from hitless.guest_memfd.guest import GuestMemfd
from hitless.iommufd.ioas import Ioas
from hitless.memory import PhysicalMemory
from hitless.pagetable import READ, WRITE, PageFormat, entry_pa
from hitless.units import align_up, aligned_lg2


@define
class GuestPages:
    """Guest memory that a guest uses for its own tables and structures; words go to where the pages lie now.

    Args:
        memory: has bytes for the guest's pages.
        start, end: the guest physical range that may be used. Its pages must not convert.
    """

    guest: GuestMemfd
    memory: PhysicalMemory
    start: int
    end: int
    _next: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._next = self.start

    def allocate(self, size_lg2: int = 12) -> int:
        """The guest physical address of a naturally aligned block; raises OutOfTableMemory."""
        gpa = align_up(self._next, size_lg2)
        if gpa + (1 << size_lg2) > self.end:
            raise OutOfTableMemory("no guest memory is left for the guest's own tables", do="give them more")
        self._next = gpa + (1 << size_lg2)
        return gpa

    def hold(self, ranges: Iterable[tuple[int, int]], who: str) -> None:
        """Raise Pinned if a range that converts has a page of the guest's own tables."""
        for start, end in ranges:
            first = max(start, self.start)
            if first < min(end, self._next):
                raise Pinned(self.guest.slots.offset(first) or 0, who)

    def store(self, gpa: int, word: int) -> None:
        """Write one word."""
        self.memory.store(self._pa(gpa), word)

    def load(self, gpa: int) -> int:
        """The word at a guest physical address."""
        return self.memory.load(self._pa(gpa))

    def _pa(self, gpa: int) -> int:
        page = self.guest.pa(gpa & ~0xFFF)
        if page is None:
            raise HitlessError(f"guest physical address {gpa:#x} lies in no slot")
        return page | gpa & 0xFFF


@frozen
class GuestStage:
    """A guest's stage 1, as the host attaches devices through it.

    Args:
        root_gpa: of the root table.
        space: tells the guest's address spaces apart (ASID, PASID, PSCID).
        view: which IOVAs the tables lead where.
        pages: where the guest's structures lie.
    """

    page_format: PageFormat
    root_gpa: int
    view: Ioas
    pages: GuestPages
    space: int = 0

    @property
    def attrs(self) -> int:
        """The attributes of every leaf."""
        return self.page_format.default_attrs(READ | WRITE)


def build_stage(page_format: PageFormat, pages: GuestPages, view: Ioas, space: int = 0) -> GuestStage:
    """Write a guest's tables for all of an address space, with the largest plain leaves that fit.

    Raises:
        OutOfTableMemory: the guest's pages do not suffice.
    """
    root = pages.allocate(page_format.top.table_lg2)
    attrs = page_format.default_attrs(READ | WRITE)
    sizes = [size for size in reversed(page_format.leaf_sizes) if not size.entries_lg2]
    for iova, gpa, size in view.areas:
        at = 0
        while at < size:
            fits = min(aligned_lg2(iova + at), aligned_lg2(gpa + at), (size - at).bit_length() - 1)
            leaf = next(each for each in sizes if each.lg2 <= fits)
            table = _table_at(page_format, pages, root, iova + at, leaf.level)
            entry = entry_pa(page_format.levels[leaf.level], table, iova + at)
            pages.store(entry, page_format.leaf(leaf.lg2, gpa + at, attrs))
            at += 1 << leaf.lg2
    return GuestStage(page_format, root, view, pages, space)


def _table_at(fmt: PageFormat, pages: GuestPages, root: int, iova: int, level: int) -> int:
    """The table of a level that an IOVA's walk goes through; made where it is missing."""
    table = root
    for number in range(fmt.top.number, level, -1):
        entry = entry_pa(fmt.levels[number], table, iova)
        word = pages.load(entry)
        if fmt.present(word):
            table = int(fmt.table_pa(word))
        else:
            table = pages.allocate(fmt.levels[number - 1].table_lg2)
            pages.store(entry, fmt.table(number, table))
    return table

"""A root table that is too small for a plan's IOVAs: larger ones on top of it, built off-line.

Growing changes no translation: entry 0 of each larger root points to the smaller one. What leads to a root, a
structure or a register, is changed last.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from attrs import define, field, frozen

from hitless.bits import U64Array
from hitless.errors import HitlessError
from hitless.memory import PhysicalMemory
from hitless.pagetable import PageFormat, WalkFault
from hitless.plan import Fill, Step
from hitless.refresh.build import Tables
from hitless.refresh.target import PlanRequest

LeadTo: TypeAlias = Callable[[PageFormat, int, Callable[[int], int]], list[Step]]
"""The steps by which all units come to walk from another root; it is given a format, the root, and what loads words."""


@frozen
class Root:
    """A root table, and the format that reads it from there."""

    page_format: PageFormat
    root_pa: int


@define
class Planned:
    """Memory, with tables that a plan has allocated and not filled yet."""

    memory: PhysicalMemory
    tables: dict[int, U64Array] = field(factory=dict)

    def view(self, pa: int, count: int) -> U64Array:
        """The words from an address on; ``pa`` is a table's where that is planned."""
        planned = self.tables.get(pa)
        return self.memory.view(pa, count) if planned is None else planned[:count]

    def load(self, pa: int) -> int:
        """The word at an address."""
        for table, words in self.tables.items() if self.tables else ():
            if table <= pa < table + 8 * len(words):
                return int(words[pa - table >> 3])
        return self.memory.load(pa)


def reaches(fmt: PageFormat, root_pa: int, start: int, end: int) -> bool:
    """Whether a root table can index all of ``[start, end)``."""
    ends = (fmt.start(root_pa, start), fmt.start(root_pa, end - 1))
    return end - start <= 1 << fmt.iova_bits and not any(isinstance(each, WalkFault) for each in ends)


def large_enough(fmt: PageFormat, root_pa: int, request: PlanRequest, *, who: str) -> list[PageFormat]:
    """The formats through which the root has to grow, one level each, so that the last maps what shall be mapped.

    Empty: it need not.

    Raises:
        HitlessError: it cannot.
    """
    through: list[PageFormat] = []
    lower_half = 1 << fmt.iova_bits - 1  # any root indexes that; what is above may be sign-extended
    if request.ranges[-1][1] <= lower_half:
        return through
    for start, end in request.ranges:
        now = through[-1] if through else fmt
        if reaches(now, root_pa, start, end):
            continue
        mapped = [(each.start, each.end) for each in request.layout(start, end) if each.oa is not None]
        for first, last in mapped if now.grown() else [(start, end)]:
            while not reaches(now, root_pa, first, last):
                larger = now.grown()
                if larger is None:
                    raise HitlessError(
                        f"{fmt.name} cannot translate all of [{start:#x}, {end:#x})",
                        who=who,
                        why=f"its root table translates {now.iova_bits} bits of input{' at most' if through else ''}",
                        do="use more levels, or other addresses",
                    )
                through.append(larger)
                now = larger
    return through


def within(fmt: PageFormat, ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The parts of ranges that a root which may still grow indexes: nothing is mapped beyond, or shall be."""
    if fmt.grown() is None:
        return list(ranges)
    size = 1 << fmt.iova_bits
    return [(start, min(end, size)) for start, end in ranges if start < size]


def grow(
    memory: Planned, root_pa: int, through: Sequence[PageFormat], tables: Tables, allocated: list[tuple[int, int]]
) -> tuple[Root, list[Fill]]:
    """Larger roots on top of one; each is noted in ``allocated`` and, with its words, in ``memory``.

    Raises:
        OutOfTableMemory.
    """
    fills: list[Fill] = []
    for fmt in through:
        top = fmt.top
        pa = tables.allocate(top.table_lg2)
        allocated.append((pa, top.table_lg2))
        pointer = fmt.table(top.number, root_pa)
        fills.append(Fill(pa, top.table_lg2, overrides=[(pa, pointer)]))
        words = np.zeros(1 << top.bits, dtype=np.uint64)
        words[0] = pointer
        memory.tables[pa] = words
        root_pa = pa
    return Root(through[-1], root_pa), fills

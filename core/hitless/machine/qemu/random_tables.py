"""Random legal tables: leaves of every size, with every right, beside holes, near the edges of the address space."""

import random
from collections.abc import Sequence

from attrs import define, field

from hitless.bits import fill_ramp
from hitless.machine.qemu.boards import GUEST_PA
from hitless.memory import PageAllocator, PhysicalMemory
from hitless.pagetable import READ, WRITE, LeafSize, PageFormat, entry_pa
from hitless.units import align_down

_FAR_LG2 = 41
"""Above every board's memory and devices."""
_RIGHTS = (READ | WRITE, READ | WRITE, READ, WRITE)


@define
class RandomTable:
    """A table under construction.

    Args:
        fmt: its format.
        memory, tables: where it lies, and what it is made of.
        rng: decides everything.
        guest_bytes: memory from GUEST_PA on; half of the leaves lead there, the others where there is none.
        oa_bits: width of the output addresses.
        rights_anywhere: leaves that lead where there is no memory may lack a right.
        runs: leaves of several entries are among them.
        untranslated: IOVAs that are left out.
        sink: a page, IOVA and address in memory, that can be read and written, for what devices have read.
    """

    fmt: PageFormat
    memory: PhysicalMemory
    tables: PageAllocator
    rng: random.Random
    guest_bytes: int
    oa_bits: int
    rights_anywhere: bool = True
    runs: bool = True
    untranslated: Sequence[tuple[int, int]] = ()
    sink: tuple[int, int] = field(init=False)
    root_pa: int = field(init=False)
    leaves: list[tuple[int, int]] = field(factory=list)

    def __attrs_post_init__(self) -> None:
        self.root_pa = self.tables.allocate(self.fmt.top.table_lg2)
        smallest = self.fmt.leaf_sizes[0]
        self.sink = (3 << self.fmt.levels[min(1, self.fmt.top.number)].lo, GUEST_PA + self.guest_bytes)
        self._put(smallest, self.sink[0], self.sink[1], self.fmt.default_attrs(READ | WRITE))

    def fill(self, count: int) -> None:
        """Try to add so many leaves, as many of each size; there is not always a place."""
        widest = min(self.fmt.iova_bits, self.oa_bits)
        sizes = [size for size in self.fmt.leaf_sizes if size.lg2 < widest and (self.runs or not size.entries_lg2)]
        for number in range(count):
            self._add(sizes[number % len(sizes)])

    def _add(self, size: LeafSize) -> None:
        low, oa = self._iova(size.lg2), self._oa(size.lg2)
        iova = self.fmt.canonical(low)
        if any(start < iova + (1 << size.lg2) and iova < end for start, end in self.untranslated):
            return
        in_memory = oa < GUEST_PA + self.guest_bytes
        attrs = self._attrs(size) if in_memory or self.rights_anywhere else self.fmt.default_attrs(READ | WRITE)
        if self._put(size, low, oa, attrs):
            self.leaves.append((iova, size.lg2))

    def _put(self, size: LeafSize, low: int, oa: int, attrs: int) -> bool:
        """Write a leaf and the tables above it; not where something is already."""
        fmt, table_pa, level = self.fmt, self.root_pa, self.fmt.top.number
        while level > size.level:
            at = entry_pa(fmt.levels[level], table_pa, low)
            word = self.memory.load(at)
            if not word:
                word = fmt.table(level, self.tables.allocate(fmt.levels[level - 1].table_lg2))
                self.memory.store(at, word)
            elif fmt.is_leaf(word, level):
                return False
            table_pa, level = int(fmt.table_pa(word)), level - 1
        entries = self.memory.view(entry_pa(fmt.levels[level], table_pa, low), 1 << size.entries_lg2)
        if entries.any():
            return False
        fill_ramp(entries, int(fmt.leaf(size.lg2, oa, attrs)), fmt.run_step(size.lg2))
        return True

    def _iova(self, size_lg2: int) -> int:
        """Often near another leaf, or an edge of the address space; low bits only."""
        rng, bits = self.rng, self.fmt.iova_bits
        kind = rng.random()
        if kind < 0.5 and self.leaves:
            start, lg2 = rng.choice(self.leaves)
            near = start + rng.choice((1, -1)) * (1 << max(lg2, size_lg2)) * rng.randrange(3)
        elif kind < 0.6:
            near = rng.choice((0, (1 << bits) - 1, 1 << bits - 1, (1 << bits - 1) - 1))
        else:
            near = rng.getrandbits(bits)
        return align_down(near & (1 << bits) - 1, size_lg2)

    def _oa(self, size_lg2: int) -> int:
        far = self.guest_bytes >> size_lg2 == 0 or self.rng.random() < 0.5
        if not far:
            return GUEST_PA + (self.rng.randrange(self.guest_bytes >> size_lg2) << size_lg2)
        lg2 = max(size_lg2, _FAR_LG2)
        oa = self.rng.randrange(1, 1 << self.oa_bits - lg2) << lg2 if lg2 < self.oa_bits else 1 << size_lg2
        return oa | align_down(self.rng.getrandbits(lg2), size_lg2) if lg2 > size_lg2 else oa

    def _attrs(self, size: LeafSize) -> int:
        """Attributes with rights that this format can say."""
        while True:
            rights = self.rng.choice(_RIGHTS)
            attrs = self.fmt.default_attrs(rights)
            if self.fmt.rights(int(self.fmt.leaf(size.lg2, 0, attrs)), size.level) == rights:
                return attrs

    def requests(self, count: int) -> list[tuple[int, bool]]:
        """IOVAs, aligned to 8 bytes, in leaves, at their edges, beside them, anywhere; each with whether to write."""
        return [(align_down(self._place(), 3), self.rng.random() < 0.5) for _ in range(count)]

    def _place(self) -> int:
        rng, bits = self.rng, self.fmt.iova_bits
        start, lg2 = rng.choice(self.leaves)
        kind = rng.random()
        if kind < 0.55:
            return start + rng.getrandbits(lg2)
        if kind < 0.75:
            return start + rng.choice((0, (1 << lg2) - 8))
        if kind < 0.9:
            return max(0, start + rng.choice((-8, 1 << lg2))) & (1 << 64) - 1
        if kind < 0.95:
            return rng.choice((0, (1 << bits) - 8, (1 << bits - 1) - 8, 1 << bits - 1, 1 << min(bits, 63)))
        return rng.getrandbits(bits)

"""Where jobs are done: a guest that is shared, mapped by one domain of a vendor, and the same tables for C."""

from functools import cached_property

import numpy as np
from attrs import define, field

from benchmarks.baseline import Baseline, Rounds
from hitless.config import open_registry
from hitless.guest_memfd.backing import HOST, make_backing
from hitless.guest_memfd.guest import GuestMemfd
from hitless.guest_memfd.slots import Slot, Slots
from hitless.hardware.vendor import Vendor
from hitless.iommufd import Domain
from hitless.machine import Machine
from hitless.machine.inmemory import QUEUE_BYTES, STRUCTURE_BYTES
from hitless.memory import Arena

GIB = 1 << 30
BASE_PA = 1 << 44
"""Of the arena: above all guest memory of the benchmarks."""
GUEST_PA = 1 << 45
VENDORS = {"amd/v1": "amd", "intel/second-stage": "intel", "arm_smmu/stage2": "arm_smmu"}
"""Each vendor's main format, which is its default."""


def vendor_of(page_format):
    """The vendor with its default features."""
    name = VENDORS[page_format]
    return open_registry(None, [name]).resolve(name)


@define(eq=False)
class WarmMachine(Machine):
    """A machine on an arena whose pages an earlier one has touched already; its tables are zero."""

    arena_before: Arena = field(kw_only=True)

    def _open(self, size):
        return self.arena_before


@define(eq=False)
class Stage:
    """One guest, of which every page is shared and mapped, as hitless and as C have it; memory is kept and warm.

    Args:
        page_format: the vendor's main format.
        gigabytes: of guest memory.
        leaf_lg2: log2 of the hunks that back it, and of the leaves that map it.
        table_bytes: room for tables, on each side; see :func:`room`.
        empty: nothing is mapped.
    """

    baseline: Baseline
    page_format: str
    gigabytes: int
    leaf_lg2: int
    table_bytes: int
    empty: bool = False
    vendor: Vendor = field(init=False)
    guest: GuestMemfd = field(init=False)
    domain: Domain = field(init=False)
    _ours: Arena = field(init=False)
    _theirs: Arena = field(init=False)
    _used: int = 0
    c: object = field(init=False, default=None)

    def __attrs_post_init__(self):
        self.vendor = vendor_of(self.page_format)
        size = QUEUE_BYTES + self.table_bytes + STRUCTURE_BYTES
        self._ours, self._theirs = Arena(BASE_PA, size), Arena(BASE_PA, size)
        self.open()

    @property
    def size(self):
        """Bytes of guest memory."""
        return self.gigabytes * GIB

    @cached_property
    def rounds(self):
        """What follows a cut when shared memory turns private, as the vendor's policy and recipe have it."""
        if self.domain.policy.wipes:
            return Rounds.WIPE
        rounds = len(self.vendor.recipes.replace.rounds)
        return Rounds.BREAK_BEFORE_MAKE if rounds > 1 else Rounds.REPLACE

    def open(self):
        """Begin anew, in memory that is zero, but warm."""
        self._clear()
        size = self.size
        backing = make_backing("separate", GUEST_PA, size, 30)
        self.guest = GuestMemfd(Slots([] if self.empty else [Slot(0, 0, size)]), backing, self.leaf_lg2)
        self.guest.set_owner(0, size, HOST)
        machine = WarmMachine(0, BASE_PA, self.table_bytes, arena_before=self._ours)
        unit = machine.add_unit("iommu0", self.vendor)
        domain = Domain.open(
            self.vendor.name, self.vendor, self.guest, machine.arena, machine.tables, [(unit, 1, [(8, False)])]
        )
        self.guest.notifiers.append(domain)
        self.domain = domain
        self.copy()

    def copy(self):
        """Give C the tables as hitless has them, and the same next one."""
        ours, theirs = self._words()
        theirs[:] = ours
        tables = self.domain.tables
        bump = tables.base + self._bytes()
        self.c = self.baseline.space(
            self._theirs, self.page_format, self.domain.planner.root_pa, bump, tables.base + tables.size
        )

    def differences(self):
        """What differs between the two sides' tables, word for word; empty if nothing does."""
        ours, theirs = self._words()
        tables = self.domain.tables
        if tables.base + self._bytes() != self.c.next_pa:
            return [f"hitless used {self._bytes() >> 12} tables, C {(self.c.next_pa - tables.base) >> 12}"]
        if np.array_equal(ours, theirs):
            return []
        at = np.flatnonzero(ours != theirs)
        return [
            f"{len(at)} words, first at {tables.base + 8 * int(i):#x}: hitless {int(ours[i]):#x}, C {int(theirs[i]):#x}"
            for i in at[:1]
        ]

    def c_word(self, pa):
        """A word as C has it."""
        return self._theirs.load(pa)

    def spoil(self):
        """Change one word of C's root, for tests of what is noticed."""
        root_pa = self.domain.planner.root_pa
        self._theirs.store(root_pa, self._theirs.load(root_pa) ^ 2)

    def spare(self, count):
        """So many words at the end of the memory for tables, which no job uses; touched."""
        end = BASE_PA + QUEUE_BYTES + self.table_bytes
        words = self._theirs.view(end - 8 * count, count)
        words[:] = 1
        return words

    def close(self):
        """Give the memory back."""
        self._ours.close()
        self._theirs.close()

    def clear_freed(self, pas):
        """Zero C's freed tables, as hitless's allocator does."""
        for pa in pas.tolist():
            self._theirs.view(pa, 512)[:] = 0

    def _bytes(self):
        """So much of the memory for tables was ever used."""
        return self.domain.tables.peak_pages << 12

    def _words(self):
        base, count = self.domain.tables.base, self._bytes() >> 3
        self._used = max(self._used, count)
        return self._ours.view(base, count), self._theirs.view(base, count)

    def _clear(self):
        """Zero what was used, on both sides; the pages stay. Structures are in the first MiB of their memory."""
        for arena in (self._ours, self._theirs):
            arena.view(BASE_PA, (QUEUE_BYTES >> 3) + self._used)[:] = 0
        self._ours.view(BASE_PA + QUEUE_BYTES + self.table_bytes, 1 << 17)[:] = 0


def room(gigabytes, leaf_lg2, conversions):
    """Bytes of tables that a guest needs whose scattered pages convert, with some to spare."""
    at_first = {30: 0, 21: gigabytes, 12: 513 * gigabytes}[leaf_lg2] + 1 + -(-gigabytes // 512)
    cut = min(conversions, 512 * gigabytes) + min(conversions, gigabytes)
    return (at_first + cut << 12) + (1 << 26) >> 21 << 21


def scattered(gigabytes, count, seed=0):
    """So many different pages of a guest in random order, a half-open range a row."""
    rng = np.random.default_rng(seed)
    pages = np.empty(0, dtype=np.uint64)
    while len(pages) < count:
        more = rng.integers(0, gigabytes * GIB >> 12, count - len(pages) + count // 8 + 8, dtype=np.uint64)
        pages = np.unique(np.concatenate([pages, more]))
    rng.shuffle(pages)
    start = pages[:count] << np.uint64(12)
    return np.stack([start, start + np.uint64(4096)], axis=1)

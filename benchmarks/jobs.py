"""The jobs: what hitless and C are timed at, each on tables of its own, with the same input and the same result.

A job is a thin adapter. ``reset`` and ``differences`` are not timed; ``hitless`` and ``c`` are, and each is all
that its side does: the input is in no order, and nothing is prepared.
"""

from abc import ABC, abstractmethod

import attrs
import numpy as np
from attrs import define, field

from benchmarks.baseline import CWork
from benchmarks.layouts import moved
from benchmarks.stage import GUEST_PA, Stage, scattered
from hitless.columns import Ranges
from hitless.guest_memfd.backing import GUEST, HOST
from hitless.pagetable import table_leaves, tables, translate
from hitless.plan import Fill, Store
from hitless.plan.bulk import Fills, Stores
from hitless.refresh.target import PlanRequest

SIZES = {"4K": 12, "2M": 21, "1G": 30}
_ALL_ONES = (1 << 64) - 1


@define(eq=False)
class Job(ABC):
    """One row of the table.

    Args:
        name, case: as in results.json.
        n: items; what "per item" means says :attr:`item`.
    """

    stage: Stage
    name: str
    case: str
    n: int
    item: str = field(default="conversion", kw_only=True)

    @property
    def page_format(self):
        """The vendor's main format."""
        return self.stage.page_format

    @abstractmethod
    def reset(self):
        """Back to the state that both sides begin with."""

    @abstractmethod
    def hitless(self):
        """The job as hitless does it."""

    @abstractmethod
    def c(self):
        """The job as C does it."""

    def differences(self):
        """How the two results differ; empty: they do not."""
        return self.stage.differences()

    def failed(self, done, side):
        """The difference to report if a side has not done its job."""
        return [] if done else [f"{side} could not do it"]


@define(eq=False)
class Refresh(Job):
    """Scattered pages of 4K turn private; they have other addresses then. ``complete``: everything, else the tables.

    ``pages``: half-open ranges, a row each; None: scattered pages of 4K.

    The tables alone: ranges sorted, the plan, tables built and filled, and the same rounds of stores. Complete: what
    guest_memfd does for a conversion, with owner map, owner table, encoded commands, the unit's queue and waits.
    """

    complete: bool = True
    pages: object = None
    _work: CWork = field(init=False)
    _refused: bool = field(init=False, default=False)

    def __attrs_post_init__(self):
        if self.pages is None:
            self.pages = scattered(self.stage.gigabytes, self.n)
        pages = int((self.pages[:, 1] - self.pages[:, 0]).sum()) >> 12
        self._work = CWork(pages, pages + self.stage.gigabytes)

    def reset(self):
        self.stage.open()

    def hitless(self):
        stage = self.stage
        if self.complete:
            stage.guest.convert(_rows(self.pages), GUEST)
        else:
            refresh_tables(stage, self.pages)

    def c(self):
        stage = self.stage
        done = stage.c.refresh(self.pages, stage.guest.backing.private_pa, stage.rounds, self._work)
        self._refused = done == 0

    def differences(self):
        return self.failed(not self._refused, "C") or self.stage.differences()


def _rows(pages):
    return [(start, end) for start, end in pages.tolist()]


def refresh_tables(stage, pages):
    """The table work of a conversion to private memory, and nothing else: nobody is told, and no owner changes."""
    domain, backing = stage.domain, stage.guest.backing
    order = np.argsort(pages[:, 0], kind="stable")
    ranges = Ranges(pages[order, 0], pages[order, 1] - np.uint64(1)).joined()
    guest_pa = None if domain.policy.wipes else backing.private_pa
    layout, segments = moved(ranges, backing.shared_pa, guest_pa, domain.default_attrs)
    request = PlanRequest(ranges, layout, wipe_first=domain.policy.wipes, segments=segments)
    execute(stage, request)


def execute(stage, request):
    """Plan without units, so that no command is encoded, and do what fills and stores."""
    domain = stage.domain
    planner = attrs.evolve(domain.planner, assembler=attrs.evolve(domain.planner.assembler, units=()))
    plan = planner.plan(domain.name, request).plan
    steps = [*plan.prepare, *plan.isolate, *plan.own, *plan.refresh]
    domain.executor.run([step for step in steps if isinstance(step, Fill | Fills | Store | Stores)])


@define(eq=False)
class Map(Job):
    """All of a guest's memory is mapped by leaves of one size: tables built and filled, and linked by stores."""

    item: str = field(default="leaf", kw_only=True)
    _done: bool = field(init=False, default=True)

    def reset(self):
        self.stage.open()

    def hitless(self):
        stage = self.stage
        nothing = Ranges.of([(0, stage.size)])
        layout, segments = moved(nothing, 0, stage.guest.backing.shared_pa, stage.domain.default_attrs)
        execute(stage, PlanRequest(nothing, layout, segments=segments))

    def c(self):
        level = (SIZES[self.case] - 12) // 9
        self._done = self.stage.c.map(0, self.stage.size, self.stage.guest.backing.shared_pa, level)

    def differences(self):
        return self.failed(self._done, "C") or self.stage.differences()


@define(eq=False)
class Translate(Job):
    """Where random IOVAs lead. ``conversions``: so many pages were converted before, so that leaves are mixed."""

    conversions: int = 0
    item: str = field(default="IOVA", kw_only=True)
    _iovas: object = field(init=False)
    _ours: object = field(init=False, default=None)
    _theirs: object = field(init=False)

    def __attrs_post_init__(self):
        self._iovas = np.random.default_rng(1).integers(0, self.stage.size, self.n, dtype=np.uint64)
        self._theirs = np.zeros(self.n, dtype=np.uint64)
        self.stage.open()
        if self.conversions:
            refresh_tables(self.stage, scattered(self.stage.gigabytes, self.conversions))
            self.stage.copy()

    def reset(self):
        pass

    def hitless(self):
        domain = self.stage.domain
        memory, fmt, root_pa = domain.memory, domain.vendor.page_format, domain.planner.root_pa
        found = (translate(memory, fmt, root_pa, iova) for iova in self._iovas.tolist())
        self._ours = np.fromiter((_ALL_ONES if pa is None else pa for pa in found), dtype=np.uint64)

    def c(self):
        self.stage.c.translate(self._iovas, self._theirs)

    def differences(self):
        wrong = np.flatnonzero(self._ours != self._theirs)
        return [f"{len(wrong)} IOVAs, first {int(self._iovas[i]):#x}" for i in wrong[:1]]


@define(eq=False)
class Audit(Job):
    """Every leaf of a table of 4K leaves held against the owner map, after conversions; some entries were damaged."""

    conversions: int = 0
    item: str = field(default="leaf", kw_only=True)
    _bits: object = field(init=False)
    found: list = field(factory=list)

    def __attrs_post_init__(self):
        pages = scattered(self.stage.gigabytes, self.conversions)
        self.stage.open()
        self.stage.guest.convert(_rows(pages), GUEST)
        bits = np.zeros(self.stage.size >> 12, dtype=np.uint8)
        bits[pages[:, 0] >> np.uint64(12)] = 1
        self._bits = np.packbits(bits, bitorder="little").view(np.uint64)
        self.stage.copy()

    def damage(self, pages):
        """Let the entries of some pages lead elsewhere, on both sides."""
        domain = self.stage.domain
        fmt, memory = domain.vendor.page_format, domain.memory
        pas = {
            base + (index << 12): pa + 8 * index
            for level, base, pa, _ in tables(memory, fmt, domain.planner.root_pa)
            if level.number == 0
            for index in range(512)
        }
        for page in pages:
            memory.store(pas[page << 12], memory.load(pas[page << 12]) ^ 1 << 20)
        self.stage.copy()

    def reset(self):
        pass

    def hitless(self):
        domain, guest = self.stage.domain, self.stage.guest
        leaves = table_leaves(domain.memory, domain.vendor.page_format, domain.planner.root_pa)
        self.found.append(sum(leaf.oa != guest.pa(leaf.iova) for leaf in leaves))

    def c(self):
        backing, mapped = self.stage.guest.backing, not self.stage.domain.policy.wipes
        args = (self._bits, backing.shared_pa, backing.private_pa, self.stage.size)
        self.found.append(self.stage.c.audit(*args, guest_mapped=mapped))

    def differences(self):
        return [] if not any(self.found) else [f"findings on right tables: {self.found}"]


@define(eq=False)
class Merge(Job):
    """Everything that can be merged is, after pages were converted and came back: one leaf of 1G each again."""

    conversions: int = 0
    pages: object = None
    item: str = field(default="table", kw_only=True)
    _work: CWork = field(init=False)
    _freed: object = field(init=False, default=None)

    def __attrs_post_init__(self):
        if self.pages is None:
            self.pages = scattered(self.stage.gigabytes, self.conversions)
        pages = int((self.pages[:, 1] - self.pages[:, 0]).sum()) >> 12
        self._work = CWork(pages, pages + self.stage.gigabytes)
        self.reset()
        self.n = self.stage.domain.tables.used_pages - self._least()

    def _least(self):
        """The tables that remain: a root, and one for each 512 GiB."""
        return 1 + -(-self.stage.gigabytes // 512)

    def reset(self):
        stage = self.stage
        stage.open()
        stage.guest.convert(_rows(self.pages), GUEST)
        stage.guest.convert(_rows(self.pages), HOST)
        stage.copy()

    def hitless(self):
        self.stage.domain.merge(0, self.stage.size)

    def c(self):
        _, self._freed = self.stage.c.merge(self.stage.size, self._work)

    def differences(self):
        stage = self.stage
        if len(self._freed) != self.n or stage.domain.tables.used_pages != self._least():
            left = stage.domain.tables.used_pages
            return [f"of {self.n} tables C freed {len(self._freed)}, hitless left {left - self._least()}"]
        stage.clear_freed(self._freed)
        return stage.differences()


__all__ = ["GUEST_PA", "SIZES", "Audit", "Job", "Map", "Merge", "Refresh", "Translate"]

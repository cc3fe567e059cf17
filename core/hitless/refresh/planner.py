"""The planner: from a conversion to a plan, for one address space of any vendor."""

from collections.abc import Callable

import attrs
from attrs import define, field

from hitless.columns import Blocks, Ranges
from hitless.errors import HitlessError
from hitless.memory import PhysicalMemory
from hitless.pagetable import PageFormat
from hitless.plan import Plan, Step
from hitless.refresh.assemble import Assembler
from hitless.refresh.batch import NotBatched, rounds
from hitless.refresh.batch.spans import keep_freed_memory
from hitless.refresh.batch.survey import BatchSurvey
from hitless.refresh.build import Builder, Tables, free_blocks
from hitless.refresh.carve import carve
from hitless.refresh.changes import Changes, Stages
from hitless.refresh.grow import LeadTo, Planned, Root, grow, large_enough, reaches, within
from hitless.refresh.recipes import SplitRules
from hitless.refresh.survey import Survey
from hitless.refresh.target import PlanRequest
from hitless.units import PAGE_LG2, SPACE

BATCH_RANGES = 16
BATCH_PAGES = 2048
"""From so many ranges, or pages in them, on columns are faster than entry by entry."""


@define
class Prepared:
    """A plan, with what it takes to undo or order it.

    Args:
        plan: the steps.
        changes: what they change, for counting.
        allocated: tables (address, size_lg2) that the plan fills, in order of allocation.
        span: the widest range (IOVA) that any entry stored to translates; conversions whose
            spans overlap are ordered.
        grown: the root that the address space has once ``isolate`` is done; None: the one that it had.
    """

    plan: Plan
    changes: Stages
    allocated: list[tuple[int, int]] | Blocks = field(factory=list)
    span: tuple[int, int] = (0, 0)
    grown: Root | None = None


@define
class Planner:
    """Plans for one address space: format, rules and recipes inside the assembler, tables from an allocator.

    Args:
        root_pa: the root table.
        lead_to: how units come to walk from a larger root; None: nothing does that, so that it cannot grow.
        batch_ranges, batch_pages: from so many ranges, or pages in them, on a request is planned on columns.
        rules_for: the split rules under a larger root; None: those of the assembler.
    """

    memory: PhysicalMemory
    tables: Tables
    assembler: Assembler
    root_pa: int
    lead_to: LeadTo | None = None
    batch_ranges: int = BATCH_RANGES
    batch_pages: int = BATCH_PAGES
    rules_for: Callable[[PageFormat], SplitRules] | None = None

    def under(self, page_format: PageFormat) -> Assembler:
        """The assembler for the same address space under a larger root."""
        rules = self.assembler.rules if self.rules_for is None else self.rules_for(page_format)
        return attrs.evolve(self.assembler, fmt=page_format, rules=rules)

    def plan(self, name: str, request: PlanRequest, *, tables: Tables | None = None) -> Prepared:
        """The plan of one conversion; nothing is written, new tables are allocated.

        Args:
            name: of the notifier.
            request: ranges and layout.
            tables: another source of table memory than the address space's own.

        Raises:
            OutOfTableMemory, Refused, Pinned: nothing is allocated then.
        """
        source, memory = tables or self.tables, Planned(self.memory)
        if self._many(request) and (batched := self._batch(name, request, source)) is not None:
            return batched
        through = large_enough(self.assembler.fmt, self.root_pa, request, who=self.assembler.who)
        assembler = self.under(through[-1]) if through else self.assembler
        builder = Builder(assembler.fmt, assembler.rules, source, assembler.sizes)
        try:
            grown, growing = self._grow(memory, through, builder)
            root_pa = grown.root_pa if grown else self.root_pa
            changes = self._changes(assembler, memory, builder, request, root_pa)
            if request.owned:
                changes.settle()
            isolate = assembler.isolate(changes, request.owners)
            before, own, after = request.owners.change(changes, isolate)
            plan = Plan(
                name,
                [*assembler.prepare(builder.fills)],
                [*growing, *isolate, *before],
                list(own),
                [*after, *assembler.refresh(changes, request.owners)],
            )
        except HitlessError:
            give_back(source, builder.allocated)
            raise
        span = (0, SPACE) if grown else self._span(changes, request)
        return Prepared(plan, changes, builder.allocated, span, grown)

    def _changes(
        self, assembler: Assembler, memory: Planned, builder: Builder, request: PlanRequest, root_pa: int
    ) -> Changes:
        """What the request changes in the tables under a root."""
        fmt, ranges = assembler.fmt, within(assembler.fmt, request.ranges)
        found = carve(fmt, memory, builder, request, root_pa, ranges)
        if found is None:
            survey = Survey(fmt, memory, builder, request, in_place=assembler.in_place, joins=assembler.joins)
            survey.root(root_pa, ranges)
            found = survey.changes
        return found

    # -- many ranges at once

    def _many(self, request: PlanRequest) -> bool:
        """Whether a request is large enough for columns, and asks for nothing that they do not handle."""
        if request.segments is None or request.remap or not request.owners.plain:
            return False
        ranges = request.ranges
        if len(ranges) < self.batch_ranges and sum(end - start for start, end in ranges) >> PAGE_LG2 < self.batch_pages:
            return False
        fmt = self.assembler.fmt
        return not any(fmt.leaf_size(lg2).entries_lg2 for lg2 in self.assembler.rules.leaf_lg2s if lg2 in fmt.leaf_lg2s)

    def _batch(self, name: str, request: PlanRequest, tables: Tables) -> Prepared | None:
        """The plan of a request, made on columns; None: it has to be made entry by entry."""
        assembler, ranges = self.assembler, _columns(request.ranges)
        if request.segments is None or not _within(assembler.fmt, self.root_pa, ranges):
            return None
        keep_freed_memory()
        survey = BatchSurvey(assembler.fmt, assembler.rules, self.memory, tables, request)
        try:
            survey.run(self.root_pa, ranges, request.segments)
        except NotBatched:
            return None
        changes = survey.changes
        try:
            if request.owned:
                changes.settle()
            isolate = rounds.isolate(assembler, changes)
            before, own, after = request.owners.change(changes, isolate)
            plan = Plan(
                name,
                rounds.prepare(assembler, survey.fills),
                [*isolate, *before],
                list(own),
                [*after, *rounds.refresh(assembler, changes)],
            )
        except HitlessError:
            give_back(tables, survey.allocated)
            raise
        span = changes.span(int(ranges.start[0]), int(ranges.last[-1]) + 1)
        return Prepared(plan, changes, survey.allocated, span)

    # -- a larger root

    def _grow(self, memory: Planned, through: list[PageFormat], builder: Builder) -> tuple[Root | None, list[Step]]:
        """Larger roots, and the steps by which units come to walk from the largest."""
        if not through:
            return None, []
        if self.lead_to is None:
            raise HitlessError(
                f"{self.assembler.fmt.name} cannot grow its root table",
                who=self.assembler.who,
                why="its plugin declares no structures that could lead to another one",
                do="use more levels, or other addresses",
            )
        grown, fills = grow(memory, self.root_pa, through, builder.tables, builder.allocated)
        builder.fills += fills
        return grown, self.lead_to(grown.page_format, grown.root_pa, memory.load)

    def _span(self, changes: Changes, request: PlanRequest) -> tuple[int, int]:
        start, end = request.ranges[0][0], request.ranges[-1][1]
        for change in changes.all():
            start = min(start, change.iova)
            end = max(end, change.iova + (1 << self.assembler.fmt.levels[change.level].lo))
        return start, end


def give_back(tables: Tables, allocated: list[tuple[int, int]] | Blocks) -> None:
    """Free what a plan allocated, last first, so that the allocator is as before."""
    if isinstance(allocated, Blocks):
        free_blocks(tables, allocated.take(slice(None, None, -1)))
        return
    while allocated:
        tables.free(*allocated.pop())


def _columns(ranges: tuple[tuple[int, int], ...] | Ranges) -> Ranges:
    return (ranges if isinstance(ranges, Ranges) else Ranges.of(ranges)).joined()


def _within(fmt: PageFormat, root_pa: int, ranges: Ranges) -> bool:
    """Whether a root table indexes all of the ranges: between the first and the last lies no IOVA that it does not."""
    return reaches(fmt, root_pa, int(ranges.start[0]), int(ranges.last[-1]) + 1)

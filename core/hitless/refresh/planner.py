"""The planner: from a conversion to a plan, for one address space of any vendor."""

from collections.abc import Callable

import attrs
from attrs import define, field

from hitless.errors import HitlessError
from hitless.memory import PhysicalMemory
from hitless.pagetable import PageFormat
from hitless.plan import Plan, Step
from hitless.refresh.assemble import Assembler
from hitless.refresh.build import Builder, Tables
from hitless.refresh.carve import carve
from hitless.refresh.changes import Changes
from hitless.refresh.grow import LeadTo, Planned, Root, grow, large_enough, within
from hitless.refresh.recipes import SplitRules
from hitless.refresh.survey import Survey
from hitless.refresh.target import PlanRequest
from hitless.units import SPACE


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
    changes: Changes
    allocated: list[tuple[int, int]] = field(factory=list)
    span: tuple[int, int] = (0, 0)
    grown: Root | None = None


@define
class Planner:
    """Plans for one address space: format, rules and recipes inside the assembler, tables from an allocator.

    Args:
        root_pa: the root table.
        lead_to: how units come to walk from a larger root; None: nothing does that, so that it cannot grow.
        rules_for: the split rules under a larger root; None: those of the assembler.
    """

    memory: PhysicalMemory
    tables: Tables
    assembler: Assembler
    root_pa: int
    lead_to: LeadTo | None = None
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
        through = large_enough(self.assembler.fmt, self.root_pa, request, who=self.assembler.who)
        source, memory = tables or self.tables, Planned(self.memory)
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


def give_back(tables: Tables, allocated: list[tuple[int, int]]) -> None:
    """Free what a plan allocated, last first, so that the allocator is as before."""
    while allocated:
        tables.free(*allocated.pop())

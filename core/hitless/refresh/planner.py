"""The planner: from a conversion to a plan, for one address space of any vendor."""

from attrs import define, field

from hitless.errors import HitlessError
from hitless.memory import PhysicalMemory
from hitless.pagetable import WalkFault
from hitless.plan import Plan
from hitless.refresh.assemble import Assembler
from hitless.refresh.build import Builder, Tables
from hitless.refresh.changes import Changes
from hitless.refresh.survey import Survey
from hitless.refresh.target import PlanRequest


@define
class Prepared:
    """A plan, with what it takes to undo or order it.

    Args:
        plan: the steps.
        changes: what they change, for counting.
        allocated: tables (address, size_lg2) that the plan fills, in order of allocation.
        span: the widest range (IOVA) that any entry stored to translates; conversions whose
            spans overlap are ordered.
    """

    plan: Plan
    changes: Changes
    allocated: list[tuple[int, int]] = field(factory=list)
    span: tuple[int, int] = (0, 0)


@define
class Planner:
    """Plans for one address space: format, rules and recipes inside the assembler, tables from an allocator."""

    memory: PhysicalMemory
    tables: Tables
    assembler: Assembler
    root_pa: int

    def plan(self, name: str, request: PlanRequest, *, tables: Tables | None = None) -> Prepared:
        """The plan of one conversion; nothing is written, new tables are allocated.

        Args:
            name: of the notifier.
            request: ranges and layout.
            tables: another source of table memory than the address space's own.

        Raises:
            OutOfTableMemory, Refused, Pinned: nothing is allocated then.
        """
        fmt = self.assembler.fmt
        source = tables or self.tables
        builder = Builder(fmt, self.assembler.rules, source)
        survey = Survey(
            fmt, self.memory, builder, request, in_place=self.assembler.in_place, joins=self.assembler.joins
        )
        try:
            self._check(request)
            survey.root(self.root_pa, request.ranges)
            changes = survey.changes
            if request.owned:
                changes.settle()
            isolate = self.assembler.isolate(changes, request.owners)
            before, own, after = request.owners.change(changes, isolate)
            plan = Plan(
                name,
                self.assembler.prepare(builder.fills),
                [*isolate, *before],
                list(own),
                [*after, *self.assembler.refresh(changes, request.owners)],
            )
        except HitlessError:
            give_back(source, builder.allocated)
            raise
        return Prepared(plan, changes, builder.allocated, self._span(changes, request))

    def _check(self, request: PlanRequest) -> None:
        """Refuse IOVAs that the root table cannot index.

        A root that could grow (AMD's DTE.Mode) would be made larger here, before the survey.
        """
        fmt = self.assembler.fmt
        for start, end in request.ranges:
            ends = (fmt.start(self.root_pa, start), fmt.start(self.root_pa, end - 1))
            if end - start > 1 << fmt.iova_bits or any(isinstance(each, WalkFault) for each in ends):
                raise HitlessError(
                    f"{fmt.name} cannot translate all of [{start:#x}, {end:#x})",
                    who=self.assembler.who,
                    why=f"its root table translates {fmt.iova_bits} bits of input",
                    do="use more levels, or other addresses",
                )

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

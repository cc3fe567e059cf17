"""Does the steps of a domain's plans, whatever its units and firmware answer."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from attrs import define

from hitless.columns import Ranges
from hitless.errors import CallFailed, UnitTimeout
from hitless.guest_memfd.conversion import Conversion
from hitless.pagetable import tables_below
from hitless.plan import (
    Barrier,
    Call,
    Clean,
    Invalidate,
    Invalidates,
    Own,
    Owns,
    PlanStep,
    Release,
    Store,
    Stores,
    Wait,
)
from hitless.refresh.changes import Change
from hitless.refresh.planner import Prepared

if TYPE_CHECKING:
    from hitless.iommufd.domain import Domain


@define
class Performer:
    """Does steps on a domain; what does not answer is fenced, and the rest goes on without it."""

    domain: "Domain"

    def run(self, steps: Sequence[PlanStep], prepared: Prepared, conversion: Conversion | None = None) -> str:
        """Do a section of a plan. What firmware said when it refused a call without doing any of it; else empty.

        Nothing is stored after such a refusal: what was replaced before is invalidated and waited for, and tables
        that are linked still are not freed.

        Raises:
            UnitTimeout, CallFailed: of a plan that no conversion stands behind.
        """
        remaining = list(steps)
        refused = ""
        while remaining:
            rest = iter(remaining)
            try:
                self.domain.executor.run(rest)
                break
            except UnitTimeout as timeout:
                if conversion is None:
                    raise
                self._fence(conversion, timeout.unit)
                remaining = [*self.domain.executor.left, *rest]
                self.domain.executor.left.clear()
            except CallFailed as failed:
                left = list(rest)
                begun = len(remaining) - len(left)
                call, before, remaining = remaining[begun - 1], remaining[: begun - 1], left
                if failed.harmless and not _changes_owners(steps) and not _only_closes(call):
                    refused = failed.what
                    closing = _round(remaining) if _open(before) else []
                    remaining = [*closing, *self._freeing(remaining, prepared)]
                    continue
                for unit in self.domain.units:
                    self._fence(conversion, unit.name)
                if conversion is None:
                    raise
        return refused

    def apply(self, own: Own | Owns) -> None:
        """Change the owner table, with the invalidation that the operation itself does."""
        self.domain.owners.apply(own)
        if own.drops == "none":
            return
        devices = own.drops == "iotlb+atc"
        for unit in self.domain.units:
            if isinstance(own, Owns):
                unit.forget_pas(Ranges(own.start_pa, own.last_pa), devices=devices)
            else:
                unit.forget_pa(own.start_pa, own.end_pa, devices=devices)

    def not_linked(self, prepared: Prepared) -> list[tuple[int, int]]:
        """The new tables (address, size_lg2) of cuts that firmware has refused."""
        changes = prepared.changes.cut_together
        return [table for change in changes if not self._done(change) for table in self._tables(change, change.new)]

    def _freeing(self, steps: Sequence[PlanStep], prepared: Prepared) -> Iterator[PlanStep]:
        """The Releases of steps that are not done, without tables that are linked still."""
        merges = [*prepared.changes.merge_together, *prepared.changes.merge]
        left = [change for change in merges if not self._done(change)]
        stay = {table for change in left for table in self._tables(change, change.old)}
        held = {pa for pa, _ in stay}
        for step in steps:
            if isinstance(step, Release):
                gone = [table for table in step.tables if table not in stay]
                if gone:
                    yield Release(gone, [each for each in step.fold if each.table_pa not in held])

    def _done(self, change: Change) -> bool:
        """Whether the entry of a cut or merge holds the new word; bits that hardware sets are no matter."""
        fmt = self.domain.vendor.page_format
        now = self.domain.memory.load(change.pa)
        return bool(fmt.is_leaf(now, change.level)) == bool(fmt.is_leaf(change.new, change.level))

    def _tables(self, change: Change, pointer: int) -> Iterator[tuple[int, int]]:
        fmt = self.domain.vendor.page_format
        level = fmt.child_level(pointer, change.level)
        return tables_below(fmt, self.domain.memory, level, int(fmt.table_pa(pointer)))

    def _fence(self, conversion: Conversion | None, name: str) -> None:
        if name in self.domain.fenced:
            return
        unit = next(unit for unit in self.domain.units if unit.name == name)
        blocked = unit.block()
        self.domain.fenced.append(name)
        if conversion is not None:
            conversion.fenced.append((name, blocked))


def _changes_owners(steps: Sequence[PlanStep]) -> bool:
    """Whether it is the section in which owners change: what the guest was told by then cannot be taken back."""
    return any(isinstance(step, Own | Owns) for step in steps)


def _only_closes(step: PlanStep) -> bool:
    """Whether a step is a call that only invalidates and waits: without it, what was replaced stays in use."""
    return isinstance(step, Call) and all(isinstance(effect, Invalidate | Wait) for effect in step.effects)


def _open(steps: Sequence[PlanStep]) -> bool:
    """Whether something was replaced that nothing has been waited for yet."""
    for step in reversed(steps):
        if isinstance(step, Wait) or _only_closes(step):
            return False
        if isinstance(step, Store | Stores | Call):
            return True
    return False


def _round(steps: Sequence[PlanStep]) -> list[PlanStep]:
    """What closes the round that steps begin in the middle of."""
    closing: list[PlanStep] = []
    for step in steps:
        if isinstance(step, Clean | Invalidate | Invalidates | Wait | Barrier) or _only_closes(step):
            closing.append(step)
        elif isinstance(step, Store | Stores | Call):
            if closing:
                break
        else:
            break
    return closing


__all__ = ["Performer"]

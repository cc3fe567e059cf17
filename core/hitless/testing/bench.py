"""A bench: one guest with one address space, to convert pages on, and what came of it."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from attrs import define, field, frozen

from hitless.check.checking import check
from hitless.check.report import Report
from hitless.check.stage import Setting, Stage
from hitless.errors import Refused
from hitless.guest_memfd.backing import GUEST, HOST
from hitless.hardware.vendor import Vendor
from hitless.pagetable import Leaf, WalkFault, count_leaves
from hitless.pagetable.table import walk
from hitless.plan import Section, Step, Store, format_step
from hitless.units import PAGE, lg2_text

_MEMORY = 64 << 20


@frozen
class Translated:
    """What memory makes of an IOVA; prints as one line."""

    iova: int
    found: Leaf | WalkFault

    @property
    def pa(self) -> int | None:
        """Where it leads; None: nowhere."""
        return self.found.oa + self.iova - self.found.iova if isinstance(self.found, Leaf) else None

    def assert_reaches(self, pa: int | None) -> "Translated":
        """It leads there."""
        assert pa is not None and self.pa == pa, f"{self}, not to {pa if pa is None else hex(pa)}"
        return self

    def assert_faults(self, kind: str = "not-present") -> "Translated":
        """The walk ends in a fault of that kind."""
        assert isinstance(self.found, WalkFault) and self.found.kind == kind, f"{self}, not to a fault {kind}"
        return self

    def __str__(self) -> str:
        if isinstance(self.found, Leaf):
            return f"{self.iova:#x} leads to {self.pa:#x} through a leaf of {lg2_text(self.found.size_lg2)}"
        return f"{self.iova:#x} leads to a fault {self.found.kind} at entry {self.found.word:#x}"


@frozen
class Converted:
    """One conversion: its plan, and what the checker says of every interleaving; prints as plan and violations."""

    steps: list[tuple[Section, Step]]
    reports: list[Report]
    refused: Refused | None = None

    @property
    def rules(self) -> list[str]:
        """The rules that broke."""
        return sorted({rule for report in self.reports for rule in report.rules})

    @property
    def changes(self) -> Counter[str]:
        """How many stores of each kind: ``cut``, ``replace``, ``merge`` ..."""
        return Counter(step.what.partition("-")[0] for _, step in self.steps if isinstance(step, Store))

    def assert_hitless(self) -> "Converted":
        """It was not refused, and no rule broke."""
        assert self.refused is None and not self.rules, str(self)
        return self

    def assert_refused(self, reason: str) -> "Converted":
        """It was refused, for that reason."""
        assert self.refused is not None and self.refused.reason == reason, str(self)
        return self

    def assert_cut(self) -> "Converted":
        """A leaf was cut."""
        assert self.changes["cut"], str(self)
        return self

    def assert_merged(self) -> "Converted":
        """Leaves were merged."""
        assert self.changes["merge"], str(self)
        return self

    def __str__(self) -> str:
        lines = [f"refused: {self.refused}"] if self.refused else []
        lines += [f"{section}: {format_step(step)}" for section, step in self.steps]
        lines += [
            f"{each.rule} at step {each.step}: {each.what} {each.seen}".rstrip()
            for report in self.reports
            for each in report.shortest
        ]
        return "\n".join(lines) or "nothing was to be done"


@define(eq=False)
class Bench:
    """One guest of a vendor's; use it as a context, or take it from the fixture ``iommu_bench``."""

    stage: Stage
    memory: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.memory = self.stage.setting.memory

    @classmethod
    @contextmanager
    def open(cls, vendor: Vendor, **setting: Any) -> Iterator["Bench"]:
        """A bench; ``setting`` are arguments of :class:`hitless.check.stage.Setting`.

        Without any: 64 MiB in folios of 2 MiB, all private, one unit, leaves merged at once.
        """
        chosen = {"memory": _MEMORY, "hunk_lg2": 21, "merge": "at_once", **setting}
        with Stage.open(vendor, Setting(**chosen)) as stage:
            yield cls(stage)

    def share(self, start: int, size: int = PAGE) -> Converted:
        """Make ``[start, start + size)`` (GPA) shared."""
        return self._convert(start, size, HOST)

    def hide(self, start: int, size: int = PAGE) -> Converted:
        """Make it private."""
        return self._convert(start, size, GUEST)

    def _convert(self, start: int, size: int, owner: int) -> Converted:
        ranges = [(start, start + size)]
        try:
            subjects = self.stage.plans(ranges, owner)
            reports = [check(subject) for subject in subjects]
            self.stage.convert(ranges, owner)
        except Refused as refused:
            return Converted([], [], refused)
        return Converted([each for subject in subjects for each in subject.steps], reports)

    def translate(self, iova: int) -> Translated:
        """Walk the raw words in memory."""
        domain = self.stage.domains[0]
        fmt = domain.vendor.page_format
        return Translated(iova, walk(domain.memory.load, fmt, fmt.start(domain.planner.root_pa, iova)))

    def pa(self, gpa: int) -> int | None:
        """Where guest_memfd holds a page now."""
        return self.stage.guest.pa(gpa)

    @property
    def leaves(self) -> dict[str, int]:
        """How many leaves of each size memory holds."""
        domain = self.stage.domains[0]
        found = count_leaves(domain.memory, domain.vendor.page_format, domain.planner.root_pa)
        return {lg2_text(lg2): count for lg2, count in sorted(found.items())}

"""What a rule is: a watcher of the engine that reports; and a rule about what devices see."""

from collections.abc import Callable, Iterator
from typing import ClassVar, NamedTuple

from attrs import define

from hitless.check.engine import Engine
from hitless.check.held import Held, Link
from hitless.check.report import Violation
from hitless.check.spans import FaultSpan, LeafSpan
from hitless.check.subject import Subject, TruthRun
from hitless.check.watching import Watcher
from hitless.pagetable import READ, WRITE
from hitless.units import lg2_text


@define(eq=False)
class Rule(Watcher):
    """One rule.

    Attributes:
        id: stable; a third party's carries the name of its distribution (``acme.X1``).
        sentence: what must hold.
        do: what mends a plan that breaks it.
    """

    id: ClassVar[str]
    sentence: ClassVar[str]
    do: ClassVar[str] = ""
    report: Callable[[Violation], None] = lambda _violation: None

    def broken(self, engine: Engine, start: int, end: int, what: str, **more: str | int) -> None:
        """Report that the rule broke, at the step under way."""
        self.report(Violation(self.id, engine.now, start, end, what, do=self.do, **more))  # type: ignore[arg-type]


class Seen(NamedTuple):
    """What a device may see in a range of one truth run.

    Args:
        start, end: IOVAs.
        run: the truth about exactly this range; None outside guest memory.
        fault: kind of fault; empty: it gets to ``pa`` on, with ``attrs``.
        unsafe: the fault is no safe one (machine check, poison).
        moment: ``running``; ``isolated`` (isolate has returned, nothing is stored since); ``ended``.
        where: ``memory``, ``cache`` or ``flight``.
        held: the stale fact behind it, if it is one.
    """

    start: int
    end: int
    run: TruthRun | None
    fault: str
    pa: int
    attrs: int
    unsafe: bool
    moment: str
    where: str
    held: Held | None

    @property
    def text(self) -> str:
        """What the device saw, in a few words."""
        return f"fault {self.fault}" if self.fault else f"reached {self.pa:#x}"


class OutcomeRule(Rule):
    """A rule about what devices see: it judges, the judge looks."""

    def judge(self, seen: Seen, subject: Subject) -> str | None:
        """What is wrong with what was seen; None: nothing."""
        raise NotImplementedError


def describe(held: Held | Link | LeafSpan | FaultSpan, subject: Subject) -> str:
    """An entry in words, with both numbers of its level."""
    level = subject.vendor.page_format.levels[held.level]
    if isinstance(held, Link):
        return f"{level} entry {held.word:#x}: pointer to table {held.child:#x}"
    if not isinstance(held, LeafSpan) and held.kind == "range":
        return f"{level}: beyond what the root table translates"
    if isinstance(held, FaultSpan) or (isinstance(held, Held) and held.kind):
        return f"{level} entry {held.word:#x}: not present"
    rights = ("R" if held.rights & READ else "-") + ("W" if held.rights & WRITE else "-")
    piece = ""
    if isinstance(held, Held) and held.piece_lg2 != held.leaf_lg2:
        piece = f", cached as {lg2_text(held.piece_lg2)}"
    lo = held.start >> held.leaf_lg2 << held.leaf_lg2
    oa = held.oa - (held.start - lo)
    return f"{level} entry {held.word:#x}: leaf {lo:#x} {lg2_text(held.leaf_lg2)} -> {oa:#x} {rights}{piece}"


def converting_edges(subject: Subject, *, at_rest: bool) -> Iterator[int]:
    """IOVAs where owners differ after the conversion, at the edges of what converts.

    At rest those inside it, too: an owner change that stopped half way made them.
    """
    runs = subject.truth.runs
    for i, run in enumerate(runs):
        if not run.converts:
            continue
        before = runs[i - 1] if i and runs[i - 1].end == run.start else None
        after = runs[i + 1] if i + 1 < len(runs) and runs[i + 1].start == run.end else None
        if before is not None and before.new_owner != run.new_owner and (at_rest or not before.converts):
            yield run.start
        if after is not None and after.new_owner != run.new_owner and (at_rest or not after.converts):
            yield run.end

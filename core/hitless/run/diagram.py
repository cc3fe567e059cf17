"""A plan as a sequence diagram in Mermaid's language: who does what to whom, and who waits."""

from collections.abc import Iterator, Sequence

from hitless.hardware.vendor import Vendor
from hitless.plan import (
    SECTIONS,
    Barrier,
    Call,
    Clean,
    Fill,
    Invalidate,
    Own,
    Plan,
    Release,
    Step,
    Store,
    Wait,
    effects_of,
    singles,
)
from hitless.units import lg2_text

_SECTION = {
    "prepare": "prepare: no walker can reach it yet",
    "isolate": "isolate: what has to stand before the owner changes",
    "own": "own: the owner changes",
    "refresh": "refresh: what follows",
}
_MOST_ALIKE = 3


def diagram(plan: Plan, vendor: Vendor) -> str:
    """A plan's diagram; many steps of one kind in a row are one arrow."""
    lines = ["sequenceDiagram", "  participant H as host", *_others(plan)]
    for name in SECTIONS:
        steps = list(singles(plan.section(name)))
        if steps:
            lines.append(f"  Note over H: {_SECTION[name]}")
            lines += (f"  {line}" for line in _lines(steps, vendor))
    return "\n".join(lines)


def _others(plan: Plan) -> Iterator[str]:
    """Who takes part beside the host, in the order of the picture."""
    steps = list(effects_of(step for _, step in plan.steps()))
    if any(isinstance(step, Call) for _, step in plan.steps()):
        yield "  participant F as firmware"
    if any(isinstance(step, Own) for step in steps):
        yield "  participant O as owner table"
    yield "  participant T as tables"
    units = dict.fromkeys(step.unit for step in steps if isinstance(step, Invalidate | Wait))
    yield from (f"  participant {_id(unit)} as {unit}" for unit in units)


def _id(unit: str) -> str:
    return "U_" + "".join(each if each.isalnum() else "_" for each in unit)


def _lines(steps: Sequence[Step], vendor: Vendor, who: str = "H") -> Iterator[str]:
    at = 0
    while at < len(steps):
        alike = 1
        while at + alike < len(steps) and _kind(steps[at + alike]) == _kind(steps[at]):
            alike += 1
        if alike > _MOST_ALIKE:
            yield from _arrows(steps[at], vendor, who, f" (and {alike - 1} more)")
        else:
            for step in steps[at : at + alike]:
                yield from _arrows(step, vendor, who)
        at += alike


def _kind(step: Step) -> tuple[object, ...]:
    return type(step), getattr(step, "what", ""), getattr(step, "op", ""), getattr(step, "unit", "")


def _arrows(step: Step, vendor: Vendor, who: str, more: str = "") -> Iterator[str]:
    match step:
        case Fill(pa, size_lg2):
            yield f"{who}->>T: fill a table of {lg2_text(size_lg2)} at {pa:#x}{more}"
        case Store(what=what, level=level, iova=iova):
            size = lg2_text(vendor.page_format.levels[level].lo)
            yield f"{who}->>T: {what} the entry of {size} at {iova:#x}{more}"
        case Invalidate(unit, _, words):
            name = vendor.commands.describe(words).split(" ")[0]
            yield f"{who}->>{_id(unit)}: {name} [{step.first:#x}, {step.last:#x}]{more}"
        case Wait(unit):
            yield f"{_id(unit)}-->>{who}: answers: what was targeted is gone"
        case Own(op, start_pa, end_pa, owner, size_lg2):
            whose = "the host's" if owner == 0 else f"guest {owner}'s"
            count = (end_pa - start_pa) >> 12
            pages = "1 page is" if count == 1 else f"{count:,} pages are"
            yield f"{who}->>O: {op}: {pages} {whose}, in entries of {lg2_text(size_lg2)}{more}"
        case Call(op, _, _, effects, held):
            yield f"H->>F: {op}{', requests are held' if held else ''}"
            yield from _lines(effects, vendor, "F")
            yield f"F-->>H: done{', requests go on' if held else ''}"
        case Release(tables):
            yield f"{who}->>T: free {len(tables)} table{'s' if len(tables) > 1 else ''}"
        case Barrier() | Clean():
            pass


__all__ = ["diagram"]

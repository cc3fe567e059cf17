"""One translation step by step, with every structure and entry in words."""

from typing import Any

from hitless.errors import BusError
from hitless.explain import explain_fields, explain_structure
from hitless.hardware.structures import StageRoot
from hitless.hardware.walker import Refusal, Seen, Translation, Walked, no_memory, translate
from hitless.inspect.findings import Finding, Findings
from hitless.inspect.opening import Opened, Space
from hitless.inspect.space import Readable
from hitless.inspect.wording import rights_text
from hitless.pagetable import Leaf, PageFormat, Position, WalkFault, entry_pa
from hitless.units import lg2_text

_ILLEGAL = ("reserved", "address-size", "range")


def explain_translation(
    memory: Readable, opened: Opened, space: Space | None, device: int, iova: int
) -> dict[str, Any]:
    """Every read on the way of a request, what it says, and where it ends; it writes where reading is not allowed.

    ``space``: tables without structures before them; None: start from the register, for ``device``.
    """
    if space is not None:
        trace, outcome = _tables(memory, space.fmt, space.reader.root_pa, iova)
    else:
        walked = _walked(memory, opened, device, iova)
        trace, outcome = walked.trace, walked.outcome
    steps = [_step(seen, opened, trace) for seen in trace]
    return {"iova": f"{iova:#x}", "steps": steps, **_outcome(outcome, iova, opened.findings)}


def _walked(memory: Readable, opened: Opened, device: int, iova: int) -> Walked:
    """The walk from the register on."""
    what = opened.asked
    found = translate(memory.load, what.structures, what.base, device, iova, pasid=what.pasid)
    if isinstance(found.outcome, Refusal) and found.outcome.kind == "permission":
        writes = translate(memory.load, what.structures, what.base, device, iova, pasid=what.pasid, write=True)
        return writes if isinstance(writes.outcome, Translation) else found
    return found


def _tables(memory: Readable, fmt: PageFormat, root: int, iova: int) -> tuple[list[Seen], Translation | Refusal]:
    """The walk of one table."""
    trace = []
    at: Position | Leaf | WalkFault = fmt.start(root, iova)
    pa = 0
    while isinstance(at, Position):
        pa = entry_pa(fmt.levels[at.level], at.table_pa, at.iova)
        here, words = at, tuple[int, ...]()
        try:
            words = (memory.load(pa),)
            at = fmt.step(here, words[0])
        except BusError:
            at = no_memory(here)
        trace.append(Seen("", here.stage, here.level, "input", pa, words, at))
    if isinstance(at, WalkFault):
        return trace, Refusal(at.kind, at.stage, at.level, pa=pa, words=(at.word,))
    start = iova >> at.size_lg2 << at.size_lg2
    return trace, Translation(start, at.size_lg2, at.oa, at.rights, at, None)


def _step(seen: Seen, opened: Opened, trace: list[Seen]) -> dict[str, Any]:
    found: dict[str, Any] = {"pa": f"{seen.pa:#x}", "words": [f"{word:#x}" for word in seen.words]}
    if not seen.words:
        return {"what": seen.structure or "entry", **found, "summary": "there is no memory in the image", "fields": []}
    if seen.structure:
        explained = explain_structure(opened.asked.structures.layouts[seen.structure], seen.words)
    else:
        explained = explain_fields(_format(seen, opened, trace), seen.words[0], seen.level)
    what = seen.structure or explained["level"]
    return {"what": what, **found, "summary": explained["summary"], "fields": explained["fields"]}


def _format(seen: Seen, opened: Opened, trace: list[Seen]) -> PageFormat:
    """The format of the stage that an entry belongs to."""
    roots: list[StageRoot] = []
    for each in trace:
        for name in ("stage1", "stage2"):
            root = getattr(each.answer, name, None)
            roots += [root] if isinstance(root, StageRoot) else []
    for root in roots:
        if root.page_format.stage == seen.stage:
            return root.page_format
    return opened.spaces[0].fmt if opened.spaces else opened.asked.vendor.page_format


def _outcome(outcome: Translation | Refusal, iova: int, findings: Findings) -> dict[str, Any]:
    if isinstance(outcome, Translation):
        leaf = outcome.stage1 or outcome.stage2
        return {
            "outcome": "translated" if leaf is not None else "bypass",
            "pa": f"{outcome.pa + (iova - outcome.start):#x}",
            "rights": rights_text(outcome.rights),
            "leaf": lg2_text(outcome.size_lg2),
            "start": f"{outcome.start:#x}",
            "start_pa": f"{outcome.pa:#x}",
            "size": f"{1 << outcome.size_lg2:#x}",
        }
    if outcome.kind in _ILLEGAL or outcome.kind == "fetch":
        rule = "I1" if outcome.kind == "fetch" else "W1"
        entry = " ".join(f"{word:#x}" for word in outcome.words)
        where = f"{outcome.structure or 'entry'} at {outcome.pa:#x}, IOVA {iova:#x}"
        why = outcome.why or f"the walk ends with {outcome.kind}"
        findings.add(Finding(rule, where, entry, why, "see the last step"))
    return {"outcome": outcome.kind, "pa": None, "why": outcome.why}

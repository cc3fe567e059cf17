"""Explains the steps of a plan: every word that is written, every command."""

from collections.abc import Iterator, Mapping

from hitless.explain.words import explain_entry
from hitless.pagetable import PageFormat
from hitless.plan import (
    Barrier,
    Call,
    Clean,
    Fill,
    FillRun,
    Invalidate,
    Own,
    Release,
    Step,
    Store,
    StoreStructure,
    Wait,
)
from hitless.plugin import Vendor
from hitless.units import lg2_text

_ACTIONS = {
    "cut": "cut, no translation changes",
    "merge": "merge, no translation changes",
    "replace": "replace",
    "wipe": "wipe",
    "map": "map",
    "prune": "prune, the table maps nothing",
    "resize": "resize a run, no translation changes",
    "clean": "clean, the mark of a write is taken away",
}

_CHANGES = {
    "grow": "a larger root, no translation changes",
    "attach": "the device comes to this address space",
    "detach": "the device leaves this address space",
    "replace": "the device moves to another address space",
    "block": "fence: the device is held off",
}


def explain_step(step: Step, vendor: Vendor, levels: Mapping[int, int]) -> list[str]:
    """What a step does, in words: one line, or one for each kind of word.

    Args:
        step: of a plan for that vendor.
        vendor: whose formats and commands explain it.
        levels: what :func:`hitless.refresh.levels.table_levels` gives for the plan.
    """
    match step:
        case Store():
            return list(_store(step, vendor.page_format))
        case Fill():
            return list(_fill(step, vendor.page_format, levels.get(step.pa)))
        case StoreStructure():
            return [_structure(step, vendor)]
        case Invalidate(unit, _, words):
            return [f"to {unit}: {vendor.commands.describe(words)}"]
        case Wait(unit):
            name = vendor.commands.describe(vendor.commands.wait(0x1000, 1)).split(" ")[0]
            return [f"{unit} answers ({name}): what was targeted before is gone, requests that used it have ended"]
        case Own():
            owner = "the host (shared)" if step.owner == 0 else f"guest {step.owner} (private)"
            drops = {"none": "", "iotlb": ", and cached verdicts go", "iotlb+atc": ", and cached verdicts go, ATCs too"}
            size = lg2_text(step.size_lg2)
            return [f"{step.op}: owned by {owner} in entries of {size}{drops.get(step.drops, '')}"]
        case Call(op, _, _, effects, held):
            meanwhile = "while requests are held" if held else "while requests go on"
            inner = [line for effect in effects for line in explain_step(effect, vendor, levels)]
            return [f"{op}, {meanwhile}: {'; '.join(inner)}"]
        case Release(tables, fold):
            folded = ", after A and D that walkers set in them were saved" if fold else ""
            return [f"{len(tables)} {'table is' if len(tables) == 1 else 'tables are'} free{folded}"]
        case Barrier():
            return ["what was stored is visible to walkers before what follows"]
        case Clean(pa, size):
            return [f"{size} bytes at {pa:#x} leave the CPU's cache: the walker does not snoop"]


def _store(step: Store, fmt: PageFormat) -> Iterator[str]:
    kind, _, round_number = step.what.partition("-")
    action = _ACTIONS.get(kind, kind) + (f", round {round_number}" if round_number else "")
    before, after = (explain_entry(fmt, word, step.level) for word in (step.expected, step.new))
    yield f"{action}, at {fmt.levels[step.level]}: {before}  =>  {after}"


def _structure(step: StoreStructure, vendor: Vendor) -> str:
    """A change of a structure, with the fields that get another value."""
    pasid = "" if step.pasid is None else f", PASID {step.pasid:#x}"
    name = step.structure or "structure"
    told = f"{_CHANGES.get(step.what, step.what)}: {name} of device {step.device:#x}{pasid}"
    layout = None if vendor.structures is None else vendor.structures.layouts.get(step.structure)
    if layout is None:
        return told
    before, after = (
        layout.decode((*words, *[0] * (layout.width // 64 - len(words)))) for words in (step.expected, step.new)
    )
    fields = [f"{field} {before[field]:#x} -> {after[field]:#x}" for field in before if before[field] != after[field]]
    return f"{told}: {', '.join(fields)}"


def _fill(step: Fill, fmt: PageFormat, level: int | None) -> Iterator[str]:
    where = "" if level is None else f" of {fmt.levels[level]}"
    yield f"new table{where} at {step.pa:#x} ({lg2_text(step.size_lg2)}), which no walker can reach yet"
    if level is None:
        return
    for run in step.runs:
        yield f"  {_run(run, fmt, level)}"
    for pa, word in step.overrides:
        yield f"  {pa:#x}: {explain_entry(fmt, word, level)}"


def _run(run: FillRun, fmt: PageFormat, level: int) -> str:
    first = explain_entry(fmt, run.first, level)
    if run.entries == 1:
        return f"{run.pa:#x}: {first}"
    each = f", each {run.increment:#x} further" if run.increment else ""
    return f"{run.pa:#x}: {run.entries} entries, {first}{each}"

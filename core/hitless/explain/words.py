"""Explains words from the layouts that the formats declare."""

from typing import Any

from hitless.pagetable import PageFormat
from hitless.pagetable.format import READ, WRITE
from hitless.plan import Barrier, Clean, Fill, Invalidate, Own, Release, Step, Store, Wait
from hitless.plugin import Vendor
from hitless.units import lg2_text


def explain_entry(fmt: PageFormat, word: int, level: int) -> str:
    """One entry in a few words: ``leaf 2M -> 0x40000000 RW``, ``table 0x100003000``, ``empty``."""
    if not fmt.present(word):
        return "empty"
    legal = "" if not fmt.faults(word, level) else ", ILLEGAL"
    if not fmt.is_leaf(word, level):
        return f"table {int(fmt.table_pa(word)):#x}{legal}"
    rights = fmt.rights(word, level)
    letters = ("R" if rights & READ else "-") + ("W" if rights & WRITE else "-")
    return f"leaf {lg2_text(fmt.levels[level].lo)} -> {int(fmt.leaf_oa(word, level)):#x} {letters}{legal}"


def explain_fields(fmt: PageFormat, word: int, level: int) -> dict[str, Any]:
    """One entry at one level, field by field, with every fault."""
    kind = "empty" if not fmt.present(word) else "leaf" if fmt.is_leaf(word, level) else "table"
    layout = fmt.layout(kind, level) if kind != "empty" else None
    fields = [
        {
            "name": each.name,
            "bits": each.bits,
            "value": f"{word >> each.lo & each.ones:#x}",
            "meaning": each.meaning,
        }
        for each in (layout.fields if layout else ())
        if word >> each.lo & each.ones or each.role == "value"
    ]
    return {
        "level": str(fmt.levels[level]),
        "spec_level": fmt.levels[level].spec_level,
        "kind": kind,
        "summary": explain_entry(fmt, word, level),
        "source": layout.source if layout else fmt.source,
        "fields": list(reversed(fields)),
        "faults": list(fmt.faults(word, level)),
    }


def explain_entry_anywhere(fmt: PageFormat, word: int) -> list[dict[str, Any]]:
    """The entry at each level where it is legal; at all levels if it is legal nowhere."""
    found = [explain_fields(fmt, word, each.number) for each in reversed(fmt.levels)]
    legal = [each for each in found if not each["faults"]]
    return legal or found


def explain_step(step: Step, vendor: Vendor) -> list[str]:
    """What a step does, in words: one line, or a few."""
    fmt = vendor.page_format
    match step:
        case Store():
            before = explain_entry(fmt, step.expected, step.level)
            after = explain_entry(fmt, step.new, step.level)
            return [f"{step.what} at {fmt.levels[step.level]}: {before}  =>  {after}"]
        case Invalidate(unit, _, words):
            return [f"to {unit}: {vendor.commands.describe(words)}"]
        case Wait(unit):
            name = vendor.commands.describe(vendor.commands.wait(0x1000, 1)).split(" ")[0]
            return [f"{unit} answers ({name}): what was targeted before is gone, requests that used it have ended"]
        case Fill(pa, size_lg2, runs, overrides):
            entries = sum(run.entries for run in runs)
            return [f"new table at {pa:#x} ({lg2_text(size_lg2)}): {entries} leaves, {len(overrides)} pointers"]
        case Own():
            return [f"owner {'host' if step.owner == 0 else f'guest {step.owner}'}, by {step.op}"]
        case Release(tables):
            return [f"{len(tables)} tables are free"]
        case Barrier():
            return ["what was stored is visible before what follows"]
        case Clean(pa, size):
            return [f"{size} bytes at {pa:#x} leave the CPU's cache: the walker does not snoop"]

"""Explains entries of page tables, structures, commands and records from the layouts that vendors declare."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hitless.bits import Field, Layout
from hitless.hardware.vendor import Vendor
from hitless.pagetable import PageFormat
from hitless.pagetable.format import READ, WRITE
from hitless.units import lg2_text


def explain_entry(fmt: PageFormat, word: int, level: int) -> str:
    """One entry in a few words: ``leaf 2M -> 0x40000000 RW``, ``table 0x100003000``, ``empty``."""
    if not fmt.present(word):
        return "empty"
    legal = "" if not fmt.faults(word, level) else ", ILLEGAL"
    if not fmt.is_leaf(word, level):
        return f"table {int(fmt.table_pa(word)):#x}{legal}"
    size, address = lg2_text(fmt.leaf_lg2(word, level)), int(fmt.leaf_oa(word, level))
    return f"leaf {size} -> {address:#x} {_rights(fmt, word, level)}{legal}"


def explain_fields(fmt: PageFormat, word: int, level: int) -> dict[str, Any]:
    """One entry at one level, field by field, with every fault."""
    kind = "empty" if not fmt.present(word) else "leaf" if fmt.is_leaf(word, level) else "table"
    layout = fmt.layout(kind, level) if kind != "empty" else None
    fields = list(_fields(layout, word)) if layout else []
    explained: dict[str, Any] = {
        "level": str(fmt.levels[level]),
        "spec_level": fmt.levels[level].spec_level,
        "kind": kind,
        "summary": explain_entry(fmt, word, level),
        "source": layout.source if layout else fmt.source,
        "fields": list(reversed(fields)),
        "faults": list(fmt.faults(word, level)),
    }
    if kind == "leaf":
        explained["size"] = lg2_text(fmt.leaf_lg2(word, level))
        explained["address"] = f"{int(fmt.leaf_oa(word, level)):#x}"
        explained["rights"] = _rights(fmt, word, level)
    elif kind == "table":
        explained["address"] = f"{int(fmt.table_pa(word)):#x}"
    return explained


def explain_words(layout: Layout, words: Sequence[int]) -> dict[str, Any]:
    """What a layout says of words, the low one first: its source, fields from bit 0 up, and every fault."""
    whole = layout.join(words)
    return {
        "source": layout.source,
        "fields": list(_fields(layout, whole)),
        "faults": list(layout.faults(whole)),
    }


def explain_structure(layout: Layout, words: Sequence[int]) -> dict[str, Any]:
    """A structure, such as a device table entry, field by field."""
    explained = explain_words(layout, words)
    return {"summary": layout.name + (", ILLEGAL" if explained["faults"] else ""), **explained}


def explain_field(field: Field, value: int) -> dict[str, str]:
    """One field: name, bits, role, value from bit 0, what an engineer wants to read beside it."""
    meaning = [field.values[value]] if value in field.values else []
    if field.unit > 1:
        meaning.append(f"{value * field.unit:#x}")
    if field.role == "hardware":
        meaning.append("hardware may set it")
    illegal = field.fixed is not None and value != field.fixed
    if illegal:
        meaning.append(f"illegal, must be {field.fixed:#x}")
    meaning += [field.meaning] if field.meaning else []
    return {
        "name": field.name,
        "bits": field.bits,
        "role": field.role,
        "value": f"{value:#x}",
        "meaning": "; ".join(meaning),
    }


def _fields(layout: Layout, whole: int) -> Iterator[dict[str, str]]:
    """Every field that means something, and what is set of the others, from bit 0 up."""
    for each in layout.fields:
        if whole & each.mask or each.role in ("value", "hardware"):
            yield explain_field(each, whole >> each.lo & each.ones)


def explain_entry_anywhere(fmt: PageFormat, word: int) -> list[dict[str, Any]]:
    """The entry at each level where it is legal; at all levels if it is legal nowhere."""
    found = [explain_fields(fmt, word, each.number) for each in reversed(fmt.levels)]
    legal = [each for each in found if not each["faults"]]
    return legal or found


def _rights(fmt: PageFormat, word: int, level: int) -> str:
    rights = fmt.rights(word, level)
    return ("R" if rights & READ else "-") + ("W" if rights & WRITE else "-")


def structure_layouts(vendor: Vendor) -> Mapping[str, Layout]:
    """The layouts of what stands in memory beside page tables: structures, and entries of the raw owner table."""
    found = {} if vendor.structures is None else dict(vendor.structures.layouts)
    raw = vendor.ownership.raw
    return found if raw is None else {**found, **raw.layouts}

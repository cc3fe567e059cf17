"""Every layout that a vendor declares, as a page of tables: page table entries, structures, commands, events.

``python -m hitless.explain.tables docs/layouts VENDOR...`` writes one page for each vendor anew, and their index;
without a name those of all that are installed.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hitless.bits import Field, Layout
from hitless.config import open_registry
from hitless.explain.variants import deviations
from hitless.explain.words import structure_layouts
from hitless.hardware.vendor import Vendor
from hitless.pagetable import PageFormat
from hitless.plugin import VendorRegistry
from hitless.units import lg2_text

INDEX = """# Layouts

Every bit of every page table entry, structure, command and event that a vendor's plugin declares. The pages are made
from those declarations, which the walker, the model, the checker and [`hitless explain`](../command-line.md) read too;
`python -m hitless.explain.tables docs/layouts {vendors}` writes them anew.

Bits count from bit 0 of the first 64-bit word. Every bit of a layout belongs to exactly one field, whose role says what
it is to hardware: `value`; `reserved`, which must hold what the table says; `ignored`; `hardware`, which hardware may
set.

"""
HEAD = """# {name}: layouts

{title}. With the default features; what others change stands at the end. How to read it: [layouts](README.md).
"""
_LONG = 8
"""More names of values than that have a table of their own."""
_COLUMNS = ("bits", "field", "meaning", "role")
_SECTIONS = (("structures", "Structures"), ("commands", "Commands"), ("events", "Events"))


def index_page(registry: VendorRegistry) -> str:
    """The page that leads to the others."""
    rows = [
        (
            f"[{name}]({name}.md)",
            _title(registry, name),
            ", ".join(
                f"`{each}`" for each in (*registry.format_names(name), *_structure_names(registry.resolve(name)))
            ),
        )
        for name in sorted(registry.vendors)
    ]
    return INDEX.format(vendors=" ".join(sorted(registry.vendors))) + _table(
        ("vendor", "", "page formats and structures, as `hitless explain` names them"), rows
    )


def layouts_page(registry: VendorRegistry, name: str) -> str:
    """A vendor's page."""
    formats = registry.format_names(name)
    parts = [HEAD.format(name=name, title=_title(registry, name))]
    for page_format in formats:
        parts += _format(registry.resolve(name, page_format).page_format)
    vendor = registry.resolve(name)
    for part, heading in _SECTIONS:
        declared = _declared(vendor, part)
        if declared:
            parts.append(f"## {heading}\n")
        for names, layout in _grouped(declared):
            parts += _layout(", ".join(names), layout)
        parts += _long_values(declared.values())
        left_out = getattr(getattr(vendor, part), "not_modelled", ())
        if left_out:
            parts.append(f"{heading}, not modelled:\n")
            parts.append("".join(f"- {each}\n" for each in left_out))
    rows = list(_otherwise(registry, name, formats))
    if rows:
        parts.append("## With other features\n")
        parts.append("Fields that are declared otherwise than above.\n")
        parts.append(_table(("with", "layout", *_COLUMNS), rows))
    return "\n".join(parts)


# -- what there is


def _title(registry: VendorRegistry, name: str) -> str:
    return str(getattr(registry.vendors[name].plugin, "title", name))


def _structure_names(vendor: Vendor) -> list[str]:
    return list(_declared(vendor, "structures"))


def _declared(vendor: Vendor, part: str) -> Mapping[str, Layout]:
    """The layouts of structures, commands or events by name; a structure's is the one that explain takes."""
    if part == "structures":
        return {f"{vendor.name}/{key}": each for key, each in structure_layouts(vendor).items()}
    layouts: Mapping[str, Layout] = getattr(getattr(vendor, part), "layouts", {})
    return layouts


def _entries(fmt: PageFormat) -> Iterator[tuple[str, Layout]]:
    """The layouts of a format's entries: leaf and pointer of each level, from the root down."""
    for kind in ("table", "leaf"):
        for level in reversed(fmt.levels):
            layout = fmt.layout(kind, level.number)
            if layout is not None:
                yield f"{fmt.name} {'pointer' if kind == 'table' else kind}, {level.spec_name}", layout


def _grouped(layouts: Mapping[str, Layout]) -> Iterator[tuple[list[str], Layout]]:
    """Layouts with the same bits once, under all of their names."""
    found: list[tuple[list[str], Layout]] = []
    for name, layout in layouts.items():
        for names, known in found:
            if known.fields == layout.fields and known.width == layout.width:
                names.append(name)
                break
        else:
            found.append(([name], layout))
    yield from found


# -- tables


def _format(fmt: PageFormat) -> Iterator[str]:
    yield f"## {fmt.name}\n"
    yield f"Source: {fmt.source}. Stage {fmt.stage}, {fmt.iova_bits} bits of input, {fmt.oa_bits} of output.\n"
    rows = []
    for level in reversed(fmt.levels):
        sizes = [lg2_text(size.lg2) for size in fmt.leaf_sizes if size.level == level.number]
        index = f"{level.lo + level.bits - 1}:{level.lo}"
        rows.append((level.spec_name, index, str(1 << level.bits), " ".join(sizes) or "none"))
    yield _table(("level", "index bits", "entries", "leaves"), rows)
    for names, layout in _grouped(dict(_entries(fmt))):
        first, *others = names
        yield from _layout(", ".join([first, *(each.partition(", ")[2] for each in others)]), layout)


def _layout(title: str, layout: Layout) -> Iterator[str]:
    yield f"### {title}\n"
    yield f"{layout.width} bits. Source: {layout.source}.\n"
    yield _table(_COLUMNS, [_row(each) for each in layout.fields])


def _long_values(layouts: Iterable[Layout]) -> Iterator[str]:
    """A table for each field that has many named values, once for all layouts that have it."""
    told: list[Field] = []
    for field in (each for layout in layouts for each in layout.fields if len(each.values) > _LONG):
        if field not in told:
            told.append(field)
            yield f"Values of {field.name}:\n"
            yield _table(("value", "name"), [(f"{value:#04x}", text) for value, text in field.values.items()])


def _row(field: Field) -> tuple[str, ...]:
    said = [field.meaning] if field.meaning else []
    if 0 < len(field.values) <= _LONG:
        said.append(", ".join(f"{value:#x} {text}" for value, text in field.values.items()))
    if field.unit > 1:
        said.append(f"address in units of {_bytes(field.unit)}")
    if field.fixed is not None:
        said.append(f"must be {field.fixed:#x}")
    name = field.name if field.role == "value" else field.name.partition(f" {field.bits}")[0]
    return field.bits, name, "; ".join(said), field.role


def _bytes(unit: int) -> str:
    return f"{unit} bytes" if unit < 1 << 10 else lg2_text(unit.bit_length() - 1)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


# -- features


def _otherwise(registry: VendorRegistry, name: str, formats: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """A row for each field that one change of a feature, or another page format, declares otherwise."""
    told: dict[tuple[str, str, Field], None] = {}
    first = _everything(registry.resolve(name))
    for page_format in formats:
        base = _everything(registry.resolve(name, page_format))
        variants = [(f"`{page_format}`", first, base)] if page_format != formats[0] else []
        features: Mapping[str, Any] = {each.name: each.default for each in registry.features(name)}
        for text, vendor in deviations(registry, name, page_format, features):
            variants.append((text, base, _everything(vendor)))
        for text, known, found in variants:
            for where, field in _unlike(known, found, entries=not text.startswith("`" + name + "/")):
                told.setdefault((text, where, field))
    for text, where, field in told:
        yield text, where, *_row(field)


def _everything(vendor: Vendor) -> Mapping[str, Layout]:
    found = dict(_entries(vendor.page_format))
    for part, _ in _SECTIONS:
        found |= _declared(vendor, part)
    return found


def _unlike(known: Mapping[str, Layout], found: Mapping[str, Layout], *, entries: bool) -> Iterator[tuple[str, Field]]:
    """The fields that a layout has, and the one of that name has not, with the names of all layouts that have it."""
    where: dict[Field, list[str]] = {}
    for name, layout in found.items():
        before = known.get(name) or (_nearest(known, name, layout) if entries else layout)
        for field in layout.fields:
            if field not in before.fields:
                where.setdefault(field, []).append(name)
    for field, names in where.items():
        yield _together(names, found), field


def _together(names: Sequence[str], known: Iterable[str]) -> str:
    """Names of layouts; the levels of an entry are left out where all have it."""
    levels: dict[str, list[str]] = {}
    for name in known:
        kind, _, level = name.partition(", ")
        levels.setdefault(kind, []).append(level)
    kinds = dict.fromkeys(name.partition(", ")[0] for name in names)
    said = []
    for kind in kinds:
        has = [level for level in levels[kind] if (f"{kind}, {level}" if level else kind) in names]
        said.append(kind if has == levels[kind] else ", ".join([kind, *has]))
    return "; ".join(said)


def _nearest(known: Mapping[str, Layout], name: str, layout: Layout) -> Layout:
    """For a level that is not there else: the layout of the same kind of entry that differs least."""
    kind = name.partition(", ")[0]
    alike = [each for key, each in known.items() if key.partition(", ")[0] == kind]
    return min(alike, key=lambda each: len(set(layout.fields) - set(each.fields)), default=layout)


if __name__ == "__main__":
    folder, every = Path(sys.argv[1]), open_registry(None, sys.argv[2:] or None)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "README.md").write_text(index_page(every), encoding="utf-8")
    for vendor_name in every.vendors:
        (folder / f"{vendor_name}.md").write_text(layouts_page(every, vendor_name), encoding="utf-8")

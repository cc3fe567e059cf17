"""The mistakes that the checker has to catch, and for each format the mutants that make them, or why none can."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from attrs import frozen

from hitless.check.mutants.commands import takes_both
from hitless.check.mutants.mutant import Reason
from hitless.check.mutants.running import Tried, all_mutants, nearby_of, try_nearby
from hitless.hardware.vendor import Vendor
from hitless.plugin import VendorRegistry

MISTAKES: Mapping[int, str] = {
    1: "A table is linked before it is filled, cleaned, or ordered by a barrier.",
    2: "A command smaller than the leaf that was cut, where the leaf survives it.",
    3: "A leaf-only invalidation where a table pointer was replaced or removed.",
    4: "A command is not waited for.",
    5: "A device's own cache is not invalidated, or before the unit's is.",
    6: "Sizes change without nT where leaves of different size conflict (BBML 1).",
    7: "Sizes change without break-before-make where they conflict, or by it while neighbours are live (BBML 0).",
    8: "A part of a run is rewritten with another address, or run bits are mixed where they may not be.",
    9: "A live leaf gets another output address where addresses conflict.",
    10: "A table is freed before the wait behind its invalidation.",
    11: "Accessed or dirty bits are lost.",
    12: "The owner table turns mixed while one translation spans the place.",
    13: "A page turns private while a shared leaf or a stale translation leads to it, and that is no safe fault.",
    14: "The hunk is split before the mapping is.",
    15: "A plan that ends half way leaves a hole.",
    16: "More is unmapped or replaced than was asked.",
    17: "A refresh races a map of the same range.",
    18: "A table entry grants less than the leaves below it.",
    19: "Requests in flight are not drained.",
    20: "Children that differ are merged.",
    21: "The owner table changes without its own invalidation.",
    22: "A leaf of a size that the hardware does not take.",
    23: "A truncate is treated as a refresh.",
    24: "In place: nothing is invalidated after the owner change, because no entry changed.",
    25: "A second unit, tag, function, or address space is forgotten.",
    26: "The wrong tag, PASID, ASID, stage or device.",
    27: "Break-before-make: the new entry is made before the wait of the break.",
    28: "A command is submitted before the store is visible.",
    29: "A command names the new level, or its range is cut short.",
    30: "A range is not aligned, not legal, or beyond what one command can cover.",
    31: "No invalidation after not-present to present, where not-present entries are cached.",
    32: "Nested: a stage-2 invalidation without the combined entries.",
    33: "Cut and new address in one store where that is not allowed.",
    34: "A mark in one copy of a run is not spread over the others.",
    35: "A range for a device is smaller than what it was given.",
    36: "A wait is polled on a stale status word.",
    37: "An empty table is freed without a non-leaf invalidation.",
    38: "Attributes are lost in a cut or a merge.",
    39: "Leaves are merged over smaller entries of the owner table.",
}
"""Numbers are stable; docs/mistakes.md shows them."""


def _sizes_free(vendor: Vendor) -> str:
    if vendor.ownership.size_classes:
        return ""
    return "a leaf need not agree in size with the owner table's entries, if there is one at all"


def core_reasons() -> Sequence[Reason]:
    """Reasons that hold whatever the vendor."""
    return (
        Reason(32, takes_both),
        Reason(39, _sizes_free),
    )


@frozen
class Cell:
    """One mistake for one format.

    Args:
        mutants: ids of those that stand for it.
        reasons: why there is none; empty if there is one.
    """

    mistake: int
    format: str
    mutants: tuple[str, ...]
    reasons: tuple[str, ...]

    @property
    def text(self) -> str:
        """The cell as documentation shows it."""
        if self.mutants:
            return ", ".join(f"`{each}`" for each in self.mutants)
        return "; ".join(self.reasons) or "nothing is said"


def cells_of(
    registry: VendorRegistry, vendor: str, page_format: str, features: Mapping[str, Any] | None = None
) -> list[Cell]:
    """All mistakes for one format, in order.

    Raises:
        PluginError: no such vendor or format, or features that are not usable.
    """
    record, nearby = nearby_of(registry, vendor, page_format, features)
    mutants: dict[int, list[str]] = {number: [] for number in MISTAKES}
    excuses: dict[int, list[str]] = {number: [] for number in MISTAKES}
    for mutant in all_mutants(record):
        tried = try_nearby(mutant, nearby) if mutant.mistakes else ""
        for number in mutant.mistakes:
            if isinstance(tried, Tried):
                mutants[number].append(mutant.id)
            else:
                excuses[number].append(tried)
    said: dict[int, list[str]] = {number: [] for number in MISTAKES}
    for reason in (*core_reasons(), *(each for each in record.mutants() if isinstance(each, Reason))):
        if why := reason.why(record):
            said[reason.mistake].append(why)
    found = []
    for number, ids in mutants.items():
        reasons = () if ids else tuple(dict.fromkeys(said[number] or excuses[number]))
        found.append(Cell(number, nearby.page_format, tuple(ids), reasons))
    return found


# -- docs/mistakes.md

_HEAD = """\
# Mistakes that the checker catches

What goes wrong when live IOMMU tables are changed, and for each format the mutants that make the mistake: right plans
with one thing wrong, each of which has to break exactly the rules that it is expected to break ([rules](rules.md)).
Where hardware or policy leaves no room for a mistake, the reason stands in the mutants' place. Core's mutants begin
with `generic.`, a vendor's own with its name. They run with the default features, or with the nearest ones that let
the mistake happen. This page is made from the mutants themselves, by
`python -m hitless.check.mutants {vendors}`.
"""


def page(registry: VendorRegistry, vendors: Sequence[str]) -> str:
    """The page of all vendors' formats."""
    cells = [
        cell
        for vendor in vendors
        for name in registry.format_names(vendor)
        for cell in cells_of(registry, vendor, name)
    ]
    return "\n".join([_HEAD.format(vendors=" ".join(vendors)), *_sections(cells)])


def _sections(cells: Sequence[Cell]) -> Iterator[str]:
    for number, sentence in MISTAKES.items():
        mine = [cell for cell in cells if cell.mistake == number]
        yield f"## {number}\n\n{sentence}\n\n| format | mutants, or why there is none |\n|---|---|"
        for text, group in groupby(mine, key=lambda cell: cell.text):
            yield f"| {', '.join(f'`{cell.format}`' for cell in group)} | {text} |"
        yield ""

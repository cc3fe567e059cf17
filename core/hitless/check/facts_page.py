"""What is hitless on which vendor, what is not, and why: a page made from what the vendors declare.

``python -m hitless.check.facts_page docs/hitless-per-vendor.md`` writes it anew.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hitless.check.scenarios import Ground
from hitless.check.suite import check_on, feature_sets, scenario_named
from hitless.config import open_registry
from hitless.explain.variants import deviations, feature_text
from hitless.hardware.facts import Completes
from hitless.hardware.vendor import Vendor
from hitless.ownership import Boundary
from hitless.plugin import VendorRegistry
from hitless.refresh.recipes import KINDS, Impossible, Kind, Recipe, Scope, empty
from hitless.units import lg2_text

HEAD = """# What is hitless, vendor by vendor

What each vendor's hardware lets a plan do to a live entry, what it does not, and why. This page is made from what the
plugins declare, which is what the planner, the running model and the [checker](checker.md) read;
`python -m hitless.check.facts_page docs/hitless-per-vendor.md {vendors}` writes it anew. Ids such as
AMD-INV-2 are those of the [facts](facts/README.md), N1 and its kind those of the [rules](rules.md).

*Hitless* is said of neighbours: DMA to a page that is not in conversion never faults and never lands elsewhere. *Broken
meanwhile* says that the entry itself is empty for a while: nothing but what converts may lie below it.
"""

_MEANING: Mapping[Kind, str] = {
    "cut": "leaf to table, same translation",
    "merge": "table to leaf, same translation",
    "replace": "another address or other attributes, same size",
    "wipe": "leaf to empty",
    "map": "empty to leaf or table",
    "prune": "table to empty",
    "resize": "a run to smaller leaves, or back",
}
_AFTER = {Scope.NONE: "", Scope.LEAF: "invalidate the leaf, wait", Scope.TABLE: "invalidate pointers too, wait"}
_TRIED = ("one-page-in-1g", "merge", "trusted-page", "trusted-2m")
"""Scenarios that show what is refused beside recipes: by owner tables."""


def facts_page(registry: VendorRegistry) -> str:
    """The whole page, for all vendors of a registry."""
    parts = [HEAD.format(vendors=" ".join(sorted(registry.vendors)))]
    for name in sorted(registry.vendors):
        parts.append(f"## {name}\n\n{getattr(registry.vendors[name].plugin, 'title', name)}\n")
        for page_format in registry.format_names(name):
            parts += _format(registry, name, page_format)
    return "\n".join(parts)


def _format(registry: VendorRegistry, name: str, page_format: str) -> Iterator[str]:
    base = feature_sets(registry, name, page_format)[0]
    vendor = registry.resolve(name, page_format, base)
    others = list(deviations(registry, name, page_format, base))
    yield f"### {page_format}\n"
    defaults = _defaults(registry, name)
    unlike = [f"`{key} = {feature_text(value)}`" for key, value in base.items() if value != defaults[key]]
    if unlike:
        yield f"With {', '.join(unlike)}.\n"
    yield _table(("change", "how", "hitless", "facts"), [_row(kind, vendor) for kind in KINDS if _has(vendor, kind)])
    yield from _differences(vendor, others)
    yield from _not_hitless(vendor, others)
    lines = list(_hardware(vendor))
    lines += _limits(vendor, others)
    lines += _grows(vendor, others)
    lines += [f"with {told}: {line}" for told, other in others for line in _hardware(other) if line not in lines]
    yield "\n".join(f"- {line}" for line in lines) + "\n"


# -- recipes


def _has(vendor: Vendor, kind: Kind) -> bool:
    return vendor.recipes.of(kind) is not None


def _row(kind: Kind, vendor: Vendor) -> tuple[str, ...]:
    found = vendor.recipes.of(kind)
    what = f"{kind}: {_MEANING[kind]}"
    if isinstance(found, Impossible):
        return what, "none", f"no: `{found.reason}`", found.source
    if found is None:
        return what, "the whole table is rebuilt and its pointer swapped", "yes", ""
    return what, _how(found), _is_hitless(kind, found), found.source


def _how(recipe: Recipe) -> str:
    return "; ".join(", ".join(filter(None, (f"store `{each.text}`", _AFTER[each.scope]))) for each in recipe.rounds)


def _is_hitless(kind: Kind, recipe: Recipe) -> str:
    broken = kind != "wipe" and any(each.word is empty for each in recipe.rounds[:-1])
    return "yes; broken meanwhile" if broken else "yes"


def _differences(vendor: Vendor, others: Sequence[tuple[str, Vendor]]) -> Iterator[str]:
    """What other hardware of this vendor does otherwise."""
    rows = [
        (told, *_row(kind, other))
        for told, other in others
        for kind in KINDS
        if _has(other, kind) and _row(kind, other) != (_row(kind, vendor) if _has(vendor, kind) else ())
    ]
    if rows:
        yield "Otherwise:\n"
        yield _table(("with", "change", "how", "hitless", "facts"), rows)


# -- what is refused


def _not_hitless(vendor: Vendor, others: Sequence[tuple[str, Vendor]]) -> Iterator[str]:
    rows: dict[str, tuple[str, ...]] = {}
    for told, each in [("", vendor), *others]:
        for kind in KINDS:
            found = each.recipes.of(kind)
            if isinstance(found, Impossible):
                row = f"`{found.reason}`", told or "always", found.why, found.do, _forced(found), found.source
                rows.setdefault(found.reason, row)
    others = [(told, each) for told, each in others if type(each.ownership) is not type(vendor.ownership)]
    for told, each in [("", vendor), *others]:
        rows |= {reason: row for reason, row in _refused(each, told).items() if reason not in rows}
    if rows:
        yield "Not hitless, and so refused unless the configuration says `allow_break = true`:\n"
        yield _table(("reason", "with", "why", "what to do", "forced", "facts"), list(rows.values()))
    else:
        yield "Nothing is refused.\n"


def _forced(found: Impossible) -> str:
    return "never done" if found.breaking is None else _how(found.breaking)


def _refused(vendor: Vendor, told: str) -> Mapping[str, tuple[str, ...]]:
    """What the owner table's choreography refuses, found by asking for it."""
    found: dict[str, tuple[str, ...]] = {}
    for scenario in filter(None, map(scenario_named, _TRIED)):
        for refusal in check_on(Ground(vendor), {}, scenario).refusals:
            lines = dict(_labelled(refusal.text))
            when = told or ("a trusted device" if scenario.id.startswith("trusted") else "always")
            row = (
                f"`{refusal.reason}`",
                when,
                lines.get("why", ""),
                lines.get("do", ""),
                "the same",
                lines.get("rule", ""),
            )
            found.setdefault(refusal.reason, row)
    return found


def _labelled(error: str) -> Iterator[tuple[str, str]]:
    for line in error.splitlines():
        label, _, text = line.strip().partition(" ")
        yield label, text.strip()


def _limits(vendor: Vendor, others: Sequence[tuple[str, Vendor]]) -> Iterator[str]:
    """What no plan can hold on some hardware; no combination of it is refused."""
    for told, each in [("", vendor), *others]:
        limits: Mapping[str, str] = getattr(each.features, "cannot_hold", dict)()
        for why in dict.fromkeys(limits.values()):
            rules = ", ".join(sorted(rule for rule, said in limits.items() if said == why))
            yield f"with {told or 'this hardware'}: {rules} cannot be kept: {why}"


def _grows(vendor: Vendor, others: Sequence[tuple[str, Vendor]]) -> Iterator[str]:
    """Where a root table may become larger under DMA."""
    for told, each in [("", vendor), *others]:
        if each.page_format.grown() is not None and each.structures is not None:
            bits = each.page_format.largest.iova_bits
            yield f"with {told or 'this hardware'}: the root table grows under DMA, up to {bits} bits of input"


# -- hardware


def _hardware(vendor: Vendor) -> Iterator[str]:
    """The declared facts that plans rest on, one a line."""
    facts, ownership = vendor.hardware, vendor.ownership
    pieces = ", ".join(map(lg2_text, facts.pieces_lg2))
    yield f"a leaf may be cached whole{f', or in pieces of {pieces}' if pieces else ''} ({facts.source})"
    conflicts = [
        text
        for declared, text in (
            (facts.size_conflict, "size"),
            (facts.address_conflict, "address"),
            (facts.size_address_conflict, "size and address at once"),
        )
        if declared
    ]
    if conflicts:
        yield f"two cached entries for one address may conflict if they differ in {', or in '.join(conflicts)} (K1)"
    else:
        yield "cached entries for one address never conflict"
    yield f"not-present entries are {'' if facts.caches_not_present else 'not '}cached"
    follows = (
        "follows the commands before it, so that one wait is enough" if facts.atc_in_order else "needs a wait before it"
    )
    yield f"a device's invalidation {follows}"
    for effect in vendor.commands.decode(vendor.commands.wait(0x1000, 1)):
        if isinstance(effect, Completes):
            drained = [
                name for name, done in (("reads", effect.drains_reads), ("writes", effect.drains_writes)) if done
            ]
            yield f"a wait ends {' and '.join(drained) or 'no requests'} in flight ({effect.source})"
    checked = "cached with the translation" if ownership.cached else "made for every access"
    yield f"the owner check is {checked}; after an owner change {_owed(vendor)}"
    for name, policy in ownership.policies.items():
        default = " (default)" if name == ownership.default_policy else ""
        maps = "maps only what the device may reach" if policy.wipes else "maps everything"
        yield f"policy `{name}`{default} {maps}{_BOUNDARY[policy.boundary]}"


_BOUNDARY = {
    Boundary.NONE: "",
    Boundary.EVERY_TRANSITION: "; leaves end wherever owners change (B1)",
    Boundary.CHECK_UNIT: "; leaves end where owners change inside a unit of the check (B1)",
}


def _owed(vendor: Vendor) -> str:
    owed = vendor.ownership.invalidate_after
    return "an invalidation is owed even where no entry changed" if owed else "none is owed where no entry changed"


# -- features


def _defaults(registry: VendorRegistry, name: str) -> dict[str, Any]:
    return {info.name: info.default for info in registry.features(name)}


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(facts_page(open_registry(None, sys.argv[2:] or None)), encoding="utf-8")

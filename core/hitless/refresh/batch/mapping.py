"""Mapping what was empty, level by level: leaves where they fit, in live tables or new ones, else tables below."""

import numpy as np
from attrs import define, field

from hitless.bits import U64Array, as_words
from hitless.pagetable import Level, PageFormat
from hitless.refresh.batch import NotBatched
from hitless.refresh.batch.changes import ChangeBatch
from hitless.refresh.batch.spans import by_entry, fresh, middles, overlay, repeated, u64
from hitless.refresh.batch.tables import Rows, Tier
from hitless.refresh.batch.walk import Gaps
from hitless.refresh.batch.words import leaf_words
from hitless.refresh.target import Segments

_NONE: U64Array = np.empty(0, dtype=np.uint64)


@define(eq=False)
class Spans:
    """Memory that shall be mapped: sorted spans, what each leads to, and the live table it is in (new ones: none)."""

    start: U64Array
    last: U64Array
    oa: U64Array
    attrs: U64Array
    table_pa: U64Array = field(default=_NONE)

    def __len__(self) -> int:
        return len(self.start)


@define(eq=False)
class Links:
    """Live entries of one level that lead to new tables, by their first IOVAs."""

    level: Level
    iova: U64Array
    pa: U64Array


@define(eq=False)
class Mapping:
    """What is mapped into gaps.

    Args:
        tiers, rows: new tables, highest level first, with the leaves in them.
        links: live entries that lead to them.
        placed: leaves in live tables.
    """

    tiers: list[Tier] = field(factory=list)
    rows: list[Rows] = field(factory=list)
    links: list[Links] = field(factory=list)
    placed: list[ChangeBatch] = field(factory=list)

    def link(self, fmt: PageFormat) -> list[ChangeBatch]:
        """The stores that link the new tables, once these have addresses."""
        below = {tier.level.number + 1: tier for tier in self.tiers}
        found = []
        for links in self.links:
            tier = below[links.level.number]
            new = as_words(fmt.table(links.level.number, tier.pa[tier.index_of(links.iova)]))
            found.append(ChangeBatch("map", links.level, links.pa, links.iova, np.zeros_like(new), new))
        return found


def wanted(gaps: Gaps, segments: Segments) -> Spans:
    """What shall be mapped in gaps of one level."""
    which, at = overlay(gaps.start, gaps.last, segments.start, segments.last)
    mapped = segments.mapped[at]
    which, at = which[mapped], at[mapped]
    begin = segments.start[at]
    start: U64Array = np.maximum(gaps.start[which], begin)
    last = np.minimum(gaps.last[which], segments.last[at])
    return Spans(start, last, segments.oa[at] + (start - begin), segments.attrs[at], gaps.table_pa[which])


def map_gaps(fmt: PageFormat, allowed: frozenset[int], gaps: list[Gaps], segments: Segments) -> Mapping:
    """Lay out what the gaps of all levels shall map.

    Raises:
        NotBatched: no leaf that is allowed is small enough.
    """
    found = Mapping()
    live = {each.level.number: wanted(each, segments) for each in gaps}
    inside = Spans(_NONE, _NONE, _NONE, _NONE)
    for level in reversed(fmt.levels):
        here = live.get(level.number)
        below = _lay_out(fmt, level, here, allowed, found) if here is not None and len(here) else None
        if len(inside):
            tier = Tier(level, unique_entries(inside, level))
            children, rows = _split(level, inside, allowed)
            tier.children = unique_starts(children, level)
            found.tiers.append(tier)
            found.rows.append(rows)
            below = _both(below, children) if below is not None else children
        inside = below if below is not None else Spans(_NONE, _NONE, _NONE, _NONE)
    if len(inside):
        raise NotBatched
    return found


def unique_entries(spans: Spans, level: Level) -> U64Array:
    """The first IOVAs of the tables of a level that spans lie in."""
    shift = u64(level.lo + level.bits)
    tables = spans.start >> shift
    return tables[fresh(tables)] << shift


def unique_starts(spans: Spans, level: Level) -> U64Array:
    """The first IOVAs of the entries of a level that spans lie in."""
    entries = spans.start >> u64(level.lo)
    return entries[fresh(entries)] << u64(level.lo)


def _both(one: Spans, other: Spans) -> Spans:
    """Spans of two kinds in the order of their IOVAs."""
    columns = [np.concatenate([getattr(one, name), getattr(other, name)]) for name in ("start", "last", "oa", "attrs")]
    order = np.argsort(columns[0], kind="stable")
    return Spans(*(each[order] for each in columns))


def _split(level: Level, spans: Spans, allowed: frozenset[int]) -> tuple[Spans, Rows]:
    """What goes to tables below, cut at the edges of entries, and the leaves that fit here."""
    usable = ((spans.oa ^ spans.start) & u64((1 << level.lo) - 1)) == 0
    if level.lo not in allowed:
        usable[:] = False
    parts = middles(level.lo, spans.start, spans.last, usable)
    at = parts.entry << u64(level.lo)
    which = parts.which
    rows = Rows(at, parts.entries, spans.oa[which] + (at - spans.start[which]), spans.attrs[which])
    _, start, last, of = by_entry(level.lo, parts.start, parts.last)
    rest = parts.rest if of is None else parts.rest[of]
    table = spans.table_pa[rest] if len(spans.table_pa) else _NONE
    return Spans(start, last, spans.oa[rest] + (start - spans.start[rest]), spans.attrs[rest], table), rows


def _lay_out(fmt: PageFormat, level: Level, spans: Spans, allowed: frozenset[int], found: Mapping) -> Spans:
    """Map spans of a level into live tables; what goes to new tables below."""
    rest, rows = _split(level, spans, allowed)
    which, step = repeated(rows.entries)
    iova = rows.iova[which] + (step << u64(level.lo))
    table = spans.table_pa[np.searchsorted(spans.start, iova, side="right") - 1]
    new = leaf_words(fmt, level.lo, rows.oa[which] + (step << u64(level.lo)), rows.attrs[which])
    found.placed.append(ChangeBatch("map", level, _entry_pa(level, table, iova), iova, np.zeros_like(new), new))
    first = fresh(rest.start >> u64(level.lo))
    roots = rest.start[first] >> u64(level.lo) << u64(level.lo)
    if len(roots):
        found.links.append(Links(level, roots, _entry_pa(level, rest.table_pa[first], roots)))
    return Spans(rest.start, rest.last, rest.oa, rest.attrs)


def _entry_pa(level: Level, table_pa: U64Array, iova: U64Array) -> U64Array:
    return table_pa + (((iova >> u64(level.lo)) & u64((1 << level.bits) - 1)) << u64(3))


__all__ = ["Mapping", "map_gaps"]

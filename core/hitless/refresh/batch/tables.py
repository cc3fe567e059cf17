"""The new tables of a batch, by level: where they begin, which address each gets, and what they hold."""

from collections.abc import Sequence

import numpy as np
from attrs import define, field

from hitless.bits import BoolArray, U64Array, as_words
from hitless.columns import Blocks
from hitless.pagetable import Level, PageFormat
from hitless.plan import Fills
from hitless.refresh.batch.spans import Index, find, repeated, u64
from hitless.refresh.batch.words import leaf_words
from hitless.refresh.build import Tables

_NONE: U64Array = np.empty(0, dtype=np.uint64)


@define(eq=False)
class Tier:
    """New tables of one level.

    Args:
        base: the first IOVA of each, sorted.
        children: first IOVAs of the entries that lead to a table below, sorted.
        pa, rank: their addresses, and their places in the order of allocation, once they are allocated.
    """

    level: Level
    base: U64Array
    children: U64Array = field(default=_NONE)
    pa: U64Array = field(default=_NONE)
    rank: Index = field(factory=lambda: np.empty(0, dtype=np.intp))

    def index_of(self, iova: U64Array) -> Index:
        """Which table translates each IOVA."""
        return find(self.base, iova, self.level.lo + self.level.bits)

    def pa_of(self, iova: U64Array, table: Index | None = None) -> U64Array:
        """Address of the entry for each IOVA."""
        at = self.index_of(iova) if table is None else table
        return self.pa[at] + (((iova >> u64(self.level.lo)) & u64((1 << self.level.bits) - 1)) << u64(3))


@define(eq=False)
class Rows:
    """Adjacent leaves in new tables of one level; a row lies in one table. ``attrs``: one for all, or one a row."""

    iova: U64Array
    entries: U64Array
    oa: U64Array
    attrs: U64Array

    def take(self, which: BoolArray) -> "Rows":
        """Some of them."""
        attrs = self.attrs if len(self.attrs) == 1 else self.attrs[which]
        return Rows(self.iova[which], self.entries[which], self.oa[which], attrs)


def allocate(tiers: Sequence[Tier], tables: Tables) -> Blocks:
    """Give every table its address, in the order of the first IOVAs, a table before those below it; all, in that order.

    Raises:
        OutOfTableMemory: nothing is allocated then.
    """
    total = sum(len(tier.base) for tier in tiers)
    sizes = np.zeros(total, dtype=np.uint64)
    for tier in tiers:
        tier.rank = _rank(tier, tiers)
        sizes[tier.rank] = tier.level.table_lg2
    kinds = {tier.level.table_lg2 for tier in tiers if len(tier.base)}
    if len(kinds) == 1:
        pas = tables.allocate_many(total, kinds.pop())
    else:
        pas = _one_by_one(sizes, tables)
    for tier in tiers:
        tier.pa = pas[tier.rank]
    return Blocks(pas, sizes)


def _rank(tier: Tier, tiers: Sequence[Tier]) -> Index:
    """The place of each table of a tier among all."""
    rank: Index = np.arange(len(tier.base), dtype=np.intp)
    for other in tiers:
        if other is not tier and len(other.base):
            side = "right" if other.level.number > tier.level.number else "left"
            rank = rank + np.searchsorted(other.base, tier.base, side=side)  # type: ignore[call-overload]
    return rank


def _one_by_one(sizes: U64Array, tables: Tables) -> U64Array:
    found: list[tuple[int, int]] = []
    try:
        for size_lg2 in sizes.tolist():
            found.append((tables.allocate(size_lg2), size_lg2))  # noqa: PERF401 - what is there already is given back
    except BaseException:
        for pa, size_lg2 in reversed(found):
            tables.free(pa, size_lg2)
        raise
    return np.array([pa for pa, _ in found], dtype=np.uint64)


def fills_of(fmt: PageFormat, tier: Tier, rows: Rows, below: Tier | None) -> Fills:
    """What fills the tables of a tier: leaves in rows, and pointers to the tables below."""
    level = tier.level
    first, increment, uneven = _ramps(fmt, level.lo, rows)
    run_pa = tier.pa_of(rows.iova)
    entry_pa, word = _NONE, _NONE
    if uneven.any():
        which, step = repeated(rows.entries[uneven])
        oa = rows.oa[uneven][which] + (step << u64(level.lo))
        entry_pa = run_pa[uneven][which] + (step << u64(3))
        one = len(rows.attrs) == 1
        word = leaf_words(fmt, level.lo, oa, rows.attrs if one else rows.attrs[uneven][which])
        run_pa, first, increment = run_pa[~uneven], first[~uneven], increment[~uneven]
        rows = rows.take(~uneven)
    if below is not None and len(tier.children):
        pointers = as_words(fmt.table(level.number, below.pa[below.index_of(tier.children)]))
        entry_pa = np.concatenate([entry_pa, tier.pa_of(tier.children)])
        word = np.concatenate([word, pointers])
    return Fills(level.table_lg2, tier.pa, run_pa, rows.entries, first, increment, entry_pa, word)


def _ramps(fmt: PageFormat, lo: int, rows: Rows) -> tuple[U64Array, U64Array, BoolArray]:
    """First word and increment of each row, and which do not rise evenly: an address may lie in two fields."""
    size = u64(1 << lo)
    first = leaf_words(fmt, lo, rows.oa, rows.attrs)
    single = rows.entries == u64(1)
    increment = leaf_words(fmt, lo, rows.oa + size, rows.attrs) - first
    final = rows.entries - u64(1)
    last = leaf_words(fmt, lo, rows.oa + (final << u64(lo)), rows.attrs)
    uneven = last != first + final * increment
    if single.any():
        increment = np.where(single, u64(0), increment)
        uneven &= ~single
    return first, increment, uneven


__all__ = ["Rows", "Tier", "allocate", "fills_of"]

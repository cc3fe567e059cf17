"""Cutting leaves, level by level: new tables that say what the leaf said, and what changes in them afterwards.

A cut changes no translation, so each new table is one ramp, with pointers where an entry is divided again: where an
edge lies inside it, where leaves of its size are not allowed, or where what it shall lead to does not fit.
"""

from collections.abc import Iterator

import numpy as np
from attrs import define, field

from hitless.bits import U64Array, as_words
from hitless.columns import Ranges
from hitless.pagetable import Level, PageFormat
from hitless.plan import Folds
from hitless.refresh.batch import NotBatched
from hitless.refresh.batch.changes import ChangeBatch, Targets, folds_between
from hitless.refresh.batch.leaves import Changed, Leaves, Pieces
from hitless.refresh.batch.spans import Index, aligned, by_entry, fresh, merged, middles, overlay, repeated, u64
from hitless.refresh.batch.tables import Rows, Tier
from hitless.refresh.batch.words import leaf_words

_NONE: U64Array = np.empty(0, dtype=np.uint64)


@define(eq=False)
class Cutting:
    """The new tables of leaves that are cut.

    Args:
        leaves, pieces: what is cut; pieces of these leaves only.
        tiers: new tables, highest level first.
    """

    fmt: PageFormat
    allowed: frozenset[int]
    leaves: Leaves
    pieces: Pieces
    tiers: list[Tier] = field(factory=list)

    def lay_out(self) -> None:
        """Find out which tables are needed.

        Raises:
            NotBatched: no leaf that is allowed is small enough.
        """
        inside: U64Array = _NONE
        for level in reversed(self.fmt.levels):
            base = merged(inside, self.leaves.iova[self.leaves.number == u64(level.number + 1)])
            if len(base):
                inside = self._divided(level, base)
                self.tiers.append(Tier(level, base, inside))
        if len(inside):
            raise NotBatched

    def _divided(self, level: Level, base: U64Array) -> U64Array:
        """The first IOVAs of entries of a level that lead to tables below."""
        shift, ones = u64(level.lo), u64((1 << level.lo) - 1)
        if level.lo not in self.allowed:
            return (base[:, None] + (np.arange(1 << level.bits, dtype=np.uint64) << shift)).ravel()
        edges = self.pieces.start
        if not (self.leaves.number > u64(level.number)).all():
            edges = edges[np.repeat(self.leaves.number > u64(level.number), self.pieces.counts)]
        if not level.number:
            if np.bitwise_or.reduce(edges, initial=u64(0)) & ones:
                raise NotBatched
            parts = []
        else:
            parts = [_with_edges(edges, level)]
        changed = self.pieces.changed
        if len(changed) and self._longest >= ones:
            large = (changed.last - changed.start >= ones) & changed.mapped
            misfit = np.flatnonzero(large & (((changed.later_oa ^ changed.start) & ones) != 0))
            misfit = misfit[self.leaves.number[changed.leaf[misfit]] > u64(level.number)]
            found = middles(level.lo, changed.start[misfit], changed.last[misfit])
            which, step = repeated(found.entries)
            parts.append(found.entry[which] + step)
        return merged(*parts) << shift

    @property
    def _longest(self) -> np.uint64:
        """The length of the longest span that changes, less one."""
        changed = self.pieces.changed
        longest: np.uint64 = np.max(changed.last - changed.start, initial=u64(0))
        return longest

    # -- what the tables hold

    def rows(self, tier: Tier) -> Rows:
        """All of each table, as it says what the leaf said; none where leaves of this size are not allowed."""
        level = tier.level
        if level.lo not in self.allowed:
            return Rows(_NONE, _NONE, _NONE, _NONE)
        leaf = self._leaf_of(tier.base)
        oa = tier.base + self.leaves.shift[leaf]
        entries = np.full(len(tier.base), 1 << level.bits, dtype=np.uint64)
        return Rows(tier.base, entries, oa, self.attrs if len(self.attrs) == 1 else self.attrs[leaf])

    @property
    def attrs(self) -> U64Array:
        """The attributes of the leaves: one for all if they are alike."""
        attrs = self.leaves.attrs
        return attrs[:1] if len(attrs) and (attrs == attrs[0]).all() else attrs

    def _leaf_of(self, iova: U64Array) -> Index:
        found: Index = np.searchsorted(self.leaves.iova, iova, side="right") - 1
        return found

    def links(self) -> Iterator[ChangeBatch]:
        """The stores that put the tables in place of the leaves."""
        folds = self._folds()
        for tier in self.tiers:
            number = tier.level.number + 1
            which = np.flatnonzero(self.leaves.number == u64(number))
            if len(which):
                leaves = self.leaves.take(which)
                new = as_words(self.fmt.table(number, tier.pa[tier.index_of(leaves.iova)]))
                mine = folds_between(folds, folds.first[which], folds.first[which + 1])
                yield ChangeBatch("cut", self.fmt.levels[number], leaves.pa, leaves.iova, leaves.word, new, folds=mine)

    def _folds(self) -> Folds:
        """The leaf entries of the new tables, by leaf that is cut."""
        parts = [self._leaf_rows(tier) for tier in self.tiers if tier.level.lo in self.allowed]
        iova, pa, entries = (np.concatenate([part[i] for part in parts] or [_NONE]) for i in range(3))
        if len(parts) > 1:
            order = np.argsort(iova, kind="stable")
            iova, pa, entries = iova[order], pa[order], entries[order]
        first = np.searchsorted(iova, self.leaves.iova, side="left")
        return Folds(np.append(first, len(iova)).astype(np.uint64), pa, entries)

    def _leaf_rows(self, tier: Tier) -> tuple[U64Array, U64Array, U64Array]:
        """The stretches of entries between pointers: first IOVA, address, number of entries."""
        level = tier.level
        span = u64(1 << level.lo + level.bits)
        if not len(tier.children):
            return tier.base, tier.pa, np.full(len(tier.base), 1 << level.bits, dtype=np.uint64)
        # Between pointers, before the first and behind the last; over several tables, one part in each.
        size = u64(1 << level.lo)
        apart = np.flatnonzero(tier.children[1:] - tier.children[:-1] != size)
        start = np.concatenate([tier.base[:1], tier.children[apart] + size, tier.children[-1:] + size])
        last = np.concatenate([tier.children[:1], tier.children[apart + 1], tier.base[-1:] + span]) - u64(1)
        full = start != last + u64(1)
        parts = by_entry(level.lo + level.bits, start[full], last[full])
        table = tier.index_of(parts.start)
        ours = parts.start - tier.base[table] < span
        start, last, table = parts.start[ours], parts.last[ours], table[ours]
        return start, tier.pa_of(start, table), ((last - start) >> u64(level.lo)) + u64(1)

    # -- what changes in them

    def changed(self) -> Iterator[tuple[Tier, Changed]]:
        """The leaves in the new tables that shall be replaced or wiped, one a row, by level."""
        every = self.pieces.changed
        number = self.leaves.number[every.leaf] if len(set(self.leaves.numbers)) > 1 else None
        left: Changed | None = None
        for tier in self.tiers:
            level = tier.level
            if number is not None:
                here = every.take(number == u64(level.number + 1))
                left = here if left is None else _together(left, here)
            elif left is None:
                left = every
            if level.lo in self.allowed and len(left) and self._longest >= u64((1 << level.lo) - 1):
                found, left = _leaves_of(level, left)
                if len(found):
                    yield tier, found

    def owed(self, ranges: Ranges) -> Iterator[Targets]:
        """What has to be invalidated of unchanged leaves in the new tables that ranges touch."""
        stays = np.flatnonzero(~self.pieces.changes)
        low, high = self.pieces.start[stays], self.pieces.last[stays]
        which, at = overlay(low, high, ranges.start, ranges.last)
        number = self.leaves.number[self.pieces.leaf[stays[which]]]
        low, high = low[which], high[which]  # the piece, as far as it is not laid out yet
        start, last = np.maximum(low, ranges.start[at]), np.minimum(high, ranges.last[at])
        for tier in self.tiers:
            level = tier.level
            if level.lo not in self.allowed or not len(start):
                continue
            mine = number > u64(level.number)
            ones = u64((1 << level.lo) - 1)
            first = (low >> u64(level.lo)) + ((low & ones) != 0)
            stop = (high >> u64(level.lo)) + ((high & ones) == ones)
            has = mine & (stop > first)
            begin, end = first << u64(level.lo), (stop << u64(level.lo)) - u64(1)
            hit = has & (start <= end) & (last >= begin)
            if hit.any():
                a, b = np.maximum(start, begin)[hit] & ~ones, np.minimum(last, end)[hit] | ones
                ours = Ranges(a, b).take(np.argsort(a, kind="stable")).joined()
                yield Targets.uniform(ours.start, ours.last, level.lo, level.number, tables=False)
            heads, tails = has & (start < begin) & (low < begin), has & (last > end) & (high > end)
            rest = ~has
            low, high, start, last, number = (
                np.concatenate(parts)
                for parts in (
                    (low[rest], low[heads], (end + u64(1))[tails]),
                    (high[rest], (begin - u64(1))[heads], high[tails]),
                    (start[rest], start[heads], np.maximum(start, end + u64(1))[tails]),
                    (last[rest], np.minimum(last, begin - u64(1))[heads], last[tails]),
                    (number[rest], number[heads], number[tails]),
                )
            )

    def old_words(self, tier: Tier, changed: Changed) -> U64Array:
        """What entries of changed leaves hold once their tables are linked."""
        attrs = self.attrs
        return leaf_words(self.fmt, tier.level.lo, changed.oa, attrs if len(attrs) == 1 else attrs[changed.leaf])


def _with_edges(edges: U64Array, level: Level) -> U64Array:
    """The numbers of the entries that have sorted, distinct edges inside them: of several, one at most is their own."""
    entries = edges >> u64(level.lo)
    heads = np.flatnonzero(fresh(entries))
    counts = np.diff(np.append(heads, len(edges)))
    found: U64Array = entries[heads[(counts > 1) | ((edges[heads] & u64((1 << level.lo) - 1)) != 0)]]
    return found


def _leaves_of(level: Level, spans: Changed) -> tuple[Changed, Changed]:
    """Spans as leaves of one level, one a row, and what is left of them for tables below."""
    ones = u64((1 << level.lo) - 1)
    fits = ((spans.later_oa ^ spans.start) & ones) == 0
    if not spans.mapped.all():
        fits |= ~spans.mapped
    if fits.all() and aligned(level.lo, spans.start, spans.last):
        counts = ((spans.last - spans.start) >> u64(level.lo)) + u64(1)
        return spans.entries(level.lo, counts), spans.take(np.empty(0, dtype=np.intp))
    parts = middles(level.lo, spans.start, spans.last, fits)
    at = parts.entry << u64(level.lo)
    whole = spans.within(parts.which, at, ((parts.entry + parts.entries) << u64(level.lo)) - u64(1))
    return whole.entries(level.lo, parts.entries), spans.within(parts.rest, parts.start, parts.last)


def _together(one: Changed, other: Changed) -> Changed:
    """Spans of two kinds in the order of their IOVAs."""
    if not len(one) or not len(other):
        return other if not len(one) else one
    columns = ("leaf", "start", "last", "oa", "later_oa", "mapped")
    attrs = one.later_attrs
    if len(attrs) > 1 or not np.array_equal(attrs, other.later_attrs):
        attrs = np.concatenate([np.broadcast_to(each.later_attrs, len(each)) for each in (one, other)])
    leaf, start, last, oa, later_oa, mapped = (
        np.concatenate([getattr(one, name), getattr(other, name)]) for name in columns
    )
    both = Changed(leaf, start, last, oa, later_oa, attrs, mapped)
    return both.take(np.argsort(start, kind="stable"))


__all__ = ["Cutting"]

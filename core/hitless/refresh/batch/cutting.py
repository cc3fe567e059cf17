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
from hitless.refresh.batch.leaves import Leaves, Pieces
from hitless.refresh.batch.spans import Index, merged, middles, overlay, repeated, u64, unique
from hitless.refresh.batch.tables import Rows, Tier
from hitless.refresh.batch.words import leaf_words

_NONE: U64Array = np.empty(0, dtype=np.uint64)
_NOBODY: Index = np.empty(0, dtype=np.intp)


@define(eq=False)
class Changed:
    """Leaves of one level that are replaced or wiped: entries by IOVA, and the piece that each is a part of."""

    level: Level
    iova: U64Array
    piece: Index


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
        pieces = self._above(level)
        edges = pieces.start
        parts = [unique(edges[(edges & ones) != 0] >> shift)]
        large = np.flatnonzero((pieces.last - pieces.start >= ones) & pieces.changes & pieces.mapped)
        misfit = large[((pieces.later_oa[large] ^ pieces.start[large]) & ones) != 0]
        if len(misfit):
            found = middles(level.lo, pieces.start[misfit], pieces.last[misfit])
            which, step = repeated(found.entries)
            parts.append(found.entry[which] + step)
        return merged(*parts) << shift

    def _above(self, level: Level) -> Pieces:
        """The pieces of leaves above a level."""
        above = self.leaves.number > u64(level.number)
        return self.pieces if above.all() else self.pieces.take(above[self.pieces.leaf])

    # -- what the tables hold

    def rows(self, tier: Tier) -> Rows:
        """All of each table, as it says what the leaf said; none where leaves of this size are not allowed."""
        level = tier.level
        if level.lo not in self.allowed:
            return Rows(_NONE, _NONE, _NONE, _NONE)
        leaf = self._leaf_of(tier.base)
        oa = self.leaves.oa[leaf] + (tier.base - self.leaves.iova[leaf])
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
        # A stretch begins with a table or behind a pointer, and reaches up to the next pointer, or the table's end.
        table = tier.index_of(tier.children)
        behind = tier.children + u64(1 << level.lo)
        keep = behind - tier.base[table] != span
        start = merged(tier.base, behind[keep])
        index = tier.index_of(start)
        following = np.searchsorted(tier.children, start, side="left")
        stop = tier.children[np.minimum(following, len(tier.children) - 1)]
        inside = (stop >= start) & (stop - tier.base[index] < span)
        length = np.where(inside, stop - start, tier.base[index] + (span - start))
        full = length != 0
        start, length = start[full], length[full]
        return start, tier.pa_of(start), length >> u64(level.lo)

    # -- what changes in them

    def changed(self) -> Iterator[Changed]:
        """The leaves in the new tables that shall be replaced or wiped, by level."""
        piece = np.flatnonzero(self.pieces.changes)
        number = self.leaves.number[self.pieces.leaf[piece]]
        start, last, inside = _NONE, _NONE, _NOBODY
        for tier in self.tiers:
            level = tier.level
            here = piece[number == u64(level.number + 1)]
            if len(here):
                start, last, inside = _together(
                    (start, last, inside), (self.pieces.start[here], self.pieces.last[here], here)
                )
            if level.lo not in self.allowed or not len(start):
                continue
            ones = u64((1 << level.lo) - 1)
            if not (last - start >= ones).any():
                continue
            away = self.pieces.later_oa[inside] ^ self.pieces.start[inside]
            usable = ((away & ones) == 0) | ~self.pieces.mapped[inside]
            parts = middles(level.lo, start, last, usable)
            if len(parts.which):
                at, of = parts.entry, inside[parts.which]
                if (parts.entries != 1).any():
                    which, step = repeated(parts.entries)
                    at, of = at[which] + step, of[which]
                yield Changed(level, at << u64(level.lo), of)
            start, last, inside = parts.start, parts.last, inside[parts.rest]

    def owed(self, ranges: Ranges) -> Iterator[Targets]:
        """What has to be invalidated of unchanged leaves in the new tables that ranges touch."""
        stays = np.flatnonzero(~self.pieces.changes)
        pieces = self.pieces.take(stays)
        which, at = overlay(pieces.start, pieces.last, ranges.start, ranges.last)
        number = self.leaves.number[pieces.leaf[which]]
        low, high = pieces.start[which], pieces.last[which]  # the piece, as far as it is not laid out yet
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

    def old_words(self, changed: Changed) -> U64Array:
        """What entries of changed leaves hold once their tables are linked."""
        piece, attrs = changed.piece, self.attrs
        oa = self.pieces.oa[piece] + (changed.iova - self.pieces.start[piece])
        if len(attrs) > 1:
            attrs = attrs[self.pieces.leaf[piece]]
        return leaf_words(self.fmt, changed.level.lo, oa, attrs)


def _together(
    one: tuple[U64Array, U64Array, Index], other: tuple[U64Array, U64Array, Index]
) -> tuple[U64Array, U64Array, Index]:
    """Spans of two kinds in the order of their IOVAs."""
    if not len(one[0]):
        return other
    start, last = (np.concatenate([one[i], other[i]]) for i in (0, 1))
    piece = np.concatenate([one[2], other[2]])
    order = np.argsort(start, kind="stable")
    return start[order], last[order], piece[order]


__all__ = ["Changed", "Cutting"]

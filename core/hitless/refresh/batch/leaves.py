"""What becomes of each live leaf that ranges touch: it stays, changes as a whole, or is cut into pieces."""

from collections.abc import Sequence

import numpy as np
from attrs import define, evolve

from hitless.bits import BoolArray, U64Array, as_words
from hitless.pagetable import PageFormat
from hitless.refresh.batch.spans import Index, inserted, merged, repeated, u64, unique
from hitless.refresh.batch.walk import Entries
from hitless.refresh.recipes import SplitRules
from hitless.refresh.target import Segments


@define(eq=False)
class Leaves:
    """Live leaves of all levels, in the order of their IOVAs.

    Args:
        number, lo: of the level; log2 of the size.
        shift: output address minus IOVA.
    """

    number: U64Array
    lo: U64Array
    iova: U64Array
    last: U64Array
    pa: U64Array
    word: U64Array
    shift: U64Array
    attrs: U64Array

    def __len__(self) -> int:
        return len(self.iova)

    def take(self, which: "BoolArray | Index") -> "Leaves":
        """Some of them."""
        if which.dtype == bool and which.all():
            return self
        columns = (self.number, self.lo, self.iova, self.last, self.pa, self.word, self.shift, self.attrs)
        return Leaves(*(each[which] for each in columns))

    @property
    def numbers(self) -> list[int]:
        """The levels that have any, highest first."""
        return sorted(set(self.number.tolist()), reverse=True)

    @classmethod
    def of(cls, fmt: PageFormat, found: Sequence[Entries]) -> "Leaves":
        """The leaves of each level."""
        parts = [_columns(fmt, each) for each in found]
        if not parts:
            return cls(*(np.empty(0, dtype=np.uint64) for _ in range(8)))
        leaves = cls(*(np.concatenate([part[i] for part in parts]) for i in range(8)))
        return leaves if len(parts) == 1 else leaves.take(np.argsort(leaves.iova, kind="stable"))


def _columns(fmt: PageFormat, each: Entries) -> tuple[U64Array, ...]:
    number, lo = each.level.number, each.level.lo
    level, size = (np.full(len(each.pa), value, dtype=np.uint64) for value in (number, lo))
    last = each.iova | u64((1 << lo) - 1)
    oa, attrs = as_words(fmt.leaf_oa(each.word, number)), as_words(fmt.attrs(each.word, number))
    return level, size, each.iova, last, each.pa, each.word, oa - each.iova, attrs


@define(eq=False)
class Changed:
    """Parts of leaves that shall map something else: sorted spans.

    Args:
        leaf: index of the leaf.
        oa: what they map now.
        later_oa, later_attrs: what they shall map, where they are ``mapped``. Attributes: one for all, or one a span.
    """

    leaf: Index
    start: U64Array
    last: U64Array
    oa: U64Array
    later_oa: U64Array
    later_attrs: U64Array
    mapped: BoolArray

    def __len__(self) -> int:
        return len(self.start)

    def take(self, which: "BoolArray | Index") -> "Changed":
        """Some of them."""
        if which.dtype == bool and which.all():
            return self
        attrs = self.later_attrs if len(self.later_attrs) == 1 else self.later_attrs[which]
        start, last, oa, later_oa = (each[which] for each in (self.start, self.last, self.oa, self.later_oa))
        return Changed(self.leaf[which], start, last, oa, later_oa, attrs, self.mapped[which])

    def entries(self, lo: int, counts: U64Array) -> "Changed":
        """Each as so many spans of 2**lo bytes."""
        if (counts == u64(1)).all():
            return self
        which, step = repeated(counts)
        away = step << u64(lo)
        found = self.take(which)
        start = found.start + away
        last = start | u64((1 << lo) - 1)
        return evolve(found, start=start, last=last, oa=found.oa + away, later_oa=found.later_oa + away)

    def within(self, which: "Index", start: U64Array, last: U64Array) -> "Changed":
        """Parts of them: of each the span that it is of, and its ends."""
        found = self if len(which) == len(self) and (which[1:] > which[:-1]).all() else self.take(which)
        if np.array_equal(found.start, start):
            return evolve(found, last=last)
        away = start - found.start
        return Changed(found.leaf, start, last, found.oa + away, found.later_oa + away, found.later_attrs, found.mapped)


@define(eq=False)
class Pieces:
    """Leaves cut at the edges of segments: every edge is one that a leaf may not cross.

    Args:
        start, last: the pieces, sorted.
        counts: how many each leaf has.
        changes: whether a piece does not map yet what it shall map.
        changed: those, in order.
    """

    start: U64Array
    last: U64Array
    counts: Index
    changes: BoolArray
    changed: Changed

    @property
    def leaf(self) -> Index:
        """The leaf of each piece."""
        return np.repeat(np.arange(len(self.counts), dtype=np.intp), self.counts)

    def of(self, which: BoolArray) -> "Pieces":
        """The pieces of some leaves."""
        if which.all():
            return self
        mine = np.repeat(which, self.counts)
        changed = self.changed.take(which[self.changed.leaf])
        changed = evolve(changed, leaf=(np.cumsum(which) - 1)[changed.leaf])
        return Pieces(self.start[mine], self.last[mine], self.counts[which], self.changes[mine], changed)


def pieces_of(fmt: PageFormat, leaves: Leaves, segments: Segments) -> Pieces:
    """All of the leaves, cut at the edges of segments, which lie over all of them."""
    split = _split(segments, leaves)
    first = np.searchsorted(split.start, leaves.iova, side="left")
    stop = np.searchsorted(split.start, leaves.last, side="right")
    counts = stop - first
    if len(leaves) and (first[1:] == stop[:-1]).all():
        split = split.take(slice(int(first[0]), int(stop[-1])))
    else:
        which, step = repeated(counts)
        split = split.take(first[which] + step.astype(np.intp))
    oa = split.start + np.repeat(leaves.shift, counts)
    stays = split.oa == oa
    attrs, same = _compared(fmt, leaves, split, counts)
    if same is not None:
        stays &= same
    if not split.mapped.all():
        stays &= split.mapped
    changes = ~stays
    at = np.flatnonzero(changes)
    leaf = np.repeat(np.arange(len(leaves), dtype=np.intp), counts)[at]
    later_attrs = attrs if len(attrs) == 1 else attrs[at]
    changed = Changed(leaf, split.start[at], split.last[at], oa[at], split.oa[at], later_attrs, split.mapped[at])
    return Pieces(split.start, split.last, counts, changes, changed)


def _split(segments: Segments, leaves: Leaves) -> Segments:
    """Segments cut at the ends of leaves."""
    ends = leaves.last[leaves.last < segments.last[-1]] + u64(1)
    edges = unique(merged(leaves.iova, ends))
    at = np.searchsorted(segments.start, edges, side="right")
    new = edges != segments.start[at - 1]
    at, edges = at[new], edges[new]
    if not len(at):
        return segments
    before = at - 1
    start = inserted(segments.start, at, edges)
    last = np.append(start[1:] - u64(1), segments.last[-1])
    oa = inserted(segments.oa, at, segments.oa[before] + (edges - segments.start[before]))
    attrs = inserted(segments.attrs, at, segments.attrs[before])
    return Segments(start, last, oa, attrs, inserted(segments.mapped, at, segments.mapped[before]))


def _compared(fmt: PageFormat, leaves: Leaves, split: Segments, counts: Index) -> tuple[U64Array, BoolArray | None]:
    """Attributes that pieces shall have, one for all if they are alike, and which are those of their leaf.

    But for what hardware changes. None: all are.
    """
    kept = np.array([~fmt.hardware_set(level.number) & (1 << 64) - 1 for level in fmt.levels], dtype=np.uint64)
    mask = kept[leaves.number.astype(np.intp)]
    ours, attrs = leaves.attrs & mask, split.attrs
    alike = len(attrs) and (attrs == attrs[0]).all()
    if alike and (ours == (attrs[0] & mask)).all():
        return attrs[:1], None
    same = (attrs & np.repeat(mask, counts)) == np.repeat(ours, counts)
    return attrs[:1] if alike else attrs, same


def divided(leaves: Leaves, pieces: Pieces, rules: SplitRules) -> BoolArray:
    """Which leaves cannot stay whole until the refresh."""
    found = (pieces.counts > 1) | (leaves.lo > u64(max(rules.leaf_lg2s)))
    if found.all():
        return found
    changed = pieces.changed.take(~found[pieces.changed.leaf] & pieces.changed.mapped)
    ones = (u64(1) << leaves.lo[changed.leaf]) - u64(1)
    misfit = ((changed.later_oa ^ changed.start) & ones) != 0
    misfit |= ~np.isin(leaves.lo[changed.leaf], np.array(rules.leaf_lg2s, dtype=np.uint64))
    found[changed.leaf[misfit]] = True
    return found


__all__ = ["Changed", "Leaves", "Pieces", "divided", "pieces_of"]

"""What becomes of each live leaf that ranges touch: it stays, changes as a whole, or is cut into pieces."""

from collections.abc import Sequence

import numpy as np
from attrs import define

from hitless.bits import BoolArray, U64Array, as_words
from hitless.pagetable import PageFormat
from hitless.refresh.batch.spans import Index, overlay, u64
from hitless.refresh.batch.walk import Entries
from hitless.refresh.recipes import SplitRules
from hitless.refresh.target import Segments


@define(eq=False)
class Leaves:
    """Live leaves of all levels, in the order of their IOVAs; ``number`` is of the level, ``lo`` log2 of the size."""

    number: U64Array
    lo: U64Array
    iova: U64Array
    last: U64Array
    pa: U64Array
    word: U64Array
    oa: U64Array
    attrs: U64Array

    def __len__(self) -> int:
        return len(self.iova)

    def take(self, which: "BoolArray | Index") -> "Leaves":
        """Some of them."""
        columns = (self.number, self.lo, self.iova, self.last, self.pa, self.word, self.oa, self.attrs)
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
    return level, size, each.iova, last, each.pa, each.word, oa, attrs


@define(eq=False)
class Pieces:
    """Parts of leaves by what becomes of them; every edge is one that a leaf may not cross.

    Args:
        leaf: index of the leaf.
        oa: what it maps now.
        later_oa, later_attrs: what it shall map, where it is ``mapped``.
        changes: whether it does not map that yet.
    """

    leaf: Index
    start: U64Array
    last: U64Array
    oa: U64Array
    later_oa: U64Array
    later_attrs: U64Array
    mapped: BoolArray
    changes: BoolArray

    def __len__(self) -> int:
        return len(self.start)

    def take(self, which: "BoolArray | Index") -> "Pieces":
        """Some of them."""
        if which.dtype == bool and which.all():
            return self
        start, last, oa, later_oa, later_attrs = (
            each[which] for each in (self.start, self.last, self.oa, self.later_oa, self.later_attrs)
        )
        mapped, changes = self.mapped[which], self.changes[which]
        return Pieces(self.leaf[which], start, last, oa, later_oa, later_attrs, mapped, changes)


def pieces_of(fmt: PageFormat, leaves: Leaves, segments: Segments) -> Pieces:
    """All of the leaves, cut at the edges of segments, which lie over all of them."""
    which, at = overlay(leaves.iova, leaves.last, segments.start, segments.last)
    starts = segments.start[at]
    begin = leaves.iova[which]
    start: U64Array = np.maximum(starts, begin)
    last: U64Array = np.minimum(segments.last[at], leaves.last[which])
    oa = leaves.oa[which] + (start - begin)
    later_oa = segments.oa[at] + (start - starts)
    mapped, attrs = segments.mapped[at], segments.attrs[at]
    stays = mapped & (later_oa == oa) & _same_attrs(fmt, leaves, which, attrs)
    return Pieces(which, start, last, oa, later_oa, attrs, mapped, ~stays)


def _same_attrs(fmt: PageFormat, leaves: Leaves, which: Index, attrs: U64Array) -> BoolArray:
    """Whether attributes are those of the leaves but for what hardware changes."""
    kept = np.zeros(len(fmt.levels), dtype=np.uint64)
    for number in leaves.numbers:
        kept[number] = ~u64(fmt.hardware_set(number))
    mask = kept[leaves.number.astype(np.intp)]
    ours = leaves.attrs & mask
    if len(leaves) and (ours == ours[0]).all() and (mask == mask[0]).all():
        return (attrs & mask[0]) == ours[0]  # type: ignore[no-any-return]
    return (attrs & mask[which]) == ours[which]  # type: ignore[no-any-return]


def divided(leaves: Leaves, pieces: Pieces, rules: SplitRules) -> BoolArray:
    """Which leaves cannot stay whole until the refresh."""
    count = np.bincount(pieces.leaf, minlength=len(leaves))
    found = (count > 1) | (leaves.lo > u64(max(rules.leaf_lg2s)))
    whole = np.flatnonzero(~found[pieces.leaf] & pieces.changes & pieces.mapped)
    leaf = pieces.leaf[whole]
    ones = (u64(1) << leaves.lo[leaf]) - u64(1)
    misfit = ((pieces.later_oa[whole] ^ leaves.iova[leaf]) & ones) != 0
    misfit |= ~np.isin(leaves.lo[leaf], np.array(rules.leaf_lg2s, dtype=np.uint64))
    found[leaf[misfit]] = True
    return found


__all__ = ["Leaves", "Pieces", "divided", "pieces_of"]

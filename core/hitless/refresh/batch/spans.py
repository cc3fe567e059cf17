"""Sorted spans on arrays: expanded by entry, cut at other spans' edges, parted into middles; ``last`` is inclusive."""

from itertools import pairwise
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from hitless.bits import BoolArray, U64Array

Index: TypeAlias = NDArray[np.intp]
S = TypeVar("S", bound=np.generic)
_FEW = 1024
_KEPT = 31 << 20
_DENSE = 16
"""So many times as many entries may a look-up table have as there are values in it."""


def u64(value: int) -> np.uint64:
    """A word beside arrays of words."""
    return np.uint64(value)


def repeated(counts: NDArray[Any]) -> tuple[Index, U64Array]:
    """``counts[i]`` rows for each ``i``: which, and the number of the row among its own."""
    counts = counts.astype(np.intp)
    which = np.repeat(np.arange(len(counts), dtype=np.intp), counts)
    step = np.arange(len(which), dtype=np.intp) - (np.cumsum(counts) - counts)[which]
    return which, step.view(np.uint64)


def fresh(values: NDArray[Any]) -> BoolArray:
    """Which of sorted values differ from the one before."""
    found = np.ones(len(values), dtype=bool)
    np.not_equal(values[1:], values[:-1], out=found[1:])
    return found


def unique(values: U64Array) -> U64Array:
    """Sorted values, each once."""
    return values[fresh(values)]


def merged(*parts: U64Array) -> U64Array:
    """Values of several sorted arrays, sorted."""
    full = [part for part in parts if len(part)]
    if len(full) < 2:
        return full[0] if full else np.empty(0, dtype=np.uint64)
    return np.sort(np.concatenate(full), kind="stable")


def inserted(values: NDArray[S], at: Index, new: NDArray[S]) -> NDArray[S]:
    """Values with new ones before those at sorted indices."""
    if len(at) > _FEW:
        return np.insert(values, at, new)
    parts = [values[: at[0]]] if len(at) else [values]
    for i, (begin, end) in enumerate(pairwise([*at.tolist(), len(values)])):
        parts += [new[i : i + 1], values[begin:end]]
    return np.concatenate(parts)


def keep_freed_memory() -> None:
    """Let arrays that come and go reuse memory: the C library gives back what is freed, and a page costs 2 us anew.

    From the freeing of one large block on it keeps up to twice as much (M_TRIM_THRESHOLD, mallopt(3)).
    """
    np.empty(_KEPT, dtype=np.uint8)


class ByEntry(NamedTuple):
    """Spans cut at the edges of entries: of each part its entry number, ends, and the span it is of (None: its own)."""

    entry: U64Array
    start: U64Array
    last: U64Array
    which: Index | None


def by_entry(lo: int, start: U64Array, last: U64Array) -> ByEntry:
    """Spans by the entries of 2**lo bytes that they touch."""
    shift = u64(lo)
    first, final = start >> shift, last >> shift
    if np.array_equal(first, final):
        return ByEntry(first, start, last, None)
    which, step = repeated(final - first + u64(1))
    entry = first[which] + step
    at = entry << shift
    return ByEntry(entry, np.maximum(start[which], at), np.minimum(last[which], at | u64((1 << lo) - 1)), which)


def overlay(start: U64Array, last: U64Array, edges: U64Array, ends: U64Array) -> tuple[Index, Index]:
    """Sorted spans laid over others: each pair that has something in common, as two index arrays."""
    first = np.searchsorted(ends, start, side="left")
    stop = np.searchsorted(edges, last, side="right")
    which, step = repeated(np.maximum(stop - first, 0))
    return which, first[which] + step.astype(np.intp)


def find(values: U64Array, wanted: U64Array, shift: int) -> Index:
    """The index, among sorted distinct multiples of 2**shift, of the one that each wanted value lies in or behind."""
    if not len(values) or not len(wanted):
        return np.zeros(len(wanted), dtype=np.intp)
    base = values[0] >> u64(shift)
    span = int(values[-1] >> u64(shift)) - int(base) + 1
    if span > _DENSE * len(values) or len(wanted) < _DENSE:
        at: Index = np.searchsorted(values, wanted, side="right") - 1
        return at
    index: Index = np.zeros(span, dtype=np.intp)
    index[((values >> u64(shift)) - base).astype(np.intp)] = np.arange(len(values))
    found: Index = index[((wanted >> u64(shift)) - base).astype(np.intp)]
    return found


def aligned(lo: int, start: U64Array, last: U64Array) -> bool:
    """Whether each span is made of whole entries of 2**lo bytes."""
    ones = u64((1 << lo) - 1)
    inside = np.bitwise_or.reduce(start, initial=u64(0)) | ~np.bitwise_and.reduce(last, initial=~u64(0))
    return not inside & ones


class Middles(NamedTuple):
    """Spans parted into aligned middles and rests.

    Args:
        which, entry, entries: spans that have a middle: number of its first entry, and how many entries.
        rest, start, last: what is left: the span that each part is of, and its ends.
    """

    which: Index
    entry: U64Array
    entries: U64Array
    rest: Index
    start: U64Array
    last: U64Array


def middles(lo: int, start: U64Array, last: U64Array, usable: BoolArray | None = None) -> Middles:
    """The whole entries of 2**lo bytes in each span; where it is not usable, all of it is rest."""
    shift, ones = u64(lo), u64((1 << lo) - 1)
    at, end = start & ones, last & ones
    first = (start >> shift) + (at != 0)
    stop = (last >> shift) + (end == ones)
    has = stop > first
    if usable is not None:
        has &= usable
    if has.all() and not at.any() and (end == ones).all():
        none = np.empty(0, dtype=np.uint64)
        return Middles(np.arange(len(start)), first, stop - first, np.empty(0, dtype=np.intp), none, none)
    which = np.flatnonzero(has)
    first, stop = first[which], stop[which]
    whole = np.flatnonzero(~has)
    heads, tails = at[which] != 0, end[which] != ones
    rest = np.concatenate([whole, which[heads], which[tails]])
    starts = np.concatenate([start[whole], start[which[heads]], (stop << shift)[tails]])
    lasts = np.concatenate([last[whole], ((first << shift) - u64(1))[heads], last[which[tails]]])
    if len(which):
        order = np.argsort(starts, kind="stable")
        rest, starts, lasts = rest[order], starts[order], lasts[order]
    return Middles(which, first, stop - first, rest, starts, lasts)

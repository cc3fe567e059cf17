"""Leaves, many at a time, and the merged ranges that they make."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from hitless.bits import U64Array
from hitless.inspect.entries import KindArray


class Leaves(NamedTuple):
    """Leaf entries in the order of their IOVAs; ``sizes`` are in bytes, of each entry alone."""

    iovas: U64Array
    sizes: U64Array
    pas: U64Array
    kinds: KindArray

    def at(self, which: Any) -> "Leaves":
        """Some of them: a slice, a mask, or indices."""
        return Leaves(self.iovas[which], self.sizes[which], self.pas[which], self.kinds[which])

    @classmethod
    def of(cls, parts: Sequence["Leaves"]) -> "Leaves":
        """The leaves of several parts, one after the other."""
        iovas, sizes, pas, kinds = zip(*parts, strict=True)
        return cls(np.concatenate(iovas), np.concatenate(sizes), np.concatenate(pas), np.concatenate(kinds))


NOTHING = Leaves(*(np.zeros(0, np.uint64),) * 3, np.zeros(0, np.int32))


class Range(NamedTuple):
    """IOVAs ``[iova, iova + size)`` that lead to ``pa`` and up, by leaves of one kind (its number)."""

    iova: int
    size: int
    pa: int
    kind: int


def joined(chunks: Iterable[Leaves]) -> Iterator[Leaves]:
    """The same with neighbours joined: what follows seamlessly, in both spaces, and is of one kind, is one."""
    last: Range | None = None
    for chunk in chunks:
        iovas, sizes, pas, kinds = chunk
        if not iovas.size:
            continue
        apart = np.ones(iovas.size, np.bool_)
        apart[1:] = (iovas[1:] != iovas[:-1] + sizes[:-1]) | (pas[1:] != pas[:-1] + sizes[:-1])
        apart[1:] |= kinds[1:] != kinds[:-1]
        starts = np.flatnonzero(apart)
        found = Leaves(iovas[starts], np.add.reduceat(sizes, starts), pas[starts], kinds[starts])
        if last is not None and _follows(last, found):
            found.iovas[0], found.pas[0] = last.iova, last.pa
            found.sizes[0] += np.uint64(last.size)
        elif last is not None:
            yield _one(last)
        last = _last(found)
        if found.iovas.size > 1:
            yield found.at(slice(0, -1))
    if last is not None:
        yield _one(last)


def ranges(chunks: Iterable[Leaves]) -> Iterator[Range]:
    """Joined leaves one by one."""
    for chunk in joined(chunks):
        yield from map(Range, *(each.tolist() for each in chunk))


def _follows(last: Range, found: Leaves) -> bool:
    first = Range(int(found.iovas[0]), 0, int(found.pas[0]), int(found.kinds[0]))
    return first == Range(last.iova + last.size, 0, last.pa + last.size, last.kind)


def _last(found: Leaves) -> Range:
    return Range(*(int(each[-1]) for each in found))


def _one(each: Range) -> Leaves:
    iova, size, pa = (np.array([value], np.uint64) for value in each[:3])
    return Leaves(iova, size, pa, np.array([each.kind], np.int32))

"""Many rows of one kind as columns, a uint64 array each: what batches work on instead of lists of objects."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Generic, Self, TypeAlias, TypeVar, overload

import numpy as np
from attrs import define, fields
from numpy.typing import NDArray

from hitless.bits import U64Array, as_words

R = TypeVar("R")
Places: TypeAlias = NDArray[np.intp]
"""Indices of rows."""


@define(eq=False)
class Columns(Sequence[R], Generic[R]):
    """Rows of one kind, each column an array of one length; a row is made when somebody asks for it.

    A class lists its columns as attrs fields and says in :meth:`_rows` how a row is made of Python ints. Ends of ranges
    are columns named ``last``, inclusive, since the end of a 64-bit space is 2**64.
    """

    @abstractmethod
    def _rows(self) -> Iterator[R]:
        """Every row, in order."""

    def _columns(self) -> list[U64Array]:
        return [getattr(self, each.name) for each in fields(type(self))]

    def take(self, which: "np.ndarray[tuple[int, ...], np.dtype[np.generic]] | slice") -> Self:
        """The rows that an index array, a mask or a slice picks."""
        return type(self)(*(each[which] for each in self._columns()))

    @classmethod
    def together(cls, parts: Sequence[Self]) -> Self:
        """All rows of one or more, in order."""
        if len(parts) == 1:
            return parts[0]
        return cls(*(np.concatenate(each) for each in zip(*(part._columns() for part in parts), strict=True)))  # noqa: SLF001

    def __len__(self) -> int:
        return len(self._columns()[0])

    def __iter__(self) -> Iterator[R]:
        return self._rows()

    @overload
    def __getitem__(self, at: int) -> R: ...

    @overload
    def __getitem__(self, at: slice) -> Self: ...

    def __getitem__(self, at: int | slice) -> R | Self:
        if isinstance(at, slice):
            return self.take(at)
        index = at + len(self) if at < 0 else at
        if not 0 <= index < len(self):
            raise IndexError(f"row {at} of {len(self)}")
        return next(self.take(slice(index, index + 1))._rows())  # noqa: SLF001 - its own class

    def __eq__(self, other: object) -> bool:
        """Equal to any sequence of the same rows."""
        if other is self:
            return True
        if isinstance(other, type(self)):
            return all(np.array_equal(a, b) for a, b in zip(self._columns(), other._columns(), strict=True))
        if isinstance(other, Columns | tuple | list):
            return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]


@define(eq=False)
class Ranges(Columns[tuple[int, int]]):
    """Ranges; a row is half-open: (start, end)."""

    start: U64Array
    last: U64Array

    def _rows(self) -> Iterator[tuple[int, int]]:
        return ((start, last + 1) for start, last in zip(self.start.tolist(), self.last.tolist(), strict=True))

    @classmethod
    def of(cls, ranges: Iterable[tuple[int, int]]) -> "Ranges":
        """Columns of half-open ranges."""
        found = list(ranges)
        return cls(words(start for start, _ in found), words(end - 1 for _, end in found))

    @classmethod
    def each(cls, ranges: "Iterable[tuple[int, int]] | U64Array") -> "Ranges":
        """Columns of half-open ranges, or of an array with a row for each.

        Raises:
            ValueError: the array is not one of pairs.
        """
        if isinstance(ranges, Ranges):
            return ranges
        if not isinstance(ranges, np.ndarray):
            return cls.of(ranges)
        if ranges.ndim != 2 or ranges.shape[1] != 2:
            raise ValueError(f"ranges are an array of shape (n, 2), not {ranges.shape}")
        start, end = (np.ascontiguousarray(ranges[:, column], dtype=np.uint64) for column in (0, 1))
        return cls(start, end - np.uint64(1))

    def ordered(self) -> "Ranges":
        """Sorted by start."""
        if (self.start[1:] >= self.start[:-1]).all():
            return self
        return self.take(order(self.start))

    def cut(self, bounds: "Ranges") -> "tuple[Places, Places, Ranges]":
        """The parts that sorted, disjoint bounds cut ranges into; what lies in no bound is left out.

        Returns:
            of each part: which range, which bound, and the part; in the order of the ranges.
        """
        first = np.searchsorted(bounds.last, self.start)
        counts = np.searchsorted(bounds.start, self.last, "right") - first
        if (counts == 1).all():
            which, bound, whole = np.arange(len(self)), first, self
        else:
            which, bound = np.repeat(np.arange(len(self)), counts), spread(first, counts)
            whole = self.take(which)
        start, last = bounds.start[bound], bounds.last[bound]
        return which, bound, Ranges(np.maximum(whole.start, start, out=start), np.minimum(whole.last, last, out=last))

    def joined(self) -> "Ranges":
        """Sorted ranges (by start), with those that overlap or touch as one."""
        reach = self.last
        if not (self.start[1:] > reach[:-1]).all():
            reach = np.maximum.accumulate(reach)
        # Before the last word of the space there is always room for one more.
        apart = (self.start[1:] > reach[:-1]) & (self.start[1:] - reach[:-1] > np.uint64(1))
        if apart.all():
            return self
        edges = np.flatnonzero(apart)
        return Ranges(self.start[np.append(0, edges + 1)], reach[np.append(edges, len(self) - 1)])


def order(values: U64Array) -> Places:
    """The places of words in ascending order; equal ones stay in theirs.

    Words differ in few bits of a kind, such as page numbers; each 16 of those bits are one pass of a radix sort.
    """
    found = np.arange(len(values))
    if not len(values):
        return found
    keys = values - values.min()
    differ = int(np.bitwise_or.reduce(keys))
    lowest = max((differ & -differ).bit_length() - 1, 0)
    for shift in range(lowest, differ.bit_length(), 16):
        digits = (keys >> np.uint64(shift)).astype(np.uint16)
        found = found[np.argsort(digits[found], kind="stable")]
    return found


def distinct(values: U64Array) -> list[int]:
    """The distinct words among many, in ascending order; fast where there are one or two."""
    if not len(values):
        return []
    low, high = values.min(), values.max()
    if low == high:
        return [int(low)]
    if high - low == 1:
        return [int(low), int(high)]
    found: list[int] = np.unique(values).tolist()
    return found


def spread(first: Places, counts: Places) -> Places:
    """``first[i]``, ``first[i] + 1``, ... so many of them as ``counts[i]`` says, one ``i`` after the other."""
    return np.arange(counts.sum()) + np.repeat(first - np.cumsum(counts) + counts, counts)


@define(eq=False)
class Blocks(Columns[tuple[int, int]]):
    """Naturally aligned blocks of memory; a row is (address, size_lg2)."""

    pa: U64Array
    size_lg2: U64Array

    def _rows(self) -> Iterator[tuple[int, int]]:
        return zip(self.pa.tolist(), self.size_lg2.tolist(), strict=True)


def words(values: Iterable[int]) -> U64Array:
    """A uint64 array of ints."""
    return as_words(np.fromiter(values, dtype=np.uint64))

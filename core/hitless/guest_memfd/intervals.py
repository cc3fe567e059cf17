"""A map from ``[0, end)`` to ints, kept as the places where the value changes."""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator

import numpy as np

from hitless.bits import BoolArray, U64Array
from hitless.columns import Places, spread, words

SPACE_END = 1 << 52
"""Pages of a 64-bit space."""
_CHUNK = 2048
_ONE_BY_ONE = 64
"""A batch is set or asked one by one where the map has more than so many runs a range: merging columns costs so much
less for each."""


class IntervalMap:
    """Ints of 64 bits over ``[0, end)``; equal neighbours are always one run.

    Runs are two sorted arrays, where each starts and what it holds, cut into chunks so that setting
    one shifts little. Asking and setting cost about a microsecond each, with 100,000 runs too, and
    tens of nanoseconds in a batch. A copy shares the chunks until one of the two changes them. Not
    safe for threads that set.

    Args:
        default: the value of everything at first.
        end: where the space ends; by default that of 64-bit addresses in pages of 4 KiB.
    """

    # Chunks are never empty, and the first run of a chunk starts where `_firsts` says. A chunk that is not `_mine`
    # is shared with a copy, and is replaced before it changes.
    __slots__ = ("_end", "_firsts", "_mine", "_starts", "_values")

    def __init__(self, default: int, end: int = SPACE_END) -> None:
        if end <= 0:
            raise ValueError(f"a map over [0, {end}) holds nothing")
        self._end = end
        self._firsts = [0]
        self._starts = [array("Q", (0,))]
        self._values = [array("Q", (default,))]
        self._mine = bytearray(b"\1")

    @property
    def end(self) -> int:
        """Where the space ends."""
        return self._end

    @property
    def transitions(self) -> list[tuple[int, int]]:
        """Where each run starts, and its value; the first starts at 0."""
        return [(start, value) for start, _, value in self.runs(0, self._end)]

    def get(self, at: int) -> int:
        """The value at a place; IndexError outside ``[0, end)``."""
        if not 0 <= at < self._end:
            raise IndexError(f"{at:#x} is not in [0, {self._end:#x})")
        chunk = bisect_right(self._firsts, at) - 1
        return self._values[chunk][bisect_right(self._starts[chunk], at) - 1]

    def set(self, start: int, end: int, value: int) -> None:
        """Give ``[start, end)`` one value; an empty range changes nothing."""
        self._check(start, end)
        if start == end:
            return
        # From the chunk of the left neighbour, which decides whether runs join, to that of `end`.
        chunk = bisect_left(self._firsts, start) - 1 if start else 0
        beyond = bisect_right(self._firsts, end, chunk)
        if beyond - chunk > 1:
            starts, values = self._joined(chunk, beyond)
        else:
            if not self._mine[chunk]:
                self._own(chunk)
            starts, values = self._starts[chunk], self._values[chunk]
        # What starts in [start, end] is replaced.
        first = bisect_left(starts, start)
        last = bisect_right(starts, end, first)
        new_starts, new_values = [], []
        if not first or values[first - 1] != value:
            new_starts.append(start)
            new_values.append(value)
        if end < self._end and (after := values[last - 1]) != value:
            new_starts.append(end)
            new_values.append(after)
        if new_starts:
            starts[first:last] = array("Q", new_starts)
            values[first:last] = array("Q", new_values)
        else:
            del starts[first:last]
            del values[first:last]
        if beyond - chunk > 1 or len(starts) > _CHUNK:
            self._replace(chunk, beyond, starts, values)

    def set_many(self, starts: U64Array, ends: U64Array, values: U64Array | int) -> None:
        """Give each of many ranges a value: sorted, disjoint, none empty.

        Args:
            starts: of half-open ranges.
            ends: of the same.
            values: one for each, or one for all.
        """
        if not len(starts):
            return
        low, high = int(starts[0]), int(ends[-1])
        self._check(low, high)
        chunk = bisect_left(self._firsts, low) - 1 if low else 0
        beyond = bisect_right(self._firsts, high, chunk)
        if len(starts) * _ONE_BY_ONE < (beyond - chunk) * (_CHUNK // 2):
            held = [values] * len(starts) if isinstance(values, int) else values.tolist()
            for start, end, value in zip(starts.tolist(), ends.tolist(), held, strict=True):
                self.set(start, end, value)
            return
        self._replace(chunk, beyond, *_overlaid(*self._views(chunk, beyond), starts, ends, values, self._end))

    def runs(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """The runs of ``[start, end)`` in order, as (start, end, value), cut off at both ends.

        They are those of the moment of the call, whatever is set while they are gone through.
        """
        self._check(start, end)
        if start == end:
            return iter(())
        _, stop, value = self._run(start)
        if stop >= end:
            return iter(((start, end, value),))
        chunk = bisect_right(self._firsts, start) - 1
        beyond = bisect_left(self._firsts, end, chunk)
        first = bisect_right(self._starts[chunk], start) - 1
        last = bisect_left(self._starts[beyond - 1], end)
        bounds: list[int] = []
        held: list[int] = []
        for each in range(chunk, beyond):
            part = slice(first if each == chunk else 0, last if each == beyond - 1 else None)
            bounds += self._starts[each][part]
            held += self._values[each][part]
        bounds[0] = start
        bounds.append(end)
        return zip(bounds[:-1], bounds[1:], held, strict=True)

    def columns(self, start: int, end: int) -> tuple[U64Array, U64Array]:
        """The runs of ``[start, end)`` as arrays, where each starts and its value; the first starts at ``start``."""
        self._check(start, end)
        if start == end:
            return words(()), words(())
        chunk = bisect_right(self._firsts, start) - 1
        beyond = bisect_left(self._firsts, end, chunk)
        starts, values = self._views(chunk, beyond)
        part = slice(bisect_right(self._starts[chunk], start) - 1, int(np.searchsorted(starts, np.uint64(end))))
        starts, values = starts[part], values[part]
        if beyond - chunk == 1:
            starts, values = starts.copy(), values.copy()
        starts[0] = start
        return starts, values

    def get_many(self, places: U64Array) -> U64Array:
        """The value at each of many places, in any order."""
        return self.runs_at(places)[1]

    def runs_at(self, places: U64Array) -> tuple[U64Array, U64Array]:
        """Of the runs that hold many places, in any order: where each ends, and its value."""
        if not len(places):
            return words(()), words(())
        low, high = int(places.min()), int(places.max())
        self._check(low, high + 1)
        chunk, beyond = bisect_right(self._firsts, low) - 1, bisect_right(self._firsts, high)
        if len(places) * _ONE_BY_ONE < (beyond - chunk) * (_CHUNK // 2):
            found = [self._run(at) for at in places.tolist()]
            return words(end for _, end, _ in found), words(value for _, _, value in found)
        starts, values = self._views(chunk, beyond)
        stop = self._firsts[beyond] if beyond < len(self._firsts) else self._end
        after = np.searchsorted(starts, places, "right")
        return np.append(starts, np.uint64(stop))[after], values[after - 1]

    def count(self, start: int, end: int) -> int:
        """How many runs ``[start, end)`` has."""
        self._check(start, end)
        if start == end:
            return 0
        chunk = bisect_right(self._firsts, start) - 1
        beyond = bisect_left(self._firsts, end, chunk)
        first = bisect_right(self._starts[chunk], start) - 1
        last = bisect_left(self._starts[beyond - 1], end)
        return sum(map(len, self._starts[chunk : beyond - 1])) + last - first

    def find(self, start: int, end: int, value: int) -> Iterator[tuple[int, int]]:
        """The runs of ``[start, end)`` that have the value, as (start, end), cut off at both ends."""
        return ((low, high) for low, high, held in self.runs(start, end) if held == value)

    def nearest(self, at: int, value: int, start: int, end: int) -> tuple[int, int] | None:
        """A run with the value near ``at``, cut off at ``[start, end)``; None if there is none in it.

        The run that contains ``at`` itself, else the one fewest runs away; of two, the later one.
        """
        self._check(start, end)
        if not start <= at < end:
            raise IndexError(f"{at:#x} is not in [{start:#x}, {end:#x})")
        above: tuple[int, int, int] | None = self._run(at)
        below = above
        while above or below:
            for low, high, held in filter(None, (above, below)):
                if held == value:
                    return max(low, start), min(high, end)
            above = self._run(above[1]) if above and above[1] < end else None
            below = self._run(below[0] - 1) if below and below[0] > start else None
        return None

    def run(self, at: int) -> tuple[int, int]:
        """The run that holds a place, as (start, end); IndexError outside ``[0, end)``."""
        if not 0 <= at < self._end:
            raise IndexError(f"{at:#x} is not in [0, {self._end:#x})")
        return self._run(at)[:2]

    def uniform(self, start: int, end: int) -> bool:
        """Whether all of ``[start, end)`` has one value; an empty range has."""
        self._check(start, end)
        return start == end or self._run(start)[1] >= end

    def copy(self) -> "IntervalMap":
        """A map with the same values that changes on its own; costs a few references for each chunk."""
        twin = IntervalMap(0, self._end)
        self._mine = bytearray(len(self._firsts))
        twin._firsts = self._firsts.copy()
        twin._starts = self._starts.copy()
        twin._values = self._values.copy()
        twin._mine = bytearray(len(self._firsts))
        return twin

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, IntervalMap):
            return NotImplemented
        if self._end != other._end or len(self) != len(other):
            return False
        mine, others = self.columns(0, self._end), other.columns(0, self._end)
        return all(np.array_equal(a, b) for a, b in zip(mine, others, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __len__(self) -> int:
        """The number of runs."""
        return sum(map(len, self._starts))

    def __repr__(self) -> str:
        runs = ", ".join(f"{start:#x}: {value}" for start, value in self.transitions[:8])
        more = f", and {len(self) - 8} more" if len(self) > 8 else ""
        return f"IntervalMap({{{runs}{more}}}, end={self._end:#x})"

    def _run(self, at: int) -> tuple[int, int, int]:
        """The run that holds a place, as (start, end, value)."""
        chunk = bisect_right(self._firsts, at) - 1
        starts = self._starts[chunk]
        run = bisect_right(starts, at) - 1
        if run + 1 < len(starts):
            end = starts[run + 1]
        else:
            end = self._firsts[chunk + 1] if chunk + 1 < len(self._firsts) else self._end
        return starts[run], end, self._values[chunk][run]

    def _own(self, chunk: int) -> None:
        """A chunk that nobody shares."""
        self._starts[chunk] = self._starts[chunk][:]
        self._values[chunk] = self._values[chunk][:]
        self._mine[chunk] = 1

    def _joined(self, chunk: int, beyond: int) -> "tuple[array[int], array[int]]":
        """Several chunks as one, of its own."""
        starts, values = array("Q"), array("Q")
        for each in range(chunk, beyond):
            starts += self._starts[each]
            values += self._values[each]
        return starts, values

    def _views(self, chunk: int, beyond: int) -> tuple[U64Array, U64Array]:
        """Several chunks as arrays; of one, those look at it, so that it must not change while they live."""
        if beyond - chunk == 1:
            return np.frombuffer(self._starts[chunk], np.uint64), np.frombuffer(self._values[chunk], np.uint64)
        starts = np.concatenate([np.frombuffer(each, np.uint64) for each in self._starts[chunk:beyond]])
        values = np.concatenate([np.frombuffer(each, np.uint64) for each in self._values[chunk:beyond]])
        return starts, values

    def _replace(
        self, chunk: int, beyond: int, starts: "array[int] | U64Array", values: "array[int] | U64Array"
    ) -> None:
        """Other runs in the place of some chunks, cut into chunks that have room."""
        cuts = range(0, len(starts), _CHUNK // 2)
        self._starts[chunk:beyond] = fresh = [array("Q", starts[at : at + _CHUNK // 2].tobytes()) for at in cuts]
        self._values[chunk:beyond] = [array("Q", values[at : at + _CHUNK // 2].tobytes()) for at in cuts]
        self._firsts[chunk:beyond] = [each[0] for each in fresh]
        self._mine[chunk:beyond] = b"\1" * len(cuts)

    def _check(self, start: int, end: int) -> None:
        if not 0 <= start <= end <= self._end:
            raise IndexError(f"[{start:#x}, {end:#x}) is not a range of [0, {self._end:#x})")


def _overlaid(
    old_starts: U64Array, old_values: U64Array, starts: U64Array, ends: U64Array, values: U64Array | int, stop: int
) -> tuple[U64Array, U64Array]:
    """Runs with other values in sorted, disjoint ranges; equal neighbours are one run.

    The old runs begin before the first range, or with it, and reach beyond the last one, or to ``stop``.
    """
    beyond = np.searchsorted(old_starts, ends, "right")
    # Where a range ends, what was there goes on, unless another range begins there or the space ends.
    new_starts, new_values = np.empty(2 * len(starts), np.uint64), np.empty(2 * len(starts), np.uint64)
    new_starts[0::2], new_starts[1::2] = starts, ends
    new_values[0::2], new_values[1::2] = values, old_values[beyond - 1]
    lone = np.ones(len(new_starts), dtype=bool)
    np.not_equal(ends[:-1], starts[1:], out=lone[1:-1:2])
    lone[-1] = ends[-1] < np.uint64(stop)
    if not lone.all():
        new_starts, new_values = _picked(lone, new_starts, new_values)
    old_starts, old_values = _outside(old_starts, old_values, starts, beyond)
    if len(old_starts):
        apart = old_starts[-1] < new_starts[0]
        new_starts = np.concatenate([old_starts, new_starts])
        new_values = np.concatenate([old_values, new_values])
        if not apart:
            order = np.argsort(new_starts, kind="stable")  # two sorted parts: merged in one pass
            new_starts, new_values = new_starts[order], new_values[order]
    fresh = np.ones(len(new_values), dtype=bool)
    np.not_equal(new_values[1:], new_values[:-1], out=fresh[1:])
    return (new_starts, new_values) if fresh.all() else _picked(fresh, new_starts, new_values)


def _outside(old_starts: U64Array, old_values: U64Array, starts: U64Array, beyond: Places) -> tuple[U64Array, U64Array]:
    """The runs that begin neither in a range nor at its end; ``beyond`` is the first one after each."""
    touched = np.flatnonzero(old_starts[beyond - 1] >= starts)
    if not len(touched):
        return old_starts, old_values
    first = np.searchsorted(old_starts, starts[touched])
    stays = np.ones(len(old_starts), dtype=bool)
    stays[spread(first, beyond[touched] - first)] = False
    return _picked(stays, old_starts, old_values)


def _picked(mask: BoolArray, starts: U64Array, values: U64Array) -> tuple[U64Array, U64Array]:
    """Both under a mask; places are taken several times faster than a mask picks."""
    kept = np.flatnonzero(mask)
    return starts[kept], values[kept]

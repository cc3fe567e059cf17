"""A map from ``[0, end)`` to ints, kept as the places where the value changes."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator

SPACE_END = 1 << 52
"""Pages of a 64-bit space."""
_CHUNK = 1024


class IntervalMap:
    """Ints over ``[0, end)``; equal neighbours are always one run.

    Runs are two sorted lists, where each starts and what it holds, cut into chunks so that setting
    one shifts little. Asking and setting cost about a microsecond each, with 100,000 runs too. Not
    safe for threads that set.

    Args:
        default: the value of everything at first.
        end: where the space ends; by default that of 64-bit addresses in pages of 4 KiB.
    """

    # Chunks are never empty, and the first run of a chunk starts where `_firsts` says.
    __slots__ = ("_end", "_firsts", "_starts", "_values")

    def __init__(self, default: int, end: int = SPACE_END) -> None:
        if end <= 0:
            raise ValueError(f"a map over [0, {end}) holds nothing")
        self._end = end
        self._firsts = [0]
        self._starts = [[0]]
        self._values = [[default]]

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
        starts, values = self._starts[chunk], self._values[chunk]
        if beyond - chunk > 1:
            starts = [at for each in self._starts[chunk:beyond] for at in each]
            values = [held for each in self._values[chunk:beyond] for held in each]
        # What starts in [start, end] is replaced.
        first = bisect_left(starts, start)
        last = bisect_right(starts, end, first)
        new_starts, new_values = [], []
        if not first or values[first - 1] != value:
            new_starts.append(start)
            new_values.append(value)
        if end < self._end and values[last - 1] != value:
            new_starts.append(end)
            new_values.append(values[last - 1])
        starts[first:last] = new_starts
        values[first:last] = new_values
        if beyond - chunk > 1 or len(starts) > _CHUNK:
            cuts = range(0, len(starts), _CHUNK // 2)
            self._starts[chunk:beyond] = [starts[at : at + _CHUNK // 2] for at in cuts]
            self._values[chunk:beyond] = [values[at : at + _CHUNK // 2] for at in cuts]
            self._firsts[chunk:beyond] = [starts[at] for at in cuts]

    def runs(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """The runs of ``[start, end)`` in order, as (start, end, value), cut off at both ends.

        They are those of the moment of the call, whatever is set while they are gone through.
        """
        self._check(start, end)
        if start == end:
            return iter(())
        chunk = bisect_right(self._firsts, start) - 1
        beyond = bisect_left(self._firsts, end, chunk)
        first = bisect_right(self._starts[chunk], start) - 1
        last = bisect_left(self._starts[beyond - 1], end)
        bounds, held = [], []
        for each in range(chunk, beyond):
            part = slice(first if each == chunk else 0, last if each == beyond - 1 else None)
            bounds += self._starts[each][part]
            held += self._values[each][part]
        bounds[0] = start
        bounds.append(end)
        return zip(bounds[:-1], bounds[1:], held, strict=True)

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
        """A map with the same values that changes on its own."""
        twin = IntervalMap(0, self._end)
        twin._firsts = self._firsts.copy()
        twin._starts = [each.copy() for each in self._starts]
        twin._values = [each.copy() for each in self._values]
        return twin

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, IntervalMap):
            return NotImplemented
        return self._end == other._end and self.transitions == other.transitions

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

    def _check(self, start: int, end: int) -> None:
        if not 0 <= start <= end <= self._end:
            raise IndexError(f"[{start:#x}, {end:#x}) is not a range of [0, {self._end:#x})")

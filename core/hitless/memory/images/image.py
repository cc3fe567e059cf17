"""A file's bytes as physical memory: mapped, never read whole, never written."""

import mmap
from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple, NoReturn

import numpy as np

from hitless.bits import U64Array
from hitless.errors import BadInput, BusError, HitlessError
from hitless.units import SPACE

WORD = 8


class Segment(NamedTuple):
    """Physical memory ``[start, start + size)``, which the file holds from ``offset`` on."""

    start: int
    size: int
    offset: int

    @property
    def end(self) -> int:
        return self.start + self.size


class ImageMemory:
    """Segments of a mapped file; implements :class:`hitless.memory.PhysicalMemory` but for writing.

    What lies in no segment is no memory: BusError. A segment that the file cuts short ends where the file ends.

    Args:
        data: the mapped file.
        segments: in any order, disjoint; starts are multiples of 8.

    Raises:
        BadInput: segments overlap, are misaligned, or none has a whole word in the file.
    """

    def __init__(self, data: mmap.mmap, segments: Sequence[Segment]) -> None:
        self._data = data
        self.segments = tuple(sorted(_held(segments, len(data))))
        self.missing = sum(each.size for each in segments) - sum(each.size for each in self.segments)
        for below, above in zip(self.segments, self.segments[1:], strict=False):
            if below.end > above.start:
                raise BadInput(
                    f"segments of the image overlap at {above.start:#x}",
                    do="each physical address is in the file once: check bases, sizes and offsets",
                )
        if not self.segments:
            raise BadInput("the image holds no memory", do="check its size, and what --segment says")
        self._starts = [each.start for each in self.segments]
        self._words: list[U64Array] = [
            np.frombuffer(data, np.uint64, each.size // WORD, each.offset) for each in self.segments
        ]

    @property
    def size(self) -> int:
        """Bytes of memory that the image holds."""
        return sum(each.size for each in self.segments)

    def load(self, pa: int) -> int:
        """The word at ``pa``."""
        at = self._segment(pa, WORD)
        offset = pa - self._starts[at] >> 3
        return int(self._words[at][offset])

    def gather(self, pas: U64Array) -> U64Array:
        """The words at the addresses."""
        found = np.empty(pas.shape, np.uint64)
        which = np.searchsorted(np.array(self._starts, np.uint64), pas, side="right") - 1
        for at in np.unique(which).tolist():
            here = which == at
            low, high = int(pas[here].min()), int(pas[here].max())
            if at < 0 or high + WORD > self.segments[at].end or (pas[here] & np.uint64(7)).any():
                raise BusError(low if at < 0 else high, "the image does not hold it")
            found[here] = self._words[at][(pas[here] - np.uint64(self._starts[at])) >> np.uint64(3)]
        return found

    def view(self, pa: int, count: int) -> U64Array:
        """The ``count`` words from ``pa`` on, which cannot be written."""
        at = self._segment(pa, count * WORD)
        first = pa - self._starts[at] >> 3
        return self._words[at][first : first + count]

    def contains(self, pa: int, size: int) -> bool:
        """Whether all of ``[pa, pa + size)`` is in one segment."""
        at = bisect_right(self._starts, pa) - 1
        return at >= 0 and pa + size <= self.segments[at].end

    def _segment(self, pa: int, size: int) -> int:
        at = bisect_right(self._starts, pa) - 1
        if at < 0 or pa + size > self.segments[at].end:
            raise BusError(pa, "the image does not hold it")
        if pa & 7:
            raise BusError(pa, "a word lies at a multiple of 8")
        return at

    # -- writing

    def store(self, pa: int, word: int) -> None:
        """Refuse: an image is only read."""
        _read_only(pa)

    def store32(self, pa: int, word: int) -> None:
        """Refuse: an image is only read."""
        _read_only(pa)

    def compare_exchange(self, pa: int, expected: int, new: int) -> int:
        """Refuse: an image is only read."""
        _read_only(pa)

    def exchange(self, pas: U64Array, expected: U64Array, new: U64Array) -> U64Array:
        """Refuse: an image is only read."""
        _read_only(int(pas.flat[0]) if pas.size else 0)

    def scatter(self, pas: U64Array, words: U64Array) -> None:
        """Refuse: an image is only read."""
        _read_only(int(pas.flat[0]) if pas.size else 0)


def _held(segments: Sequence[Segment], length: int) -> list[Segment]:
    """What the file really holds of each segment, in whole words."""
    found = []
    for start, size, offset in segments:
        if start < 0 or start % WORD or start + size > SPACE:
            raise BadInput(f"memory at {start:#x}, {size:#x} bytes, is not in whole words of a 64-bit space")
        held = min(size, length - offset) // WORD * WORD
        if offset >= 0 and held > 0:
            found.append(Segment(start, held, offset))
    return found


def _read_only(pa: int) -> NoReturn:
    raise HitlessError("an image is only read", where=f"physical address {pa:#x}")

"""Memory for page tables: naturally aligned power-of-two blocks, always zero, and every step can be undone.

Blocks come from a last-in-first-out list per size, else from the *bump*: the address from which on
nothing was ever given out. When both fail, the smallest larger free block is split. What the last
two leave over (the gap that alignment makes, the other halves) goes to the lists, and is remembered
as a *carve*: freeing the block takes it back, as long as nothing else has changed what it left.
So frees in the reverse order of the allocations restore the exact state, which is what cancelling a
conversion promises (rule A1).

What is known of blocks of a page and more is a byte a page, so that a million tables are given out, or taken back,
as one array.
"""

from array import array
from itertools import pairwise
from threading import Lock
from typing import NamedTuple

import numpy as np
from attrs import frozen

from hitless.bits import BoolArray, U64Array
from hitless.errors import HitlessError, OutOfTableMemory
from hitless.memory.physical import PhysicalMemory
from hitless.units import PAGE, PAGE_LG2, align_up, aligned_lg2, lg2_text, size_text

MIN_LG2 = 3
"""One word: the smallest block."""
_FROM_BUMP = -1
_PLAIN = 0x80
"""Marks a block that came from the bump and left nothing over."""


_NONE: "array[int]" = array("Q")
_PART = 1 << 14


class BadFree(HitlessError):
    """Memory was freed that was not allocated so: a bug in the caller."""

    exit_status = 3


class _Carve(NamedTuple):
    """How a block was made: from the bump, or out of a larger free block.

    Attributes:
        source: the address that the bump had, or of the larger block.
        source_lg2: size of the larger block; -1 for the bump.
        rest: what was left over and went to the free lists, as (address, size_lg2), in that order.
            No two have the same size.
    """

    source: int
    source_lg2: int
    rest: tuple[tuple[int, int], ...]


@frozen
class AllocatorState:
    """A snapshot to compare: equal states hand out the same blocks from here on."""

    bump: int
    free: tuple[tuple[int, tuple[int, ...]], ...]
    blocks: tuple[tuple[int, int], ...]
    carves: tuple[tuple[int, _Carve], ...]


class PageAllocator:
    """Gives out zeroed, naturally aligned blocks of ``[base, base + size)``; safe for threads.

    Free memory is always zero: a block is zeroed when it is freed, so nothing is when it is given out.

    Args:
        memory: holds the range; it must be zero, and nobody else may use it.
        base, size: bytes, multiples of 8.

    Raises:
        ValueError: the range is not whole words, or not in the memory.
    """

    def __init__(self, memory: PhysicalMemory, base: int, size: int) -> None:
        if base % 8 or size % 8 or size <= 0 or not memory.contains(base, size):
            raise ValueError(f"table memory must be whole words in memory, not base={base:#x} size={size:#x}")
        self._memory = memory
        self._base = base
        self._end = base + size
        self._bump = base
        self._free: dict[int, array[int]] = {}
        # By page, what block begins there: log2 of its size, and _PLAIN; smaller blocks by address.
        self._page = base >> PAGE_LG2
        self._marks = np.zeros((self._end - 1 >> PAGE_LG2) - self._page + 1, dtype=np.uint8)
        self._mark = self._marks.data
        self._small: dict[int, int] = {}
        self._carves: dict[int, _Carve] = {}
        self._sizes: tuple[int, ...] = ()
        self._used = 0
        self._peak = 0
        self._fail_in: int | None = None
        self._lock = Lock()

    @property
    def base(self) -> int:
        """Address of the first byte that can be given out."""
        return self._base

    @property
    def size(self) -> int:
        """Bytes in all, used or free."""
        return self._end - self._base

    @property
    def used_bytes(self) -> int:
        """Bytes in allocated blocks."""
        return self._used

    @property
    def used_pages(self) -> int:
        """The allocated bytes in pages of 4 KiB, rounded up."""
        return -(-self._used // PAGE)

    @property
    def peak_pages(self) -> int:
        """The most that ``used_pages`` has been since the start or :meth:`reset_peak`."""
        return -(-self._peak // PAGE)

    def reset_peak(self) -> None:
        """Measure the peak from what is used now."""
        with self._lock:
            self._peak = self._used

    def fail_after(self, n: int | None) -> None:
        """Make the n-th allocation from now (1 is the next) raise OutOfTableMemory once; None disarms."""
        if n is not None and n < 1:
            raise ValueError(f"allocations count from 1, not {n}")
        with self._lock:
            self._fail_in = n

    def allocate(self, size_lg2: int = PAGE_LG2) -> int:
        """The address of a zeroed block of 2**size_lg2 bytes, aligned to its size.

        Raises:
            OutOfTableMemory: no such block is free, or :meth:`fail_after` asked for it. Nothing changed.
            ValueError: smaller than a word.
        """
        if size_lg2 < MIN_LG2:
            raise ValueError(f"a block is at least 8 bytes, not 2**{size_lg2}")
        with self._lock:
            if self._fail_in is not None:
                self._count_down(size_lg2)
            same = self._free.get(size_lg2)
            if same:
                pa = same.pop()
                self._set(pa, size_lg2)
            else:
                pa = self._carve(size_lg2)
            self._count(size_lg2, 1)
            return pa

    def allocate_many(self, count: int, size_lg2: int = PAGE_LG2) -> U64Array:
        """The addresses of ``count`` blocks, those that as many calls of :meth:`allocate` give, in their order.

        Raises:
            OutOfTableMemory: nothing is allocated then.
        """
        with self._lock:
            found = self._taken(count, size_lg2)
        if found is not None:
            return found
        one_by_one: list[int] = []
        try:
            for _ in range(count):
                one_by_one.append(self.allocate(size_lg2))  # noqa: PERF401 - what is there already is given back
        except OutOfTableMemory:
            for pa in reversed(one_by_one):
                self.free(pa, size_lg2)
            raise
        return np.array(one_by_one, dtype=np.uint64)

    def _taken(self, count: int, size_lg2: int) -> U64Array | None:
        """Blocks from the free list, then in one row from the bump; None: they have to come one by one."""
        same = self._free.get(size_lg2, _NONE)
        freed = min(count, len(same))
        end = self._bump + (count - freed << size_lg2)
        if size_lg2 < PAGE_LG2 or (self._fail_in or count + 1) <= count:
            return None
        if freed < count and (self._bump & (1 << size_lg2) - 1 or end > self._end):
            return None
        if self._fail_in is not None:
            self._fail_in -= count
        found = np.arange(count, dtype=np.uint64)
        found[freed:] = np.arange(self._bump, end, 1 << size_lg2, dtype=np.uint64)
        pages = (found >> np.uint64(PAGE_LG2)) - np.uint64(self._page)
        if freed:
            found[:freed] = np.frombuffer(same, dtype=np.uint64)[len(same) - freed :][::-1]
            del same[len(same) - freed :]
            pages = (found >> np.uint64(PAGE_LG2)) - np.uint64(self._page)
        self._marks[pages[:freed]] = size_lg2
        self._marks[pages[freed:]] = size_lg2 | _PLAIN
        self._bump = end if freed < count else self._bump
        if count:
            self._count(size_lg2, count)
        return found

    def _count(self, size_lg2: int, blocks: int) -> None:
        """So many blocks more are in use."""
        if size_lg2 not in self._sizes:
            self._sizes = (*self._sizes, size_lg2)
        self._used += blocks << size_lg2
        self._peak = max(self._peak, self._used)

    def free(self, pa: int, size_lg2: int = PAGE_LG2) -> None:
        """Zero a block and take it back; nobody may use it any more.

        Raises:
            BadFree: it is not allocated, or with another size.
        """
        with self._lock:
            mark = self._marked(pa)
            if mark & ~_PLAIN != size_lg2:
                raise self._bad_free(pa, size_lg2)
            self._memory.view(pa, 1 << size_lg2 - MIN_LG2).fill(0)
            self._set(pa, 0)
            self._used -= 1 << size_lg2
            end = pa + (1 << size_lg2)
            if mark & _PLAIN:
                if self._bump == end:
                    self._bump = pa
                    return
            elif (carve := self._carves.pop(pa, None)) is not None and self._undo(carve, end):
                return
            self._push(pa, size_lg2)

    def free_many(self, pas: U64Array, size_lg2: int = PAGE_LG2) -> None:
        """Zero blocks of one size and take them back, with the effect of as many calls of :meth:`free` in that order.

        Raises:
            BadFree: one of them is not allocated, or twice there, or with another size. None is taken back then.
        """
        if size_lg2 < PAGE_LG2:
            for pa in pas.tolist():
                self.free(pa, size_lg2)
            return
        with self._lock:
            ordered = np.sort(pas)
            for pa in pas[self._not_allocated(pas, size_lg2)][:1].tolist():
                raise self._bad_free(pa, size_lg2)
            for pa in ordered[1:][ordered[1:] == ordered[:-1]][:1].tolist():
                raise BadFree(f"a block of {lg2_text(size_lg2)} is freed twice at once", where=f"address {pa:#x}")
            self._zero(ordered, size_lg2)
            pages = (pas >> np.uint64(PAGE_LG2)) - np.uint64(self._page)
            plain = self._marks[pages] >= _PLAIN
            self._marks[pages] = 0
            self._used -= len(pas) << size_lg2
            self._take_back(pas, plain, size_lg2)

    def _not_allocated(self, pas: U64Array, size_lg2: int) -> BoolArray:
        """Which of some addresses are not those of blocks of this size."""
        bad = (pas < np.uint64(self._base)) | (pas >= np.uint64(self._end)) | (pas & np.uint64(PAGE - 1) != 0)
        pages = (pas >> np.uint64(PAGE_LG2)) - np.uint64(self._page)
        found = self._marks[np.where(bad, 0, pages)] & np.uint8(_PLAIN - 1)
        wrong: BoolArray = np.logical_or(bad, found != np.uint8(size_lg2))
        return wrong

    def _zero(self, ordered: U64Array, size_lg2: int) -> None:
        """Zero sorted blocks, those in one row together."""
        breaks = np.flatnonzero(ordered[1:] - ordered[:-1] != np.uint64(1 << size_lg2)) + 1
        for first, end in pairwise([0, *breaks.tolist(), len(ordered)]):
            if first < end:
                self._memory.view(int(ordered[first]), end - first << size_lg2 - MIN_LG2).fill(0)

    def _take_back(self, pas: U64Array, plain: BoolArray, size_lg2: int) -> None:
        """Blocks that are not in use any more, in order: the bump goes back over those that lie before it."""
        at, size = 0, np.uint64(1 << size_lg2)
        special = np.zeros(len(pas), dtype=bool)
        if self._carves:
            special = np.isin(pas, np.fromiter(self._carves, dtype=np.uint64, count=len(self._carves)))
        while at < len(pas):
            part = slice(at, at + _PART)
            steps = np.arange(1, len(pas[part]) + 1, dtype=np.uint64) << np.uint64(size_lg2)
            back = _first((pas[part] != np.uint64(self._bump) - steps) | ~plain[part])
            self._bump -= back << size_lg2
            at += back
            # up to where the bump can go back again, or a block undoes more than that
            part = slice(at, at + _PART)
            stop = at + _first((pas[part] + size == np.uint64(self._bump)) & plain[part] | special[part])
            self._free.setdefault(size_lg2, array("Q")).frombytes(pas[at:stop].tobytes())
            at = stop
            if at < len(pas) and special[at]:
                pa = int(pas[at])
                if not self._undo(self._carves.pop(pa), pa + int(size)):
                    self._push(pa, size_lg2)
                at += 1

    def _marked(self, pa: int) -> int:
        """log2 of the size of the block that begins at an address, perhaps with _PLAIN; 0: none does."""
        if pa & PAGE - 1 == 0 and self._base <= pa < self._end and (mark := self._mark[(pa >> PAGE_LG2) - self._page]):
            return mark
        return self._small.get(pa, 0)

    def _set(self, pa: int, mark: int) -> None:
        """Note that a block begins at an address, or with 0 that none does."""
        if mark & ~_PLAIN >= PAGE_LG2 or (not mark and pa not in self._small):
            self._mark[(pa >> PAGE_LG2) - self._page] = mark
        elif mark:
            self._small[pa] = mark
        else:
            del self._small[pa]

    def in_use(self, pa: int) -> bool:
        """Whether the address lies in an allocated block; costs one look-up per size that was ever used."""
        if not self._base <= pa < self._end:
            return False
        if self._mark[(pa >> PAGE_LG2) - self._page]:  # nearly all tables
            return True
        return any(self._marked(pa >> size_lg2 << size_lg2) & ~_PLAIN >= size_lg2 for size_lg2 in self._sizes)

    def state(self) -> AllocatorState:
        """What is free, in which order it comes out, and what is allocated."""
        with self._lock:
            used = np.flatnonzero(self._marks)
            marks = dict(zip((used + self._page << PAGE_LG2).tolist(), self._marks[used].tolist(), strict=True))
            marks |= self._small
            plain = {pa: _Carve(pa, _FROM_BUMP, ()) for pa, mark in marks.items() if mark & _PLAIN}
            return AllocatorState(
                self._bump,
                tuple((size, tuple(blocks)) for size, blocks in sorted(self._free.items()) if blocks),
                tuple(sorted((pa, mark & ~_PLAIN) for pa, mark in marks.items())),
                tuple(sorted((plain | self._carves).items(), key=lambda item: item[0])),
            )

    def _carve(self, size_lg2: int) -> int:
        pa = align_up(self._bump, size_lg2)
        if pa + (1 << size_lg2) <= self._end:
            return self._carve_bump(pa, size_lg2)
        larger = min((lg2 for lg2, blocks in self._free.items() if blocks and lg2 > size_lg2), default=None)
        if larger is None:
            raise self._exhausted(size_lg2)
        return self._split(larger, size_lg2)

    def _carve_bump(self, pa: int, size_lg2: int) -> int:
        rest: list[tuple[int, int]] = []
        at = self._bump
        while at < pa:
            gap_lg2 = aligned_lg2(at)
            rest.append((at, gap_lg2))
            self._push(at, gap_lg2)
            at += 1 << gap_lg2
        if rest:
            self._carves[pa] = _Carve(self._bump, _FROM_BUMP, tuple(rest))
        self._set(pa, size_lg2 if rest else size_lg2 | _PLAIN)
        self._bump = pa + (1 << size_lg2)
        return pa

    def _split(self, source_lg2: int, size_lg2: int) -> int:
        """The lowest block of the free block of ``source_lg2`` that is next; the other halves become free."""
        pa = self._free[source_lg2].pop()
        rest = tuple((pa + (1 << half_lg2), half_lg2) for half_lg2 in range(source_lg2 - 1, size_lg2 - 1, -1))
        for at, half_lg2 in rest:
            self._push(at, half_lg2)
        self._carves[pa] = _Carve(pa, source_lg2, rest)
        self._set(pa, size_lg2)
        return pa

    def _undo(self, carve: _Carve, end: int) -> bool:
        """Take a carve back, if all that it left over is free and next on its list."""
        if carve.source_lg2 == _FROM_BUMP and self._bump != end:
            return False
        if carve.rest:
            lists = [(self._free[size_lg2], at) for at, size_lg2 in carve.rest]
            if any(not blocks or blocks[-1] != at for blocks, at in lists):
                return False
            for blocks, _ in lists:
                blocks.pop()
        if carve.source_lg2 == _FROM_BUMP:
            self._bump = carve.source
        else:
            self._push(carve.source, carve.source_lg2)
        return True

    def _push(self, pa: int, size_lg2: int) -> None:
        self._free.setdefault(size_lg2, array("Q")).append(pa)

    def _count_down(self, size_lg2: int) -> None:
        left = (self._fail_in or 1) - 1
        self._fail_in = left or None
        if not left:
            raise self._exhausted(size_lg2, "this failure was asked for with fail_after")

    def _exhausted(self, size_lg2: int, why: str = "") -> OutOfTableMemory:
        largest = max((lg2 for lg2, blocks in self._free.items() if blocks), default=None)
        freed = "no freed block" if largest is None else f"the largest freed block is {lg2_text(largest)}"
        return OutOfTableMemory(
            f"no page-table memory for a block of {lg2_text(size_lg2)}",
            where=f"table memory [{self._base:#x}, {self._end:#x})",
            why=why or f"{size_text(self._used)} of {size_text(self.size)} are used; {freed}",
            do="give the tables more memory, or merge before more is cut",
        )

    def _bad_free(self, pa: int, size_lg2: int) -> BadFree:
        actual = self._marked(pa) & ~_PLAIN or None
        why = (
            f"it was allocated with {lg2_text(actual)}"
            if actual is not None
            else "it lies inside an allocated block"
            if self.in_use(pa)
            else "it is not allocated (freed twice, or never given out)"
        )
        return BadFree(
            f"freed a block of {lg2_text(size_lg2)} that is not allocated so",
            where=f"physical address {pa:#x}",
            rule="R1: no table is freed while a walker or a walk cache can still reach it",
            why=why,
            do="this is a bug in the caller; report it with the plan that freed it",
        )


def _first(which: BoolArray) -> int:
    """The index of the first that is true; else how many there are."""
    return int(np.argmax(which)) if which.any() else len(which)

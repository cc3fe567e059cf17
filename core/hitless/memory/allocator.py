"""Memory for page tables: naturally aligned power-of-two blocks, always zero, and every step can be undone.

Blocks come from a last-in-first-out list per size, else from the *bump*: the address from which on
nothing was ever given out. When both fail, the smallest larger free block is split. What the last
two leave over (the gap that alignment makes, the other halves) goes to the lists, and is remembered
as a *carve*: freeing the block takes it back, as long as nothing else has changed what it left.
So frees in the reverse order of the allocations restore the exact state, which is what cancelling a
conversion promises (rule A1).
"""

from threading import Lock
from typing import NamedTuple

from attrs import frozen

from hitless.errors import HitlessError, OutOfTableMemory
from hitless.memory.physical import PhysicalMemory
from hitless.units import PAGE, PAGE_LG2, align_up, aligned_lg2, lg2_text, size_text

MIN_LG2 = 3
"""One word: the smallest block."""
_FROM_BUMP = -1


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
        self._free: dict[int, list[int]] = {}
        self._blocks: dict[int, int] = {}
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
            pa = same.pop() if same else self._carve(size_lg2)
            self._blocks[pa] = size_lg2
            if size_lg2 not in self._sizes:
                self._sizes = (*self._sizes, size_lg2)
            used = self._used = self._used + (1 << size_lg2)
            self._peak = max(self._peak, used)
            return pa

    def free(self, pa: int, size_lg2: int = PAGE_LG2) -> None:
        """Zero a block and take it back; nobody may use it any more.

        Raises:
            BadFree: it is not allocated, or with another size.
        """
        with self._lock:
            if self._blocks.get(pa) != size_lg2:
                raise self._bad_free(pa, size_lg2)
            self._memory.view(pa, 1 << size_lg2 - MIN_LG2).fill(0)
            del self._blocks[pa]
            self._used -= 1 << size_lg2
            carve = self._carves.pop(pa, None)
            if carve is None or not self._undo(carve, pa + (1 << size_lg2)):
                self._push(pa, size_lg2)

    def in_use(self, pa: int) -> bool:
        """Whether the address lies in an allocated block; costs one look-up per size that was ever used."""
        blocks = self._blocks
        if blocks.get(pa >> PAGE_LG2 << PAGE_LG2, 0) >= PAGE_LG2:  # nearly all tables
            return True
        return any(blocks.get(pa >> size_lg2 << size_lg2, 0) >= size_lg2 for size_lg2 in self._sizes)

    def state(self) -> AllocatorState:
        """What is free, in which order it comes out, and what is allocated."""
        with self._lock:
            return AllocatorState(
                self._bump,
                tuple((size, tuple(blocks)) for size, blocks in sorted(self._free.items()) if blocks),
                tuple(sorted(self._blocks.items())),
                tuple(sorted(self._carves.items(), key=lambda item: item[0])),
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
        self._carves[pa] = _Carve(self._bump, _FROM_BUMP, tuple(rest))
        self._bump = pa + (1 << size_lg2)
        return pa

    def _split(self, source_lg2: int, size_lg2: int) -> int:
        """The lowest block of the free block of ``source_lg2`` that is next; the other halves become free."""
        pa = self._free[source_lg2].pop()
        rest = tuple((pa + (1 << half_lg2), half_lg2) for half_lg2 in range(source_lg2 - 1, size_lg2 - 1, -1))
        for at, half_lg2 in rest:
            self._push(at, half_lg2)
        self._carves[pa] = _Carve(pa, source_lg2, rest)
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
        self._free.setdefault(size_lg2, []).append(pa)

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
        actual = self._blocks.get(pa)
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

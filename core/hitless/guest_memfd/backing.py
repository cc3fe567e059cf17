"""Backing: which physical page an offset has while the host, or the guest, owns it."""

from collections.abc import Iterable, Iterator
from typing import Protocol

import numpy as np
from attrs import define, field

from hitless.bits import U64Array
from hitless.columns import Ranges, words
from hitless.errors import BadInput
from hitless.units import PAGE, PAGE_LG2, align_up

HOST = 0
"""The host: shared pages."""
GUEST = 1
"""The guest: private pages."""


class Backing(Protocol):
    """Where a guest_memfd's pages lie; pure: the same question has the same answer."""

    name: str

    def pa(self, offset: int, owner: int) -> int:
        """Physical address of an offset while ``owner`` owns it."""

    def runs(self, start: int, end: int, owner: int) -> Iterable[tuple[int, int, int]]:
        """Physically contiguous runs (start, end, pa) of an offset range with one owner."""

    def pas(self, offsets: U64Array, owners: U64Array) -> U64Array:
        """:meth:`pa` of many offsets, each with its owner."""

    def pieces(self, owner: int) -> Ranges | None:
        """The offset ranges, sorted, in each of which an owner's memory is physically contiguous; None: in no order."""

    def pools(self) -> list[tuple[int, int, int]]:
        """The physical pools: (start, end, owner that they serve; -1 both)."""


@define
class InPlace:
    """One physical page for both owners: a conversion changes only who owns it."""

    base_pa: int
    size: int
    name: str = field(default="in-place", init=False)

    def pa(self, offset: int, owner: int) -> int:
        return self.base_pa + offset

    def runs(self, start: int, end: int, owner: int) -> Iterable[tuple[int, int, int]]:
        return ((start, end, self.base_pa + start),)

    def pas(self, offsets: U64Array, owners: U64Array) -> U64Array:
        return offsets + np.uint64(self.base_pa)

    def pieces(self, owner: int) -> Ranges | None:
        return Ranges.of([(0, self.size)])

    def pools(self) -> list[tuple[int, int, int]]:
        return [(self.base_pa, self.base_pa + self.size, -1)]


@define
class Separate:
    """Two linear pools, hunk for hunk: a page that comes back has its old address."""

    private_pa: int
    shared_pa: int
    size: int
    name: str = field(default="separate", init=False)

    def pa(self, offset: int, owner: int) -> int:
        return (self.shared_pa if owner == HOST else self.private_pa) + offset

    def runs(self, start: int, end: int, owner: int) -> Iterable[tuple[int, int, int]]:
        return ((start, end, (self.shared_pa if owner == HOST else self.private_pa) + start),)

    def pas(self, offsets: U64Array, owners: U64Array) -> U64Array:
        return offsets + np.where(owners == HOST, np.uint64(self.shared_pa), np.uint64(self.private_pa))

    def pieces(self, owner: int) -> Ranges | None:
        return Ranges.of([(0, self.size)])

    def pools(self) -> list[tuple[int, int, int]]:
        private, shared = self.private_pa, self.shared_pa
        return [(private, private + self.size, GUEST), (shared, shared + self.size, HOST)]


@define
class Scattered:
    """A linear private pool, and a shared pool whose pages lie in no order: the worst that an allocator can do."""

    private_pa: int
    shared_pa: int
    size: int
    name: str = field(default="scattered", init=False)
    _step: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        pages = self.size >> PAGE_LG2
        step = int(pages * 0.6180339887) | 1
        while _gcd(step, pages) != 1:
            step += 2
        self._step = step

    def pa(self, offset: int, owner: int) -> int:
        if owner != HOST:
            return self.private_pa + offset
        page = (offset >> PAGE_LG2) * self._step % (self.size >> PAGE_LG2)
        return self.shared_pa + (page << PAGE_LG2) + offset % PAGE

    def runs(self, start: int, end: int, owner: int) -> Iterator[tuple[int, int, int]]:
        if owner != HOST:
            yield start, end, self.private_pa + start
            return
        for at in range(start, end, PAGE):
            yield at, min(at + PAGE, end), self.pa(at, owner)

    def pas(self, offsets: U64Array, owners: U64Array) -> U64Array:
        pages = self.size >> PAGE_LG2
        found = offsets + np.uint64(self.private_pa)
        shared = np.flatnonzero(owners == HOST)
        if pages > 1 << 32:  # a product does not fit in a word
            found[shared] = words(self.pa(offset, HOST) for offset in offsets[shared].tolist())
            return found
        moved = (offsets[shared] >> np.uint64(PAGE_LG2)) * np.uint64(self._step) % np.uint64(pages)
        within = offsets[shared] % np.uint64(PAGE)
        found[shared] = (moved << np.uint64(PAGE_LG2)) + within + np.uint64(self.shared_pa)
        return found

    def pieces(self, owner: int) -> Ranges | None:
        return None if owner == HOST else Ranges.of([(0, self.size)])

    def pools(self) -> list[tuple[int, int, int]]:
        return Separate(self.private_pa, self.shared_pa, self.size).pools()


def _gcd(a: int, b: int) -> int:
    while b:
        a, b = b, a % b
    return a


def make_backing(name: str, base_pa: int, size: int, hunk_lg2: int) -> Backing:
    """The backing with a name: ``in-place``, ``separate`` or ``scattered``; pools begin at hunk boundaries.

    Raises:
        BadInput: no such backing.
    """
    whole = align_up(size, hunk_lg2)
    first = align_up(base_pa, max(hunk_lg2, 30))
    second = align_up(first + whole, 30) + (1 << 30)
    match name:
        case "in-place":
            return InPlace(first, whole)
        case "separate":
            return Separate(first, second, whole)
        case "scattered":
            return Scattered(first, second, whole)
    raise BadInput(f"{name!r} is not a backing", do="use in-place, separate or scattered")

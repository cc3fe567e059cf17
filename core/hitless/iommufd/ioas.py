"""Address spaces: which IOVAs lead to which guest memory.

iommufd calls an address space an IOAS and what is mapped in it an area. Two IOVAs may lead to one page, and a guest
memory may be mapped in several address spaces.
"""

import random
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

from hitless.errors import BadInput
from hitless.guest_memfd.slots import Slots
from hitless.units import PAGE


class Area(NamedTuple):
    """IOVAs ``[iova, iova + size)`` lead to guest physical ``gpa`` and up; all multiples of 4 KiB."""

    iova: int
    gpa: int
    size: int


class Ioas:
    """An address space: areas whose IOVAs do not overlap.

    Raises:
        BadInput: an area is empty or unaligned, or two overlap.
    """

    def __init__(self, areas: Iterable[Area]) -> None:
        self.areas = tuple(sorted(areas))
        for area in self.areas:
            if area.size <= 0 or (area.iova | area.gpa | area.size) % PAGE:
                raise BadInput(f"area at IOVA {area.iova:#x} is not one of whole 4K pages")
        for one, next_one in pairwise(self.areas):
            if one.iova + one.size > next_one.iova:
                raise BadInput(f"two areas overlap at IOVA {next_one.iova:#x}")

    @classmethod
    def identity(cls, slots: Slots) -> "Ioas":
        """IOVA is guest physical address."""
        return cls(Area(slot.gpa, slot.gpa, slot.size) for slot in slots.slots)

    @classmethod
    def scrambled(cls, slots: Slots, piece: int, seed: int) -> "Ioas":
        """As many IOVAs as there is memory, in pieces of ``piece`` bytes that have changed places at random."""
        pieces = [(at, min(piece, slot.end - at)) for slot in slots.slots for at in range(slot.gpa, slot.end, piece)]
        whole = [at for at, size in pieces if size == piece]
        places = random.Random(seed).sample(whole, len(whole))
        moved = dict(zip(whole, places, strict=True))
        return cls(Area(at, moved.get(at, at) if size == piece else at, size) for at, size in pieces)

    def inside(self, start: int, end: int) -> Iterator[Area]:
        """The mapped parts of an IOVA range, in order."""
        for iova, gpa, size in self.areas:
            low, high = max(start, iova), min(end, iova + size)
            if low < high:
                yield Area(low, gpa + low - iova, high - low)

    def iovas(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """The IOVA ranges that lead into a guest physical range, in no order."""
        for iova, gpa, size in self.areas:
            low, high = max(start, gpa), min(end, gpa + size)
            if low < high:
                yield iova + low - gpa, iova + high - gpa

    def points(self, gpa: int) -> list[int]:
        """Every IOVA that leads to a guest physical address."""
        return [start for start, _ in self.iovas(gpa, gpa + 1)]

    def gpas(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """The guest physical ranges that an IOVA range leads to."""
        for area in self.inside(start, end):
            yield area.gpa, area.gpa + area.size

"""Memory slots: which guest physical addresses are memory, and where in the guest_memfd they lie."""

from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise

from attrs import frozen

from hitless.bits import U64Array
from hitless.columns import Ranges, words
from hitless.errors import BadInput
from hitless.units import PAGE, SPACE


@frozen
class Slot:
    """Guest physical ``[gpa, gpa + size)`` is offset ``[offset, offset + size)``; all multiples of 4 KiB."""

    gpa: int
    offset: int
    size: int

    @property
    def end(self) -> int:
        return self.gpa + self.size


class Slots:
    """Disjoint slots in the order of their guest physical addresses.

    Raises:
        BadInput: a slot is empty, unaligned or beyond 2**64, or two overlap (in GPA or in offset).
    """

    def __init__(self, slots: Sequence[Slot]) -> None:
        self.slots = tuple(sorted(slots, key=lambda slot: slot.gpa))
        self._bounds = [(slot.gpa, slot.end, slot.offset) for slot in self.slots]
        for slot in self.slots:
            if slot.size <= 0 or (slot.gpa | slot.offset | slot.size) % PAGE or slot.end > SPACE:
                raise BadInput(
                    f"slot at GPA {slot.gpa:#x}, offset {slot.offset:#x}, size {slot.size:#x} is not usable",
                    do="gpa, offset and size are multiples of 4K, size is not 0, and the end is at most 2**64",
                )
        for what, starts in (
            ("GPA", sorted((slot.gpa, slot.size) for slot in self.slots)),
            ("offset", sorted((slot.offset, slot.size) for slot in self.slots)),
        ):
            for (start, size), (after, _) in pairwise(starts):
                if start + size > after:
                    raise BadInput(f"slots overlap at {what} {after:#x}", do="give every page to one slot")

    @cached_property
    def columns(self) -> tuple[Ranges, U64Array]:
        """The slots' guest physical ranges, in order, and the offset of each."""
        return Ranges.of((slot.gpa, slot.end) for slot in self.slots), words(slot.offset for slot in self.slots)

    @property
    def size(self) -> int:
        """Bytes of the guest_memfd: the end of the highest offset."""
        return max((slot.offset + slot.size for slot in self.slots), default=0)

    def inside(self, start: int, end: int) -> list[tuple[int, int, int]]:
        """The parts of a GPA range that are memory: (start, end, offset of start)."""
        found = []
        for low, high, offset in self._bounds:
            if low <= start and end <= high:  # all of it: nearly every range
                return [(start, end, offset + start - low)] if start < end else []
            if start < high and low < end:
                a = max(start, low)
                found.append((a, min(end, high), offset + a - low))
        return found

    def offset(self, gpa: int) -> int | None:
        """The offset of a guest physical address; None outside every slot."""
        for start, end, offset in self._bounds:
            if start <= gpa < end:
                return offset + gpa - start
        return None

    def contains(self, start: int, end: int) -> bool:
        """Whether all of a GPA range is memory, in one slot or in adjacent ones."""
        return sum([b - a for a, b, _ in self.inside(start, end)]) == end - start

    def touches(self, start: int, end: int) -> bool:
        """Whether any of a GPA range is memory."""
        return bool(self.inside(start, end))

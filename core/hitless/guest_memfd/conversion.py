"""A conversion: complete before anybody prepares for it."""

from typing import NamedTuple

from attrs import define, field


class ChangeRun(NamedTuple):
    """A GPA range that gets a new owner, physically contiguous before and after."""

    start: int
    end: int
    old_owner: int
    new_owner: int
    old_pa: int
    new_pa: int


@define(eq=False)
class Conversion:
    """What guest_memfd tells its notifiers.

    Args:
        number: counts up; notifiers file what they prepared under it.
        ranges: GPA ranges that change owner, sorted, disjoint, not adjacent.
        owner: the new owner.
        runs: the same with old and new physicals.
        done: the ranges whose owner has changed; empty until the owner change.
        fenced: what did not answer: (unit, devices).
        refused: what a notifier's firmware refused before the owner change, which is then not made.
    """

    number: int
    ranges: tuple[tuple[int, int], ...]
    owner: int
    runs: tuple[ChangeRun, ...]
    done: tuple[tuple[int, int], ...] = ()
    fenced: list[tuple[str, tuple[int, ...]]] = field(factory=list)
    refused: list[str] = field(factory=list)

    @property
    def pages(self) -> int:
        """How many 4 KiB pages convert."""
        return sum(end - start for start, end in self.ranges) >> 12

    @property
    def complete(self) -> bool:
        """Whether the owner change did all of it."""
        return self.done == self.ranges


class ConversionRecord(NamedTuple):
    """What an observer is told of one finished conversion."""

    ranges: tuple[tuple[int, int], ...]
    owner: int
    notifiers: tuple[str, ...]
    outcome: str

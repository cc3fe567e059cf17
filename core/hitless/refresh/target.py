"""What a range shall map, and what it maps: the planner's two inputs."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol, TypeAlias

from attrs import frozen

from hitless.ownership import Choreography, Close, Follow
from hitless.plan import Invalidate, Step, Store, Wait
from hitless.refresh.changes import Change, Changes


class Segment(NamedTuple):
    """``[start, end)`` shall map to ``oa`` on with these attributes; ``oa`` None: to nothing.

    No leaf may reach over a segment's edge: an edge is where the address jumps, the attributes
    change, a hunk or slot ends, or the vendor demands a boundary.
    """

    start: int
    end: int
    oa: int | None
    attrs: int


LayoutSource: TypeAlias = Callable[[int, int], Iterator[Segment]]
"""The layout of ``[start, end)`` as it shall be, in order, without gaps."""


class Piece(NamedTuple):
    """A part of an old leaf, or of new memory, that a table under construction has to map.

    Args:
        oa, attrs: what the table maps when it is linked.
        later: what the refresh will put there, where that changes (it has to have the same shape).
        change: ``""`` nothing, ``replace``, ``wipe``, or ``verdict`` (only the owner changes).
    """

    start: int
    end: int
    oa: int
    attrs: int
    later: Segment | None
    change: str


class Owners(Protocol):
    """What ownership has to say about one plan."""

    def follow(self, iova: int, pa: int, from_lg2: int, to_lg2: int) -> Follow:
        """How the owner table goes along when what maps ``iova`` to ``pa`` on changes its size.

        A cut happens before owners change, a merge after it.
        """

    def carry(self, store: Store, change: Change, close: Close) -> Sequence[Step] | None:
        """The steps in a store's place; None: the host stores. Raises Refused.

        ``close`` gives what closes the store's round.
        """

    def close(self, commands: Sequence[Invalidate | Wait]) -> Sequence[Step]:
        """The steps in place of what closes a round."""

    def change(self, changes: Changes, isolate: Sequence[Step]) -> Choreography:
        """The owner change itself, between a plan's changes; ``isolate`` is done by then. Raises Refused, Pinned."""


class _NoOwners:
    """Nobody checks who owns a page, and no owner changes."""

    def follow(self, iova: int, pa: int, from_lg2: int, to_lg2: int) -> Follow:
        return Follow.FREE

    def carry(self, store: Store, change: Change, close: Close) -> Sequence[Step] | None:
        return None

    def close(self, commands: Sequence[Invalidate | Wait]) -> Sequence[Step]:
        return commands

    def change(self, changes: Changes, isolate: Sequence[Step]) -> Choreography:
        return Choreography()


NO_OWNERS: Owners = _NoOwners()


@frozen
class PlanRequest:
    """One conversion, for one address space.

    Args:
        ranges: what converts: sorted, disjoint ``(start, end)``.
        layout: what every range shall map afterwards; asked beyond the ranges too.
        wipe_first: unmap what changes before the owner changes, map it afterwards.
        owed: ranges, sorted, whose owner changes and for which an invalidation is owed even where no entry does.
        merge: join leaves that the conversion made equal again.
        remap: the baseline that hitless is compared with: every leaf that the ranges touch is
            cleared before the owner change and laid out again after it.
        owned: whether the owner has changed already, before anything of the plan.
        owners: what ownership has to say.
    """

    ranges: tuple[tuple[int, int], ...]
    layout: LayoutSource
    wipe_first: bool = False
    owed: tuple[tuple[int, int], ...] = ()
    merge: bool = False
    remap: bool = False
    owned: bool = False
    owners: Owners = NO_OWNERS

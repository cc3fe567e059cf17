"""What a range shall map, and what it maps: the planner's two inputs."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
from attrs import define

from hitless.bits import BoolArray, U64Array
from hitless.columns import Columns, Ranges, words
from hitless.ownership import Choreography, Close, Follow
from hitless.plan import Invalidate, PlanStep, Step, Store, Wait
from hitless.refresh.changes import Change, Stages


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


@define(eq=False)
class Segments(Columns[Segment]):
    """Segments as columns: in order, ``last`` inclusive; where not ``mapped``, ``oa`` and ``attrs`` are 0."""

    start: U64Array
    last: U64Array
    oa: U64Array
    attrs: U64Array
    mapped: BoolArray

    def _rows(self) -> Iterator[Segment]:
        columns = (self.start, self.last, self.oa, self.attrs, self.mapped)
        for start, last, oa, attrs, mapped in zip(*(each.tolist() for each in columns), strict=True):
            yield Segment(start, last + 1, oa if mapped else None, attrs)

    @classmethod
    def of(cls, segments: Iterable[Segment]) -> "Segments":
        """Columns of segments."""
        found = list(segments)
        return cls(
            words(each.start for each in found),
            words(each.end - 1 for each in found),
            words(each.oa or 0 for each in found),
            words(each.attrs for each in found),
            np.fromiter((each.oa is not None for each in found), dtype=bool),
        )


SegmentSource: TypeAlias = Callable[[int, int], Segments]
"""What a :data:`LayoutSource` gives, as columns."""


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
    """What ownership has to say about one plan.

    ``plain``: nothing but the owner change itself. ``follow`` answers FREE to all, ``carry`` None, and ``close``
    gives the commands back, so that nobody need ask it about every leaf.
    """

    @property
    def plain(self) -> bool:
        """As above."""

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

    def change(self, changes: Stages, isolate: Sequence[PlanStep]) -> Choreography:
        """The owner change itself, between a plan's changes; ``isolate`` is done by then. Raises Refused, Pinned."""


class _NoOwners:
    """Nobody checks who owns a page, and no owner changes."""

    plain = True

    def follow(self, iova: int, pa: int, from_lg2: int, to_lg2: int) -> Follow:
        return Follow.FREE

    def carry(self, store: Store, change: Change, close: Close) -> Sequence[Step] | None:
        return None

    def close(self, commands: Sequence[Invalidate | Wait]) -> Sequence[Step]:
        return commands

    def change(self, changes: Stages, isolate: Sequence[PlanStep]) -> Choreography:
        return Choreography()


NO_OWNERS: Owners = _NoOwners()


@define(eq=False)
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
        segments: the layout as columns, which many ranges at once are planned from; None: they are planned one by one.
    """

    ranges: tuple[tuple[int, int], ...] | Ranges
    layout: LayoutSource
    wipe_first: bool = False
    owed: tuple[tuple[int, int], ...] | Ranges = ()
    merge: bool = False
    remap: bool = False
    owned: bool = False
    owners: Owners = NO_OWNERS
    segments: SegmentSource | None = None

"""Ownership as a vendor's strategy: its check, its policies, its choreography."""

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import NamedTuple, Protocol, TypeAlias

from hitless.ownership.policy import Policy
from hitless.ownership.raw import RawTable
from hitless.ownership.table import HOST, OwnerTable
from hitless.plan import Call, Invalidate, Own, Owns, Step, Store, Wait
from hitless.units import PAGE_LG2

ANY_LG2 = 64
"""Of a leaf whose size does not matter to the owner table."""


class OwnerChange(NamedTuple):
    """A physical range that gets another owner.

    Args:
        leaf_lg2: log2 of the size of the leaves that map it when the owner changes; ANY_LG2 where no device reaches
            guest-owned pages, or the check knows no sizes.
    """

    start_pa: int
    end_pa: int
    owner: int
    leaf_lg2: int = ANY_LG2


class Choreography(NamedTuple):
    """What an owner change takes beside what the planner does to the host's own tables.

    Args:
        before: follows the planner's steps of section isolate.
        own: the change.
        after: comes before the planner's steps of section refresh.
    """

    before: Sequence[Step] = ()
    own: Sequence[Own | Owns | Call | Invalidate | Wait] = ()
    after: Sequence[Step] = ()


class Follow(Enum):
    """How the owner table goes along when leaves of a guest-owned block change their size under its devices."""

    FREE = "nothing has to change, or nobody would notice"
    TOGETHER = "leaf and owner entry change their size in one request"
    NEVER = "the owner table cannot follow"


Close: TypeAlias = Callable[[], Sequence[Invalidate | Wait]]


class Block(NamedTuple):
    """A naturally aligned physical block that one entry, a leaf or a pointer to a table of leaves, maps.

    ``together``: its owner entry changes its size with the leaf.
    """

    start_pa: int
    size_lg2: int
    owner: int
    together: bool


class Verdict(NamedTuple):
    """The owner check's answer for one access.

    Args:
        ok: the access may go on.
        size_lg2: the verdict, and the translation cached with it, hold for the naturally aligned
            block of this size around the address; no more than the leaf.
        outcome: of a refused access: ``owner`` (a safe fault), ``machine-check`` (never safe).
        why: in the vendor's words.
    """

    ok: bool
    size_lg2: int
    outcome: str = ""
    why: str = ""


class Ownership(Protocol):
    """Who may touch a page, in one vendor's way.

    A vendor's class may inherit from it: what has an answer here is what most vendors say.
    """

    policies: Mapping[str, Policy]
    """What a configuration may choose, by name."""

    default_policy: str

    cached: bool
    """Whether the check's verdict is cached with the translation. If not, every access is checked."""

    size_classes: Sequence[int] = ()
    """Sizes (log2) of owner entries that a leaf's size, rounded down to one of them, has to agree with; empty: none."""

    invalidate_after: bool
    """Whether an invalidation is owed after an owner change even where no entry changed."""

    def verdict(self, table: OwnerTable, pa: int, leaf_lg2: int, trusted: bool) -> Verdict:
        """Check an access to ``pa`` through a leaf of a size, by a device that is trusted or not."""

    carries_all: bool = True
    """Whether :meth:`carry`, if there is one, is asked about every store: False: where an owner entry changes along."""

    raw: RawTable | None = None
    """The owner table bit for bit; None: its form is not modelled."""

    def own(
        self, table: OwnerTable, changes: Sequence[OwnerChange], *, trusted: bool, allow_break: bool
    ) -> Choreography:
        """The host's and firmware's steps that change owners, in order.

        Args:
            table: as it is when isolate's own steps are done; not to be changed.
            changes: what gets another owner, sorted, disjoint; many of them are :class:`OwnerChanges`, which are better
                answered with Owns steps than one by one.
            trusted: whether a device of the domain reaches guest-owned pages.
            allow_break: do it even where a neighbour may notice.

        Raises:
            Refused: it cannot be done hitlessly.
            Pinned: a page is held; names the first.
        """

    def follow(self, from_lg2: int, to_lg2: int) -> Follow:
        """How guest-owned entries go along when their leaves get another size class, while a device may use them.

        Asked only where the classes of the two sizes differ; a merge that cannot be followed is not made.
        """
        return Follow.FREE

    def carry(
        self, table: OwnerTable, store: Store, block: Block, close: Close, *, allow_break: bool
    ) -> Sequence[Step] | None:
        """Who makes a store to a reachable entry, where it is not the host alone: the steps in its place.

        None: the host stores.

        Args:
            table: as it is before the conversion.
            store: what the recipe asks for.
            block: what the entry maps, before or after.
            close: gives the commands and waits that the recipe demands behind the store, on every unit. They need
                not follow where a call among the steps does them itself.
            allow_break: do it even where a neighbour may notice.

        Raises:
            Refused: it cannot be done hitlessly.
        """
        return None

    def close(self, commands: Sequence[Invalidate | Wait]) -> Sequence[Step]:
        """Who sends the commands that close a round of stores: the host, where nothing else is said."""
        return commands

    def reserve(self, table: OwnerTable, start_pa: int, end_pa: int) -> None:
        """Enter pages that a unit writes by itself, fault records and the like; most vendors leave them the host's."""
        table.set(start_pa, end_pa, HOST, PAGE_LG2)

    def initial(self, table: OwnerTable, start_pa: int, end_pa: int, owner: int, hunk_lg2: int) -> None:
        """Enter memory that is guest-owned (or host-owned) from the start, in entries no larger than a hunk."""
        ...


def size_class(size_lg2: int, classes: Sequence[int]) -> int:
    """The largest class that is not above a size; 0: there is none."""
    return max([each for each in classes if each <= size_lg2], default=0)

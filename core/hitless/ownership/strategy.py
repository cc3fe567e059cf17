"""Ownership as a vendor's strategy: its check, its policies, its choreography."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from hitless.ownership.policy import Policy
from hitless.ownership.table import OwnerTable
from hitless.plan import Own


class OwnerChange(NamedTuple):
    """A physical range that gets another owner."""

    start_pa: int
    end_pa: int
    owner: int


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
    """Who may touch a page, in one vendor's way."""

    policies: Mapping[str, Policy]
    """What a configuration may choose, by name."""

    default_policy: str

    cached: bool
    """Whether the check's verdict is cached with the translation. If not, every access is checked."""

    size_classes: Sequence[int]
    """Sizes (log2) of owner entries that a leaf's size, rounded down to one of them, has to agree with; empty: none."""

    invalidate_after: bool
    """Whether an invalidation is owed after an owner change even where no entry changed."""

    def verdict(self, table: OwnerTable, pa: int, leaf_lg2: int, trusted: bool) -> Verdict:
        """Check an access to ``pa`` through a leaf of a size, by a device that is trusted or not."""

    def own(self, table: OwnerTable, changes: Sequence[OwnerChange], *, trusted: bool, allow_break: bool) -> list[Own]:
        """The host's and firmware's steps that change owners, in order.

        Args:
            table: as it is before the conversion.
            changes: what gets another owner, sorted.
            trusted: whether a device of the domain may reach guest-owned pages.
            allow_break: do it even where a neighbour may notice.

        Raises:
            Refused: it cannot be done hitlessly.
        """

    def initial(self, table: OwnerTable, start_pa: int, end_pa: int, owner: int, hunk_lg2: int) -> None:
        """Enter memory that is guest-owned (or host-owned) from the start."""

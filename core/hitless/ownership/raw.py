"""An owner table bit for bit, as hardware or firmware keeps it in memory."""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple, Protocol

from hitless.bits import Layout
from hitless.ownership.table import OwnerTable


class RawEntry(NamedTuple):
    """One entry of a raw owner table.

    Args:
        pa: where it lies.
        words: what it holds.
        layout: its name in :attr:`RawTable.layouts`.
        start_pa, end_pa: the memory that it speaks of.
    """

    pa: int
    words: tuple[int, ...]
    layout: str
    start_pa: int
    end_pa: int


class RawTable(Protocol):
    """A vendor's owner table as words in memory."""

    layouts: Mapping[str, Layout]

    def entries(
        self, table: OwnerTable, base: int, start_pa: int, end_pa: int, *, gpa: Callable[[int], int] = lambda pa: pa
    ) -> Iterator[RawEntry]:
        """The entries that speak of a physical range, in order.

        Args:
            table: who owns what.
            base: the register that leads to the raw table, as hardware holds it.
            start_pa: where the range begins.
            end_pa: where it ends.
            gpa: the guest physical address of a guest-owned page, for tables that say it.
        """

    def read(self, load: Callable[[int], int], base: int, start_pa: int, end_pa: int) -> OwnerTable:
        """Who owns a physical range, as a raw table in memory says.

        Raises:
            BadInput: an entry is no legal one; names it.
        """

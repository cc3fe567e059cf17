"""The notifier protocol: what guest_memfd asks of everyone who holds its physical addresses."""

from typing import Protocol

from hitless.guest_memfd.conversion import Conversion
from hitless.plan import Plan


class Prepared(Protocol):
    """What a notifier's prepare leaves behind, as guest_memfd sees it.

    ``span`` is the widest range that any entry stored to translates: conversions whose spans
    overlap are ordered. ``plan`` holds the notifier's sections.
    """

    @property
    def plan(self) -> Plan: ...

    @property
    def span(self) -> tuple[int, int]: ...


class Notifier(Protocol):
    """One holder of guest_memfd's physical addresses: an IOMMU domain, or the CPU's page tables."""

    name: str

    def prepare(self, conversion: Conversion) -> Prepared:
        """Allocate all that software could fail at later.

        Raises:
            OutOfTableMemory, Pinned, Refused: nothing has changed then.
        """

    def isolate(self, conversion: Conversion) -> None:
        """End leaves and cached translations at the edges, where the vendor needs it; unmap, with policy wipe."""

    def own(self, conversion: Conversion) -> None:
        """Change the owner table that this notifier's hardware consults, for ``conversion.done``."""

    def refresh(self, conversion: Conversion) -> None:
        """Map what guest_memfd holds now; return when nothing reaches the old memory."""

    def cancel(self, conversion: Conversion) -> None:
        """Undo prepare, byte for byte; only before isolate."""

    def revoke(self, start: int, end: int) -> None:
        """Map nothing in the range any more, and forget it (truncate)."""


class Watcher(Protocol):
    """Somebody who looks on: DMA in flight, a progress display."""

    def begin(self, conversion: Conversion) -> None:
        """Every notifier has prepared; isolate follows."""

    def end(self, conversion: Conversion) -> None:
        """Every notifier's refresh has returned."""

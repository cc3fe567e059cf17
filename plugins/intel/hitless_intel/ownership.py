"""Plain TDX: private pages belong to the TDX module; a DMA that still reaches one is a machine check.

Facts: INTEL-TDX-*.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from hitless.ownership import (
    HOST,
    Choreography,
    OwnerChange,
    OwnerChanges,
    Ownership,
    OwnerTable,
    Policy,
    Verdict,
    owns,
)
from hitless.plan import Own

_4K = 12


class Tdx(Ownership):
    """The IOMMU checks nothing: memory itself refuses, so nothing of it is cached.

    The VMM's tables hold shared pages only, for trusted devices too. ``outcome``: what becomes of a request that
    reaches a private page.
    """

    policies: Mapping[str, Policy] = {"wipe": Policy("wipe", maps_private=False)}
    default_policy = "wipe"
    cached = False
    invalidate_after = False

    def __init__(self, outcome: str = "machine-check") -> None:
        self._outcome = outcome

    def verdict(self, table: OwnerTable, pa: int, leaf_lg2: int, trusted: bool) -> Verdict:
        """A private page reached with a shared KeyID loses its integrity, which the CPU finds as a machine check."""
        if table.owner(pa) == HOST:
            return Verdict(True, _4K)
        return Verdict(False, _4K, self._outcome, "a private page was reached through a shared mapping")

    def own(
        self, table: OwnerTable, changes: Sequence[OwnerChange], *, trusted: bool, allow_break: bool
    ) -> Choreography:
        """Give pages to the TD, or take them back; the host's tables have been wiped before."""
        if isinstance(changes, OwnerChanges):
            ranges, given = changes.ranges, np.flatnonzero(changes.owner != HOST)
            taken = np.flatnonzero(changes.owner == HOST)
            return Choreography(
                own=[
                    *owns("TDH.MEM.PAGE.REMOVE", ranges.take(taken), changes.owner[taken], _4K),
                    *owns("TDH.MEM.PAGE.AUG", ranges.take(given), changes.owner[given], _4K),
                ]
            )
        return Choreography(
            own=[
                Own("TDH.MEM.PAGE.REMOVE" if owner == HOST else "TDH.MEM.PAGE.AUG", start, end, owner, _4K)
                for start, end, owner, _ in changes
            ]
        )

    def initial(self, table: OwnerTable, start_pa: int, end_pa: int, owner: int, hunk_lg2: int) -> None:
        table.set(start_pa, end_pa, owner, _4K)

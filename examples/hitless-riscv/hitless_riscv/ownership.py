"""Memory protection tables (MPT) of supervisor domains (Smmtt), as an I/O bridge consults them.

Spec: RISC-V Smmtt, a draft. Facts: RISCV-MTT-*.
"""

from collections.abc import Mapping, Sequence

from hitless.ownership import (
    GUEST,
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
from hitless_riscv.features import RiscvFeatures

_GRANULE_LG2 = 12


class Mpt(Ownership):
    """One table of the host's domain, and one of the confidential domain's, in pieces of 4K.

    The checker stands behind the IOMMU and looks at each access, so that a leaf may hold pieces of both domains, and
    nothing of it is cached with a translation (RISCV-MTT-4, RISCV-MTT-5). Without it nothing keeps a device from
    guest memory, so that it cannot stay mapped.
    """

    cached = False
    invalidate_after = False  # the change brings its own invalidation, by physical address (RISCV-MTT-6)

    def __init__(self, features: RiscvFeatures) -> None:
        self._checked = features.smmtt
        check, wipe = Policy("check", maps_private=True), Policy("wipe", maps_private=False)
        self.default_policy = "check" if features.smmtt else "wipe"
        self.policies: Mapping[str, Policy] = {"check": check, "wipe": wipe} if features.smmtt else {"wipe": wipe}

    def verdict(self, table: OwnerTable, pa: int, leaf_lg2: int, trusted: bool) -> Verdict:
        """Each piece by itself; a trusted device's requests are the confidential domain's (RISCV-MTT-7)."""
        if not self._checked:
            return Verdict(True, leaf_lg2)
        owner = table.owner(pa)
        if owner == HOST or (trusted and owner == GUEST):
            return Verdict(True, _GRANULE_LG2)
        why = "the MPT of the device's supervisor domain grants nothing here (RISCV-MTT-4)"
        return Verdict(False, _GRANULE_LG2, "owner", why)

    def own(
        self, table: OwnerTable, changes: Sequence[OwnerChange], *, trusted: bool, allow_break: bool
    ) -> Choreography:
        """The root domain's manager rewrites both tables; its MPTINVAL and IOFENCE are part of it (RISCV-MTT-6)."""
        if not self._checked:
            return Choreography()
        if isinstance(changes, OwnerChanges):
            return Choreography(own=owns("MPT", changes.ranges, changes.owner, _GRANULE_LG2))
        return Choreography(own=[Own("MPT", start, end, owner, _GRANULE_LG2) for start, end, owner, _ in changes])

    def initial(self, table: OwnerTable, start_pa: int, end_pa: int, owner: int, hunk_lg2: int) -> None:
        table.set(start_pa, end_pa, owner, _GRANULE_LG2)

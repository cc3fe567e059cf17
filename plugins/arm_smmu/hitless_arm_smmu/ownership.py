"""The granule protection table (GPT) of the Realm Management Extension, as an SMMU consults it.

Spec: IHI0070 section 3.25. Facts: ARM-GPT-*.
"""

from collections.abc import Mapping, Sequence

from hitless.ownership import GUEST, HOST, Choreography, OwnerChange, Ownership, OwnerTable, Policy, Verdict
from hitless.plan import Own
from hitless_arm_smmu.features import ArmSmmuFeatures

_GRANULE_LG2 = 12


class Gpt(Ownership):
    """The GPT with 4K granules: host memory is Non-secure, guest memory Realm.

    A leaf may hold granules of both (ARM-GPT-2), so leaves need not end where owners change, and an
    owner change is never refused. Without the check nothing keeps a device from guest memory, so that it cannot stay
    mapped.
    """

    cached = True
    invalidate_after = False  # the change brings its own invalidation, by physical address (ARM-GPT-6)

    def __init__(self, features: ArmSmmuFeatures) -> None:
        self._gpc = features.gpc
        check, wipe = Policy("check", maps_private=True), Policy("wipe", maps_private=False)
        self.default_policy = "check" if features.gpc else "wipe"
        self.policies: Mapping[str, Policy] = {"check": check, "wipe": wipe} if features.gpc else {"wipe": wipe}

    def verdict(self, table: OwnerTable, pa: int, leaf_lg2: int, trusted: bool) -> Verdict:
        """Each granule is checked by itself; a trusted device's stream is a Realm one.

        Facts: ARM-GPT-1, ARM-GPT-2, ARM-GPT-3.
        """
        if not self._gpc:
            return Verdict(True, leaf_lg2)
        owner = table.owner(pa)
        if owner == HOST or (trusted and owner == GUEST):
            return Verdict(True, _GRANULE_LG2)
        return Verdict(
            False,
            _GRANULE_LG2,
            "owner",
            "granule protection fault: the granule is not in the access's physical address space (ARM-GPT-3)",
        )

    def own(
        self, table: OwnerTable, changes: Sequence[OwnerChange], *, trusted: bool, allow_break: bool
    ) -> Choreography:
        """One change of the GPT by Root firmware each, the TLBI by physical address and the SYNC included."""
        return Choreography(
            own=[Own("GPT", start, end, owner, _GRANULE_LG2, "iotlb+atc") for start, end, owner, _ in changes]
        )

    def initial(self, table: OwnerTable, start_pa: int, end_pa: int, owner: int, hunk_lg2: int) -> None:
        table.set(start_pa, end_pa, owner, _GRANULE_LG2)

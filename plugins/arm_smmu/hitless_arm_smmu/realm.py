"""One half of a realm's address space: stage 2 tables that the realm management monitor (RMM) keeps.

The host asks for each change by a call; tables serve the realm's CPUs and the SMMU's Realm streams alike. The
protected half leads to Realm granules, the unprotected half (top IPA bit 1, NS in its leaves) to the host's. What the
RMM notes in entries that are not valid (HIPAS, RIPAS) no walker looks at, and stands as 0 here.

Facts: ARM-GPT-3, ARM-GPT-8, ARM-GPT-9, ARM-GPT-17, ARM-GPT-18, ARM-GPT-19, ARM-GPT-20.
"""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from hitless.ownership import GUEST, HOST, OTHER_GUEST, Block, Close, OwnerTable, Policy
from hitless.plan import Barrier, Call, Clean, Invalidate, Own, Step, Store, Wait
from hitless_arm_smmu.features import ArmSmmuFeatures
from hitless_arm_smmu.ownership import Gpt

_PROTECTED_OPS = {"map": "RMI_DATA_CREATE", "wipe": "RMI_DATA_DESTROY"}
_UNPROTECTED_OPS = {"map": "RMI_RTT_MAP_UNPROTECTED", "wipe": "RMI_RTT_UNMAP_UNPROTECTED"}
_Effects: TypeAlias = list[Store | Clean | Barrier | Own | Invalidate | Wait]
_TABLE_OPS = {"cut": "RMI_RTT_CREATE", "merge": "RMI_RTT_FOLD", "map": "RMI_RTT_CREATE", "prune": "RMI_RTT_DESTROY"}


class RealmHalf(Gpt):
    """The protected or the unprotected half; the GPT beneath is the same.

    A half maps only what its accesses reach: the other half's pages leave before their granule changes, and come after
    it (ARM-GPT-20).
    """

    def __init__(self, features: ArmSmmuFeatures) -> None:
        super().__init__(features)
        self._protected = features.half == "protected"
        self._breaks = not features.rmm_bbml2
        self._coherent = features.coherent
        policy = Policy("wipe", maps_private=self._protected, maps_shared=not self._protected)
        self.default_policy = "wipe"
        self.policies: Mapping[str, Policy] = {"wipe": policy}

    def _passes(self, owner: int, *, trusted: bool) -> bool:
        """A leaf of the protected half makes Realm accesses, one of the unprotected half Non-secure ones."""
        return trusted and owner in (GUEST, OTHER_GUEST) if self._protected else owner == HOST

    def carry(
        self, table: OwnerTable, store: Store, block: Block, close: Close, *, allow_break: bool
    ) -> Sequence[Step] | None:
        """Every store is the RMM's, which invalidates and waits before its call answers (ARM-GPT-18).

        It folds and unfolds by break-before-make, which the recipes refuse unless breaking is allowed (ARM-GPT-9).
        """
        kind = store.what.partition("-")[0]
        start, end = block.start_pa, block.start_pa + (1 << block.size_lg2)
        ops = _PROTECTED_OPS if self._protected else _UNPROTECTED_OPS
        leaf = kind in ops and bool(block.start_pa)
        op = ops[kind] if leaf else _TABLE_OPS.get(kind, ops["map" if store.new else "wipe"])
        effects: _Effects = [store, *self._visible(store)]
        if kind in ("cut", "merge") and self._breaks:
            return [Call(op, start, end, self._broken(store, kind, close))]
        if not store.expected:
            return [Call(op, start, end, effects)]  # what was not valid is not cached (ARM-TLBI-10)
        return [Call(op, start, end, [*effects, *close()])]

    def _broken(self, store: Store, kind: str, close: Close) -> _Effects:
        """Break-before-make inside one call, while requests go on."""
        pa, level, iova = store.pa, store.level, store.iova
        broken = Store(pa, store.expected, 0, store.hardware, f"{kind}-1", level, iova, store.fold)
        made = Store(pa, 0, store.new, 0, f"{kind}-2", level, iova)
        return [broken, *self._visible(broken), *close(), made, *self._visible(made)]

    def _visible(self, store: Store) -> list[Clean | Barrier]:
        """The RMM's own barrier, and the clean before it where walkers do not snoop."""
        return [Barrier()] if self._coherent else [Clean(store.pa, 8), Barrier()]

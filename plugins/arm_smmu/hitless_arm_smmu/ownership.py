"""The granule protection table (GPT) of the Realm Management Extension, as an SMMU consults it.

Spec: IHI0070 section 3.25. Facts: ARM-GPT-*.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np

from hitless.bits import U64Array
from hitless.columns import Ranges, distinct
from hitless.ownership import (
    GUEST,
    HOST,
    OTHER_GUEST,
    Choreography,
    OwnerChange,
    OwnerChanges,
    Ownership,
    OwnerTable,
    Policy,
    Verdict,
    edges,
    inner,
    owns,
)
from hitless.plan import Own, Owns
from hitless.units import align_down, align_up
from hitless_arm_smmu.features import GPT_BLOCKS_LG2, ArmSmmuFeatures
from hitless_arm_smmu.gpt import RawGpt

GRANULE_LG2 = 12


class Gpt(Ownership):
    """The GPT with 4K granules: host memory is Non-secure, guest memory Realm.

    A leaf may hold granules of both (ARM-GPT-2), so leaves need not end where owners change, and an
    owner change is never refused. Without the check nothing keeps a device from guest memory, so that it cannot stay
    mapped. Both halves of a realm's address space are seen as one here: a trusted device's request is a Realm one for
    the realm's granules, a Non-secure one for the host's; :class:`hitless_arm_smmu.realm.RealmHalf` has them apart.
    """

    cached = True

    def __init__(self, features: ArmSmmuFeatures) -> None:
        self._gpc = features.gpc
        self._drops = features.gpt_drops
        self._sizes = [lg2 for lg2 in GPT_BLOCKS_LG2.values() if lg2 <= GPT_BLOCKS_LG2[features.gpt_block]]
        # The change brings an invalidation by physical address of its own (ARM-GPT-6).
        self.invalidate_after = features.gpc and features.gpt_drops == "iotlb"
        self.raw = RawGpt()
        check, wipe = Policy("check", maps_private=True), Policy("wipe", maps_private=False)
        self.default_policy = "check" if features.gpc else "wipe"
        self.policies: Mapping[str, Policy] = {"check": check, "wipe": wipe} if features.gpc else {"wipe": wipe}

    # -- the check

    def verdict(self, table: OwnerTable, pa: int, leaf_lg2: int, trusted: bool) -> Verdict:
        """Each granule is checked by itself, whatever the size of its entry (ARM-GPT-1, ARM-GPT-2, ARM-GPT-3)."""
        if not self._gpc:
            return Verdict(True, leaf_lg2)
        if self._passes(table.owner(pa), trusted=trusted):
            return Verdict(True, GRANULE_LG2)
        return Verdict(
            False,
            GRANULE_LG2,
            "owner",
            "granule protection fault: the granule is not in the access's physical address space (ARM-GPT-3)",
        )

    def _passes(self, owner: int, *, trusted: bool) -> bool:
        """The GPT does not tell one realm from another (ARM-GPT-13)."""
        return owner == HOST or (trusted and owner in (GUEST, OTHER_GUEST))

    # -- the choreography

    def own(
        self, table: OwnerTable, changes: Sequence[OwnerChange], *, trusted: bool, allow_break: bool
    ) -> Choreography:
        """Root firmware shatters what is only partly converted, writes granules, and fuses what has become equal.

        Each of it with its own TLBI by physical address and SYNC; break-before-make is not needed (ARM-GPT-7).
        """
        if isinstance(changes, OwnerChanges):
            return Choreography(own=self._own_many(table, changes))
        if not self._gpc:
            return Choreography(own=[Own("GPT", start, end, owner, GRANULE_LG2) for start, end, owner, _ in changes])
        steps: list[Own] = []
        after = table.copy()
        for start, end, owner, _ in changes:
            for edge in (start, end - 1):
                steps += self._shatter(after, edge, start, end)
            steps.append(self._applied(after, Own("GPT", start, end, owner, GRANULE_LG2, self._drops)))
            steps += self._fuse(after, start, end)
        return Choreography(own=steps)

    def _own_many(self, table: OwnerTable, changes: OwnerChanges) -> list[Owns]:
        """The same for many changes: all that is shattered, all that is written, all that is fused, by size."""
        ranges = changes.ranges
        if not self._gpc:
            return owns("GPT", ranges, changes.owner, GRANULE_LG2)
        steps: list[Owns] = []
        present = {*self._sizes, *table.sizes(int(ranges.start[0]), int(ranges.last[-1]) + 1)} - {GRANULE_LG2}
        for size in sorted(present, reverse=True):
            blocks = _blocks(edges(ranges, size), size)
            owner, size_lg2 = table.states(blocks.start)
            there = np.flatnonzero(size_lg2 >= size)  # a larger one has been shattered down to this size
            smaller = max(each for each in self._sizes if each < size)
            steps += owns("GPT_SHATTER", blocks.take(there), owner[there], smaller, self._drops)
        steps += owns("GPT", ranges, changes.owner, GRANULE_LG2, self._drops)
        return [*steps, *self._fuse_many(table, changes, steps)]

    def _fuse_many(self, table: OwnerTable, changes: OwnerChanges, steps: list[Owns]) -> list[Owns]:
        """What fuses after steps, by size."""
        ranges = changes.ranges
        if not self._may_fuse(table, changes):
            return []
        after, fused = _applied_all(table.copy(), steps), []
        for below, size in pairwise(self._sizes):
            blocks = _blocks(edges(ranges, size), size)
            whole, owner, size_lg2 = after.blocks(blocks.start, size)
            there = np.flatnonzero(whole & (size_lg2 == below))
            which, middle = inner(ranges, size)
            both, owners = Ranges.together([blocks.take(there), middle]), np.append(owner[there], changes.owner[which])
            if not len(both):
                break
            found = owns("GPT_FUSE", both, owners, size, self._drops)
            _applied_all(after, found)
            fused += found
        return fused

    def _may_fuse(self, table: OwnerTable, changes: OwnerChanges) -> bool:
        """Whether a block may have one state afterwards: none does that is shattered and not given to its own owner."""
        ranges = changes.ranges
        if len(self._sizes) == 1:
            return False
        owner, size_lg2 = table.states(edges(ranges, self._sizes[1]))
        stays = size_lg2 > GRANULE_LG2
        for each in distinct(changes.owner):
            stays &= owner != np.uint64(each)
        return not stays.all() or len(inner(ranges, self._sizes[1])[0]) > 0

    def _shatter(self, table: OwnerTable, pa: int, start: int, end: int) -> Iterator[Own]:
        """A contiguous entry that reaches over an edge, into the next smaller size, until none does (ARM-GPT-7)."""
        while (size := table.entry_lg2(pa)) > GRANULE_LG2:
            block = align_down(pa, size)
            if start <= block and block + (1 << size) <= end:
                return
            smaller = max(each for each in (GRANULE_LG2, *self._sizes) if each < size)
            own = Own("GPT_SHATTER", block, block + (1 << size), table.owner(block), smaller, self._drops)
            yield self._applied(table, own)

    def _fuse(self, table: OwnerTable, start: int, end: int) -> Iterator[Own]:
        """What has one state all over, and entries of the size below, becomes contiguous (ARM-GPT-15)."""
        below = GRANULE_LG2
        for size in self._sizes[1:]:
            first, last = align_down(start, size), align_up(end, size)
            edges = {first, last - (1 << size)}
            whole = [block for block in sorted(edges) if _equal(table, block, block + (1 << size), below)]
            low = first if first in whole else first + (1 << size)
            high = last if last - (1 << size) in whole else last - (1 << size)
            if low >= high:
                return
            own = Own("GPT_FUSE", low, high, table.owner(low), size, self._drops)
            yield self._applied(table, own)
            below = size

    def _applied(self, table: OwnerTable, own: Own) -> Own:
        table.apply(own)
        return own

    def initial(self, table: OwnerTable, start_pa: int, end_pa: int, owner: int, hunk_lg2: int) -> None:
        """Contiguous entries wherever whole blocks fit, as firmware fuses them at the start."""
        table.set(start_pa, end_pa, owner, GRANULE_LG2)
        for size in self._sizes[1:] if self._gpc else ():
            low, high = align_up(start_pa, size), align_down(end_pa, size)
            if size <= hunk_lg2 and low < high:
                table.set(low, high, owner, size)


def _blocks(first: U64Array, size_lg2: int) -> Ranges:
    return Ranges(first, first + np.uint64((1 << size_lg2) - 1))


def _applied_all(table: OwnerTable, steps: list[Owns]) -> OwnerTable:
    for step in steps:
        table.apply(step)
    return table


def _equal(table: OwnerTable, start: int, end: int, size_lg2: int) -> bool:
    """Whether a range has one owner, and entries of one size."""
    return table.uniform(start, end) is not None and table.sizes(start, end) == {size_lg2}

"""SEV-SNP's reverse map table (RMP), as an AMD IOMMU consults it, and how its owners change.

Spec: AMD64 APM volume 2 section 15.36; list mail of AMD engineers. Facts: AMD-RMP-*.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from hitless.bits import U64Array
from hitless.columns import Places, Ranges
from hitless.errors import Refused
from hitless.ownership import (
    FIRMWARE,
    GUEST,
    HOST,
    Block,
    Boundary,
    Choreography,
    Close,
    Follow,
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
from hitless.plan import Call, Own, Step, Store
from hitless.units import align_down, align_up
from hitless_amd.features import AmdFeatures
from hitless_amd.rmp import RawRmp

_4K, _2M = 12, 21


class Rmp(Ownership):
    """The RMP: entries of 4K and 2M, checked when a request is translated, the verdict cached with it.

    Without SNP nothing keeps a device from guest-owned pages, so that they cannot stay mapped.
    """

    cached = True
    invalidate_after = True  # AMD-RMP-6
    carries_all = False

    def __init__(self, features: AmdFeatures) -> None:
        self._snp = features.snp
        self._engine = features.engine
        self.size_classes = (_4K, _2M) if features.snp else ()  # AMD-RMP-8
        self.raw = RawRmp(features.rmp_form)
        self._drops = "none" if features.rmpupdate_drops == "no" else features.rmpupdate_drops
        match = Policy("match", maps_private=True, boundary=Boundary(features.boundary), check_unit_lg2=_2M)
        wipe = Policy("wipe", maps_private=False)
        check = Policy("check", maps_private=True)
        checked = {"match": match, "wipe": wipe, "check": check}
        self.policies: Mapping[str, Policy] = checked if features.snp else {"wipe": wipe}
        if features.vtom:
            halves = Policy("wipe", maps_private=True, private_below=features.vtom << _2M)
            self.policies = {"wipe": halves}  # AMD-RMP-26
        self.default_policy = "match" if "match" in self.policies else "wipe"

    # -- the check

    def verdict(self, table: OwnerTable, pa: int, leaf_lg2: int, trusted: bool) -> Verdict:
        """The leaf is checked and cached as 4K, or as 2M if it is that large (AMD-RMP-7, AMD-RMP-8)."""
        if not self._snp:
            return Verdict(True, leaf_lg2)
        unit = _2M if leaf_lg2 >= _2M else _4K
        start = align_down(pa, unit)
        owner = table.uniform(start, start + (1 << unit))
        if owner == HOST:
            return Verdict(True, unit)
        if not trusted or owner != GUEST:
            return Verdict(
                False,
                unit,
                "owner",
                "a page of the checked unit is not the hypervisor's (AMD-RMP-5, AMD-RMP-11)",
            )
        if table.sizes(start, start + (1 << unit)) != {unit}:
            return Verdict(False, unit, "owner", "leaf and RMP entry differ in size class (AMD-RMP-8, AMD-RMP-9)")
        return Verdict(True, unit)

    # -- the choreography

    def own(
        self, table: OwnerTable, changes: Sequence[OwnerChange], *, trusted: bool, allow_break: bool
    ) -> Choreography:
        """PSMASH what is only partly converted, then RMPUPDATE in entries of the leaves' size class.

        Raises:
            Refused: a smash of guest-owned memory that a trusted device uses without a leaf that is cut with it.
        """
        if not self._snp:
            return Choreography()  # there is no RMP
        if isinstance(changes, OwnerChanges):
            return self._own_many(table, changes, allow_break=allow_break or not trusted)
        blocks = sorted({block for change in changes for block in self._partial(table, change)})
        if blocks and trusted and not allow_break:
            raise _refusal("smash", blocks[0])
        steps = [Own("PSMASH", block, block + (1 << _2M), table.owner(block), _4K) for block in blocks]
        for start, end, owner, leaf_lg2 in changes:
            found = _entries(start, end, owner, leaf_lg2)
            steps += [Own("RMPUPDATE", a, b, owner, size, self._drops) for a, b, size in found]
        return Choreography(own=steps)

    def _own_many(self, table: OwnerTable, changes: OwnerChanges, *, allow_break: bool) -> Choreography:
        """The same for many changes: all that is smashed, then all that is updated, by owner and size."""
        ranges = changes.ranges
        blocks = edges(ranges, _2M)
        owner, size_lg2 = table.states(blocks)
        smashed = np.flatnonzero((owner != HOST) & (size_lg2 == _2M))
        blocks, owner = blocks[smashed], owner[smashed]
        if len(blocks) and not allow_break:
            raise _refusal("smash", int(blocks[0]))
        steps = owns("PSMASH", Ranges(blocks, blocks + np.uint64((1 << _2M) - 1)), owner, _4K)
        large, middle = inner(ranges, _2M)
        fits = np.flatnonzero((changes.owner[large] != HOST) & (changes.leaf_lg2[large] >= _2M))
        if not len(fits):
            return Choreography(own=[*steps, *owns("RMPUPDATE", ranges, changes.owner, _4K, self._drops)])
        large, middle = large[fits], middle.take(fits)
        small, owners = _around(ranges, large, middle, changes.owner)
        steps += owns("RMPUPDATE", small, owners, _4K, self._drops)
        return Choreography(own=[*steps, *owns("RMPUPDATE", middle, changes.owner[large], _2M, self._drops)])

    def follow(self, from_lg2: int, to_lg2: int) -> Follow:
        """The firmware engine changes leaf and entry together; without PUNSMASH nothing merges (AMD-RMP-12)."""
        if to_lg2 < from_lg2:
            return Follow.TOGETHER
        return Follow.TOGETHER if self._engine == "smash+unsmash" else Follow.NEVER

    def carry(
        self, table: OwnerTable, store: Store, block: Block, close: Close, *, allow_break: bool
    ) -> Sequence[Step] | None:
        """What changes size together with its RMP entry, the firmware engine stores (AMD-RMP-13).

        A merge leaves cached pointers to the old table, whose 4K leaves no longer agree with the RMP: the engine drops
        them before it lets requests go on (AMD-RMP-21).

        Raises:
            Refused: there is no such engine.
        """
        start, end = block.start_pa, block.start_pa + (1 << _2M)
        cut = store.what == "cut"
        own = Own("PSMASH" if cut else "PUNSMASH", start, end, block.owner, _4K if cut else _2M)
        if self._engine != "none":
            return [Call("PSMASH_IO" if cut else "PUNSMASH", start, end, [store, *(() if cut else close()), own], True)]
        if not allow_break:
            raise _refusal("smash", start)
        return [store, own]

    def reserve(self, table: OwnerTable, start_pa: int, end_pa: int) -> None:
        """Firmware's, so that the CPU cannot write them (AMD-RMP-16)."""
        if self._snp:
            table.set(start_pa, end_pa, FIRMWARE, _4K)

    def initial(self, table: OwnerTable, start_pa: int, end_pa: int, owner: int, hunk_lg2: int) -> None:
        for a, b, size in _entries(start_pa, end_pa, owner, hunk_lg2):
            table.set(a, b, owner, size)

    def _partial(self, table: OwnerTable, change: OwnerChange) -> Iterator[int]:
        """The guest-owned 2M entries that reach over an edge of a change (AMD-RMP-3)."""
        first, last = align_down(change.start_pa, _2M), align_down(change.end_pa - 1, _2M)
        for block in (first,) if first == last else (first, last):
            inside = change.start_pa <= block and block + (1 << _2M) <= change.end_pa
            if not inside and table.owner(block) != HOST and table.entry_lg2(block) == _2M:
                yield block


def _around(ranges: Ranges, large: Places, middle: Ranges, owners: U64Array) -> tuple[Ranges, U64Array]:
    """What is left of ranges, some of which have a middle part of their own; and whose it becomes."""
    whole = ranges.take(large)
    start = np.concatenate([np.delete(ranges.start, large), whole.start, middle.last + np.uint64(1)])
    last = np.concatenate([np.delete(ranges.last, large), middle.start - np.uint64(1), whole.last])
    owner = np.concatenate([np.delete(owners, large), owners[large], owners[large]])
    order = np.argsort(start, kind="stable")
    order = order[last[order] + np.uint64(1) > start[order]]
    return Ranges(start[order], last[order]), owner[order]


def _refusal(kind: str, block: int) -> Refused:
    return Refused(
        f"amd.trusted-{kind}",
        f"cannot {kind} a guest-owned 2M RMP entry under a trusted device",
        who="amd",
        where=f"RMP entry of {block:#x}",
        rule="S1: leaf size class and owner-table size agree while a device may use the page (AMD-RMP-12)",
        why="entry and RMP change one after the other, which leaves a window in which DMA fails",
        do='use the firmware engine (features.engine = "smash"), convert whole 2M ranges, or set allow_break = true on '
        "the domain",
    )


def _entries(start: int, end: int, owner: int, largest_lg2: int) -> list[tuple[int, int, int]]:
    """A range as RMP entries: (start, end, size_lg2); 2M where whole 2M are guest-owned, and leaves are as large."""
    a, b = align_up(start, _2M), align_down(end, _2M)
    if owner == HOST or largest_lg2 < _2M or a >= b:
        return [(start, end, _4K)]
    parts = [(start, a, _4K), (a, b, _2M), (b, end, _4K)]
    return [part for part in parts if part[0] < part[1]]

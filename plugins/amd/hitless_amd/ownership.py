"""SEV-SNP's reverse map table (RMP), as an AMD IOMMU consults it.

Spec: AMD64 APM volume 2 section 15.36; list mail of AMD engineers. Facts: AMD-RMP-*.
"""

from collections.abc import Iterator, Mapping, Sequence

from hitless.errors import Refused
from hitless.ownership import GUEST, HOST, Boundary, OwnerChange, OwnerTable, Policy, Verdict
from hitless.plan import Own
from hitless.units import align_down, align_up
from hitless_amd.features import AmdFeatures

_4K, _2M = 12, 21


class Rmp:
    """The RMP: entries of 4K and 2M, checked when a request is translated, the verdict cached with it.

    Without SNP nothing keeps a device from guest-owned pages, so that they cannot stay mapped.
    """

    cached = True
    invalidate_after = True  # AMD-RMP-6

    def __init__(self, features: AmdFeatures) -> None:
        self._snp = features.snp
        self.size_classes = (_4K, _2M) if features.snp else ()  # AMD-RMP-8
        self._drops = "none" if features.rmpupdate_drops == "no" else features.rmpupdate_drops
        match = Policy("match", maps_private=True, boundary=Boundary(features.boundary), check_unit_lg2=_2M)
        wipe = Policy("wipe", maps_private=False)
        self.default_policy = "match" if features.snp else "wipe"
        self.policies: Mapping[str, Policy] = {"match": match, "wipe": wipe} if features.snp else {"wipe": wipe}

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

    def own(self, table: OwnerTable, changes: Sequence[OwnerChange], *, trusted: bool, allow_break: bool) -> list[Own]:
        """PSMASH what is only partly converted, then RMPUPDATE.

        Raises:
            Refused: a smash of guest-owned memory that a trusted device may be using.
        """
        if not self._snp:
            return []  # there is no RMP
        blocks = sorted({block for change in changes for block in self._partial(table, change)})
        if blocks and trusted and not allow_break:
            raise Refused(
                "amd.trusted-smash",
                "cannot smash a guest-owned 2M RMP entry under a trusted device",
                who="amd",
                where=f"RMP entry of {blocks[0]:#x}",
                rule="S1: leaf size class and owner-table size agree while a device may use the page (AMD-RMP-12)",
                why="entry and RMP change one after the other, which leaves a window in which DMA fails",
                do="convert whole 2M ranges, or set allow_break = true on the domain",
            )
        steps = [Own("PSMASH", block, block + (1 << _2M), table.owner(block), _4K) for block in blocks]
        for start, end, owner in changes:
            steps += [Own("RMPUPDATE", a, b, owner, size, self._drops) for a, b, size in _entries(start, end, owner)]
        return steps

    def initial(self, table: OwnerTable, start_pa: int, end_pa: int, owner: int, hunk_lg2: int) -> None:
        for a, b, size in _entries(start_pa, end_pa, owner):
            table.set(a, b, owner, min(size, hunk_lg2))

    def _partial(self, table: OwnerTable, change: OwnerChange) -> Iterator[int]:
        """The guest-owned 2M entries that reach over an edge of a change (AMD-RMP-3)."""
        for block in {align_down(change.start_pa, _2M), align_down(change.end_pa - 1, _2M)}:
            inside = change.start_pa <= block and block + (1 << _2M) <= change.end_pa
            if not inside and table.owner(block) != HOST and table.entry_lg2(block) == _2M:
                yield block


def _entries(start: int, end: int, owner: int) -> list[tuple[int, int, int]]:
    """A range as RMP entries: (start, end, size_lg2); 2M where whole 2M are guest-owned."""
    if owner == HOST:
        return [(start, end, _4K)]
    a, b = align_up(start, _2M), align_down(end, _2M)
    if a >= b:
        return [(start, end, _4K)]
    parts = [(start, a, _4K), (a, b, _2M), (b, end, _4K)]
    return [part for part in parts if part[0] < part[1]]

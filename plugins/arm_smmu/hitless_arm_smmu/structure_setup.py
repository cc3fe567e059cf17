"""Writes the structures of a whole unit: a stream table, STEs, and CDs where there is a stage 1.

Spec: IHI0070 chapter 5. Facts: ARM-STE-*, ARM-CD-*.
"""

from collections.abc import Mapping, Sequence
from itertools import groupby

from hitless.hardware.structures import StageRoot, StructureEntry, StructureImage, TableSource
from hitless.refresh.commands import Words
from hitless_arm_smmu.features import ArmSmmuFeatures
from hitless_arm_smmu.regime import STAGE_1, STAGE_2, cd_fields, check_id, stage2_fields, unfit
from hitless_arm_smmu.structure_layouts import ABORT, BYPASS, CD, L1CD, L1STD, STE, STRTAB_BASE

_PAGE_LG2 = 12
_SPLIT = 8
"""StreamID bits of a second-level table: one bus of PCI."""
_LEAF_CDS_LG2 = 6
"""Up to so many SubstreamID bits the CDs fit into one page; above, there are two levels of them."""
_INCOMING = 1


class _Image:
    """What is being written: words, and the blocks that they lie in, none smaller than a page."""

    def __init__(self, memory: TableSource) -> None:
        self._memory = memory
        self.blocks: list[tuple[int, int]] = []
        self.writes: list[tuple[int, Words]] = []

    def allocate(self, lg2: int) -> int:
        size_lg2 = max(lg2, _PAGE_LG2)
        pa = self._memory.allocate(size_lg2)
        self.blocks.append((pa, size_lg2))
        return pa

    def table(self, pa: int, entries: Mapping[int, Words]) -> None:
        """Structures of 64 bytes by index."""
        self.writes += [(pa + 64 * index, words) for index, words in entries.items()]


def setup(
    entries: Sequence[StructureEntry], tables: TableSource, guest: TableSource | None, features: ArmSmmuFeatures
) -> StructureImage:
    """A stream table with an STE for each device, and CDs where there is a stage 1.

    The CDs of a nested device are its guest's: they lie in guest memory, at guest physical addresses (ARM-CD-5).

    Raises:
        OutOfTableMemory.  HitlessError: STE and CD cannot say this.
    """
    image, owned = _Image(tables), _Image(guest) if guest is not None else None
    by_device = groupby(sorted(entries, key=lambda entry: entry.device), key=lambda entry: entry.device)
    stes = {device: _device(list(here), image, owned, features) for device, here in by_device}
    bits = max((device.bit_length() for device in stes), default=0)
    if features.two_level:
        base = _two_level(stes, max(bits, _SPLIT), image)
    else:
        table = image.allocate(bits + 6)
        image.table(table, stes)
        base = STRTAB_BASE.encode(ADDR=table >> 6, LOG2SIZE=bits)
    guest_writes = tuple(owned.writes) if owned else ()
    return StructureImage(STRTAB_BASE.join(base), tuple(image.writes), tuple(image.blocks), guest_writes)


def _two_level(stes: Mapping[int, Words], bits: int, image: _Image) -> Words:
    """A first level, and a second-level table for each group of StreamIDs that has one (ARM-STE-6)."""
    first = image.allocate(bits - _SPLIT + 3)
    for group, inside in _groups(stes, _SPLIT):
        second = image.allocate(_SPLIT + 6)
        image.writes.append((first + 8 * group, L1STD.encode(Span=_SPLIT + 1, L2Ptr=second >> 6)))
        image.table(second, inside)
    return STRTAB_BASE.encode(ADDR=first >> 6, LOG2SIZE=bits, SPLIT=_SPLIT, FMT=1)


def _groups(entries: Mapping[int, Words], bits: int) -> list[tuple[int, dict[int, Words]]]:
    """Structures by the upper bits of their index, and there by the lower ones."""
    found: dict[int, dict[int, Words]] = {}
    for index, words in sorted(entries.items()):
        found.setdefault(index >> bits, {})[index & (1 << bits) - 1] = words
    return list(found.items())


def _device(entries: list[StructureEntry], image: _Image, guest: _Image | None, features: ArmSmmuFeatures) -> Words:
    """One device's STE; its CDs go to the image, or to the guest's."""
    device = entries[0].device
    live = [entry for entry in entries if not entry.blocked]
    if not live:
        return STE.encode(V=1, Config=ABORT)
    alone = next((entry for entry in live if entry.pasid is None), None)
    spaces = {entry.pasid: entry.stage1 for entry in live if entry.pasid is not None}
    if any((entry.stage2, entry.ats) != (live[0].stage2, live[0].ats) for entry in live):
        raise unfit(f"device {device:#x} has several stages 2", "all of its PASIDs go through one STE")
    if None in spaces.values():
        raise unfit(f"a PASID of device {device:#x} has no stage 1", "give it one: a CD has no bypass")
    roots = {pasid: root for pasid, root in spaces.items() if root is not None}
    dss = 0 if alone is None else 1 if alone.stage1 is None else 2
    if alone is not None and alone.stage1 is not None:
        if 0 in roots:
            raise unfit(f"device {device:#x} uses PASID 0 beside requests without one", "both have CD 0: use another")
        roots[0] = alone.stage1
    if not roots:
        return STE.encode(**ste_fields(live[0], features))
    if live[0].stage2 is not None:
        if guest is None:
            raise unfit(f"device {device:#x} is nested, and there is no guest memory", "say where its guest's CDs lie")
        image = guest
    # A CD table serves the device even where its plain requests bypass stage 1.
    fields = ste_fields(live[0]._replace(stage1=next(iter(roots.values()))), features)
    contexts = _contexts(roots, max(spaces, default=0), image, features)
    return STE.encode(**fields, **contexts, S1DSS=dss if spaces else 0)


def ste_fields(entry: StructureEntry, features: ArmSmmuFeatures) -> dict[str, int]:
    """An STE but for its CDs, which are as cacheable as walks are.

    Raises:
        HitlessError: a field cannot hold what it should.
    """
    stages = (STAGE_1 if entry.stage1 else 0) | (STAGE_2 if entry.stage2 else 0)
    fields = {"V": 1, "Config": BYPASS | stages, "SHCFG": _INCOMING, "EATS": int(entry.ats and stages > 0)}
    if entry.stage1:
        fields |= {"S1CIR": 1, "S1COR": 1, "S1CSH": 3} if features.coherent else {"S1CSH": 2}
        fields["S2VMID"] = entry.stage1.tag & 0xFFFF
        check_id("VMID", fields["S2VMID"], wide=features.vmid16)
    if entry.stage2:
        fields |= stage2_fields(entry.stage2, features)
    return fields


def _contexts(roots: Mapping[int, StageRoot], last: int, image: _Image, features: ArmSmmuFeatures) -> dict[str, int]:
    """CDs by SubstreamID, in one table or in two levels; the STE's fields that lead to them (ARM-CD-4)."""
    bits = last.bit_length()
    cds = {pasid: CD.encode(**cd_fields(root, features)) for pasid, root in roots.items()}
    if bits <= _LEAF_CDS_LG2:
        table = image.allocate(bits + 6)
        image.table(table, cds)
        return {"S1ContextPtr": table >> 6, "S1CDMax": bits}
    table = image.allocate(bits - _LEAF_CDS_LG2 + 3)
    for group, inside in _groups(cds, _LEAF_CDS_LG2):
        leaf = image.allocate(_LEAF_CDS_LG2 + 6)
        image.writes.append((table + 8 * group, L1CD.encode(V=1, L2Ptr=leaf >> 12)))
        image.table(leaf, inside)
    return {"S1ContextPtr": table >> 6, "S1CDMax": bits, "S1Fmt": 1}

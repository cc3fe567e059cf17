"""AMD-Vi commands: 16 bytes each.

Spec: 48882 sections 2.4.1 to 2.4.10. Facts: AMD-CMD-*, AMD-INV-*, AMD-WAIT-*.
"""

from collections.abc import Mapping, Sequence

from hitless.bits import Field, Layout, bit, lowest_zero, reserved
from hitless.hardware.facts import Completes, Drops, DropsStructure, Effect, Illegal, Match, NoEffect
from hitless.pagetable import PageFormat
from hitless.refresh.commands import Target, Words, aligned_blocks
from hitless_amd.features import AmdFeatures

COMPLETION_WAIT, INVALIDATE_DEVTAB_ENTRY, INVALIDATE_IOMMU_PAGES, INVALIDATE_IOTLB_PAGES = 1, 2, 3, 4
INVALIDATE_INTERRUPT_TABLE, PREFETCH_IOMMU_PAGES, COMPLETE_PPR_REQUEST, INVALIDATE_IOMMU_ALL = 5, 6, 7, 8
NOT_MODELLED = {0x9: "INSERT_GUEST_EVENT", 0xA: "RESET_VMMIO"}

_S_BIT = bit("S", 64, "size is coded in the address")
_GN_BIT = bit("GN", 66, "guest address, of a PASID")
_ADDRESS = Field("address", 127, 76, "with S: the lowest 0 bit tells the size", unit=1 << 12)


def _layout(opcode: int, name: str, *fields: Field) -> Layout:
    return Layout(name, f"48882 2.4.{opcode}", (*fields, Field("opcode", 63, 60, fixed=opcode)), 128)


_LAYOUTS = {
    COMPLETION_WAIT: _layout(
        COMPLETION_WAIT,
        "COMPLETION_WAIT",
        bit("S", 0, "store"),
        bit("I", 1, "interrupt"),
        bit("F", 2, "later commands wait"),
        Field("store address", 51, 3, unit=1 << 3),
        reserved(59, 52),
        Field("data", 127, 64),
    ),
    INVALIDATE_DEVTAB_ENTRY: _layout(
        INVALIDATE_DEVTAB_ENTRY,
        "INVALIDATE_DEVTAB_ENTRY",
        Field("DeviceID", 15, 0),
        reserved(59, 16),
        reserved(127, 64),
    ),
    INVALIDATE_IOMMU_PAGES: _layout(
        INVALIDATE_IOMMU_PAGES,
        "INVALIDATE_IOMMU_PAGES",
        Field("PASID", 19, 0),
        reserved(31, 20),
        Field("DomainID", 47, 32),
        reserved(59, 48),
        _S_BIT,
        bit("PDE", 65, "page directory entries too"),
        _GN_BIT,
        reserved(75, 67),
        _ADDRESS,
    ),
    INVALIDATE_IOTLB_PAGES: _layout(
        INVALIDATE_IOTLB_PAGES,
        "INVALIDATE_IOTLB_PAGES",
        Field("DeviceID", 15, 0),
        Field("PASID[15:8]", 23, 16),
        Field("MaxPend", 31, 24),
        Field("QueueID", 47, 32),
        Field("PASID[7:0]", 55, 48),
        Field("PASID[19:16]", 59, 56),
        _S_BIT,
        reserved(65, 65),
        _GN_BIT,
        reserved(67, 67),
        Field("type", 69, 68),
        reserved(75, 70),
        _ADDRESS,
    ),
    INVALIDATE_INTERRUPT_TABLE: _layout(
        INVALIDATE_INTERRUPT_TABLE,
        "INVALIDATE_INTERRUPT_TABLE",
        Field("DeviceID", 15, 0),
        reserved(59, 16),
        reserved(127, 64),
    ),
    PREFETCH_IOMMU_PAGES: _layout(
        PREFETCH_IOMMU_PAGES,
        "PREFETCH_IOMMU_PAGES",
        Field("DeviceID", 15, 0),
        reserved(23, 16),
        Field("PFCount", 31, 24),
        Field("PASID", 51, 32),
        reserved(59, 52),
        _S_BIT,
        reserved(65, 65),
        _GN_BIT,
        reserved(67, 67),
        bit("Inval", 68, "invalidate first"),
        reserved(75, 69),
        _ADDRESS,
    ),
    COMPLETE_PPR_REQUEST: _layout(
        COMPLETE_PPR_REQUEST,
        "COMPLETE_PPR_REQUEST",
        Field("DeviceID", 15, 0),
        reserved(31, 16),
        Field("PASID", 51, 32),
        reserved(59, 52),
        reserved(65, 64),
        _GN_BIT,
        reserved(95, 67),
        Field("tag", 105, 96),
        reserved(107, 106),
        Field("response", 111, 108),
        reserved(127, 112),
    ),
    INVALIDATE_IOMMU_ALL: _layout(INVALIDATE_IOMMU_ALL, "INVALIDATE_IOMMU_ALL", reserved(59, 0), reserved(127, 64)),
}

_S, _PDE, _GN = 1, 2, 4
_WHOLE_SPACE = 0x7FFF_FFFF_FFFF_F000
_LARGEST_BLOCK_LG2 = 52
_DEVICE_BACKLOG = 32 << 24  # MaxPend: as many IOTLB requests as the device may have pending
_DOMAIN = 0xFFFF
_OF_PASID = "AMD-INV-1, AMD-INV-2, AMD-INV-3, AMD-INV-7, AMD-INV-15"
_OF_DOMAIN = "AMD-INV-1, AMD-INV-2, AMD-INV-3, AMD-INV-7, AMD-INV-10"
_GUEST_STAGES, _HOST_STAGES = frozenset({"1", "12"}), frozenset({"2", "12"})


def size_code(start: int, size_lg2: int) -> int:
    """Address and S of a naturally aligned block: the lowest 0 bit from bit 12 up tells the size (AMD-CMD-8)."""
    if size_lg2 > _LARGEST_BLOCK_LG2:
        return _WHOLE_SPACE | _S
    return start if size_lg2 == 12 else start | ((1 << size_lg2 - 1) - 1) & ~0xFFF | _S


def covered(word: int) -> tuple[int, int]:
    """First and last address that the second word of an invalidation covers (AMD-CMD-8, AMD-CMD-9)."""
    address = word & ~0xFFF
    if not word & _S:
        return address, address + 0xFFF
    lowest = lowest_zero(word, 12)
    if lowest >= _LARGEST_BLOCK_LG2:
        return 0, (1 << 64) - 1
    start = address >> lowest + 1 << lowest + 1
    return start, start + (1 << lowest + 1) - 1


class AmdCommands:
    """Encoder and decoder of the AMD-Vi command buffer.

    A tag is DomainID | PASID << 16; v1 tables have no PASID. Commands for amd/v2 set GN.
    """

    words = 2
    nested_after_wait = False  # one command takes both (AMD-INV-10)
    atc_after_wait = False  # IOMMU pages, IOTLB pages, one COMPLETION_WAIT (AMD-INV-9)
    layouts: Mapping[str, Layout] = {layout.name: layout for layout in _LAYOUTS.values()}
    not_modelled = (
        *(f"{name}: a unit without virtual IOMMUs refuses it" for name in NOT_MODELLED.values()),
        "what a prefetch brings into the caches: it may be there anyway",
        "interrupts",
    )

    def __init__(self, page_format: PageFormat, features: AmdFeatures) -> None:
        self._gn = _GN if page_format.stage == "1" else 0
        self._ia = features.ia

    def invalidate(self, target: Target, tag: int) -> Sequence[Words]:
        """Blocks no smaller than the leaves that were cached (AMD-INV-2); PDE only for pointers (AMD-INV-1)."""
        flags = self._gn | (_PDE if target.tables else 0)
        return [
            (_pages_head(tag), size_code(start, lg2) | flags)
            for start, lg2 in aligned_blocks(target.first, target.last, 64)
        ]

    def invalidate_tag(self, tag: int) -> Sequence[Words]:
        return [(_pages_head(tag), _WHOLE_SPACE | _S | _PDE | self._gn)]

    def invalidate_nested(self, tag: int) -> Sequence[Words]:
        """Nothing: a command without GN drops what a guest's tables made through these too (AMD-INV-10)."""
        return []

    def invalidate_device(self, target: Target, device: int, pasid: int | None = None) -> Sequence[Words]:
        """A device without PASIDs behind a v2 table is addressed as PASID 0 (AMD-CMD-16)."""
        gn = self._gn if pasid is None else _GN
        head = INVALIDATE_IOTLB_PAGES << 60 | device << 32 | _DEVICE_BACKLOG | device | _iotlb_pasid(pasid or 0)
        return [(head, size_code(start, lg2) | gn) for start, lg2 in aligned_blocks(target.first, target.last, 64)]

    def wait(self, store_pa: int, value: int) -> Words:
        return (COMPLETION_WAIT << 60 | store_pa | _S, value)

    def layout(self, words: Words) -> Layout | None:
        return _LAYOUTS.get(words[0] >> 60)

    def decode(self, words: Words) -> Sequence[Effect]:
        """What the unit does; reserved bits and unknown opcodes are illegal commands (AMD-CMD-10, AMD-CMD-11)."""
        opcode = words[0] >> 60
        layout = _LAYOUTS.get(opcode)
        if layout is None:
            why = f"opcode {opcode:#x}: {NOT_MODELLED.get(opcode, 'there is no such command')}"
            return [Illegal("AMD-CMD-11, AMD-CMD-15", f"{why}, not modelled" if opcode in NOT_MODELLED else why)]
        if not layout.legal(words):
            return [Illegal("AMD-CMD-10", next(layout.faults(words)))]
        match opcode:
            case 1 if words[0] & _S:
                return [Completes("AMD-WAIT-1, AMD-WAIT-2", words[0] & 0xF_FFFF_FFFF_FFF8, words[1], 64)]
            case 2:
                dropped = frozenset({"dte", "gcr3-level2", "gcr3-level3"})
                return [DropsStructure("AMD-INV-12", dropped, words[0] & 0xFFFF)]
            case 3:
                return _pages(words)
            case 4:
                return _iotlb_pages(words)
            case 8 if not self._ia:
                return [Illegal("AMD-CMD-7", "INVALIDATE_IOMMU_ALL needs EFR.IA")]
            case 8:
                return [Drops("AMD-CMD-7", tables=True), DropsStructure("AMD-INV-14")]
            case _:
                return [NoEffect(_UNCONCERNED[opcode])]

    def describe(self, words: Words) -> str:
        """The command's name and every field that is not 0."""
        layout = _LAYOUTS.get(words[0] >> 60)
        if layout is None:
            opcode = words[0] >> 60
            return NOT_MODELLED.get(opcode, f"unknown opcode {opcode:#x}")
        fields = layout.decode(words)
        named = [f"{name}={value:#x}" for name, value in fields.items() if value and name != "opcode"]
        if "S" in fields and words[0] >> 60 != COMPLETION_WAIT:
            first, last = covered(words[1])
            named.append(f"covers [{first:#x}, {last:#x}]")
        return " ".join([layout.name, *named])


_UNCONCERNED = {
    COMPLETION_WAIT: "AMD-CMD-2",
    INVALIDATE_INTERRUPT_TABLE: "AMD-CMD-12",
    PREFETCH_IOMMU_PAGES: "AMD-CMD-13",
    COMPLETE_PPR_REQUEST: "AMD-CMD-14",
}


def _pages_head(tag: int) -> int:
    return INVALIDATE_IOMMU_PAGES << 60 | (tag & _DOMAIN) << 32 | tag >> 16


def _iotlb_pasid(pasid: int) -> int:
    """The three parts of a PASID in INVALIDATE_IOTLB_PAGES (AMD-CMD-5)."""
    return (pasid & 0xFF) << 48 | (pasid >> 8 & 0xFF) << 16 | pasid >> 16 << 56


def _pages(words: Words) -> list[Effect]:
    """INVALIDATE_IOMMU_PAGES: of one PASID with GN, else of all that the domain's v1 table takes part in."""
    head, address = words
    gn, pde = bool(address & _GN), bool(address & _PDE)
    first, last = covered(address)
    tag = head >> 32 & _DOMAIN | ((head & 0xF_FFFF) << 16 if gn else 0)
    drops = Drops(
        _OF_PASID if gn else _OF_DOMAIN,
        tables=pde,
        tag=tag,
        tag_mask=-1 if gn else _DOMAIN,
        stages=_GUEST_STAGES if gn else _HOST_STAGES,
        first=first,
        last=last,
        leaf_match=Match.PIECE_INSIDE,
        table_match=Match.PIECE_INSIDE,
    )
    if gn and pde and (first, last) == (0, (1 << 64) - 1):
        return [drops, DropsStructure("AMD-INV-13", frozenset({"gcr3"}), tag=tag)]
    return [drops]


def _iotlb_pages(words: Words) -> list[Effect]:
    """INVALIDATE_IOTLB_PAGES: PASID 0 with GN also stands for requests without a PASID (AMD-CMD-16)."""
    first, last = covered(words[1])
    device = words[0] & 0xFFFF
    plain = Drops("AMD-CMD-5, AMD-CMD-16", first=first, last=last, device=device)
    if not words[1] & _GN:
        return [plain]
    pasid = words[0] >> 48 & 0xFF | (words[0] >> 16 & 0xFF) << 8 | (words[0] >> 56 & 0xF) << 16
    named = Drops("AMD-CMD-5", first=first, last=last, device=device, pasid=pasid)
    return [named] if pasid else [named, plain]

"""AMD-Vi commands: 16 bytes each.

Spec: 48882 sections 2.4.1 to 2.4.10. Facts: AMD-CMD-*, AMD-INV-*, AMD-WAIT-*.
"""

from collections.abc import Sequence

from hitless.bits import Field, Layout, bit, lowest_zero, reserved
from hitless.hardware.facts import Completes, Drops, Effect, Illegal, Match, NoEffect
from hitless.refresh.commands import Target, Words, aligned_blocks

COMPLETION_WAIT, INVALIDATE_DEVTAB_ENTRY, INVALIDATE_IOMMU_PAGES, INVALIDATE_IOTLB_PAGES = 1, 2, 3, 4
INVALIDATE_IOMMU_ALL = 8

_OPCODE = Field("opcode", 63, 60)
LAYOUTS = {
    COMPLETION_WAIT: Layout(
        "COMPLETION_WAIT",
        "48882 2.4.1",
        (
            bit("S", 0, "store"),
            bit("I", 1, "interrupt"),
            bit("F", 2, "later commands wait"),
            Field("store address", 51, 3),
            reserved(59, 52),
            _OPCODE,
            Field("data", 127, 64),
        ),
        128,
    ),
    INVALIDATE_DEVTAB_ENTRY: Layout(
        "INVALIDATE_DEVTAB_ENTRY",
        "48882 2.4.2",
        (Field("DeviceID", 15, 0), reserved(59, 16), _OPCODE, reserved(127, 64)),
        128,
    ),
    INVALIDATE_IOMMU_PAGES: Layout(
        "INVALIDATE_IOMMU_PAGES",
        "48882 2.4.3",
        (
            Field("PASID", 19, 0),
            reserved(31, 20),
            Field("DomainID", 47, 32),
            reserved(59, 48),
            _OPCODE,
            bit("S", 64, "size is coded in the address"),
            bit("PDE", 65, "page directory entries too"),
            bit("GN", 66, "guest address"),
            reserved(75, 67),
            Field("address", 127, 76),
        ),
        128,
    ),
    INVALIDATE_IOTLB_PAGES: Layout(
        "INVALIDATE_IOTLB_PAGES",
        "48882 2.4.4",
        (
            Field("DeviceID", 15, 0),
            Field("PASID[15:8]", 23, 16),
            Field("MaxPend", 31, 24),
            Field("QueueID", 47, 32),
            Field("PASID[7:0]", 55, 48),
            Field("PASID[19:16]", 59, 56),
            _OPCODE,
            bit("S", 64, "size is coded in the address"),
            reserved(65, 65),
            bit("GN", 66, "guest address"),
            reserved(67, 67),
            Field("type", 69, 68),
            reserved(75, 70),
            Field("address", 127, 76),
        ),
        128,
    ),
    INVALIDATE_IOMMU_ALL: Layout(
        "INVALIDATE_IOMMU_ALL", "48882 2.4.8", (reserved(59, 0), _OPCODE, reserved(127, 64)), 128
    ),
}

_S, _PDE = 1, 2
_WHOLE_SPACE = 0x7FFF_FFFF_FFFF_F000
_DEVICE_BACKLOG = 32 << 24  # MaxPend: as many IOTLB requests as the device may have pending


def size_code(start: int, size_lg2: int) -> int:
    """Address and S of a naturally aligned block: the lowest 0 bit from bit 12 up tells the size (AMD-CMD-8)."""
    return start if size_lg2 == 12 else start | ((1 << size_lg2 - 1) - 1) & ~0xFFF | _S


def covered(word: int) -> tuple[int, int]:
    """First and last address that the second word of an invalidation covers."""
    address = word & ~0xFFF
    if not word & _S:
        return address, address + 0xFFF
    lowest = lowest_zero(word, 12)
    if lowest >= 51:
        return 0, (1 << 64) - 1
    start = address >> lowest + 1 << lowest + 1
    return start, start + (1 << lowest + 1) - 1


class AmdCommands:
    """Encoder and decoder of the AMD-Vi command buffer."""

    words = 2
    atc_after_wait = False  # IOMMU pages, IOTLB pages, one COMPLETION_WAIT (AMD-INV-9)

    def invalidate(self, target: Target, tag: int) -> Sequence[Words]:
        """Blocks no smaller than the leaves that were cached (AMD-INV-2); PDE only for pointers (AMD-INV-1)."""
        head = INVALIDATE_IOMMU_PAGES << 60 | tag << 32
        pde = _PDE if target.tables else 0
        return [
            (head, size_code(start, lg2) | pde) if lg2 < 51 else (head, _WHOLE_SPACE | _S | pde)
            for start, lg2 in aligned_blocks(target.first, target.last, 64)
        ]

    def invalidate_tag(self, tag: int) -> Sequence[Words]:
        return [(INVALIDATE_IOMMU_PAGES << 60 | tag << 32, _WHOLE_SPACE | _S | _PDE)]

    def invalidate_device(self, target: Target, device: int) -> Sequence[Words]:
        head = INVALIDATE_IOTLB_PAGES << 60 | device << 32 | _DEVICE_BACKLOG | device
        return [
            (head, size_code(start, lg2) if lg2 < 51 else _WHOLE_SPACE | _S)
            for start, lg2 in aligned_blocks(target.first, target.last, 64)
        ]

    def wait(self, store_pa: int, value: int) -> Words:
        return (COMPLETION_WAIT << 60 | store_pa | _S, value)

    def decode(self, words: Words) -> Sequence[Effect]:
        """What the unit does; reserved bits and unknown opcodes are illegal commands (AMD-CMD-10, AMD-CMD-11)."""
        opcode = words[0] >> 60
        layout = LAYOUTS.get(opcode)
        if layout is None:
            return [Illegal("AMD-CMD-11", f"opcode {opcode:#x} is not modelled")]
        if fault := next(iter(layout.faults(words)), None):
            return [Illegal("AMD-CMD-10", fault)]
        first, last = covered(words[1])
        if opcode == INVALIDATE_IOMMU_PAGES:
            return [
                Drops(
                    "AMD-INV-1, AMD-INV-2, AMD-INV-3, AMD-INV-7",
                    tables=bool(words[1] & _PDE),
                    tag=words[0] >> 32 & 0xFFFF,
                    first=first,
                    last=last,
                    leaf_match=Match.PIECE_INSIDE,
                    table_match=Match.PIECE_INSIDE,
                )
            ]
        if opcode == INVALIDATE_IOTLB_PAGES:
            return [Drops("AMD-CMD-5", first=first, last=last, device=words[0] & 0xFFFF)]
        if opcode == COMPLETION_WAIT and words[0] & _S:
            return [Completes("AMD-WAIT-1, AMD-WAIT-2", words[0] & 0xF_FFFF_FFFF_FFF8, words[1], 64)]
        if opcode == INVALIDATE_IOMMU_ALL:
            return [Drops("AMD-CMD-7", tables=True)]
        return [NoEffect("AMD-CMD-3")]

    def describe(self, words: Words) -> str:
        """The command's name and every field that is not 0."""
        layout = LAYOUTS.get(words[0] >> 60)
        if layout is None:
            return f"unknown opcode {words[0] >> 60:#x}"
        fields = layout.decode(words)
        named = [f"{name}={value:#x}" for name, value in fields.items() if value and name != "opcode"]
        if words[0] >> 60 in (INVALIDATE_IOMMU_PAGES, INVALIDATE_IOTLB_PAGES):
            first, last = covered(words[1])
            named.append(f"covers [{first:#x}, {last:#x}]")
        return " ".join([layout.name, *named])

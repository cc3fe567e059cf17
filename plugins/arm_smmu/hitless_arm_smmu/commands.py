"""SMMUv3 commands: 16 bytes each, for a Non-secure queue and stage 2 streams.

Spec: IHI0070 chapter 4. Facts: ARM-CMD-*, ARM-TLBI-*, ARM-SYNC-*.
"""

from collections.abc import Iterator, Sequence

from hitless.bits import Field, Layout, bit, reserved
from hitless.hardware.facts import Completes, Drops, Effect, Illegal, Match, NoEffect
from hitless.refresh.commands import Target, Words, aligned_blocks
from hitless.units import aligned_lg2
from hitless_arm_smmu.features import ArmSmmuFeatures

CFGI_STE, CFGI_STE_RANGE = 0x03, 0x04
TLBI_S12_VMALL, TLBI_S2_IPA, TLBI_NSNH_ALL = 0x28, 0x2A, 0x30
ATC_INV, SYNC = 0x40, 0x46

WHOLE_TAG_COMMANDS = 512
"""Above so many commands one TLBI_S12_VMALL is cheaper: as many as a table has entries (rule E1)."""

_OPCODE = Field("opcode", 7, 0)
_SID = Field("SID", 63, 32)
_VMID = Field("VMID", 47, 32)
LAYOUTS = {
    CFGI_STE: Layout(
        "CFGI_STE", "IHI0070 4.3.1", (_OPCODE, reserved(31, 8), _SID, bit("Leaf", 64), reserved(127, 65)), 128
    ),
    CFGI_STE_RANGE: Layout(
        "CFGI_STE_RANGE",
        "IHI0070 4.3.2",
        (_OPCODE, reserved(31, 8), _SID, Field("Range", 68, 64, "2**(n+1) STEs; 31: all"), reserved(127, 69)),
        128,
    ),
    TLBI_S12_VMALL: Layout("TLBI_S12_VMALL", "IHI0070 4.4", (_OPCODE, reserved(31, 8), _VMID, reserved(127, 48)), 128),
    TLBI_S2_IPA: Layout(
        "TLBI_S2_IPA",
        "IHI0070 4.4",
        (
            _OPCODE,
            reserved(11, 8),
            Field("NUM", 16, 12, "granules - 1, in units of 2**SCALE"),
            reserved(19, 17),
            Field("SCALE", 24, 20),
            reserved(31, 25),
            _VMID,
            reserved(63, 48),
            bit("Leaf", 64, "leaves only"),
            reserved(71, 65),
            Field("TTL", 73, 72, "only leaves of this level; 0: of every level"),
            Field("TG", 75, 74, "0: one address, 1: 4K, 2: 16K, 3: 64K"),
            Field("IPA[51:12]", 115, 76),
            reserved(127, 116),
        ),
        128,
    ),
    TLBI_NSNH_ALL: Layout("TLBI_NSNH_ALL", "IHI0070 4.4", (_OPCODE, reserved(127, 8)), 128),
    ATC_INV: Layout(
        "ATC_INV",
        "IHI0070 4.5.1",
        (
            _OPCODE,
            reserved(8, 8),
            bit("G", 9, "every PASID"),
            reserved(10, 10),
            bit("SSV", 11, "SSID counts"),
            Field("SSID", 31, 12),
            _SID,
            Field("Size", 69, 64, "4K * 2**n; 52: everything"),
            reserved(75, 70),
            Field("address[63:12]", 127, 76),
        ),
        128,
    ),
    SYNC: Layout(
        "SYNC",
        "IHI0070 4.7.3",
        (
            _OPCODE,
            reserved(11, 8),
            Field("CS", 13, 12, "completion signal", values={0: "none", 1: "MSI", 2: "SEV"}),
            reserved(21, 14),
            Field("MSH", 23, 22, "shareability of the MSI write"),
            Field("MSIAttr", 27, 24, "memory type of the MSI write"),
            reserved(31, 28),
            Field("MSIData", 63, 32),
            reserved(65, 64),
            Field("MSIAddress[55:2]", 119, 66),
            reserved(127, 120),
        ),
        128,
    ),
}

_LEAF, _TTL_LO, _TG_4K = 1, 8, 1 << 10
_IPA = 0x000F_FFFF_FFFF_F000
_GRANULE_LG2, _GRANULE = 12, 1 << 12
_SCALE_MAX, _ATC_ALL = 31, 52
_SYNC_MSI = SYNC | 1 << 12
_MSI_WRITE_BACK = 3 << 22 | 0xF << 24  # inner shareable: the CPU polls its own cache
_MSI_DEVICE = 1 << 24  # Device-nGnRE, where SMMU and CPU caches do not meet


def range_codes(first: int, last: int) -> Iterator[tuple[int, int, int]]:
    """Address, NUM and SCALE of the fewest range commands that cover a range of granules exactly.

    A command covers (NUM + 1) * 2**SCALE granules from any granule on (ARM-TLBI-1). Each takes the
    lowest five bits of the rest, from the lowest one that is set: whole leaves give whole leaves,
    so every address stays as aligned as TTL demands (ARM-TLBI-3).
    """
    at, granules = first, last - first + 1 >> _GRANULE_LG2
    while granules:
        scale = min(aligned_lg2(granules), _SCALE_MAX)
        count = granules >> scale
        if count > 32:
            count = count & 31 or 32
        yield at, count - 1, scale
        granules -= count << scale
        at += count << scale + _GRANULE_LG2


class ArmSmmuCommands:
    """Encoder and decoder of the SMMUv3 command queue."""

    words = 2
    atc_after_wait = True  # ARM-SYNC-4

    def __init__(self, features: ArmSmmuFeatures) -> None:
        self._ril = features.ril
        self._vmid_bits = 16 if features.vmid16 else 8
        self._sync = _SYNC_MSI | (_MSI_WRITE_BACK if features.coherent else _MSI_DEVICE)

    def invalidate(self, target: Target, tag: int) -> Sequence[Words]:
        """TLBI_S2_IPA for exactly the target.

        TTL names the level of the leaves that were there before (ARM-TLBI-3). Where a pointer went,
        leaves of several levels and table descriptors have to go: Leaf = 0, TTL = 0 (ARM-TLBI-4).
        """
        level = None if target.tables else target.level
        if not self._ril:
            return self._one_by_one(target, level, tag)
        ttl = 0 if level is None else 3 - level
        head, tail = TLBI_S2_IPA | tag << 32, ttl << _TTL_LO | (0 if target.tables else _LEAF)
        return [
            # One granule without TTL has no range form (ARM-TLBI-7).
            (head | num << 12 | scale << 20, at | tail | (_TG_4K if num or scale or ttl else 0))
            for at, num, scale in range_codes(target.first, target.last)
        ]

    def _one_by_one(self, target: Target, level: int | None, tag: int) -> Sequence[Words]:
        """Without RIL: one address reaches the leaf that contains it, whatever its size (ARM-TLBI-2).

        So leaves of one known size take one command each. Where a pointer went, every granule below
        it may have had a leaf of its own, which only the granule's own address is sure to drop: 512
        commands for 2M, and for more the whole VMID.
        """
        step_lg2 = _GRANULE_LG2 if level is None else target.leaf_lg2
        if target.last - target.first >> step_lg2 >= WHOLE_TAG_COMMANDS:
            return self.invalidate_tag(tag)
        head, leaf = TLBI_S2_IPA | tag << 32, 0 if target.tables else _LEAF
        return [(head, at | leaf) for at in range(target.first, target.last + 1, 1 << step_lg2)]

    def invalidate_tag(self, tag: int) -> Sequence[Words]:
        return [(TLBI_S12_VMALL | tag << 32, 0)]

    def invalidate_device(self, target: Target, device: int) -> Sequence[Words]:
        head = ATC_INV | device << 32
        return [(head, start | lg2 - 12) for start, lg2 in aligned_blocks(target.first, target.last, 64)]

    def wait(self, store_pa: int, value: int) -> Words:
        """CMD_SYNC with an MSI: 32 bits of data to an address that is a multiple of 4 (ARM-CMD-6)."""
        return (self._sync | (value & 0xFFFF_FFFF) << 32, store_pa)

    def decode(self, words: Words) -> Sequence[Effect]:
        """What the unit is sure to do; reserved bits and unknown opcodes are CERROR_ILL (ARM-CMD-8).

        An empty answer: the command is taken, but what it does is unpredictable.
        """
        opcode = words[0] & 0xFF
        layout = LAYOUTS.get(opcode)
        if layout is None:
            return [Illegal("ARM-CMD-8", f"opcode {opcode:#x} is not modelled")]
        if fault := next(layout.faults(words), None):
            return [Illegal("ARM-CMD-8", fault)]
        vmid = words[0] >> 32 & 0xFFFF
        if opcode in (TLBI_S12_VMALL, TLBI_S2_IPA) and vmid >> self._vmid_bits:
            return [Illegal("ARM-CMD-8", f"VMID {vmid:#x} is wider than {self._vmid_bits} bits")]
        if opcode == TLBI_S2_IPA:
            return self._decode_ipa(words, vmid)
        if opcode == TLBI_S12_VMALL:
            return [Drops("ARM-CMD-3, ARM-TLBI-6", tables=True, tag=vmid)]
        if opcode == TLBI_NSNH_ALL:
            return [Drops("ARM-CMD-3", tables=True)]
        if opcode == ATC_INV:
            return _decode_atc(words)
        if opcode == SYNC:
            return _decode_sync(words)
        return [NoEffect("ARM-CMD-2")]

    def _decode_ipa(self, words: Words, vmid: int) -> Sequence[Effect]:
        num, scale = words[0] >> 12 & 31, words[0] >> 20 & 31
        first, leaf = words[1] & _IPA, words[1] & _LEAF
        ttl, granule = words[1] >> _TTL_LO & 3, words[1] >> 10 & 3
        if not self._ril and (num or scale or ttl or granule):
            return [Illegal("ARM-TLBI-1", "NUM, SCALE, TTL and TG need IDR3.RIL")]
        if not granule:
            if num or scale or ttl:
                return []  # what a range or level means without TG is not known
            return [
                Drops(
                    "ARM-TLBI-2, ARM-TLBI-4, ARM-TLBI-6",
                    tables=not leaf,
                    tag=vmid,
                    first=first,
                    last=first + _GRANULE - 1,
                    leaf_match=Match.LEAF_OVERLAPS,
                )
            ]
        if not (num or scale or ttl):
            return [Illegal("ARM-TLBI-7", "TG is given, but NUM, SCALE and TTL are 0")]
        if granule != 1:
            return [NoEffect("ARM-TLBI-12")]  # entries here are made with 4K
        if ttl and first & (_GRANULE << 9 * (3 - ttl)) - 1:
            return []  # ARM-TLBI-3
        return [
            Drops(
                "ARM-TLBI-1, ARM-TLBI-3, ARM-TLBI-4, ARM-TLBI-5, ARM-TLBI-6",
                # TTL 1 or 2 spares the table descriptors at and below it: then not every one is sure to go.
                tables=not leaf and ttl in (0, 3),
                tag=vmid,
                first=first,
                last=first + (num + 1 << scale + _GRANULE_LG2) - 1,
                leaf_levels=frozenset({3 - ttl}) if ttl else None,
            )
        ]

    def describe(self, words: Words) -> str:
        """The command's name, every field that is not 0, and what it covers."""
        layout = LAYOUTS.get(words[0] & 0xFF)
        if layout is None:
            return f"unknown opcode {words[0] & 0xFF:#x}"
        fields = layout.decode(words)
        named = [f"{name}={value:#x}" for name, value in fields.items() if value and name != "opcode"]
        for effect in self.decode(words):
            if isinstance(effect, Illegal):
                named.append(f"(illegal: {effect.why})")
            elif isinstance(effect, Drops) and layout.name in ("TLBI_S2_IPA", "ATC_INV"):
                named.append(f"covers [{effect.first:#x}, {effect.last:#x}]")
        return " ".join([layout.name, *named])


def _decode_atc(words: Words) -> Sequence[Effect]:
    size_lg2, first = _GRANULE_LG2 + (words[1] & 0x3F), words[1] & ~0xFFF
    if size_lg2 > _GRANULE_LG2 + _ATC_ALL:
        return [Illegal("ARM-CMD-5", f"Size must be 0 to {_ATC_ALL}, not {size_lg2 - _GRANULE_LG2}")]
    if words[0] >> 11 & 1:
        return [NoEffect("ARM-CMD-5")]  # requests here carry no PASID
    last = first + (1 << size_lg2) - 1
    if first & (1 << size_lg2) - 1:
        return []  # a block that is not aligned to its size
    return [Drops("ARM-CMD-5, ARM-SYNC-5", first=first, last=last, device=words[0] >> 32)]


def _decode_sync(words: Words) -> Sequence[Effect]:
    signal = words[0] >> 12 & 3
    if signal == 3:
        return [Illegal("ARM-CMD-6", "CS 3 is reserved")]
    if signal != 1 or not words[1]:
        return [NoEffect("ARM-CMD-6")]  # nobody is told that it is done
    return [Completes("ARM-SYNC-1, ARM-SYNC-2", words[1], words[0] >> 32, 32)]

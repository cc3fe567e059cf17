"""SMMUv3 commands of a Non-secure queue: what invalidates, and what each one drops.

Spec: IHI0070 chapter 4. Facts: ARM-CMD-*, ARM-TLBI-*, ARM-SYNC-*.

A tag is VMID for stage 2, and VMID | ASID << 16 for stage 1 and for results of both stages.
"""

from collections.abc import Iterator, Mapping, Sequence

from hitless.bits import Layout
from hitless.hardware.facts import Completes, Drops, DropsStructure, Effect, Illegal, Match, NoEffect
from hitless.pagetable import PageFormat
from hitless.refresh.commands import Target, Words, aligned_blocks
from hitless.units import aligned_lg2
from hitless_arm_smmu.command_layouts import (
    ATC_INV,
    CFGI_CD,
    CFGI_CD_ALL,
    CFGI_STE,
    CFGI_STE_RANGE,
    LAYOUTS,
    NOT_MODELLED,
    RESUME,
    SYNC,
    TLBI_EL2_ALL,
    TLBI_NH_ALL,
    TLBI_NH_ASID,
    TLBI_NH_VA,
    TLBI_NH_VAA,
    TLBI_NSNH_ALL,
    TLBI_S2_IPA,
    TLBI_S12_VMALL,
)
from hitless_arm_smmu.features import ArmSmmuFeatures

WHOLE_TAG_COMMANDS = 512
"""Above so many commands one for the whole tag is cheaper: as many as a 4K table has entries (rule E1)."""
VMID_MASK, ASID_LO = 0xFFFF, 16

_LEAF, _TTL_LO, _TG_LO, _SSV = 1, 8, 10, 1 << 11
_ADDRESS = ~0xFFF
_GRANULES_LG2 = {1: 12, 2: 14, 3: 16}  # by TG
_SCALE_MAX, _SCALE_MAX_52, _ATC_ALL = 31, 39, 52
_SYNC_MSI = SYNC | 1 << 12
_MSI_WRITE_BACK = 3 << 22 | 0xF << 24  # inner shareable: the CPU polls its own cache
_MSI_DEVICE = 1 << 24  # Device-nGnRE, where SMMU and CPU caches do not meet
_BY_STAGE = {"1": (TLBI_NH_VA, TLBI_NH_ASID), "2": (TLBI_S2_IPA, TLBI_S12_VMALL)}
_STAGE_OF = {TLBI_NH_VA: "1", TLBI_NH_VAA: "1", TLBI_S2_IPA: "2"}
_STAGE_1, _STAGE_2 = frozenset({"1", "12"}), frozenset({"2"})
_OF_RANGE = "ARM-TLBI-1, ARM-TLBI-3, ARM-TLBI-4, ARM-TLBI-5, ARM-TLBI-6, ARM-TLBI-8"
_OF_ADDRESS = "ARM-TLBI-2, ARM-TLBI-4, ARM-TLBI-6"
_LEVELS_OF_TTL = (None, frozenset({2}), frozenset({1}), frozenset({0}))
_NO_SIZES: frozenset[int] = frozenset()


def range_codes(
    first: int, last: int, granule_lg2: int = 12, scale_max: int = _SCALE_MAX
) -> Iterator[tuple[int, int, int]]:
    """Address, NUM and SCALE of the fewest range commands that cover a range of granules exactly.

    A command covers (NUM + 1) * 2**SCALE granules from any granule on (ARM-TLBI-1). Each takes the
    lowest five bits of the rest, from the lowest one that is set: whole leaves give whole leaves,
    so every address stays as aligned as TTL demands (ARM-TLBI-3).
    """
    at, granules = first, last - first + 1 >> granule_lg2
    while granules:
        scale = min(aligned_lg2(granules), scale_max)
        count = granules >> scale
        if count > 32:
            count = count & 31 or 32
        yield at, count - 1, scale
        granules -= count << scale
        at += count << scale + granule_lg2


class ArmSmmuCommands:
    """Encoder and decoder of the SMMUv3 command queue, for the tables of one format."""

    words = 2
    nested_after_wait = True  # ARM-TLBI-17
    atc_after_wait = True  # ARM-SYNC-4
    layouts: Mapping[str, Layout] = {layout.name: layout for layout in LAYOUTS.values()}
    not_modelled = tuple(f"{name}: taken for an unknown opcode" for name in NOT_MODELLED)

    def __init__(self, features: ArmSmmuFeatures, page_format: PageFormat) -> None:
        self._ril = features.ril
        self._bits = {"VMID": 16 if features.vmid16 else 8, "ASID": 16 if features.asid16 else 8}
        self._too_wide = {opcode: _beyond(layout, self._bits) for opcode, layout in LAYOUTS.items()}
        self._sync = _SYNC_MSI | (_MSI_WRITE_BACK if features.coherent else _MSI_DEVICE)
        self._stage = page_format.stage
        self._granule_lg2 = page_format.levels[0].lo
        self._step_lg2s = tuple(level.lo for level in page_format.levels)
        runs = (size.lg2 for size in page_format.leaf_sizes if size.entries_lg2 and features.run_cover)
        self._runs = frozenset(runs)
        self._opcode, self._whole = _BY_STAGE[self._stage]
        self._ds = features.ds
        self._scale_max = _SCALE_MAX_52 if features.ds else _SCALE_MAX

    # -- encoding

    def invalidate(self, target: Target, tag: int) -> Sequence[Words]:
        """One address TLBI, or a few, for exactly the target.

        TTL names the level of the leaves that were there before (ARM-TLBI-3). Where a pointer went,
        leaves of several levels and table descriptors have to go: Leaf = 0, TTL = 0 (ARM-TLBI-4).
        """
        level = None if target.tables else target.level
        return self._ranges(target, level, tag) if self._ril else self._one_by_one(target, level, tag)

    def _ranges(self, target: Target, level: int | None, tag: int) -> list[Words]:
        ttl = 3 - level if level is not None and level < 3 else 0  # Arm levels 0 and -1 have no hint (ARM-TLBI-13)
        head, tail = self._opcode | tag << 32, ttl << _TTL_LO | (0 if target.tables else _LEAF)
        tg = (self._granule_lg2 - 10 >> 1) << _TG_LO
        return [
            # One granule without TTL has no range form (ARM-TLBI-7).
            (head | num << 12 | scale << 20, at | tail | (tg if num or scale or ttl else 0))
            for at, num, scale in range_codes(target.first, target.last, self._granule_lg2, self._scale_max)
        ]

    def _one_by_one(self, target: Target, level: int | None, tag: int) -> Sequence[Words]:
        """Without RIL: one address reaches the leaf that contains it, whatever its size (ARM-TLBI-2).

        So leaves of one known size take one command each, and a run one for each of its entries
        (ARM-TLBI-8). Where a pointer went, every granule below it may have had a leaf of its own, which
        only the granule's own address is sure to drop; for many the whole tag is cheaper.
        """
        step_lg2 = self._granule_lg2 if level is None else self._step_lg2s[level]
        if target.last - target.first >> step_lg2 >= WHOLE_TAG_COMMANDS:
            return [(self._whole | tag << 32, 0)]
        head, leaf = self._opcode | tag << 32, 0 if target.tables else _LEAF
        return [(head, at | leaf) for at in range(target.first, target.last + 1, 1 << step_lg2)]

    def invalidate_tag(self, tag: int) -> Sequence[Words]:
        """The ASID, or the VMID with all that was made of its stage 2."""
        return [(self._whole | tag << 32, 0)]

    def invalidate_nested(self, tag: int) -> Sequence[Words]:
        """TLBI_NH_ALL: no address of the VMID's combined entries is known here (ARM-TLBI-9)."""
        return [(TLBI_NH_ALL | (tag & VMID_MASK) << 32, 0)]

    def invalidate_device(self, target: Target, device: int, pasid: int | None = None) -> Sequence[Words]:
        head = ATC_INV | device << 32 | (0 if pasid is None else _SSV | pasid << 12)
        return [(head, start | lg2 - 12) for start, lg2 in aligned_blocks(target.first, target.last, 64)]

    def wait(self, store_pa: int, value: int) -> Words:
        """CMD_SYNC with an MSI: 32 bits of data to an address that is a multiple of 4 (ARM-CMD-6)."""
        return (self._sync | (value & 0xFFFF_FFFF) << 32, store_pa)

    # -- decoding

    def layout(self, words: Words) -> Layout | None:
        return LAYOUTS.get(words[0] & 0xFF)

    def decode(self, words: Words) -> Sequence[Effect]:
        """What the unit is sure to do; reserved bits and unknown opcodes are CERROR_ILL (ARM-CMD-8).

        An empty answer: the command is taken, but what it does is unpredictable.
        """
        opcode = words[0] & 0xFF
        layout = LAYOUTS.get(opcode)
        if layout is None:
            return [Illegal("ARM-CMD-8", f"CERROR_ILL: there is no opcode {opcode:#x} here")]
        if not layout.legal(words):
            return [Illegal("ARM-CMD-8", f"CERROR_ILL: {next(layout.faults(words))}")]
        if opcode == SYNC:
            return _decode_sync(words)
        if words[0] & self._too_wide[opcode]:
            return [self._wide(layout.decode(words))]
        if opcode in _STAGE_OF:
            return self._decode_address(opcode, words)
        fields = layout.decode(words)
        if opcode == ATC_INV:
            return _decode_atc(words, fields)
        if opcode in (CFGI_STE, CFGI_STE_RANGE, CFGI_CD, CFGI_CD_ALL):
            return _decode_configuration(opcode, fields)
        if opcode == RESUME and fields["response"] == 3:
            return [Illegal("ARM-CMD-15", "CERROR_ILL: response 3 is reserved")]
        return _decode_whole(opcode, fields)

    def _wide(self, fields: Mapping[str, int]) -> Illegal:
        """A VMID or ASID of more bits than the unit has."""
        name, bits = next((name, bits) for name, bits in self._bits.items() if fields.get(name, 0) >> bits)
        return Illegal("ARM-CMD-8", f"CERROR_ILL: {name} {fields[name]:#x} is wider than {bits} bits")

    def _decode_address(self, opcode: int, words: Words) -> Sequence[Effect]:
        """An address TLBI: a range, or one address (ARM-TLBI-1, ARM-TLBI-2)."""
        low, high = words
        stage = _STAGE_OF[opcode]
        num, scale, ttl, tg = low >> 12 & 0x1F, low >> 20 & 0x3F, high >> _TTL_LO & 3, high >> _TG_LO & 3
        if not self._ril and (num or scale or ttl or tg):
            return [Illegal("ARM-TLBI-1", "CERROR_ILL: NUM, SCALE, TTL and TG need IDR3.RIL")]
        if scale > _SCALE_MAX and not self._ds:
            return [Illegal("ARM-TLBI-14", "CERROR_ILL: SCALE has five bits without 52-bit descriptors")]
        if not tg:
            if num or scale or ttl:
                return []  # what a range or level means without TG is not known
            first, size_lg2 = high & _ADDRESS, 12
        else:
            if not (num or scale or ttl):
                return [Illegal("ARM-TLBI-7", "CERROR_ILL: TG is given, but NUM, SCALE and TTL are 0")]
            size_lg2 = _GRANULES_LG2[tg]
            first = high & _ADDRESS
            if stage == self._stage and size_lg2 != self._granule_lg2:
                return [NoEffect("ARM-TLBI-12")]  # entries here are made with another granule
            if ttl == 1 and size_lg2 == 14 and not self._ds:
                return [Illegal("ARM-TLBI-15", "CERROR_ILL: TTL 1 is reserved with the 16K granule")]
            if first & (1 << size_lg2 + (3 - ttl if ttl else 0) * (size_lg2 - 3)) - 1:
                return []  # ARM-TLBI-3
        every_asid = opcode != TLBI_NH_VA
        return [
            Drops(
                _OF_RANGE if tg else _OF_ADDRESS,
                # TTL 1 or 2 spares the table descriptors at and below it: then not every one is sure to go.
                tables=not high & _LEAF and ttl in (0, 3),
                tag=low >> 32 & VMID_MASK if every_asid else low >> 32,
                tag_mask=VMID_MASK if every_asid else -1,
                first=first,
                last=first + (num + 1 << min(scale, _SCALE_MAX_52) + size_lg2) - 1,
                leaf_match=Match.PIECE_OVERLAPS if tg else Match.LEAF_OVERLAPS,
                leaf_levels=_LEVELS_OF_TTL[ttl],
                whole_lg2s=self._runs if tg and stage == self._stage else _NO_SIZES,
                stages=_STAGE_1 if stage == "1" else _STAGE_2,
            )
        ]

    def describe(self, words: Words) -> str:
        """The command's name, every field that is not 0, and what it covers."""
        opcode = words[0] & 0xFF
        layout = LAYOUTS.get(opcode)
        if layout is None:
            return f"unknown opcode {opcode:#x}"
        fields = layout.decode(words)
        named = [f"{name}={value:#x}" for name, value in fields.items() if value and name != "opcode"]
        for effect in self.decode(words):
            if isinstance(effect, Illegal):
                named.append(f"(illegal: {effect.why})")
            elif isinstance(effect, Drops) and (opcode in _STAGE_OF or opcode == ATC_INV):
                named.append(f"covers [{effect.first:#x}, {effect.last:#x}]")
        return " ".join([layout.name, *named])


def _beyond(layout: Layout, bits: Mapping[str, int]) -> int:
    """The bits of a command's fields that are more than the unit has."""
    return sum(each.mask & ~((1 << each.lo + bits[each.name]) - 1) for each in layout.fields if each.name in bits)


def _decode_whole(opcode: int, fields: Mapping[str, int]) -> Sequence[Effect]:
    """TLBIs without an address (ARM-CMD-3, ARM-CMD-11, ARM-CMD-12, ARM-CMD-14)."""
    vmid = fields.get("VMID", 0)
    if opcode == TLBI_NH_ALL:
        return [Drops("ARM-CMD-11, ARM-TLBI-6", tables=True, tag=vmid, tag_mask=VMID_MASK, stages=_STAGE_1)]
    if opcode == TLBI_NH_ASID:
        tag = vmid | fields["ASID"] << ASID_LO
        return [Drops("ARM-CMD-12, ARM-TLBI-6", tables=True, tag=tag, stages=_STAGE_1)]
    if opcode == TLBI_S12_VMALL:
        return [Drops("ARM-CMD-3, ARM-TLBI-6", tables=True, tag=vmid, tag_mask=VMID_MASK)]
    if opcode == TLBI_NSNH_ALL:
        return [Drops("ARM-CMD-3", tables=True)]
    return [NoEffect("ARM-CMD-14" if opcode == TLBI_EL2_ALL else "ARM-CMD-15")]


def _decode_configuration(opcode: int, fields: Mapping[str, int]) -> Sequence[Effect]:
    """CFGI_*: cached structures (ARM-CMD-2, ARM-CMD-9, ARM-CMD-10)."""
    sid, last_level = fields["SID"], fields.get("Leaf")
    if opcode == CFGI_STE:
        return [DropsStructure("ARM-CMD-2, ARM-STE-4", frozenset({"ste"} if last_level else {"ste", "l1std"}), sid)]
    if opcode == CFGI_STE_RANGE:
        if fields["Range"] == 31:
            return [DropsStructure("ARM-CMD-2, ARM-STE-4")]
        return [DropsStructure("ARM-CMD-2, ARM-STE-4", frozenset({"ste"}), sid, ~((2 << fields["Range"]) - 1))]
    if opcode == CFGI_CD:
        return [
            DropsStructure("ARM-CMD-9", frozenset({"cd"} if last_level else {"cd", "l1cd"}), sid, pasid=fields["SSID"])
        ]
    return [DropsStructure("ARM-CMD-10", frozenset({"cd", "l1cd"}), sid)]


def _decode_atc(words: Words, fields: Mapping[str, int]) -> Sequence[Effect]:
    """A block of one device's translations, of one PASID, of none, or of every one (ARM-CMD-5)."""
    size_lg2, first = 12 + fields["Size"], words[1] & _ADDRESS
    if fields["Size"] > _ATC_ALL:
        return [Illegal("ARM-CMD-5", f"CERROR_ILL: Size must be 0 to {_ATC_ALL}, not {fields['Size']}")]
    if first & (1 << size_lg2) - 1:
        return []  # a block that is not aligned to its size
    every = bool(fields["SSV"] and fields["G"])
    pasid = fields["SSID"] if fields["SSV"] and not every else None
    last = first + (1 << size_lg2) - 1
    return [
        Drops("ARM-CMD-5, ARM-SYNC-5", first=first, last=last, device=fields["SID"], pasid=pasid, every_pasid=every)
    ]


def _decode_sync(words: Words) -> Sequence[Effect]:
    low, address = words
    signal = low >> 12 & 3
    if signal == 3:
        return [Illegal("ARM-CMD-6", "CERROR_ILL: CS 3 is reserved")]
    if signal != 1 or not address:
        return [NoEffect("ARM-CMD-6")]  # nobody is told that it is done
    return [Completes("ARM-SYNC-1, ARM-SYNC-2", address, low >> 32, 32)]

"""Commands of the RISC-V IOMMU: what the planner sends, and what each one drops.

Spec: RISC-V IOMMU 1.0, in-memory queues; extensions S and NL. Facts: RISCV-CMD-*, RISCV-INV-*, RISCV-FENCE-*.

Entries are filed so: stage 2 under its GSCID; stage 1 over no stage 2 under its PSCID; stage 1 over a stage 2, and
what both came to, under GSCID | PSCID << 16 | NESTED.
"""

from collections.abc import Mapping, Sequence

from hitless.bits import Layout, lowest_zero
from hitless.hardware.facts import Completes, Drops, DropsStructure, Effect, Illegal, NoEffect
from hitless.pagetable import PageFormat
from hitless.refresh.commands import Target, Words, aligned_blocks
from hitless.units import WORD_MAX
from hitless_riscv.command_layouts import (
    ATS_INVAL,
    GVMA,
    IOFENCE_C,
    VMA,
    layouts,
)
from hitless_riscv.features import RiscvFeatures

NESTED = 1 << 36
"""In tags: a stage 2 stands under it."""
GSCID_MASK, PSCID_LO, PSCID_MASK = 0xFFFF, 16, 0xF_FFFF

WHOLE_TAG_COMMANDS = 512
"""Above so many commands one without an address is cheaper: as many as a table has pages (rule E1)."""

_AV, _PSCV, _GV, _NL = 1 << 10, 1 << 32, 1 << 33, 1 << 34
_S = 1 << 9  # in word 1 of IOTINVAL
_ATS_S, _ATS_G = 1 << 11, 1
_PR_PW = 3 << 12
_FIRST_ENTRIES, _SECOND_ENTRIES = frozenset({"1", "12"}), frozenset({"2", "12"})
_EVERYWHERE = 0x7FFF_FFFF_FFFF_F000
_DIRECTORIES = frozenset({"dc", "pdt-level2", "pdt", "pc"})


def head(command: tuple[int, int]) -> int:
    """Opcode and func3 where they stand."""
    return command[0] | command[1] << 7


def size_code(start: int, size_lg2: int) -> int:
    """Address of a naturally aligned block, 8K or more: the lowest 0 from bit 12 up tells the size (RISCV-INV-7)."""
    return start | (1 << size_lg2 - 1) - 1 & ~0xFFF


def covered(address: int) -> tuple[int, int] | None:
    """First and last address of a block that is coded so; None where no 0 tells a size."""
    lowest = lowest_zero(address, 12)
    if lowest == 64:
        return None
    start = address >> lowest + 1 << lowest + 1
    return start, start + (2 << lowest) - 1


class RiscvCommands:
    """Encoder and decoder of the command queue, for the tables of one format."""

    words = 2
    nested_after_wait = False  # one command takes both (RISCV-INV-9)
    atc_after_wait = True  # RISCV-INV-12
    not_modelled = (
        "entries of global mappings (G), which commands with PSCV spare: nothing lays them out",
        "wire interrupts (WSI)",
        "page requests (ATS.PRGR)",
        "MSI page table entries, which IOTINVAL.GVMA drops too",
    )

    def __init__(self, page_format: PageFormat, features: RiscvFeatures) -> None:
        self._layouts = layouts(address_range=features.address_range, non_leaf=features.non_leaf)
        self.layouts: Mapping[str, Layout] = {each.name: each for each in self._layouts.values()}
        self._stage = page_format.stage
        self._ranges, self._non_leaf = features.address_range, features.non_leaf

    # -- encoding

    def invalidate(self, target: Target, tag: int) -> Sequence[Words]:
        """Leaves by address; pointers by address with NL, else all of the tag (RISCV-INV-5, RISCV-INV-6)."""
        if target.tables and not self._non_leaf:
            return self.invalidate_tag(tag)
        first = self._whose(tag) | _AV | (_NL if target.tables else 0)
        if not self._ranges:
            if target.last - target.first >> 12 >= WHOLE_TAG_COMMANDS:
                return self.invalidate_tag(tag)
            return [(first, at >> 2) for at in range(target.first, target.last + 1, 1 << 12)]
        return [
            (first, start >> 2 if lg2 == 12 else size_code(start, lg2) >> 2 | _S)
            for start, lg2 in aligned_blocks(target.first, target.last, 64)
        ]

    def _whose(self, tag: int) -> int:
        """GVMA of a GSCID, or VMA of a host's PSCID."""
        if self._stage == "2":
            return head(GVMA) | _GV | (tag & GSCID_MASK) << 44
        return head(VMA) | _PSCV | (tag & PSCID_MASK) << 12

    def invalidate_tag(self, tag: int) -> Sequence[Words]:
        return [(self._whose(tag), 0)]

    def invalidate_nested(self, tag: int) -> Sequence[Words]:
        """Nothing: IOTINVAL.GVMA drops what both stages came to, too (RISCV-INV-9)."""
        return []

    def invalidate_device(self, target: Target, device: int, pasid: int | None = None) -> Sequence[Words]:
        whose = head(ATS_INVAL) | device << 40 | (_PSCV | pasid << 12 if pasid is not None else 0)
        whose |= _GV if device >> 16 else 0
        return [
            (whose, start if lg2 == 12 else size_code(start, lg2) | _ATS_S)
            for start, lg2 in aligned_blocks(target.first, target.last, 64)
        ]

    def invalidate_whole_device(self, device: int) -> Words:
        """All that a device holds, of every PASID and of none."""
        whose = head(ATS_INVAL) | device << 40 | _PSCV | (_GV if device >> 16 else 0)
        return (whose, _EVERYWHERE | _ATS_S | _ATS_G)

    def wait(self, store_pa: int, value: int) -> Words:
        """IOFENCE.C that stores 32 bits, with PR and PW: memory is taken back behind it (RISCV-FENCE-3)."""
        return (head(IOFENCE_C) | _AV | _PR_PW | (value & 0xFFFF_FFFF) << 32, store_pa >> 2)

    # -- decoding

    def layout(self, words: Words) -> Layout | None:
        return self._layouts.get((words[0] & 0x7F, words[0] >> 7 & 7))

    def decode(self, words: Words) -> Sequence[Effect]:
        """What the unit is sure to do; an illegal command stops the queue (RISCV-CMD-1).

        An empty answer: the command is taken, but what it does is not specified.
        """
        layout = self.layout(words)
        if layout is None:
            return [Illegal("RISCV-CMD-1", f"there is no command {words[0] & 0x7F:#x}/{words[0] >> 7 & 7}")]
        if fault := next(layout.faults(words), None):
            return [Illegal("RISCV-CMD-1", fault)]
        fields = layout.decode(words)
        match fields["opcode"], fields["func3"]:
            case (1, func3):
                return self._iotinval(fields, second=func3 == 1)
            case (2, 0):
                return [_fence(fields)]
            case (3, 0) if not fields["DV"]:
                return [DropsStructure("RISCV-INV-10")]
            case (3, 0):
                return [DropsStructure("RISCV-INV-10", _DIRECTORIES, fields["DID"])]
            case (3, 1):
                return [DropsStructure("RISCV-INV-11", frozenset({"pc"}), fields["DID"], pasid=fields["PID"])]
            case (4, 0):
                return _ats(fields, words[1])
        return [NoEffect("RISCV-CMD-5")]

    def _iotinval(self, fields: Mapping[str, int], *, second: bool) -> Sequence[Effect]:
        """Leaves for an address or a range, and with NL pointers; without an address everything (RISCV-INV-1)."""
        first, last = 0, WORD_MAX
        by_address = fields["AV"] and (fields["GV"] or not second)  # RISCV-INV-4
        if by_address:
            start = fields["ADDR[63:12]"] << 12
            found = covered(start) if fields.get("S") else (start, start + 0xFFF)
            if found is None:
                return []  # RISCV-INV-7
            first, last = found
        tables = not by_address or bool(fields.get("NL"))
        source = "RISCV-INV-4, RISCV-INV-5, RISCV-INV-6, RISCV-INV-7"
        if second:  # stage 2's own entries, and what stage 1 made through them
            source = f"RISCV-INV-3, {source}, RISCV-INV-9"
            tag, mask, stages = fields["GSCID"] if fields["GV"] else None, GSCID_MASK, _SECOND_ENTRIES
            return [Drops(source, tables=tables, tag=tag, tag_mask=mask, first=first, last=last, stages=stages)]
        gscid, pscid = fields["GSCID"], fields["PSCID"]
        if fields["GV"]:
            tag = gscid | NESTED | (pscid << PSCID_LO if fields["PSCV"] else 0)
            mask = -1 if fields["PSCV"] else GSCID_MASK | NESTED
        else:
            tag, mask = (pscid, -1) if fields["PSCV"] else (0, NESTED)
        source = f"RISCV-INV-1, RISCV-INV-2, {source}"
        return [Drops(source, tables=tables, tag=tag, tag_mask=mask, first=first, last=last, stages=_FIRST_ENTRIES)]

    def describe(self, words: Words) -> str:
        """The command's name, every field that is not 0, and what it covers."""
        layout = self.layout(words)
        if layout is None:
            return f"unknown command {words[0] & 0x7F:#x}/{words[0] >> 7 & 7}"
        fields = layout.decode(words)
        named = [f"{name}={value:#x}" for name, value in fields.items() if value and name not in ("opcode", "func3")]
        for effect in self.decode(words)[:1]:
            if isinstance(effect, Illegal):
                named.append(f"(illegal: {effect.why})")
            elif isinstance(effect, Drops):
                named.append(f"covers [{effect.first:#x}, {effect.last:#x}]")
        return " ".join([layout.name, *named])


def _fence(fields: Mapping[str, int]) -> Effect:
    if not fields["AV"]:
        return NoEffect("RISCV-FENCE-1")  # nobody is told that it is done
    where, reads, writes = fields["ADDR[63:2]"] << 2, bool(fields["PR"]), bool(fields["PW"])
    return Completes("RISCV-FENCE-1, RISCV-FENCE-2", where, fields["DATA"], 32, reads, writes)


def _ats(fields: Mapping[str, int], payload: int) -> Sequence[Effect]:
    """A block of one device's translations, of one PASID, of none, or of every one (RISCV-CMD-4)."""
    found = covered(payload) if fields["S"] else (payload & ~0xFFF, payload | 0xFFF)
    if found is None:
        return []  # no 0 tells a size
    every = bool(fields["PV"] and fields["G"])
    pasid = fields["PID"] if fields["PV"] and not every else None
    device = fields["RID"] | (fields["DSEG"] << 16 if fields["DSV"] else 0)
    return [Drops("RISCV-CMD-4", first=found[0], last=found[1], device=device, pasid=pasid, every_pasid=every)]

"""QEMU's ``smmuv3``: registers, queues, traces, and what it does otherwise.

Registers: IHI0070, chapter 6. What QEMU does: its behaviour as seen in 7.2 and 10.0.
"""

import re
from collections.abc import Mapping, Sequence

from hitless.hardware.emulator import Access, Alarm, Deviation, Queues, Ring, Traced, Until, Version, Write
from hitless.pagetable import PageFormat
from hitless.refresh.commands import Words
from hitless.units import WORD_MAX
from hitless_arm_smmu.command_layouts import CFGI_STE_RANGE, TLBI_NSNH_ALL
from hitless_arm_smmu.features import ArmSmmuFeatures

_CR0, _CR0ACK, _GBPA, _GERROR, _GERRORN = 0x20, 0x24, 0x44, 0x60, 0x64
_STRTAB_BASE, _STRTAB_CFG, _CMDQ_BASE, _CMDQ_PROD, _CMDQ_CONS = 0x80, 0x88, 0x90, 0x98, 0x9C
_EVENTQ_BASE, _EVENTQ_PROD, _EVENTQ_CONS = 0xA0, 0x100A8, 0x100AC
_SMMUEN, _EVENTQEN, _CMDQEN = 1, 1 << 2, 1 << 3
_QUEUES = _EVENTQEN | _CMDQEN
_UPDATE, _ABORT = 1 << 31, 1 << 20
_ALL_STES = 31
_RESULT = re.compile(r"smmuv3_translate_success \S+ sid=\S+ iova=0x([0-9a-f]+) translated=0x([0-9a-f]+)")
_BEGUN = re.compile(r"smmu_iotlb_lookup_miss .* addr=0x([0-9a-f]+)")
_REFUSED = re.compile(r"smmuv3_(record_event|translate_abort) ")


class ArmSmmuEmulator:
    """One ``smmuv3``."""

    board = "virt-aarch64"
    machine = "iommu=smmuv3"
    arguments: tuple[str, ...] = ()
    registers = 0x0905_0000
    commands = Ring(_CMDQ_CONS, _CMDQ_PROD, wraps=True)
    events = Ring(_EVENTQ_CONS, _EVENTQ_PROD, wraps=True)
    alarms = (Alarm(_GERROR, 1, "CMDQ_CONS.ERR tells why (ARM-CMD-8)", acknowledged=_GERRORN),)
    waits_by_head = True
    traces = ("smmuv3_translate_success", "smmuv3_record_event", "smmuv3_translate_abort", "smmu_iotlb_lookup_miss")
    traces_rights = True
    oa_bits = 44
    key_bits = 64
    runs = True
    untranslated: tuple[tuple[int, int], ...] = ()
    deviations: tuple[Deviation, ...] = ()
    blind = (
        "walk caches",
        "what a contiguous bit, TTL or Leaf says",
        "break-before-make, and conflicts",
        "owners (GPT)",
        "memory types and shareability",
        "AF and dirty state set by hardware",
    )
    features: Mapping[str, bool | int | str] = {"output_bits": 44, "ipa_bits": 44, "ril": True}

    def __init__(self, page_format: PageFormat, features: ArmSmmuFeatures) -> None:
        self._stage = page_format.stage
        self._features = features
        self._concatenated = page_format.top.bits > page_format.levels[0].bits

    def unable(self, version: Version) -> str | None:
        if self._stage == "2" and version < (10, 0):
            return "QEMU translates stage 2 from 10.0 on"
        if self._concatenated:
            return "of the tables that make a root together QEMU reads only the first"
        if self._features.ds or self._features.output_bits > self.oa_bits:
            return f"QEMU's output addresses have {self.oa_bits} bits"
        if self._features.httu or self._features.s2fwb:
            return "QEMU's SMMU sets no flags, and knows no forced write-back"
        return None

    def start(self, queues: Queues) -> Sequence[Access]:
        commands, events = (n.bit_length() - 1 for n in (queues.command_entries, queues.event_entries))
        return (
            Write(_CMDQ_BASE, queues.command_pa | commands),
            Write(_EVENTQ_BASE, queues.event_pa | events),
            Write(_CR0, _QUEUES, 32),
            Until(_CR0ACK, _QUEUES, _QUEUES),
        )

    def point(self, base: int, *, enabled: bool) -> Sequence[Access]:
        """The table is changed while translation is off; then every request is aborted, not let through."""
        return (
            Write(_GBPA, _UPDATE | _ABORT, 32),
            Until(_GBPA, _UPDATE, 0),
            Write(_CR0, _QUEUES, 32),
            Until(_CR0ACK, _SMMUEN, 0),
            Write(_STRTAB_BASE, base & WORD_MAX),
            Write(_STRTAB_CFG, base >> 64, 32),
            Write(_CR0, _QUEUES | _SMMUEN, 32),
            Until(_CR0ACK, _SMMUEN, _SMMUEN),
        )

    def forget(self) -> Sequence[Words]:
        return [(CFGI_STE_RANGE, _ALL_STES), (TLBI_NSNH_ALL, 0)]

    def read_trace(self, line: str) -> Traced | None:
        if found := _RESULT.search(line):
            return Traced(int(found[1], 16), int(found[2], 16))
        if found := _BEGUN.search(line):  # refused, unless the lines that follow tell otherwise
            return Traced(int(found[1], 16), None)
        return Traced(None, None) if _REFUSED.search(line) else None

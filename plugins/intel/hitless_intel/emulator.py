"""QEMU's ``intel-iommu``: registers, queue, fault records, traces, and what it does otherwise.

Registers: VT-d 5.10, chapter 11. What QEMU does: its behaviour as seen in 7.2 and 10.0.
"""

import re
from collections.abc import Mapping, Sequence

from hitless.hardware.emulator import Access, Alarm, Deviation, Queues, Records, Ring, Traced, Until, Version, Write
from hitless.pagetable import PageFormat
from hitless.refresh.commands import Words
from hitless_intel.commands import IntelCommands
from hitless_intel.descriptors import CONTEXT_CACHE, GLOBAL
from hitless_intel.events import IQE
from hitless_intel.features import FIRST_STAGE, IntelFeatures

_GCMD, _GSTS, _RTADDR, _FSTS = 0x18, 0x1C, 0x20, 0x34
_IQH, _IQT, _IQA = 0x80, 0x88, 0x90
_TE, _SRTP, _QIE = 1 << 31, 1 << 30, 1 << 26
_WIDE = 1 << 11
_WALKED = re.compile(r"vtd_dmar_translate dev \S+ iova (0x[0-9a-f]+) -> gpa (0x[0-9a-f]+) mask (0x[0-9a-f]+)")
_FAULT = re.compile(r"vtd_dmar_fault sid \S+ fault (\d+) addr (0x[0-9a-f]+)")


class IntelEmulator:
    """One ``intel-iommu``, in legacy mode, or in scalable mode for first-stage tables."""

    board = "q35"
    machine = ""
    registers = 0xFED9_0000
    events = Records(0x220, 1, 127, (12, 1 << 31), (Write(_FSTS, 1, 32),))
    alarms = (Alarm(_FSTS, IQE, "FSTS.IQE is set (INTEL-QI-10)"),)
    waits_by_head = False
    traces = ("vtd_dmar_translate", "vtd_dmar_fault")
    traces_rights = True
    oa_bits = 48
    key_bits = 64
    runs = True
    untranslated: tuple[tuple[int, int], ...] = ((0xFEE0_0000, 0xFEF0_0000),)
    deviations: tuple[Deviation, ...] = ()
    blind = (
        "paging-structure caches",
        "negative caches",
        "memory types and snooping",
        "A and D of second-stage leaves",
    )

    def __init__(self, page_format: PageFormat, features: IntelFeatures) -> None:
        self._features = features
        self._first = page_format.name == FIRST_STAGE
        self._scalable = features.scalable(page_format.name)
        self._encode = IntelCommands(features, page_format.name)
        self.commands = Ring(_IQH, _IQT, self._encode.words * 8)

    @property
    def arguments(self) -> tuple[str, ...]:
        options = [f"intel-iommu,aw-bits={self._features.aw}"]
        options += ["x-scalable-mode=on"] if self._scalable else []
        options += ["x-flts=on"] if self._first else []
        return "-device", ",".join(options)

    @property
    def features(self) -> Mapping[str, bool | int | str]:
        return {"haw": 48, "mgaw": 48, "sagaw": 0x6, "snoop_control": False, "device_tlb": False, "nesting": False}

    def unable(self, version: Version) -> str | None:
        """Widths and modes that it has not."""
        features = self._features
        if self._first and version < (10, 0):
            return "QEMU translates first-stage tables from 10.0 on"
        if self._first and features.first_stage_levels != 4:
            return "QEMU walks first-stage tables of four levels only"
        if features.aw not in (39, 48):
            return f"QEMU has no second-stage tables of {features.aw} bits"
        if features.ssads or features.snoop_control or features.bits_62_61 != "reserved":
            return "QEMU has neither A and D of second-stage leaves, nor SNP, nor bits 62:61"
        if max(features.haw, features.mgaw) > features.aw:
            return f"with tables of {features.aw} bits QEMU's addresses have no more on either side: set haw and mgaw"
        return None

    def start(self, queues: Queues) -> Sequence[Access]:
        size = self._encode.words * 8 * queues.command_entries
        wide = _WIDE if self._encode.words == 4 else 0
        return (
            Write(_IQT, 0),
            Write(_IQA, queues.command_pa | wide | (size >> 12).bit_length() - 1),
            Write(_GCMD, _QIE, 32),
            Until(_GSTS, _QIE, _QIE),
        )

    def point(self, base: int, *, enabled: bool) -> Sequence[Access]:
        on = _QIE | _TE
        steps: list[Access] = [
            Write(_RTADDR, base),
            Write(_GCMD, (on if enabled else _QIE) | _SRTP, 32),
            Until(_GSTS, _SRTP, _SRTP),
        ]
        return steps if enabled else [*steps, Write(_GCMD, on, 32), Until(_GSTS, _TE, _TE)]

    def forget(self) -> Sequence[Words]:
        """Context cache, PASID cache where there is one, and IOTLB, all of them (INTEL-QI-2, INTEL-INV-5)."""
        encode = self._encode
        context = (GLOBAL << 4 | CONTEXT_CACHE, *[0] * (encode.words - 1))
        pasid = [encode.invalidate_every_pasid_entry()] if self._scalable else []
        return [context, *pasid, encode.invalidate_everything()]

    def read_trace(self, line: str) -> Traced | None:
        if found := _WALKED.search(line):
            iova, pa, mask = (int(each, 16) for each in found.groups())
            return Traced(iova & ~mask, pa & ~mask, mask.bit_length())
        if found := _FAULT.search(line):
            return Traced(int(found[2], 16), None)
        return None

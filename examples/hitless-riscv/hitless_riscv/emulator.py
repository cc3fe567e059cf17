"""QEMU's ``riscv-iommu-pci``: registers, queues, traces, and what it does otherwise.

Registers: RISC-V IOMMU 1.0, memory-mapped registers. What QEMU does: its behaviour as seen in 10.0.
"""

import re
from collections.abc import Mapping, Sequence

from hitless.hardware.emulator import Access, Alarm, Deviation, Queues, Ring, Traced, Until, Version, Write
from hitless.pagetable import PageFormat
from hitless.refresh.commands import Words
from hitless_riscv.command_layouts import GVMA, INVAL_DDT, VMA
from hitless_riscv.commands import head
from hitless_riscv.features import RiscvFeatures

_DDTP, _CQB, _FQB = 0x10, 0x18, 0x28
_CQH, _CQT, _FQH, _FQT, _CQCSR, _FQCSR = 0x20, 0x24, 0x30, 0x34, 0x48, 0x4C
_ENABLE, _ON = 1, 1 << 16
_MEMORY_FAULT, _TIMEOUT, _ILLEGAL = 1 << 8, 1 << 9, 1 << 10
_OFF, _BARE, _BUSY = 0, 1, 1 << 4
_OFFSET = 0xFFF
_RESULT = re.compile(r"riscv_iommu_dma .* (0x[0-9a-f]+) -> (0x[0-9a-f]+)")
_FAULT = re.compile(r"riscv_iommu_flt .* iova: (0x[0-9a-f]+)")


class RiscvEmulator:
    """One ``riscv-iommu-pci``."""

    board = "virt-riscv64"
    machine = ""
    arguments: tuple[str, ...] = ("-device", "riscv-iommu-pci,addr=01.0")
    registers = "01"
    commands = Ring(_CQH, _CQT)
    events = Ring(_FQH, _FQT)
    alarms = (Alarm(_CQCSR, _MEMORY_FAULT | _TIMEOUT | _ILLEGAL, "cqmf, cmd_to or cmd_ill of cqcsr is set"),)
    waits_by_head = False
    traces: tuple[str, ...] = ("riscv_iommu_dma", "riscv_iommu_flt")
    traces_rights = True
    oa_bits = 44  # what is cached of an address; a walk alone gives 56
    key_bits = 56
    runs = False
    untranslated: tuple[tuple[int, int], ...] = ()
    deviations: tuple[Deviation, ...] = ()
    blind: tuple[str, ...] = (
        "walk caches",
        "U, which is not looked at",
        "Svnapot and Svpbmt",
        "owners (MPT)",
        "A and D set by hardware",
        "valid leaves that change at once",
    )
    features: Mapping[str, bool | int | str] = {
        "hardware_ad": False,
        "svpbmt": False,
        "address_range": False,
        "non_leaf": False,
    }

    def __init__(self, page_format: PageFormat, features: RiscvFeatures) -> None:
        self._features = features

    def unable(self, version: Version) -> str | None:
        """Extensions that it has not."""
        if version < (10, 0):
            return "QEMU translates riscv tables from 10.0 on"
        has = self._features
        if has.napot or has.svpbmt or has.svrsw60t59b:
            return "QEMU knows neither Svnapot nor Svpbmt nor Svrsw60t59b"
        if has.address_range or has.non_leaf or has.hardware_ad:
            return "QEMU has neither capabilities.S nor NL, and sets neither A nor D"
        if not has.msi_flat or has.pas != 56:
            return "QEMU's device contexts have 64 bytes, and its physical addresses 56 bits"
        return None

    def start(self, queues: Queues) -> Sequence[Access]:
        commands, events = (n.bit_length() - 2 for n in (queues.command_entries, queues.event_entries))
        return (
            Write(_DDTP, _BARE),
            Until(_DDTP, _BUSY, 0),
            Write(_CQB, queues.command_pa >> 2 | commands),
            Write(_CQT, 0, 32),
            Write(_CQCSR, _ENABLE, 32),
            Until(_CQCSR, _ON, _ON),
            Write(_FQB, queues.event_pa >> 2 | events),
            Write(_FQH, 0, 32),
            Write(_FQCSR, _ENABLE, 32),
            Until(_FQCSR, _ON, _ON),
        )

    def point(self, base: int, *, enabled: bool) -> Sequence[Access]:
        """The mode changes through Off only, in which every request is refused."""
        return Write(_DDTP, _OFF), Until(_DDTP, _BUSY, 0), Write(_DDTP, base), Until(_DDTP, _BUSY, 0)

    def forget(self) -> Sequence[Words]:
        return [(head(INVAL_DDT), 0), (head(VMA), 0), (head(GVMA), 0)]

    def read_trace(self, line: str) -> Traced | None:
        """Where a translation is cached, its line has no offset in the page; 0 follows a fault, and is never mapped."""
        if found := _RESULT.search(line):
            iova, pa = (int(each, 16) & ~_OFFSET for each in found.groups())
            return Traced(iova, pa or None)
        if found := _FAULT.search(line):
            return Traced(int(found[1], 16), None)
        return None

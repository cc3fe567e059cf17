"""QEMU's ``amd-iommu``: registers, queue, traces, and what it does otherwise.

Registers: 48882, section 3.4. What QEMU does: its behaviour as seen in 7.2 and 10.0.
"""

import re
from collections.abc import Mapping, Sequence

from hitless.hardware.emulator import Access, Deviation, Queues, Ring, Traced, Version, Write
from hitless.pagetable import PageFormat
from hitless.refresh.commands import Words
from hitless_amd.commands import INVALIDATE_IOMMU_ALL
from hitless_amd.features import AmdFeatures

_DEVICE_TABLE, _COMMANDS, _EVENTS, _CONTROL = 0x00, 0x08, 0x10, 0x18
_HEAD, _TAIL = 0x2000, 0x2008
_ENABLE, _EVENT_LOG, _COMMAND_BUFFER = 1, 1 << 2, 1 << 12
_LENGTH = 56
_RESULT = re.compile(r"amdvi_translation_result devid: \S+ gpa 0x([0-9a-f]+) hpa 0x([0-9a-f]+)")
_HIT = re.compile(r"amdvi_iotlb_hit devid: \S+ gpa 0x([0-9a-f]+) hpa 0x([0-9a-f]+)")
_FAULT = re.compile(r"amdvi_page_fault ")


class AmdEmulator:
    """One ``amd-iommu`` for v1 tables."""

    board = "q35"
    machine = ""
    arguments = ("-device", "amd-iommu,pt=off")
    registers = 0xFED8_0000
    features: Mapping[str, bool | int | str] = {"hats": 2, "had": 0, "ia": True}
    commands = Ring(_HEAD, _TAIL, 16)
    events = None
    alarms = ()
    waits_by_head = False
    traces = (
        "amdvi_translation_result",
        "amdvi_iotlb_hit",
        "amdvi_page_fault",
        "amdvi_cache_update",
        "amdvi_invalid_dte",
        "amdvi_err",
    )
    traces_rights = False
    oa_bits = 52
    key_bits = 48
    runs = True
    untranslated: tuple[tuple[int, int], ...] = ((0xFEE0_0000, 0xFEF0_0000),)
    blind = (
        "paging-structure caches (the PDC)",
        "owners (RMP)",
        "FC, U and the C-bit",
        "A and D",
        "event records, and why a request was refused",
        "which pages of a domain a command names: all go",
    )

    def __init__(self, page_format: PageFormat, features: AmdFeatures) -> None:
        self._name = page_format.name
        self._features = features
        wide = page_format.iova_bits
        self.deviations = (
            Deviation(
                "amd.above-the-root",
                "IOVA bits above what the root can index are ignored: such a request is translated as if they were 0",
                lambda asked: asked.leaf is None and asked.iova >> wide != 0,
            ),
        )

    def unable(self, version: Version) -> str | None:
        return None if self._name == "amd/v1" else "QEMU translates v1 tables only"

    def start(self, queues: Queues) -> Sequence[Access]:
        lengths = [entries.bit_length() - 1 for entries in (queues.command_entries, queues.event_entries)]
        return (
            Write(_COMMANDS, queues.command_pa | lengths[0] << _LENGTH),
            Write(_EVENTS, queues.event_pa | lengths[1] << _LENGTH),
        )

    def point(self, base: int, *, enabled: bool) -> Sequence[Access]:
        return Write(_DEVICE_TABLE, base), Write(_CONTROL, _ENABLE | _EVENT_LOG | _COMMAND_BUFFER)

    def forget(self) -> Sequence[Words]:
        return [(INVALIDATE_IOMMU_ALL << 60, 0)]

    def read_trace(self, line: str) -> Traced | None:
        """The address is where the leaf leads to, and 0 for a fault: nothing is ever mapped to 0."""
        if found := _RESULT.search(line):
            return Traced(int(found[1], 16), int(found[2], 16) or None, at_start=True)
        return None

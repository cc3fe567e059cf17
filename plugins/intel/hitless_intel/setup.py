"""All structures of a unit that starts: root table, context tables, directories and PASID tables.

Spec: VT-d 5.10, section 9. Facts: INTEL-CTX-*.
"""

from collections import defaultdict
from collections.abc import Sequence

from attrs import define, field

from hitless.hardware.structures import StructureEntry, StructureImage, TableSource
from hitless_intel.entries import EntryWriter, check_domains, effective_pasid, refuse
from hitless_intel.layouts import LEGACY, SCALABLE

_TABLE_LG2 = 12


@define
class Setup:
    """Builds the image of one unit.

    Args:
        entries: what writes context and PASID entries.
        tables: where memory comes from.
    """

    entries: EntryWriter
    tables: TableSource
    _writes: list[tuple[int, tuple[int, ...]]] = field(factory=list)
    _blocks: list[tuple[int, int]] = field(factory=list)

    def legacy(self, entries: Sequence[StructureEntry]) -> StructureImage:
        """Root and context entries; a device that is blocked, or not named, has none present."""
        contexts: dict[int, int] = {}
        root_pa = self._allocate()
        for entry in entries:
            if entry.device >> 8 not in contexts:
                contexts[entry.device >> 8] = self._allocate()
            if not entry.blocked:
                table_pa = contexts[entry.device >> 8]
                self._writes.append((table_pa + (entry.device & 0xFF) * 16, self.entries.context(entry)))
        for bus, table_pa in contexts.items():
            self._writes.append((root_pa + bus * 16, (table_pa | 1, 0)))
        return self._image(root_pa, LEGACY)

    def scalable(self, entries: Sequence[StructureEntry]) -> StructureImage:
        """Root, context, PASID directory and PASID table entries."""
        check_domains([each for each in entries if not each.blocked])
        by_device: dict[int, list[StructureEntry]] = defaultdict(list)
        for entry in entries:
            by_device[entry.device].append(entry)
        contexts: dict[int, int] = {}
        root_pa = self._allocate()
        for device, its in by_device.items():
            if device >> 7 not in contexts:
                contexts[device >> 7] = self._allocate()
            words = self._device(its)
            self._writes.append((contexts[device >> 7] + (device & 0x7F) * 32, words))
        for half, table_pa in contexts.items():
            self._writes.append((root_pa + half * 8, (table_pa | 1,)))
        return self._image(root_pa, SCALABLE)

    def _device(self, entries: Sequence[StructureEntry]) -> tuple[int, ...]:
        """The context entry of a device, with its directory and PASID tables written; not present if all is blocked."""
        by_pasid: dict[int, StructureEntry] = {}
        for entry in entries:
            pasid = effective_pasid(entry)
            if pasid in by_pasid:
                refuse(
                    entry, f"PASID {pasid:#x} is described twice", "INTEL-CTX-7", "requests without PASID are PASID 0"
                )
            by_pasid[pasid] = entry
        directories = (max(by_pasid) >> 6) + 1
        pdts = max(0, (directories - 1).bit_length() - 7)
        directory_pa = self._allocate(max(_TABLE_LG2, pdts + 10))
        tables: dict[int, int] = {}
        for pasid, entry in by_pasid.items():
            if pasid >> 6 not in tables:
                tables[pasid >> 6] = self._allocate()
            if not entry.blocked:
                self._writes.append((tables[pasid >> 6] + (pasid & 63) * 64, self.entries.pasid(entry)))
        for index, table_pa in tables.items():
            self._writes.append((directory_pa + index * 8, (table_pa | 1,)))
        words = self.entries.scalable_context(entries, directory_pa, pdts)
        present = any(not entry.blocked for entry in entries)
        return words if present else (words[0] & ~1, *words[1:])

    def _allocate(self, size_lg2: int = _TABLE_LG2) -> int:
        pa = self.tables.allocate(size_lg2)
        self._blocks.append((pa, size_lg2))
        return pa

    def _image(self, root_pa: int, mode: int) -> StructureImage:
        return StructureImage(root_pa | mode << 10, tuple(self._writes), tuple(self._blocks))

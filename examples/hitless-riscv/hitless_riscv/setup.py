"""Writes the structures of a whole unit: a device directory, and process directories where there are PASIDs.

Spec: RISC-V IOMMU 1.0, data structures. Facts: RISCV-DC-*, RISCV-PC-*.
"""

from collections.abc import Sequence
from itertools import groupby

from hitless.hardware.structures import StructureEntry, StructureImage, TableSource
from hitless_riscv.contexts import ContextWriter, device_bits, process_bits, unfit
from hitless_riscv.features import RiscvFeatures

_PAGE_LG2 = 12
_ONE_LEVEL = 2  # ddtp.iommu_mode


class Directory:
    """A directory under construction: a root, and below it the pages that ids need.

    Args:
        levels: 1 to 3.
        leaf_bits: bits of an id that index a page of contexts; the levels above take nine each.
        context_words: 64-bit words of a context.
        memory: where pages come from.
    """

    def __init__(self, levels: int, leaf_bits: int, context_words: int, memory: TableSource) -> None:
        self._levels, self._leaf_bits, self._context_bytes = levels, leaf_bits, 8 * context_words
        self._memory = memory
        self._pages: dict[tuple[int, int], int] = {}
        self.writes: list[tuple[int, tuple[int, ...]]] = []
        self.root = self._page(levels - 1, 0)

    @property
    def blocks(self) -> list[tuple[int, int]]:
        """The pages, each with log2 of its size."""
        return [(pa, _PAGE_LG2) for pa in self._pages.values()]

    def set(self, number: int, words: tuple[int, ...]) -> None:
        """Write the context of an id."""
        page = self._page(0, number >> self._leaf_bits)
        index = number & (1 << self._leaf_bits) - 1
        self.writes.append((page + self._context_bytes * index, words))

    def _page(self, level: int, prefix: int) -> int:
        """The page of a level for ids whose bits above its index are ``prefix``."""
        pa = self._pages.get((level, prefix))
        if pa is None:
            pa = self._pages[level, prefix] = self._memory.allocate(_PAGE_LG2)
            if level < self._levels - 1:
                slot = self._page(level + 1, prefix >> 9) + 8 * (prefix & 0x1FF)
                self.writes.append((slot, (pa >> 2 | 1,)))
        return pa


def setup(
    entries: Sequence[StructureEntry],
    tables: TableSource,
    guest: TableSource | None,
    contexts: ContextWriter,
    features: RiscvFeatures,
) -> StructureImage:
    """A device directory of as few levels as do, with a context for each device; others have none that is valid.

    The process directory of a nested device lies in guest memory, at guest physical addresses (RISCV-PC-7).

    Raises:
        OutOfTableMemory.  HitlessError: the contexts cannot say this.
    """
    bits = device_bits(features)
    largest = max(entries, key=lambda entry: entry.device, default=None)
    levels = next((n for n in (1, 2, 3) if largest is None or not largest.device >> sum(bits[:n])), 0)
    if largest is not None and not levels:
        raise unfit(largest, "a device has no more than 24 bits", "RISCV-DC-3", "use a smaller device id")
    ddt = Directory(levels, bits[0], 8 if features.msi_flat else 4, tables)
    hosts: list[Directory] = []
    guests: list[Directory] = []
    by_device = groupby(sorted(entries, key=lambda entry: entry.device), key=lambda entry: entry.device)
    for device, group in by_device:
        named = list(group)
        live = [entry for entry in named if not entry.blocked]
        if not live:
            continue
        pdt = _processes(live, tables, guest, contexts, features)
        if pdt is None:
            ddt.set(device, contexts.device(live[0]))
            continue
        (guests if live[0].stage2 is not None else hosts).append(pdt.directory)
        ddt.set(device, contexts.device(live[0]._replace(stage1=None), **pdt.fields))
    writes = (*ddt.writes, *(write for pdt in hosts for write in pdt.writes))
    blocks = (*ddt.blocks, *(block for pdt in hosts for block in pdt.blocks))
    base = ddt.root >> 2 | _ONE_LEVEL + levels - 1
    return StructureImage(base, writes, blocks, tuple(write for pdt in guests for write in pdt.writes))


class _Processes:
    """A process directory, and what the device context says of it."""

    def __init__(self, directory: Directory, mode: int, *, default: bool) -> None:
        self.directory = directory
        self.fields = {"tc.PDTV": 1, "tc.DPE": int(default), "fsc.MODE": mode, "fsc.PPN": directory.root >> 12}


def _processes(
    entries: list[StructureEntry],
    tables: TableSource,
    guest: TableSource | None,
    contexts: ContextWriter,
    features: RiscvFeatures,
) -> _Processes | None:
    """The process directory of a device; None where no entry has a PASID."""
    first = entries[0]
    alone = next((entry for entry in entries if entry.pasid is None), None)
    named = [entry for entry in entries if entry.pasid is not None]
    if not named:
        return None
    if any((entry.stage2, entry.ats) != (first.stage2, first.ats) for entry in entries):
        raise unfit(first, "all of its PASIDs go through one device context", "RISCV-DC-5", "give them one stage 2")
    if any(entry.stage1 is None for entry in named):
        raise unfit(first, "a PASID of it has no stage 1", "RISCV-PC-3", "give it one")
    # Requests without PASID bypass stage 1 only where that is asked for: DPE sends the others to process 0.
    default = alone is None or alone.stage1 is not None
    if default and any(entry.pasid == 0 for entry in named):
        raise unfit(first, "requests without PASID are those of process 0", "RISCV-PC-6", "use another PASID than 0")
    if alone is not None and alone.stage1 is not None:
        named.append(alone)
    widest = max(entry.pasid or 0 for entry in named)
    mode = next((mode for mode in (1, 2, 3) if not widest >> process_bits(mode)[1]), 0)
    levels, bits = process_bits(mode)
    if not mode or bits > features.process_id_bits:
        raise unfit(first, f"PASID {widest:#x} is too wide for the unit", "RISCV-PC-1", "use smaller PASIDs")
    memory = guest if first.stage2 is not None else tables
    if memory is None:
        raise unfit(first, "it is nested, and there is no guest memory", "RISCV-PC-7", "say where the guest's lie")
    directory = Directory(levels, 8, 2, memory)
    for entry in named:
        directory.set(entry.pasid or 0, contexts.process(entry))
    return _Processes(directory, mode, default=default)

"""QEMU beside our walker: the same table, the same requests, and every difference explained or told."""

import random
from collections import Counter

from attrs import define, field, frozen

from hitless.hardware.emulator import Asked, Traced
from hitless.hardware.structures import Found, StageRoot
from hitless.hardware.translator import Attachment
from hitless.hardware.vendor import Vendor
from hitless.hardware.walker import Translation, translate
from hitless.machine.qemu.machine import QemuMachine
from hitless.machine.qemu.random_tables import RandomTable
from hitless.machine.qemu.unit import QemuUnit, arrival
from hitless.ownership import OwnerTable
from hitless.units import PAGE_LG2, lg2_text

MOST_EXCUSED = 0.05
"""A deviation that excuses more than this part of the requests explains nothing any more."""
_LEAVES = 300
_SINK = 1 << 16
"""At the end of guest memory, for what devices have read."""
_FAULT = "a fault"


@frozen
class Difference:
    """One request that QEMU answered otherwise, and no deviation explains."""

    iova: int
    write: bool
    ours: str
    theirs: str

    def __str__(self) -> str:
        return f"{'write' if self.write else 'read'} {self.iova:#x}: ours {self.ours}, QEMU's {self.theirs}"


@define
class Comparison:
    """What became of the requests.

    Args:
        asked: all of them.
        by_dma, by_trace, refused: how they were seen, as in :class:`hitless.machine.qemu.unit.Witnessed`.
        sizes: requests that our walker translates, by log2 of the leaf's size.
        excused: differences by the deviation that explains them.
        unexplained: the others.
    """

    asked: int = 0
    by_dma: int = 0
    by_trace: int = 0
    refused: int = 0
    sizes: Counter[int] = field(factory=Counter)
    excused: Counter[str] = field(factory=Counter)
    unexplained: list[Difference] = field(factory=list)

    @property
    def faults(self) -> list[str]:
        """What is wrong, in sentences: differences, and deviations that excuse too much."""
        found = [str(each) for each in self.unexplained]
        for name, count in sorted(self.excused.items()):
            if count > MOST_EXCUSED * self.asked:
                found.append(f"{name} excuses {count} of {self.asked} requests")
        return found


def compare(machine: QemuMachine, vendor: Vendor, unit: QemuUnit, count: int, *, seed: int = 0) -> Comparison:
    """Random requests through a random table, on a unit of its own; nothing stays cached from one that is refused."""
    emulator, rng = unit.emulator, random.Random(seed)
    fmt = vendor.page_format
    table = RandomTable(
        fmt,
        machine.arena,
        machine.tables,
        rng,
        machine.guest_bytes - _SINK,
        min(emulator.oa_bits, fmt.oa_bits),
        emulator.traces_rights,
        emulator.runs,
        emulator.untranslated,
    )
    table.fill(_LEAVES)
    device, tag = next(iter(unit.devices)), 1
    root = StageRoot(fmt, table.root_pa, tag)
    found = Found("translate", root if fmt.stage == "1" else None, root if fmt.stage == "2" else None, tag)
    unit.attach([Attachment(device, found, vendor.ownership, OwnerTable())])
    compared, keys = Comparison(), _Keys(emulator.key_bits)
    for iova, write in table.requests(count):
        if not any(start <= iova < end for start, end in emulator.untranslated):
            if keys.clash(iova):
                unit.forget()
            _Request(unit, device, iova, write, table.sink).compare(compared)
    return compared


@define
class _Keys:
    """The pages that were asked for, by as many bits of their IOVA as an emulator tells them apart by."""

    bits: int
    _pages: dict[int, int] = field(factory=dict)

    def clash(self, iova: int) -> bool:
        """Whether a page may be answered for by another; it counts as the one that is cached then."""
        page = iova >> PAGE_LG2
        key = page & (1 << self.bits - PAGE_LG2) - 1
        before = self._pages.setdefault(key, page)
        self._pages[key] = page
        return before != page


@frozen
class _Request:
    """One request, put to both."""

    unit: QemuUnit
    device: int
    iova: int
    write: bool
    sink: tuple[int, int]

    def compare(self, into: Comparison) -> None:
        unit = self.unit
        if unit.structures is None:
            raise TypeError("an emulated unit has structures")
        walked = translate(
            unit.memory.load, unit.structures, unit.requests.base, self.device, self.iova, write=self.write
        )
        ours = walked.outcome if isinstance(walked.outcome, Translation) else None
        if ours is None:
            unit.forget()  # a right that is missing leaves no trace where the translation is cached
        told = unit.ask(self.device, self.iova, write=self.write)
        into.asked += 1
        if ours is not None:
            into.sizes[ours.size_lg2] += 1
        theirs = self._theirs(told, into)
        mine = _answer(ours, told, self.iova, leaf_only=theirs.startswith("the leaf"))
        if mine == theirs:
            return
        asked = Asked(self.iova, self.write, None if ours is None else ours.stage1 or ours.stage2)
        for each in unit.emulator.deviations:
            if each.explains(unit.registers.qemu.version, asked):
                into.excused[each.id] += 1
                return
        into.unexplained.append(Difference(self.iova, self.write, mine, theirs))

    def _seen(self, told: Traced) -> tuple[int | None, bool]:
        """Where the device's bytes are, or come from; and whether they could be looked for at all."""
        unit = self.unit
        if told.pa is None:
            return None, False
        places = [pa for pa, _ in unit.places(self.device, told, self.iova) if unit.guest_memory.contains(pa, 8)]
        if self.write:
            return next((pa for pa in places if unit.take_token(pa)), None), bool(places)
        return unit.read_from(self.device, self.iova, places, self.sink) if places else None, bool(places)

    def _theirs(self, told: Traced, into: Comparison) -> str:
        """QEMU's answer in words: what the bytes show, where there is memory, and what the trace tells besides."""
        found, looked = self._seen(told)
        if told.pa is None or (looked and found is None):
            into.refused += 1
            return _FAULT
        if found is not None:
            into.by_dma += 1
        else:
            into.by_trace += 1
        if told.at_start and found is None:
            return f"the leaf at {told.pa:#x}"
        size = "" if told.size_lg2 is None else f" ({lg2_text(told.size_lg2)})"
        return f"{arrival(told, self.iova, 0) if found is None else found:#x}{size}"


def _answer(ours: Translation | None, told: Traced, iova: int, *, leaf_only: bool) -> str:
    """Our answer in the same words, as much of it as the trace tells."""
    if ours is None:
        return _FAULT
    if leaf_only:
        leaf = ours.stage1 or ours.stage2
        return f"the leaf at {leaf.oa if leaf else ours.pa:#x}"
    size = "" if told.size_lg2 is None else f" ({lg2_text(ours.size_lg2)})"
    return f"{ours.pa + iova - ours.start:#x}{size}"

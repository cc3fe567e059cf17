"""A unit that QEMU emulates: the driver's side writes the real queue, the hardware's side is QEMU."""

from collections.abc import Mapping, Sequence

from attrs import define, field

from hitless.columns import Ranges
from hitless.errors import HitlessError
from hitless.hardware.caches import CachedLeaf
from hitless.hardware.emulator import Emulator, Queues, Records, Traced
from hitless.hardware.translator import Attachment, Translated
from hitless.hardware.unit import Unit
from hitless.machine.qemu.edu import Edu
from hitless.machine.qemu.nvme import BULK_DEVICE, Nvme
from hitless.machine.qemu.registers import Registers
from hitless.machine.qemu.trace import TraceLog
from hitless.memory import PhysicalMemory
from hitless.pagetable import READ, WRITE
from hitless.refresh.commands import Words
from hitless.units import PAGE_LG2

TOKEN = 0x5EA1_ED0F_C0FF_EE01
"""What the devices write: eight bytes that memory never holds otherwise."""


@define
class Witnessed:
    """How many translations were seen.

    Args:
        by_dma: of these the bytes were found where the trace said that they would be.
        by_trace: of these the trace alone tells: reads, and writes to where there is no memory.
        refused: requests that got none.
    """

    by_dma: int = 0
    by_trace: int = 0
    refused: int = 0

    def add(self, more: "Witnessed") -> None:
        """Take what was seen elsewhere."""
        self.by_dma += more.by_dma
        self.by_trace += more.by_trace
        self.refused += more.refused


@define(eq=False, kw_only=True)
class QemuUnit(Unit):
    """One emulated IOMMU.

    QEMU has neither owner tables nor requests in flight: who owns a page is checked here, as soon as a request has
    its translation.

    Args:
        emulator: the vendor's declaration.
        registers: the unit's.
        devices: what does DMA, by device.
        guest_memory: memory that can be looked into, for what devices write.
        bulk: a controller that moves many pages at once, if the machine has it; it is a device like the others.
    """

    emulator: Emulator
    registers: Registers
    devices: Mapping[int, Edu]
    guest_memory: PhysicalMemory
    bulk: Nvme | None = None
    witnessed: Witnessed = field(factory=Witnessed)
    trace: TraceLog = field(init=False)
    _enabled: bool = False

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        self.completes_later = False
        self.trace = TraceLog(self.registers.qemu)
        self.trace.switch_on(self.emulator.traces)
        facts = self.facts
        queues = Queues(self.queue_pa, facts.queue_entries, self.event_pa, facts.event_entries)
        self.registers.access(self.emulator.start(queues))
        self._load_tokens()

    def _load_tokens(self) -> None:
        """Give the devices what they will write, while nothing is translated yet."""
        self.memory.store(self.wait_pa, TOKEN)
        for edu in self.devices.values():
            edu.load(self.wait_pa)
        self.memory.store(self.wait_pa, 0)

    # -- the driver's side

    def _ring(self) -> None:
        ring = self.emulator.commands
        self.registers.write(ring.tail, ring.pointer(self.tail, self.facts.queue_entries))

    def _is_full(self) -> bool:
        """One entry stays free: a head that has caught up looks like one that has not moved."""
        return self.tail - self.head >= self.facts.queue_entries - 1

    def _answered(self, target: int) -> bool:
        return self.head == self.tail if self.emulator.waits_by_head else super()._answered(target)

    def _point(self, base: int) -> None:
        super()._point(base)
        self.registers.access(self.emulator.point(base, enabled=self._enabled))
        self._enabled = True
        self.forget()

    def forget(self) -> None:
        """Have the unit drop everything that it has cached."""
        for words in self.emulator.forget():
            self.submit(words)
        self.complete()

    def attach(self, attachments: Sequence[Attachment], guest: object = None) -> None:
        """Put devices behind the unit; see :meth:`Unit.attach`.

        Raises:
            HitlessError: there is no such device, or it should have an ATC.
        """
        for each in attachments:
            if each.ats or each.pasid is not None or guest is not None:
                raise HitlessError(
                    "QEMU's devices have neither an ATC nor PASIDs, and nothing nests here",
                    who=self.name,
                    where=f"device {each.device:#x}",
                    do="attach it without, or use the machine in memory",
                )
            if each.device not in self.devices and not (self.bulk and each.device == BULK_DEVICE):
                raise HitlessError(f"the unit has no device {each.device:#x}", who=self.name, do="name it to add_unit")
        super().attach(attachments)

    def drain_events(self) -> Sequence[Words]:
        """Read and consume the fault records that QEMU wrote, from memory or from registers."""
        told = self.emulator.events
        if told is None:
            return ()
        if isinstance(told, Records):
            return self.registers.records(told)
        entries, size = self.facts.event_entries, self.events.words * 8
        end = told.advanced(self.event_tail, self.registers.read(told.tail), entries)
        found = []
        for at in range(self.event_tail, end):
            slot = self.event_pa + at % entries * size
            found.append(tuple(self.memory.load(slot + 8 * i) for i in range(self.events.words)))
        self.event_tail = end
        self.registers.write(told.head, told.pointer(end, entries))
        return found

    # -- the hardware's side

    def tick(self) -> None:
        """QEMU goes on by itself."""

    def process(self) -> None:
        """See how far QEMU's head has come; if it stands, whether QEMU tells why."""
        ring, entries = self.emulator.commands, self.facts.queue_entries
        self.head = ring.advanced(self.head, self.registers.read(ring.head), entries)
        if self.head < self.tail:
            for alarm in self.emulator.alarms:
                if self.registers.raised(alarm):
                    slot = self.queue_pa + self.head % entries * self.commands.words * 8
                    words = tuple(self.memory.load(slot + 8 * i) for i in range(self.commands.words))
                    self.stopped = words, alarm.meaning

    def forget_pa(self, start_pa: int, end_pa: int, *, devices: bool) -> None:
        """QEMU has no owner tables: their own invalidations reach nothing here."""

    def forget_pas(self, ranges: Ranges, *, devices: bool) -> None:
        """As :meth:`forget_pa`."""

    def ask(self, device: int, iova: int, *, write: bool) -> Traced:
        """Let a device do one access of a few bytes; what the trace tells of it.

        Raises:
            EmulatorError: it does not tell.
        """
        edu = self.devices[device]
        self.trace.skip()
        (edu.write if write else edu.read)(iova)
        told = None
        for line in self.trace.lines():
            seen = self.emulator.read_trace(line)
            if seen is not None and (seen.iova is None or not (seen.iova ^ iova) >> (seen.size_lg2 or PAGE_LG2)):
                told = seen
        if told is None:
            raise self.registers.qemu.error(f"the trace does not tell what {self.name} made of {iova:#x}")
        return told

    def look(self, device: int, iova: int, *, write: bool) -> tuple[int, int] | None:
        """Where one request arrives, and log2 of the size around it that surely does the same; None: nowhere.

        What is written to memory is found there, or the request counts as refused: a right that is missing where
        the translation is cached already leaves no trace.
        """
        told = self.ask(device, iova, write=write)
        if told.pa is None:
            self.witnessed.refused += 1
            return None
        if not write and not told.at_start:
            self.witnessed.by_trace += 1
            return arrival(told, iova, 0), told.size_lg2 or PAGE_LG2
        if not write:  # only what is written tells how large the leaf is
            self.ask(device, iova, write=True)
        places = self.places(device, told, iova)
        for pa, lg2 in places:
            if self.take_token(pa):
                self.witnessed.by_dma += 1
                return pa, lg2
        if write and any(self.guest_memory.contains(pa, 8) for pa, _ in places):
            self.witnessed.refused += 1
            return None
        self.witnessed.by_trace += 1
        return places[0]

    def places(self, device: int, told: Traced, iova: int) -> list[tuple[int, int]]:
        """Where a request may arrive by its trace, with log2 of the leaf's size: one place, unless no size is told."""
        sizes = self._sizes(device) if told.at_start else (told.size_lg2 or PAGE_LG2,)
        return [(arrival(told, iova, lg2), lg2) for lg2 in sizes]

    def read_from(self, device: int, iova: int, places: Sequence[int], sink: tuple[int, int]) -> int | None:
        """Which of some addresses of memory a device reads at an IOVA; None: none of them.

        ``sink`` is the IOVA and the address of a page that the device may write.
        """
        edu = self.devices[device]
        for number, pa in enumerate(places, 1):
            self.guest_memory.store(pa, number)
        edu.read(iova, 8)
        for pa in places:
            self.guest_memory.store(pa, 0)
        edu.give_back(sink[0], 8)
        number = self.guest_memory.load(sink[1])
        return places[number - 1] if 0 < number <= len(places) else None

    def take_token(self, pa: int) -> bool:
        """Whether what a device writes is at an address of guest memory; it is gone afterwards."""
        found = self.guest_memory.contains(pa, 8) and self.guest_memory.load(pa) == TOKEN
        if found:
            self.guest_memory.store(pa, 0)
        return found

    def _sizes(self, device: int) -> Sequence[int]:
        """log2 of the sizes that a device's leaves may have."""
        found = self.attachments[device, None].found
        root = found.stage2 or found.stage1
        return root.page_format.leaf_lg2s if root else (PAGE_LG2,)

    def translate(self, attachment: Attachment, iova: int, write: bool) -> Translated | str:
        """One request of a device; QEMU translates, and the owner of the page is asked."""
        kept = any(start <= iova < end for start, end in self.emulator.untranslated)
        if attachment.blocked or kept:  # what the board keeps for itself reaches no unit
            return "blocked"
        seen = self.look(attachment.device, iova, write=write)
        if seen is None:
            return "refused"
        pa, size_lg2 = seen
        if outcome := self._owner_refuses(attachment, pa, size_lg2):
            return outcome
        start = iova >> size_lg2 << size_lg2
        entry = CachedLeaf(start, size_lg2, pa - iova + start, READ | WRITE, 0, 0, start, size_lg2, True)
        return Translated(pa, entry, attachment.tag)

    def _owner_refuses(self, attachment: Attachment, pa: int, size_lg2: int) -> str:
        """The outcome if the owner of a page forbids the access; that leaf and page have one size is not seen here."""
        sizes = [lg2 for lg2 in self._sizes(attachment.device) if lg2 >= size_lg2]
        outcomes = [self.requests.memory_refuses(attachment, pa, lg2) for lg2 in sizes or [size_lg2]]
        return "" if "" in outcomes else outcomes[0]


def arrival(told: Traced, iova: int, size_lg2: int) -> int:
    """Where an IOVA leads, by a trace line about a leaf of that size."""
    from_pa = told.pa or 0
    if told.at_start:
        return from_pa + (iova & (1 << size_lg2) - 1)
    return from_pa + iova - (iova if told.iova is None else told.iova)

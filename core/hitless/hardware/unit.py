"""A unit: command queue, event queue and registers, running on declared data.

Nothing is instantaneous: a command that was submitted is processed at some later moment, a request
that was translated completes at some later moment, and only a wait's completion orders the two.
"""

import random
import threading
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from attrs import define, field

from hitless.columns import Ranges
from hitless.errors import HitlessError, UnitTimeout
from hitless.hardware.facts import (
    Commands,
    Completes,
    Drops,
    DropsStructure,
    Effect,
    Events,
    FaultRecord,
    HardwareFacts,
    Illegal,
)
from hitless.hardware.live import Round, change_rounds
from hitless.hardware.structures import GuestMemory, StructureEntry, Structures
from hitless.hardware.translator import Attachment, Requester, Translated, Translator
from hitless.memory import PageAllocator, PhysicalMemory
from hitless.plan import StoreStructure
from hitless.refresh.commands import Words
from hitless.units import PAGE, PAGE_LG2, align_up

_POLLS = 10_000


@define(eq=False)
class Request:
    """A DMA request between its translation and its completion.

    ``drain``: True or False once a command targeted its translation and said so; None before. ``gpa``: the guest
    memory that its issuer wants to reach.
    """

    attachment: Attachment
    iova: int
    write: bool
    translated: Translated
    finish: Callable[["Request"], None]
    drain: bool | None = None
    gpa: int = 0


@define(eq=False)
class Unit:
    """One IOMMU.

    Args:
        name: unique in the machine.
        facts, commands, events: the vendor's declarations.
        memory: what walker and queues read and write.
        queue_pa, event_pa, wait_pa: where command queue, event queue and completion word lie.
        rng: what decides when things happen.
        structures: what stands before the page tables; None: nothing that is modelled.
        structure_memory: where they come from.
        idle: called while a wait is polled: the rest of the machine goes on.
        held: requests are held, so that it does not.
        requests: its caches and walker.
        decode: what a command does; that of the last ones is known.
        stopped: the command that it refused, with the reason: its queue goes no further.
        completes_later: requests may go on for a while after they were translated.
    """

    name: str
    facts: HardwareFacts
    commands: Commands
    events: Events
    memory: PhysicalMemory
    queue_pa: int
    event_pa: int
    wait_pa: int
    rng: random.Random
    structures: Structures | None = None
    structure_memory: PageAllocator | None = None
    idle: Callable[[], None] = lambda: None
    attachments: dict[Requester, Attachment] = field(factory=dict)
    in_flight: list[Request] = field(factory=list)
    fenced: bool = False
    held: bool = False
    hung: bool = False
    stopped: tuple[Words, str] | None = None
    completes_later: bool = True
    head: int = 0
    tail: int = 0
    event_tail: int = 0
    events_lost: int = 0
    requests: Translator = field(init=False)
    decode: Callable[[Words], Sequence[Effect]] = field(init=False)
    _guest: GuestMemory | None = None
    _blocks: tuple[tuple[int, int], ...] = ()
    _sequence: int = 0
    _entries: int = field(init=False)
    _command_bytes: int = field(init=False)
    _lock: threading.RLock = field(factory=threading.RLock)

    def __attrs_post_init__(self) -> None:
        self.requests = Translator(self.facts, self.structures, self.memory, self.rng, self._report)
        if self.structure_memory is not None:
            self.requests.in_use = self.structure_memory.in_use
        self.decode = lru_cache(self.facts.queue_entries)(self.commands.decode)
        self._entries = self.facts.queue_entries
        self._command_bytes = 8 * self.commands.words

    # -- the driver's side

    def submit(self, words: Words) -> None:
        """Write a command at the tail and ring the doorbell; polls while the queue is full.

        Raises:
            UnitTimeout: it stays full.  HitlessError: the unit refused an earlier command.
        """
        with self._lock:
            self._submit(words)

    def _submit(self, words: Words) -> None:
        polls = 0
        while self._is_full():
            polls = self._poll(polls)
        at, store = self._slot(self.tail), self.memory.store
        for word in words:
            store(at, word)
            at += 8
        self.tail += 1
        self._ring()

    def _slot(self, number: int) -> int:
        """Where a command lies, counted from the first one ever."""
        return self.queue_pa + number % self._entries * self._command_bytes

    def _ring(self) -> None:
        """The doorbell: the model sees the new tail by itself."""

    def _is_full(self) -> bool:
        return self.tail - self.head >= self._entries

    def complete(self) -> None:
        """Submit a wait and poll until its word, or a later one, has been written.

        Raises:
            UnitTimeout: it was not written within the bound.
            HitlessError: the unit refused a command before it; the error names the command.
        """
        with self._lock:
            self._sequence += 1
            target = self._sequence
            self._submit(self.commands.wait(self.wait_pa, target))
            polls = 0
            while not self._answered(target):
                polls = self._poll(polls)

    def _answered(self, target: int) -> bool:
        return self.memory.load(self.wait_pa) >= target

    def _poll(self, polls: int) -> int:
        if self.stopped is not None:
            words, why = self.stopped
            raise HitlessError(
                f"the unit refused a command and stopped its queue: {self.commands.describe(words)}",
                who=self.name,
                where=" ".join(f"{word:#x}" for word in words),
                rule="W1: every word stored is a legal encoding",
                why=why,
                do="mend the command; its event lies in the event queue, where the architecture writes one",
            )
        if polls >= _POLLS:
            raise UnitTimeout(self.name, polls)
        if not self.held:
            self.idle()
        if not self.hung:
            self.process()
        return polls + 1

    @property
    def writes(self) -> Sequence[tuple[int, int]]:
        """The physical pages, as ranges, that the unit writes by itself: fault records and the completion word."""
        events = self.event_pa + align_up(self.facts.event_entries * self.events.words * 8, PAGE_LG2)
        return (self.event_pa, events), (self.wait_pa, self.wait_pa + PAGE)

    @property
    def reads(self) -> Sequence[tuple[int, int]]:
        """Those that it only reads: commands and structures."""
        commands = align_up(self.facts.queue_entries * self.commands.words * 8, PAGE_LG2)
        structures = [(pa, pa + (1 << size_lg2)) for pa, size_lg2 in self._blocks]
        return (self.queue_pa, self.queue_pa + commands), *structures

    def drain_events(self) -> Sequence[Words]:
        """Read and consume the event queue, as a driver does."""
        found = []
        for at in range(self.event_tail):
            slot = self.event_pa + at * self.events.words * 8
            found.append(tuple(self.memory.load(slot + 8 * i) for i in range(self.events.words)))
        self.event_tail = 0
        return found

    def attach(self, attachments: Sequence[Attachment], guest: GuestMemory | None = None) -> None:
        """Put devices behind the unit: new structures for all of its devices, and the register set to them.

        Every device that was attached before is translated as before; what is cached of the old structures goes
        with the register's write. ``guest`` is where the guest's own structures lie, here and in later calls.

        Raises:
            OutOfTableMemory.  HitlessError: the vendor's structures cannot say this.
        """
        self._guest = guest or self._guest
        self._rebuild(self.attachments | {(each.device, each.pasid): each for each in attachments})

    def detach(self, attachments: Sequence[Attachment]) -> None:
        """Take devices away: the structures refuse their requests, all others are translated as before."""
        gone = {(each.device, each.pasid) for each in attachments}
        self._rebuild({key: each for key, each in self.attachments.items() if key not in gone})

    def _rebuild(self, found: dict[Requester, Attachment]) -> None:
        """New structures for these devices, and the register set to them."""
        if self.structures is not None:
            if self.structure_memory is None:
                raise HitlessError("there is no memory for structures", who=self.name, do="give the unit some")
            self._write_structures(self.structures, self.structure_memory, [entry_of(each) for each in found.values()])
        self.attachments = found

    def _write_structures(
        self, structures: Structures, memory: PageAllocator, entries: Sequence[StructureEntry]
    ) -> None:
        guest = self._guest
        image = structures.setup(entries, memory, *([] if guest is None else [guest]))
        for pa, words in image.writes:
            for i, word in enumerate(words):
                self.memory.store(pa + 8 * i, word)
        if guest is not None:
            for gpa, words in image.guest_writes:
                for i, word in enumerate(words):
                    guest.store(gpa + 8 * i, word)
        self._point(image.base)
        old, self._blocks = self._blocks, image.blocks
        for pa, size_lg2 in old:
            memory.free(pa, size_lg2)

    def _point(self, base: int) -> None:
        """Write the register that leads to the structures; nothing of the old ones stays cached."""
        self.requests.set_base(base)

    def plan_change(self, entry: StructureEntry, what: str, load: Callable[[int], int] | None = None) -> list[Round]:
        """How a live structure comes to say something else, in rounds; see :func:`change_rounds`.

        ``load`` reads one word as it will be when the first step is done; None: as it is.

        Raises:
            HitlessError: the structures cannot say it, or there are none.
        """
        if self.structures is None:
            raise HitlessError("there are no structures", who=self.name, do="set the devices up anew")
        base, load = self.requests.base, load or self.memory.load
        return change_rounds(self.name, self.structures, base, entry, what, load, coherent=self.facts.coherent)

    def block(self) -> tuple[int, ...]:
        """Fence: every device behind the unit goes to a blocking state; their ids.

        The structures say so, and commands ask the unit to forget the old ones, as far as its queue has room.
        Nobody waits for a unit that does not answer: what stops its devices at once is that they are taken off
        the bus.
        """
        self.fenced = True
        for attachment in self.attachments.values():
            attachment.blocked = True
            for stores, commands in self.plan_change(entry_of(attachment), "block") if self.structures else ():
                for step in stores:
                    if isinstance(step, StoreStructure):
                        for i, word in enumerate(step.new):
                            self.memory.store(step.pa + 8 * i, word)
                for command in commands:
                    if not self._is_full():
                        self.submit(command.words)
        return tuple(dict.fromkeys(device for device, _ in self.attachments))

    # -- the hardware's side: commands

    def tick(self) -> None:
        """Some time passes: perhaps a command is processed."""
        if self.head < self.tail and not self.hung and self.rng.random() < 0.25:
            self.process()

    def process(self) -> None:
        """Fetch the command at the head of the queue from memory and do it."""
        if self.head == self.tail or self.stopped is not None:
            return
        slot, load = self._slot(self.head), self.memory.load
        words = tuple([load(at) for at in range(slot, slot + self._command_bytes, 8)])
        for effect in self.decode(words):
            match effect:
                case Drops():
                    self._drop(effect)
                case Completes():
                    self._complete(effect)
                case DropsStructure():
                    self.requests.drop_structures(effect)
                case Illegal(why=why):
                    self.stopped = words, why
                    illegal = getattr(self.events, "illegal_command", None)  # a vendor may leave it out
                    self._write_event(illegal(words, slot) if illegal else None)
                    return
        self.head += 1

    def _drop(self, drops: Drops) -> None:
        if drops.device is not None:
            for (device, pasid), attachment in self.attachments.items():
                if device == drops.device and (drops.every_pasid or pasid == drops.pasid):
                    attachment.atc.drop(drops)
            return
        self.requests.drop(drops)
        if not self.in_flight or (drops.drains_reads is None and drops.drains_writes is None):
            return
        for request in self.in_flight:
            if drops.of_tag(request.translated.tag) and request.translated.entry.targeted(drops):
                asked = drops.drains_writes if request.write else drops.drains_reads
                request.drain = request.drain or asked

    def _complete(self, wait: Completes) -> None:
        """Requests in flight that the wait drains end first; then the word is written."""
        if self.in_flight:
            self._drain(wait)
        if wait.bits == 32:
            self.memory.store32(wait.store_pa, wait.value & 0xFFFF_FFFF)
        else:
            self.memory.store(wait.store_pa, wait.value)

    def _drain(self, wait: Completes) -> None:
        stay: list[Request] = []
        pending, self.in_flight = self.in_flight, stay
        for request in pending:
            declared = wait.drains_writes if request.write else wait.drains_reads
            if request.drain or (request.drain is None and declared):
                request.finish(request)
            else:
                stay.append(request)

    def forget_pa(self, start_pa: int, end_pa: int, *, devices: bool) -> None:
        """An owner table's own invalidation by physical address: it returns when accesses in flight have ended."""
        for cache in self.requests.caches.values():
            cache.forget_pa(start_pa, end_pa)
        if devices:
            for attachment in self.attachments.values():
                attachment.atc.forget_pa(start_pa, end_pa)
        pending, self.in_flight = self.in_flight, []
        for request in pending:
            if start_pa <= request.translated.pa < end_pa:
                request.finish(request)
            else:
                self.in_flight.append(request)

    def forget_pas(self, ranges: Ranges, *, devices: bool) -> None:
        """:meth:`forget_pa` for many physical ranges, sorted and disjoint, at once."""

        def meets(pa: int, size: int) -> bool:
            at = int(np.searchsorted(ranges.last, np.uint64(pa)))
            return at < len(ranges) and int(ranges.start[at]) < pa + size

        for cache in self.requests.caches.values():
            cache.forget_meeting(meets)
        if devices:
            for attachment in self.attachments.values():
                attachment.atc.forget_meeting(meets)
        pending, self.in_flight = self.in_flight, []
        for request in pending:
            if meets(request.translated.pa, 1):
                request.finish(request)
            else:
                self.in_flight.append(request)

    # -- the hardware's side: requests

    def translate(self, attachment: Attachment, iova: int, write: bool) -> Translated | str:
        """Translate one request; the kind of fault, if it gets none. Faults are reported as events."""
        return self.requests.translate(attachment, iova, write)

    @property
    def conflicts(self) -> int:
        """Requests that met cached entries which may not stand beside each other (rule K1)."""
        return self.requests.conflicts

    @property
    def freed_table_reads(self) -> int:
        """Reads of tables and structures that were freed (rule R1)."""
        return self.requests.freed_table_reads

    def _report(self, record: FaultRecord) -> None:
        self._write_event(self.events.encode(record))

    def _write_event(self, words: Words | None) -> None:
        """Write a record into the event queue, where the architecture has one."""
        if words is None:
            return
        if self.event_tail >= self.facts.event_entries:
            self.events_lost += 1
            return
        slot = self.event_pa + self.event_tail * self.events.words * 8
        for i, word in enumerate(words):
            self.memory.store(slot + 8 * i, word)
        self.event_tail += 1


def entry_of(attachment: Attachment) -> StructureEntry:
    """What the structures shall say of an attachment."""
    found = attachment.found
    return StructureEntry(
        attachment.device, attachment.pasid, found.stage1, found.stage2, found.tag, attachment.ats, attachment.blocked
    )

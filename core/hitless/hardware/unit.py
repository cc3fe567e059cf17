"""A unit: command queue, event queue and caches, running on declared data.

Nothing is instantaneous: a command that was submitted is processed at some later moment, a request
that was translated completes at some later moment, and only a wait's completion orders the two.
"""

import random
import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

from attrs import define, field

from hitless.errors import HitlessError, UnitTimeout
from hitless.hardware.caches import Cache, CachedLeaf, CachedTable
from hitless.hardware.facts import Commands, Completes, Drops, Events, FaultRecord, HardwareFacts, Illegal
from hitless.memory import PhysicalMemory
from hitless.ownership import Ownership, OwnerTable
from hitless.pagetable import READ, WRITE, Leaf, PageFormat, Position, WalkFault, entry_pa
from hitless.refresh.commands import Words

_POLLS = 10_000


@define(eq=False)
class Attachment:
    """A device behind a unit, and the domain that it is attached to.

    Args:
        tag: what the unit files its cached entries under.
        trusted: its guest accepted it: it may reach that guest's private pages.
        ats: it has an ATC and uses it.
        in_use: whether a physical address lies in an allocated table (rule R1).
        blocked: moved to a blocking state: every request is aborted.
    """

    device: int
    tag: int
    page_format: PageFormat
    root_pa: int
    ownership: Ownership
    owners: OwnerTable
    trusted: bool = False
    ats: bool = False
    in_use: Callable[[int], bool] = lambda _pa: True
    blocked: bool = False
    atc: Cache = field(factory=Cache)


class Translated(NamedTuple):
    """A request's translation; ``entry`` is what it was made from."""

    pa: int
    entry: CachedLeaf


@define(eq=False)
class Request:
    """A DMA request between its translation and its completion.

    ``drain``: True or False once a command targeted its translation and said so; None before.
    """

    attachment: Attachment
    iova: int
    write: bool
    translated: Translated
    finish: Callable[["Request"], None]
    drain: bool | None = None


@define(eq=False)
class Unit:
    """One IOMMU.

    Args:
        name: unique in the machine.
        facts, commands, events: the vendor's declarations.
        memory: what walker and queues read and write.
        queue_pa, event_pa, wait_pa: where command queue, event queue and completion word lie.
        rng: what decides when things happen.
        idle: called while a wait is polled: the rest of the machine goes on.
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
    idle: Callable[[], None] = lambda: None
    attachments: dict[int, Attachment] = field(factory=dict)
    caches: dict[int, Cache] = field(factory=dict)
    in_flight: list[Request] = field(factory=list)
    fenced: bool = False
    hung: bool = False
    stopped: str = ""
    head: int = 0
    tail: int = 0
    event_tail: int = 0
    events_lost: int = 0
    freed_table_reads: int = 0
    conflicts: int = 0
    _sequence: int = 0
    _lock: threading.RLock = field(factory=threading.RLock)

    # -- the driver's side

    def submit(self, words: Words) -> None:
        """Write a command at the tail and ring the doorbell; polls while the queue is full."""
        with self._lock:
            polls = 0
            while self.tail - self.head >= self.facts.queue_entries:
                polls = self._poll(polls)
            size = self.commands.words
            slot = self.queue_pa + self.tail % self.facts.queue_entries * size * 8
            for i, word in enumerate(words):
                self.memory.store(slot + 8 * i, word)
            self.tail += 1

    def complete(self) -> None:
        """Submit a wait and poll until its word, or a later one, has been written.

        Raises:
            UnitTimeout: it was not written within the bound.
        """
        with self._lock:
            self._sequence += 1
            target = self._sequence
            self.submit(self.commands.wait(self.wait_pa, target))
            polls = 0
            while self.memory.load(self.wait_pa) < target:
                polls = self._poll(polls)

    def _poll(self, polls: int) -> int:
        if polls >= _POLLS:
            raise UnitTimeout(self.name, polls)
        self.idle()
        if not self.hung:
            self.process()
        return polls + 1

    def drain_events(self) -> Sequence[Words]:
        """Read and consume the event queue, as a driver does."""
        found = []
        for at in range(self.event_tail):
            slot = self.event_pa + at * self.events.words * 8
            found.append(tuple(self.memory.load(slot + 8 * i) for i in range(self.events.words)))
        self.event_tail = 0
        return found

    # -- the hardware's side: commands

    def tick(self) -> None:
        """Some time passes: perhaps a command is processed."""
        if self.head < self.tail and not self.hung and self.rng.random() < 0.25:
            self.process()

    def process(self) -> None:
        """Fetch the command at the head of the queue from memory and do it."""
        if self.head == self.tail or self.stopped:
            return
        size = self.commands.words
        slot = self.queue_pa + self.head % self.facts.queue_entries * size * 8
        words = tuple(self.memory.load(slot + 8 * i) for i in range(size))
        for effect in self.commands.decode(words):
            match effect:
                case Drops():
                    self._drop(effect)
                case Completes():
                    self._complete(effect)
                case Illegal(why=why):
                    self.stopped = why
                    raise HitlessError(
                        "the unit refuses a command and stops its queue",
                        who=self.name,
                        where=" ".join(f"{word:#x}" for word in words),
                        rule="W1: every word stored is a legal encoding",
                        why=why,
                    )
        self.head += 1

    def _drop(self, drops: Drops) -> None:
        if drops.device is not None:
            attachment = self.attachments.get(drops.device)
            if attachment:
                attachment.atc.drop(drops)
            return
        for tag, cache in self.caches.items():
            if drops.of_tag(tag):
                cache.drop(drops)
        if drops.drains_reads is None and drops.drains_writes is None:
            return
        for request in self.in_flight:
            if drops.of_tag(request.attachment.tag) and request.translated.entry.targeted(drops):
                asked = drops.drains_writes if request.write else drops.drains_reads
                request.drain = request.drain or asked

    def _complete(self, wait: Completes) -> None:
        """Requests in flight that the wait drains end first; then the word is written."""
        stay: list[Request] = []
        pending, self.in_flight = self.in_flight, stay
        for request in pending:
            declared = wait.drains_writes if request.write else wait.drains_reads
            if request.drain or (request.drain is None and declared):
                request.finish(request)
            else:
                stay.append(request)
        if wait.bits == 32:
            self.memory.store32(wait.store_pa, wait.value & 0xFFFF_FFFF)
        else:
            self.memory.store(wait.store_pa, wait.value)

    def forget_pa(self, start_pa: int, end_pa: int, *, devices: bool) -> None:
        """An owner table's own invalidation by physical address: it returns when accesses in flight have ended."""
        for cache in self.caches.values():
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

    def block(self) -> tuple[int, ...]:
        """Fence: every device behind the unit goes to a blocking state; their ids."""
        self.fenced = True
        for attachment in self.attachments.values():
            attachment.blocked = True
        return tuple(self.attachments)

    # -- the hardware's side: requests

    def translate(self, attachment: Attachment, iova: int, write: bool) -> Translated | str:
        """Translate one request; the kind of fault, if it gets none. Faults are reported as events."""
        if attachment.blocked:
            return "blocked"
        cache = attachment.atc if attachment.ats else self.caches.setdefault(attachment.tag, Cache())
        cached = cache.leaves_at(iova)
        if cached:
            if self._conflicts(cached):
                self.conflicts += 1
                return self._report(attachment, iova, write, "conflict", cached[0].level)
            if self.rng.random() < 0.75:
                entry = self.rng.choice(cached) if len(cached) > 1 else cached[0]
                if entry.rights & (WRITE if write else READ):
                    return self._use(attachment, entry, iova, write)
        if attachment.ats:
            cache = self.caches.setdefault(attachment.tag, Cache())
            cached = cache.leaves_at(iova)
            if cached and self.rng.random() < 0.5:
                entry = self.rng.choice(cached)
                attachment.atc.add_leaf(entry)
                return self._use(attachment, entry, iova, write)
        return self._walk(attachment, cache, iova, write)

    def _conflicts(self, cached: list[CachedLeaf]) -> bool:
        """Whether cached leaves for one address may not stand beside each other (rule K1)."""
        if len(cached) < 2:
            return False
        if self.facts.size_conflict and len({(e.leaf_start, e.leaf_lg2) for e in cached if e.stable}) > 1:
            return True
        return self.facts.address_conflict and len({e.pa - e.start for e in cached}) > 1

    def _walk(self, attachment: Attachment, cache: Cache, iova: int, write: bool) -> Translated | str:
        """Walk from the root, or from any cached pointer; cache what is found."""
        fmt = attachment.page_format
        at: Position | Leaf | WalkFault = fmt.start(attachment.root_pa, iova)
        for pointer in cache.tables_at(iova):
            if type(at) is Position and pointer.level < at.level and self.rng.random() < 0.5:
                at = Position(fmt.stage, pointer.level, pointer.table_pa, iova, pointer.rights)
        while type(at) is Position:
            if not attachment.in_use(at.table_pa):
                self.freed_table_reads += 1
            at = fmt.step(at, self.memory.load(entry_pa(fmt.levels[at.level], at.table_pa, iova)))
            if type(at) is Position:
                below = fmt.levels[at.level]
                span = below.lo + below.bits
                cache.add_table(CachedTable(iova >> span << span, span, at.level, at.table_pa, at.rights, fmt.stage))
        if isinstance(at, WalkFault):
            return self._report(attachment, iova, write, at.kind, at.level)
        if type(at) is not Leaf:
            raise TypeError(f"a walk step answered {at!r}")
        if not at.rights & (WRITE if write else READ):
            return self._report(attachment, iova, write, "permission", at.level)
        return self._fill(attachment, cache, at, iova, write)

    def _fill(self, attachment: Attachment, cache: Cache, leaf: Leaf, iova: int, write: bool) -> Translated | str:
        """Check the owner, then cache the leaf, whole or in a piece."""
        size_lg2 = leaf.size_lg2
        if attachment.ownership.cached:
            pa = leaf.oa + iova - leaf.iova
            verdict = attachment.ownership.verdict(attachment.owners, pa, size_lg2, attachment.trusted)
            if not verdict.ok:
                return self._report(attachment, iova, write, verdict.outcome, leaf.level)
            size_lg2 = min(size_lg2, verdict.size_lg2)
        smaller = [piece for piece in self.facts.pieces_lg2 if piece < size_lg2]
        if smaller and self.rng.random() < 0.5:
            size_lg2 = self.rng.choice(smaller)
        start = iova >> size_lg2 << size_lg2
        stable = attachment.page_format.cacheable(leaf.word, leaf.level)
        hardware = attachment.page_format.hardware_set(leaf.level)
        entry = CachedLeaf(
            start,
            size_lg2,
            leaf.oa + start - leaf.iova,
            leaf.rights,
            leaf.attrs & ~hardware,
            leaf.level,
            leaf.iova,
            leaf.size_lg2,
            stable,
            leaf.stage,
        )
        if stable:
            cache.add_leaf(entry)
            cache.evict(self.rng)
            if attachment.ats:
                attachment.atc.add_leaf(entry)
                attachment.atc.evict(self.rng)
        return self._use(attachment, entry, iova, write)

    def _use(self, attachment: Attachment, entry: CachedLeaf, iova: int, write: bool) -> Translated | str:
        """The address behind an entry; where verdicts are not cached, memory itself answers."""
        pa = entry.pa + iova - entry.start
        if not attachment.ownership.cached:
            verdict = attachment.ownership.verdict(attachment.owners, pa, entry.leaf_lg2, attachment.trusted)
            if not verdict.ok:
                return self._report(attachment, iova, write, verdict.outcome, entry.level)
        return Translated(pa, entry)

    def _report(self, attachment: Attachment, iova: int, write: bool, kind: str, level: int) -> str:
        """Write a fault record into the event queue, where the architecture has one for it."""
        if kind == "machine-check":
            return kind
        record = FaultRecord(attachment.device, iova, write, kind, level, attachment.tag)
        words = self.events.encode(record)
        if words is not None:
            if self.event_tail >= self.facts.event_entries:
                self.events_lost += 1
                return kind
            slot = self.event_pa + self.event_tail * self.events.words * 8
            for i, word in enumerate(words):
                self.memory.store(slot + 8 * i, word)
            self.event_tail += 1
        return kind

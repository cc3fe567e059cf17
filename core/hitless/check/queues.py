"""What commands and waits do to stale facts: of what a command targets, what could be built afterwards is left."""

from collections.abc import Sequence

from attrs import define, field

from hitless.check.held import OPEN, Held, HeldIndex
from hitless.check.links import Links, Pending
from hitless.check.subject import CheckUnit
from hitless.hardware.facts import Completes, Drops, Effect, HardwareFacts, Illegal
from hitless.pagetable import READ, WRITE
from hitless.units import WORD_MAX, align_down, align_up


@define
class Places:
    """Where a translation may be, as bits: caches (TLBs by unit and tag, then ATCs), and in flight from each.

    ``requesters``: (unit, device, PASID) of all whose structures a plan changes; each has a place for them.
    """

    units: tuple[CheckUnit, ...]
    atcs: tuple[tuple[int, int], ...] = field(init=False)
    nested: tuple[int, ...] = field(init=False)
    requesters: tuple[tuple[int, int, int | None], ...] = field(init=False)
    _of: tuple[tuple[int, ...], ...] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.atcs = tuple((i, device) for i, unit in enumerate(self.units) for device in unit.devices)
        self.nested = tuple(i for i, unit in enumerate(self.units) if unit.nested is not None)
        self.requesters = tuple((i, *each) for i, unit in enumerate(self.units) for each in unit.requesters)
        first = len(self.units)
        behind = [[first + i for i, (unit, _) in enumerate(self.atcs) if unit == number] for number in range(first)]
        for unit in self.nested:
            behind[unit].append(self.results(unit))
        self._of = tuple((unit, *caches) for unit, caches in enumerate(behind))

    def results(self, unit: int) -> int:
        """The number (bit) of the cache of nested results of a unit."""
        return len(self.units) + len(self.atcs) + self.nested.index(unit)

    @property
    def tlbs(self) -> int:
        return (1 << len(self.units)) - 1

    @property
    def caches(self) -> int:
        return (1 << self._count) - 1

    @property
    def _count(self) -> int:
        return self.structure(len(self.requesters))

    def structure(self, number: int) -> int:
        """The number (bit) of what a unit holds of one requester's structures."""
        return len(self.units) + len(self.atcs) + len(self.nested) + number

    @property
    def structures(self) -> int:
        """The bits of all of these."""
        return self.caches & ~((1 << self.structure(0)) - 1)

    def atc(self, number: int) -> int:
        return 1 << len(self.units) + number

    def of_unit(self, unit: int) -> tuple[int, ...]:
        """The numbers (bits) of a unit's caches: its TLB, the ATCs of the devices behind it, and nested results."""
        return self._of[unit]

    def flight(self, cache: int, *, write: bool) -> int:
        """Requests in flight that used what a cache held, or what a walk for it found."""
        return 1 << self._count + 2 * cache + write

    def flights(self, cache: int, rights: int) -> int:
        """Those that some rights allow."""
        reads = self.flight(cache, write=False) if rights & READ else 0
        return reads | (self.flight(cache, write=True) if rights & WRITE else 0)

    def everywhere(self, walkers: int, rights: int) -> int:
        """Every place that a translation with these rights may be in, if these units can make it."""
        bits = 0
        for unit in range(len(self.units)):
            if walkers >> unit & 1 and rights:
                for cache in self.of_unit(unit):
                    bits |= self.flights(cache, rights) | 1 << cache
        return bits


RESULTS = "12"
"""The stage of cached results of a guest's stage 1 over a host's stage 2."""


@define(eq=False)
class Queues:
    """The queues of all units."""

    places: Places
    hardware: HardwareFacts
    facts: HeldIndex
    links: Links
    stage: str
    pending: dict[str, list[Pending]] = field(factory=dict)
    stopped: set[str] = field(factory=set)

    def submit(self, unit: str, at: int, effects: Sequence[Effect]) -> None:
        """Commands are pending from now on; one that hardware refuses stops the queue for good."""
        queue = self.pending.setdefault(unit, [])
        for effect in effects:
            if isinstance(effect, Drops):
                queue.append(Pending(at, effect))
            elif isinstance(effect, Illegal):
                self.stopped.add(unit)

    def complete(self, name: str, wait: Completes) -> None:
        """A wait has completed: each pending command took effect, then requests in flight ended."""
        if name in self.stopped:
            return
        queue = self.pending.pop(name, [])
        for number, unit in enumerate(self.places.units):
            if unit.name == name:
                self._take_effect(number, queue)
                self._drain(number, wait)
        self.links.forget()
        self.facts.sweep()

    def _take_effect(self, unit: int, queue: Sequence[Pending]) -> None:
        tag = self.places.units[unit].tag
        own = [p for p in queue if p.drops.device is None and p.drops.of_tag(tag) and self.stage in p.drops.stages]
        atcs = {
            device: self.places.atc(i).bit_length() - 1
            for i, (behind, device) in enumerate(self.places.atcs)
            if behind == unit
        }
        pasid = self.places.units[unit].pasid
        devices = [p for p in queue if p.drops.device in atcs and (p.drops.every_pasid or p.drops.pasid == pasid)]
        gone = self.links.dropped(unit, own)
        if self.places.units[unit].nested is not None:
            self._drop_results(unit, queue, own)
        if not self.hardware.atc_in_order:
            for command in devices:  # in any order: the unit may still give a device all that it had
                self._drop_atc(unit, command, atcs[command.drops.device or 0], [])
            devices = []
        for command in sorted([*own, *devices], key=lambda each: each.at):
            if command.drops.device is None:
                self._drop(unit, command)
            else:
                earlier = [each for each in own if each.at < command.at]
                self._drop_atc(unit, command, atcs[command.drops.device], earlier)
        for link in gone:
            link.alive &= ~(1 << unit)

    def _drop(self, unit: int, command: Pending) -> None:
        """One command to a unit's own caches."""
        drops = command.drops
        for fact in self.facts.targeted(drops):
            rebuilt = fact.window.until > command.at and self.links.after(fact.table_pa, command, unit)
            self._target(fact, drops, unit, rebuilt=rebuilt)

    def _drop_results(self, unit: int, queue: Sequence[Pending], own: Sequence[Pending]) -> None:
        """Commands to results of both stages: one may be made again from what the unit still holds of stage 2.

        So one command has to take both, or a wait has to stand between two.
        """
        place, cache = self.places.units[unit], self.places.results(unit)
        for command in own:  # what one command takes of a fact, and what it leaves, are two facts from here on
            for fact in self.facts.targeted(command.drops):
                if (part := fact.targeted(command.drops)) is not None:
                    self.facts.take(fact, *part)
        for command in queue:
            drops = command.drops
            if drops.device is not None or RESULTS not in drops.stages or not drops.of_tag(place.nested or 0):
                continue
            at_once = [each.drops for each in own if each.at == command.at]
            if self.stage not in drops.stages and (drops.first > 0 or drops.last < WORD_MAX):
                continue  # a range of the guest's own addresses: what it leads to is not known here
            for fact in self.facts.targeted(drops):
                rebuilt = fact.window.until > command.at and self.links.after(fact.table_pa, command, unit)
                held = bool(fact.alive >> unit & 1) and not any(fact.targeted(each) for each in at_once)
                self._target(fact, drops, cache, rebuilt=rebuilt or held)

    def _drop_atc(self, unit: int, command: Pending, cache: int, earlier: Sequence[Pending]) -> None:
        """One command to a device. ``earlier``: what has surely taken effect on its unit by then."""
        for fact in self.facts.targeted(command.drops):
            # what the unit's TLB still has, the device gets again
            sources = 1 << unit | (1 << self.places.results(unit) if unit in self.places.nested else 0)
            rebuilt = bool(fact.alive & sources) or (
                fact.window.until > command.at
                and all(self.links.after(fact.table_pa, each, unit) for each in earlier or [command])
            )
            self._target(fact, command.drops, cache, rebuilt=rebuilt)

    def _target(self, fact: Held, drops: Drops, cache: int, *, rebuilt: bool) -> None:
        """What a command targets leaves a cache, if it cannot be made again; so do requests, if it says so."""
        gone = fact.alive >> cache & 1 and not rebuilt
        explicit = drops.drains_reads is not None or drops.drains_writes is not None
        part = fact.targeted(drops) if gone or explicit else None
        if part is None:
            return
        held = self.facts.take(fact, *part)
        if gone:
            held.alive &= ~(1 << cache)
        for write, asked in ((False, drops.drains_reads), (True, drops.drains_writes)):
            if asked is False or not rebuilt:  # a request may have been made after the command took effect
                held.ask_drain(self.places.flight(cache, write=write), asked=asked)

    def _drain(self, unit: int, wait: Completes) -> None:
        """Requests in flight complete; in flight stays what could be obtained again, and what was not drained."""
        for fact in self.facts.all():
            for cache in self.places.of_unit(unit):
                if fact.alive & self.places.flights(cache, READ | WRITE) and not self._obtainable(fact, unit, cache):
                    self._end(fact, cache, wait)

    def _end(self, fact: Held, cache: int, wait: Completes) -> None:
        """The wait ends requests that used a fact from a cache, as it declares or as a command asked."""
        for write, declared in ((False, wait.drains_reads), (True, wait.drains_writes)):
            bit = self.places.flight(cache, write=write)
            if fact.drained & bit or (declared and not fact.undrained & bit):
                fact.alive &= ~bit
            fact.drained &= ~bit
            fact.undrained &= ~bit

    def usable(self, fact: Held) -> int:
        """The flights (bits) of units that may use a translation now: from a cache, or by a walk."""
        bits = 0
        for unit in range(len(self.places.units)):
            for cache in self.places.of_unit(unit):
                if self._obtainable(fact, unit, cache):
                    bits |= self.places.flights(cache, fact.rights)
        return bits

    def forget_pa(self, start_pa: int, end_pa: int, *, devices: bool) -> None:
        """An owner table's own invalidation by physical address; requests in flight to the range complete.

        What a walk may make again is not forgotten.
        """
        gone = self.places.caches if devices else self.places.tlbs
        for fact in list(self.facts.all()):
            low, high = max(start_pa - fact.oa, 0), min(end_pa - fact.oa, fact.end - fact.start)
            if fact.kind or low >= high:
                continue
            start, end = fact.start + low, fact.start + high
            piece = fact.piece_lg2
            whole = self.facts.take(
                fact, max(align_down(start, piece), fact.start), min(align_up(end, piece), fact.end)
            )
            whole.alive &= ~gone | self._remade(whole)
            if whole.alive:
                part = self.facts.take(whole, start, end)
                part.alive &= self.places.caches | self.usable(part)
        self.facts.sweep()

    def _remade(self, fact: Held) -> int:
        """The caches (bits) of units whose walks may make a translation again."""
        units = (unit for unit in range(len(self.places.units)) if self._walkable(fact, unit))
        return sum(1 << cache for unit in units for cache in self.places.of_unit(unit))

    def _obtainable(self, fact: Held, unit: int, cache: int) -> bool:
        """Whether a request may use a translation now, from a cache or by a walk."""
        return bool(fact.alive >> cache & 1) or (cache == unit and self._walkable(fact, unit))

    def _walkable(self, fact: Held, unit: int) -> bool:
        """Whether a walk of a unit may still make a translation."""
        return fact.window.until == OPEN and bool(self.links.walkers(fact.table_pa) >> unit & 1)

"""What a replay's units and devices hold, and what commands and waits do to it."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from attrs import define, field

from hitless.hardware.caches import CachedLeaf, CachedStructure, CachedTable
from hitless.hardware.facts import Completes, Drops, DropsStructure, Illegal, Match
from hitless.hardware.vendor import Vendor
from hitless.pagetable import READ, WRITE
from hitless.refresh.commands import Words
from hitless.units import lg2_text


class Outcome(NamedTuple):
    """How a request ended: at an address with attributes, or in a fault."""

    pa: int = 0
    attrs: int = 0
    fault: str = ""

    @property
    def text(self) -> str:
        """In a few words, as a violation says it."""
        return f"fault {self.fault}" if self.fault else f"reached {self.pa:#x}"

    def __str__(self) -> str:
        """As a program writes it."""
        return f"Outcome(fault={self.fault!r})" if self.fault else f"Outcome({self.pa:#x}, {self.attrs:#x})"


class Entry(NamedTuple):
    """A cached leaf, and the IOVA that was asked for; with ``fault``, a cached not-present entry."""

    leaf: CachedLeaf
    asked: int
    fault: str = ""

    def covers(self, iova: int) -> bool:
        """Whether it translates an IOVA."""
        return self.leaf.start <= iova < self.leaf.start + (1 << self.leaf.size_lg2)

    def __str__(self) -> str:
        size = lg2_text(self.leaf.size_lg2)
        what = "not-present entry" if self.fault else "leaf" if self.leaf.size_lg2 == self.leaf.leaf_lg2 else "piece"
        return f"{what} {self.leaf.start:#x} {size}" + ("" if self.fault else f" -> {self.leaf.pa:#x}")


@define(eq=False)
class Flight:
    """A translation that a request has used which has not completed; ``drain`` as in the running model."""

    entry: Entry
    write: bool
    drain: bool | None = None


class Spared(NamedTuple):
    """Why a command does not take an entry: how much that says, the reason, the facts behind it."""

    weight: int
    why: str
    source: str


@define(eq=False)
class Place:
    """What one unit holds under one tag, with the ATCs of the devices behind it.

    Args:
        pasid: of the requests here.
        base, requesters: the unit's register, and who is attached, where structures say so.
        structures: older ones that the unit may hold.
        grants: whether the owner check, where it is made anew for each access, lets a request use an entry now.
    """

    unit: str
    tag: int
    leaves: list[Entry] = field(factory=list)
    pointers: list[CachedTable] = field(factory=list)
    atcs: dict[int, list[Entry]] = field(factory=dict)
    flight: list[Flight] = field(factory=list)
    pasid: int | None = None
    base: int = 0
    requesters: tuple[tuple[int, int | None], ...] = ()
    structures: list[CachedStructure] = field(factory=list)
    grants: Callable[[Entry], bool] = lambda _entry: True

    def cache(self, device: int | None) -> list[Entry]:
        """What the unit holds, or a device's ATC."""
        return self.leaves if device is None else self.atcs[device]

    def keep(self, entry: Entry, device: int | None) -> None:
        """A translation enters the unit's cache, and its device's."""
        for cache in (self.leaves, *([] if device is None else [self.atcs[device]])):
            if entry not in cache:
                cache.append(entry)

    def use(self, entry: Entry) -> None:
        """Requests use a translation, if it is granted now, and have not completed."""
        if entry.fault or not self.grants(entry):
            return
        for write, right in ((False, READ), (True, WRITE)):
            known = any(each.entry == entry and each.write == write for each in self.flight)
            if entry.leaf.rights & right and not known:
                self.flight.append(Flight(entry, write))

    def use_all(self) -> None:
        """Requests use everything that is cached."""
        for cache in (self.leaves, *self.atcs.values()):
            for entry in cache:
                self.use(entry)


@define(eq=False)
class Port:
    """One unit's queue, as the executor writes to it.

    Args:
        places: what it holds, a tag each.
        pending, forgetting: what commands that were submitted take of translations, and of structures.
        stages: the kind of its entries.
        notes: what happened to what is held, in words; whoever tells the story takes them away.
        spared: why commands did not take what is held.
        stale: whether memory leads to the table of a pointer no more; only such pointers are told of.
    """

    name: str
    vendor: Vendor
    places: list[Place] = field(factory=list)
    fenced: bool = False
    held: bool = False
    stopped: str = ""
    pending: list[Drops] = field(factory=list)
    forgetting: list[DropsStructure] = field(factory=list)
    notes: list[str] = field(factory=list)
    spared: list[Spared] = field(factory=list)
    stale: Callable[[CachedTable], bool] = lambda _pointer: False

    # -- the executor's side

    def submit(self, words: Words) -> None:
        """A command is pending from now on; an illegal one stops the queue.

        Of several things that it drops, those are told that are about entries of this stage.
        """
        effects = self.vendor.commands.decode(words)
        here = [each for each in effects if isinstance(each, Drops) and self.vendor.page_format.stage in each.stages]
        for effect in effects:
            if isinstance(effect, Illegal):
                self.stopped = effect.why
                self.notes.append(f"{self.name} refuses the command and stops its queue: {effect.why}")
            elif isinstance(effect, Drops):
                if effect in here or not here:
                    self._note(effect)
                self.pending.append(effect)
            elif isinstance(effect, DropsStructure):
                self.forgetting.append(effect)

    def complete(self) -> None:
        """A wait: what is pending takes effect, then requests in flight end as declared."""
        commands = self.vendor.commands
        wait = next((e for e in commands.decode(commands.wait(0x1000, 1)) if isinstance(e, Completes)), None)
        if self.stopped or wait is None:
            self.notes.append(f"{self.name} never answers")
            return
        self.let_pass()
        self._forget_structures()
        for place in self.places:
            ended = [each for each in place.flight if self._ends(each, wait)]
            place.flight = [each for each in place.flight if each not in ended]
            if place.flight and not place.leaves and not any(place.atcs.values()):
                self.spared.append(Spared(2, "the wait does not drain the request that used it", wait.source))
                self.notes.append(f"still in flight: a request that used the {place.flight[0].entry}")
            place.use_all()
            for where, cache in _caches(place):
                for entry in cache:
                    self.notes.append(f"still in the {where}: the {entry}")

    @staticmethod
    def _ends(request: Flight, wait: Completes) -> bool:
        declared = wait.drains_writes if request.write else wait.drains_reads
        return bool(request.drain or (request.drain is None and declared))

    # -- the hardware's side

    def let_pass(self, through: CachedTable | None = None) -> bool:
        """Pending commands take effect, but those that would take the pointer that a walk starts from.

        Devices forget first, while their unit still holds what they may ask for again; where a device's invalidation
        follows the commands before it, all go in the order of the queue.
        """
        stay = [each for each in self.pending if through is not None and each.tables and through.targeted(each)]
        passed = [each for each in self.pending if each not in stay]
        self.pending = stay
        if not self.vendor.hardware.atc_in_order:
            passed.sort(key=lambda each: each.device is None)
        for drops in passed:
            if drops.device is None:
                self._drop(drops)
            else:
                self._drop_device(drops)
        return bool(passed)

    def _forget_structures(self) -> None:
        for place in self.places:
            for each in [each for each in place.structures if any(map(each.targeted, self.forgetting))]:
                place.structures.remove(each)
                self.notes.append(f"gone: the {each.structure} of device {each.device:#x} as it was")
            for each in place.structures:
                self.notes.append(f"still held: the {each.structure} of device {each.device:#x} as it was")
        self.forgetting.clear()

    def _drop(self, drops: Drops) -> None:
        for place in self.places:
            if not drops.of_tag(place.tag):
                continue
            for entry in [each for each in place.leaves if _takes(drops, each)]:
                place.use(entry)
                place.leaves.remove(entry)
                self.notes.append(f"gone from the TLB: the {entry}")
            if drops.tables:
                place.pointers = [each for each in place.pointers if not each.targeted(drops)]
            for request in place.flight:
                asked = drops.drains_writes if request.write else drops.drains_reads
                if asked is not None and _takes(drops, request.entry):
                    request.drain = request.drain or asked

    def _drop_device(self, drops: Drops) -> None:
        """One device forgets; what its unit still holds it may ask for again."""
        for place in self.places:
            cache = place.atcs.get(drops.device or 0, []) if _reaches(drops, place) else []
            for entry in [each for each in cache if _takes(drops, each)]:
                if entry in place.leaves:
                    self.notes.append(f"the device drops the {entry}, and gets it again from {self.name}")
                    self.spared.append(Spared(3, "the unit still held it when the device forgot it", drops.source))
                else:
                    place.use(entry)
                    cache.remove(entry)
                    self.notes.append(f"gone from the device: the {entry}")

    def forget_pa(self, start_pa: int, end_pa: int, *, devices: bool) -> None:
        """An owner change's own invalidation; requests in flight to the range complete."""

        def inside(entry: Entry) -> bool:
            return not entry.fault and start_pa - (1 << entry.leaf.size_lg2) < entry.leaf.pa < end_pa

        for place in self.places:
            place.leaves = [each for each in place.leaves if not inside(each)]
            if devices:
                place.atcs = {device: [e for e in cache if not inside(e)] for device, cache in place.atcs.items()}
            place.flight = [each for each in place.flight if not inside(each.entry)]

    def _note(self, drops: Drops) -> None:
        """Say of all that is held whether a command takes it, and if not, why."""
        for place in self.places:
            held = place.leaves
            if drops.device is not None:
                held = place.atcs.get(drops.device, []) if _reaches(drops, place) else []
            for entry in held:
                self._tell(str(entry), why_spared(drops, place.tag, entry))
            for pointer in place.pointers if drops.device is None else ():
                if self.stale(pointer):
                    name = f"pointer to the table at {pointer.table_pa:#x}"
                    self._tell(name, why_pointer_spared(drops, place.tag, pointer))

    def _tell(self, what: str, spared: Spared | None) -> None:
        if spared is None:
            self.notes.append(f"it takes the {what}, once the wait has completed")
        else:
            self.notes.append(f"it leaves the {what}: {spared.why} ({spared.source})")
            self.spared.append(spared)


_PARTLY = "the command covers only a part of it, and a cached entry that is larger than the command stays"


def _caches(place: Place) -> Iterator[tuple[str, list[Entry]]]:
    yield f"TLB, tag {place.tag:#x}", place.leaves
    for device, cache in place.atcs.items():
        yield f"ATC of device {device:#x}", cache


def _reaches(drops: Drops, place: Place) -> bool:
    """Whether a command to a device is about requests like those of a place."""
    return drops.every_pasid or drops.pasid == place.pasid


def _takes(drops: Drops, entry: Entry) -> bool:
    return drops.leaves and entry.leaf.targeted(drops)


def why_spared(drops: Drops, tag: int, entry: Entry) -> Spared | None:
    """Why a command does not take a cached leaf; None: it does."""
    leaf, end = entry.leaf, entry.leaf.start + (1 << entry.leaf.size_lg2)
    touches = leaf.start <= drops.last and drops.first < end
    if drops.device is None and not drops.of_tag(tag):
        return Spared(2, f"the command is for tag {drops.tag or 0:#x}, the entry has tag {tag:#x}", drops.source)
    if _takes(drops, entry):
        return None
    if not touches:
        return Spared(1, f"the range [{drops.first:#x}, {drops.last:#x}] does not reach it", drops.source)
    if not drops.leaves:
        return Spared(3, "the command drops no leaves", drops.source)
    if leaf.stage not in drops.stages:
        return Spared(3, f"the command is for entries of stage {' and '.join(sorted(drops.stages))}", drops.source)
    if drops.leaf_levels is not None and leaf.level not in drops.leaf_levels:
        levels = ", ".join(map(str, sorted(drops.leaf_levels)))
        return Spared(
            3, f"the command drops leaves of level {levels} only, this one stood at {leaf.level}", drops.source
        )
    if drops.leaf_match is Match.PIECE_INSIDE:
        return Spared(3, _PARTLY, drops.source)
    return Spared(1, "the command does not target it", drops.source)


def why_pointer_spared(drops: Drops, tag: int, pointer: CachedTable) -> Spared | None:
    """Why a command does not take a cached pointer; None: it does."""
    if not drops.of_tag(tag):
        return Spared(2, f"the command is for tag {drops.tag or 0:#x}, the pointer has tag {tag:#x}", drops.source)
    touches = pointer.start <= drops.last and drops.first < pointer.start + (1 << pointer.span_lg2)
    if not touches:
        return Spared(1, f"the range [{drops.first:#x}, {drops.last:#x}] does not reach the pointer", drops.source)
    if not drops.tables:
        return Spared(3, "the command drops leaves only, and the pointer to the old table stays cached", drops.source)
    if not pointer.targeted(drops):
        return Spared(3, "the command covers only a part of what goes through the pointer", drops.source)
    return None

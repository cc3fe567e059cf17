"""Where walks begin: what a unit's structures say of a device, as memory has them and as they may be cached.

A structure is read through the vendor's own pure steps. What a store replaces may stay cached, for each device that
reads it, until a command that targets it has taken effect.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from attrs import define, field

from hitless.check.held import Window
from hitless.check.queues import Places
from hitless.check.shadow import Shadow, Words
from hitless.check.subject import CheckUnit
from hitless.hardware.caches import CachedStructure
from hitless.hardware.facts import DropsStructure, Effect
from hitless.hardware.structures import BadStructure, Fetch, Found, StageRoot, Structures
from hitless.hardware.vendor import Vendor
from hitless.pagetable import PageFormat
from hitless.plan import Section, Step, StoreStructure


class Origin(NamedTuple):
    """Where requests of a device begin: at a root table of a level, or in a fault."""

    pa: int
    level: int
    fault: str = ""


class Requester(NamedTuple):
    """A device, or a PASID of it, under a tag of a unit; ``place``: the number (bit) of its cached structures."""

    unit: int
    device: int
    pasid: int | None
    place: int


@define(eq=False)
class Stale:
    """A structure that memory does not hold any more, and a unit may."""

    unit: str
    cached: CachedStructure
    window: Window
    born: int
    alive: bool = True


@define(eq=False)
class _Unsettled:
    step: StoreStructure
    old: tuple[int, ...]
    window: Window


@define(eq=False)
class Roots:
    """The origins of all requesters of one address space; ``caches_bad``: structures that are refused may be cached."""

    units: tuple[CheckUnit, ...]
    structures: Structures
    page_format: PageFormat
    shadow: Shadow
    requesters: tuple[Requester, ...]
    caches_bad: bool
    stale: list[Stale] = field(factory=list)
    _unsettled: list[_Unsettled] = field(factory=list)
    _pending: dict[str, list[tuple[int, DropsStructure]]] = field(factory=dict)

    @classmethod
    def of(cls, vendor: Vendor, places: Places, shadow: Shadow) -> "Roots | None":
        """None where structures say nothing of a root."""
        if vendor.structures is None or not places.requesters:
            return None
        requesters = tuple(
            Requester(unit, device, pasid, places.structure(number))
            for number, (unit, device, pasid) in enumerate(places.requesters)
        )
        bad = vendor.hardware.caches_bad_structures
        return cls(places.units, vendor.structures, vendor.page_format, shadow, requesters, bad)

    # -- what steps do

    def store(self, step: StoreStructure, now: int) -> None:
        """A store to a structure: what it replaces goes stale for every device that reads it."""
        old = tuple(self.shadow.store(step.pa + 8 * i, word) for i, word in enumerate(step.new))
        self._unsettled.append(_Unsettled(step, old, Window()))
        for each in self.requesters:
            unit = self.units[each.unit]
            if unit.name == step.unit:
                for fetch in list(self._fetches(each)):
                    if fetch.pa < step.pa + 8 * len(step.new) and step.pa < fetch.pa + 8 * fetch.words:
                        self._replaced(unit.name, each, fetch, now)

    def _replaced(self, unit: str, requester: Requester, fetch: Fetch, now: int) -> None:
        for words, window in list(self._variants(fetch))[1:]:
            outcome = self.structures.step(fetch, words)
            if isinstance(outcome, BadStructure) and not self.caches_bad:
                continue
            cached = CachedStructure(fetch.structure, requester.device, _pasid(fetch, requester), words, outcome)
            if not any(each.unit == unit and each.cached == cached and each.window is window for each in self.stale):
                self.stale.append(Stale(unit, cached, window, now))

    def settled(self, stores: Iterable[tuple[int, int]], now: int) -> None:
        """A barrier: stores to these addresses, so many to each, are all that can be read there."""
        counts = dict(stores)
        waiting = []
        for each in self._unsettled:
            if counts.get(each.step.pa, 0):
                counts[each.step.pa] -= 1
                each.window.until = now
            else:
                waiting.append(each)
        self._unsettled = waiting

    def submit(self, unit: str, now: int, effects: Sequence[Effect]) -> None:
        """Commands are pending from now on."""
        found = [(now, each) for each in effects if isinstance(each, DropsStructure)]
        self._pending.setdefault(unit, []).extend(found)

    def complete(self, unit: str) -> None:
        """A wait has completed: what was targeted, and could not be read again after the command, is gone."""
        for at, drops in self._pending.pop(unit, []):
            for each in self.stale:
                if each.unit == unit and each.window.until <= at and each.cached.targeted(drops):
                    each.alive = False
        self.stale = [each for each in self.stale if each.alive]

    # -- what requests find

    def origins(self, requester: Requester) -> Iterator[Origin]:
        """Every origin that a request may have now; what memory says comes first."""
        yield from dict.fromkeys(self._origin(requester, each) for each in self._founds(requester))

    def _founds(self, requester: Requester) -> Iterator[Found | BadStructure | Fetch]:
        """What the structures come to, in memory and as cached; a Fetch: one that a guest owns, under a stage 2."""
        pending = [self._start(requester)]
        while pending:
            at = pending.pop(0)
            if isinstance(at, Fetch) and at.stage2 is None:
                pending += [self.structures.step(at, words) for words in self._readings(requester, at)]
            else:
                yield at

    def _fetches(self, requester: Requester) -> Iterator[Fetch]:
        """Every structure that a request may read."""
        pending = [self._start(requester)]
        while pending:
            at = pending.pop(0)
            if isinstance(at, Fetch) and at.stage2 is None:
                yield at
                pending += [self.structures.step(at, words) for words in self._readings(requester, at)]

    def _start(self, requester: Requester) -> Fetch | Found | BadStructure:
        return self.structures.start(self.units[requester.unit].base, requester.device, requester.pasid)

    def _readings(self, requester: Requester, fetch: Fetch) -> Iterator[tuple[int, ...]]:
        """The words of a structure as memory has them, as they may be read besides, and as they may be cached."""
        found = [words for words, _ in self._variants(fetch)]
        key = (fetch.structure, requester.device, _pasid(fetch, requester))
        found += [
            each.cached.words
            for each in self.stale
            if each.unit == self.units[requester.unit].name and each.cached[:3] == key
        ]
        yield from dict.fromkeys(found)

    def _variants(self, fetch: Fetch) -> Iterator[tuple[tuple[int, ...], Window]]:
        """The words that may be read, and until when: first as memory has them, then with stores not yet visible."""
        place = range(fetch.pa, fetch.pa + 8 * fetch.words, 8)
        stores = [each for each in self._unsettled if each.step.pa in place]
        now = {pa: self.shadow.load(pa) for pa in place}
        yield tuple(now.values()), Window()
        for chosen in range(1, 1 << len(stores)):
            words = dict(now)
            for each in reversed(stores):
                words.update(_at(each.step.pa, each.old))
            hidden = [each for i, each in enumerate(stores) if chosen >> i & 1]
            for each in stores:
                words.update(_at(each.step.pa, each.step.new) if each not in hidden else ())
            yield tuple(words[pa] for pa in place), hidden[0].window

    def _origin(self, requester: Requester, found: Found | BadStructure | Fetch) -> Origin:
        if isinstance(found, BadStructure):
            return Origin(0, 0, found.kind)
        if isinstance(found, Found) and found.mode != "translate":
            return Origin(0, 0, found.mode)
        root = own_root(found, self.page_format.stage)
        if root is None or root.tag != self.units[requester.unit].tag:
            return Origin(0, 0, "elsewhere")
        return Origin(root.root_pa, root.page_format.top.number)


def own_root(found: Found | Fetch, stage: str) -> StageRoot | None:
    """The tables of an address space's own stage."""
    return found.stage1 if stage == "1" and isinstance(found, Found) else found.stage2


def _at(pa: int, words: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    return ((pa + 8 * i, word) for i, word in enumerate(words))


def _pasid(fetch: Fetch, requester: Requester) -> int | None:
    return requester.pasid if fetch.pasid is None else fetch.pasid


def roots_of(
    vendor: Vendor, units: tuple[CheckUnit, ...], memory: Words, steps: Sequence[tuple[Section, Step]]
) -> list[StageRoot]:
    """The roots of an address space that its structures name, before a plan and after each of its steps."""
    structures = vendor.structures
    changes = [step for _, step in steps if isinstance(step, StoreStructure)]
    if structures is None or not changes:
        return []
    words: dict[int, int] = {}
    found: list[StageRoot] = []
    for step in [None, *changes]:
        if step is not None:
            words.update(_at(step.pa, step.new))
        for unit in units:
            for device, pasid in unit.requesters:
                at = structures.start(unit.base, device, pasid)
                while isinstance(at, Fetch) and at.stage2 is None:
                    pas = range(at.pa, at.pa + 8 * at.words, 8)
                    at = structures.step(at, tuple(words[pa] if pa in words else memory.load(pa) for pa in pas))
                root = None if isinstance(at, BadStructure) else own_root(at, vendor.page_format.stage)
                if root is not None and root.tag == unit.tag:
                    found.append(root)
    return found

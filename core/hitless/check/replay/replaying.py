"""Replays a plan with a device's requests at chosen moments: a counterexample that is run, not only told.

:func:`hitless.check.check` carries everything that may happen. A replay is one of these interleavings, on memory and by
other code: the executor does the plan's steps, commands do to what is held what the vendor's decoder says, and requests
walk, hit or complete when the program says so. A unit's commands take effect at the worst moment: when the wait behind
them completes, or before the next walk.

::

    with Replay.open(resolve("amd", "amd/v1"), BEFORE, PLAN, root=0x10000100000, units=[("iommu0", 1)]) as replay:
        replay.run(4)                             # the steps before step 4
        replay.walk(0x40000000)                   # a device reads; what the walk finds is cached
        replay.run()                              # all other steps
        assert replay.hits(0x40000000)[0].pa == 0x20040000000
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import attrs
from attrs import define, field

from hitless.bits import U64Array
from hitless.check.replay.cached import Outcome, Place, Port
from hitless.check.replay.origins import keep, root_of
from hitless.check.replay.scene import Scene, parse_steps
from hitless.check.replay.walking import Walking
from hitless.check.replay.words import Readable
from hitless.check.subject import CheckUnit
from hitless.config import load_checked, open_registry
from hitless.errors import BadInput, Raced
from hitless.explain import explain_entry, explain_step
from hitless.hardware.caches import CachedLeaf, CachedStructure, CachedTable
from hitless.hardware.vendor import Vendor
from hitless.ownership import OwnerTable
from hitless.pagetable import READ, WRITE, WalkFault
from hitless.plan import (
    Barrier,
    Call,
    Clean,
    Own,
    Release,
    Section,
    Step,
    Store,
    StoreStructure,
    Wait,
    effects_of,
    format_step,
    parse_plan,
)
from hitless.refresh.executor import Executor
from hitless.refresh.levels import table_levels
from hitless.units import PAGE_LG2


class Line(NamedTuple):
    """One line of what happened, at a step or (None) in a request; without ``label`` it goes with the line before."""

    step: int | None
    label: str
    text: str

    def __str__(self) -> str:
        return f"  {self.label:>5}  {self.text}"


def resolve(vendor: str, page_format: str = "", features: Mapping[str, Any] | None = None) -> Vendor:
    """An installed vendor with a format and features.

    Raises:
        PluginError: it is not installed, or has no such format or features.
    """
    return open_registry(None, [vendor]).resolve(vendor, page_format, features or {})


def configured(config: str, domain: str) -> Vendor:
    """The vendor of a configuration's domain, with its format, features and extensions.

    Raises:
        BadInput: the file cannot be read, or has no such domain.
        ConfigurationError: all its faults.
    """
    read, registry = load_checked(config)
    for told in read.domains:
        if told.name == domain:
            return registry.resolve(told.vendor, told.format, told.features, told.extensions)
    raise BadInput(f"{config} has no domain {domain!r}", do=f"it has {', '.join(each.name for each in read.domains)}")


@define(eq=False)
class Replay(Walking):
    """One plan on one address space; make it with :meth:`open`, or :meth:`of`.

    Args:
        executor: does the steps.
        say: is given each line that is told.
        tell: numbers of the steps that are told; None: all.
        lines: everything that happened, told or not.
        raced: steps that found in an entry what the plan does not expect.
    """

    executor: Executor = field(kw_only=True)
    say: Callable[[str], None] = field(kw_only=True)
    tell: Collection[int] | None = None
    lines: list[Line] = field(factory=list)
    raced: list[int] = field(factory=list)
    _levels: dict[int, int] = field(factory=dict)

    @classmethod
    @contextmanager
    def open(
        cls,
        vendor: Vendor,
        before: str,
        plan: str,
        *,
        root: int,
        units: Sequence[tuple[Any, ...]],
        levels: tuple[int, int] | None = None,
        trusted: bool = False,
        tell: Collection[int] | None = None,
        say: Callable[[str], None] = print,
    ) -> Iterator["Replay"]:
        """A replay from texts, as a program holds them.

        Args:
            vendor: what :func:`resolve` gives.
            before: tables as Fills and owners as Own steps, in a plan's text form.
            plan: the plan, in its text form.
            root: address of the root table.
            units: for each unit and tag: name, tag, ids of the devices with ATS, PASID of their requests; where
                structures change, the register that leads to them, and (device, PASID) of all that is attached.
            levels: of the root table, and of what it grows to; None: it does not grow.
            trusted: whether the devices are trusted.
            tell: numbers of the steps that are told; None: all.
            say: is given each line that is told.
        """
        checked = tuple(_unit(*each) for each in units)
        level = -1
        if levels is not None:
            level, fmt = levels[0] - 1, vendor.page_format
            while len(fmt.levels) < levels[1] and (larger := fmt.grown()) is not None:
                fmt = larger
            vendor = attrs.evolve(vendor, page_format=fmt)
        scene = Scene(vendor, root, checked, trusted, parse_plan(before), level)
        with cls.of(scene, parse_steps(plan), tell=tell, say=say) as replay:
            yield replay

    @classmethod
    @contextmanager
    def of(
        cls,
        scene: Scene,
        steps: Sequence[tuple[Section, Step]],
        *,
        tell: Collection[int] | None = None,
        say: Callable[[str], None] = lambda _line: None,
    ) -> Iterator["Replay"]:
        """A replay of a plan on a scene; its memory is given back at the end."""
        ports: dict[str, Port] = {}
        for unit in scene.units:
            place = Place(unit.name, unit.tag, atcs={device: [] for device in unit.devices})
            place.pasid, place.base, place.requesters = unit.pasid, unit.base, unit.requesters
            ports.setdefault(unit.name, Port(unit.name, scene.vendor)).places.append(place)
        with scene.memory(steps) as memory:
            owners = OwnerTable()
            executor = Executor(memory, _NoTables(), ports, owners)
            words = Readable(memory, scene.vendor.hardware.coherent)
            replay = cls(scene, steps, words, owners, ports, executor=executor, say=say, tell=tell)
            replay.root = scene.root_pa, scene.root_level
            executor.run(step for _, step in scene.before.steps())
            executor.owners = _Owners(replay)
            replay._levels = table_levels((step for _, step in steps), scene.vendor.page_format)
            for port in ports.values():
                port.stale = replay.stale
                for place in port.places:
                    place.grants = lambda entry: not replay.used(entry, entry.asked, write=False).fault
            yield replay

    # -- the plan

    def run(self, until: int | None = None) -> None:
        """Do steps: those before step ``until``, or all that are left.

        Where an entry holds what the plan does not expect, an executor stops. Here the word is stored all the same, and
        the step is noted in ``raced``: the checker looks beyond it too.
        """
        while self.now < (len(self.steps) if until is None else until):
            step = self.steps[self.now][1]
            for each in effects_of([step]):
                self._before(each)
            self._do(step)
            match step:
                case Call(effects=effects, held=True):  # nothing of it is seen before all of it is
                    for each in effects:
                        if isinstance(each, Store):
                            self.words.clean(Clean(each.pa, 8))
                    self.words.barrier()
                case Clean():
                    self.words.clean(step)
                case Barrier():
                    self.words.barrier()
                case Release():
                    self._released.update(pa for pa, _ in step.tables)
                case StoreStructure():
                    self._find_root()
            self._tell_step(step)
            self.now += 1

    def _before(self, step: Step) -> None:
        self.words.before(step)
        structures = self.scene.vendor.structures
        if isinstance(step, StoreStructure) and structures is not None:
            for place in self.ports[step.unit].places:
                keep(structures, place, step, self.words.memory.load)
        if isinstance(step, Own):  # requests that are granted now are in flight when the owner changes
            for port in self.ports.values():
                for place in port.places:
                    place.use_all()

    def _find_root(self) -> None:
        """The largest root that memory names for anybody."""
        structures, fmt = self.scene.vendor.structures, self.scene.vendor.page_format
        for place in (each for port in self.ports.values() for each in port.places if structures is not None):
            for requester in place.requesters:
                load = self.words.memory.load
                root = root_of(structures, place, requester, load, held=False, stage=fmt.stage)  # type: ignore[arg-type]
                if not isinstance(root, str) and root.page_format.top.number >= self.root[1]:
                    self.root = root.root_pa, root.page_format.top.number

    def _do(self, step: Step) -> None:
        try:
            self.executor.run([step])
        except Raced as error:
            if isinstance(step, Store):
                self.words.memory.store(step.pa, step.new)
            elif isinstance(step, StoreStructure):
                for i, word in enumerate(step.new):
                    self.words.memory.store(step.pa + 8 * i, word)
            self.raced.append(self.now)
            next(iter(self.ports.values())).notes.append(f"an executor stops here: {error.what}")

    def races(self) -> bool:
        """Do the next step: whether it finds in an entry what the plan does not expect."""
        before = len(self.raced)
        self.run(self.now + 1)
        return len(self.raced) > before

    # -- requests

    def walk(
        self,
        iova: int,
        *,
        write: bool = False,
        unit: str = "",
        tag: int | None = None,
        device: int | None = None,
        older: Mapping[int, int] | None = None,
        table: int = 0,
        piece: int = 0,
        overtakes: bool = False,
        held: bool = False,
    ) -> Outcome:
        """A request that hits nothing: the unit walks, and may cache pointers and leaf; it is in flight then.

        Commands that were submitted before take effect first, as far as they leave the walk where it starts.

        Args:
            iova: what it asks for.
            write: whether it writes.
            unit: where; by default the first.
            tag: under which tag; by default the unit's first.
            device: id of the device with ATS that asks; None: a device without.
            older: for entries (addresses) the word that is read though memory holds another one: a store to it has
                not settled.
            table: start at this table, by a pointer to it that the unit holds; 0: at the root.
            piece: log2 of the size that the leaf is cached as; 0: whole.
            overtakes: the commands that were submitted before have not taken effect yet.
            held: by older structures of its device that the unit holds.

        Raises:
            BadInput: there is no such unit, device or pointer, or no walker can read such an older word.
        """
        port, place = self.place(unit, tag, device)
        start = self.pointer(place, iova, table) if table else None
        passed = not overtakes and port.let_pass(start)
        port.notes.clear()
        at = self.origin(place, iova, device, held=held) if start is None else self._begin(iova, start)
        found = self.follow(place, iova, at, older or {})
        asks = _request(iova, write=write, device=device)
        self._tell_walk(place, f"{asks} by an older structure" if held else asks, start, passed=passed)
        if isinstance(found, WalkFault):
            self._line(None, "", f"fault {found.kind}")
            if (negative := self.negative(found)) is not None:
                place.keep(negative, device)
            return Outcome(fault=found.kind)
        if not found.rights & (WRITE if write else READ):
            return Outcome(fault="permission")
        entry = self.entry(found, iova, piece)
        if isinstance(entry, Outcome):
            self._line(None, "", f"the owner check refuses it: {entry.text}")
            return entry
        place.keep(entry, device)
        place.use(entry)
        return self.used(entry, iova, write=write)

    def hits(
        self, iova: int, *, write: bool = False, unit: str = "", tag: int | None = None, device: int | None = None
    ) -> list[Outcome]:
        """What a request may find that hits a cache, its device's ATC or the unit's; the oldest entry first."""
        _, place = self.place(unit, tag, device)
        entries = [entry for cache in (place.cache(device), place.leaves) for entry in cache if entry.covers(iova)]
        found = []
        for entry in dict.fromkeys(entries):
            where = _where(place, device if entry in place.cache(device) else None)
            outcome = self.used(entry, iova, write=write)
            asks = _request(iova, write=write, device=device)
            self._line(None, "dma", f"{asks}: it hits the {entry} in the {where}: {outcome.text}")
            found.append(outcome)
        return found

    def late(self, iova: int, *, write: bool = False, unit: str = "", tag: int | None = None) -> list[Outcome]:
        """How requests end that have used a translation before, were granted it then, and complete now.

        Where the owner check is made for each access and refuses it by now, it may also end so.
        """
        _, place = self.place(unit, tag, None)
        found = []
        for request in place.flight:
            leaf = request.entry.leaf
            if request.entry.covers(iova) and request.write == write:
                outcome = Outcome(leaf.pa + iova - leaf.start, leaf.attrs)
                used = f"it has used the {request.entry} before, and completes now"
                self._line(None, "dma", f"{_request(iova, write=write)}: {used}: {outcome.text}")
                found.append(outcome)
                if (on_arrival := self.used(request.entry, iova, write=write)).fault:
                    self._line(None, "", f"or it is checked when it arrives: {on_arrival.text}")
                    found.append(on_arrival)
        return found

    def cached(
        self, iova: int, *, unit: str = "", tag: int | None = None, device: int | None = None
    ) -> list[CachedLeaf]:
        """The leaves that the unit, or a device's ATC, holds for an IOVA; what was cached first comes first."""
        _, place = self.place(unit, tag, device)
        found = [each for each in place.cache(device) if each.covers(iova) and not each.fault]
        for entry in found:
            self._line(None, "held", f"the {entry} is in the {_where(place, device)}")
        return [each.leaf for each in found]

    def left(self, iova: int, *, unit: str = "", tag: int | None = None, device: int | None = None) -> list[CachedLeaf]:
        """What the unit, or a device's ATC, holds for an IOVA and memory as it stands could not put there again."""
        _, place = self.place(unit, tag, device)
        found = self.stale_entries(place.cache(device), iova)
        for entry in found:
            self._line(None, "held", f"the {entry} is in the {_where(place, device)}, and memory says otherwise")
        return [each.leaf for each in found]

    def structures(self, *, unit: str = "", tag: int | None = None) -> list[CachedStructure]:
        """Structures that the unit may hold though memory holds them no more."""
        _, place = self.place(unit, tag, None)
        for each in place.structures:
            name = f"{each.structure} of device {each.device:#x}"
            self._line(None, "held", f"{place.unit} holds the {name} as it was: {' '.join(map(hex, each.words))}")
        return list(place.structures)

    # -- telling

    def _line(self, step: int | None, label: str, text: str) -> None:
        line = Line(step, label, text)
        self.lines.append(line)
        if self.tell is None or step is None or step in self.tell:
            self.say(str(line))

    def _tell_step(self, step: Step) -> None:
        told = explain_step(step, self.scene.vendor, self._levels)[0].strip()
        if isinstance(step, Wait):
            told = told.partition(":")[0]  # what is gone by now is told below
        self._line(self.now, str(self.now), f"{format_step(step).split()[0]}: {told}")
        for port in self.ports.values():
            for note in dict.fromkeys(port.notes):
                self._line(self.now, "", note)
            port.notes.clear()

    def _tell_walk(self, place: Place, asks: str, start: CachedTable | None, *, passed: bool) -> None:
        """The request, the entry at which the walk ended, and those whose older word it read."""
        fmt = self.scene.vendor.page_format
        origin = "from the root" if start is None else f"from its cached pointer to the table at {start.table_pa:#x}"
        first = "; the commands before have taken effect" if passed else ""
        self._line(None, "dma", f"{asks}: {place.unit}, tag {place.tag:#x} walks {origin}{first}")
        for number, read in enumerate(self.reads):
            if read.older or number == len(self.reads) - 1:
                entry = f"{fmt.levels[read.level]} entry {read.word:#x}: {explain_entry(fmt, read.word, read.level)}"
                self._line(None, "", f"{entry}{f', the older word: {read.older}' if read.older else ''}")


def _where(place: Place, device: int | None) -> str:
    return f"TLB of {place.unit}, tag {place.tag:#x}" if device is None else f"ATC of device {device:#x}"


def _request(iova: int, *, write: bool, device: int | None = None) -> str:
    who = "a device" if device is None else f"device {device:#x}"
    return f"{who} {'writes' if write else 'reads'} {iova:#x}"


def _unit(
    name: str,
    tag: int,
    devices: Sequence[int] = (),
    pasid: int | None = None,
    base: int = 0,
    requesters: Sequence[tuple[int, int | None]] = (),
) -> CheckUnit:
    return CheckUnit(name, tag, tuple(devices), None, pasid, base, tuple(requesters))


class _NoTables:
    """Where a replay's tables go when they are free: nowhere."""

    def allocate(self, size_lg2: int = PAGE_LG2) -> int:
        raise BadInput("a replay allocates no tables", why=f"2**{size_lg2} bytes were asked for")

    def allocate_many(self, count: int, size_lg2: int = PAGE_LG2) -> U64Array:
        raise BadInput("a replay allocates no tables", why=f"{count} of 2**{size_lg2} bytes were asked for")

    def free(self, pa: int, size_lg2: int = PAGE_LG2) -> None:
        """Whoever walks there later reads a freed table; that is all."""

    def free_many(self, pas: U64Array, size_lg2: int = PAGE_LG2) -> None:
        """The same."""


@define
class _Owners:
    """The owner table as the executor changes it, with the invalidation that the operation itself does."""

    replay: Replay

    def apply(self, own: Own) -> None:
        self.replay.owners.apply(own)
        if own.drops != "none":
            for port in self.replay.ports.values():
                port.forget_pa(own.start_pa, own.end_pa, devices=own.drops == "iotlb+atc")


__all__ = ["Line", "Outcome", "Replay", "configured", "resolve"]

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

from attrs import define, field

from hitless.check.cached import Entry, Outcome, Place, Port
from hitless.check.scene import Scene
from hitless.check.subject import CheckUnit
from hitless.check.words import Readable
from hitless.config import open_registry
from hitless.errors import BadInput, Raced
from hitless.explain import explain_entry, explain_step
from hitless.hardware.caches import CachedLeaf, CachedTable
from hitless.hardware.vendor import Vendor
from hitless.ownership import OwnerTable
from hitless.hardware.facts import Drops
from hitless.pagetable import READ, WRITE, Leaf, Position, WalkFault, entry_pa, walk
from hitless.plan import Barrier, Clean, Invalidate, Own, Release, Section, Step, Store, parse_plan
from hitless.refresh.executor import Executor
from hitless.refresh.levels import table_levels
from hitless.units import PAGE_LG2


class Line(NamedTuple):
    """One line of what happened: at a step, or (None) a request; ``label`` is empty where it belongs to the line before."""

    step: int | None
    label: str
    text: str

    def __str__(self) -> str:
        return f"  {self.label:>5}  {self.text}"


class Read(NamedTuple):
    """One entry that a walk read; ``older`` if memory holds another word by now."""

    pa: int
    word: int
    older: bool


def resolve(vendor: str, page_format: str = "", features: Mapping[str, Any] | None = None) -> Vendor:
    """An installed vendor with a format and features.

    Raises:
        PluginError: it is not installed, or has no such format or features.
    """
    return open_registry(None, [vendor]).resolve(vendor, page_format, features or {})


@define(eq=False)
class Replay:
    """One plan on one address space; make it with :meth:`open`, or :meth:`of`.

    Args:
        now: the number of the step that comes next.
        lines: everything that happened, told or not.
        reads: the entries that the last walk read, from the root on.
        freed: tables that a walk read after they were released.
        raced: steps that found in an entry what the plan does not expect.
    """

    scene: Scene
    steps: Sequence[tuple[Section, Step]]
    say: Callable[[str], None]
    tell: Collection[int] | None
    executor: Executor
    words: Readable
    owners: OwnerTable
    ports: dict[str, Port]
    now: int = 0
    lines: list[Line] = field(factory=list)
    reads: list[Read] = field(factory=list)
    freed: set[int] = field(factory=set)
    raced: list[int] = field(factory=list)
    _released: set[int] = field(factory=set)
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
            units: for each unit and tag: name, tag, ids of the devices with ATS.
            trusted: whether the devices are trusted.
            tell: numbers of the steps that are told; None: all.
            say: is given each line that is told.
        """
        checked = tuple(CheckUnit(name, tag, *map(tuple, devices)) for name, tag, *devices in units)
        scene = Scene(vendor, root, checked, trusted, parse_plan(before))
        with cls.of(scene, list(parse_plan(plan).steps()), tell=tell, say=say) as replay:
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
            ports.setdefault(unit.name, Port(unit.name, scene.vendor)).places.append(place)
        with scene.memory(steps) as memory:
            owners = OwnerTable()
            replay = cls(
                scene,
                steps,
                say,
                tell,
                Executor(memory, _NoTables(), ports, owners),
                Readable(memory, scene.vendor.hardware.coherent),
                owners,
                ports,
            )
            replay.executor.run(step for _, step in scene.before.steps())
            replay.executor.owners = _Owners(replay)
            replay._levels = table_levels((step for _, step in steps), scene.vendor.page_format)
            for port in ports.values():
                port.stale = replay._stale
            yield replay

    # -- the plan

    def run(self, until: int | None = None) -> None:
        """Do steps: those before step ``until``, or all that are left.

        Where an entry holds what the plan does not expect, an executor stops. Here the word is stored all the same, and
        the step is noted in ``raced``: the checker looks beyond it too.
        """
        while self.now < (len(self.steps) if until is None else until):
            step = self.steps[self.now][1]
            self.words.before(step)
            self._do(step)
            match step:
                case Clean():
                    self.words.clean(step)
                case Barrier():
                    self.words.barrier()
                case Release():
                    self._released.update(pa for pa, _ in step.tables)
            told = explain_step(step, self.scene.vendor, self._levels)
            self._line(self.now, str(self.now), f"{type(step).__name__.lower()}: {told[0].strip()}")
            for port in self.ports.values():
                for note in dict.fromkeys(port.notes):
                    self._line(self.now, "", note)
                port.notes.clear()
            self.now += 1

    def _do(self, step: Step) -> None:
        try:
            self.executor.run([step])
        except Raced as error:
            if isinstance(step, Store):
                self.words.memory.store(step.pa, step.new)
            self.raced.append(self.now)
            next(iter(self.ports.values())).notes.append(f"an executor stops here: {error.what}")

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
    ) -> Outcome:
        """A request that hits nothing: the unit walks, and may cache pointers and leaf; it is in flight then.

        Commands that were submitted before take effect first, as far as they leave the walk where it starts.

        Args:
            iova: what it asks for.
            write: whether it writes.
            unit, tag: where; by default the first unit and its first tag.
            device: id of the device with ATS that asks; None: a device without.
            older: for entries (addresses) the word that is read though memory holds another one: a store to it has
                not settled.
            table: start at this table, by a pointer to it that the unit holds; 0: at the root.
            piece: log2 of the size that the leaf is cached as; 0: whole.
            overtakes: the commands that were submitted before have not taken effect yet.

        Raises:
            BadInput: there is no such unit, device or pointer, or no walker can read such an older word.
        """
        port, place = self._place(unit, tag, device)
        start = self._start(place, iova, table) if table else None
        passed = not overtakes and port.let_pass(start)
        port.notes.clear()
        found = self._walk(place, iova, start, older or {})
        self._tell_walk(place, iova, found, write=write, device=device, start=start, passed=passed)
        if isinstance(found, WalkFault):
            self._keep_fault(place, found, device)
            return Outcome(fault=found.kind)
        if not found.rights & (WRITE if write else READ):
            return Outcome(fault="permission")
        entry = self._entry(found, iova, piece)
        if isinstance(entry, Outcome):
            return entry
        if self.scene.vendor.page_format.cacheable(found.word, found.level):
            place.keep(entry, device)
        place.use(entry)
        return self._used(entry, iova, write=write)

    def hits(
        self, iova: int, *, write: bool = False, unit: str = "", tag: int | None = None, device: int | None = None
    ) -> list[Outcome]:
        """What a request may find that hits a cache: its device's ATC, or the unit's; what was cached first comes first."""
        _, place = self._place(unit, tag, device)
        entries = [entry for cache in (place.cache(device), place.leaves) for entry in cache if entry.covers(iova)]
        found = []
        for entry in dict.fromkeys(entries):
            where = self._where(place, device if entry in place.cache(device) else None)
            outcome = self._used(entry, iova, write=write)
            self._line(None, "dma", f"{_request(iova, write=write)} hits the {entry} in the {where}: {outcome.text}")
            found.append(outcome)
        return found

    def late(self, iova: int, *, write: bool = False, unit: str = "", tag: int | None = None) -> list[Outcome]:
        """How requests end that have used a translation before, and complete now."""
        _, place = self._place(unit, tag, None)
        found = []
        for request in place.flight:
            if request.entry.covers(iova) and request.write == write:
                outcome = self._used(request.entry, iova, write=write)
                text = f"{_request(iova, write=write)} that used the {request.entry} before completes now"
                self._line(None, "dma", f"{text}: {outcome.text}")
                found.append(outcome)
        return found

    def cached(
        self, iova: int, *, unit: str = "", tag: int | None = None, device: int | None = None
    ) -> list[CachedLeaf]:
        """The leaves that the unit, or a device's ATC, holds for an IOVA; what was cached first comes first."""
        _, place = self._place(unit, tag, device)
        return [each.leaf for each in place.cache(device) if each.covers(iova) and not each.fault]

    # -- what there is, without a request

    def pointers(self, iova: int, *, unit: str = "", tag: int | None = None) -> list[int]:
        """The tables that the unit holds pointers to which an IOVA's walk could start from, though memory leads there no more."""
        _, place = self._place(unit, tag, None)
        covering = [each for each in place.pointers if each.start <= iova < each.start + (1 << each.span_lg2)]
        return [each.table_pa for each in sorted(covering, key=lambda each: each.level) if self._stale(each)]

    def readings(
        self, iova: int, *, unit: str = "", tag: int | None = None, table: int = 0
    ) -> Iterator[dict[int, int]]:
        """Every choice of older words that a walk may read on its way now (see :meth:`walk`); none comes first."""
        fmt = self.scene.vendor.page_format
        at: Position | Leaf | WalkFault = fmt.start(self.scene.root_pa, iova)
        if table:
            start = self._start(self._place(unit, tag, None)[1], iova, table)
            at = Position(fmt.stage, start.level, start.table_pa, iova, start.rights)
        pending: list[tuple[Position | Leaf | WalkFault, dict[int, int]]] = [(at, {})]
        while pending:
            at, older = pending.pop(0)
            if not isinstance(at, Position):
                yield older
                continue
            pa = entry_pa(fmt.levels[at.level], at.table_pa, iova)
            pending.append((fmt.step(at, self.words.memory.load(pa)), older))
            pending += [(fmt.step(at, word), {**older, pa: word}) for word in self.words.older(pa)]

    def leaf(self, iova: int) -> Leaf | None:
        """The leaf that memory holds for an IOVA."""
        fmt = self.scene.vendor.page_format
        found = walk(self.words.memory.load, fmt, fmt.start(self.scene.root_pa, iova))
        return found if isinstance(found, Leaf) else None

    def translation(self, iova: int) -> tuple[int, int, int] | None:
        """Address, rights and attributes that memory holds for an IOVA, A and D left out."""
        leaf = self.leaf(iova)
        if leaf is None:
            return None
        attrs = leaf.attrs & ~self.scene.vendor.page_format.hardware_set(leaf.level)
        return leaf.oa + iova - leaf.iova, leaf.rights, attrs

    def faults(self, pa: int, level: int) -> list[str]:
        """What is illegal about the word at an address, as an entry of a table of a level."""
        return list(self.scene.vendor.page_format.faults(self.words.memory.load(pa), level))

    def outstanding(self) -> list[str]:
        """Units with commands that no wait has completed for."""
        return [port.name for port in self.ports.values() if port.pending]

    def covers(self, step: int) -> list[tuple[int, int]]:
        """First and last address of everything that the command of a step drops."""
        command = self.steps[step][1]
        effects = self.scene.vendor.commands.decode(command.words) if isinstance(command, Invalidate) else ()
        return [(each.first, each.last) for each in effects if isinstance(each, Drops)]

    def races(self) -> bool:
        """Do the next step: whether it finds in an entry what the plan does not expect."""
        before = len(self.raced)
        self.run(self.now + 1)
        return len(self.raced) > before

    # -- inside

    def _place(self, unit: str, tag: int | None, device: int | None) -> tuple[Port, Place]:
        name = unit or next(iter(self.ports))
        places = self.ports[name].places if name in self.ports else []
        for place in places:
            if tag in (None, place.tag) and (device is None or device in place.atcs):
                return self.ports[name], place
        known = [(each.name, each.tag, each.devices) for each in self.scene.units]
        raise BadInput(f"there is no unit {name!r} with tag {tag} and device {device}", do=f"there are {known}")

    def _start(self, place: Place, iova: int, table: int) -> CachedTable:
        for pointer in place.pointers:
            if pointer.table_pa == table and pointer.start <= iova < pointer.start + (1 << pointer.span_lg2):
                return pointer
        raise BadInput(f"{place.unit} holds no pointer to {table:#x} for {iova:#x}", do="walk from the root first")

    def _stale(self, pointer: CachedTable) -> bool:
        """Whether memory leads to a pointer's table no more."""
        fmt = self.scene.vendor.page_format
        at: Position | Leaf | WalkFault = fmt.start(self.scene.root_pa, pointer.start)
        while isinstance(at, Position) and at.level > pointer.level:
            at = fmt.step(at, self.words.memory.load(entry_pa(fmt.levels[at.level], at.table_pa, at.iova)))
        return not isinstance(at, Position) or at.table_pa != pointer.table_pa

    def _walk(
        self, place: Place, iova: int, start: CachedTable | None, older: Mapping[int, int]
    ) -> Leaf | WalkFault:
        fmt = self.scene.vendor.page_format
        at: Position | Leaf | WalkFault = (
            fmt.start(self.scene.root_pa, iova)
            if start is None
            else Position(fmt.stage, start.level, start.table_pa, iova, start.rights)
        )
        self.reads.clear()
        while isinstance(at, Position):
            pa = entry_pa(fmt.levels[at.level], at.table_pa, iova)
            word = older.get(pa, self.words.memory.load(pa))
            if pa in older and word not in self.words.older(pa):
                raise BadInput(
                    f"no walker can read {word:#x} at {pa:#x} before step {self.now}",
                    do=f"it can read {[hex(each) for each in (*self.words.older(pa), self.words.memory.load(pa))]}",
                )
            if at.table_pa in self._released:
                self.freed.add(at.table_pa)
            self.reads.append(Read(pa, word, pa in older))
            at = fmt.step(at, word)
            if isinstance(at, Position):
                below = fmt.levels[at.level]
                span = below.lo + below.bits
                pointer = CachedTable(iova >> span << span, span, at.level, at.table_pa, at.rights, fmt.stage)
                if pointer not in place.pointers:
                    place.pointers.append(pointer)
        return at

    def _entry(self, leaf: Leaf, iova: int, piece_lg2: int) -> Entry | Outcome:
        """A leaf as it may be cached: as large as its verdict holds for, or as a declared piece; or it is refused."""
        ownership, size_lg2 = self.scene.vendor.ownership, leaf.size_lg2
        if ownership.cached:
            pa = leaf.oa + iova - leaf.iova
            verdict = ownership.verdict(self.owners, pa, size_lg2, self.scene.trusted)
            if not verdict.ok:
                return Outcome(fault=verdict.outcome)
            size_lg2 = min(size_lg2, verdict.size_lg2)
        if piece_lg2:
            if piece_lg2 not in self.scene.vendor.hardware.pieces_lg2 or piece_lg2 >= size_lg2:
                raise BadInput(f"a leaf of 2**{size_lg2} bytes is not cached as pieces of 2**{piece_lg2}")
            size_lg2 = piece_lg2
        start = iova >> size_lg2 << size_lg2
        fmt = self.scene.vendor.page_format
        return Entry(
            CachedLeaf(
                start,
                size_lg2,
                leaf.oa + start - leaf.iova,
                leaf.rights,
                leaf.attrs & ~fmt.hardware_set(leaf.level),
                leaf.level,
                leaf.iova,
                leaf.size_lg2,
                fmt.cacheable(leaf.word, leaf.level),
                leaf.stage,
            )
        )

    def _keep_fault(self, place: Place, fault: WalkFault, device: int | None) -> None:
        """Where not-present entries are cached, this one is."""
        if fault.kind == "not-present" and self.scene.vendor.hardware.caches_not_present:
            lo = self.scene.vendor.page_format.levels[fault.level].lo
            start = fault.iova >> lo << lo
            leaf = CachedLeaf(start, lo, 0, READ | WRITE, 0, fault.level, start, lo, True, fault.stage)
            place.keep(Entry(leaf, fault.kind), device)

    def _used(self, entry: Entry, iova: int, *, write: bool) -> Outcome:
        """Where a cached translation takes a request; an owner check that is not cached is made now."""
        leaf, ownership = entry.leaf, self.scene.vendor.ownership
        if entry.fault:
            return Outcome(fault=entry.fault)
        if not leaf.rights & (WRITE if write else READ):
            return Outcome(fault="permission")
        pa = leaf.pa + iova - leaf.start
        if not ownership.cached:
            verdict = ownership.verdict(self.owners, pa, leaf.leaf_lg2, self.scene.trusted)
            if not verdict.ok:
                return Outcome(fault=verdict.outcome)
        return Outcome(pa, leaf.attrs)

    # -- telling

    def _line(self, step: int | None, label: str, text: str) -> None:
        line = Line(step, label, text)
        self.lines.append(line)
        if self.tell is None or step is None or step in self.tell:
            self.say(str(line))

    def _where(self, place: Place, device: int | None) -> str:
        return f"ATC of device {device:#x}" if device is not None else f"TLB of {place.unit}, tag {place.tag:#x}"

    def _tell_walk(
        self,
        place: Place,
        iova: int,
        found: Leaf | WalkFault,
        *,
        write: bool,
        device: int | None,
        start: CachedTable | None,
        passed: bool,
    ) -> None:
        fmt = self.scene.vendor.page_format
        by = f"{place.unit}, tag {place.tag:#x}"
        origin = "from the root" if start is None else f"from its cached pointer to the table at {start.table_pa:#x}"
        first = ", the commands before take effect" if passed else ""
        asks = f"{_request(iova, write=write)}{'' if device is None else f' of device {device:#x}'}"
        self._line(None, "dma", f"{asks}: {by} walks {origin}{first}")
        level = (fmt.top.number if start is None else start.level)
        for number, read in enumerate(self.reads):
            last = number == len(self.reads) - 1
            level = found.level if last else level
            if read.older or last:
                still = ", the older word: the store has not settled" if read.older else ""
                self._line(None, "", f"{fmt.levels[level]} entry {read.word:#x}: {explain_entry(fmt, read.word, level)}{still}")
            if not last:
                level = fmt.child_level(read.word, level)
        if isinstance(found, WalkFault):
            self._line(None, "", f"fault {found.kind}")


def _request(iova: int, *, write: bool) -> str:
    return f"a device's {'write' if write else 'read'} of {iova:#x}"


class _NoTables:
    """Where a replay's tables go when they are free: nowhere."""

    def allocate(self, size_lg2: int = PAGE_LG2) -> int:
        raise BadInput("a replay allocates no tables", why=f"2**{size_lg2} bytes were asked for")

    def free(self, pa: int, size_lg2: int = PAGE_LG2) -> None:
        """Whoever walks there later reads a freed table; that is all."""


@define
class _Owners:
    """The owner table as the executor changes it, with the invalidation that the operation itself does."""

    replay: Replay

    def apply(self, own: Own) -> None:
        self.replay.owners.apply(own)
        if own.drops != "none":
            for port in self.replay.ports.values():
                port.forget_pa(own.start_pa, own.end_pa, devices=own.drops == "iotlb+atc")


__all__ = ["Line", "Read", "Replay", "resolve"]

"""Walks of a replay: memory and owners as they stand, what walkers may read, and what a leaf becomes in a cache."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from attrs import define, field

from hitless.check.replay.cached import Entry, Outcome, Place, Port
from hitless.check.replay.origins import requester_of, root_of
from hitless.check.replay.scene import Scene
from hitless.check.replay.words import Readable
from hitless.check.subject import begin
from hitless.errors import BadInput
from hitless.hardware.caches import CachedLeaf, CachedTable
from hitless.hardware.facts import Drops
from hitless.ownership import OwnerTable
from hitless.pagetable import READ, WRITE, Leaf, Position, WalkFault, entry_pa, walk
from hitless.plan import Invalidate, Section, Step

At: TypeAlias = Position | Leaf | WalkFault


class Read(NamedTuple):
    """One entry that a walk read; ``older`` says why it was not the word that memory holds."""

    pa: int
    level: int
    word: int
    older: str = ""


@define(eq=False)
class Walking:
    """What there is, between two steps.

    Args:
        scene: where it began.
        steps: the plan.
        words: memory.
        owners: the owner table.
        ports: the units by name.
        root: the root table (address, level) that memory's structures name; of several the largest.
        now: the number of the step that comes next.
        reads: the entries that the last walk read, from the root on.
        freed: tables that a walk read after they were released.
    """

    scene: Scene
    steps: Sequence[tuple[Section, Step]]
    words: Readable
    owners: OwnerTable
    ports: dict[str, Port]
    root: tuple[int, int] = (0, -1)
    now: int = 0
    reads: list[Read] = field(factory=list)
    freed: set[int] = field(factory=set)
    _released: set[int] = field(factory=set)

    # -- without a request

    def leaf(self, iova: int) -> Leaf | None:
        """The leaf that memory holds for an IOVA."""
        fmt = self.scene.vendor.page_format
        found = walk(self.words.memory.load, fmt, begin(fmt, *self.root, iova))
        return found if isinstance(found, Leaf) else None

    def translation(self, iova: int) -> tuple[int, int, int] | None:
        """Address, rights and attributes that memory holds for an IOVA, A and D left out."""
        leaf = self.leaf(iova)
        if leaf is None:
            return None
        attrs = leaf.attrs & ~self.scene.vendor.page_format.hardware_set(leaf.level)
        return leaf.oa + iova - leaf.iova, leaf.rights, attrs

    def stale_entries(self, cache: Sequence[Entry], iova: int) -> list[Entry]:
        """What a cache holds for an IOVA and memory as it stands could not put there again."""
        fmt = self.scene.vendor.page_format
        found = walk(self.words.memory.load, fmt, begin(fmt, *self.root, iova))
        now = self.entry(found, iova, 0) if isinstance(found, Leaf) else self.negative(found)
        held = [each for each in cache if each.covers(iova)]
        return [each for each in held if not (isinstance(now, Entry) and _again(each, now))]

    def run_words(self, iova: int, size_lg2: int) -> list[tuple[int, int] | None]:
        """What each entry of a run around an IOVA says of the run: size (log2) and address; None: it is empty.

        Empty if no entry says that it is part of such a run.
        """
        fmt = self.scene.vendor.page_format
        size = fmt.leaf_size(size_lg2)
        at = self._begin(iova, None)
        while isinstance(at, Position) and at.level > size.level:
            at = fmt.step(at, self.words.memory.load(entry_pa(fmt.levels[at.level], at.table_pa, iova)))
        if not isinstance(at, Position):
            return []
        level, start = fmt.levels[at.level], iova >> size_lg2 << size_lg2
        said: list[tuple[int, int] | None] = []
        for each in range(start, start + (1 << size_lg2), 1 << level.lo):
            word = self.words.memory.load(entry_pa(level, at.table_pa, each))
            leaf = fmt.step(at._replace(iova=each), word) if fmt.present(word) else None
            said.append((leaf.size_lg2, leaf.oa - leaf.iova + start) if isinstance(leaf, Leaf) else None)
        return said if any(each is not None and each[0] == size_lg2 for each in said) else []

    def faults(self, pa: int, level: int) -> list[str]:
        """What is illegal about the word at an address, as an entry of a table of a level."""
        return list(self.scene.vendor.page_format.faults(self.words.memory.load(pa), level))

    def covers(self, step: int) -> list[tuple[int, int]]:
        """First and last address of everything that the command of a step drops."""
        command = self.steps[step][1]
        effects = self.scene.vendor.commands.decode(command.words) if isinstance(command, Invalidate) else ()
        return [(each.first, each.last) for each in effects if isinstance(each, Drops)]

    def outstanding(self) -> list[str]:
        """Units with commands that no wait has completed for."""
        return [port.name for port in self.ports.values() if port.pending]

    def pointers(self, iova: int, *, unit: str = "", tag: int | None = None) -> list[int]:
        """Tables that the unit holds pointers to for an IOVA though memory leads there no more, the lowest first."""
        _, place = self.place(unit, tag, None)
        covering = [each for each in place.pointers if each.start <= iova < each.start + (1 << each.span_lg2)]
        return [each.table_pa for each in sorted(covering, key=lambda each: each.level) if self.stale(each)]

    def readings(
        self, iova: int, *, unit: str = "", tag: int | None = None, table: int = 0
    ) -> Iterator[dict[int, int]]:
        """Every choice of older words that a walk may read now, as :meth:`Replay.walk` takes it; none comes first."""
        fmt = self.scene.vendor.page_format
        start = self.pointer(self.place(unit, tag, None)[1], iova, table) if table else None
        pending: list[tuple[At, dict[int, int]]] = [(self._begin(iova, start), {})]
        while pending:
            at, older = pending.pop(0)
            if not isinstance(at, Position):
                yield older
                continue
            pa = entry_pa(fmt.levels[at.level], at.table_pa, iova)
            pending.append((fmt.step(at, self.words.memory.load(pa)), older))
            pending += [(fmt.step(at, word), {**older, pa: word}) for word in self.words.older(pa)]

    # -- places and pointers

    def place(self, unit: str, tag: int | None, device: int | None) -> tuple[Port, Place]:
        """Where a request comes in; by default the first unit, and its first tag.

        Raises:
            BadInput: there is no such unit, tag or device.
        """
        name = unit or next(iter(self.ports))
        for place in self.ports[name].places if name in self.ports else ():
            if tag in (None, place.tag) and (device is None or device in place.atcs):
                return self.ports[name], place
        known = [(each.name, each.tag, each.devices) for each in self.scene.units]
        raise BadInput(f"there is no unit {name!r} with tag {tag} and device {device}", do=f"there are {known}")

    def pointer(self, place: Place, iova: int, table: int) -> CachedTable:
        """The pointer to a table that a unit holds for an IOVA.

        Raises:
            BadInput: it holds none.
        """
        for pointer in place.pointers:
            if pointer.table_pa == table and pointer.start <= iova < pointer.start + (1 << pointer.span_lg2):
                return pointer
        raise BadInput(f"{place.unit} holds no pointer to {table:#x} for {iova:#x}", do="walk from the root first")

    def stale(self, pointer: CachedTable) -> bool:
        """Whether memory leads to a pointer's table no more."""
        fmt = self.scene.vendor.page_format
        at: At = begin(fmt, *self.root, pointer.start)
        while isinstance(at, Position) and at.level > pointer.level:
            at = fmt.step(at, self.words.memory.load(entry_pa(fmt.levels[at.level], at.table_pa, at.iova)))
        return not isinstance(at, Position) or at.table_pa != pointer.table_pa

    # -- walks

    def _begin(self, iova: int, start: CachedTable | None) -> At:
        fmt = self.scene.vendor.page_format
        if start is None:
            return begin(fmt, *self.root, iova)
        return Position(fmt.stage, start.level, start.table_pa, iova, start.rights)

    def origin(self, place: Place, iova: int, device: int | None, *, held: bool) -> At:
        """Where a request without a pointer begins; ``held``: by older structures that its unit holds."""
        fmt, structures = self.scene.vendor.page_format, self.scene.vendor.structures
        requester = requester_of(place, device)
        if structures is None or requester is None:
            return begin(fmt, *self.root, iova)
        load = self.words.memory.load
        root = root_of(structures, place, requester, load, held=held, stage=fmt.stage)
        if isinstance(root, str):
            return WalkFault(fmt.stage, fmt.top.number, iova, 0, root)
        return begin(fmt, root.root_pa, root.page_format.top.number, iova)

    def follow(self, place: Place, iova: int, at: At, older: Mapping[int, int]) -> Leaf | WalkFault:
        """Walk from the root or a pointer; the pointers that it reads are cached."""
        fmt = self.scene.vendor.page_format
        self.reads.clear()
        while isinstance(at, Position):
            if at.table_pa in self._released:
                self.freed.add(at.table_pa)
            at = fmt.step(at, self._read(at, older))
            if isinstance(at, Position):
                below = fmt.levels[at.level]
                span = below.lo + below.bits
                pointer = CachedTable(iova >> span << span, span, at.level, at.table_pa, at.rights, fmt.stage)
                if pointer not in place.pointers:
                    place.pointers.append(pointer)
        return at

    def _read(self, at: Position, older: Mapping[int, int]) -> int:
        pa = entry_pa(self.scene.vendor.page_format.levels[at.level], at.table_pa, at.iova)
        now = self.words.memory.load(pa)
        word = older.get(pa, now)
        if word != now and word not in self.words.older(pa):
            raise BadInput(
                f"no walker can read {word:#x} at {pa:#x} before step {self.now}",
                do=f"it can read {', '.join(hex(each) for each in (*self.words.older(pa), now))}",
            )
        self.reads.append(Read(pa, at.level, word, self.words.why(pa) if word != now else ""))
        return word

    def entry(self, leaf: Leaf, iova: int, piece_lg2: int) -> Entry | Outcome:
        """A leaf as it may be cached: as large as its verdict holds for, or as a declared piece; or it is refused.

        Raises:
            BadInput: it is not cached in such pieces.
        """
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
        cached = CachedLeaf(
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
        return Entry(cached, iova)

    def negative(self, fault: WalkFault) -> Entry | None:
        """A not-present entry as it may be cached, where that is declared."""
        if fault.kind != "not-present" or not self.scene.vendor.hardware.caches_not_present:
            return None
        lo = self.scene.vendor.page_format.levels[fault.level].lo
        start = fault.iova >> lo << lo
        leaf = CachedLeaf(start, lo, 0, READ | WRITE, 0, fault.level, start, lo, True, fault.stage)
        return Entry(leaf, fault.iova, fault.kind)

    def used(self, entry: Entry, iova: int, *, write: bool) -> Outcome:
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


def _again(held: Entry, now: Entry) -> bool:
    """Whether a walk that finds ``now`` may put an entry into a cache that cannot be told from ``held``."""
    old, new = held.leaf, now.leaf
    same = old.pa - old.start == new.pa - new.start and old.size_lg2 <= new.size_lg2 and held.fault == now.fault
    shape = (old.rights, old.attrs, old.level, old.leaf_lg2, old.stable)
    return same and shape == (new.rights, new.attrs, new.level, new.leaf_lg2, new.stable)

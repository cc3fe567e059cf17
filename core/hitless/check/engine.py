"""The checker's engine: one pass over a plan that carries what may be cached and tells its watchers what may be seen.

docs/checker.md says what it computes. Only stale facts are carried: what memory says now may always be cached.
"""

from collections.abc import Iterator, Sequence

from attrs import define, field

from hitless.bits import MASK64
from hitless.check.held import OPEN, Held, HeldIndex, Link, Window
from hitless.check.links import Links
from hitless.check.owning import OwnerChange
from hitless.check.queues import Places, Queues
from hitless.check.rooting import Rooting
from hitless.check.roots import Roots
from hitless.check.shadow import Shadow
from hitless.check.spans import FaultSpan, LeafSpan, PointerSpan, Reader, Span, Table
from hitless.check.subject import Subject
from hitless.check.verdicts import Verdicts
from hitless.check.walks import Walks
from hitless.check.watching import Deferred, Watcher
from hitless.hardware.facts import Completes
from hitless.pagetable import READ, WRITE
from hitless.plan import Barrier, Call, Clean, Fill, Invalidate, Own, Release, Step, Store, StoreStructure, Wait
from hitless.units import SPACE, align_down, align_up


@define
class _Unsettled:
    """A store whose old word is readable still."""

    table: Table
    span: Span
    window: Window


_EFFECTS_LG2 = 16


def step_of(moment: int) -> int:
    """The number of the step that a moment of the engine's clock belongs to."""
    return moment >> _EFFECTS_LG2


_NOTHING = FaultSpan(0, 0, "not-present", 0, 0, 0)
"""What a word says that no walker can read."""


@define(eq=False)
class Engine:
    """One pass over one subject.

    Args:
        now: number of the step under way; of the last one plus 1 at the end.
        section: its section; ``end`` at the end.
        facts: what may be cached though memory says otherwise.
    """

    subject: Subject
    watchers: Sequence[Watcher]
    now: int = 0
    section: str = ""
    facts: HeldIndex = field(factory=HeldIndex)
    places: Places = field(init=False)
    links: Links = field(init=False)
    queues: Queues = field(init=False)
    shadow: Shadow = field(init=False)
    reader: Reader = field(init=False)
    verdicts: Verdicts = field(init=False)
    root: Table = field(init=False)
    rooting: Rooting = field(init=False)
    walks: Walks = field(init=False)
    _released: set[int] = field(factory=set)
    _unsettled: dict[int, list[_Unsettled]] = field(factory=dict)
    _apart: list[tuple[int, int, Window]] = field(factory=list)
    _unfilled: list[tuple[int, Window]] = field(factory=list)
    _waits: dict[str, Completes | None] = field(factory=dict)
    _effect: int = 0

    def __attrs_post_init__(self) -> None:
        subject, vendor = self.subject, self.subject.vendor
        fmt = vendor.page_format
        self.places = Places(subject.units)
        self.links = Links(fmt, {subject.root_pa: self.places.tlbs}, {subject.root_pa}, self.places.tlbs)
        self.queues = Queues(self.places, vendor.hardware, self.facts, self.links, fmt.stage)
        self.shadow = Shadow.over(subject.memory, subject.steps, coherent=vendor.hardware.coherent)
        self.reader = Reader(fmt, self.shadow)
        self.verdicts = Verdicts.of(subject)
        level = fmt.top.number if subject.root_level < 0 else subject.root_level
        self.root = Table(subject.root_pa, level, 0, READ | WRITE)
        self.walks = Walks(self.reader, self.root, self.reader.end(self.root._replace(level=fmt.top.number)))
        self.rooting = Rooting(self, Roots.of(vendor, self.places, self.shadow), self._entered)

    def run(self) -> None:
        """All steps, then the end."""
        for number, (section, step) in enumerate(self.subject.steps):
            self.now = number
            self._enter_section(section)
            self.step(step)
        self.now = len(self.subject.steps)
        self._enter_section("end")
        for watcher in self.watchers:
            watcher.ended(self)

    @property
    def moment(self) -> int:
        """A clock that orders what a call does, too; see :func:`step_of`."""
        return self.now << _EFFECTS_LG2 | self._effect

    def _enter_section(self, section: str) -> None:
        if section != self.section:
            self.section = section
            for watcher in self.watchers:
                watcher.entered(self, section)

    def step(self, step: Step) -> None:
        """One step."""
        match step:
            case Store():
                self._store(step)
            case Fill():
                self._fill(step)
            case Clean():
                self.shadow.clean(step)
            case Barrier():
                self._barrier()
            case Invalidate():
                self._submit(step)
            case Wait():
                self._wait(step)
            case StoreStructure():
                self.rooting.store(step)
            case Own():
                self._own(step)
            case Call():
                self._call(step)
            case Release():
                self._release(step)

    def _submit(self, step: Invalidate) -> None:
        effects = self.subject.vendor.commands.decode(step.words)
        self.queues.submit(step.unit, self.moment, effects)
        self.rooting.submit(step.unit, effects)
        for watcher in self.watchers:
            watcher.submitted(self, step, effects)

    def _release(self, step: Release) -> None:
        reachable = [pa for pa, _ in step.tables if self.reachable(pa)]
        self._released.update(pa for pa, _ in step.tables)
        for watcher in self.watchers:
            watcher.released(self, step, reachable)

    # -- walks

    def older(self, start: int, end: int) -> Iterator[LeafSpan | FaultSpan]:
        """How walks of a range may end besides: by words that were overwritten and have not settled."""
        for old in [each for many in self._unsettled.values() for each in many]:
            if old.span.start >= end or start >= old.span.end:
                continue
            if isinstance(old.span, PointerSpan):
                for _, span in self.reader.below(old.span.child, max(start, old.span.start), min(end, old.span.end)):
                    if not isinstance(span, PointerSpan):
                        yield span.clip(start, end)
            else:
                yield old.span.clip(start, end)

    def reachable(self, table_pa: int) -> bool:
        """Whether any walk can come to a table: from the root, or from a cached pointer."""
        if self.links.known(table_pa) or table_pa == self.root.pa:
            return bool(self.links.walkers(table_pa))
        # Nobody stored a link to it: memory leads to it, or nothing does.
        ranges = [(run.start, run.end) for run in self.subject.truth.converting] or [(0, SPACE)]
        return any(
            isinstance(span, PointerSpan) and span.child.pa == table_pa
            for start, end in ranges
            for _, span in self.reader.below(self.root, start, end)
        )

    def _locate(self, step: Store) -> Table | None:
        """The reachable table that a store writes to."""
        table, _ = self.walks.walk(step.iova, step.level)
        size = 1 << self.subject.vendor.page_format.levels[table.level].table_lg2
        if table.pa <= step.pa < table.pa + size:
            return table
        return self.links.table_at(step.pa, step.level)

    # -- stores

    def _store(self, step: Store) -> None:
        table = self._locate(step)
        old = self._write(table, step.pa, step.new)
        for watcher in self.watchers:
            watcher.stored(self, step, table, old)

    def _write(self, table: Table | None, pa: int, word: int) -> int:
        """Store a word; what it replaces goes stale, what it says is readable."""
        if table is None:
            window = Window()
            self._unsettled.setdefault(pa, []).append(_Unsettled(self.root, _NOTHING, window))
            old = self.shadow.store(pa, word)
            self.walks.forget()
            self._apart.append((pa, old, window))
            return old
        index = (pa - table.pa) >> 3
        span = self.reader.entry(table, index, self.shadow.load(pa))
        window = Window()
        self._unsettled.setdefault(pa, []).append(_Unsettled(table, span, window))
        self._leave(table, span, window)
        old = self.shadow.store(pa, word)
        new = self.reader.entry(table, index, word)
        self.walks.forget(paths=isinstance(span, PointerSpan) or isinstance(new, PointerSpan))
        self._enter(table, new)
        return old

    def _leave(self, table: Table, span: Span, window: Window) -> None:
        """An entry is overwritten: it, and what only it leads to, may stay cached."""
        if not isinstance(span, PointerSpan):
            self._close(table, span, window)
            self._stale(span, window)
        else:
            self._unlink(table, span, window)

    def _unlink(self, table: Table, span: PointerSpan, window: Window) -> None:
        """The same for a pointer."""
        top = self.links.link(table, span)
        top.window, top.overwritten = window, True
        self._link_stale(top)
        for below, inner in self.reader.below(span.child, span.start, span.end):
            self.leave(below, inner)

    def leave(self, table: Table, span: Span) -> None:
        """An entry that memory does not lead to any more, though it holds it."""
        if isinstance(span, PointerSpan):
            self._link_stale(self.links.link(table, span))
        else:
            self._stale(span, Window())

    def _link_stale(self, link: Link) -> None:
        if self.links.leave(link, self.now):
            for watcher in self.watchers:
                watcher.went_stale(self, link)

    def _close(self, table: Table, span: LeafSpan | FaultSpan, window: Window) -> None:
        """In a table that only cached pointers lead to, the entry's facts are known already; now they end."""
        if self.links.known(table.pa):
            for fact in self.facts.over(span.start, span.end):
                if fact.table_pa == table.pa and fact.window.until == OPEN:
                    part = self.facts.take(fact, max(fact.start, span.start), min(fact.end, span.end))
                    part.window = window

    def _enter(self, table: Table, span: Span) -> None:
        """An entry may be read from now on, and all that it leads to."""
        if not isinstance(span, PointerSpan):
            self.tell(span)
            self._hidden(table, span)
            return
        self._link(table, span)
        tables = {span.child}
        for below, inner in self.reader.below(span.child, span.start, span.end):
            tables.add(below)
            self._entered(below, inner)
        for pa, word, window in self._apart:
            for below in tables:
                index = (pa - below.pa) >> 3
                if 0 <= index < 1 << self.subject.vendor.page_format.levels[below.level].bits:
                    self._enter_late(below, self.reader.entry(below, index, word), window)

    def _entered(self, table: Table, span: Span) -> None:
        """One entry of a table that walks can come to from now on."""
        if isinstance(span, PointerSpan):
            self._link(table, span)
        else:
            self.tell(span)
            self._hidden(table, span)
        self._maybe_empty(table, span)

    def _enter_late(self, table: Table, span: Span, window: Window) -> None:
        """A word that was overwritten before the table was linked, and may still be read."""
        if not isinstance(span, PointerSpan):
            self.tell(span)
            self._stale(span, window)
            return
        self._unlink(table, span, window)
        for _, inner in self.reader.below(span.child, span.start, span.end):
            if not isinstance(inner, PointerSpan):
                self.tell(inner)

    def _link(self, table: Table, span: PointerSpan) -> None:
        self.links.link(table, span)
        if span.child.pa in self._released:
            for watcher in self.watchers:
                watcher.relinked(self, span.child.pa)

    def _hidden(self, table: Table, span: LeafSpan | FaultSpan) -> None:
        """What is readable only through cached pointers differs from memory from the start."""
        if not self.links.in_memory(table.pa):
            self._stale(span, Window())

    def _maybe_empty(self, table: Table, span: Span) -> None:
        """While the Fill of a table has not settled, a walk may find what stood there before: nothing."""
        filled = self.shadow.filled(table.pa)
        if filled is None or filled.settled:
            return
        hole = FaultSpan(span.start, span.end, "not-present", table.level, table.pa, 0)
        window = Window()
        self._unfilled.append((table.pa, window))
        self._stale(hole, window)
        self.tell(hole)

    def tell(self, span: LeafSpan | FaultSpan) -> None:
        """Tell all watchers how a walk may end from now on."""
        for watcher in self.watchers:
            watcher.readable(self, span)

    # -- stale facts

    def _stale(self, span: LeafSpan | FaultSpan, window: Window) -> None:
        """Caches may hold, and requests may have used, what memory says no more."""
        for fact in self.cacheable(span):
            self.add(fact, window)

    def add(self, fact: Held, window: Window) -> None:
        """File a fact that went stale now."""
        fact.window, fact.born = window, self.now
        if fact.alive:
            self.facts.add(fact)
            for watcher in self.watchers:
                watcher.went_stale(self, fact)

    def cacheable(self, span: LeafSpan | FaultSpan) -> Iterator[Held]:
        """A span as caches may hold it: whole or in pieces, as far as the owner check grants it."""
        hardware = self.subject.vendor.hardware
        if isinstance(span, LeafSpan):
            walkers = self.links.walkers(span.table_pa)
            everywhere = self.places.everywhere(walkers, span.rights)
            if not self.verdicts.cached:
                for held in self._pieces(span, span.leaf_lg2, everywhere):
                    yield from self._checked(held)
                return
            for start, end, verdict in self.verdicts.over(span.start, span.end, span.oa, span.leaf_lg2):
                if verdict.ok:
                    yield from self._pieces(span.clip(start, end), min(span.leaf_lg2, verdict.size_lg2), everywhere)
        elif hardware.caches_not_present and span.kind == "not-present":
            lo = self.subject.vendor.page_format.levels[span.level].lo
            walkers = self.links.walkers(span.table_pa)
            alive = self.places.everywhere(walkers, READ) & self.places.caches
            for piece in {lo, *(each for each in hardware.pieces_lg2 if each < lo)}:
                yield Held(
                    span.start,
                    span.end,
                    lo,
                    piece,
                    span.level,
                    0,
                    READ | WRITE,
                    0,
                    span.table_pa,
                    alive,
                    0,
                    kind=span.kind,
                )

    def _checked(self, held: Held) -> Iterator[Held]:
        """Where each access is checked: a refused one uses nothing, though the translation may be cached."""
        for start, end, verdict in self.verdicts.over(held.start, held.end, held.oa, held.leaf_lg2):
            part = held.part(start, end)
            if not verdict.ok:
                part.alive &= self.places.caches
            yield part

    def _pieces(self, span: LeafSpan, largest: int, alive: int) -> Iterator[Held]:
        """Whole pieces: one that was made through one entry of a run serves all of it."""
        smaller = [each for each in self.subject.vendor.hardware.pieces_lg2 if each < largest]
        for piece in (largest, *smaller):
            start, end = span.start, span.end
            if piece > self.subject.vendor.page_format.levels[span.level].lo:
                start, end = align_down(start, piece), align_up(end, piece)
            yield Held(
                start,
                end,
                span.leaf_lg2,
                piece,
                span.level,
                span.oa + start - span.start,
                span.rights,
                span.attrs,
                span.table_pa,
                alive,
                span.word,
                span.stable,
            )

    # -- fills and barriers

    def _fill(self, step: Fill) -> None:
        table = self.links.tables.get(step.pa)
        self._released.discard(step.pa)
        if table is None or not self.links.walkers(step.pa):
            self.shadow.fill(step)
            self.walks.forget()
        else:  # too late: each word is a store to a table that walkers can reach
            words = {
                run.pa + 8 * i: (run.first + i * run.increment) & MASK64
                for run in step.runs
                for i in range(run.entries)
            }
            for pa, word in {**words, **dict(step.overrides)}.items():
                self._write(table, pa, word)
        for watcher in self.watchers:
            watcher.filled(self, step)

    def _barrier(self) -> None:
        ready = self.shadow.barrier()
        for pa, count in ready:
            stores = self._unsettled.pop(pa, [])
            for unsettled in stores[:count]:
                unsettled.window.until = self.moment
            if stores[count:]:
                self._unsettled[pa] = stores[count:]
        self._apart = [each for each in self._apart if each[2].until == OPEN]
        waiting = []
        for table_pa, window in self._unfilled:
            filled = self.shadow.filled(table_pa)
            if filled is None or filled.settled:
                window.until = self.moment
            else:
                waiting.append((table_pa, window))
        self._unfilled = waiting
        self.rooting.settled(ready)

    # -- waits

    def _wait(self, step: Wait) -> None:
        completes = self.completes(step.unit)
        if completes is not None:
            self.queues.complete(step.unit, completes)
            if step.unit not in self.queues.stopped:
                self.rooting.complete(step.unit)
        for watcher in self.watchers:
            watcher.waited(self, step)

    def completes(self, unit: str) -> Completes | None:
        """What the vendor declares of its own wait command; None if it would never complete."""
        if unit not in self._waits:
            commands = self.subject.vendor.commands
            effects = commands.decode(commands.wait(0x1000, 1))
            self._waits[unit] = next((each for each in effects if isinstance(each, Completes)), None)
        return self._waits[unit]

    # -- owners

    def _own(self, step: Own) -> None:
        for watcher in self.watchers:
            watcher.owning(self, step)
        ranges = self.verdicts.affected(step)
        owners = OwnerChange(self, ranges)
        self.verdicts.apply(step)
        owners.happened()
        if step.drops != "none":
            self.queues.forget_pa(step.start_pa, step.end_pa, devices=step.drops == "iotlb+atc")
        for watcher in self.watchers:
            watcher.owned(self, step, ranges)

    def _call(self, step: Call) -> None:
        """What a call does, one after the other; where requests are held, they see only what stands in the end."""
        watchers, deferred = self.watchers, Deferred(self.watchers)
        if step.held:
            self.watchers = (deferred,)
            self._barrier()
        for effect in step.effects:
            self._effect += 1
            self.step(effect)
            if step.held and isinstance(effect, Store):
                self.shadow.clean(Clean(effect.pa, 8))
                self._barrier()
        self.watchers, self._effect = watchers, 0
        deferred.catch_up(self)

    def beside(self, start: int, end: int) -> list[tuple[LeafSpan, Window]]:
        """Leaves that are readable though memory does not lead to them, or says otherwise by now."""
        found = []
        for table in self.links.unlinked():
            inside = (span for span in self.reader.table(table, start, end) if isinstance(span, LeafSpan))
            found += [(span.clip(start, end), Window()) for span in inside]
        for old in (each for many in self._unsettled.values() for each in many):
            if isinstance(old.span, LeafSpan) and old.span.start < end and start < old.span.end:
                found.append((old.span.clip(start, end), old.window))
        return found

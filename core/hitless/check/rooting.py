"""What a store to a structure does: walks begin at another root, and what only the old one led to goes stale."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from attrs import define, field

from hitless.check.held import Held, Window
from hitless.check.roots import Origin, Requester, Roots, Stale
from hitless.check.spans import PointerSpan, Span, Table
from hitless.hardware.facts import Effect
from hitless.pagetable import READ, WRITE
from hitless.plan import StoreStructure
from hitless.units import SPACE

if TYPE_CHECKING:
    from hitless.check.engine import Engine

COMING_OR_GOING = ("attach", "detach", "replace", "block")
"""Changes of a structure by which a device comes, or (all but the first) goes: the address space may refuse it."""


@define(eq=False)
class Rooting:
    """Keeps an engine's root, and the faults that only some devices get, in line with what structures say.

    Args:
        roots: None: structures say nothing of a root here.
        relinked: told of every entry that may be read from now on, by the table that it stands in.
    """

    engine: "Engine"
    roots: Roots | None
    relinked: Callable[[Table, Span], None]
    _moving: set[tuple[str, int, int | None]] = field(factory=set)
    _left: set[tuple[str, int, int | None]] = field(factory=set)
    _refused: dict[tuple[Requester, Origin], Held] = field(factory=dict)

    # -- what the engine's steps do

    def store(self, step: StoreStructure) -> None:
        """A store to a structure."""
        if self.roots is None:
            return
        if step.what in COMING_OR_GOING:
            self._moving.add((step.unit, step.device, step.pasid))
        if step.what in COMING_OR_GOING[1:]:
            self._left.add((step.unit, step.device, step.pasid))
        self.roots.store(step, self.engine.now)
        self._look(self.roots)

    def settled(self, stores: Iterable[tuple[int, int]]) -> None:
        """A barrier."""
        if self.roots is not None:
            self.roots.settled(stores, self.engine.moment)
            self._look(self.roots)

    def submit(self, unit: str, effects: Sequence[Effect]) -> None:
        """A command."""
        if self.roots is not None:
            self.roots.submit(unit, self.engine.moment, effects)

    def complete(self, unit: str) -> None:
        """A wait has completed."""
        if self.roots is not None:
            self.roots.complete(unit)
            self._look(self.roots)

    @property
    def stale(self) -> Sequence[Stale]:
        """Structures that memory does not hold any more, and units may."""
        return [] if self.roots is None else self.roots.stale

    def moves_behind(self, unit: str) -> bool:
        """Whether a device behind a unit comes or goes: all that it may hold is taken."""
        return any(each[0] == unit for each in self._moving)

    @property
    def leaving(self) -> Sequence[Requester]:
        """Who is to have nothing of this address space any more."""
        if self.roots is None:
            return []
        units = self.roots.units
        return [each for each in self.roots.requesters if (units[each.unit].name, *each[1:3]) in self._left]

    def leads_here(self, requester: Requester) -> bool:
        """Whether a request may still find the way into this address space."""
        return self.roots is not None and any(each.pa for each in self.roots.origins(requester))

    # -- what follows

    def _look(self, roots: Roots) -> None:
        engine, links = self.engine, self.engine.links
        units: dict[int, int] = dict.fromkeys(links.roots, 0)
        named: dict[int, int] = {}
        now: list[tuple[Requester, Origin, bool]] = []
        for requester in roots.requesters:
            for number, origin in enumerate(roots.origins(requester)):
                now.append((requester, origin, not number))
                if origin.pa:
                    units[origin.pa] = units.get(origin.pa, 0) | 1 << requester.unit
                    if not number:
                        named[origin.pa] = origin.level
        links.roots, links.named = units, set(named)
        top = max(named, key=lambda pa: (named[pa], pa != engine.root.pa), default=engine.root.pa)
        if top != engine.root.pa:
            self._begin_at(Table(top, named[top], 0, READ | WRITE))
        self._refuse(roots, now)

    def _begin_at(self, root: Table) -> None:
        """Another root: what it leads to may be read; what the old one led to goes stale, but what is below both."""
        engine, old = self.engine, self.engine.root
        engine.root = root
        engine.walks.begin_at(root)
        kept = False
        for table, span in self._above(root, old):
            self.relinked(table, span)
            kept = kept or (isinstance(span, PointerSpan) and span.child.pa == old.pa)
        if not kept:
            for table, span in engine.reader.below(old, 0, SPACE):
                engine.leave(table, span)

    def _above(self, table: Table, old: Table) -> Iterator[tuple[Table, Span]]:
        """The entries of a table and all below it, down to an old root."""
        reader = self.engine.reader
        for span in reader.table(table, 0, SPACE):
            yield table, span
            if isinstance(span, PointerSpan) and span.child.pa != old.pa:
                yield from self._above(span.child, old)

    def _refuse(self, roots: Roots, now: Iterable[tuple[Requester, Origin, bool]]) -> None:
        """Faults of devices whose structures lead to less than the root does: where these are read, or cached."""
        found: dict[tuple[Requester, Origin], bool] = {}
        for requester, origin, said in now:
            unit = roots.units[requester.unit].name
            if (unit, *requester[1:3]) not in self._moving:
                found[requester, origin] = found.get((requester, origin), False) or said
        for key in [key for key in self._refused if key not in found]:
            self._forget(*key)
        for (requester, origin), said in found.items():
            if (fact := self._refused.get((requester, origin))) is None:
                fact = self._fault(requester, origin)
                if fact is None:
                    continue
                self._refused[requester, origin] = fact
                self.engine.add(fact, Window())
            if not said:
                fact.window.until = min(fact.window.until, self.engine.moment)

    def _fault(self, requester: Requester, origin: Origin) -> Held | None:
        """What requests get beyond a smaller root, or everywhere; None: nothing that others do not get."""
        engine, root = self.engine, self.engine.root
        start = 0
        if not origin.fault:
            start = engine.reader.end(Table(origin.pa, origin.level, 0, 0))
            if origin.level >= root.level:
                return None
        end = engine.reader.end(root)
        lo = engine.subject.vendor.page_format.levels[origin.level].lo
        kind = origin.fault or "range"
        return Held(start, end, lo, lo, origin.level, 0, READ | WRITE, 0, origin.pa, 1 << requester.place, 0, kind=kind)

    def _forget(self, requester: Requester, origin: Origin) -> None:
        gone = self._refused.pop((requester, origin))
        for fact in self.engine.facts.over(gone.start, gone.end):
            if fact.window is gone.window:
                fact.alive = 0

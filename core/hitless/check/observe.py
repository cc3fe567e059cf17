"""The engine as a collector: everything that may be seen, cached and read, as sets; for small cases."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from attrs import define, field, frozen

from hitless.check.engine import Engine
from hitless.check.held import Held
from hitless.check.spans import FaultSpan, LeafSpan, Table
from hitless.check.subject import Subject
from hitless.check.watching import Watcher
from hitless.hardware.facts import Effect
from hitless.ownership import Verdict
from hitless.pagetable import READ, WRITE
from hitless.plan import Call, Invalidate, Own, Release, Store
from hitless.units import PAGE, align_down

Outcome: TypeAlias = tuple[str, int | str]
"""``("pa", address)`` or ``("fault", kind)``."""
CachedLeaf: TypeAlias = tuple[int, int, int, int]
"""First IOVA of a cached piece, log2 of its size, its address, log2 of the size of its leaf."""


@frozen
class Observation:
    """All that a plan makes possible.

    Args:
        results: (unit, device with ATS or None, page's IOVA, write, outcome).
        pairs: two different leaves that one cache may hold together for one IOVA, with the cache:
            ``("tlb", unit, tag)`` or ``("atc", device)``.
        freed: released tables that a walk may read when they are released.
        flight: (unit, page's IOVA, write, address) that may not have completed when the plan has ended.
    """

    results: frozenset[tuple[str, int | None, int, bool, Outcome]]
    pairs: frozenset[tuple[tuple[str, ...], frozenset[CachedLeaf]]]
    freed: frozenset[int]
    flight: frozenset[tuple[str, int, bool, int]]


def _later() -> None:
    """After the step is soon enough."""


@define(eq=False)
class _Collector(Watcher):
    """``look``: at what caches hold, between the effects of a call during which requests go on."""

    results: set[tuple[str, int | None, int, bool, Outcome]] = field(factory=set)
    freed: set[int] = field(factory=set)
    look: Callable[[], None] = _later

    def stored(self, engine: Engine, step: Store, table: Table | None, old: int) -> None:
        self.look()

    def submitted(self, engine: Engine, step: Invalidate, effects: Sequence[Effect]) -> None:
        self.look()

    def owning(self, engine: Engine, step: Own) -> None:
        self.look()

    def readable(self, engine: Engine, span: LeafSpan | FaultSpan) -> None:
        walkers = engine.places.everywhere(engine.links.walkers(span.table_pa), READ)
        if isinstance(span, FaultSpan):
            self._pages(engine, walkers, span.start, span.end, READ | WRITE, ("fault", span.kind), 0)
            return
        for start, end, verdict in engine.verdicts.over(span.start, span.end, span.oa, span.leaf_lg2):
            refused = None if verdict.ok else ("fault", verdict.outcome)
            self._pages(engine, walkers, start, end, span.rights, refused, span.oa + start - span.start)
        if span.leaf_lg2 > engine.subject.vendor.page_format.levels[span.level].lo:
            for fact in engine.cacheable(span):  # one entry of a run may serve all of it
                for start, end, verdict in self._at_use(engine, fact):
                    refused = None if verdict.ok else ("fault", verdict.outcome)
                    self._pages(engine, walkers, start, end, span.rights, refused, fact.oa + start - fact.start)

    @staticmethod
    def _at_use(engine: Engine, fact: Held) -> Iterator[tuple[int, int, Verdict]]:
        """What a hit sees: the verdict that was cached, or today's."""
        if engine.verdicts.cached:
            return iter([(fact.start, fact.end, Verdict(True, fact.piece_lg2))])
        return engine.verdicts.over(fact.start, fact.end, fact.oa, fact.leaf_lg2)

    def _pages(
        self, engine: Engine, places: int, start: int, end: int, rights: int, refused: Outcome | None, oa: int
    ) -> None:
        units = engine.subject.units
        devices = [
            (unit.name, device)
            for i, unit in enumerate(units)
            for device, cache in zip((None, *unit.devices), engine.places.of_unit(i), strict=True)
            if places & (1 << i | 1 << cache)  # a device is served by its unit, or by what it holds itself
        ]
        for at in range(start, end, PAGE):
            for write, right in ((False, READ), (True, WRITE)):
                outcome = refused or (("pa", oa + at - start) if rights & right else ("fault", "permission"))
                if refused and refused[0] == "fault" and not rights & right:
                    outcome = ("fault", "permission")
                self.results.update((unit, device, at, write, outcome) for unit, device in devices)

    def released(self, engine: Engine, step: Release, reachable: Sequence[int]) -> None:
        self.freed.update(reachable)

    def relinked(self, engine: Engine, table_pa: int) -> None:
        self.freed.add(table_pa)

    def owned(self, engine: Engine, step: Own, ranges: Sequence[tuple[int, int]]) -> None:
        for start, end in ranges:
            for span in (*engine.walks.spans(start, end), *(span for span, _ in engine.beside(start, end))):
                self.readable(engine, span)
        if engine.verdicts.cached:
            return
        for fact in engine.facts.all():  # each access is checked anew
            if fact.kind:
                continue
            for start, end, verdict in engine.verdicts.over(fact.start, fact.end, fact.oa, fact.leaf_lg2):
                refused = None if verdict.ok else ("fault", verdict.outcome)
                self._pages(engine, fact.alive, start, end, fact.rights, refused, fact.oa + start - fact.start)


def observe(subject: Subject) -> Observation:
    """Everything that may happen while a plan runs; the whole address space is enumerated."""
    collector = _Collector()
    engine = Engine(subject, [collector])
    size = 1 << subject.vendor.page_format.iova_bits
    pairs: set[tuple[tuple[str, ...], frozenset[CachedLeaf]]] = set()

    def look() -> None:
        for place, leaves in _cached(engine, size):
            pairs.update((place, frozenset(pair)) for pair in _overlapping(leaves))

    for span in engine.walks.spans(0, size):
        collector.readable(engine, span)
    look()
    for number, (_, step) in enumerate(subject.steps):
        engine.now = number
        collector.look = look if isinstance(step, Call) and not step.held else _later
        engine.step(step)
        look()
    flight = _flight(engine, size)
    return Observation(frozenset(collector.results), frozenset(pairs), frozenset(collector.freed), frozenset(flight))


def _possible(engine: Engine, size: int) -> list[Held]:
    """Stale facts, and what memory says now."""
    now = [fact for span in engine.walks.spans(0, size) for fact in engine.cacheable(span)]
    return [*engine.facts.all(), *now]


def _cached(engine: Engine, size: int) -> Iterator[tuple[tuple[str, ...], set[CachedLeaf]]]:
    """What each cache may hold."""
    possible = [fact for fact in _possible(engine, size) if not fact.kind]
    places: list[tuple[tuple[str, ...], int]] = [
        (("tlb", unit.name, str(unit.tag)), 1 << i) for i, unit in enumerate(engine.subject.units)
    ]
    places += [(("atc", str(device)), engine.places.atc(i)) for i, (_, device) in enumerate(engine.places.atcs)]
    for place, bit in places:
        leaves: set[CachedLeaf] = set()
        for fact in possible:
            if fact.alive & bit:
                step = 1 << fact.piece_lg2
                leaves.update(
                    (at, fact.piece_lg2, fact.oa + at - fact.start, fact.leaf_lg2)
                    for at in range(align_down(fact.start, fact.piece_lg2), fact.end, step)
                )
        yield place, leaves


def _overlapping(leaves: set[CachedLeaf]) -> Iterator[tuple[CachedLeaf, CachedLeaf]]:
    ordered = sorted(leaves)
    for i, one in enumerate(ordered):
        for other in ordered[i + 1 :]:
            if other[0] >= one[0] + (1 << one[1]):
                break
            yield one, other


def _flight(engine: Engine, size: int) -> Iterator[tuple[str, int, bool, int]]:
    for fact in _possible(engine, size):
        for i, unit in enumerate(engine.subject.units):
            for write in (False, True):
                flights = (engine.places.flight(cache, write=write) for cache in engine.places.of_unit(i))
                if not fact.kind and any(fact.alive & flight for flight in flights):
                    for at in range(fact.start, fact.end, PAGE):
                        yield unit.name, at, write, fact.oa + at - fact.start

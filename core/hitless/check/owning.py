"""What an owner change does to what may be cached or in flight."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from hitless.check.held import OPEN, Held, Window
from hitless.check.spans import LeafSpan

if TYPE_CHECKING:
    from hitless.check.engine import Engine


class OwnerChange:
    """One owner change: made before it happens, told when it has happened.

    Where verdicts are cached, one that would not be given any more, or not in this shape, stays cached as it was.
    Where each access is checked, requests that were granted before are in flight still.
    """

    def __init__(self, engine: "Engine", ranges: Sequence[tuple[int, int]]) -> None:
        self._engine = engine
        spans = (span for start, end in ranges for span in engine.walks.spans(start, end))
        self._beside = [each for start, end in ranges for each in engine.beside(start, end)]
        self._ranges = ranges
        self._was: list[Held] = [
            fact for span in spans if isinstance(span, LeafSpan) for fact in engine.cacheable(span)
        ]
        self._was_beside = [list(engine.cacheable(span)) for span, _ in self._beside]

    def happened(self) -> None:
        """The owner table has changed."""
        if self._engine.verdicts.cached:
            self._outlive()
            self._regrant()
        else:
            self._fly_on()

    # -- cached verdicts

    def _outlive(self) -> None:
        engine = self._engine
        for fact in self._was:
            for start, end in engine.verdicts.lost(fact):
                engine.add(fact.part(start, end), Window(engine.moment))

    def _regrant(self) -> None:
        """Beside memory: what is not granted any more cannot be made again, and what is granted now can."""
        engine = self._engine
        for (span, window), facts in zip(self._beside, self._was_beside, strict=True):
            for fact in engine.facts.over(span.start, span.end):
                if fact.table_pa == span.table_pa and fact.window.until == OPEN and not fact.kind:
                    for start, end in engine.verdicts.lost(fact):
                        if fact.alive:
                            engine.facts.take(fact, start, end).window = Window(engine.moment)
            known = {(fact.start, fact.end, fact.piece_lg2) for fact in facts}
            for fact in list(engine.cacheable(span)):
                if (fact.start, fact.end, fact.piece_lg2) not in known:
                    engine.add(fact, window)
                    engine.tell(span.clip(fact.start, fact.end))

    # -- a check of each access

    def _fly_on(self) -> None:
        """What was granted, and used, is in flight still; what is granted only now can be used from now on."""
        engine, flights = self._engine, ~self._engine.places.caches
        for fact in self._was:
            if fact.alive & flights:
                for start, end in self._refused(fact):
                    part = fact.part(start, end)
                    part.alive &= flights
                    engine.add(part, Window(engine.moment))
        for fact in [fact for start, end in self._ranges for fact in engine.facts.over(start, end)]:
            if fact.kind or fact.flown:
                continue
            for start, end, verdict in list(engine.verdicts.over(fact.start, fact.end, fact.oa, fact.leaf_lg2)):
                self._recheck(fact, start, end, granted=verdict.ok)

    def _refused(self, fact: Held) -> Iterator[tuple[int, int]]:
        for start, end, verdict in self._engine.verdicts.over(fact.start, fact.end, fact.oa, fact.leaf_lg2):
            if not verdict.ok:
                yield start, end

    def _recheck(self, fact: Held, start: int, end: int, *, granted: bool) -> None:
        """One part of a stale fact: its requests in flight are of the time when they were granted."""
        engine, flights = self._engine, ~self._engine.places.caches
        overlapping = [each for each in engine.facts.over(start, end) if each.twin(fact)]
        for each in overlapping:
            part = engine.facts.take(each, max(start, each.start), min(end, each.end))
            if granted:
                part.alive |= engine.queues.usable(part)
            elif part.alive & flights:
                gone = part.part(part.start, part.end)
                gone.alive, gone.flown = part.alive & flights, True
                engine.add(gone, Window(engine.moment))
                part.alive &= ~flights

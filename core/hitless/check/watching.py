"""Who listens to the engine, and what it is told."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from hitless.check.held import Held, Link
from hitless.check.spans import FaultSpan, LeafSpan, Table
from hitless.hardware.facts import Effect
from hitless.plan import Fill, Invalidate, Own, Release, Store, Wait

if TYPE_CHECKING:
    from hitless.check.engine import Engine


class Watcher:
    """What a rule, or a collector, hears; all of it may be left out."""

    def entered(self, engine: "Engine", section: str) -> None:
        """A section begins; ``end``: refresh has returned."""

    def readable(self, engine: "Engine", span: LeafSpan | FaultSpan) -> None:
        """A walk may end like this from now on."""

    def went_stale(self, engine: "Engine", fact: Held | Link) -> None:
        """Memory does not say so any more, but caches may."""

    def stored(self, engine: "Engine", step: Store, table: Table | None, old: int) -> None:
        """A store was made; to a table that no walker can reach, if ``table`` is None."""

    def filled(self, engine: "Engine", step: Fill) -> None:
        """A table was filled."""

    def submitted(self, engine: "Engine", step: Invalidate, effects: Sequence[Effect]) -> None:
        """A command was submitted."""

    def waited(self, engine: "Engine", step: Wait) -> None:
        """A wait has completed."""

    def owning(self, engine: "Engine", step: Own) -> None:
        """An owner change is about to happen."""

    def owned(self, engine: "Engine", step: Own, ranges: Sequence[tuple[int, int]]) -> None:
        """It has happened; the IOVAs whose verdict it may have changed."""

    def released(self, engine: "Engine", step: Release, reachable: Sequence[int]) -> None:
        """Tables are free; those that a walk may still read."""

    def relinked(self, engine: "Engine", table_pa: int) -> None:
        """A table that was released may be read again."""

    def ended(self, engine: "Engine") -> None:
        """Refresh has returned."""


class Deferred(Watcher):
    """Stands in the watchers' place while requests are held: what could be seen meanwhile is looked at afterwards."""

    def __init__(self, watchers: Sequence[Watcher]) -> None:
        self._watchers = watchers
        self._earlier: list[LeafSpan | FaultSpan] = []
        self._seen: list[LeafSpan | FaultSpan] = []
        self._owned: list[tuple[Own, Sequence[tuple[int, int]]]] = []

    def readable(self, engine: "Engine", span: LeafSpan | FaultSpan) -> None:
        self._seen.append(span)

    def owned(self, engine: "Engine", step: Own, ranges: Sequence[tuple[int, int]]) -> None:
        self._owned.append((step, ranges))

    def catch_up(self, engine: "Engine") -> None:
        """Requests go on: tell what they may see now."""
        for step, ranges in self._owned:
            for watcher in self._watchers:
                watcher.owned(engine, step, ranges)
        for span in (*self._earlier, *self._seen):
            engine.tell(span)

    def stored(self, engine: "Engine", step: Store, table: Table | None, old: int) -> None:
        """What was told since the last store is this one's; it takes away what earlier ones put there."""
        if table is not None:
            end = step.iova + (1 << engine.subject.vendor.page_format.levels[step.level].lo)
            self._earlier = [part for span in self._earlier for part in _beside(span, step.iova, end)]
        self._earlier += self._seen
        self._seen = []
        for watcher in self._watchers:
            watcher.stored(engine, step, table, old)

    def went_stale(self, engine: "Engine", fact: Held | Link) -> None:
        for watcher in self._watchers:
            watcher.went_stale(engine, fact)

    def owning(self, engine: "Engine", step: Own) -> None:
        for watcher in self._watchers:
            watcher.owning(engine, step)

    def submitted(self, engine: "Engine", step: Invalidate, effects: Sequence[Effect]) -> None:
        for watcher in self._watchers:
            watcher.submitted(engine, step, effects)

    def waited(self, engine: "Engine", step: Wait) -> None:
        for watcher in self._watchers:
            watcher.waited(engine, step)

    def relinked(self, engine: "Engine", table_pa: int) -> None:
        for watcher in self._watchers:
            watcher.relinked(engine, table_pa)


def _beside(span: LeafSpan | FaultSpan, start: int, end: int) -> Iterator[LeafSpan | FaultSpan]:
    """The parts of a span outside a range."""
    for low, high in ((span.start, min(span.end, start)), (max(span.start, end), span.end)):
        if low < high:
            yield span.clip(low, high)

"""The judge: compares everything that devices may see with the truth, and asks the outcome rules."""

from collections.abc import Iterator, Sequence

from attrs import define, field

from hitless.check.engine import Engine, step_of
from hitless.check.held import OPEN, Held, Link
from hitless.check.report import Violation
from hitless.check.rules.base import OutcomeRule, Seen, describe
from hitless.check.spans import FaultSpan, LeafSpan
from hitless.check.subject import TruthRun
from hitless.check.watching import Watcher
from hitless.plan import Own

_UNSAFE = frozenset({"machine-check", "poison", "integrity"})


@define(eq=False)
class Judge(Watcher):
    """Looks where something changed, and judges what a device may see there."""

    rules: Sequence[OutcomeRule]
    _isolated: bool = field(default=False, init=False)
    _rights: dict[int, int] = field(factory=dict, init=False)

    def readable(self, engine: Engine, span: LeafSpan | FaultSpan) -> None:
        self._span(engine, span, "running")

    def went_stale(self, engine: Engine, fact: Held | Link) -> None:
        if isinstance(fact, Held):
            self._fact(engine, fact, "running")

    def entered(self, engine: Engine, section: str) -> None:
        """What isolate promises is looked at once, before anything else happens."""
        if section in ("own", "refresh") and not self._isolated:
            self._isolated = True
            self._range(engine, "isolated")

    def owned(self, engine: Engine, step: Own, ranges: Sequence[tuple[int, int]]) -> None:
        for start, end in ranges:
            for span in (*engine.walks.spans(start, end), *(span for span, _ in engine.beside(start, end))):
                self._span(engine, span, "running")
            if not engine.verdicts.cached:
                for fact in engine.facts.over(start, end):
                    self._fact(engine, fact, "running", start, end)

    def ended(self, engine: Engine) -> None:
        self._range(engine, "ended")

    # -- looking

    def _range(self, engine: Engine, moment: str) -> None:
        """All that converts: memory, and whatever may be cached or in flight."""
        for run in engine.subject.truth.converting:
            for span in engine.walks.spans(run.start, run.end):
                self._span(engine, span, moment)
            for span in engine.older(run.start, run.end):
                self._span(engine, span, moment)
            for fact in engine.facts.over(run.start, run.end):
                self._fact(engine, fact, moment, run.start, run.end)

    def _span(self, engine: Engine, span: LeafSpan | FaultSpan, moment: str) -> None:
        if isinstance(span, FaultSpan):
            self._seen(engine, span.start, span.end, None, span.kind, 0, 0, moment, "memory", span)
            return
        if not self._permitted(engine, span):
            self._seen(engine, span.start, span.end, None, "permission", 0, 0, moment, "memory", span)
        for start, end, verdict in engine.verdicts.over(span.start, span.end, span.oa, span.leaf_lg2):
            fault = "" if verdict.ok else verdict.outcome
            pa = span.oa + start - span.start
            self._seen(engine, start, end, None, fault, pa, span.attrs, moment, "memory", span)

    def _fact(self, engine: Engine, fact: Held, moment: str, start: int = 0, end: int = OPEN) -> None:
        start, end = max(start, fact.start), min(end, fact.end)
        if start >= end:
            return
        where = "cache" if fact.alive & engine.places.caches else "flight"
        if fact.kind:
            self._seen(engine, start, end, fact, fact.kind, 0, 0, moment, where, fact)
            return
        oa = fact.oa + start - fact.start
        if not self._permitted(engine, fact):
            self._seen(engine, start, end, fact, "permission", 0, 0, moment, where, fact)
        if engine.verdicts.cached:
            self._seen(engine, start, end, fact, "", oa, fact.attrs, moment, where, fact)
            return
        for a, b, verdict in engine.verdicts.over(start, end, oa, fact.leaf_lg2):
            fault = "" if verdict.ok else verdict.outcome
            self._seen(engine, a, b, fact, fault, oa + a - start, fact.attrs, moment, where, fact)

    def _permitted(self, engine: Engine, source: Held | LeafSpan) -> bool:
        """Whether reads and writes get through as far as guest memory grants them: all rights of the walk together."""
        truth = engine.subject.truth
        attrs = truth.attrs_at(source.start) if truth.varied else truth.attrs
        if attrs not in self._rights:
            fmt, size = engine.subject.vendor.page_format, engine.subject.vendor.page_format.leaf_sizes[0]
            self._rights[attrs] = fmt.rights(fmt.leaf(size.lg2, 0, attrs), size.level)
        return not self._rights[attrs] & ~source.rights

    def _seen(
        self,
        engine: Engine,
        start: int,
        end: int,
        held: Held | None,
        fault: str,
        pa: int,
        attrs: int,
        moment: str,
        where: str,
        source: Held | LeafSpan | FaultSpan,
    ) -> None:
        for a, b, run in _parts(engine, start, end):
            seen = Seen(a, b, run, fault, pa + a - start, attrs, fault in _UNSAFE, moment, where, held)
            for rule in self.rules:
                what = rule.judge(seen, engine.subject)
                if what is not None:
                    rule.report(
                        Violation(
                            rule.id,
                            engine.now,
                            a,
                            b,
                            what,
                            seen.text,
                            where,
                            describe(source, engine.subject),
                            -1 if held is None else held.born,
                            -1 if held is None else min(step_of(held.window.until), engine.now),
                            do=rule.do,
                        )
                    )


def _parts(engine: Engine, start: int, end: int) -> Iterator[tuple[int, int, TruthRun | None]]:
    """A range by truth runs; None where the guest has no memory."""
    at = start
    for run in engine.subject.truth.inside(start, end):
        if at < run.start:
            yield at, run.start, None
        yield run.start, run.end, run
        at = run.end
    if at < end:
        yield at, end, None

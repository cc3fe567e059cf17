"""B1, S1: where leaves have to end, and which size they have to have, as owners change."""

from collections.abc import Sequence
from typing import ClassVar

from attrs import define

from hitless.check.engine import Engine
from hitless.check.rules.base import Rule, converting_edges, describe
from hitless.check.spans import FaultSpan, LeafSpan
from hitless.ownership import GUEST, Boundary, size_class
from hitless.plan import Own
from hitless.units import lg2_text


@define(eq=False)
class Boundaries(Rule):
    """B1: looked at before the first owner changes, and at rest."""

    id: ClassVar[str] = "B1"
    sentence: ClassVar[str] = "no leaf and no cached translation spans an owner transition"
    do: ClassVar[str] = "cut the leaf at both edges, and wait for its invalidation, before the owner changes"
    _looked: bool = False

    def entered(self, engine: Engine, section: str) -> None:
        if section in ("own", "refresh") and not self._looked:
            self._looked = True
            self._look(engine, at_rest=False)

    def ended(self, engine: Engine) -> None:
        self._look(engine, at_rest=True)

    def _look(self, engine: Engine, *, at_rest: bool) -> None:
        policy = engine.subject.policy
        if policy.boundary is Boundary.NONE:
            return
        for edge in converting_edges(engine.subject, at_rest=at_rest):
            if policy.boundary is Boundary.CHECK_UNIT and edge % (1 << policy.check_unit_lg2) == 0:
                continue
            for span in engine.walks.spans(edge - 1, edge + 1):
                if isinstance(span, LeafSpan) and edge % (1 << span.leaf_lg2):
                    text = f"a leaf of {lg2_text(span.leaf_lg2)} spans the owner transition at {edge:#x}"
                    held = describe(span, engine.subject)
                    self.broken(engine, edge - 1, edge + 1, text, where="memory", held=held)
                    break
            for fact in engine.facts.over(edge - 1, edge + 1):
                cached = fact.alive & engine.places.caches and not fact.kind
                if cached and edge % (1 << fact.piece_lg2) and fact.start < edge < fact.end:
                    text = f"a cached translation of {lg2_text(fact.piece_lg2)} spans the owner transition at {edge:#x}"
                    held = describe(fact, engine.subject)
                    self.broken(engine, edge - 1, edge + 1, text, where="cache", held=held, born=fact.born)


@define(eq=False)
class SizesAgree(Rule):
    """S1: where the vendor's check has size classes, and a device may use guest-owned pages."""

    id: ClassVar[str] = "S1"
    sentence: ClassVar[str] = "while a device may use a guest-owned page, leaf size class and owner-table size agree"
    do: ClassVar[str] = "let leaf and owner entry change their size together (the firmware's combined call)"

    def readable(self, engine: Engine, span: LeafSpan | FaultSpan) -> None:
        if isinstance(span, LeafSpan):
            self._compare(engine, span)

    def owned(self, engine: Engine, step: Own, ranges: Sequence[tuple[int, int]]) -> None:
        for start, end in ranges if engine.subject.grants(GUEST) else ():
            for span in engine.walks.spans(start, end):
                self.readable(engine, span)

    def _compare(self, engine: Engine, span: LeafSpan) -> None:
        classes = engine.subject.vendor.ownership.size_classes
        if not classes or not engine.subject.grants(GUEST):
            return
        mine = size_class(span.leaf_lg2, classes)
        end_pa = span.oa + span.end - span.start
        for start, end, owner, entry_lg2 in engine.verdicts.owners.entries(span.oa, end_pa):
            if owner == GUEST and size_class(entry_lg2, classes) != mine:
                at = span.start + start - span.oa
                leaf, entry = lg2_text(span.leaf_lg2), lg2_text(entry_lg2)
                text = f"a leaf of {leaf} leads to a guest-owned page with an entry of {entry}"
                self.broken(engine, at, at + end - start, text, where="memory", held=describe(span, engine.subject))
                return

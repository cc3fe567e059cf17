"""F2: what a plan leaves in caches. The next plan is checked from what memory holds, so nothing else may be left."""

from typing import ClassVar

from hitless.check.engine import Engine
from hitless.check.held import Held, Link
from hitless.check.rules.base import Rule, describe
from hitless.check.spans import PointerSpan
from hitless.units import SPACE


class NothingLeft(Rule):
    """F2: looked at once, when refresh has returned."""

    id: ClassVar[str] = "F2"
    sentence: ClassVar[str] = "once refresh has returned, caches hold nothing but what memory could put there"
    do: ClassVar[str] = "invalidate all of the old leaf or pointer, in every size that it may be cached as"

    def ended(self, engine: Engine) -> None:
        for fact in engine.facts.all():
            translations = engine.places.caches & ~engine.places.structures
            if fact.alive & translations and not _remade(engine, fact):
                text = "an entry that memory does not hold any more may stay cached"
                held = describe(fact, engine.subject)
                self.broken(engine, fact.start, fact.end, text, where="cache", held=held, born=fact.born)
        for link in engine.links.stale:
            if link.alive and not _led_to(engine, link):
                text = "a pointer that memory does not hold any more may stay cached"
                held = describe(link, engine.subject)
                self.broken(engine, link.start, link.end, text, where="cache", held=held, born=link.born)
        for each in engine.rooting.stale:
            text = f"a structure ({each.cached.structure}) that memory does not hold any more may stay cached"
            held = f"{each.cached.structure} of device {each.cached.device:#x}: {' '.join(map(hex, each.cached.words))}"
            self.broken(engine, 0, SPACE, text, where="cache", held=held, born=each.born)


def _led_to(engine: Engine, link: Link) -> bool:
    """Whether walks of memory as it stands read the same pointer there, with the same rights: it was stored again."""
    _, span = engine.walks.walk(link.start, link.level)
    if not isinstance(span, PointerSpan) or (span.entry_pa, span.word) != (link.entry_pa, link.word):
        return False
    return (span.child.pa, span.child.level, span.child.rights) == (link.child, link.child_level, link.rights)


def _remade(engine: Engine, fact: Held) -> bool:
    """Whether walks of memory as it stands could fill all that a fact says in again."""
    places = fact.alive & engine.places.caches
    return all(
        any(_same(each, fact) and not places & ~each.alive for each in engine.cacheable(span))
        for span in engine.walks.spans(fact.start, fact.end)
    )


def _same(now: Held, fact: Held) -> bool:
    """Whether two entries cannot be told apart: by a device, a command, or a conflict."""
    return (
        now.oa - now.start == fact.oa - fact.start
        and (now.rights, now.attrs, now.kind, now.stable) == (fact.rights, fact.attrs, fact.kind, fact.stable)
        and (now.leaf_lg2, now.piece_lg2, now.level) == (fact.leaf_lg2, fact.piece_lg2, fact.level)
    )

"""Recording: what an address space really does, taken down step by step, to be checked afterwards."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from attrs import define, field

from hitless.bits import U64Array
from hitless.check.subject import Subject, Truth
from hitless.guest_memfd.conversion import Conversion
from hitless.iommufd import Domain
from hitless.memory import PhysicalMemory
from hitless.plan import Fill, Release, Section, Step, Store, StoreStructure, effects_of
from hitless.refresh.planner import Prepared

if TYPE_CHECKING:
    from hitless.check.stage import Stage

T = TypeVar("T")


@define(eq=False)
class Before:
    """Memory as it was before it was written to: what stood where something was stored since."""

    memory: PhysicalMemory
    _words: dict[int, int] = field(factory=dict)

    def keep(self, pa: int, count: int = 1) -> None:
        """Remember words that are about to change, unless they have changed before."""
        for i, word in enumerate(self.memory.view(pa, count).tolist()):
            self._words.setdefault(pa + 8 * i, word)

    def load(self, pa: int) -> int:
        """The word that stood there."""
        word = self._words.get(pa)
        return self.memory.load(pa) if word is None else word

    def view(self, pa: int, count: int) -> U64Array:
        """A copy of the words that stood there."""
        words = self.memory.view(pa, count).copy()
        for i in range(count):
            word = self._words.get(pa + 8 * i)
            if word is not None:
                words[i] = np.uint64(word)
        return words


@define(eq=False)
class Recording:
    """Stands in a domain's place among the notifiers, and takes down what it does.

    Args:
        steps: with their sections, in order.
        before: memory before the first of them.
    """

    domain: Domain
    steps: list[tuple[Section, Step]] = field(factory=list)
    section: Section = "prepare"
    before: Before = field(init=False)
    name: str = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.before = Before(self.domain.memory)
        self.name = self.domain.name

    def take(self, step: Step | None) -> None:
        """A step is about to be done."""
        if step is None or (self.steps and self.steps[-1][1] is step):
            return
        self.steps.append((self.section, step))
        for each in effects_of([step]):
            match each:
                case Store():
                    self.before.keep(each.pa)
                case StoreStructure():
                    self.before.keep(each.pa, len(each.new))
                case Fill():
                    self.before.keep(each.pa, 1 << each.size_lg2 - 3)
                case Release():
                    for pa, size_lg2 in each.tables:
                        self.before.keep(pa, 1 << size_lg2 - 3)

    # -- as a notifier

    def prepare(self, conversion: Conversion) -> Prepared:
        return self._in("prepare", lambda: self.domain.prepare(conversion))

    def isolate(self, conversion: Conversion) -> None:
        self._in("isolate", lambda: self.domain.isolate(conversion))

    def own(self, conversion: Conversion) -> None:
        self._in("own", lambda: self.domain.own(conversion))

    def refresh(self, conversion: Conversion) -> None:
        self._in("refresh", lambda: self.domain.refresh(conversion))

    def cancel(self, conversion: Conversion) -> None:
        self.domain.cancel(conversion)

    def revoke(self, start: int, end: int) -> None:
        self._in("refresh", lambda: self.domain.revoke(start, end))

    def _in(self, section: Section, do: Callable[[], T]) -> T:
        self.section = section
        return do()


@contextmanager
def recording(stage: "Stage", domain: Domain) -> Iterator[Recording]:
    """A recording of a domain, for as long as the context lasts."""
    taken = Recording(domain)
    notifiers = stage.guest.notifiers
    at = notifiers.index(domain)
    between = domain.executor.between
    notifiers[at] = taken
    domain.executor.between = taken.take
    try:
        yield taken
    finally:
        notifiers[at] = domain
        domain.executor.between = between


def recorded(stage: "Stage", domain: Domain, do: Callable[[], None], *, gone: tuple[int, int] | None = None) -> Subject:
    """What a domain did for something that is no conversion; ``gone``: guest memory that is truncated."""
    truth = Truth.of(stage.guest, domain.default_attrs)
    owners = domain.owners.copy()
    with recording(stage, domain) as taken:
        taken.section = "isolate"
        do()
    if gone is not None:
        truth = truth.without(*gone)
    return stage.subject(domain, truth, taken.steps, memory=taken.before, owners=owners)

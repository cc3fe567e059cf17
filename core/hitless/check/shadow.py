"""Memory as a walker may read it while a plan runs: what stood there, what the plan filled in, what it stored.

A store is readable at once and *settles* later: until then the older values are readable too. Tables are read as the
runs that the plan fills them with, so that the cost does not grow with the size of tables.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from attrs import define, field

from hitless.bits import MASK64, U64Array
from hitless.plan import Clean, Fill, FillRun, Section, Step

_FEW = 4
"""So many entries are looked up one by one: a row of them would cost more to find."""


class Words(Protocol):
    """Memory that is only read."""

    def load(self, pa: int) -> int:
        """The word at an address."""
        ...

    def view(self, pa: int, count: int) -> U64Array:
        """The words from an address on."""
        ...


class Group(NamedTuple):
    """``entries`` entries of a table from index ``at`` on: ``first``, ``first + increment``, ... modulo 2**64."""

    at: int
    entries: int
    first: int
    increment: int


@define(eq=False)
class Filled:
    """A table that the plan fills; ``settled`` False: what stood there before is readable too."""

    pa: int
    size_lg2: int
    runs: list[FillRun]
    words: dict[int, int]
    settled: bool = False
    cleaned: bool = False

    @classmethod
    def of(cls, fill: Fill) -> "Filled":
        return cls(fill.pa, fill.size_lg2, sorted(fill.runs), dict(fill.overrides))

    def load(self, pa: int) -> int:
        word = self.words.get(pa)
        if word is not None:
            return word
        at = bisect_right(self.runs, (pa, MASK64, 0, 0)) - 1
        if at >= 0:
            run = self.runs[at]
            index = (pa - run.pa) >> 3
            if index < run.entries:
                return (run.first + index * run.increment) & MASK64
        return 0


@define(eq=False)
class Shadow:
    """The words of one run of a plan.

    Args:
        memory: as it is before the plan.
        coherent: walkers snoop, so that a store settles at a barrier without a Clean.
    """

    memory: Words
    coherent: bool
    _grain: int
    _fills: dict[int, Filled] = field(factory=dict)
    _stored: dict[int, int] = field(factory=dict)
    _by_page: dict[int, dict[int, int]] = field(factory=dict)
    _unsettled: dict[int, list[bool]] = field(factory=dict)

    @classmethod
    def over(cls, memory: Words, steps: Sequence[tuple[Section, Step]], *, coherent: bool) -> "Shadow":
        """A shadow for one plan: its smallest table decides how fine tables are looked up."""
        sizes = [step.size_lg2 for _, step in steps if isinstance(step, Fill)]
        return cls(memory, coherent, min([12, *sizes]))

    # -- writing

    def fill(self, fill: Fill) -> Filled:
        """Take a Fill in; what it does not name is 0."""
        filled = Filled.of(fill)
        for key in range(fill.pa >> self._grain, fill.pa + (1 << fill.size_lg2) >> self._grain):
            self._fills[key] = filled
            for pa in self._by_page.pop(key, ()):
                self._stored.pop(pa, None)
        return filled

    def store(self, pa: int, word: int) -> int:
        """Store a word that walkers may read from now on; what stood there stays readable until it settles."""
        old = self.load(pa)
        self._unsettled.setdefault(pa, []).append(self.coherent)
        self._stored[pa] = word
        self._by_page.setdefault(pa >> self._grain, {})[pa] = word
        return old

    def clean(self, step: Clean) -> None:
        """What lies in the range is pushed out of the CPU's cache."""
        end = step.pa + step.size
        inside = range(step.pa, end, 8) if step.size <= 64 else [pa for pa in self._unsettled if step.pa <= pa < end]
        for pa in inside:
            if pa in self._unsettled:
                self._unsettled[pa] = [True] * len(self._unsettled[pa])
        key = step.pa >> self._grain
        while key << self._grain < end:
            filled = self._fills.get(key)
            if filled is not None and step.pa <= filled.pa and filled.pa + (1 << filled.size_lg2) <= end:
                filled.cleaned = True
            key += 1

    def barrier(self) -> list[tuple[int, int]]:
        """Stores and fills settle: the addresses of the stores, and how many to each, oldest first."""
        ready = []
        for pa, cleaned in list(self._unsettled.items()):
            if count := sum(cleaned):
                ready.append((pa, count))
                self._unsettled[pa] = cleaned[count:]
                if not self._unsettled[pa]:
                    del self._unsettled[pa]
        for filled in self._fills.values():
            filled.settled = filled.settled or self.coherent or filled.cleaned
        return ready

    # -- reading

    def load(self, pa: int) -> int:
        """The latest word."""
        word = self._stored.get(pa)
        if word is not None:
            return word
        filled = self._fills.get(pa >> self._grain)
        return self.memory.load(pa) if filled is None else filled.load(pa)

    def filled(self, table_pa: int) -> Filled | None:
        """The Fill that made a table."""
        return self._fills.get(table_pa >> self._grain)

    def groups(self, table_pa: int, size_lg2: int, first: int, last: int) -> Iterator[Group]:
        """Entries ``first`` to ``last`` of a table as runs, in order, empty ones included."""
        if last - first < _FEW:
            for index in range(first, last + 1):
                yield Group(index, 1, self.load(table_pa + 8 * index), 0)
            return
        special = {
            (pa - table_pa) >> 3: word
            for key in range(table_pa >> self._grain, (table_pa + (1 << size_lg2) - 1 >> self._grain) + 1)
            for pa, word in self._by_page.get(key, {}).items()
            if table_pa <= pa < table_pa + (1 << size_lg2)
        }
        filled = self.filled(table_pa)
        if filled is not None:
            for pa, word in filled.words.items():
                special.setdefault((pa - table_pa) >> 3, word)
            plain = _filled_runs(filled, table_pa)
        else:
            plain = _memory_runs(self.memory, table_pa, first, last)
        yield from _merged(plain, special, first, last)


def _filled_runs(filled: Filled, table_pa: int) -> Iterator[Group]:
    for run in filled.runs:
        yield Group((run.pa - table_pa) >> 3, run.entries, run.first, run.increment if run.entries > 1 else 0)


def _memory_runs(memory: Words, table_pa: int, first: int, last: int) -> Iterator[Group]:
    """Words of memory, three and more in a line as one run."""
    words = memory.view(table_pa + 8 * first, last - first + 1).copy()
    steps = words[1:] - words[:-1]
    ends = np.append(np.flatnonzero(steps[1:] != steps[:-1]) + 1, len(words) - 1).tolist()
    at = position = 0
    while at < len(words):
        while ends[position] <= at and position + 1 < len(ends):
            position += 1
        count = ends[position] - at + 1
        if count >= 3:
            yield Group(first + at, count, int(words[at]), int(steps[at]))
            at += count
        else:
            yield Group(first + at, 1, int(words[at]), 0)
            at += 1


def _merged(plain: Iterator[Group], special: dict[int, int], first: int, last: int) -> Iterator[Group]:
    """Runs with single words in place of some of their entries, and gaps as runs of 0."""
    at = first
    singles = sorted(index for index in special if first <= index <= last)
    position = 0

    def emit(stop: int, group: Group | None) -> Iterator[Group]:
        """Entries ``at`` to ``stop``: of a group, or 0, but for the single words."""
        nonlocal at, position
        while at <= stop:
            single = singles[position] if position < len(singles) else last + 1
            if single == at:
                yield Group(at, 1, special[at], 0)
                at += 1
                position += 1
                continue
            end = min(stop, single - 1)
            if group is None:
                yield Group(at, end - at + 1, 0, 0)
            else:
                word = (group.first + (at - group.at) * group.increment) & MASK64
                yield Group(at, end - at + 1, word, group.increment if end > at else 0)
            at = end + 1

    for group in plain:
        if group.at > last:
            break
        if group.at + group.entries <= first:
            continue
        yield from emit(min(group.at - 1, last), None)
        yield from emit(min(group.at + group.entries - 1, last), group)
    yield from emit(last, None)

"""One request planned twice, entry by entry and on columns, in two memories that begin alike; and random requests.

What the two must agree on is told in words that neither path makes: what memory holds, which tables lie where, which
entries each round stores to, which commands close it.
"""

import random
from itertools import groupby, pairwise

import attrs
import numpy as np

from hitless.columns import Ranges
from hitless.errors import HitlessError
from hitless.memory import Arena, PageAllocator
from hitless.pagetable import READ, WRITE
from hitless.plan import Clean, Fill, Release, Store, singles
from hitless.refresh.assemble import Assembler, UnitPort
from hitless.refresh.executor import Executor
from hitless.refresh.planner import Planner
from hitless.refresh.target import PlanRequest, Segment, Segments

BASE = 0x1000_0000


class Port:
    """A unit that answers at once and keeps what it was told."""

    fenced = held = False

    def __init__(self, name):
        self.name, self.told = name, []

    def submit(self, words):
        self.told.append(tuple(words))

    def complete(self):
        self.told.append("wait")


class Space:
    """One address space in memory of its own; ``columns``: planned on columns whatever its size."""

    def __init__(self, fmt, rules, recipes, units, *, columns, size, coherent=True, allow_break=True):
        self.arena = Arena(BASE, size)
        self.tables = PageAllocator(self.arena, BASE, size)
        self.assembler = Assembler(fmt, rules, recipes, units, coherent, allow_break, "test")
        root = self.tables.allocate(max(3, fmt.top.table_lg2))
        few = {"batch_ranges": 0} if columns else {"batch_ranges": 1 << 62, "batch_pages": 1 << 62}
        self.planner = Planner(self.arena, self.tables, self.assembler, root, **few)
        self.ports = {unit.name: Port(unit.name) for unit in units}
        self.executor = Executor(self.arena, self.tables, self.ports, None)

    @property
    def words(self):
        return self.arena.view(self.arena.base, self.arena.size // 8)

    def run(self, prepared):
        """All of a plan, batches as they are."""
        self.executor.run(prepared.plan.all())


def told(prepared):
    """What a plan does, without the order inside a round, and without how fills are written down."""
    found = []
    for name in ("prepare", "isolate", "own", "refresh"):
        for kind, steps in groupby(singles(prepared.plan.section(name)), _kind):
            found.append((name, kind, sorted(_told(kind, list(steps)))))
    return found


def _kind(step):
    return {Store: "store", Fill: "fill", Clean: "store"}.get(type(step), step)


def _told(kind, steps):
    if kind == "fill":
        return [each for step in steps for each in _filled(step)]
    if kind == "store":
        return [each for step in steps for each in (_stored(step) if isinstance(step, Store) else _cleaned(step))]
    if isinstance(kind, Release):
        return [(repr(list(kind.tables)), repr(kind.fold))]
    return [repr(kind)]


def _filled(step):
    """Every word that is not 0 of a table."""
    words = {}
    for pa, entries, first, increment in step.runs:
        words.update({pa + 8 * i: first + i * increment & (1 << 64) - 1 for i in range(entries)})
    words.update(step.overrides)
    return [(step.pa, step.size_lg2), *sorted((pa, word) for pa, word in words.items() if word)]


def _stored(step):
    folds = sorted(pa + 8 * i for pa, count in step.fold for i in range(count))
    return [("store", step.what, step.level, step.pa, step.expected, step.new, step.hardware, step.iova, *folds)]


def _cleaned(step):
    return [("clean", at) for at in range(step.pa, step.pa + step.size, 8)]


class Memory:
    """What an address space maps: where from, to what, with which attributes; edges may lie where nothing changes."""

    def __init__(self, spans):
        self.spans = spans

    def layout(self, start, end):
        """The layout of a range, as the planner asks for it."""
        at = start
        for low, high, oa, attributes in self.spans:
            a, b = max(low, at), min(high, end)
            if a >= b:
                continue
            if at < a:
                yield Segment(at, a, None, 0)
            yield Segment(a, b, None if oa is None else oa + a - low, attributes if oa is not None else 0)
            at = b
        if at < end:
            yield Segment(at, end, None, 0)

    def segments(self, start, end):
        """The same as columns."""
        return Segments.of(self.layout(start, end))


class Random:
    """Random memories, ranges and requests for one format, inside a window of its address space."""

    def __init__(self, fmt, rng, *, base=0, size=1 << 31):
        self.fmt, self.rng, self.base, self.size = fmt, rng, base, size
        self.page = 1 << fmt.levels[0].lo
        self.sizes = sorted({level.lo for level in fmt.levels if 1 << level.lo <= size})
        high = fmt.canonical(base + size - 1)
        self.base = fmt.canonical(base)
        assert high - self.base == size - 1
        self.attrs = [fmt.default_attrs(READ | WRITE), fmt.default_attrs(READ)]

    def cut(self):
        """A sorted list of edges: some at the edges of large leaves, some anywhere."""
        rng, edges = self.rng, {0, self.size}
        for _ in range(rng.randrange(1, 12)):
            lg2 = rng.choice(self.sizes)
            at = rng.randrange(self.size >> lg2) << lg2
            edges |= {at, min(self.size, at + (rng.randrange(1, 4) << rng.choice(self.sizes)))}
        for _ in range(rng.randrange(8)):
            at = rng.choice(sorted(edges)) + rng.randrange(-3, 4) * self.page
            if 0 <= at < self.size:
                edges |= {at, at + self.page}
        return sorted(edges)

    def memory(self, like=None):
        """A memory; ``like``: much of it as in another."""
        rng, spans = self.rng, []
        edges = self.cut()
        if like is not None:
            edges = sorted({*edges, *(edge - self.base for low, high, *_ in like.spans for edge in (low, high))})
        shift = rng.choice([0, 1 << 40, 5 << self.sizes[-1], 1 << self.sizes[len(self.sizes) // 2]])
        for low, high in pairwise(edges):
            old = next(iter(like.layout(self.base + low, self.base + high))) if like else None
            oa, attributes = self._target(low, high, shift)
            if old is not None and rng.random() < 0.6:
                oa, attributes = old.oa, old.attrs
            spans.append((self.base + low, self.base + high, oa, attributes))
        return Memory(self._joined(spans) if rng.random() < 0.7 else spans)

    def _target(self, low, high, shift):
        """Where a span leads: nowhere, to its own addresses, or anywhere, which large spans need many leaves for."""
        rng = self.rng
        kind = rng.random() if high - low <= 1024 * self.page else rng.random() * 0.7
        if kind < 0.25:
            return None, 0
        away = 0 if kind < 0.7 else rng.randrange(64) << rng.choice(self.sizes)
        oa = (self.base + low + shift + away) & ((1 << min(self.fmt.oa_bits, 44)) - 1)
        return oa & -self.page, self.attrs[rng.random() < 0.2]

    @staticmethod
    def _joined(spans):
        found = []
        for low, high, oa, attributes in spans:
            if found and found[-1][1] == low:
                a, _, to, had = found[-1]
                if (oa is None and to is None) or (None not in (oa, to) and to + low - a == oa and had == attributes):
                    found[-1] = (a, high, to, had)
                    continue
            found.append((low, high, oa, attributes))
        return found

    def ranges(self, memory):
        """Sorted, disjoint ranges: edges of a memory, single pages, all of it."""
        rng = self.rng
        edges = sorted({*self.cut(), *(edge - self.base for low, high, *_ in memory.spans for edge in (low, high))})
        found = [
            (self.base + low, self.base + high)
            for low, high in pairwise(edges)
            if rng.random() < rng.choice([0.2, 0.8])
        ]
        return found or [(self.base, self.base + self.size)]

    def request(self, memory, ranges, *, columns, **how):
        """The same request for either path."""
        segments = memory.segments if columns else None
        given = Ranges.of(ranges) if columns else tuple(ranges)
        return PlanRequest(given, memory.layout, segments=segments, **how)

    def mark(self, arenas, root):
        """A and D in some leaves, alike in all memories: what walkers do."""
        leaves = [
            (pa + 8 * i, level.number)
            for level, _, pa, words in _tables(arenas[0], self.fmt, root)
            for i in np.flatnonzero(words).tolist()
            if self.fmt.present(int(words[i])) and self.fmt.is_leaf(int(words[i]), level.number)
        ]
        for pa, number in self.rng.sample(leaves, min(len(leaves), 5)):
            bits = self.fmt.hardware_set(number) & ~self.fmt.hardware_clears(number) & self.rng.getrandbits(64)
            for arena in arenas:
                arena.store(pa, arena.load(pa) | bits)


def _tables(arena, fmt, root):
    pending = [(fmt.top.number, root)]
    while pending:
        number, pa = pending.pop()
        level = fmt.levels[number]
        words = arena.view(pa, 1 << level.bits)
        yield level, 0, pa, words
        pending += [
            (number - 1, int(fmt.table_pa(word)))
            for word in words[words != 0].tolist()
            if fmt.present(word) and not fmt.is_leaf(word, number)
        ]


def plain_sizes(fmt, sizes):
    """Sizes without runs."""
    return tuple(lg2 for lg2 in sizes if not fmt.leaf_size(lg2).entries_lg2)


def both_plan(pair, make, request, memory, ranges, **how):
    """Both paths plan one request: what each prepared, or the error that it raised."""
    found = []
    for space, columns in zip(pair, (False, True), strict=True):
        try:
            found.append(space.planner.plan("test", make.request(memory, ranges, columns=columns, **how)))
        except HitlessError as error:
            found.append(error)
    return found


def units_of(encoder, *, ats=True):
    """Two units, one with a device that caches for itself."""
    return UnitPort("iommu0", 3, encoder, (5,) if ats else ()), UnitPort("iommu1", 7, encoder)


def alike(pair):
    """Both memories hold the same, and both allocators give the same from here on."""
    one, other = pair
    assert one.tables.state() == other.tables.state()
    assert np.array_equal(one.words, other.words)


__all__ = ["Memory", "Random", "Space", "alike", "attrs", "both_plan", "plain_sizes", "random", "told", "units_of"]

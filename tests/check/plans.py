"""Random plans on small tables: those that a planner could have made, and the same with mistakes in them.

``draw(seed, mutated)`` gives a case; the same seed gives the same case. What is drawn obeys the steps' contracts (a
Fill goes into fresh tables, a Store expects what memory holds); everything else may be wrong in a mutated plan.
"""

import random
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

from attrs import define, evolve, field

from check import mini
from check.mini import PAGE, POOLS, Case, Facts
from check.mistakes import MISTAKES
from hitless.hardware.facts import Match
from hitless.plan import Barrier, Call, Clean, Fill, Invalidate, Own, Release, Section, Step, Store, Wait
from hitless.plan.steps import FillRun

Steps: TypeAlias = list[tuple[Section, Step]]
_MOST_PENDING = 5
_CALLS, _CALLED = 0.25, Store | Own | Invalidate | Wait
_ROOT, _TABLE_STRIDE = 0x1000, 0x100


def draw(seed: int, *, mutated: bool) -> Case:
    """A random case."""
    rng = random.Random(seed)
    while True:
        draft = Draft(rng, _facts(rng))
        draft.make()
        case = draft.case
        case.steps = list(as_memory_stands(case))
        if mutated:
            for _ in range(rng.choice((1, 1, 2, 3))):
                rng.choice(MISTAKES)(rng, case)
            case.steps = list(as_memory_stands(case))
        if _most_pending(case.steps) <= _MOST_PENDING:
            if rng.random() < _CALLS:
                case.steps = list(called(rng, case.steps))
            return case


def _facts(rng: random.Random) -> Facts:
    def often(chance: float) -> bool:
        return rng.random() < chance

    return Facts(
        bits=rng.choice(((1, 1), (1, 1, 1), (1, 1, 1), (1, 1, 1), (2, 1), (2, 1), (1, 2), (2, 2))),
        coherent=often(0.7),
        pieces=rng.choice(((), (), (12,), (13,), (12, 13), (12, 14))),
        leaf_match=rng.choice(list(Match)),
        table_match=rng.choice((Match.PIECE_OVERLAPS, Match.PIECE_OVERLAPS, Match.PIECE_INSIDE)),
        caches_not_present=often(0.3),
        atc_in_order=often(0.5),
        drains_reads=often(0.8),
        drains_writes=often(0.8),
        drains_in_command=often(0.3),
        verdict_cached=often(0.5),
        verdict_unit=rng.choice(("page", "two", "entry")),
        same_size=often(0.2),
    )


class Entry(NamedTuple):
    """A reachable entry: where it lies, its level, the first IOVA that it translates, its word."""

    pa: int
    level: int
    start: int
    word: int


class Change(NamedTuple):
    """Stores; what is to be invalidated then: first and last page, pointers too, level; tables that are free then."""

    stores: list[tuple[Entry, int]]
    target: tuple[int, int, bool, int] | None
    tables: tuple[tuple[int, int], ...] = ()
    kind: str = "replace"


@define
class Draft:
    """A case in the making; ``now`` is memory as the steps so far leave it."""

    rng: random.Random
    facts: Facts
    case: Case = field(init=False)
    now: dict[int, int] = field(factory=dict)
    free: int = _ROOT

    def make(self) -> None:
        """Draw tables, owners, units and the rounds of a plan."""
        rng = self.rng
        root, words = self.table(len(self.facts.bits) - 1, 0)
        self.now = dict(words)
        units = rng.choice(
            (
                [("u0", 1, ())],
                [("u0", 1, ())],
                [("u0", 0x11, (7,))],
                [("u0", 1, (7,)), ("u1", 2, ())],
                [("u0", 0x12, ()), ("u0", 0x13, ())],
                [("u0", 1, (7, 8))],
            )
        )
        self.case = Case(self.facts, dict(words), root, tuple(units), trusted=rng.random() < 0.3)
        for page in range(self.facts.pages):
            for pool in POOLS:
                if rng.random() < 0.15:
                    self.case.owners[pool + page * PAGE] = (1, 12)
        for _ in range(rng.choice((1, 2, 2, 3, 4))):
            if rng.random() < 0.25:
                self.own()
            else:
                self.round([self.change() for _ in range(rng.choice((1, 1, 2, 3)))])

    # -- tables

    def table(self, level: int, start: int, like: int | None = None) -> tuple[int, list[tuple[int, int]]]:
        """A new table: its address, and all words of it and of those below it. ``like``: cut that leaf."""
        pa, words = self.free, []
        self.free += _TABLE_STRIDE
        lo, count = self.facts.lo(level), 1 << self.facts.bits[level]
        run = count > 2 and self.rng.random() < 0.3
        for index in range(count):
            at = start + (index << lo)
            if like is not None:
                word = (like & ~mini.N) + (index << lo)
            elif run and index & 1:
                word = words[-1][1]
            else:
                word, below = self.entry(level, at, run=run)
                words += below
            words.append((pa + 8 * index, word))
        return pa, words

    def entry(self, level: int, start: int, *, run: bool = False) -> tuple[int, list[tuple[int, int]]]:
        """A random entry, and the words of new tables below it."""
        draw = self.rng.random()
        if run:
            return self.leaf(level, start) | mini.N, []
        if draw < 0.15:
            return 0, []
        if level and draw < 0.6:
            table, words = self.table(level - 1, start)
            return self.pointer(table), words
        return self.leaf(level, start), []

    def leaf(self, level: int, start: int) -> int:
        rng = self.rng
        bits = rng.choice((mini.RW,) * 6 + (mini.R, mini.RW | mini.U, mini.RW | mini.M))
        size = 2 << self.facts.lo(level)  # room for a run
        return mini.leaf(rng.choice(POOLS) // size * size + start, bits)

    def pointer(self, table: int) -> int:
        return mini.pointer(table, self.rng.choice((mini.RW,) * 8 + (mini.R,)))

    def entries(self) -> Iterator[Entry]:
        """All reachable entries."""
        pending = [(self.case.root, len(self.facts.bits) - 1, 0)]
        while pending:
            table, level, start = pending.pop()
            for index in range(1 << self.facts.bits[level]):
                pa = table + 8 * index
                entry = Entry(pa, level, start + (index << self.facts.lo(level)), self.now.get(pa, 0))
                yield entry
                if entry.word & 3 == 1:
                    pending.append((_table_of(entry.word), level - 1, entry.start))

    def below(self, entry: Entry) -> list[tuple[int, int]]:
        """All tables that an entry leads to, with their sizes."""
        if entry.word & 3 != 1:
            return []
        table, lo, bits = _table_of(entry.word), self.facts.lo(entry.level - 1), self.facts.bits[entry.level - 1]
        found = [(table, bits + 3)]
        for index in range(1 << bits):
            pa = table + 8 * index
            found += self.below(Entry(pa, entry.level - 1, entry.start + (index << lo), self.now.get(pa, 0)))
        return found

    # -- changes of entries

    def change(self) -> Change:
        """Something legal to do to a random entry: what it holds says what."""
        entries = list(self.entries())
        entry = self.rng.choices(entries, [3 if entry.word & 3 == 1 else 1 for entry in entries])[0]
        if not entry.word:
            return self.place(entry, "map")
        if not entry.word & mini.L:
            return self.rng.choice((self.merge, self.prune, self.relink))(entry)
        if entry.word & mini.N:
            return self.split_run(entry)
        kinds = [self.replace, self.wipe] + [self.cut] * 3 * bool(entry.level)
        return self.rng.choice(kinds)(entry)

    def span(self, entry: Entry, lg2: int | None = None) -> tuple[int, int]:
        """First and last page of an entry, or of a larger block around it."""
        lg2 = lg2 or self.facts.lo(entry.level)
        return (entry.start >> lg2 << lg2) >> 12, ((entry.start >> lg2) + 1 << lg2) - 1 >> 12

    def place(self, entry: Entry, kind: str) -> Change:
        """Into an empty entry: a leaf, or a table."""
        target = (*self.span(entry), False, entry.level) if self.facts.caches_not_present else None
        if entry.level and self.rng.random() < 0.5:
            return Change([(entry, self.fill(entry.level - 1, entry.start))], target, kind=kind)
        return Change([(entry, self.leaf(entry.level, entry.start))], target, kind=kind)

    def replace(self, entry: Entry) -> Change:
        word = self.leaf(entry.level, entry.start)
        return Change([(entry, word)], (*self.span(entry), False, entry.level))

    def wipe(self, entry: Entry) -> Change:
        return Change([(entry, 0)], (*self.span(entry), False, entry.level), kind="wipe")

    def cut(self, entry: Entry) -> Change:
        word = self.fill(entry.level - 1, entry.start, like=entry.word)
        return Change([(entry, word)], (*self.span(entry), False, entry.level), kind="cut")

    def merge(self, entry: Entry) -> Change:
        """The leaf that continues the first one below, or any."""
        below = self.now.get(_table_of(entry.word), 0)
        size = 1 << self.facts.lo(entry.level)
        oa = below >> 12 << 12
        same = below & 3 == 3 and not below & mini.N and oa % size == 0
        word = mini.leaf(oa, below & 0x3C) if same else self.leaf(entry.level, entry.start)
        return Change([(entry, word)], (*self.span(entry), True, entry.level), tuple(self.below(entry)), "merge")

    def prune(self, entry: Entry) -> Change:
        return Change([(entry, 0)], (*self.span(entry), True, entry.level), tuple(self.below(entry)), "prune")

    def relink(self, entry: Entry) -> Change:
        """Another table in place of the one that is linked."""
        word = self.fill(entry.level - 1, entry.start)
        return Change([(entry, word)], (*self.span(entry), True, entry.level), tuple(self.below(entry)), "replace")

    def split_run(self, entry: Entry) -> Change:
        """Both entries of a run become leaves of their own."""
        lo = self.facts.lo(entry.level)
        pair = [each for each in self.entries() if each.pa & ~15 == entry.pa & ~15]
        stores = [(each, (each.word & ~mini.N) + (each.start & 1 << lo)) for each in pair]
        return Change(stores, (*self.span(entry, lo + 1), False, entry.level), kind="cut")

    # -- steps

    def add(self, *steps: Step) -> None:
        own = any(isinstance(step, Own) for _, step in self.case.steps)
        for step in steps:
            section: Section = "own" if isinstance(step, Own) else "refresh" if own else "isolate"
            self.case.steps.append((section, step))

    def fill(self, level: int, start: int, like: int | None = None) -> int:
        """Fill a new table, and those below it; the pointer to it."""
        table, words = self.table(level, start, like)
        self.now.update(words)
        by_table: dict[int, list[tuple[int, int]]] = {}
        for pa, word in words:
            by_table.setdefault(pa // _TABLE_STRIDE * _TABLE_STRIDE, []).append((pa, word))
        for pa, entries in by_table.items():
            size_lg2 = len(entries).bit_length() + 2
            if like is not None:
                step = Fill(pa, size_lg2, [FillRun(pa, len(entries), entries[0][1], entries[1][1] - entries[0][1])])
                if self.rng.random() < 0.2:  # an override
                    step.overrides.append((entries[-1][0], 0))
                    self.now[entries[-1][0]] = 0
            else:
                step = Fill(pa, size_lg2, overrides=[(at, word) for at, word in entries if word])
            self.add(step)
            if not self.facts.coherent:
                self.add(Clean(pa, 1 << size_lg2))
        self.add(Barrier())
        return self.pointer(table)

    def store(self, entry: Entry, word: int, kind: str) -> None:
        self.add(Store(entry.pa, 0, word, 0, kind, entry.level, entry.start))
        self.now[entry.pa] = word
        if not self.facts.coherent:
            self.add(Clean(entry.pa, 8))

    def round(self, changes: list[Change]) -> None:
        """The stores of all changes, what closes them, and what is free then; perhaps by break-before-make."""
        rng = self.rng
        touched = Counter(entry.pa & ~(_TABLE_STRIDE - 1) for change in changes for entry, _ in change.stores)
        if max(touched.values()) > 2 or any(table in touched for change in changes for table, _ in change.tables):
            changes = changes[:1]  # two changes of one place: the second was made from what the first takes away
        if len({entry.pa for change in changes for entry, _ in change.stores}) < sum(len(c.stores) for c in changes):
            changes = changes[:1]
        broken = rng.random() < 0.25
        for change in changes:
            for entry, word in change.stores:
                self.store(entry, 0 if broken else word, change.kind)
        self.add(Barrier())
        self.close([change.target for change in changes if change.target])
        if broken:
            for change in changes:
                for entry, word in change.stores:
                    self.store(entry, word, change.kind)
            self.add(Barrier())
            if self.facts.caches_not_present:
                self.close([change.target for change in changes if change.target])
        tables = [table for change in changes for table in change.tables]
        if tables and rng.random() < 0.8:
            self.add(Release(tables))

    def close(self, targets: list[tuple[int, int, bool, int]]) -> None:
        """Invalidate on every unit and device, and wait."""
        if not targets:
            return
        rng = self.rng
        drains = mini.DRAIN_READS | mini.DRAIN_WRITES
        late = not self.facts.atc_in_order
        names = sorted({name for name, _, _ in self.case.units})
        later: list[Step] = []
        if len(targets) > 1 and rng.random() < 0.3:
            targets = [(min(t[0] for t in targets), max(t[1] for t in targets), any(t[2] for t in targets), -1)]
        if whole := rng.random() < 0.1:
            targets = [(0, self.facts.pages - 1, True, -1)]
        for name, tag, devices in self.case.units:
            for first, last, tables, level in targets:
                bits = mini.LEAVES | drains | mini.POINTERS * (tables or whole or rng.random() < 0.2)
                of = tag
                if not whole and not tables and level >= 0 and rng.random() < 0.3:
                    bits |= 1 << 10 + level
                if rng.random() < 0.15:
                    bits, of = bits | rng.choice((mini.ANY_TAG, mini.DOMAIN)), tag ^ 3
                self.add(self.command(name, tag, first, last, of, bits))
            for device in devices:
                for first, last, _, _ in targets:
                    bits = mini.LEAVES | mini.DEVICE | drains
                    later.append(self.command(name, tag, first, last, device, bits))
            if not late:
                self.add(*later)
                later = []
        self.add(*map(Wait, names))
        if later:
            self.add(*later, *map(Wait, names))

    @staticmethod
    def command(name: str, tag: int, first: int, last: int, of: int, bits: int) -> Invalidate:
        return Invalidate(name, tag, mini.drop(first, last, of, bits), first * PAGE, last * PAGE + PAGE - 1)

    def own(self) -> None:
        """An owner change of a block that is mapped, its larger entry taken apart first; then invalidate."""
        rng = self.rng
        leaves = [entry for entry in self.entries() if entry.word & 3 == 3]
        if not leaves:
            return
        entry = rng.choice(leaves)
        lg2 = rng.choice([size for size in (12, 13, 14) if size <= self.facts.lo(entry.level)])
        pa = (entry.word & 0xFFFFFFFFFF000) + (rng.randrange(1 << self.facts.lo(entry.level) - lg2) << lg2)
        block = range(pa, pa + (1 << lg2), PAGE)
        owners = dict(self.case.owners)
        for _, step in self.case.steps:
            if isinstance(step, Own):
                owners.update(dict.fromkeys(range(step.start_pa, step.end_pa, PAGE), (step.owner, step.size_lg2)))
        for page in block:
            owner, size = owners.get(page, (0, 12))
            if size > 12:
                start = page >> size << size
                self.add(Own("SMASH", start, start + (1 << size), owner, 12))
                owners.update(dict.fromkeys(range(start, start + (1 << size), PAGE), (owner, 12)))
        size, drops = rng.choice((12, lg2)), rng.choice(("none", "none", "iotlb", "iotlb+atc"))
        self.add(Own("SET", pa, pa + (1 << lg2), rng.choice((0, 1)), size, drops))
        if rng.random() < 0.8:
            self.close([(*self.span(entry), False, entry.level)])


def _table_of(word: int) -> int:
    return word & 0xFFFFFFFFFFF00


def as_memory_stands(case: Case) -> Iterator[tuple[Section, Step]]:
    """The steps, each store expecting what memory holds by then."""
    now = dict(case.words)
    for section, step in case.steps:
        if isinstance(step, Fill):
            for run in step.runs:
                now.update({run.pa + 8 * n: run.first + n * run.increment for n in range(run.entries)})
            now.update(step.overrides)
        if isinstance(step, Store):
            yield section, evolve(step, expected=now.get(step.pa, 0))
            now[step.pa] = step.new
        else:
            yield section, step


def called(rng: random.Random, steps: Steps) -> Iterator[tuple[Section, Step]]:
    """The steps with some of them, side by side in one section, made by calls."""
    at = 0
    while at < len(steps):
        section, effects, end = steps[at][0], list[Step](), at
        held = rng.random() < 0.7
        kinds = (Store, Own, Invalidate, Wait, *(() if held else (Clean, Barrier)))
        while end < len(steps) and steps[end][0] == section and isinstance(steps[end][1], kinds):
            effects.append(steps[end][1])
            end += 1
        many = rng.randint(1, max(len(effects), 1))
        if effects and rng.random() < 0.5:
            yield section, Call("DO", 0, PAGE, list(_in_order(effects[:many])) if held else effects[:many], held)
        else:
            many = max(1, min(many, len(effects)))
            yield from steps[at : at + many]
        at += many


def _in_order(effects: list[Step]) -> Iterator[Step]:
    """As a call that holds requests has them: each entry is stored to once, what was cached goes, an owner changes."""
    yield from {each.pa: each for each in effects if isinstance(each, Store)}.values()
    yield from (each for each in effects if isinstance(each, Invalidate))
    yield from {each.unit: each for each in effects if isinstance(each, Wait)}.values()
    yield from [each for each in effects if isinstance(each, Own)][:1]


def _most_pending(steps: Steps) -> int:
    """The most commands that are pending in any unit."""
    most, pending = 0, Counter[str]()
    for _, step in steps:
        if isinstance(step, Invalidate):
            pending[step.unit] += 1
            most = max(most, pending[step.unit])
        if isinstance(step, Wait):
            pending[step.unit] = 0
    return most

"""Memory as walkers may read it, the owner table, and what a walk finds: the half of the oracle that decodes words."""

from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

from attrs import define, field

from check.mini import Case
from hitless.plan import Barrier, Clean, Fill, Own, Release, Step, Store

READ, WRITE = False, True
Outcome: TypeAlias = tuple[str, int | str]
"""``("pa", address)`` or ``("fault", kind)``."""


class Pointer(NamedTuple):
    """IOVAs of ``[start, start + 2**lg2)`` go on in a table of ``level``; the root is one that is always there."""

    start: int
    lg2: int
    level: int
    table: int
    rights: int


class Leaf(NamedTuple):
    """A piece of a leaf: ``[start, start + 2**lg2)`` -> ``pa``, None where the entry is not present.

    ``level``, ``whole`` and ``whole_lg2`` tell of the leaf that it was made from.
    """

    start: int
    lg2: int
    pa: int | None
    rights: int
    level: int
    whole: int
    whole_lg2: int

    def pages(self) -> range:
        return range(self.start, self.start + (1 << self.lg2), 4096)


class Found(NamedTuple):
    """What walks that go on at one pointer find there, one entry further."""

    pointers: frozenset[Pointer]
    leaves: frozenset[Leaf]
    faults: frozenset[tuple[int, bool, str]]  # page, write, kind
    freed: frozenset[int]


@define
class _Word:
    """One address: its values from the oldest readable on, and how many of the stores since then were cleaned."""

    values: list[int]
    cleaned: int = 0

    def store(self, value: int, coherent: bool) -> None:
        self.values.append(value)
        if coherent:
            self.clean()

    def clean(self) -> None:
        self.cleaned = len(self.values) - 1

    def barrier(self) -> None:
        del self.values[: self.cleaned]
        self.cleaned = 0


@define
class World:
    """Memory as walkers may read it, and the owner table, at one position of the plan."""

    case: Case
    words: dict[int, _Word] = field(init=False)
    owners: dict[int, tuple[int, int]] = field(init=False)
    released: list[tuple[int, int]] = field(factory=list)
    _seen: dict[Pointer, Found] = field(factory=dict)
    _outcomes: dict[tuple[Leaf, int, bool], Outcome] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        self.words = {pa: _Word([word]) for pa, word in self.case.words.items()}
        self.owners = dict(self.case.owners)

    def step(self, step: Step) -> None:
        """A step of the plan."""
        self._seen, self._outcomes = {}, {}
        match step:
            case Store():
                self._store(step.pa, step.new)
            case Fill():
                new = {run.pa + 8 * n: run.first + n * run.increment for run in step.runs for n in range(run.entries)}
                for pa, value in {**new, **dict(step.overrides)}.items():
                    self._store(pa, value % 2**64)
            case Clean():
                for pa, word in self.words.items():
                    if step.pa <= pa < step.pa + step.size:
                        word.clean()
            case Barrier():
                for word in self.words.values():
                    word.barrier()
            case Own():
                for page in range(step.start_pa, step.end_pa, 4096):
                    self.owners[page] = (step.owner, step.size_lg2)
            case Release():
                self.released += step.tables

    def settle(self, pa: int) -> None:
        """A store by a call that holds requests has settled, and so has all that was ordered before it."""
        self.step(Clean(pa, 8))
        self.step(Barrier())

    def _store(self, pa: int, value: int) -> None:
        self.words.setdefault(pa, _Word([0])).store(value, self.case.facts.coherent)

    # -- moves 1 and 2: walks and hits

    def readable(self, pa: int) -> list[int]:
        """The values that a walk may find at an address."""
        word = self.words.get(pa)
        return word.values if word else [0]

    def look(self, at: Pointer) -> Found:
        """Every walk that goes on at a pointer reads one entry, and finds any of its readable values."""
        if at not in self._seen:
            found = Found(*(set() for _ in Found._fields))
            lo, bits = self.case.facts.lo(at.level), self.case.facts.bits[at.level]
            found.freed.update(pa for pa, lg2 in self.released if pa <= at.table < pa + (1 << lg2))
            for index in range(1 << bits):
                for value in self.readable(at.table + 8 * index):
                    self.entry(at.level, at.start + (index << lo), lo, at.rights, value, found)
            self._seen[at] = Found(*map(frozenset, found))
        return self._seen[at]

    def entry(self, level: int, start: int, lo: int, rights: int, word: int, found: Found) -> None:
        """One entry, first IOVA ``start``, and what it says to each request."""
        facts = self.case.facts
        is_leaf, pages = word & 2, range(start, start + (1 << lo), 4096)
        legal = 0xFFFFFFFFFF07F if facts.bits[level] > 1 else 0xFFFFFFFFFF03F
        if not word & 1:
            found.faults.update((page, write, "not-present") for page in pages for write in (READ, WRITE))
            if facts.caches_not_present:
                whole = Leaf(start, lo, None, 0, level, start, lo)
                found.leaves.update(piece for page in pages for piece in self._pieces(whole, page, lo))
        elif (is_leaf and word & ~legal) or (not is_leaf and (word & ~0xFFFFFFFFFFF0F or level == 0)):
            found.faults.update((page, write, "reserved") for page in pages for write in (READ, WRITE))
        elif not is_leaf:
            found.pointers.add(Pointer(start, lo, level - 1, word & 0xFFFFFFFFFFF00, rights & word))
        else:
            lg2 = lo + (word >> 6 & 1)
            whole = start >> lg2 << lg2
            leaf = Leaf(whole, lg2, word & 0xFFFFFFFFFF000, rights & word, level, whole, lg2)
            for page in pages:
                for write in (READ, WRITE):
                    self._reach(leaf, page, write, found)

    def _reach(self, leaf: Leaf, page: int, write: bool, found: Found) -> None:
        """A request's walk has come to a leaf."""
        assert leaf.pa is not None
        at_most = leaf.lg2
        if not leaf.rights & (8 if write else 4):
            found.faults.add((page, write, "permission"))
            return
        if self.case.facts.verdict_cached:
            granted, at_most = self._verdict(leaf.pa + page - leaf.start, leaf.lg2)
            if not granted:
                found.faults.add((page, write, "owner"))
                return
        found.leaves.update(self._pieces(leaf, page, at_most))

    def _pieces(self, leaf: Leaf, page: int, at_most: int) -> Iterator[Leaf]:
        """What a leaf may be cached as for a page: all that the verdict allows, and the smaller pieces there are."""
        for lg2 in {at_most, *(lg2 for lg2 in self.case.facts.pieces if lg2 < at_most)}:
            start = page >> lg2 << lg2
            yield leaf._replace(start=start, lg2=lg2, pa=None if leaf.pa is None else leaf.pa + start - leaf.start)

    def _verdict(self, pa: int, leaf_lg2: int) -> tuple[bool, int]:
        """The owner check of an access through a leaf: its answer, and the size of the block that it holds for."""
        facts = self.case.facts
        _, entry_lg2 = self.owners.get(pa & ~4095, (0, 12))
        lg2 = min({"page": 12, "two": 13, "entry": entry_lg2}[facts.verdict_unit], leaf_lg2)
        block = range(pa >> lg2 << lg2, (pa >> lg2 << lg2) + (1 << lg2), 4096)
        held = {self.owners.get(page, (0, 12)) for page in block}
        owners = {owner for owner, _ in held}
        if owners == {0}:
            return True, lg2
        fits = not facts.same_size or {size for _, size in held} == {leaf_lg2}
        return self.case.trusted and len(owners) == 1 and fits, lg2

    def outcome(self, leaf: Leaf, page: int, write: bool) -> Outcome:
        """What a request gets that uses a leaf."""
        key = leaf, page, write
        if key not in self._outcomes:
            self._outcomes[key] = self._outcome(leaf, page, write)
        return self._outcomes[key]

    def _outcome(self, leaf: Leaf, page: int, write: bool) -> Outcome:
        if leaf.pa is None:
            return "fault", "not-present"
        if not leaf.rights & (8 if write else 4):
            return "fault", "permission"
        pa = leaf.pa + page - leaf.start
        if not self.case.facts.verdict_cached and not self._verdict(pa, leaf.whole_lg2)[0]:
            return "fault", "owner"
        return "pa", pa

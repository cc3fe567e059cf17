"""Stale facts: what may still be cached though memory no longer holds it; and the links that lead to tables."""

from bisect import bisect_left, insort
from collections.abc import Iterator

from attrs import define, field

from hitless.hardware.facts import Drops, Match
from hitless.units import align_down, align_up

OPEN = 1 << 62
"""``until`` of what memory still holds."""


@define(eq=False)
class Window:
    """When memory held something: until the step ``until``, or still."""

    until: int = OPEN


@define(eq=False)
class Link:
    """A table pointer that may be readable, or cached.

    Args:
        entry_pa, level: the entry.
        start, span_lg2: IOVAs that go through it.
        child: the table that it points to; ``child_level`` its level.
        rights: of the walk up to and with it.
        window: until when memory held it.
        alive: the units (bits) whose walk caches may hold it.
        born: the step that made it stale.
        overwritten: its entry was; memory may hold the same word again, by another link.
    """

    table_pa: int
    entry_pa: int
    level: int
    start: int
    span_lg2: int
    child: int
    child_level: int
    rights: int
    word: int
    alive: int
    born: int = -1
    stale: bool = False
    overwritten: bool = False
    window: Window = field(factory=Window)

    @property
    def end(self) -> int:
        return self.start + (1 << self.span_lg2)

    def targeted(self, drops: Drops) -> bool:
        """Whether a command targets it."""
        if not drops.tables:
            return False
        if drops.table_match is Match.PIECE_INSIDE:
            return drops.first <= self.start and self.end - 1 <= drops.last
        return self.start <= drops.last and drops.first < self.end


@define(eq=False)
class Held:
    """Equal leaves in a row, ``[start, end)``, linear in address, that may be cached though memory holds them no more.

    Args:
        leaf_lg2, piece_lg2: size of each leaf, and of the pieces that are cached.
        kind: ``""``, or the kind of fault of a cached not-present entry.
        table_pa: the table that held the entries.
        window: until when a walk could still read them; shared by the parts of one fact.
        alive: where: see :class:`hitless.check.engine.Places`.
        stable: whether it can be cached, and conflict.
        flown: only in flight: the owner check would not grant it any more.
        born, word: the step that took it away, and the first entry's word.
    """

    start: int
    end: int
    leaf_lg2: int
    piece_lg2: int
    level: int
    oa: int
    rights: int
    attrs: int
    table_pa: int
    alive: int
    word: int
    stable: bool = True
    kind: str = ""
    born: int = -1
    drained: int = 0
    undrained: int = 0
    flown: bool = False
    window: Window = field(factory=Window)

    def twin(self, other: "Held") -> bool:
        """Whether both are parts of one fact."""
        return self.window is other.window and self.piece_lg2 == other.piece_lg2 and not self.flown

    def part(self, start: int, end: int) -> "Held":
        """A copy for a part of it."""
        return Held(
            start,
            end,
            self.leaf_lg2,
            self.piece_lg2,
            self.level,
            self.oa + start - self.start,
            self.rights,
            self.attrs,
            self.table_pa,
            self.alive,
            self.word,
            self.stable,
            self.kind,
            self.born,
            self.drained,
            self.undrained,
            self.flown,
            self.window,
        )

    def ask_drain(self, bit: int, *, asked: bool | None) -> None:
        """A command says itself whether the wait ends the requests (``bit``) that used what it targets."""
        if asked:
            self.drained |= bit
            self.undrained &= ~bit
        elif asked is False and not self.drained & bit:
            self.undrained |= bit

    def targeted(self, drops: Drops) -> tuple[int, int] | None:
        """The part that a command targets."""
        if not drops.leaves or (drops.leaf_levels is not None and self.level not in drops.leaf_levels):
            return None
        if drops.leaf_match is Match.PIECE_INSIDE or self.leaf_lg2 in drops.whole_lg2s:
            inside = self.leaf_lg2 if self.leaf_lg2 in drops.whole_lg2s else self.piece_lg2
            a, b = align_up(drops.first, inside), align_down(drops.last + 1, inside)
        else:
            size_lg2 = self.leaf_lg2 if drops.leaf_match is Match.LEAF_OVERLAPS else self.piece_lg2
            a, b = align_down(drops.first, size_lg2), align_up(drops.last + 1, size_lg2)
        a, b = max(a, self.start), min(b, self.end)
        return (a, b) if a < b else None


@define(eq=False)
class HeldIndex:
    """Stale facts by leaf size, piece size and length class, each sorted by address."""

    _classes: dict[tuple[int, int, int], list[tuple[int, int, Held]]] = field(factory=dict)
    _count: int = 0
    made: int = 0

    def add(self, held: Held) -> None:
        """File a fact."""
        self._count += 1
        self.made += 1
        key = (held.leaf_lg2, held.piece_lg2, (held.end - held.start).bit_length())
        items = self._classes.setdefault(key, [])
        item = (held.start, self._count, held)
        if items and items[-1] < item:
            items.append(item)
        else:
            insort(items, item)

    def over(self, start: int, end: int) -> list[Held]:
        """Live facts that overlap ``[start, end)``."""
        return [held for key in self._classes for held in self._over(key, start, end)]

    def _over(self, key: tuple[int, int, int], start: int, end: int) -> Iterator[Held]:
        items, longest = self._classes[key], 1 << key[2]
        at = bisect_left(items, (max(start - longest, -1),))
        while at < len(items) and items[at][0] < end:
            held = items[at][2]
            if held.end > start and held.alive:
                yield held
            at += 1

    def targeted(self, drops: Drops) -> list[Held]:
        """Live facts that a command may target: of a piece, or leaf, that reaches into the range, all parts."""
        found: list[Held] = []
        for key in self._classes:
            size_lg2 = key[0] if drops.leaf_match is Match.LEAF_OVERLAPS else key[1]
            start, end = align_down(drops.first, size_lg2), align_up(drops.last + 1, size_lg2)
            found += self._over(key, start, end)
        return found

    def take(self, held: Held, start: int, end: int) -> Held:
        """The fact for ``[start, end)`` of a fact; the rest is filed beside it."""
        if (held.start, held.end) == (start, end):
            return held
        for a, b in ((held.start, start), (end, held.end)):
            if a < b:
                self.add(held.part(a, b))
        middle = held.part(start, end)
        self.add(middle)
        held.alive = 0
        return middle

    def sweep(self) -> None:
        """Forget what may be nowhere any more."""
        for key, items in list(self._classes.items()):
            stay = [item for item in items if item[2].alive]
            if stay:
                self._classes[key] = stay
            else:
                del self._classes[key]

    def all(self) -> Iterator[Held]:
        """Every live fact."""
        for items in list(self._classes.values()):
            for _, _, held in list(items):
                if held.alive:
                    yield held

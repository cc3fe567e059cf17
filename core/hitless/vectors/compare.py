"""Compares every word of a recorded dump with every word of our tables."""

from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

import numpy as np

from hitless.bits import Layout
from hitless.memory import PhysicalMemory
from hitless.pagetable import PageFormat, tables
from hitless.vectors.recording import Dump

Place: TypeAlias = tuple[int, int]
"""Where an entry stands: the level of its table, and the first IOVA that it translates."""


class Recorded(NamedTuple):
    """One recorded word.

    ``child`` is the address of the table that it points to. ``empty``: that table maps nothing, so
    that the entry may as well be empty.
    """

    word: int
    child: int | None
    empty: bool


class Difference(NamedTuple):
    """A word that is not as recorded; 0 = an empty entry."""

    place: Place
    recorded: int
    ours: int


def recorded_words(fmt: PageFormat, dump: Dump) -> dict[Place, Recorded]:
    """Every word of a dump by place; tables are known by what they translate, not by where they lay."""
    addresses: dict[Place, int] = {}
    live: set[Place] = set()
    low = (1 << fmt.iova_bits) - 1
    for run in dump.runs:
        base = run.iova - (run.i << fmt.levels[run.l].lo)
        addresses[run.l, base] = run.tab
        if run.k == "leaf":
            live |= _above(fmt, run.l, base)
    words: dict[Place, Recorded] = {}
    for run in dump.runs:
        lo = fmt.levels[run.l].lo
        for at, word in enumerate(run.words()):
            iova = fmt.canonical(run.iova + (at << lo) & low)
            if run.k == "leaf":
                words[run.l, iova] = Recorded(word, None, empty=False)
            else:
                child = addresses.get((run.l - 1, iova), run.child if at == 0 else None)
                words[run.l, iova] = Recorded(word, child, (run.l, iova) not in live)
    return words


def stored_words(memory: PhysicalMemory, fmt: PageFormat, root_pa: int) -> dict[Place, int]:
    """Every word of our tables by place; a pointer to a table that maps nothing is an empty entry."""
    leaves: dict[Place, int] = {}
    pointers: dict[Place, int] = {}
    live: set[Place] = set()
    for level, base, _, held in tables(memory, fmt, root_pa):
        number = level.number
        used = np.flatnonzero(held)
        points = np.logical_and(fmt.present(held[used]), np.logical_not(fmt.is_leaf(held[used], number)))
        places = [(number, fmt.canonical(base + (index << level.lo))) for index in used.tolist()]
        for place, word, pointer in zip(places, held[used].tolist(), points.tolist(), strict=True):
            (pointers if pointer else leaves)[place] = word
        if not points.all():
            live |= _above(fmt, number, places[0][1])
    return leaves | {place: word for place, word in pointers.items() if place in live}


def _above(fmt: PageFormat, number: int, iova: int) -> set[Place]:
    """The places of all pointers through which a walk comes to an IOVA's entry of this level."""
    return {(above.number, iova >> above.lo << above.lo) for above in fmt.levels[number + 1 :]}


def compare(fmt: PageFormat, recorded: dict[Place, Recorded], ours: dict[Place, int]) -> Iterator[Difference]:
    """Every word that differs in a bit which hardware looks at."""
    for place in sorted(recorded.keys() | ours.keys()):
        want, word = recorded.get(place), ours.get(place, 0)
        if want is None:
            yield Difference(place, 0, word)
        elif found := difference(fmt, place, want, word):
            yield found


def difference(fmt: PageFormat, place: Place, want: Recorded, word: int) -> Difference | None:
    """One recorded word against ours, ignored bits left out; our pointer with the recorded table's address."""
    level, expected = place[0], word
    if want.child is None and word == want.word:
        return None
    if want.child is not None and not (word and fmt.is_leaf(word, level)):
        if want.empty and word == 0:
            expected = fmt.table(level, want.child)
        elif word:
            ours = fmt.table(level, int(fmt.table_pa(word)))
            expected = word ^ ours ^ fmt.table(level, want.child)
    if (want.word ^ expected) & ~ignored(fmt, level, expected):
        return Difference(place, want.word, expected)
    return None


def ignored(fmt: PageFormat, level: int, word: int) -> int:
    """The bits of an entry that hardware does not look at; an empty entry has none that count as such here."""
    layout = layout_of(fmt, level, word)
    return layout.mask("ignored") if layout else 0


def layout_of(fmt: PageFormat, level: int, word: int) -> Layout | None:
    """The layout of an entry."""
    if not fmt.present(word):
        return None
    return fmt.layout("leaf" if fmt.is_leaf(word, level) else "table", level)

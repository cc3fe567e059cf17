"""W1 of runs: adjacent entries that hardware may cache as one leaf have to say one thing."""

from collections.abc import Iterator, Sequence
from typing import ClassVar, NamedTuple

from attrs import define, field

from hitless.check.engine import Engine
from hitless.check.rules.base import Rule
from hitless.check.spans import Table
from hitless.pagetable import LeafSize, PageFormat
from hitless.plan import Store
from hitless.refresh.recipes import Recipe
from hitless.units import lg2_text


@define(eq=False)
class RunsAgree(Rule):
    """Looked at with every store; at the end no run may have a hole, for a cached copy of it would cover that too."""

    id: ClassVar[str] = "W1"
    sentence: ClassVar[str] = "every word stored is a legal encoding"
    do: ClassVar[str] = "take the whole run apart, or break it, before one of its entries says something else"
    _holes: dict[int, tuple[Table, LeafSize, int]] = field(factory=dict)
    _entries: dict[tuple[int, int], "_Entry"] = field(factory=dict)

    def stored(self, engine: Engine, step: Store, table: Table | None, old: int) -> None:
        if table is None:
            return
        sizes = list(_run_sizes(engine, table.level))
        if not sizes:
            return
        index = (step.pa - table.pa) >> 3
        first, entries = self._around(engine, table, index, max(size.entries_lg2 for size in sizes))
        for size in sizes:
            start = index >> size.entries_lg2 << size.entries_lg2
            inside = entries[start - first : start - first + (1 << size.entries_lg2)]
            what, hole = self._look(
                engine, size, start << engine.subject.vendor.page_format.levels[size.level].lo, inside
            )
            if what:
                self.broken(engine, step.iova, step.iova + 1, what)
                return
            self._holes.pop(table.pa + 8 * start, None)
            if hole:
                self._holes[table.pa + 8 * start] = (table, size, start)

    def ended(self, engine: Engine) -> None:
        for table, size, first in self._holes.values():
            start = table.base + (first << engine.subject.vendor.page_format.levels[table.level].lo)
            text = (
                f"a run of {lg2_text(size.lg2)} has an empty entry, which a cached copy of the run covers all the same"
            )
            self.broken(engine, start, start + (1 << size.lg2), text)

    def _around(self, engine: Engine, table: Table, index: int, entries_lg2: int) -> tuple[int, list["_Entry"]]:
        """The entries of the largest run that an entry may be one of, and the index of the first."""
        first = index >> entries_lg2 << entries_lg2
        fmt, found = engine.subject.vendor.page_format, []
        for pa in range(table.pa + 8 * first, table.pa + 8 * (first + (1 << entries_lg2)), 8):
            word = engine.shadow.load(pa)
            entry = self._entries.get((word, table.level))
            if entry is None:
                entry = self._entries[word, table.level] = _entry(fmt, word, table.level)
            found.append(entry)
        return first, found

    def _look(self, engine: Engine, size: LeafSize, start: int, entries: Sequence["_Entry"]) -> tuple[str, bool]:
        """What is wrong with the entries of one run, and whether one of them is empty."""
        claim = next((entry for entry in entries if entry.lg2 == size.lg2), None)
        if claim is None:
            return "", False
        lo, hole = engine.subject.vendor.page_format.levels[size.level].lo, False
        for i, entry in enumerate(entries):
            if not entry.present:
                hole = True
            elif not entry.lg2:
                return f"a pointer stands inside a run of {lg2_text(size.lg2)}", hole
            elif entry.oa + (start + (i << lo) & ((1 << entry.lg2) - 1)) != claim.oa + (i << lo):
                return f"entries of one run of {lg2_text(size.lg2)} lead to different places", hole
            elif entry.lg2 != size.lg2 and not _may_mix(engine):
                return f"entries of one run say {lg2_text(size.lg2)} and {lg2_text(entry.lg2)}", hole
        return "", hole


class _Entry(NamedTuple):
    """What a word says; of a leaf its size (log2) and where all of it leads, else 0."""

    present: bool
    lg2: int
    oa: int


def _entry(fmt: PageFormat, word: int, level: int) -> _Entry:
    if not fmt.present(word):
        return _Entry(False, 0, 0)
    if not fmt.is_leaf(word, level):
        return _Entry(True, 0, 0)
    return _Entry(True, int(fmt.leaf_lg2(word, level)), int(fmt.leaf_oa(word, level)))


def _run_sizes(engine: Engine, level: int) -> Iterator[LeafSize]:
    """The runs that the vendor lays out in a table of a level."""
    vendor = engine.subject.vendor
    allowed = vendor.split_rules.leaf_lg2s
    return (
        size
        for size in vendor.page_format.leaf_sizes
        if size.entries_lg2 and size.level == level and size.lg2 in allowed
    )


def _may_mix(engine: Engine) -> bool:
    """Whether the hardware takes a run whose entries are rewritten one by one, to the same translation."""
    vendor = engine.subject.vendor
    return vendor.page_format.run_mix or isinstance(vendor.recipes.resize, Recipe)

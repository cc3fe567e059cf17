"""W1 of runs: adjacent entries that hardware may cache as one leaf have to say one thing."""

from collections.abc import Iterator
from typing import ClassVar

from attrs import define, field

from hitless.check.engine import Engine
from hitless.check.rules.base import Rule
from hitless.check.spans import Table
from hitless.pagetable import LeafSize
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

    def stored(self, engine: Engine, step: Store, table: Table | None, old: int) -> None:
        for size in () if table is None else _run_sizes(engine, table.level):
            entries = 1 << size.entries_lg2
            first = ((step.pa - table.pa) >> 3) & -entries  # type: ignore[union-attr]
            what, hole = self._look(engine, table, size, first)  # type: ignore[arg-type]
            if what:
                self.broken(engine, step.iova, step.iova + 1, what)
                return
            self._holes.pop(table.pa + 8 * first, None)  # type: ignore[union-attr]
            if hole:
                self._holes[table.pa + 8 * first] = (table, size, first)  # type: ignore[union-attr,assignment]

    def ended(self, engine: Engine) -> None:
        for table, size, first in self._holes.values():
            start = table.base + (first << engine.subject.vendor.page_format.levels[table.level].lo)
            text = (
                f"a run of {lg2_text(size.lg2)} has an empty entry, which a cached copy of the run covers all the same"
            )
            self.broken(engine, start, start + (1 << size.lg2), text)

    def _look(self, engine: Engine, table: Table, size: LeafSize, first: int) -> tuple[str, bool]:
        """What is wrong with the entries of one run, and whether one of them is empty."""
        fmt, entries = engine.subject.vendor.page_format, 1 << size.entries_lg2
        lo = fmt.levels[table.level].lo
        words = [engine.shadow.load(table.pa + 8 * (first + i)) for i in range(entries)]
        claims = [word for word in words if _is_leaf_of(engine, word, table.level, size.lg2)]
        if not claims:
            return "", False
        oa, hole = int(fmt.leaf_oa(claims[0], table.level)), False
        for i, word in enumerate(words):
            if not fmt.present(word):
                hole = True
                continue
            if not fmt.is_leaf(word, table.level):
                return f"a pointer stands inside a run of {lg2_text(size.lg2)}", hole
            lg2 = int(fmt.leaf_lg2(word, table.level))
            leads_to = int(fmt.leaf_oa(word, table.level)) + ((first + i << lo) & ((1 << lg2) - 1))
            if leads_to != oa + (i << lo):
                return f"entries of one run of {lg2_text(size.lg2)} lead to different places", hole
            if lg2 != size.lg2 and not _may_mix(engine):
                return f"entries of one run say {lg2_text(size.lg2)} and {lg2_text(lg2)}", hole
        return "", hole


def _run_sizes(engine: Engine, level: int) -> Iterator[LeafSize]:
    """The runs that the vendor lays out in a table of a level."""
    vendor = engine.subject.vendor
    allowed = vendor.split_rules.leaf_lg2s
    return (
        size
        for size in vendor.page_format.leaf_sizes
        if size.entries_lg2 and size.level == level and size.lg2 in allowed
    )


def _is_leaf_of(engine: Engine, word: int, level: int, lg2: int) -> bool:
    fmt = engine.subject.vendor.page_format
    return bool(fmt.present(word) and fmt.is_leaf(word, level)) and fmt.leaf_lg2(word, level) == lg2


def _may_mix(engine: Engine) -> bool:
    """Whether the hardware takes a run whose entries are rewritten one by one, to the same translation."""
    vendor = engine.subject.vendor
    return vendor.page_format.run_mix or isinstance(vendor.recipes.resize, Recipe)

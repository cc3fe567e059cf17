"""What a unit, or a device's ATC, has cached: leaves with their verdicts, table pointers, and structures.

The model is the worst hardware that the declarations allow: it drops nothing of its own accord
but when it is full, may hold several entries for one address, and uses any of them.
"""

import random
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

from attrs import define, field

from hitless.hardware.facts import Drops, DropsStructure, Match
from hitless.hardware.structures import BadStructure, Fetch, Found

_CAPACITY = 512

E = TypeVar("E", "CachedLeaf", "CachedTable")


class CachedLeaf(NamedTuple):
    """A translation of ``[start, start + 2**size_lg2)`` that hardware holds.

    ``leaf_start`` and ``leaf_lg2`` are the leaf's that it was made from; a piece may be smaller.
    ``stable`` False: it cannot take part in a conflict (Arm: nT). ``stage``: one of STAGES.

    A combined result (stage ``12``) leads from IOVAs to host physical addresses. Level, leaf and attributes are
    those of its stage 1; ``lower`` is the stage-2 entry that it was made with. ``host`` False: it leads to guest
    physical addresses.
    """

    start: int
    size_lg2: int
    pa: int
    rights: int
    attrs: int
    level: int
    leaf_start: int
    leaf_lg2: int
    stable: bool
    stage: str = "2"
    lower: "CachedLeaf | None" = None
    host: bool = True

    def targeted(self, drops: Drops) -> bool:
        """Whether a command targets it."""
        if self.stage not in drops.stages:
            return False
        if self.lower is not None and "1" not in drops.stages:  # by the guest physical addresses it leads through
            gpa = self.lower.start + self.pa - self.lower.pa
            return self.lower._replace(start=gpa, size_lg2=self.size_lg2, stage="12").targeted(drops)
        if drops.leaf_levels is not None and self.level not in drops.leaf_levels:
            return False
        leaf_end = self.leaf_start + (1 << self.leaf_lg2)
        if self.leaf_lg2 in drops.whole_lg2s:
            return drops.first <= self.leaf_start and leaf_end - 1 <= drops.last
        if drops.leaf_match is Match.LEAF_OVERLAPS:
            return self.leaf_start <= drops.last and drops.first < leaf_end
        end = self.start + (1 << self.size_lg2)
        if drops.leaf_match is Match.PIECE_INSIDE:
            return drops.first <= self.start and end - 1 <= drops.last
        return self.start <= drops.last and drops.first < end

    def shape(self, *, runs: bool = True) -> tuple[int, ...]:
        """The leaves that it was made from; two shapes for one address may conflict (rule K1).

        ``runs`` False: a run has the shape of any leaf of its level.
        """
        own = (self.leaf_start, self.leaf_lg2) if runs else (self.level,)
        return own if self.lower is None else (*own, *self.lower.shape(runs=runs))


class CachedTable(NamedTuple):
    """A pointer that hardware holds: IOVAs of ``[start, start + 2**span_lg2)`` go on in a table of ``level``."""

    start: int
    span_lg2: int
    level: int
    table_pa: int
    rights: int
    stage: str = "2"

    def targeted(self, drops: Drops) -> bool:
        """Whether a command targets it."""
        if self.stage not in drops.stages:
            return False
        end = self.start + (1 << self.span_lg2)
        if drops.table_match is Match.PIECE_INSIDE:
            return drops.first <= self.start and end - 1 <= drops.last
        return self.start <= drops.last and drops.first < end


class CachedStructure(NamedTuple):
    """A structure that hardware holds for requests of one device and PASID, and what its words led to."""

    structure: str
    device: int
    pasid: int | None
    words: tuple[int, ...]
    outcome: Fetch | Found | BadStructure

    def targeted(self, drops: DropsStructure) -> bool:
        """Whether a command targets it."""
        if drops.structures is not None and self.structure not in drops.structures:
            return False
        if drops.device is not None and (self.device ^ drops.device) & drops.device_mask:
            return False
        if drops.pasid is not None and (self.pasid or 0) != drops.pasid:
            return False
        if drops.tag is None:
            return True
        return isinstance(self.outcome, Found) and (self.outcome.tag ^ drops.tag) & drops.tag_mask == 0


@define
class Cache:
    """The entries of one tag and stage; ``combined``: results of both stages."""

    leaves: dict[int, dict[int, list[CachedLeaf]]] = field(factory=dict)
    tables: dict[int, dict[int, list[CachedTable]]] = field(factory=dict)
    size: int = 0
    combined: bool = False

    def leaves_at(self, iova: int) -> list[CachedLeaf]:
        """Every cached leaf that translates an IOVA."""
        found: list[CachedLeaf] = []
        for size_lg2, pages in self.leaves.items():
            if here := pages.get(iova >> size_lg2):
                found += here
        return found

    def tables_at(self, iova: int) -> Iterator[CachedTable]:
        """Every cached pointer that an IOVA's walk could start from."""
        for span_lg2, spans in self.tables.items():
            yield from spans.get(iova >> span_lg2, ())

    def add_leaf(self, leaf: CachedLeaf) -> None:
        """Hold a leaf beside what is held already."""
        here = self.leaves.setdefault(leaf.size_lg2, {}).setdefault(leaf.start >> leaf.size_lg2, [])
        if leaf not in here:
            here.append(leaf)
            self.size += 1

    def add_table(self, table: CachedTable) -> None:
        """Hold a pointer beside what is held already."""
        here = self.tables.setdefault(table.span_lg2, {}).setdefault(table.start >> table.span_lg2, [])
        if table not in here:
            here.append(table)
            self.size += 1

    def drop(self, drops: Drops) -> None:
        """Forget what a command targets."""
        if drops.leaves:
            by_gpa = self.combined and "1" not in drops.stages
            whole = by_gpa or drops.leaf_match is Match.LEAF_OVERLAPS
            self.size -= _drop(self.leaves, drops, whole)
        if drops.tables:
            self.size -= _drop(self.tables, drops, whole=False)

    def evict(self, rng: random.Random) -> None:
        """Make room when full: forget about half, at random."""
        if self.size > _CAPACITY:
            for keys in self.leaves.values():
                for key in [key for key in keys if rng.random() < 0.5]:
                    self.size -= len(keys.pop(key))
            for spans in self.tables.values():
                for key in [key for key in spans if rng.random() < 0.5]:
                    self.size -= len(spans.pop(key))

    def forget_pa(self, start_pa: int, end_pa: int) -> None:
        """Forget every leaf that leads into a physical range (invalidation by PA)."""
        self.forget_meeting(lambda pa, size: pa < end_pa and start_pa < pa + size)

    def forget_meeting(self, meets: Callable[[int, int], bool]) -> None:
        """Forget every leaf whose physical range, by address and size, meets what is forgotten."""
        for size_lg2, pages in self.leaves.items():
            size = 1 << size_lg2
            for key in [key for key, here in pages.items() if any(meets(leaf.pa, size) for leaf in here)]:
                here = pages[key]
                pages[key] = [leaf for leaf in here if not (leaf.host and meets(leaf.pa, size))]
                self.size -= len(here) - len(pages[key])
                if not pages[key]:
                    del pages[key]


def _drop(entries: dict[int, dict[int, list[E]]], drops: Drops, whole: bool) -> int:
    """Forget targeted entries, and say how many; only keys in range are looked at, unless whole leaves count."""
    gone = 0
    for size_lg2, keys in entries.items():
        first, last = drops.first >> size_lg2, drops.last >> size_lg2
        few = last - first < len(keys)
        candidates = list(keys) if whole or not few else [key for key in range(first, last + 1) if key in keys]
        for key in candidates:
            stays = [entry for entry in keys[key] if not entry.targeted(drops)]
            gone += len(keys[key]) - len(stays)
            if stays:
                keys[key] = stays
            else:
                del keys[key]
    return gone

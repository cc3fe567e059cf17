"""What a unit, or a device's ATC, has cached: leaves with their verdicts, table pointers, and structures.

The model is the worst hardware that the declarations allow: it drops nothing of its own accord
but when it is full, may hold several entries for one address, and uses any of them.
"""

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from attrs import define, field

from hitless.hardware.facts import Drops, DropsStructure, Match
from hitless.hardware.structures import BadStructure, Fetch, Found

_CAPACITY = 512


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


Place: TypeAlias = tuple[int, int]
"""Where leaves are held: log2 of their size, and their start in units of it."""


@define
class _Index:
    """Places of leaves by a range that belongs to each, of which the size (log2) is a part of the question."""

    blocks: dict[int, dict[int, set[Place]]] = field(factory=dict)

    def add(self, start: int, size_lg2: int, place: Place) -> None:
        """A leaf at a place has the range ``[start, start + 2**size_lg2)``."""
        self.blocks.setdefault(size_lg2, {}).setdefault(start >> size_lg2, set()).add(place)

    def remove(self, start: int, size_lg2: int, place: Place) -> None:
        """No leaf at the place has the range any more."""
        blocks = self.blocks[size_lg2]
        here = blocks.get(start >> size_lg2, set())
        here.discard(place)
        if not here:
            blocks.pop(start >> size_lg2, None)

    def touching(self, first: int, last: int) -> set[Place]:
        """The places of all leaves whose range touches ``[first, last]``, and of a few beside them."""
        found: set[Place] = set()
        for size_lg2, blocks in self.blocks.items():
            for block in _keys(blocks, first - (1 << size_lg2) + 1 >> size_lg2, last >> size_lg2):
                found |= blocks[block]
        return found


@define
class Cache:
    """The entries of one tag and stage; ``combined``: results of both stages."""

    leaves: dict[int, dict[int, list[CachedLeaf]]] = field(factory=dict)
    tables: dict[int, dict[int, list[CachedTable]]] = field(factory=dict)
    size: int = 0
    combined: bool = False
    # By the leaf that a piece was made from, and by physical address; None until a command asks so.
    _by_leaf: _Index | None = None
    _by_pa: _Index | None = None

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
        size_lg2 = leaf.size_lg2
        pages = self.leaves.get(size_lg2)
        if pages is None:
            pages = self.leaves[size_lg2] = {}
        key = leaf.start >> size_lg2
        here = pages.get(key)
        if here is None:
            pages[key] = [leaf]
        elif leaf not in here:
            here.append(leaf)
        else:
            return
        self.size += 1
        if self._by_leaf is not None:
            self._by_leaf.add(leaf.leaf_start, leaf.leaf_lg2, (size_lg2, key))
        if self._by_pa is not None:
            self._by_pa.add(leaf.pa, size_lg2, (size_lg2, key))

    def add_table(self, table: CachedTable) -> None:
        """Hold a pointer beside what is held already."""
        here = self.tables.setdefault(table.span_lg2, {}).setdefault(table.start >> table.span_lg2, [])
        if table not in here:
            here.append(table)
            self.size += 1

    def drop(self, drops: Drops) -> None:
        """Forget what a command targets."""
        if drops.leaves:
            for place in self._asked(drops):
                here = self._at(place)
                self._keep(place, here, [leaf for leaf in here if not leaf.targeted(drops)])
        if drops.tables:
            for span_lg2, spans in self.tables.items():
                for key in _keys(spans, drops.first >> span_lg2, drops.last >> span_lg2):
                    stays = [table for table in spans[key] if not table.targeted(drops)]
                    self.size -= len(spans[key]) - len(stays)
                    if stays:
                        spans[key] = stays
                    else:
                        del spans[key]

    def evict(self, rng: random.Random) -> None:
        """Make room when full: forget about half, at random."""
        if self.size > _CAPACITY:
            for keys in self.leaves.values():
                for key in [key for key in keys if rng.random() < 0.5]:
                    self.size -= len(keys.pop(key))
            for spans in self.tables.values():
                for key in [key for key in spans if rng.random() < 0.5]:
                    self.size -= len(spans.pop(key))
            self._by_leaf = self._by_pa = None

    def forget_pa(self, start_pa: int, end_pa: int) -> None:
        """Forget every leaf that leads into a physical range (invalidation by PA)."""
        if self._by_pa is None:
            self._by_pa = _Index()
            for place, leaf in self._all():
                self._by_pa.add(leaf.pa, leaf.size_lg2, place)
        for place in self._by_pa.touching(start_pa, end_pa - 1):
            here, low = self._at(place), start_pa - (1 << place[0])
            self._keep(place, here, [leaf for leaf in here if not (leaf.host and low < leaf.pa < end_pa)])

    def forget_meeting(self, meets: Callable[[int, int], bool]) -> None:
        """Forget every leaf whose physical range, by address and size, meets what is forgotten."""
        for place in list(dict.fromkeys(place for place, _ in self._all())):
            here, size = self._at(place), 1 << place[0]
            self._keep(place, here, [leaf for leaf in here if not (leaf.host and meets(leaf.pa, size))])

    def _asked(self, drops: Drops) -> Iterable[Place]:
        """Where leaves lie that a command may target: only what its range touches is looked at."""
        if self.combined and "1" not in drops.stages:  # by guest physical addresses
            return [place for place, _ in self._all()]
        if drops.leaf_match is not Match.LEAF_OVERLAPS:
            return [
                (size_lg2, key)
                for size_lg2, pages in self.leaves.items()
                for key in _keys(pages, drops.first >> size_lg2, drops.last >> size_lg2)
            ]
        if self._by_leaf is None:
            self._by_leaf = _Index()
            for place, leaf in self._all():
                self._by_leaf.add(leaf.leaf_start, leaf.leaf_lg2, place)
        return self._by_leaf.touching(drops.first, drops.last)

    def _all(self) -> Iterator[tuple[Place, CachedLeaf]]:
        for size_lg2, pages in self.leaves.items():
            for key, here in pages.items():
                for leaf in here:
                    yield (size_lg2, key), leaf

    def _at(self, place: Place) -> list[CachedLeaf]:
        return self.leaves[place[0]].get(place[1], [])

    def _keep(self, place: Place, here: list[CachedLeaf], kept: list[CachedLeaf]) -> None:
        """Forget all leaves of a place but those that are kept."""
        if len(kept) == len(here):
            return
        self.size -= len(here) - len(kept)
        if kept:
            self.leaves[place[0]][place[1]] = kept
        else:
            del self.leaves[place[0]][place[1]]
        for leaf in here:
            if leaf not in kept:
                self._unlist(leaf, kept, place)

    def _unlist(self, gone: CachedLeaf, kept: Sequence[CachedLeaf], place: Place) -> None:
        """Take a leaf out of the indexes, as far as none that stays is found there for it."""
        lg2 = gone.leaf_lg2
        if self._by_leaf is not None and not any(
            each.leaf_lg2 == lg2 and not (each.leaf_start ^ gone.leaf_start) >> lg2 for each in kept
        ):
            self._by_leaf.remove(gone.leaf_start, lg2, place)
        if self._by_pa is not None and not any(not (each.pa ^ gone.pa) >> gone.size_lg2 for each in kept):
            self._by_pa.remove(gone.pa, gone.size_lg2, place)


def _keys(held: Mapping[int, object], first: int, last: int) -> list[int]:
    """The keys of ``[first, last]`` that there are, looking at no more of them than has to be."""
    if last - first < len(held):
        return [key for key in range(first, last + 1) if key in held]
    return [key for key in held if first <= key <= last]

"""Translating many IOVAs at once, level by level on arrays.

The tables above are few where the IOVAs are many: down to the level that has a good deal fewer entries between the
lowest and the highest IOVA than there are IOVAs, each entry is read once, for all. From there on each IOVA is walked.
"""

from typing import TypeAlias

import numpy as np
from attrs import define, field
from numpy.typing import NDArray

from hitless.bits import MASK64, BoolArray, U64Array
from hitless.errors import BusError
from hitless.memory import PhysicalMemory
from hitless.pagetable.classes import ALL, DESCEND, LEAF, LevelClasses, Which, classes_of
from hitless.pagetable.format import READ, WRITE, Level, PageFormat, WalkFault

Bytes: TypeAlias = NDArray[np.uint8]

NOWHERE = MASK64
"""Output address of what is not mapped."""
_CHUNK = 1 << 15
"""So many IOVAs at a time: every temporary array stays in a core's second-level cache."""
_LEAST_SLOTS, _PER_SLOT = 1 << 12, 8
"""Entries are read for all IOVAs where there are at most as many, or that many times fewer than IOVAs."""


@define(eq=False)
class Translations:
    """Where IOVAs lead; arrays of the shape of the IOVAs.

    Args:
        oas: output addresses; NOWHERE (all ones) where nothing is mapped.
        faults: 0 where mapped, else the fault's number in ``kinds``.
        kinds: names of faults, as :class:`hitless.pagetable.WalkFault` has them; number 0 is empty.
        rights: READ | WRITE that the whole walk grants, 0 at faults; None: they were not asked for.
    """

    oas: U64Array
    faults: Bytes
    kinds: tuple[str, ...]
    rights: Bytes | None = None

    @property
    def mapped(self) -> BoolArray:
        """Which of them lead anywhere."""
        return np.equal(self.faults, 0)


def translate_many(
    memory: PhysicalMemory, fmt: PageFormat, root_pa: int, iovas: U64Array, *, rights: bool = False
) -> Translations:
    """What :func:`hitless.pagetable.walk` finds for each IOVA of a one-dimensional uint64 array.

    Args:
        memory: holds the tables.
        fmt: their format.
        root_pa: the root table.
        iovas: in any order.
        rights: whether the rights of each walk are asked for too.

    Raises:
        BusError: a table that some IOVA needs is not in memory.
    """
    walk = _Walk(memory, fmt, np.asarray(iovas, dtype=np.uint64), rights)
    if walk.iovas.size:
        walk.run(root_pa)
    return Translations(walk.oas, walk.faults, ("", *walk.numbers), walk.rights)


@define(eq=False)
class _Slots:
    """What the entries of one level mean, for all IOVAs from ``first`` on; one slot an entry.

    ``code`` is as in :class:`EntryClass`; ``value`` is added to an IOVA under a leaf, or is the table's address.
    """

    lo: int
    first: int
    code: Bytes
    value: U64Array
    rights: Bytes

    @property
    def whole(self) -> bool:
        """Whether all slots are leaves."""
        return not self.code.any()


@define(eq=False)
class _Walk:
    """One translation under way; see :func:`translate_many`."""

    memory: PhysicalMemory
    fmt: PageFormat
    iovas: U64Array
    with_rights: bool
    oas: U64Array = field(init=False)
    faults: Bytes = field(init=False)
    rights: Bytes | None = field(init=False)
    levels: list[LevelClasses] = field(init=False)
    numbers: dict[str, int] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.levels, self.numbers = classes_of(self.fmt)
        self.oas = np.empty(self.iovas.shape, np.uint64)
        self.faults = np.zeros(self.iovas.shape, np.uint8)
        self.rights = np.zeros(self.iovas.shape, np.uint8) if self.with_rights else None

    def run(self, root_pa: int) -> None:
        """Walk all IOVAs; those that the root cannot index fault at once."""
        first, last = int(self.iovas.min()), int(self.iovas.max())
        tops = np.uint64(self.fmt.iova_bits - 1)
        if first >> int(tops) == last >> int(tops) and not isinstance(self.fmt.start(root_pa, first), WalkFault):
            self._walk(root_pa, first, last)
            return
        upper = self.iovas >> tops
        good = np.zeros(self.iovas.shape, np.bool_)
        for top in np.unique(upper).tolist():
            found = self.fmt.start(root_pa, top << int(tops))
            if isinstance(found, WalkFault):
                here = upper == np.uint64(top)
                self.oas[here] = NOWHERE
                self.faults[here] = self.numbers.setdefault(found.kind, len(self.numbers) + 1)
            else:
                good |= upper == np.uint64(top)
        inside = np.flatnonzero(good)
        if not inside.size:
            return
        part = _Walk(self.memory, self.fmt, self.iovas[inside], self.with_rights)
        part.levels, part.numbers = self.levels, self.numbers
        part._walk(root_pa, int(part.iovas.min()), int(part.iovas.max()))
        self.oas[inside], self.faults[inside] = part.oas, part.faults
        if self.rights is not None and part.rights is not None:
            self.rights[inside] = part.rights

    # -- the tables above, once for all

    def _walk(self, root_pa: int, first: int, last: int) -> None:
        slots = self._slots(root_pa, first, last)
        slot, found = np.empty(_CHUNK, np.uint64), np.empty(_CHUNK, np.uint64)
        only_leaves, value = slots.whole and not self.with_rights, slots.value
        base, lo = np.uint64(slots.first << slots.lo), np.uint64(slots.lo)
        for start in range(0, self.iovas.size, _CHUNK):
            iovas = self.iovas[start : start + _CHUNK]
            at, add = slot[: iovas.size], found[: iovas.size]
            np.subtract(iovas, base, out=at)
            np.right_shift(at, lo, out=at)
            index = at.view(np.int64)
            value.take(index, out=add, mode="clip")
            np.add(iovas, add, out=self.oas[start : start + _CHUNK])
            if not only_leaves:
                self._rest(slots, start, index, add)

    def _slots(self, root_pa: int, first: int, last: int) -> _Slots:
        """The level down to which entries are read for all IOVAs, and what they mean there."""
        top, limit = self.fmt.top, max(_LEAST_SLOTS, self.iovas.size // _PER_SLOT)
        lo = top.lo + top.bits
        if first >> lo != last >> lo:  # both halves of a sign-extended space
            lo, limit = 63, 0
        count = (last >> lo) - (first >> lo) + 1
        code, value = np.full(count, DESCEND + top.number, np.uint8), np.full(count, root_pa, np.uint64)
        now = _Slots(lo, first >> lo, code, value, np.full(count, READ | WRITE, np.uint8))
        for level in reversed(self.fmt.levels):
            if not (now.code >= DESCEND).any() or (last >> level.lo) - (first >> level.lo) >= limit:
                break
            try:
                below = self._expanded(now, level, first >> level.lo, last >> level.lo)
            except BusError:  # perhaps in a table that no IOVA needs
                break
            if (below.code[below.code >= DESCEND] != DESCEND + level.number - 1).any():
                break  # a pointer that skips levels takes only some of the IOVAs of its slot
            now = below
        return now

    def _expanded(self, above: _Slots, level: Level, first: int, last: int) -> _Slots:
        """The slots of the next level down."""
        slots = np.arange(first, last + 1, dtype=np.uint64)
        parents = (slots >> np.uint64(above.lo - level.lo)) - np.uint64(above.first)
        parent = parents.view(np.int64)
        found = _Slots(level.lo, first, above.code[parent], above.value[parent], above.rights[parent])
        at = np.flatnonzero(found.code == DESCEND + level.number)
        iovas = slots[at] << np.uint64(level.lo)
        words = self.memory.gather(_entries(level, iovas, found.value[at]))
        for which, each in self.levels[level.number].classes(words, iovas):
            here = at[which]
            found.code[here] = each.code
            found.rights[here] &= np.uint8(each.rights)
            if each.code == LEAF:
                found.value[here] = each.oas(words[which], iovas[which]) - iovas[which]
            else:
                found.value[here] = each.addresses(words[which]) if each.code >= DESCEND else np.uint64(0)
        return found

    # -- the tables below, for each IOVA

    def _rest(self, slots: _Slots, start: int, index: NDArray[np.int64], values: U64Array) -> None:
        """Faults, rights and walks of one chunk; ``index``: its slots, ``values``: theirs."""
        chunk = slice(start, start + index.size)
        code = slots.code.take(index, mode="clip")
        if self.rights is not None:
            self.rights[chunk] = slots.rights.take(index, mode="clip")
        descends = code >= DESCEND
        faults = (code != LEAF) & ~descends
        if faults.any():
            self._fault(chunk, np.flatnonzero(faults), code[faults])
        if not descends.any():
            return
        at = np.flatnonzero(descends)
        below = code[at]
        pending: dict[int, list[tuple[NDArray[np.intp], U64Array]]] = {}
        lowest, highest = int(below.min()), int(below.max())
        for number in range(lowest, highest + 1):
            here: Which = ALL if lowest == highest else np.flatnonzero(below == number)
            pending.setdefault(number - DESCEND, []).append((at[here], values[at[here]]))
        while pending:
            number = max(pending)
            parts = pending.pop(number)
            which, tables = (np.concatenate(each) for each in zip(*parts, strict=True)) if parts[1:] else parts[0]
            if which.size:
                self._level(number, chunk, which, tables, pending)

    def _level(
        self,
        number: int,
        chunk: slice,
        which: NDArray[np.intp],
        tables: U64Array,
        pending: dict[int, list[tuple[NDArray[np.intp], U64Array]]],
    ) -> None:
        """One level of the walks of one chunk: ``which`` of its IOVAs stand at ``tables``."""
        iovas = self.iovas[chunk].take(which)
        words = self.memory.gather(_entries(self.fmt.levels[number], iovas, tables))
        oas = self.oas[chunk]
        for part, each in self.levels[number].classes(words, iovas):
            here, mine = (which, words) if isinstance(part, slice) else (which[part], words[part])
            if self.rights is not None and each.rights != READ | WRITE:
                self.rights[chunk][here] &= np.uint8(each.rights)
            if each.code == LEAF:
                oas[here] = each.oas(mine, iovas[part])
            elif each.code >= DESCEND:
                pending.setdefault(each.code - DESCEND, []).append((here, each.addresses(mine)))
            else:
                self._fault(chunk, here, each.code)

    def _fault(self, chunk: slice, which: NDArray[np.intp], code: int | Bytes) -> None:
        self.oas[chunk][which] = NOWHERE
        self.faults[chunk][which] = code
        if self.rights is not None:
            self.rights[chunk][which] = 0


def _entries(level: Level, iovas: U64Array, tables: U64Array) -> U64Array:
    """Addresses of the entries for IOVAs in tables of a level."""
    found = iovas >> np.uint64(level.lo - 3)
    found &= np.uint64((1 << level.bits + 3) - 8)
    found += tables
    return found

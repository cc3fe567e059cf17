"""One address space in memory: every table that its root reaches, and every leaf, in the order of IOVAs.

Tables may be hostile. A walk never follows a table into itself, and follows a table that several entries share a
bounded number of times; what is illegal becomes a finding, and a root under which nearly everything is illegal is
given up. So the time is bounded by the memory that there is.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from attrs import define, field

from hitless.bits import BoolArray, U64Array
from hitless.errors import BusError
from hitless.inspect.entries import ILLEGAL, Entries, KindArray
from hitless.inspect.findings import Finding, Findings
from hitless.inspect.ranges import NOTHING, Leaves
from hitless.memory.images import Segment
from hitless.pagetable import Level, PageFormat
from hitless.units import lg2_text

SHARED = 1 << 13
"""So often in all is a table followed that was followed before."""
HOPELESS = 1 << 17
"""After so many illegal entries the rest is not read."""

_MEND = "compare with what wrote it: a stale pointer, or a table that was freed and used for something else"


class Readable(Protocol):
    """Memory that tables are read from."""

    def load(self, pa: int) -> int: ...

    def view(self, pa: int, count: int) -> U64Array: ...


class Image(Readable, Protocol):
    """Memory that tables are read from: of a file, or of a running QEMU."""

    @property
    def segments(self) -> Sequence[Segment]: ...

    def gather(self, pas: U64Array) -> U64Array: ...

    def contains(self, pa: int, size: int) -> bool: ...


class Pointer(NamedTuple):
    """A legal table pointer: where it stands and where it leads."""

    slot: int
    iova: int
    level: int
    pa: int
    rights: int


class Table(NamedTuple):
    """One table as it was read; ``leaf``: which entries are leaves."""

    level: Level
    pa: int
    iova: int
    words: U64Array
    leaf: BoolArray


@define
class AddressSpace:
    """Reads one address space.

    Args:
        memory: holds the tables.
        fmt, root_pa: the tables.
        rights: what the structures grant, READ | WRITE.
        findings: takes what is wrong.
        tables: how many tables of each level were read.
        leaves: how many whole leaves of each size (log2) there are.
        mapped: bytes.
        table_bytes: bytes of all tables.
    """

    memory: Readable
    fmt: PageFormat
    root_pa: int
    rights: int = 3
    findings: Findings = field(factory=Findings)
    tables: Counter[int] = field(factory=Counter)
    leaves: Counter[int] = field(factory=Counter)
    mapped: int = 0
    table_bytes: int = 0
    entries: Entries = field(init=False)
    table_pas: dict[int, int] = field(factory=dict)
    _path: list[int] = field(factory=list)
    _shared: int = 0
    _illegal: int = 0
    _gave_up: bool = False

    def __attrs_post_init__(self) -> None:
        self.entries = Entries(self.fmt)

    def chunks(self) -> Iterator[Leaves]:
        """All leaf entries, in the order of IOVAs; counts are complete when it ends."""
        top = self.fmt.top
        if self.root_pa >> self.fmt.oa_bits:
            self._unreadable(f"root table at {self.root_pa:#x}", "", "its address is wider than the format's")
            return
        words = self._read(self.root_pa, top, f"root table at {self.root_pa:#x}")
        if words is not None:
            yield from self._table(top, self.root_pa, 0, words, self.rights)

    # -- tables

    def _table(self, level: Level, pa: int, iova: int, words: U64Array, rights: int) -> Iterator[Leaves]:
        """A table and all that lies below it; tables of the last level are read together."""
        fmt = self.fmt
        used = np.flatnonzero(fmt.present(words))
        leaf = np.zeros(words.shape, np.bool_)
        leaf[used] = np.broadcast_to(fmt.is_leaf(words[used], level.number), used.shape)
        table = Table(level, pa, iova, words, leaf)
        self.seen(table)
        pointers = self._pointers(table, used[~leaf[used]], rights)
        self._path.append(pa)
        done, bottom = 0, list[Pointer]()
        for pointer in pointers:
            if self._illegal > HOPELESS:
                self._give_up(table)
                break
            if pointer.level == 0:
                bottom.append(pointer)
                continue
            yield self._chunk(table, done, pointer.slot, bottom, rights)
            done, bottom = pointer.slot, []
            below = fmt.levels[pointer.level]
            found = self._read(pointer.pa, below, self.place(table, pointer.slot))
            if found is not None:
                yield from self._table(below, pointer.pa, pointer.iova, found, pointer.rights)
        yield self._chunk(table, done, words.size, bottom, rights)
        self._path.pop()

    def _pointers(self, table: Table, at: Sequence[int] | np.ndarray, rights: int) -> list[Pointer]:
        """The legal pointers of a table, in order."""
        fmt, number = self.fmt, table.level.number
        found = []
        for index in np.asarray(at).tolist():
            word = int(table.words[index])
            if fmt.malformed(word, number):
                self._bad(table, index, word)
                continue
            child = int(fmt.table_pa(word))
            if child >> fmt.oa_bits:
                self._bad(table, index, word)
                continue
            level = fmt.child_level(word, number)
            iova = self._iova(table, index)
            found.append(Pointer(index, iova, level, child, rights & fmt.rights(word, number)))
        return found

    def _chunk(self, table: Table, start: int, end: int, bottom: list[Pointer], rights: int) -> Leaves:
        """Leaves of a table's entries ``[start, end)``, and of the last-level tables below them."""
        parts = [self._leaves(table, start, end, rights)] if table.leaf[start:end].any() else []
        if bottom:
            parts.append(self._bottom(table, bottom))
        if len(parts) < 2:
            return parts[0] if parts else NOTHING
        both = Leaves.of(parts)
        return both.at(np.argsort(both.iovas, kind="stable"))

    def _bottom(self, above: Table, pointers: list[Pointer]) -> Leaves:
        """The leaves of many last-level tables at once."""
        level = self.fmt.levels[0]
        read = []
        for pointer in pointers:
            found = self._read(pointer.pa, level, self.place(above, pointer.slot))
            if found is not None:
                read.append((pointer, found))
        if not read:
            return NOTHING
        words = np.concatenate([each for _, each in read])
        size = 1 << level.bits
        used = np.flatnonzero(self.fmt.present(words))
        leaf = np.zeros(words.shape, np.bool_)
        leaf[used] = np.broadcast_to(self.fmt.is_leaf(words[used], 0), used.shape)
        for number, (pointer, each) in enumerate(read):
            self.seen(Table(level, pointer.pa, pointer.iova, each, leaf[number * size : (number + 1) * size]))
        for at in used[~leaf[used]].tolist():  # a last-level entry that is no leaf: never legal
            pointer, each = read[at // size]
            self._bad(Table(level, pointer.pa, pointer.iova, each, leaf), at % size, int(words[at]))
        bases = np.array([pointer.iova for pointer, _ in read], np.uint64)
        at = np.flatnonzero(leaf)
        iovas = bases[at >> level.bits] + ((at & size - 1).astype(np.uint64) << np.uint64(level.lo))
        rights = np.array([pointer.rights for pointer, _ in read], np.int64)[at >> level.bits]
        kinds, oas = self.entries.leaves(words[at], 0) if at.size else (np.zeros(0, np.int32), words[at])
        for index in self._told(kinds):
            pointer, each = read[at[index] // size]
            self._bad(Table(level, pointer.pa, pointer.iova, each, leaf), int(at[index] % size), int(words[at[index]]))
        return self._made(level, iovas, kinds, oas, rights)

    def _leaves(self, table: Table, start: int, end: int, rights: int) -> Leaves:
        """The leaves of one table's entries."""
        at = start + np.flatnonzero(table.leaf[start:end])
        kinds, oas = self.entries.leaves(table.words[at], table.level.number)
        for index in self._told(kinds):
            self._bad(table, int(at[index]), int(table.words[at[index]]))
        if table.level is self.fmt.top:
            iovas = np.array([self._iova(table, index) for index in at.tolist()], np.uint64)
        else:
            iovas = np.uint64(table.iova) + (at.astype(np.uint64) << np.uint64(table.level.lo))
        return self._made(table.level, iovas, kinds, oas, np.full(at.shape, rights))

    def _made(self, level: Level, iovas: U64Array, kinds: KindArray, oas: U64Array, rights: np.ndarray) -> Leaves:
        """Entries that are legal, each with its own part of its leaf, and with the rights of the whole walk."""
        legal = kinds != ILLEGAL
        if not legal.all():
            iovas, kinds, oas, rights = iovas[legal], kinds[legal], oas[legal], rights[legal]
        kinds = self._limited(kinds, rights)
        found = np.bincount(kinds, minlength=1)
        pas = oas
        for number in np.flatnonzero(found).tolist():
            lg2 = self.entries.kinds[number].leaf_lg2
            self.leaves[lg2] += int(found[number]) >> max(lg2 - level.lo, 0)
            if lg2 > level.lo:
                of = kinds == number
                pas = np.where(of, oas | (iovas & np.uint64((1 << lg2) - 1)), pas)
        self.mapped += iovas.size << level.lo
        return Leaves(iovas, np.full(iovas.shape, 1 << level.lo, np.uint64), pas, kinds)

    def _limited(self, kinds: KindArray, rights: np.ndarray) -> KindArray:
        """The kinds with only the rights that the tables above grant."""
        if (rights == 3).all():
            return kinds
        both, inverse = np.unique(kinds.astype(np.int64) << 2 | rights, return_inverse=True)
        known = self.entries.kinds
        numbers = []
        for each in both.tolist():
            kind = known[each >> 2]
            numbers.append(known.number(kind._replace(rights=kind.rights & each & 3)))
        return np.array(numbers, np.int32)[inverse] if numbers else kinds

    def _iova(self, table: Table, index: int) -> int:
        iova = table.iova + (index << table.level.lo)
        return self.fmt.canonical(iova) if table.level is self.fmt.top else iova

    # -- reading, and what is wrong

    def seen(self, table: Table) -> None:
        """A table was read; for those who look at tables as such."""
        self.tables[table.level.number] += 1

    def _read(self, pa: int, level: Level, place: str) -> U64Array | None:
        """The words of a table; None, with a finding, if it cannot be read or must not be followed."""
        if pa in self._path:
            why = f"the table {pa:#x} leads to itself; it is not followed again"
            self._add(Finding("I2", place, f"{pa:#x}", why, _MEND))
            return None
        shared = pa in self.table_pas
        self._shared += shared
        if self._shared > SHARED:
            why = f"the table {pa:#x} is shared, as {SHARED:,} before it that were followed; it is not"
            self._add(Finding("I2", place, f"{pa:#x}", why, "look at one part of the space: --iova"))
            return None
        try:
            words = self.memory.view(pa, 1 << level.bits)
        except BusError as error:
            self._unreadable(place, f"{pa:#x}", f"{level} table at {pa:#x}: {error.why}")
            return None
        if not shared:
            self.table_bytes += 8 << level.bits
            self.table_pas[pa] = level.number
        return words

    def place(self, table: Table, index: int) -> str:
        """Where an entry stands, in words."""
        return (
            f"{table.level} table {table.pa:#x} index {index} at {table.pa + 8 * index:#x}, "
            f"IOVA {self._iova(table, index):#x}"
        )

    def _told(self, kinds: KindArray) -> list[int]:
        """Which illegal entries are told one by one; the others are counted."""
        illegal = np.flatnonzero(kinds == ILLEGAL)
        told = illegal[: self.findings.room("W1")].tolist()
        self.findings.more("W1", illegal.size - len(told))
        self._illegal += illegal.size - len(told)
        return [int(each) for each in told]

    def _bad(self, table: Table, index: int, word: int) -> None:
        self._illegal += 1
        if not self.findings.room("W1"):
            self.findings.more("W1", 1)
            return
        faults = self.fmt.faults(word, table.level.number)
        why = faults[0] if faults else "hardware refuses the entry"
        self.findings.add(Finding("W1", self.place(table, index), f"{word:#x}", why, _MEND))

    def _give_up(self, table: Table) -> None:
        """Say once that the rest is not read."""
        if not self._gave_up:
            why = f"more than {HOPELESS:,} entries are illegal; what follows is not read"
            do = "check format and root: these are hardly page tables"
            self._add(Finding("I2", f"table {table.pa:#x}, IOVA {table.iova:#x}", f"{table.pa:#x}", why, do))
        self._gave_up = True

    def _unreadable(self, place: str, entry: str, why: str) -> None:
        do = "give the memory that is missing, or check where the image's segments lie"
        self._add(Finding("I1", place, entry, why, do))

    def _add(self, finding: Finding) -> None:
        self._illegal += 1
        self.findings.add(finding)


def leaves_text(leaves: Counter[int]) -> dict[str, int]:
    """Counts of leaves by size as people write it, ascending."""
    return {lg2_text(lg2): count for lg2, count in sorted(leaves.items())}

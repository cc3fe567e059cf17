"""The page format vocabulary: what a vendor says about its tables, and all that follows from it.

A format gives a dozen small facts; each takes one word as an int or many as a uint64 array.
Everything else (walk step, legality, explanation) has its default here.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

from attrs import frozen

from hitless.bits import BoolArray, Layout, W
from hitless.units import lg2_text

READ = 1
WRITE = 2
_BASES, _POINTERS = 1024, 4096
"""Of so many sizes and attributes of leaves, and of so many pointers, a format knows what there is to know."""

_REMEMBERED = 1 << 14
"""Words of a level that a format remembers; then it begins anew."""


@frozen
class Level:
    """One level of tables.

    Args:
        number: 0 = the table whose entries map the smallest page.
        lo: lowest IOVA bit of its index; an entry spans 2**lo bytes.
        bits: number of index bits; a table has 2**bits entries.
        spec_level: the vendor's own number, the one that options take.
        spec_name: ``AMD level 2``.
    """

    number: int
    lo: int
    bits: int
    spec_level: int
    spec_name: str

    @property
    def table_lg2(self) -> int:
        """log2 of a table's size in bytes."""
        return self.bits + 3

    def __str__(self) -> str:
        return f"level {self.number} ({self.spec_name})"


@frozen
class LeafSize:
    """One size that a leaf may have.

    Args:
        lg2: log2 of the bytes that the whole leaf maps.
        level: number of the level whose tables hold it.
        entries_lg2: log2 of the adjacent entries that make it up; 0 = a plain leaf, more = a run.
    """

    lg2: int
    level: int
    entries_lg2: int = 0


class Position(NamedTuple):
    """A walk under way: the next entry to read is the one for ``iova`` in this table."""

    stage: str
    level: int
    table_pa: int
    iova: int
    rights: int


class Leaf(NamedTuple):
    """The leaf that a walk ended at; ``iova`` and ``oa`` are the starts of the whole leaf."""

    stage: str
    level: int
    iova: int
    size_lg2: int
    oa: int
    rights: int
    attrs: int
    word: int


class WalkFault(NamedTuple):
    """Why a walk ended without a leaf: ``not-present``, ``reserved``, ``range``, ``permission``, ``access`` (AF)."""

    stage: str
    level: int
    iova: int
    word: int
    kind: str


class AddressBits(NamedTuple):
    """Where entries of one level hold addresses: bits of a word, each ``shift`` below the address bit that it is.

    Bits of addresses beyond the format's width, below a leaf's size, or held elsewhere, are not among them.
    """

    leaf: int
    leaf_shift: int
    table: int
    table_shift: int

    def above(self, lg2: int) -> int:
        """Those of ``leaf`` that hold the address of a leaf of that size."""
        return self.leaf & -1 << max(0, lg2 - self.leaf_shift)


class PageFormat(ABC):
    """Base of all page formats.

    A format sets ``levels`` (index = level number, the last is the root's), ``oa_bits`` and the
    layouts, and writes the abstract functions. ``attrs`` is a format's own word of everything in
    a leaf that is not address, size, type or run bit: rights, memory type, snoop, A and D; it is
    the same number at every level and size, so that a cut or merge can carry it.

    A run is several adjacent entries that hardware may cache as one leaf (AMD size 7, Arm
    contiguous, RISC-V NAPOT). A format that has runs adds their sizes to ``leaf_sizes``, and then
    answers ``leaf_lg2``, ``leaf_oa`` and ``run_step`` for them.

    Attributes:
        name: ``amd/v1``.
        stage: ``1`` or ``2``: which half of a nested translation it makes; a table that stands
            alone and maps guest physical addresses is stage 2.
        source: specification and section.
        recorded_as: names of recordings that the format answers (``hitless vectors``).
        run_mix: whether the hardware allows the entries of a run to be rewritten one by one while
            the others still hold the old form.
    """

    name: ClassVar[str]
    stage: ClassVar[str] = "2"
    source: ClassVar[str]
    recorded_as: ClassVar[tuple[str, ...]] = ()
    run_mix: bool = False
    levels: tuple[Level, ...]
    oa_bits: int

    # -- what a format must say

    @abstractmethod
    def layout(self, kind: str, level: int) -> Layout | None:
        """Bits of a ``leaf`` or ``table`` entry in a table of this level; None: not legal there."""

    @abstractmethod
    def present(self, word: W) -> bool | BoolArray:
        """Whether the entry is anything but empty."""

    @abstractmethod
    def is_leaf(self, word: W, level: int) -> bool | BoolArray:
        """Whether a present entry of a table of this level is a leaf."""

    @abstractmethod
    def table_pa(self, word: W) -> W:
        """The address of the table that a pointer points to."""

    @abstractmethod
    def leaf_oa(self, word: W, level: int) -> W:
        """The output address of the start of the whole leaf: for every entry of a run the same."""

    @abstractmethod
    def attrs(self, word: W, level: int) -> W:
        """Everything in a leaf but address, size, type and run bit."""

    @abstractmethod
    def leaf(self, size_lg2: int, oa: W, attrs: int) -> W:
        """The word of the first entry of a leaf of one of ``leaf_sizes``; see :meth:`run_step`."""

    @abstractmethod
    def table(self, level: int, child_pa: W) -> W:
        """A pointer, in a table of this level, to a table one level below."""

    @abstractmethod
    def default_attrs(self, rights: int) -> int:
        """The attributes of guest memory with these rights (READ | WRITE), A and D clear."""

    @abstractmethod
    def rights(self, word: int, level: int) -> int:
        """READ | WRITE that an entry grants to what lies below or behind it."""

    # -- what follows, unless a format knows better

    @cached_property
    def leaf_sizes(self) -> tuple[LeafSize, ...]:
        """Sizes of all leaves that the format can encode, ascending: one a level that may hold leaves."""
        return tuple(
            LeafSize(each.lo, each.number) for each in self.levels if self.layout("leaf", each.number) is not None
        )

    def leaf_lg2(self, word: W, level: int) -> W | int:
        """log2 of the size of the whole leaf that this entry is, or is part of."""
        return self.levels[level].lo

    def table_below(self, word: int, level: int) -> int | None:
        """The table that a pointer in a table of this level leads to, one level down; None: it is anything else."""
        known = self._tables_below
        if (word, level) in known:
            return known[word, level]
        if len(known) >= _POINTERS:
            known.clear()
        pointer = self.present(word) and not self.is_leaf(word, level) and self.child_level(word, level) == level - 1
        found = known[word, level] = int(self.table_pa(word)) if pointer else None
        return found

    @cached_property
    def _tables_below(self) -> dict[tuple[int, int], int | None]:
        return {}

    def leaf_base(self, size_lg2: int, attrs: int) -> int | None:
        """What a plain leaf's word holds beside its address, if that stands in it as it is; None: it does not."""
        known = self._leaf_bases
        found = known.get((size_lg2, attrs), -1)
        if found == -1:
            if len(known) >= _BASES:
                known.clear()
            found = known[size_lg2, attrs] = self._leaf_base(size_lg2, attrs)
        return found

    def _leaf_base(self, size_lg2: int, attrs: int) -> int | None:
        base = self.leaf(size_lg2, 0, attrs)
        bits = (1 << at for at in range(size_lg2, self.oa_bits))
        plain = not self.leaf_size(size_lg2).entries_lg2
        return base if plain and all(self.leaf(size_lg2, oa, attrs) == base | oa != base for oa in bits) else None

    @cached_property
    def _leaf_bases(self) -> dict[tuple[int, int], int | None]:
        return {}

    def run_step(self, size_lg2: int) -> int:
        """What is added to a word from one entry of a run to the next; 0: all entries are equal."""
        return 0

    def child_level(self, word: W, level: int) -> W | int:
        """Level of the table that a pointer points to."""
        return level - 1

    def canonical(self, iova: int) -> int:
        """The IOVA as a device issues it, from its low ``iova_bits`` (sign-extended input, upper half)."""
        return iova

    def start(self, root_pa: int, iova: int) -> Position | WalkFault:
        """Where a walk starts; a fault ``range`` if the root cannot index the IOVA."""
        mask, top = self._input
        if self.canonical(iova & mask) != iova:
            return WalkFault(self.stage, top, iova, 0, "range")
        return Position(self.stage, top, root_pa, iova, READ | WRITE)

    @cached_property
    def _input(self) -> tuple[int, int]:
        """The bits of an IOVA that the root indexes, and the root's level."""
        return (1 << self.iova_bits) - 1, self.top.number

    def hardware_set(self, level: int) -> int:
        """Bits that hardware may change in a leaf: A and D."""
        layout = self.layout("leaf", level)
        return layout.hardware if layout else 0

    def hardware_clears(self, level: int) -> int:
        """Those of ``hardware_set`` that hardware clears instead of setting (read-only: a clean page)."""
        return 0

    def dirty_bits(self, level: int) -> tuple[int, int]:
        """The bits that a write sets in a leaf, and those that it clears: what hardware changes but the access flag."""
        layout = self.layout("leaf", level)
        accessed = sum(each.mask for each in layout.fields if each.name in ("A", "AF")) if layout else 0
        clears = self.hardware_clears(level)
        return self.hardware_set(level) & ~accessed & ~clears, clears

    def cacheable(self, word: int, level: int) -> bool:
        """Whether a cached copy of this leaf can take part in a TLB conflict (Arm: nT clear)."""
        return True

    def attrs_text(self, attrs: int) -> str:
        """The attributes in a few letters, rights first: ``RW``."""
        size = self.leaf_sizes[0]
        rights = self.rights(self.leaf(size.lg2, 0, attrs), size.level)
        return ("R" if rights & READ else "-") + ("W" if rights & WRITE else "-")

    @property
    def top(self) -> Level:
        """The root table's level."""
        return self.levels[-1]

    @property
    def iova_bits(self) -> int:
        return self.top.lo + self.top.bits

    @property
    def leaf_lg2s(self) -> tuple[int, ...]:
        """log2 of the sizes of all leaves that the format can encode, ascending."""
        return tuple(self._leaf_size)

    @cached_property
    def _leaf_size(self) -> Mapping[int, LeafSize]:
        return {each.lg2: each for each in self.leaf_sizes}

    @cached_property
    def _lg2s_at(self) -> tuple[frozenset[int], ...]:
        """By level: the sizes of its leaves."""
        return tuple(
            frozenset(size.lg2 for size in self.leaf_sizes if size.level == each.number) for each in self.levels
        )

    @cached_property
    def address_bits(self) -> tuple[AddressBits, ...]:
        """By level: where entries hold addresses, found by asking about one bit after another."""
        found = []
        for level in self.levels:
            leaf = ((at, self.leaf_oa(1 << at, level.number)) for at in range(64))
            table = ((at, self.table_pa(1 << at)) for at in range(64))
            found.append(
                AddressBits(*_run_of_bits(leaf, level.lo, self.oa_bits), *_run_of_bits(table, 0, self.oa_bits))
            )
        return tuple(found)

    def leaf_size(self, lg2: int) -> LeafSize:
        """The leaf of that size; KeyError with what there is."""
        try:
            return self._leaf_size[lg2]
        except KeyError:
            known = ", ".join(map(lg2_text, self.leaf_lg2s))
            raise KeyError(f"{self.name} has no leaf of {lg2_text(lg2)}; it has {known}") from None

    def spec_level(self, number: int) -> Level:
        """The level with the vendor's number; KeyError with what there is."""
        for each in self.levels:
            if each.spec_level == number:
                return each
        raise KeyError(f"{self.name} has no level {number}; it has {[each.spec_level for each in self.levels]}")

    def step(self, position: Position, word: int) -> "Position | Leaf | WalkFault":
        """One step of a walk: what the entry just read means for this request.

        A pure function: position and word in; next position, leaf or fault out.
        """
        stage, level, _, iova, rights = position
        known = self._entries[level].get(word)
        if known is None:
            known = self._remember(word, level)
        kind, granted, size_or_level, address, attrs = known
        if kind == "table":
            if size_or_level != level - 1 and self._skipped(iova, level, size_or_level):
                return WalkFault(stage, level, iova, word, "range")
            return Position(stage, size_or_level, address, iova, rights & granted)
        if kind == "leaf":
            start = iova >> size_or_level << size_or_level
            return Leaf(stage, level, start, size_or_level, address, rights & granted, attrs, word)
        return WalkFault(stage, level, iova, word, kind)

    @cached_property
    def _entries(self) -> list[dict[int, tuple[str, int, int, int, int]]]:
        """By level and word, what has been read already: kind, rights, size (of a pointer: level), address, attributes.

        Words come back: every walk reads the same pointers.
        """
        return [{} for _ in self.levels]

    def _remember(self, word: int, level: int) -> tuple[str, int, int, int, int]:
        """Read a word, and keep what it says for the next walk."""
        known = self._entries[level]
        if len(known) >= _REMEMBERED:
            known.clear()
        if not self.present(word):
            found = ("not-present", 0, 0, 0, 0)
        elif self.malformed(word, level):
            found = ("reserved", 0, 0, 0, 0)
        elif self.is_leaf(word, level):
            lg2, oa = int(self.leaf_lg2(word, level)), self.leaf_oa(word, level)
            found = ("leaf", self.rights(word, level), lg2, oa, self.attrs(word, level))
        else:
            found = ("table", self.rights(word, level), self.child_level(word, level), self.table_pa(word), 0)
        known[word] = found
        return found

    def _skipped(self, iova: int, level: int, child: int) -> int:
        """The IOVA bits between a table and the one that its pointer skips down to: they must be 0."""
        below = self.levels[child]
        return (iova & ((1 << self.levels[level].lo) - 1)) >> (below.lo + below.bits)

    def malformed(self, word: int, level: int) -> bool:
        """Whether hardware would refuse the entry; the fast form of :meth:`faults`."""
        leaf = self.is_leaf(word, level)
        layout = self.layout("leaf" if leaf else "table", level)
        if layout is None or word & layout.reserved:
            return True
        return bool(leaf) and self.leaf_lg2(word, level) not in self._lg2s_at[level]

    def faults(self, word: int, level: int) -> Sequence[str]:
        """Everything that makes a present entry illegal in a table of this level (rule W1)."""
        if not self.present(word):
            return []
        kind = "leaf" if self.is_leaf(word, level) else "table"
        layout = self.layout(kind, level)
        if layout is None:
            return [f"{self.name}: no {kind} is legal at {self.levels[level]}"]
        found = list(layout.faults(word))
        address = self.leaf_oa(word, level) if kind == "leaf" else self.table_pa(word)
        if address >> self.oa_bits:
            found.append(f"{self.name}: address {address:#x} is wider than {self.oa_bits} bits")
        if kind == "leaf":
            lg2 = self.leaf_lg2(word, level)
            if lg2 not in self._lg2s_at[level]:
                found.append(f"{self.name}: no leaf of {lg2_text(lg2)} is legal at {self.levels[level]}")
            elif address & ((1 << lg2) - 1):
                found.append(f"{self.name}: address {address:#x} of a {lg2_text(lg2)} leaf is not aligned to its size")
        return found

    def grown(self) -> "PageFormat | None":
        """The format with one more level on top, for a root that may grow; None: it does not.

        Entry 0 of the larger root points to the old one.
        """
        return None

    @property
    def largest(self) -> "PageFormat":
        """The format with its root grown as far as it goes; itself where it does not grow."""
        found = self
        while (larger := found.grown()) is not None:
            found = larger
        return found

    # -- recordings (hitless vectors)

    @classmethod
    def from_recording(cls, config: Mapping[str, Any]) -> "PageFormat | None":
        """The format as a recording's ``config`` says, to which its ``fmt`` is added; None: it does not answer it."""
        return None

    def from_prot(self, prot: int, config: Mapping[str, Any]) -> int | None:
        """The attributes of a leaf with a recording's protection bits; None: they are an error."""
        return None

    def justifies(self, recorded: int, ours: int, level: int, config: Mapping[str, Any]) -> str | None:
        """The section by which our entry is right and a recorded one is not; None: no section says so."""
        return None


def _run_of_bits(asked: Iterable[tuple[int, int]], lo: int, hi: int) -> tuple[int, int]:
    """The word's bits that hold address bits from ``lo`` up to below ``hi`` at the most common distance, and that."""
    by_shift: dict[int, int] = {}
    for at, address in asked:
        if address and lo <= address.bit_length() - 1 < hi:
            shift = address.bit_length() - 1 - at
            by_shift[shift] = by_shift.get(shift, 0) | 1 << at
    shift = max(by_shift, key=lambda each: by_shift[each].bit_count(), default=0)
    return by_shift.get(shift, 0), shift

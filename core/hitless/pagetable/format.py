"""The page format vocabulary: what a vendor says about its tables, and all that follows from it.

A format gives a dozen small facts; each takes one word as an int or many as a uint64 array.
Everything else (walk step, legality, explanation) has its default here.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from attrs import frozen

from hitless.bits import BoolArray, Layout, W
from hitless.units import lg2_text

READ = 1
WRITE = 2


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


class PageFormat(ABC):
    """Base of all page formats.

    A format sets ``levels`` (index = level number, the last is the root's), ``oa_bits`` and the
    layouts, and writes the abstract functions. ``attrs`` is a format's own word of everything in
    a leaf that is not address, size or type: rights, memory type, snoop, A and D; it is the same
    number at every level, so that a cut or merge can carry it.
    """

    name: ClassVar[str]
    stage: ClassVar[str] = ""
    source: ClassVar[str]
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
        """The output address of a leaf."""

    @abstractmethod
    def attrs(self, word: W, level: int) -> W:
        """Everything in a leaf but address, size and type."""

    @abstractmethod
    def leaf(self, level: int, oa: W, attrs: int) -> W:
        """A leaf of this level's size."""

    @abstractmethod
    def table(self, level: int, child_pa: int) -> int:
        """A pointer, in a table of this level, to a table one level below."""

    @abstractmethod
    def default_attrs(self, rights: int) -> int:
        """The attributes of guest memory with these rights (READ | WRITE), A and D clear."""

    @abstractmethod
    def rights(self, word: int, level: int) -> int:
        """READ | WRITE that an entry grants to what lies below or behind it."""

    # -- what follows, unless a format knows better

    def hardware_set(self, level: int) -> int:
        """Bits that hardware may set in a leaf: A and D."""
        layout = self.layout("leaf", level)
        return layout.hardware if layout else 0

    def cacheable(self, word: int, level: int) -> bool:
        """Whether a cached copy of this leaf can take part in a TLB conflict (Arm: nT clear)."""
        return True

    def attrs_text(self, attrs: int) -> str:
        """The attributes in a few letters, rights first: ``RW``."""
        word = self.leaf(0, 0, attrs)
        rights = self.rights(word, 0)
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
        """Sizes of all leaves that the format can encode, ascending."""
        return tuple(each.lo for each in self.levels if self.layout("leaf", each.number) is not None)

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
        if not self.present(word):
            return WalkFault(stage, level, iova, word, "not-present")
        rights &= self.rights(word, level)
        if not self.is_leaf(word, level):
            if self.malformed(word, level):
                return WalkFault(stage, level, iova, word, "reserved")
            return Position(stage, level - 1, self.table_pa(word), iova, rights)
        if self.malformed(word, level):
            return WalkFault(stage, level, iova, word, "reserved")
        lo = self.levels[level].lo
        oa = self.leaf_oa(word, level)
        return Leaf(stage, level, iova >> lo << lo, lo, oa, rights, self.attrs(word, level), word)

    def malformed(self, word: int, level: int) -> bool:
        """Whether hardware would refuse the entry; the fast form of :meth:`faults`."""
        kind = "leaf" if self.is_leaf(word, level) else "table"
        layout = self.layout(kind, level)
        return layout is None or word & layout.reserved != 0

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
        lo = self.levels[level].lo
        if kind == "leaf" and address & ((1 << lo) - 1):
            found.append(f"{self.name}: address {address:#x} of a {lg2_text(lo)} leaf is not aligned to its size")
        return found

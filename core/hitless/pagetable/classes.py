"""What many entries mean at once: entries that differ only in their address are of one class, asked about once.

A class is what :meth:`PageFormat.step` says of one of its entries, so that nothing is known here that the format does
not say: faults, reserved bits, runs and pointers that skip levels included. Of a format it is taken that its answer
depends on the address that a word holds only where the address is too wide, or has bits below the size of its leaf.
"""

from collections.abc import Iterator
from typing import NamedTuple, TypeAlias, cast

import numpy as np
from attrs import define, field
from numpy.typing import NDArray

from hitless.bits import MASK64, U64Array
from hitless.pagetable.format import READ, WRITE, AddressBits, Leaf, PageFormat, Position, WalkFault

Which: TypeAlias = "NDArray[np.intp] | slice"
"""Which entries: indices, or all of them."""

ALL = slice(None)
LEAF = 0
DESCEND = 128
"""``code`` of a class: LEAF, the number of a fault, or DESCEND + the level of the table that it points to."""
_PEELED = 12


class EntryClass(NamedTuple):
    """What entries of one class mean.

    Args:
        code: LEAF, a fault's number, or DESCEND + level.
        rights: READ | WRITE that they grant.
        address: the bits of a word that hold its address, shifted left by ``shift`` (right, if negative).
        plus: is added to the address, modulo 2**64.
        inside: bits of an IOVA that are added to a leaf's address.
    """

    code: int
    rights: int
    address: np.uint64 = np.uint64(0)
    shift: int = 0
    plus: np.uint64 = np.uint64(0)
    inside: np.uint64 = np.uint64(0)

    def addresses(self, words: U64Array) -> U64Array:
        """Of tables, or of the whole leaves, that the words point to."""
        found = words & self.address
        if self.shift > 0:
            found <<= np.uint64(self.shift)
        elif self.shift < 0:
            found >>= np.uint64(-self.shift)
        if self.plus:
            found += self.plus
        return found

    def oas(self, words: U64Array, iovas: U64Array) -> U64Array:
        """Where leaves lead IOVAs."""
        found = self.addresses(words)
        found += iovas & self.inside
        return found


@define
class LevelClasses:
    """The classes of entries in tables of one level.

    Args:
        fmt, number: the format and the level.
        faults: numbers of the kinds of faults, from 1 on; new ones are added.
    """

    fmt: PageFormat
    number: int
    faults: dict[str, int]
    bits: AddressBits = field(init=False)
    _key: np.uint64 = field(init=False)
    _below: np.uint64 = field(init=False)
    _known: dict[tuple[int, int, bool], EntryClass] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        leaf, leaf_shift, table, table_shift = self.fmt.address_bits[self.number]
        table &= -1 if self.number else 0
        self.bits = AddressBits(leaf & (table if self.number else leaf), leaf_shift, table, table_shift)
        self._key = np.uint64((self.bits.leaf | self.bits.table) ^ MASK64)
        self._below = np.uint64(self.bits.table & ~self.bits.leaf)

    def keys(self, words: U64Array) -> U64Array:
        """The bits by which words are of one kind: empty, pointer, leaf or run."""
        return words & self._key

    def kinds(self, words: U64Array) -> Iterator[tuple[int, Which]]:
        """The kinds of entries that there are, as one word each, and which they are."""
        if not words.size:
            return
        keys, left = self.keys(words), cast(Which, ALL)
        for _ in range(_PEELED):
            same = keys == keys[0]
            count = np.count_nonzero(same)
            if count == keys.size:
                yield int(words[left][0]), left
                return
            here = np.flatnonzero(same)
            others = np.flatnonzero(np.logical_not(same, out=same))
            which = here if isinstance(left, slice) else left[here]
            yield int(words[which[0]]), which
            keys, left = keys[others], others if isinstance(left, slice) else left[others]
        for which in _groups(keys):
            within = cast("NDArray[np.intp]", left)[which]
            yield int(words[within[0]]), within

    def classes(self, words: U64Array, iovas: U64Array) -> Iterator[tuple[Which, EntryClass]]:
        """The classes of entries, each read for one IOVA, and which they are."""
        for word, which in self.kinds(words):
            if not self.fmt.present(word):
                yield which, self._class(word, int(iovas[which][0]))
            elif not self.fmt.is_leaf(word, self.number):
                yield from self._pointers(word, which, iovas)
            else:
                yield from self._leaves(which, words, iovas)

    def _pointers(self, word: int, which: Which, iovas: U64Array) -> Iterator[tuple[Which, EntryClass]]:
        """One class; of pointers that skip levels two, by whether the IOVA bits that index nothing are 0."""
        levels, iova = self.fmt.levels, int(iovas[which][0])
        child = self.fmt.child_level(word, self.number)
        if child >= self.number - 1:
            yield which, self._class(word, iova)
            return
        skipped = (1 << levels[self.number].lo) - (1 << levels[child].lo + levels[child].bits)
        beyond = (iovas[which] & np.uint64(skipped)) != 0
        for part in (np.flatnonzero(~beyond), np.flatnonzero(beyond)):
            if part.size:
                here = _within(which, part)
                yield here, self._class(word, int(iovas[here[0]]), skips=bool(beyond[part[0]]))

    def _leaves(self, which: Which, words: U64Array, iovas: U64Array) -> Iterator[tuple[Which, EntryClass]]:
        """Plain leaves by the address bits below their size, which are reserved or mean something else; runs."""
        mine = words[which]
        parts: Iterator[NDArray[np.intp]] | None = None
        if self._below:
            low = mine & self._below
            parts = None if (low == low[0]).all() else _groups(low)
        for part in parts or (None,):
            here = which if part is None else _within(which, part)
            word = int(words[here][0])
            if int(self.fmt.leaf_lg2(word, self.number)) != self.fmt.levels[self.number].lo:
                yield from self._runs(here, words, iovas)
            else:
                yield here, self._class(word, int(iovas[here][0]))

    def _runs(self, which: Which, words: U64Array, iovas: U64Array) -> Iterator[tuple[Which, EntryClass]]:
        """Entries of runs by size, by the address bits below it, and by their place in the run."""
        lo = self.fmt.levels[self.number].lo
        sizes = np.broadcast_to(self.fmt.leaf_lg2(words[which], self.number), words[which].shape).astype(np.uint64)
        for of_size in _groups(sizes):
            here = _within(which, of_size)
            lg2 = int(sizes[of_size[0]])
            inside = np.uint64((1 << max(lg2, lo)) - (1 << lo))
            address = self.bits.above(lg2)
            for of_word in _groups(words[here] & np.uint64(self.bits.leaf & ~address)):
                for of_place in _groups(iovas[here[of_word]] & inside):
                    part = here[of_word[of_place]]
                    word, iova = int(words[part[0]]), int(iovas[part[0]])
                    yield part, self._step(word, iova, address)

    def _class(self, word: int, iova: int, *, skips: bool = False) -> EntryClass:
        key = (word & int(self._key), word & int(self._below), skips)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._step(word, iova, self.bits.leaf)
        return known

    def _step(self, word: int, iova: int, address: int) -> EntryClass:
        """The class of an entry; ``address``: the bits in which leaves of it differ."""
        fmt = self.fmt
        found = fmt.step(Position(fmt.stage, self.number, 0, iova, READ | WRITE), word)
        if isinstance(found, WalkFault):
            return EntryClass(self.faults.setdefault(found.kind, len(self.faults) + 1), 0)
        if isinstance(found, Leaf):
            mask, shift, at, code = address, self.bits.leaf_shift, found.oa, LEAF
            inside = (1 << found.size_lg2) - 1
        else:
            mask, shift, at, code = self.bits.table, self.bits.table_shift, found.table_pa, DESCEND + found.level
            inside = 0
        plain = EntryClass(code, found.rights, np.uint64(mask), shift, inside=np.uint64(inside))
        held = int(plain.addresses(np.array([word], np.uint64))[0])
        return plain._replace(plus=np.uint64((at - held) & MASK64))


def classes_of(fmt: PageFormat) -> tuple[list[LevelClasses], dict[str, int]]:
    """The classes of every level, by its number, and the numbers of faults, which they share."""
    faults: dict[str, int] = {}
    return [LevelClasses(fmt, level.number, faults) for level in fmt.levels], faults


def _within(which: Which, part: NDArray[np.intp]) -> NDArray[np.intp]:
    return part if isinstance(which, slice) else which[part]


def _groups(values: U64Array) -> Iterator[NDArray[np.intp]]:
    """The indices of equal values, one array for each."""
    if (values == values[0]).all():
        yield np.arange(values.size)
        return
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    yield from np.split(order, np.flatnonzero(ordered[1:] != ordered[:-1]) + 1)

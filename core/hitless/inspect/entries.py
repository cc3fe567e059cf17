"""Many entries at a time: which leaves there are in arrays of words, and of what kind.

Entries that differ only in their address are of one class, and each class is asked about once: a million leaves cost
a few array operations and a handful of calls of the format.
"""

from typing import NamedTuple

import numpy as np
from attrs import define, field
from numpy.typing import NDArray

from hitless.bits import MASK64, U64Array
from hitless.pagetable import READ, WRITE, Leaf, PageFormat, Position, WalkFault

KindArray = NDArray[np.int32]
ILLEGAL = -1
"""Instead of a kind: hardware refuses the entry."""
_CACHED = 1 << 16


class Kind(NamedTuple):
    """What leaves have in common: rights that they grant, attributes, log2 of the whole leaf's size."""

    rights: int
    attrs: int
    leaf_lg2: int


@define
class Kinds:
    """Kinds by number."""

    all: list[Kind] = field(factory=list)
    _numbers: dict[Kind, int] = field(factory=dict)

    def number(self, kind: Kind) -> int:
        """The number of a kind, a new one if there is none."""
        if kind not in self._numbers:
            self._numbers[kind] = len(self.all)
            self.all.append(kind)
        return self._numbers[kind]

    def __getitem__(self, number: int) -> Kind:
        return self.all[number]


@define
class Entries:
    """Decodes the leaves of one format; remembers each class that it met."""

    fmt: PageFormat
    kinds: Kinds = field(factory=Kinds)
    _classes: dict[tuple[int, int, int], int] = field(factory=dict)
    _address: list[int] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._address = [_address_bits(self.fmt, level.number) for level in self.fmt.levels]

    def leaves(self, words: U64Array, level: int) -> tuple[KindArray, U64Array]:
        """Of leaf entries in tables of a level: their kinds (or ILLEGAL), and the address of each whole leaf."""
        fmt = self.fmt
        oas = fmt.leaf_oa(words, level)
        if fmt.layout("leaf", level) is None:
            return np.full(words.shape, ILLEGAL, np.int32), oas
        keys = words & np.uint64(self._address[level] ^ MASK64)
        lg2s = fmt.leaf_lg2(words, level)
        first, inverse = _classes(keys, lg2s)
        sizes = np.broadcast_to(lg2s, words.shape)
        found = [self._class(int(words[at]), int(keys[at]), int(sizes[at]), level) for at in first.tolist()]
        kinds = np.array(found, np.int32)[inverse]
        wide = oas >> np.uint64(fmt.oa_bits) != 0
        if wide.any():
            kinds[wide] = ILLEGAL
        return kinds, oas

    def _class(self, word: int, key: int, lg2: int, level: int) -> int:
        known = self._classes.get((level, key, lg2))
        if known is None:
            if len(self._classes) >= _CACHED:
                self._classes.clear()
            known = self._classes[level, key, lg2] = self._kind(word, lg2, level)
        return known

    def _kind(self, word: int, lg2: int, level: int) -> int:
        """The kind of a leaf entry, by what a walk says of it; one that faults on access grants nothing."""
        fmt = self.fmt
        if fmt.malformed(word, level):
            return ILLEGAL
        at = fmt.step(Position(fmt.stage, level, 0, 0, READ | WRITE), word)
        attrs = fmt.attrs(word, level) & (fmt.hardware_set(level) ^ MASK64)
        if isinstance(at, Leaf):
            return self.kinds.number(Kind(at.rights, attrs, lg2))
        if isinstance(at, WalkFault) and at.kind == "access":
            return self.kinds.number(Kind(0, attrs, lg2))
        return self.kinds.number(Kind(fmt.rights(word, level), attrs, lg2))


def _classes(keys: U64Array, lg2s: U64Array | int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The first entry of each class, and the class of each entry."""
    if isinstance(lg2s, np.ndarray) and (lg2s != lg2s[0]).any():
        _, by_key = np.unique(keys, return_inverse=True)
        keys = by_key.astype(np.uint64) << np.uint64(7) | lg2s
    if (keys == keys[0]).all():
        return np.zeros(1, np.intp), np.zeros(keys.shape, np.intp)
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    return first, inverse


def _address_bits(fmt: PageFormat, level: int) -> int:
    layout = fmt.layout("leaf", level)
    return 0 if layout is None else sum(each.mask for each in layout.fields if each.unit)

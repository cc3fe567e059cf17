"""Bit layouts as data, and the few helpers that know ints from arrays.

A word is a Python int, or many words are a uint64 array. Formats never use a raw operator on a
word: they go through these helpers, which mask to 64 bits and carry the casts.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias, TypeVar, cast

import numpy as np
from attrs import field, frozen
from numpy.typing import NDArray

U64Array: TypeAlias = NDArray[np.uint64]
BoolArray: TypeAlias = NDArray[np.bool_]
W = TypeVar("W", int, U64Array)
MASK64 = (1 << 64) - 1


@frozen
class Field:
    """Bits ``hi:lo`` of a word or of a multi-word structure (then counted from bit 0 of word 0).

    Args:
        name: the spec's name.
        hi, lo: bit positions, both inclusive.
        meaning: what an engineer wants to read beside the value.
        role: ``value``; ``reserved`` (must be ``fixed``); ``ignored`` (hardware does not look);
            ``hardware`` (hardware may set it).
        fixed: the one legal value, where there is only one.
        values: names of values.
        unit: where the value is an address: the bytes that it counts; 0: it is none.
    """

    name: str
    hi: int
    lo: int
    meaning: str = ""
    role: str = "value"
    fixed: int | None = None
    values: Mapping[int, str] = field(factory=dict, eq=False)
    unit: int = 0
    mask: int = field(init=False, eq=False, repr=False)
    ones: int = field(init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        if not 0 <= self.lo <= self.hi:
            raise ValueError(f"field {self.name!r} must have 0 <= lo <= hi, not hi={self.hi} lo={self.lo}")
        if self.role not in {"value", "reserved", "ignored", "hardware"}:
            raise ValueError(f"field {self.name!r}: unknown role {self.role!r}")
        width = self.hi - self.lo + 1
        object.__setattr__(self, "ones", (1 << width) - 1)
        object.__setattr__(self, "mask", ((1 << width) - 1) << self.lo)
        if self.fixed is not None and self.fixed >> width:
            raise ValueError(f"field {self.name!r} is {width} bits wide, its fixed value {self.fixed:#x} is not")

    @property
    def bits(self) -> str:
        """``63:12``, or ``5`` for one bit."""
        return str(self.lo) if self.hi == self.lo else f"{self.hi}:{self.lo}"


def bit(name: str, position: int, meaning: str = "", role: str = "value", fixed: int | None = None) -> Field:
    """A one-bit field."""
    return Field(name, position, position, meaning, role, fixed)


def reserved(hi: int, lo: int) -> Field:
    """Bits that must be 0."""
    return Field(f"reserved {hi}:{lo}", hi, lo, "", "reserved", 0)


def ignored(hi: int, lo: int, meaning: str = "hardware ignores it") -> Field:
    """Bits that hardware does not look at."""
    return Field(f"ignored {hi}:{lo}", hi, lo, meaning, "ignored")


def get(word: W, at: Field) -> W:
    """The field's value, shifted down to bit 0."""
    if isinstance(word, int):
        return word >> at.lo & at.ones
    return (word >> np.uint64(at.lo)) & np.uint64(at.ones)


def masked(word: W, at: Field) -> W:
    """The field's bits where they stand: an address field gives the address."""
    if isinstance(word, int):
        return word & at.mask
    return word & np.uint64(at.mask)


def put(word: W, at: Field, value: W | int) -> W:
    """The word with the field set to a value given from bit 0; the value must fit."""
    if isinstance(word, int):
        if not 0 <= value <= at.ones:
            raise ValueError(f"{at.name} is {at.hi - at.lo + 1} bits wide, {value:#x} is not")
        return (word & ~at.mask & MASK64) | (value << at.lo)
    return (word & np.uint64(~at.mask & MASK64)) | ((as_words(value) & np.uint64(at.ones)) << np.uint64(at.lo))


def place(word: W, at: Field, value: W | int) -> W:
    """The word with the field's bits taken from the same bits of ``value``: for addresses."""
    if isinstance(word, int):
        return (word & ~at.mask & MASK64) | (value & at.mask)
    return (word & np.uint64(~at.mask & MASK64)) | (as_words(value) & np.uint64(at.mask))


def keep(word: W, mask: int) -> W:
    """The word's bits under a mask."""
    if isinstance(word, int):
        return word & mask
    return word & np.uint64(mask)


def drop(word: W, mask: int) -> W:
    """The word without the bits of a mask."""
    return keep(word, ~mask & MASK64)


def join(word: W, other: W | int) -> W:
    """The bits of both words."""
    if isinstance(word, int) and isinstance(other, int):
        return word | other
    return cast(W, as_words(word) | as_words(other))


def test(word: W, at: Field) -> bool | BoolArray:
    """Whether any bit of the field is set."""
    if isinstance(word, int):
        return word & at.mask != 0
    return cast(BoolArray, (word & np.uint64(at.mask)) != np.uint64(0))


def equals(word: W, at: Field, value: int) -> bool | BoolArray:
    """Whether the field has the value."""
    if isinstance(word, int):
        return word >> at.lo & at.ones == value
    return cast(BoolArray, ((word >> np.uint64(at.lo)) & np.uint64(at.ones)) == np.uint64(value))


def both(a: bool | BoolArray, b: bool | BoolArray) -> bool | BoolArray:
    """Logical and, for bools and for arrays of them."""
    if isinstance(a, bool) and isinstance(b, bool):
        return a and b
    return np.logical_and(a, b)


def either(a: bool | BoolArray, b: bool | BoolArray) -> bool | BoolArray:
    """Logical or, for bools and for arrays of them."""
    if isinstance(a, bool) and isinstance(b, bool):
        return a or b
    return np.logical_or(a, b)


def negate(a: bool | BoolArray) -> bool | BoolArray:
    """Logical not, for bools and for arrays of them."""
    return not a if isinstance(a, bool) else np.logical_not(a)


def select(condition: bool | BoolArray, yes: W | int, no: W | int) -> W:
    """``yes`` where the condition holds, else ``no``."""
    if isinstance(condition, bool):
        return yes if condition else no  # type: ignore[return-value]
    return cast(W, np.where(condition, as_words(yes), as_words(no)))


def lowest_zero(word: W, lo: int) -> W:
    """The position of the lowest bit at or above ``lo`` that is 0 (64 if there is none)."""
    if isinstance(word, int):
        inverted = ~word & MASK64 & (MASK64 << lo)
        return (inverted & -inverted).bit_length() - 1 if inverted else 64
    inverted_words = ~word & np.uint64(MASK64 << lo & MASK64)
    lowest = inverted_words & (~inverted_words + np.uint64(1))
    return np.where(lowest == 0, np.uint64(64), np.bitwise_count(lowest - np.uint64(1)).astype(np.uint64))


def drop_trailing_ones(word: W) -> W:
    """The word without the ones below its lowest 0."""
    if isinstance(word, int):
        return word & word + 1
    return word & word + np.uint64(1)


def as_words(value: int | U64Array) -> U64Array:
    """The value as uint64, so that no int64 or float64 can slip in."""
    return np.asarray(value, dtype=np.uint64)


def fill_ramp(view: U64Array, first: int, increment: int) -> None:
    """Set an array to first, first + increment, ... modulo 2**64."""
    view[:] = np.arange(len(view), dtype=np.uint64) * np.uint64(increment) + np.uint64(first)


def _by_position(fields: Sequence[Field]) -> tuple[Field, ...]:
    return tuple(sorted(fields, key=lambda each: each.lo))


@frozen
class Layout:
    """All bits of a word or structure, by field; every bit must belong to exactly one field.

    Args:
        name: what it lays out, in the spec's words.
        source: spec, section, table.
        fields: any order.
        width: 64 for a table entry; 128, 256 or 512 for commands, events and structures.
        reserved, hardware: the bits of all fields with that role.
        fixed_mask, fixed: the bits of all fields with one legal value, and what they hold.

    Raises:
        ValueError: fields overlap, repeat a name, or leave a bit undeclared.
    """

    name: str
    source: str
    fields: tuple[Field, ...] = field(converter=_by_position)
    width: int = 64
    reserved: int = field(init=False, eq=False, repr=False)
    hardware: int = field(init=False, eq=False, repr=False)
    fixed_mask: int = field(init=False, eq=False, repr=False)
    fixed: int = field(init=False, eq=False, repr=False)
    _named: Mapping[str, Field] = field(init=False, eq=False, repr=False)
    _places: tuple[tuple[str, int, int], ...] = field(init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        seen, named = 0, dict[str, Field]()
        for each in self.fields:
            if seen & each.mask:
                raise ValueError(f"layout {self.name!r}: {each.name} ({each.bits}) overlaps another field")
            if each.name in named:
                raise ValueError(f"layout {self.name!r} has two fields {each.name!r}")
            seen |= each.mask
            named[each.name] = each
        one_value = [each for each in self.fields if each.fixed is not None]
        for name, value in (
            ("reserved", self.mask("reserved")),
            ("hardware", self.mask("hardware")),
            ("fixed_mask", sum(each.mask for each in one_value)),
            ("fixed", sum((each.fixed or 0) << each.lo for each in one_value)),
            ("_named", named),
            ("_places", tuple((each.name, each.lo, each.ones) for each in self.fields)),
        ):
            object.__setattr__(self, name, value)
        undeclared = ((1 << self.width) - 1) ^ seen
        if undeclared:
            raise ValueError(f"layout {self.name!r} must declare every bit once; left over or beyond: {undeclared:#x}")

    def __getitem__(self, name: str) -> Field:
        found = self._named.get(name)
        if found is None:
            raise KeyError(f"layout {self.name!r} has no field {name!r}; it has {list(self._named)}")
        return found

    def mask(self, *roles: str) -> int:
        """The bits of all fields with one of the roles."""
        result = 0
        for each in self.fields:
            if each.role in roles:
                result |= each.mask
        return result

    def encode(self, **values: int) -> tuple[int, ...]:
        """64-bit words, low word first; what is not named is 0 or its fixed value.

        Raises:
            ValueError: a value does not fit.  KeyError: no such field.
        """
        whole = self.fixed
        for name, value in values.items():
            at = self[name]
            if not 0 <= value <= at.ones:
                raise ValueError(f"{self.name}: {name} is {at.hi - at.lo + 1} bits wide, {value:#x} is not")
            whole = (whole & ~at.mask) | value << at.lo
        return tuple(whole >> shift & MASK64 for shift in range(0, self.width, 64))

    def decode(self, words: int | Sequence[int]) -> dict[str, int]:
        """Value by field name, ignored and reserved fields included."""
        whole = self.join(words)
        return {name: whole >> lo & ones for name, lo, ones in self._places}

    def legal(self, words: int | Sequence[int]) -> bool:
        """Whether every field with one legal value holds it: the fast form of :meth:`faults`."""
        return self.join(words) & self.fixed_mask == self.fixed

    def faults(self, words: int | Sequence[int]) -> Iterator[str]:
        """Each field that does not hold its fixed value, in words."""
        whole = self.join(words)
        for each in self.fields:
            value = whole >> each.lo & each.ones
            if each.fixed is not None and value != each.fixed:
                yield f"{self.name}: bits {each.bits} ({each.name}) must be {each.fixed:#x}, not {value:#x}"

    @staticmethod
    def join(words: int | Sequence[int]) -> int:
        """One int of all words, low word first."""
        if isinstance(words, int):
            return words
        whole = 0
        for word in reversed(words):
            whole = whole << 64 | word
        return whole

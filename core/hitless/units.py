"""Addresses and sizes: four kinds of address, powers of two, and how people write them.

IOVA, GPA, PA and offset are separate types, so that a type checker refuses to mix them. All are
plain ints at run time. Ranges are half-open; the end of a 64-bit space is 2**64.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple, NewType

from hitless.errors import BadInput

IOVA = NewType("IOVA", int)
"""An address that a device uses."""
GPA = NewType("GPA", int)
"""A guest physical address."""
PA = NewType("PA", int)
"""A host physical address."""
Offset = NewType("Offset", int)
"""A position in a guest_memfd."""

PAGE_LG2 = 12
PAGE = 1 << PAGE_LG2
SPACE = 1 << 64
WORD_MAX = SPACE - 1

_SUFFIXES = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40, "P": 50, "E": 60}
_SIZE = re.compile(r"(?P<number>0[xX][0-9a-fA-F]+|[0-9]+)(?P<suffix>[KMGTPE]?)(?:i?B)?")
_RANGE = re.compile(r"(?P<start>[^-+.]+)(?P<op>-|\+|\.\.)(?P<rest>.+)")


class Range(NamedTuple):
    """A half-open range ``[start, end)`` of addresses."""

    start: int
    end: int

    @property
    def size(self) -> int:
        return self.end - self.start

    def __str__(self) -> str:
        return f"[{self.start:#x}, {self.end:#x})"


def size_text(size: int) -> str:
    """A size in bytes as people write it: ``4K``, ``2M``, ``1G``, ``1536M``."""
    for suffix, shift in reversed(_SUFFIXES.items()):
        if suffix and size >= 1 << shift and size % (1 << shift) == 0:
            return f"{size >> shift}{suffix}"
    return str(size)


def lg2_text(size_lg2: int) -> str:
    """The size 2**size_lg2 as people write it."""
    return size_text(1 << size_lg2)


def parse_size(text: str) -> int:
    """Bytes from ``4096``, ``0x1000``, ``4K``, ``2M``, ``1GiB``.

    Raises:
        BadInput: the text is not a size.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise BadInput(f"{text!r} is not a size", do="write bytes or a power-of-two suffix: 4096, 0x1000, 4K, 2M, 1G")
    return int(match["number"], 0) << _SUFFIXES[match["suffix"]]


def parse_range(text: str) -> Range:
    """A half-open range from ``START-END`` or ``START+SIZE``; numbers as :func:`parse_size` takes them.

    Raises:
        BadInput: the text is not a range, or it is empty.
    """
    match = _RANGE.fullmatch(text.strip())
    if match is None:
        raise BadInput(f"{text!r} is not a range", do="write START-END or START+SIZE, such as 0x40000000+4K")
    start, rest = parse_size(match["start"]), parse_size(match["rest"])
    end = start + rest if match["op"] == "+" else rest
    if not start < end <= SPACE:
        raise BadInput(
            f"the range {text!r} is empty or ends beyond 2**64",
            do="the end is exclusive and greater than the start",
        )
    return Range(start, end)


def align_down(address: int, size_lg2: int) -> int:
    """The greatest multiple of 2**size_lg2 that is not above the address."""
    return address >> size_lg2 << size_lg2


def align_up(address: int, size_lg2: int) -> int:
    """The least multiple of 2**size_lg2 that is not below the address."""
    return -(-address >> size_lg2) << size_lg2


def aligned_lg2(value: int) -> int:
    """The largest n for which the value is a multiple of 2**n; 64 for 0."""
    return (value & -value).bit_length() - 1 if value else 64


def joined(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Half-open ranges, sorted, with those that overlap or touch as one."""
    found: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found

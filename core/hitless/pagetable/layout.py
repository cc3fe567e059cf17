"""What an address space maps, as text: ``0x40000000 1G -> 0x140000000 RW``, printed and parsed."""

import re
from collections.abc import Iterable
from typing import NamedTuple

from hitless.errors import BadInput
from hitless.pagetable.format import READ, WRITE, Leaf
from hitless.units import lg2_text, parse_size


class Mapping(NamedTuple):
    """One leaf: first IOVA, log2 of its size, output address, READ | WRITE."""

    iova: int
    size_lg2: int
    oa: int
    rights: int

    @classmethod
    def of(cls, leaf: Leaf) -> "Mapping":
        """The mapping that a leaf makes."""
        return cls(leaf.iova, leaf.size_lg2, leaf.oa, leaf.rights)

    def __str__(self) -> str:
        rights = ("R" if self.rights & READ else "-") + ("W" if self.rights & WRITE else "-")
        return f"{self.iova:#x} {lg2_text(self.size_lg2)} -> {self.oa:#x} {rights}"


_LINE = re.compile(r"(0x[0-9a-fA-F]+) (\S+) -> (0x[0-9a-fA-F]+) ([R-][W-])")


def format_layout(mappings: Iterable[Mapping]) -> str:
    """One line a leaf, in the order of IOVAs."""
    return "".join(f"{each}\n" for each in sorted(mappings))


def parse_layout(text: str) -> list[Mapping]:
    """The mappings of a text form; the inverse of :func:`format_layout`.

    Raises:
        BadInput: a line is not understood; names it.
    """
    found = []
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.split(" # ")[0].strip()
        if not line:
            continue
        if (m := _LINE.fullmatch(line)) is None:
            raise BadInput(
                f"{line[:200]!r} is not a line of a layout",
                where=f"line {number}",
                do="write `IOVA SIZE -> ADDRESS RIGHTS`, such as 0x40000000 1G -> 0x140000000 RW",
            )
        rights = (READ if m[4][0] == "R" else 0) | (WRITE if m[4][1] == "W" else 0)
        found.append(Mapping(int(m[1], 0), parse_size(m[2]).bit_length() - 1, int(m[3], 0), rights))
    return found

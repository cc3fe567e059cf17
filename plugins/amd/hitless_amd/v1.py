"""AMD v1 host page table.

Spec: AMD I/O Virtualization Technology (IOMMU) 48882, section 2.2.3, tables 14 to 17.
Facts: AMD-PTE-*, AMD-LVL-*.
"""

from typing import ClassVar

from hitless.bits import (
    BoolArray,
    Field,
    Layout,
    W,
    bit,
    equals,
    get,
    ignored,
    join,
    keep,
    masked,
    place,
    put,
    reserved,
)
from hitless.bits import test as is_set
from hitless.pagetable import READ, WRITE, Level, PageFormat

PR = bit("PR", 0, "present")
A = bit("A", 5, "accessed", "hardware")
D = bit("D", 6, "dirty", "hardware")
NEXT_LEVEL = Field(
    "NextLevel",
    11,
    9,
    "0: leaf, 1 to 6: pointer to a table of that level, 7: leaf with its size in the address",
)
ADDRESS = Field("address", 51, 12, "page, or next table")
U = bit("U", 59, "attribute returned to an ATS device")
FC = bit("FC", 60, "force coherent")
IR = bit("IR", 61, "read allowed")
IW = bit("IW", 62, "write allowed")

_COMMON = (PR, A, ADDRESS, ignored(4, 1), ignored(8, 7), reserved(58, 52), IR, IW, ignored(63, 63))
LEAF = Layout("AMD v1 leaf", "48882 2.2.3", (*_COMMON, D, NEXT_LEVEL, U, FC))
TABLE = Layout("AMD v1 pointer", "48882 2.2.3", (*_COMMON, ignored(6, 6), NEXT_LEVEL, ignored(60, 59)))
ATTRS = A.mask | D.mask | U.mask | FC.mask | IR.mask | IW.mask

LEVELS = tuple(Level(i, 12 + 9 * i, 9 if i < 5 else 7, i + 1, f"AMD level {i + 1}") for i in range(6))


class AmdV1(PageFormat):
    """AMD v1 tables with DTE.Mode 3 to 6.

    Args:
        mode: DTE.Mode, the number of levels.
        force_coherent: FC of new leaves.
    """

    name: ClassVar[str] = "amd/v1"
    source: ClassVar[str] = "48882 2.2.3"
    oa_bits = 52

    def __init__(self, mode: int = 4, *, force_coherent: bool = True) -> None:
        self.levels = LEVELS[:mode]
        self.mode = mode
        self._fc = FC.mask if force_coherent else 0

    def layout(self, kind: str, level: int) -> Layout | None:
        """Level 1 holds leaves only, level 6 pointers only (AMD-LVL-2)."""
        if kind == "leaf":
            return LEAF if level < 5 else None
        return TABLE if level > 0 else None

    def present(self, word: W) -> bool | BoolArray:
        return is_set(word, PR)

    def is_leaf(self, word: W, level: int) -> bool | BoolArray:
        return equals(word, NEXT_LEVEL, 0)

    def malformed(self, word: int, level: int) -> bool:
        """Reserved bits, a leaf where none may be, or a NextLevel that is not one below."""
        return super().malformed(word, level) or get(word, NEXT_LEVEL) not in (0, level)

    def faults(self, word: int, level: int) -> list[str]:
        found = list(super().faults(word, level))
        if self.present(word) and get(word, NEXT_LEVEL) not in (0, level):
            found.append(
                f"{self.name}: NextLevel must be 0 or {level}, not {get(word, NEXT_LEVEL)}, at {self.levels[level]}"
            )
        return found

    def table_pa(self, word: W) -> W:
        return masked(word, ADDRESS)

    def leaf_oa(self, word: W, level: int) -> W:
        return masked(word, ADDRESS)

    def attrs(self, word: W, level: int) -> W:
        return keep(word, ATTRS)

    def leaf(self, size_lg2: int, oa: W, attrs: int) -> W:
        return join(keep(oa, ADDRESS.mask), attrs | PR.mask)

    def table(self, level: int, child_pa: int) -> int:
        """A pointer grants both rights: the AND over the walk is the leaf's."""
        return put(place(PR.mask | IR.mask | IW.mask, ADDRESS, child_pa), NEXT_LEVEL, level)

    def default_attrs(self, rights: int) -> int:
        return self._fc | (IR.mask if rights & READ else 0) | (IW.mask if rights & WRITE else 0)

    def rights(self, word: int, level: int) -> int:
        return (READ if word & IR.mask else 0) | (WRITE if word & IW.mask else 0)


__all__ = ["ADDRESS", "FC", "IR", "IW", "LEAF", "LEVELS", "NEXT_LEVEL", "PR", "TABLE", "A", "AmdV1", "D", "U"]

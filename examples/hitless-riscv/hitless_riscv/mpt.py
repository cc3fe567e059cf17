"""Memory protection tables (MPT) bit for bit, and who owns what by the table of the host's domain.

Spec: RISC-V Smmtt, a draft, chapters 3 and 4. Facts: RISCV-MTT-*.
"""

from collections.abc import Callable, Iterator, Mapping

from hitless.bits import Field, Layout, U64Array, bit, get, reserved
from hitless.hardware.structures import OwnerRun
from hitless.ownership import GUEST

_SOURCE = "RISC-V Smmtt, draft"
_XWR = {0: "none", 1: "R", 2: "reserved", 3: "RW", 4: "X", 5: "RX", 6: "reserved", 7: "RWX"}
_PIECES = 16
_V, _L, _N = 1, 2, 4
_PPN = Field("PPN", 53, 10)
_ONE_FOR_ALL = Field("XWR", 10, 8)
_NOTHING = frozenset({0, 2, 6})

MMPT = Layout(
    "mmpt",
    _SOURCE,
    (
        Field("PPN", 43, 0, "root", unit=1 << 12),
        reserved(51, 44),
        Field("SDID", 57, 52, "supervisor domain"),
        reserved(59, 58),
        Field("MODE", 63, 60, values={0: "Bare", 1: "Smmpt43", 2: "Smmpt52", 3: "Smmpt64"}),
    ),
)
POINTER = Layout(
    "MPT pointer",
    _SOURCE,
    (
        bit("V", 0, "valid"),
        bit("L", 1, "0: pointer", fixed=0),
        reserved(9, 2),
        Field("PPN", 53, 10, "next table", unit=1 << 12),
        reserved(63, 54),
    ),
)
LEAF = Layout(
    "MPT leaf",
    _SOURCE,
    (
        bit("V", 0, "valid"),
        bit("L", 1, "1: leaf", fixed=1),
        bit("N", 2, "0: rights of 16 pieces", fixed=0),
        reserved(7, 3),
        *(Field(f"XWR {i}", 10 + 3 * i, 8 + 3 * i, f"rights of piece {i}", values=_XWR) for i in range(_PIECES)),
        reserved(63, 56),
    ),
)
NAPOT = Layout(
    "MPT NAPOT leaf",
    _SOURCE,
    (
        bit("V", 0, "valid"),
        bit("L", 1, "1: leaf", fixed=1),
        bit("N", 2, "1: one of 32 entries with the same rights", fixed=1),
        reserved(7, 3),
        Field("XWR", 10, 8, "rights of all", values=_XWR),
        reserved(11, 11),
        Field("G", 15, 12, "4: a group of 32 entries", fixed=4),
        reserved(63, 16),
    ),
)
LAYOUTS: Mapping[str, Layout] = {"mmpt": MMPT, "mpt-pointer": POINTER, "mpt-leaf": LEAF, "mpt-napot": NAPOT}
_LEVELS, _ENTRIES = {1: 3, 2: 4, 3: 5}, {1: 512, 2: 512, 3: 4096}
"""By MODE: levels, and entries of the root (RISCV-MTT-9)."""


def read_mpt(base: int, beside: Mapping[str, int], view: Callable[[int, int], U64Array]) -> Iterator[OwnerRun]:
    """What the host's domain has no right to, from its mmpt: it is taken to be a guest's (RISCV-MTT-7).

    Adjacent pieces are one run; Bare tables forbid nothing.
    """
    register = MMPT.decode(base)
    mode = register["MODE"]
    if mode not in _LEVELS:
        return
    start = end = 0
    for first, last in _forbidden(register["PPN"] << 12, _LEVELS[mode] - 1, _ENTRIES[mode], 0, view):
        if first != end:
            if end:
                yield OwnerRun(start, end, GUEST)
            start = first
        end = last
    if end:
        yield OwnerRun(start, end, GUEST)


def _forbidden(
    table: int, level: int, entries: int, start: int, view: Callable[[int, int], U64Array]
) -> Iterator[tuple[int, int]]:
    """The ranges of a table's span that it grants nothing in, in order (RISCV-MTT-2, RISCV-MTT-6, RISCV-MTT-10)."""
    piece = 1 << 12 + 9 * level
    for index, word in enumerate(view(table, entries).tolist()):
        first = start + index * piece * _PIECES
        if word & _V and not word & _L and level:
            yield from _forbidden(get(word, _PPN) << 12, level - 1, 512, first, view)
            continue
        for i, rights in enumerate(_rights(word)):
            if rights in _NOTHING:
                yield first + i * piece, first + (i + 1) * piece


def _rights(word: int) -> list[int]:
    """XWR of the 16 pieces of a leaf; none where it is not valid, or no leaf."""
    if not (word & _V and word & _L):
        return [0] * _PIECES
    if word & _N:
        return [get(word, _ONE_FOR_ALL)] * _PIECES
    return [word >> 8 + 3 * i & 7 for i in range(_PIECES)]

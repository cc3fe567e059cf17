"""VMSAv8-64 stage 2 with the 4K granule and 48-bit input addresses.

Spec: Arm ARM DDI0487 chapter D8, VMSAv8-64 stage 2 descriptors; IHI0070 section 3.21.1 for nT.
Facts: ARM-DESC-*, ARM-LVL-*.

Arm counts levels from the root down: core level 0 is Arm level 3. There is no 512 GiB block, which
would need DS, and this format lays out no contiguous runs.
"""

from typing import ClassVar

from attrs import evolve

from hitless.bits import (
    BoolArray,
    Field,
    Layout,
    W,
    bit,
    equals,
    ignored,
    join,
    keep,
    masked,
    place,
    reserved,
)
from hitless.bits import test as is_set
from hitless.pagetable import READ, WRITE, Leaf, Level, PageFormat, Position, WalkFault

VALID = bit("valid", 0)
TYPE = Field("type", 1, 0, "x0 invalid, 01 block, 11 table or page")
MEMATTR = Field("MemAttr", 5, 2, "F write-back, 5 non-cacheable, 1 device; with S2FWB 6 is write-back")
S2AP_READ = bit("S2AP[0]", 6, "read allowed")
S2AP_WRITE = bit("S2AP[1]", 7, "write allowed")
SH = Field("SH", 9, 8, "shareability", values={0: "non-shareable", 2: "outer", 3: "inner"})
AF = bit("AF", 10, "access flag; 0: an access faults, or hardware sets it")
NT = bit("nT", 16, "not to be cached as a translation while the block's size changes")
ADDRESS = Field("address", 47, 12, "next table")
DBM = bit("DBM", 51, "with S2AP[1] clear: writable, clean")
CONTIGUOUS = bit("Contiguous", 52, "part of a run, which this format does not lay out", fixed=0)
XN = Field("XN", 54, 53, "execution forbidden")

TABLE = Layout(
    "VMSAv8-64 stage 2 table",
    "DDI0487 D8, stage 2 table descriptor",
    (
        evolve(TYPE, fixed=3),
        ignored(11, 2),
        ADDRESS,
        reserved(50, 48),
        ignored(58, 51),
        reserved(63, 59),
    ),
)
LEVELS = tuple(Level(i, 12 + 9 * i, 9, 3 - i, f"Arm level {3 - i}") for i in range(4))
_LARGEST_LEAF = 2

_PAGE_OR_TABLE, _BLOCK = 3, 1
_MEMATTR_WB, _MEMATTR_WB_FWB = 0xF << 2, 6 << 2
_SH_INNER = 3 << 8


def _leaf_layout(level: Level, bbml: int, httu: bool) -> Layout:
    """Bits of a page (Arm level 3) or of a block, which has nT and reserved bits below its address."""
    by_hardware = "hardware" if httu else "value"
    fields = [
        MEMATTR,
        S2AP_READ,
        evolve(S2AP_WRITE, role=by_hardware),
        SH,
        evolve(AF, role=by_hardware),
        reserved(11, 11),
        Field("OA", 47, level.lo, "output address"),
        reserved(50, 48),
        DBM if httu else evolve(DBM, role="ignored"),
        CONTIGUOUS,
        XN,
        ignored(63, 55, "software, or PBHA"),
    ]
    if level.number == 0:
        return Layout("VMSAv8-64 stage 2 page", "DDI0487 D8", (evolve(TYPE, fixed=_PAGE_OR_TABLE), *fields))
    fields += [reserved(15, 12), _nt(bbml), reserved(level.lo - 1, 17)]
    return Layout("VMSAv8-64 stage 2 block", "DDI0487 D8", (evolve(TYPE, fixed=_BLOCK), *fields))


def _nt(bbml: int) -> Field:
    """The nT bit came with BBML 1: reserved before it, ignored by BBML 2 (ARM-DESC-9)."""
    if bbml == 0:
        return evolve(NT, role="reserved", fixed=0)
    return NT if bbml == 1 else evolve(NT, role="ignored")


class ArmStage2(PageFormat):
    """Stage 2 tables of four levels.

    Args:
        bbml: IDR3.BBML, which decides what nT is.
        s2fwb: STE.S2FWB, which decides how write-back is coded.
        httu: hardware sets AF and, where DBM is set, S2AP[1]. A writable leaf is then laid out as
            "writable, clean": DBM tells the right to write, S2AP[1] that the page is dirty.
    """

    name: ClassVar[str] = "arm_smmu/stage2"
    source: ClassVar[str] = "DDI0487 D8, VMSAv8-64 stage 2; IHI0070 3.21.1"
    levels = LEVELS
    oa_bits = 48

    def __init__(self, bbml: int = 2, *, s2fwb: bool = False, httu: bool = False) -> None:
        self._leaves = tuple(_leaf_layout(level, bbml, httu) for level in LEVELS[: _LARGEST_LEAF + 1])
        self._reserved = tuple(layout.mask("reserved") for layout in self._leaves)
        self._table_reserved = TABLE.mask("reserved")
        self._httu = httu
        self._nt_counts = bbml == 1
        self._memory = (_MEMATTR_WB_FWB if s2fwb else _MEMATTR_WB) | _SH_INNER
        self._attrs = MEMATTR.mask | S2AP_READ.mask | S2AP_WRITE.mask | SH.mask | AF.mask | XN.mask
        if httu:
            self._attrs |= DBM.mask

    def layout(self, kind: str, level: int) -> Layout | None:
        """Arm level 3 holds pages only, Arm level 0 tables only (ARM-LVL-2)."""
        if kind == "leaf":
            return self._leaves[level] if level <= _LARGEST_LEAF else None
        return TABLE if level > 0 else None

    def present(self, word: W) -> bool | BoolArray:
        """Bit 0; the reserved type 01 of Arm level 3 is not empty for software, though a walk takes it so."""
        return is_set(word, VALID)

    def is_leaf(self, word: W, level: int) -> bool | BoolArray:
        return is_set(word, VALID) if level == 0 else equals(word, TYPE, _BLOCK)

    def malformed(self, word: int, level: int) -> bool:
        """Reserved bits, a 512 GiB block, or type 01 at Arm level 3 (ARM-DESC-2)."""
        if level > 0 and not self.is_leaf(word, level):
            return bool(word & self._table_reserved)
        if level > _LARGEST_LEAF or (level == 0 and not equals(word, TYPE, _PAGE_OR_TABLE)):
            return True
        return bool(word & self._reserved[level])

    def step(self, position: Position, word: int) -> Position | Leaf | WalkFault:
        """The common step, with type 01 invalid at Arm level 3, and a fault ``access`` where AF is clear.

        Facts: ARM-DESC-2, ARM-DESC-8.
        """
        if position.level == 0 and not equals(word, TYPE, _PAGE_OR_TABLE):
            return WalkFault(position.stage, 0, position.iova, word, "not-present")
        found = super().step(position, word)
        if isinstance(found, Leaf) and not self._httu and not is_set(word, AF):
            return WalkFault(position.stage, position.level, position.iova, word, "access")
        return found

    def cacheable(self, word: int, level: int) -> bool:
        """At BBML 1 a block with nT takes no part in a conflict (ARM-DESC-9, ARM-LIVE-5)."""
        return not (self._nt_counts and level > 0 and is_set(word, NT))

    def table_pa(self, word: W) -> W:
        return masked(word, ADDRESS)

    def leaf_oa(self, word: W, level: int) -> W:
        return keep(word, ADDRESS.mask >> LEVELS[level].lo << LEVELS[level].lo)

    def attrs(self, word: W, level: int) -> W:
        return keep(word, self._attrs)

    def leaf(self, size_lg2: int, oa: W, attrs: int) -> W:
        """A page or block, nT clear; address bits below a block's size stay, to show as reserved bits."""
        return join(keep(oa, ADDRESS.mask), attrs | (_BLOCK if size_lg2 > LEVELS[0].lo else _PAGE_OR_TABLE))

    def table(self, level: int, child_pa: int) -> int:
        """A pointer; it carries no rights (ARM-DESC-4)."""
        return place(_PAGE_OR_TABLE, ADDRESS, child_pa)

    def default_attrs(self, rights: int) -> int:
        """Write-back, inner shareable. AF is set unless hardware would set it: an access would fault."""
        write = DBM.mask if self._httu else S2AP_WRITE.mask
        granted = (S2AP_READ.mask if rights & READ else 0) | (write if rights & WRITE else 0)
        return self._memory | granted | (0 if self._httu else AF.mask)

    def rights(self, word: int, level: int) -> int:
        """A table grants all; with hardware dirty state DBM grants writes as S2AP[1] does (ARM-DESC-10)."""
        if not self.is_leaf(word, level):
            return READ | WRITE
        write = is_set(word, S2AP_WRITE) or (self._httu and is_set(word, DBM))
        return (READ if is_set(word, S2AP_READ) else 0) | (WRITE if write else 0)


__all__ = [
    "ADDRESS",
    "AF",
    "DBM",
    "LEVELS",
    "MEMATTR",
    "NT",
    "S2AP_READ",
    "S2AP_WRITE",
    "SH",
    "TABLE",
    "ArmStage2",
]

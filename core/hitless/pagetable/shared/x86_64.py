"""x86-64 long-mode tables, as AMD v2 and VT-d first stage use them.

Spec: AMD64 APM volume 2 (24593), 5.3; AMD IOMMU (48882), 2.2.6; Intel VT-d 5.10, 9.7. What the two
differ in, or what depends on a unit's features, is the role of a bit: see ``roles``.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from hitless.bits import BoolArray, Field, Layout, W, bit, drop, get, ignored, join, keep, put, reserved
from hitless.bits import test as is_set
from hitless.pagetable.format import READ, WRITE, Level, PageFormat

P = bit("P", 0, "present")
RW = bit("R/W", 1, "write allowed")
US = bit("U/S", 2, "user requests allowed")
PWT = bit("PWT", 3, "memory type index, bit 0")
PCD = bit("PCD", 4, "memory type index, bit 1")
A, D = bit("A", 5, "accessed"), bit("D", 6, "dirty")
PS = bit("PS", 7, "1: leaf")
PAT_4K = bit("PAT", 7, "memory type index, bit 2")
PAT_LARGE = bit("PAT", 12, "memory type index, bit 2")
G = bit("G", 8, "global")
EA = bit("EA", 10, "extended accessed")
XD = bit("XD", 63, "execution forbidden")
ADDRESS = Field("address", 51, 12)

ROLES = {"A": "hardware", "D": "hardware", "G": "value", "EA": "ignored", "XD": "value"}
_PROT_READ, _PROT_WRITE, _PROT_MMIO = 1, 2, 16


class X86_64(PageFormat):  # noqa: N801 - the architecture's name
    """Long-mode tables of four or five levels.

    Args:
        levels: 4 or 5.
        haw: address width; address bits from there up to 51 are reserved.
        sign_extended: input addresses are canonical: their upper bits repeat the highest that
            indexes. Without it they are 0.
        width: usable input bits, where software or a unit uses fewer than the tables could index.
        leaf_levels: numbers of the levels that may hold leaves.
        c_bit: position of the encryption bit at or above ``haw``: set in every pointer, and in new leaves.
        roles: what differs from :data:`ROLES`: by name of the bit ``value``, ``ignored``,
            ``hardware`` (hardware may set it) or ``reserved``.
    """

    name: ClassVar[str] = "x86_64"
    stage: ClassVar[str] = "1"
    source: ClassVar[str] = "APM2 5.3; 48882 2.2.6; VT-d 9.7"
    level_name: ClassVar[str] = "level"
    recorded_as: ClassVar[tuple[str, ...]] = ("x86_64",)

    def __init__(
        self,
        levels: int = 4,
        *,
        haw: int = 52,
        sign_extended: bool = True,
        width: int | None = None,
        leaf_levels: tuple[int, ...] = (0, 1, 2),
        c_bit: int | None = None,
        roles: Mapping[str, str] | None = None,
    ) -> None:
        self.levels = tuple(Level(i, 12 + 9 * i, 9, i + 1, f"{self.level_name} {i + 1}") for i in range(levels))
        self.oa_bits = haw
        self._roles = {**ROLES, **(roles or {})}
        self._sign_extended = sign_extended
        self._width = width or self.top.lo + self.top.bits
        self._c = 1 << c_bit if c_bit is not None else 0
        self._above = _above_address(haw, c_bit)
        self._leaves = {level: self._leaf_layout(level) for level in leaf_levels}
        self._tables = tuple(self._table_layout(level) for level in range(levels))
        common = (RW, US, PWT, PCD, *(each for each in (A, D, G, EA, XD) if self._carried(each)))
        self._attrs = sum(each.mask for each in common) | self._c
        self._large_address = tuple(ADDRESS.mask >> level.lo << level.lo & ~self._c for level in self.levels)

    def _role(self, at: Field) -> Field:
        role = self._roles[at.name]
        return bit(at.name, at.lo, at.meaning, role, 0 if role == "reserved" else None)

    def _carried(self, at: Field) -> bool:
        return self._roles[at.name] in ("value", "hardware")

    def _leaf_layout(self, level: int) -> Layout:
        lo = self.levels[level].lo
        fields = [P, RW, US, PWT, PCD, *map(self._role, (A, D, G, EA, XD)), ignored(9, 9), ignored(11, 11)]
        fields += [PAT_4K] if level == 0 else [bit("PS", 7, PS.meaning, fixed=1), PAT_LARGE, reserved(lo - 1, 13)]
        address = Field("address", self.oa_bits - 1, lo, "page", unit=1 << lo)
        return Layout(f"{self.name} leaf, level {level + 1}", self.source, (*fields, address, *self._above))

    def _table_layout(self, level: int) -> Layout:
        fields = [P, RW, US, PWT, PCD, *map(self._role, (A, EA, XD)), ignored(6, 6), ignored(9, 8), ignored(11, 11)]
        fields.append(bit("PS", 7, "0: pointer", "reserved", 0))
        fields.append(Field("address", self.oa_bits - 1, 12, "next table", unit=1 << 12))
        return Layout(f"{self.name} pointer, level {level + 1}", self.source, (*fields, *self._above))

    @property
    def iova_bits(self) -> int:
        return self._width

    def canonical(self, iova: int) -> int:
        upper = (1 << 64) - (1 << self._width)
        return iova | upper if self._sign_extended and iova >> (self._width - 1) & 1 else iova

    def layout(self, kind: str, level: int) -> Layout | None:
        """Leaves where ``leaf_levels`` says; pointers above the last level."""
        if kind == "leaf":
            return self._leaves.get(level)
        return self._tables[level] if level else None

    def present(self, word: W) -> bool | BoolArray:
        return is_set(word, P)

    def is_leaf(self, word: W, level: int) -> bool | BoolArray:
        """PS tells, but for the last level, whose entries are all leaves."""
        return is_set(word, PS) if level else self.present(word)

    def table_pa(self, word: W) -> W:
        return keep(word, ADDRESS.mask & ~self._c)

    def leaf_oa(self, word: W, level: int) -> W:
        return keep(word, self._large_address[level])

    def attrs(self, word: W, level: int) -> W:
        """The bits of a 4K leaf without P and address: PAT is bit 7 here."""
        found = keep(word, self._attrs)
        return put(found, PAT_4K, get(word, PAT_LARGE if level else PAT_4K))

    def leaf(self, size_lg2: int, oa: W, attrs: int) -> W:
        """A leaf; an address beyond ``haw`` sets reserved bits, so that it is refused and not folded."""
        if self.leaf_size(size_lg2).level:
            attrs = drop(attrs, PAT_4K.mask) | get(attrs, PAT_4K) << PAT_LARGE.lo | PS.mask
        return join(keep(oa, ADDRESS.mask), attrs | P.mask)

    def table(self, level: int, child_pa: W) -> W:
        """A pointer grants all; A is set, so that a walker need not."""
        return join(keep(child_pa, ADDRESS.mask), P.mask | RW.mask | US.mask | A.mask | self._c)

    def default_attrs(self, rights: int) -> int:
        """Memory type 0 (write-back), for user requests.

        Raises:
            ValueError: no rights: what is present can be read.
        """
        if not rights & (READ | WRITE):
            raise ValueError(f"{self.name}: rights must hold READ or WRITE: what is present can be read")
        return US.mask | (RW.mask if rights & WRITE else 0) | self._c

    def rights(self, word: int, level: int) -> int:
        """What is present can be read; a device's requests are user requests."""
        if not word & US.mask:
            return 0
        return READ | (WRITE if word & RW.mask else 0)

    @classmethod
    def from_recording(cls, config: Mapping[str, Any]) -> "PageFormat | None":
        """Levels, widths, sign extension and the C-bit of a recording."""
        mask = int(config["sme_mask"], 16)
        return cls(
            config["level"] + 1,
            haw=min(config["oasz"], mask.bit_length() - 1) if mask else config["oasz"],
            sign_extended="sign_extend" in config["features"],
            width=config["vasz"],
            c_bit=mask.bit_length() - 1 if mask else None,
        )

    def from_prot(self, prot: int, config: Mapping[str, Any]) -> int | None:
        """U/S and A always, R/W and D with WRITE, the C-bit unless MMIO."""
        if not prot & (_PROT_READ | _PROT_WRITE):
            return None
        found = US.mask | A.mask | (RW.mask | D.mask if prot & _PROT_WRITE else 0)
        return found if prot & _PROT_MMIO else found | self._c


def _above_address(haw: int, c_bit: int | None) -> list[Field]:
    """Bits 62 down to the address: ignored above 51, then reserved but for the encryption bit."""
    if c_bit is None:
        return [ignored(62, 52), *([reserved(51, haw)] if haw < ADDRESS.hi + 1 else [])]
    fields = [ignored(62, 52), bit("C", c_bit, "encrypted memory")]
    fields += [reserved(51, c_bit + 1)] if c_bit < ADDRESS.hi else []
    return [*fields, reserved(c_bit - 1, haw)] if c_bit > haw else fields

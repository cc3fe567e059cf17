"""Intel VT-d second-stage table.

Spec: Intel VT-d, revision 5.10, section 9.8, tables 41 to 46. Facts: INTEL-SS-*.
"""

from typing import ClassVar

from hitless.bits import BoolArray, Field, Layout, W, bit, get, ignored, join, keep, masked, reserved
from hitless.bits import test as is_set
from hitless.pagetable import READ, WRITE, Level, PageFormat

R = bit("R", 0, "read allowed")
W_BIT = bit("W", 1, "write allowed")
RW = Field("R, W", 1, 0)
EMT = Field("EMT", 5, 3, "memory type", values={0: "UC", 1: "WC", 4: "WT", 5: "WP", 6: "WB"})
IPAT = bit("IPAT", 6, "ignore the guest's PAT")
PS = bit("PS", 7, "1: leaf")
SNP = bit("SNP", 11, "force snoop")
ADDRESS = Field("address", 51, 12, "page, or next table; from HAW on reserved")
A_BIT, D_BIT = 8, 9
WRITE_BACK = 6

LEVELS = tuple(Level(i, 12 + 9 * i, 9, i + 1, f"VT-d level {i + 1}") for i in range(4))


class SecondStage(PageFormat):
    """Second-stage tables of four levels, 48 bits of input address.

    Args:
        haw: host address width; address bits from there up to 51 are reserved.
        snoop_control: ECAP.SC; without it SNP is reserved.
        dirty: ECAP.SSADS with PASID-entry SSADE: hardware sets A and D.
        force_snoop: SNP of new leaves.
        leaf_levels: levels that may hold leaves (CAP.SSLPS).
    """

    name: ClassVar[str] = "intel/second-stage"
    source: ClassVar[str] = "VT-d 9.8"
    levels = LEVELS

    def __init__(
        self,
        haw: int = 52,
        *,
        snoop_control: bool = True,
        dirty: bool = False,
        leaf_levels: tuple[int, ...] = (0, 1, 2),
    ) -> None:
        self.oa_bits = haw
        self._leaf_levels = leaf_levels
        self._snp = SNP.mask if snoop_control else 0
        self._leaves = tuple(self._leaf_layout(i, haw, snoop_control, dirty) for i in range(3))
        self._tables = tuple(self._table_layout(i, haw, dirty) for i in range(4))
        accessed = (1 << A_BIT | 1 << D_BIT) if dirty else 0
        self._attrs = R.mask | W_BIT.mask | EMT.mask | IPAT.mask | self._snp | accessed

    @staticmethod
    def _leaf_layout(level: int, haw: int, snoop_control: bool, dirty: bool) -> Layout:
        role = "hardware" if dirty else "ignored"
        lo = LEVELS[level].lo
        fields = [R, W_BIT, ignored(2, 2), EMT, IPAT, bit("A", A_BIT, "accessed", role)]
        fields += [bit("D", D_BIT, "dirty", role), ignored(10, 10)]
        fields.append(SNP if snoop_control else bit("SNP", 11, "reserved without ECAP.SC", "reserved", 0))
        fields.append(ignored(7, 7) if level == 0 else bit("PS", 7, "1: leaf", fixed=1))
        if level:
            fields.append(reserved(lo - 1, 12))
        fields.append(Field("address", haw - 1, lo, "page"))
        return Layout(f"VT-d second-stage leaf, level {level + 1}", "VT-d 9.8", (*fields, *_upper(haw)))

    @staticmethod
    def _table_layout(level: int, haw: int, dirty: bool) -> Layout:
        role = "hardware" if dirty else "ignored"
        fields = [R, W_BIT, ignored(6, 2), bit("PS", 7, "0: pointer", "reserved", 0)]
        fields += [bit("A", A_BIT, "accessed", role), ignored(10, 9), reserved(11, 11)]
        fields.append(Field("address", haw - 1, 12, "next table"))
        return Layout(f"VT-d second-stage pointer, level {level + 1}", "VT-d 9.8", (*fields, *_upper(haw)))

    def layout(self, kind: str, level: int) -> Layout | None:
        """Leaves at the levels of CAP.SSLPS; pointers above the last level (INTEL-SS-*)."""
        if kind == "leaf":
            return self._leaves[level] if level in self._leaf_levels else None
        return self._tables[level] if level else None

    def present(self, word: W) -> bool | BoolArray:
        return is_set(word, RW)

    def is_leaf(self, word: W, level: int) -> bool | BoolArray:
        """PS tells, but for the last level, whose entries are all leaves."""
        return is_set(word, PS) if level else self.present(word)

    def malformed(self, word: int, level: int) -> bool:
        """Reserved bits, a leaf where none may be, or a reserved memory type."""
        return super().malformed(word, level) or self._bad_type(word, level)

    def faults(self, word: int, level: int) -> list[str]:
        found = list(super().faults(word, level))
        if self.present(word) and self._bad_type(word, level):
            found.append(f"{self.name}: EMT must be one of {sorted(EMT.values)}, not {get(word, EMT)}")
        return found

    def _bad_type(self, word: int, level: int) -> bool:
        """A leaf's reserved memory type: illegal to write, though legacy mode ignores EMT (INTEL-SS-11)."""
        return bool(self.is_leaf(word, level)) and get(word, EMT) not in EMT.values

    def table_pa(self, word: W) -> W:
        return masked(word, ADDRESS)

    def leaf_oa(self, word: W, level: int) -> W:
        return keep(word, ADDRESS.mask & ~((1 << LEVELS[level].lo) - 1))

    def attrs(self, word: W, level: int) -> W:
        return keep(word, self._attrs)

    def leaf(self, size_lg2: int, oa: W, attrs: int) -> W:
        """A leaf; an address beyond HAW sets reserved bits, so that it is refused and not folded (INTEL-SS-9)."""
        return join(keep(oa, ADDRESS.mask), attrs | (PS.mask if size_lg2 > LEVELS[0].lo else 0))

    def table(self, level: int, child_pa: int) -> int:
        """A pointer grants both rights: the AND over the walk is the leaf's."""
        return child_pa & ADDRESS.mask | R.mask | W_BIT.mask

    def default_attrs(self, rights: int) -> int:
        """Write-back, snooped where the unit can force it.

        Raises:
            ValueError: no rights, which this format cannot map.
        """
        if not rights & (READ | WRITE):
            raise ValueError(f"{self.name}: rights must hold READ or WRITE; R = W = 0 is not present (INTEL-SS-2)")
        allowed = (R.mask if rights & READ else 0) | (W_BIT.mask if rights & WRITE else 0)
        return allowed | WRITE_BACK << EMT.lo | self._snp

    def rights(self, word: int, level: int) -> int:
        return (READ if word & R.mask else 0) | (WRITE if word & W_BIT.mask else 0)


def _upper(haw: int) -> list[Field]:
    """Bits above the address: HAW to 51 and 62:61 reserved, the rest ignored."""
    fields = [ignored(60, 52), reserved(62, 61), ignored(63, 63)]
    return [reserved(51, haw), *fields] if haw < 52 else fields

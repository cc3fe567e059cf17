"""Intel VT-d second-stage table.

Spec: Intel VT-d, revision 5.10, section 9.8, tables 41 to 46. Facts: INTEL-SS-*.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

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
TM = bit("TM", 62, "transient mapping")
IR, IW = bit("IR", 61), bit("IW", 62)
A_BIT, D_BIT = 8, 9
WRITE_BACK = 6
LEVELS_OF_AW = {39: 3, 48: 4, 57: 5}


class SecondStage(PageFormat):
    """Second-stage tables of three to five levels.

    Args:
        haw: host address width; address bits from there up to 51 are reserved.
        aw: input address bits that the levels index: 39, 48 or 57.
        mgaw: input address bits that the unit takes, if fewer.
        snoop_control: ECAP.SC; without it SNP is reserved.
        dirty: ECAP.SSADS with PASID-entry SSADE: hardware sets A and D.
        leaf_levels: levels that may hold leaves (CAP.SSLPS).
        upper: what bits 62:61 are: ``reserved``; ``ir-iw``; ``tm``, bit 62 only (INTEL-SS-15).
    """

    name: ClassVar[str] = "intel/second-stage"
    source: ClassVar[str] = "VT-d 9.8"
    recorded_as: ClassVar[tuple[str, ...]] = ("vtdss",)

    def __init__(
        self,
        haw: int = 52,
        *,
        aw: int = 48,
        mgaw: int = 57,
        snoop_control: bool = True,
        dirty: bool = False,
        leaf_levels: tuple[int, ...] = (0, 1, 2),
        upper: str = "reserved",
    ) -> None:
        self.levels = tuple(Level(i, 12 + 9 * i, 9, i + 1, f"VT-d level {i + 1}") for i in range(LEVELS_OF_AW[aw]))
        self.oa_bits = haw
        self.aw = aw
        self.dirty = dirty
        self._iova_bits = min(aw, mgaw)
        self._leaf_levels = leaf_levels
        self._upper = {"reserved": (reserved(62, 61),), "ir-iw": (IR, IW), "tm": (ignored(61, 61), TM)}[upper]
        self._granted = R.mask | W_BIT.mask | (IR.mask | IW.mask if upper == "ir-iw" else 0)
        self._snp = SNP.mask if snoop_control else 0
        self._role = "hardware" if dirty else "ignored"
        self._leaves = tuple(self._leaf_layout(level) for level in self.levels[:3])
        self._tables = tuple(self._table_layout(level) for level in self.levels)
        self._attrs = self._leaves[0].mask("value", "hardware") & ~ADDRESS.mask

    def _leaf_layout(self, level: Level) -> Layout:
        fields = [R, W_BIT, ignored(2, 2), EMT, IPAT, bit("A", A_BIT, "accessed", self._role)]
        fields += [bit("D", D_BIT, "dirty", self._role), ignored(10, 10)]
        fields.append(SNP if self._snp else bit("SNP", 11, "reserved without ECAP.SC", "reserved", 0))
        fields.append(bit("PS", 7, "1: leaf", fixed=1) if level.number else ignored(7, 7))
        if level.number:
            fields.append(reserved(level.lo - 1, 12))
        fields.append(Field("address", self.oa_bits - 1, level.lo, "page", unit=1 << level.lo))
        return Layout(f"VT-d second-stage leaf, level {level.spec_level}", "VT-d 9.8", (*fields, *self._high()))

    def _table_layout(self, level: Level) -> Layout:
        fields = [R, W_BIT, ignored(6, 2), bit("PS", 7, "0: pointer", "reserved", 0)]
        fields += [bit("A", A_BIT, "accessed", self._role), ignored(10, 9), reserved(11, 11)]
        fields.append(Field("address", self.oa_bits - 1, 12, "next table", unit=1 << 12))
        return Layout(f"VT-d second-stage pointer, level {level.spec_level}", "VT-d 9.8", (*fields, *self._high()))

    def _high(self) -> tuple[Field, ...]:
        """Bits above the address: HAW to 51 reserved, 62:61 as the unit is, the rest ignored."""
        fields = (ignored(60, 52), *self._upper, ignored(63, 63))
        return (reserved(51, self.oa_bits), *fields) if self.oa_bits < 52 else fields

    @property
    def iova_bits(self) -> int:
        """The smaller of AW and MGAW (INTEL-SS-17)."""
        return self._iova_bits

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
        return keep(word, ADDRESS.mask & ~((1 << self.levels[level].lo) - 1))

    def attrs(self, word: W, level: int) -> W:
        return keep(word, self._attrs)

    def leaf(self, size_lg2: int, oa: W, attrs: int) -> W:
        """A leaf; an address beyond HAW sets reserved bits, so that it is refused and not folded (INTEL-SS-9)."""
        return join(keep(oa, ADDRESS.mask), attrs | (PS.mask if self.leaf_size(size_lg2).level else 0))

    def table(self, level: int, child_pa: W) -> W:
        """A pointer grants all rights: the AND over the walk is the leaf's."""
        return join(keep(child_pa, ADDRESS.mask), self._granted)

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

    # -- recordings

    @classmethod
    def from_recording(cls, config: Mapping[str, Any]) -> "SecondStage | None":
        """Levels, widths and leaf sizes of a ``vtdss`` recording; D is compared, so hardware may set it."""
        aws = [aw for aw, count in LEVELS_OF_AW.items() if count == config["level"] + 1]
        if not aws or config["vasz"] > aws[0]:
            return None
        sizes = int(config["pgsizes"], 16)
        levels = tuple(i for i in range(3) if not sizes or sizes >> 12 + 9 * i & 1)
        return cls(config["oasz"], aw=aws[0], mgaw=config["vasz"], dirty=True, leaf_levels=levels)

    def from_prot(self, prot: int, config: Mapping[str, Any]) -> int | None:
        """R from READ, W from WRITE, SNP with ``force_coherence``; ``force_writeable`` refuses READ alone."""
        rights = prot & (READ | WRITE)
        if not rights or ("force_writeable" in config["features"] and rights == READ):
            return None
        return rights | (SNP.mask if "force_coherence" in config["features"] else 0)

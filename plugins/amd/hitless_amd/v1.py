"""AMD v1 host page table.

Spec: AMD I/O Virtualization Technology (IOMMU) 48882, section 2.2.3, tables 14 to 17.
Facts: AMD-PTE-*, AMD-LVL-*.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

from attrs import evolve

from hitless.bits import (
    BoolArray,
    Field,
    Layout,
    W,
    bit,
    drop_trailing_ones,
    either,
    equals,
    get,
    ignored,
    join,
    keep,
    lowest_zero,
    reserved,
    select,
)
from hitless.bits import test as is_set
from hitless.pagetable import READ, WRITE, LeafSize, Level, PageFormat
from hitless.units import lg2_text

PR = bit("PR", 0, "present")
NEXT_LEVEL = Field(
    "NextLevel",
    11,
    9,
    "0: leaf, 1 to 6: pointer to a table of that level, 7: leaf with its size in the address",
)
ADDRESS = Field("address", 51, 12, "page, or next table", unit=1 << 12)
U = bit("U", 59, "attribute returned to an ATS device")
FC = bit("FC", 60, "force coherent")
IR = bit("IR", 61, "read allowed")
IW = bit("IW", 62, "write allowed")
A, D = 1 << 5, 1 << 6

LEVELS = tuple(Level(i, 12 + 9 * i, 9 if i < 5 else 7, i + 1, f"AMD level {i + 1}") for i in range(6))
_RUN = 7
_OFFSET = 0xFFF
_READ, _WRITE, _MMIO = 1, 2, 16


class AmdV1(PageFormat):
    """AMD v1 tables with DTE.Mode 1 to 6.

    A run is the size-7 form: 2 to 256 adjacent entries that all hold the same word, in which the lowest 0 of
    the address field tells the size.

    Args:
        mode: DTE.Mode, the number of levels.
        width: IOVA bits that are in use, now or after the root has grown; None: what ``mode`` can index.
        oa_bits: width of physical addresses.
        force_coherent: FC of new leaves.
        c_bit: position of SME's C-bit, set in pointers and new leaves; 0: memory encryption is off.
        had: DTE.HAD: 0 hardware sets neither A nor D, 1 A, 3 both.
        leaf_512g: whether the 512 GiB leaf is legal: an erratum forbids it (AMD-LVL-4).
        run_mix: whether the copies of a run may be rewritten one by one (AMD-LIVE-6).
    """

    name: ClassVar[str] = "amd/v1"
    source: ClassVar[str] = "48882 2.2.3"
    recorded_as: ClassVar[tuple[str, ...]] = ("amdv1", "amdv1_flex")

    def __init__(
        self,
        mode: int = 4,
        *,
        width: int | None = None,
        oa_bits: int = 52,
        force_coherent: bool = True,
        c_bit: int = 0,
        had: int = 3,
        leaf_512g: bool = False,
        run_mix: bool = False,
    ) -> None:
        self._of_mode = partial(
            AmdV1,
            width=width,
            oa_bits=oa_bits,
            force_coherent=force_coherent,
            c_bit=c_bit,
            had=had,
            leaf_512g=leaf_512g,
            run_mix=run_mix,
        )
        self.mode = mode
        self.levels = LEVELS[:mode]
        self.width = width or _width(mode)
        self.oa_bits = min(oa_bits, c_bit or oa_bits)
        self.run_mix = run_mix
        self._fc = FC.mask if force_coherent else 0
        self._c = 1 << c_bit if c_bit else 0
        self._attrs = A | D | U.mask | FC.mask | IR.mask | IW.mask | self._c
        self._leaf, self._table = _layouts(c_bit, had)
        self.leaf_sizes = tuple(_sizes(self.levels, min(self.oa_bits, _width(mode)), leaf_512g))

    @property
    def iova_bits(self) -> int:
        return min(self.width, _width(self.mode))

    def grown(self) -> "AmdV1 | None":
        """The format with one more level on top: entry 0 of its root points to the old root (AMD-LIVE-8).

        None where ``width`` needs no more levels.
        """
        return self._of_mode(self.mode + 1) if self.width > _width(self.mode) else None

    def layout(self, kind: str, level: int) -> Layout | None:
        """Level 1 holds leaves only, level 6 pointers only (AMD-LVL-2, AMD-LVL-5)."""
        if kind == "leaf":
            return self._leaf if level < 5 else None
        return self._table if level > 0 else None

    def present(self, word: W) -> bool | BoolArray:
        return is_set(word, PR)

    def is_leaf(self, word: W, level: int) -> bool | BoolArray:
        return either(equals(word, NEXT_LEVEL, 0), equals(word, NEXT_LEVEL, _RUN))

    def leaf_lg2(self, word: W, level: int) -> W | int:
        """The level's default size, or the one that the lowest 0 of the address field codes (AMD-LVL-11)."""
        run = equals(word, NEXT_LEVEL, _RUN)
        if run is False:  # one word, and the common case
            return self.levels[level].lo
        return select(run, lowest_zero(word, 12) + 1, self.levels[level].lo)

    def child_level(self, word: W, level: int) -> W:
        """NextLevel, which may skip levels (AMD-LVL-6)."""
        return get(word, NEXT_LEVEL) - 1

    def malformed(self, word: int, level: int) -> bool:
        """Reserved bits, a leaf that is not legal here, or a NextLevel that does not lead down."""
        return super().malformed(word, level) or level < get(word, NEXT_LEVEL) < _RUN

    def faults(self, word: int, level: int) -> list[str]:
        found = list(super().faults(word, level))
        next_level = get(word, NEXT_LEVEL)
        if not self.present(word):
            return found
        if level < next_level < _RUN:
            found.append(
                f"{self.name}: NextLevel of a pointer is below the level of its table (AMD-LVL-6):"
                f" {next_level} does not lead down from {self.levels[level]}"
            )
        lg2 = int(self.leaf_lg2(word, level))
        if next_level == _RUN and lg2 not in self._lg2s_at[level]:
            others = [str(self.levels[size.level]) for size in self.leaf_sizes if size.lg2 == lg2]
            whose = f"a size of {others[0]}" if others else "a size of no level"
            found.append(
                f"{self.name}: NextLevel 7, and bit {lg2 - 1} as the lowest 0 from bit 12 up, code"
                f" {lg2_text(lg2)}, {whose} (AMD-LVL-11)"
            )
        return found

    def table_pa(self, word: W) -> W:
        return keep(word, ADDRESS.mask & ~self._c)

    def leaf_oa(self, word: W, level: int) -> W:
        address = keep(word, ADDRESS.mask & ~self._c)
        run = equals(word, NEXT_LEVEL, _RUN)
        if run is False:
            return address
        return select(run, drop_trailing_ones(join(address, _OFFSET)), address)

    def attrs(self, word: W, level: int) -> W:
        """A, D, U, FC, IR, IW and the C-bit, where they stand."""
        return keep(word, self._attrs)

    def leaf(self, size_lg2: int, oa: W, attrs: int) -> W:
        """A default leaf, or the word of every copy of a run (AMD-LVL-12)."""
        if self.leaf_size(size_lg2).entries_lg2:
            attrs |= NEXT_LEVEL.mask | (1 << size_lg2 - 1) - 1 & ~_OFFSET
        return join(keep(oa, ADDRESS.mask), attrs | PR.mask)

    def table(self, level: int, child_pa: W) -> W:
        """A pointer grants both rights: the AND over the walk is the leaf's (AMD-PTE-6)."""
        return join(keep(child_pa, ADDRESS.mask), level << NEXT_LEVEL.lo | PR.mask | IR.mask | IW.mask | self._c)

    def default_attrs(self, rights: int) -> int:
        return self._fc | self._c | (IR.mask if rights & READ else 0) | (IW.mask if rights & WRITE else 0)

    def rights(self, word: int, level: int) -> int:
        return (READ if word & IR.mask else 0) | (WRITE if word & IW.mask else 0)

    @classmethod
    def from_recording(cls, config: Mapping[str, Any]) -> PageFormat | None:
        """The root's level, which may grow, widths and the C-bit of a recording."""
        mode, mask, features = config["level"] + 1, int(config["sme_mask"], 16), config["features"]
        return cls(
            mode,
            width=config["vasz"] if "dynamic_top" in features else min(config["vasz"], _width(mode)),
            oa_bits=config["oasz"],
            c_bit=mask.bit_length() - 1 if mask and "encrypt_tables" in features else 0,
        )

    def from_prot(self, prot: int, config: Mapping[str, Any]) -> int | None:
        """IR, IW; FC where the recording forces coherence; the C-bit unless MMIO."""
        if not prot & (_READ | _WRITE):
            return None
        found = (IR.mask if prot & _READ else 0) | (IW.mask if prot & _WRITE else 0)
        found |= FC.mask if "force_coherence" in config["features"] else 0
        return found if prot & _MMIO else found | self._c


def _width(mode: int) -> int:
    """IOVA bits that this many levels can index (AMD-LVL-8)."""
    return min(12 + 9 * mode, 64)


def _sizes(levels: tuple[Level, ...], widest: int, leaf_512g: bool) -> list[LeafSize]:
    """Each level's default size, and the eight run sizes up to the next level's (AMD-LVL-3, AMD-LVL-11)."""
    found = [LeafSize(level.lo + run, level.number, run) for level in levels[:5] for run in range(9)]
    return [size for size in found if size.lg2 <= min(widest, 51) and (leaf_512g or size.lg2 != 39)]


def _layouts(c_bit: int, had: int) -> tuple[Layout, Layout]:
    """Leaf and pointer: the C-bit is cut out of the address field; A and D are hardware's as HAD says."""
    address = [ADDRESS]
    if c_bit:
        address = [evolve(ADDRESS, hi=c_bit - 1), bit("C", c_bit, "memory is encrypted")]
        address += [reserved(51, c_bit + 1)] if c_bit < 51 else []
    accessed = bit("A", 5, "accessed", "hardware" if had else "ignored")
    dirty = bit("D", 6, "dirty", "hardware" if had == 3 else "ignored")
    common = (PR, accessed, *address, ignored(4, 1), ignored(8, 7), reserved(58, 52), IR, IW, ignored(63, 63))
    return (
        Layout("AMD v1 leaf", "48882 2.2.3", (*common, dirty, NEXT_LEVEL, U, FC)),
        Layout("AMD v1 pointer", "48882 2.2.3", (*common, ignored(6, 6), NEXT_LEVEL, ignored(60, 59))),
    )


__all__ = ["ADDRESS", "FC", "IR", "IW", "LEVELS", "NEXT_LEVEL", "PR", "AmdV1", "U"]

"""Sv39, Sv48 and Sv57, and the x4 forms of the second stage.

Spec: RISC-V privileged architecture, supervisor (Sv39) and hypervisor (hgatp). Facts: RISCV-PTE-*, RISCV-LVL-*,
RISCV-NAPOT-*, RISCV-AD-*.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from hitless.bits import BoolArray, Field, Layout, W, drop, get, join, keep, put, select
from hitless.bits import test as is_set
from hitless.pagetable import READ, WRITE, LeafSize, Level, PageFormat
from hitless_riscv import pte
from hitless_riscv.pte import LEVELS_OF, RUN_CODE, RUN_ENTRIES_LG2, RUN_LG2, SvConfig

_PA = Field("physical address", 55, 12)
_WIDE_PPN, _WIDE_PA = Field("PPN and above", 58, 10), Field("address and above", 60, 12)
"""Wider than addresses are: one that is too large sets reserved bits, and is refused instead of folded."""
_READ, _WRITE, _CACHE, _NOEXEC, _MMIO = 1, 2, 4, 8, 16


class Sv(PageFormat):
    """What both stages have in common; requests are those of users, and read or write."""

    source: ClassVar[str] = "RISC-V privileged, Sv39"
    recorded_as: ClassVar[tuple[str, ...]] = ("riscv_64",)
    suffix: ClassVar[str] = ""
    root_bits: ClassVar[int] = 9
    global_bit: ClassVar[Field] = pte.G

    def __init__(self, config: SvConfig | None = None) -> None:
        self.config = config or SvConfig()
        name, count = self.config.mode.capitalize() + self.suffix, LEVELS_OF[self.config.mode]
        self.levels = tuple(
            Level(i, 12 + 9 * i, 9 if i < count - 1 else self.root_bits, i, f"{name} level {i}") for i in range(count)
        )
        self.oa_bits = self.config.pas
        run = [LeafSize(RUN_LG2, 0, RUN_ENTRIES_LG2)] if self.config.svnapot else []
        plain = [LeafSize(level.lo, level.number) for level in self.levels if level.lo <= self.oa_bits]
        self.leaf_sizes = (plain[0], *run, *plain[1:])
        self._leaves = tuple(
            pte.leaf_layout(name, self.source, self.config, level, self.global_bit) for level in self.levels
        )
        self._table = pte.table_layout(name, self.source, self.config, self.global_bit)
        self._attrs = self._leaves[0].mask("value", "hardware") & ~(pte.V.mask | pte.PPN.mask | pte.N.mask)

    def layout(self, kind: str, level: int) -> Layout | None:
        """Leaves at every level that memory has room for, pointers above the last (RISCV-LVL-3, RISCV-LVL-5)."""
        if kind == "leaf":
            return self._leaves[level] if self.levels[level].lo <= self.oa_bits else None  # RISCV-LVL-8
        return self._table if level else None

    def present(self, word: W) -> bool | BoolArray:
        return is_set(word, pte.V)

    def is_leaf(self, word: W, level: int) -> bool | BoolArray:
        return is_set(word, pte.RWX)

    def malformed(self, word: int, level: int) -> bool:
        return super().malformed(word, level) or bool(pte.reserved_code(word, level, self.config))

    def faults(self, word: int, level: int) -> list[str]:
        reason = pte.reserved_code(word, level, self.config) if self.present(word) else ""
        return [*super().faults(word, level), *([f"{self.name}: {reason}"] if reason else [])]

    def table_pa(self, word: W) -> W:
        return put(keep(word, 0), _PA, get(word, pte.PPN))

    def leaf_lg2(self, word: W, level: int) -> W | int:
        """The level's size, or 64K with N."""
        if level or not self.config.svnapot:
            return self.levels[level].lo
        return select(is_set(word, pte.N), RUN_LG2, self.levels[0].lo)

    def leaf_oa(self, word: W, level: int) -> W:
        """Low bits of the PPN are no address in a large leaf, nor in a run (RISCV-NAPOT-2)."""
        address = drop(self.table_pa(word), (1 << self.levels[level].lo) - 1)
        if level or not self.config.svnapot:
            return address
        return select(is_set(word, pte.N), drop(address, (1 << RUN_LG2) - 1), address)

    def attrs(self, word: W, level: int) -> W:
        """R, W, X, U, A, D, PBMT, in stage 1 also G, where they stand."""
        return keep(word, self._attrs)

    def leaf(self, size_lg2: int, oa: W, attrs: int) -> W:
        """A leaf, or the word of every entry of a run."""
        run = pte.N.mask | RUN_CODE << pte.RUN.lo if self.leaf_size(size_lg2).entries_lg2 else 0
        return join(_entry(oa), attrs | pte.V.mask | run)

    def table(self, level: int, child_pa: W) -> W:
        """A pointer restricts nothing (RISCV-PTE-12)."""
        return join(_entry(child_pa), pte.V.mask)

    def default_attrs(self, rights: int) -> int:
        """Memory as the PMA say, for users, not for execution; there is no write-only.

        A and D are set where hardware would not set them: an access would fault (RISCV-AD-2).

        Raises:
            ValueError: no rights: without R, W and X an entry is a pointer.
        """
        if not rights & (READ | WRITE):
            raise ValueError(f"{self.name}: rights must hold READ or WRITE: without them an entry is a pointer")
        write = pte.W.mask if rights & WRITE else 0
        marks = 0 if self.config.hardware_ad else pte.A.mask | (pte.D.mask if write else 0)
        return pte.U.mask | pte.R.mask | write | marks

    def rights(self, word: int, level: int) -> int:
        """What a user's access may do; pointers restrict nothing (RISCV-PTE-4, RISCV-PTE-12, RISCV-AD-2)."""
        if not word & pte.RWX.mask:
            return READ | WRITE
        marked = self.config.hardware_ad
        if not word & pte.U.mask or not (marked or word & pte.A.mask):
            return 0
        write = word & pte.W.mask and (marked or word & pte.D.mask)
        return (READ if word & pte.R.mask else 0) | (WRITE if write else 0)

    # -- recordings

    @classmethod
    def from_recording(cls, config: Mapping[str, Any]) -> "Sv | None":
        """Width, output width and extensions of a recording; D is compared, so hardware may set it."""
        modes = {_input_bits(mode, cls.root_bits): mode for mode in LEVELS_OF}
        features = config["features"]
        if config["fmt"] not in cls.recorded_as or config["vasz"] not in modes:
            return None
        return cls(
            SvConfig(
                mode=modes[config["vasz"]],
                pas=min(config["oasz"], 56),
                svnapot="svnapot_64k" in features,
                svpbmt="svpbmt" in features,
            )
        )

    def from_prot(self, prot: int, config: Mapping[str, Any]) -> int | None:
        """U and A always, R with either right, W and D with WRITE, X unless NOEXEC; NC or IO with Svpbmt."""
        if not prot & (_READ | _WRITE):
            return None
        found = pte.U.mask | pte.A.mask | pte.R.mask | (pte.W.mask | pte.D.mask if prot & _WRITE else 0)
        found |= 0 if prot & _NOEXEC else pte.X.mask
        if not self.config.svpbmt or (prot & _CACHE and not prot & _MMIO):
            return found
        return found | (pte.IO if prot & _MMIO else pte.NC) << pte.PBMT.lo


class Stage1(Sv):
    """Sv39, Sv48 or Sv57: from IOVA to guest physical address, or to memory where stage 2 is Bare."""

    name: ClassVar[str] = "riscv/stage1"
    stage: ClassVar[str] = "1"

    def canonical(self, iova: int) -> int:
        """Sign-extended (RISCV-LVL-1)."""
        return iova | -1 << self.iova_bits & (1 << 64) - 1 if iova >> self.iova_bits - 1 & 1 else iova


class Stage2(Sv):
    """Sv39x4, Sv48x4 or Sv57x4: from guest physical address to memory; the root has 2048 entries (RISCV-LVL-2)."""

    name: ClassVar[str] = "riscv/stage2"
    stage: ClassVar[str] = "2"
    source: ClassVar[str] = "RISC-V privileged, hypervisor hgatp"
    suffix: ClassVar[str] = "x4"
    root_bits: ClassVar[int] = 11
    global_bit: ClassVar[Field] = pte.NOT_G


def _entry(address: W) -> W:
    """The PPN of an address, where it stands."""
    return put(keep(address, 0), _WIDE_PPN, get(address, _WIDE_PA))


def _input_bits(mode: str, root_bits: int) -> int:
    return 12 + 9 * (LEVELS_OF[mode] - 1) + root_bits

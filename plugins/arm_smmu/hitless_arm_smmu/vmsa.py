"""What VMSAv8-64 stage 1 and stage 2 have in common: layouts, runs, addresses, the walk.

Spec: Arm ARM DDI0487 chapter D8, VMSAv8-64 descriptors; IHI0070 section 3.21.1 for nT.
Facts: ARM-DESC-*, ARM-LVL-*.

Arm counts levels from the root down: core level 0 is Arm level 3.
"""

from abc import abstractmethod
from functools import cached_property
from typing import ClassVar

from attrs import evolve

from hitless.bits import BoolArray, Field, Layout, W, bit, equals, get, ignored, join, keep, put, reserved, select
from hitless.bits import test as is_set
from hitless.pagetable import Leaf, LeafSize, Level, PageFormat, Position, WalkFault
from hitless_arm_smmu.granules import RUNS_LG2, VmsaConfig

VALID = bit("valid", 0)
TYPE = Field("type", 1, 0, "x0 invalid, 01 block, 11 table or page")
SH = Field("SH", 9, 8, "shareability", values={0: "non-shareable", 2: "outer", 3: "inner"})
AF = bit("AF", 10, "access flag; 0: an access faults, or hardware sets it")
NT = bit("nT", 16, "not to be cached as a translation while the block's size changes")
DBM = bit("DBM", 51, "writable; clean until hardware marks it dirty")
CONTIGUOUS = bit("Contiguous", 52, "one of a run that may be cached as one entry")

PAGE_OR_TABLE, BLOCK = 3, 1
SH_INNER, SH_OUTER = 3 << 8, 2 << 8

_SHOWS = 3 << 48 | 0xF000
_ALL = (1 << 64) - 1


class Vmsa(PageFormat):
    """Base of both stages.

    An address is in bits 47:n of a descriptor; with DS, or LPA, its upper bits are in a second
    place (ARM-DESC-12, ARM-DESC-15, ARM-DESC-16).
    """

    title: ClassVar[str]
    source: ClassVar[str] = "DDI0487 D8, VMSAv8-64; IHI0070 3.21.1"

    def __init__(self, config: VmsaConfig, start: int) -> None:
        self.config = config
        self.levels = config.levels(start)
        self.oa_bits = config.output_bits
        self.run_mix = config.bbml > 0
        top = 49 if config.ds else 47
        self._low = Field("address", top, config.granule_lg2, "next table", unit=1 << config.granule_lg2)
        self._high: Field | None = None
        if config.ds:
            self._high = Field("address[51:50]", 9, 8, unit=1 << 50)
        elif config.lpa:
            self._high = Field("address[51:48]", 15, 12, unit=1 << 48)
        self._high_at = Field("upper address bits", 51, top + 1)
        self._runs = RUNS_LG2[config.granule_lg2] if config.runs else {}
        self._leaves = {n: self._leaf_layout(self.levels[n]) for n in range(len(self.levels)) if self._holds_leaf(n)}
        self._table = self._table_layout()
        self._attrs = sum(each.mask for each in self._attr_fields())

    # -- what the stages say

    @abstractmethod
    def _attr_fields(self) -> tuple[Field, ...]:
        """The fields of a leaf that are attributes, SH and AF included where they are in it."""

    @abstractmethod
    def _other_leaf_fields(self) -> tuple[Field, ...]:
        """What is in no other list: bits that are reserved or ignored at this stage."""

    @abstractmethod
    def _upper_table_fields(self) -> tuple[Field, ...]:
        """Bits 63:59 of a table descriptor."""

    # -- layouts

    def _holds_leaf(self, number: int) -> bool:
        return 3 - number >= self.config.largest_block

    def _common_attrs(self) -> tuple[Field, ...]:
        """SH, which gives way to address bits with DS, AF, and DBM, which counts only where hardware marks pages."""
        af = evolve(AF, role="hardware") if self.config.ha else AF
        found = (af,) if self.config.ds else (SH, af)
        return (*found, DBM) if self.config.hd else found

    def _leaf_layout(self, level: Level) -> Layout:
        """Bits of a page (Arm level 3), or of a block, which has nT and reserved bits below its address."""
        lo, kind = level.lo, "block" if level.number else "page"
        fields = [evolve(TYPE, fixed=BLOCK if level.number else PAGE_OR_TABLE), *self._attr_fields()]
        fields += [Field("OA", self._low.hi, lo, "output address", unit=1 << lo), *self._other_leaf_fields()]
        if self._high:
            fields.append(evolve(self._high, name=self._high.name.replace("address", "OA")))
        if not self.config.ds:
            fields.append(reserved(49, 48))
        if not self.config.lpa and lo > 12:
            fields.append(reserved(min(15, lo - 1), 12))
        if level.number:
            fields += [self._nt(), *([reserved(lo - 1, 17)] if lo > 17 else [])]
        if not self.config.hd:
            fields.append(evolve(DBM, role="ignored"))
        runs = level.number in self._run_levels
        fields.append(CONTIGUOUS if runs else evolve(CONTIGUOUS, role="reserved", fixed=0))
        return Layout(f"{self.title} {kind}", "DDI0487 D8, VMSAv8-64 block and page descriptors", tuple(fields))

    def _table_layout(self) -> Layout:
        """Bits of a pointer to a next table; the same at every level that may hold one."""
        fields = [evolve(TYPE, fixed=PAGE_OR_TABLE), evolve(self._low, meaning="next table")]
        if self.config.ds:
            fields += [ignored(7, 2), ignored(11, 10), reserved(50, 50)]
        else:
            fields += [ignored(11, 2), reserved(50, 48)]
        if self._high:
            fields.append(self._high)
        if not self.config.lpa and self.config.granule_lg2 > 12:
            fields.append(reserved(self.config.granule_lg2 - 1, 12))
        fields += [ignored(58, 51, "software"), *self._upper_table_fields()]
        return Layout(f"{self.title} table", "DDI0487 D8, VMSAv8-64 table descriptors", tuple(fields))

    def _nt(self) -> Field:
        """The nT bit came with BBML 1: reserved before it, ignored by BBML 2 (ARM-DESC-9)."""
        if self.config.bbml == 0:
            return evolve(NT, role="reserved", fixed=0)
        return NT if self.config.bbml == 1 else evolve(NT, role="ignored")

    def layout(self, kind: str, level: int) -> Layout | None:
        """Arm level 3 holds pages only; above the largest block there are tables only (ARM-LVL-2)."""
        if kind == "leaf":
            return self._leaves.get(level)
        return self._table if level > 0 else None

    # -- sizes

    @cached_property
    def _run_levels(self) -> dict[int, int]:
        """log2 of the entries of a run, by level; a run has to fit into a table (ARM-LVL-3)."""
        found = {level.number: self._runs.get(3 - level.number, 0) for level in self.levels}
        return {n: lg2 for n, lg2 in found.items() if lg2 and self._holds_leaf(n) and lg2 <= self.levels[n].bits}

    @cached_property
    def leaf_sizes(self) -> tuple[LeafSize, ...]:
        """Plain leaves and runs, ascending."""
        plain = [LeafSize(self.levels[n].lo, n) for n in self._leaves]
        runs = [LeafSize(self.levels[n].lo + lg2, n, lg2) for n, lg2 in self._run_levels.items()]
        return tuple(sorted([*plain, *runs], key=lambda size: size.lg2))

    def leaf_lg2(self, word: W, level: int) -> W | int:
        lo, run = self.levels[level].lo, self._run_levels.get(level)
        return select(is_set(word, CONTIGUOUS), lo + run, lo) if run else lo

    def run_step(self, size_lg2: int) -> int:
        """Each entry of a run holds its own address (ARM-DESC-11)."""
        size = self.leaf_size(size_lg2)
        return 1 << self.levels[size.level].lo if size.entries_lg2 else 0

    # -- words

    def present(self, word: W) -> bool | BoolArray:
        return is_set(word, VALID)

    def is_leaf(self, word: W, level: int) -> bool | BoolArray:
        """At Arm level 3 nothing is a table; above, bit 1 tells (ARM-DESC-2)."""
        return equals(word, VALID, 1) if level == 0 else equals(word, TYPE, BLOCK)

    def table_pa(self, word: W) -> W:
        low = keep(word, self._low.mask)
        return put(low, self._high_at, get(word, self._high)) if self._high else low

    def leaf_oa(self, word: W, level: int) -> W:
        lo, run = self.levels[level].lo, self._run_levels.get(level)
        address = keep(self.table_pa(word), -1 << lo & _ALL)
        if not run:
            return address
        return select(is_set(word, CONTIGUOUS), keep(address, -1 << lo + run & _ALL), address)

    def attrs(self, word: W, level: int) -> W:
        return keep(word, self._attrs)

    def leaf(self, size_lg2: int, oa: W, attrs: int) -> W:
        """A page or block, nT clear; address bits below its size stay, to show as reserved bits."""
        size = self.leaf_size(size_lg2)
        kind = (BLOCK if size.level else PAGE_OR_TABLE) | (CONTIGUOUS.mask if size.entries_lg2 else 0)
        return join(self._address(oa), attrs | kind)

    def table(self, level: int, child_pa: W) -> W:
        return join(self._address(child_pa), PAGE_OR_TABLE)

    def _address(self, address: W) -> W:
        """An address as a descriptor holds it; where bits 49:48 and 15:12 are reserved they stay, so that they show."""
        if self._high:
            return put(keep(address, self._low.mask), self._high, get(address, self._high_at))
        return keep(address, self._low.mask | _SHOWS)

    def cacheable(self, word: int, level: int) -> bool:
        """At BBML 1 a block with nT takes no part in a conflict (ARM-DESC-9, ARM-LIVE-5)."""
        return not (self.config.bbml == 1 and level > 0 and is_set(word, NT))

    def malformed(self, word: int, level: int) -> bool:
        """The common check, and type 01 at Arm level 3, which is reserved (ARM-DESC-2)."""
        return (level == 0 and not equals(word, TYPE, PAGE_OR_TABLE)) or super().malformed(word, level)

    # -- walk

    def step(self, position: Position, word: int) -> Position | Leaf | WalkFault:
        """The common step, and the faults that only this architecture has.

        Type 01 at Arm level 3 is ``not-present``; an address beyond IPS or S2PS is ``address-size``; a
        clear AF is ``access``; an entry of a run that does not continue the run is ``reserved``.
        Facts: ARM-DESC-2, ARM-DESC-8, ARM-DESC-11, ARM-EVT-5.
        """
        stage, level, _, iova, _ = position
        if level == 0 and not equals(word, TYPE, PAGE_OR_TABLE):
            return WalkFault(stage, 0, iova, word, "not-present")
        found = super().step(position, word)
        if isinstance(found, Position):
            return found if not found.table_pa >> self.oa_bits else WalkFault(stage, level, iova, word, "address-size")
        if isinstance(found, WalkFault):
            return found
        if found.oa >> self.oa_bits:
            return WalkFault(stage, level, iova, word, "address-size")
        if not (self.config.ha or self.config.affd or is_set(word, AF)):
            return WalkFault(stage, level, iova, word, "access")
        lo = self.levels[level].lo
        if found.size_lg2 > lo and (self.table_pa(word) ^ iova) & ((1 << found.size_lg2) - (1 << lo)):
            return WalkFault(stage, level, iova, word, "reserved")
        return found

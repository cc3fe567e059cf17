"""The granule protection table (GPT) bit for bit: level 0 regions, level 1 words of 16 granules, contiguous words.

Spec: DDI0487 D9, granule protection tables; TFA gpt_rme. Facts: ARM-GPT-4, ARM-GPT-11, ARM-GPT-12, ARM-GPT-13,
ARM-GPT-14.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from hitless.bits import Field, Layout, get, masked, reserved
from hitless.errors import BadInput
from hitless.ownership import FIRMWARE, GUEST, HOST, OTHER_GUEST, OwnerTable, RawEntry, RawTable
from hitless.units import WORD_MAX, align_down, align_up

ROOT, REALM, NON_SECURE = 0xA, 0xB, 0x9
STATES = {
    0x0: "no access",
    0x4: "system agent",
    0x5: "Non-secure protected",
    0x8: "Secure",
    0x9: "Non-secure",
    0xA: "Root",
    0xB: "Realm",
    0xD: "Non-secure only",
    0xF: "any",
}
"""Granule protection information (ARM-GPT-4); other values are reserved."""
HOST_STATES = (0x9, 0xD, 0xF)
"""What a Non-secure access passes."""

TYPE = Field("type", 3, 0, "1 block or contiguous, 3 table")
GPI = Field("GPI", 7, 4, "granule protection information", values=STATES)
CONTIG = Field("Contig", 9, 8, "size of the run", values={1: "2M", 2: "32M", 3: "512M"})
L1_ADDRESS = Field("address", 51, 12, "level 1 table", unit=1 << 12)
PPS = Field("PPS", 2, 0, "protected physical address size")
PGS = Field("PGS", 15, 14, "granule: 0 4K, 1 64K, 2 16K")
L0GPTSZ = Field("L0GPTSZ", 23, 20, "bits of a level 0 entry's region, above 30")

TABLE_TYPE, BLOCK_TYPE = 3, 1
GRANULES_LG2 = 4
PROTECTED_BITS = (32, 36, 40, 42, 44, 48, 52)
GRANULE_LG2 = (12, 16, 14)
CONTIGUOUS_LG2 = (21, 25, 29)
"""Sizes of contiguous runs, by Contig - 1 (ARM-GPT-12)."""

_SOURCE = "DDI0487 D9; TFA gpt_rme_private.h"
_BLOCK_TYPE = Field("type", 3, 0, "block", fixed=BLOCK_TYPE)
BLOCK = Layout("GPT level 0 block", _SOURCE, (_BLOCK_TYPE, GPI, reserved(63, 8)))
TABLE = Layout(
    "GPT level 0 table",
    _SOURCE,
    (Field("type", 3, 0, "table", fixed=TABLE_TYPE), reserved(11, 4), L1_ADDRESS, reserved(63, 52)),
)
CONTIGUOUS = Layout("GPT level 1 contiguous", _SOURCE, (_BLOCK_TYPE, GPI, CONTIG, reserved(63, 10)))
GRANULES = Layout(
    "GPT level 1 granules",
    _SOURCE,
    tuple(Field(f"GPI{n}", 4 * n + 3, 4 * n, f"granule {n}", values=STATES) for n in range(1 << GRANULES_LG2)),
)


class GptForm(NamedTuple):
    """What SMMU_ROOT_GPT_BASE and, from bit 64 on, SMMU_ROOT_GPT_BASE_CFG say: where the table is, and its sizes."""

    level_0_pa: int
    region_lg2: int
    granule_lg2: int
    protected_bits: int

    @classmethod
    def of(cls, base: int) -> "GptForm":
        """Decode the two registers.

        Raises:
            BadInput: PGS or PPS has a reserved value.
        """
        config = base >> 64
        pgs, pps = get(config, PGS), get(config, PPS)
        if pgs >= len(GRANULE_LG2) or pps >= len(PROTECTED_BITS):
            raise BadInput(
                f"no granule protection table has PGS {pgs} and PPS {pps}",
                where=f"SMMU_ROOT_GPT_BASE_CFG {config:#x}",
                why="PGS is 0 to 2, PPS 0 to 6",
                do="give the register as hardware holds it, from bit 64 on",
            )
        region_lg2 = 30 + get(config, L0GPTSZ)
        return cls(masked(base & WORD_MAX, L1_ADDRESS), region_lg2, GRANULE_LG2[pgs], PROTECTED_BITS[pps])

    @property
    def word_lg2(self) -> int:
        """log2 of the memory that one level 1 word speaks of."""
        return self.granule_lg2 + GRANULES_LG2

    @property
    def level_1_lg2(self) -> int:
        """log2 of a level 1 table's bytes."""
        return min(self.region_lg2, self.protected_bits) - self.word_lg2 + 3

    def level_0(self, pa: int) -> int:
        """Where the level 0 entry of an address lies."""
        return self.level_0_pa + (pa >> self.region_lg2) * 8

    def level_1(self, table: int, pa: int) -> int:
        """Where the level 1 word of an address lies in its region's table."""
        return table + (pa % (1 << self.region_lg2) >> self.word_lg2) * 8

    def table_for(self, pa: int) -> int:
        """Where the level 1 table of an address's region is laid out: behind level 0, one beside the other."""
        regions = 1 << max(self.protected_bits - self.region_lg2, 0)
        first = align_up(self.level_0_pa + 8 * regions, max(self.level_1_lg2, 12))
        return first + (pa >> self.region_lg2) * (1 << max(self.level_1_lg2, 12))


class RawGpt(RawTable):
    """The GPT as words in memory. ``base``: SMMU_ROOT_GPT_BASE | SMMU_ROOT_GPT_BASE_CFG << 64.

    The GPT does not tell one realm from another (ARM-GPT-13): what is read in as a realm's is the guest's.
    """

    layouts: Mapping[str, Layout] = {
        "gpt-block": BLOCK,
        "gpt-table": TABLE,
        "gpt-granules": GRANULES,
        "gpt-contiguous": CONTIGUOUS,
    }

    # -- shown

    def entries(
        self, table: OwnerTable, base: int, start_pa: int, end_pa: int, *, gpa: Callable[[int], int] = lambda pa: pa
    ) -> Iterator[RawEntry]:
        """A region's level 0 entry, then its level 1 words; ``gpa`` does not matter.

        Raises:
            BadInput: a granule has several owners, or an address is not protected.
        """
        form = GptForm.of(base)
        _check_reach(form, end_pa)
        region = 1 << form.region_lg2
        for start in range(align_down(start_pa, form.region_lg2), end_pa, region):
            if table.entry_lg2(start) >= form.region_lg2:
                words = BLOCK.encode(GPI=_state(table.owner(start)))
                yield RawEntry(form.level_0(start), words, "gpt-block", start, start + region)
                continue
            level_1 = form.table_for(start)
            words = TABLE.encode(address=level_1 >> 12)
            yield RawEntry(form.level_0(start), words, "gpt-table", start, start + region)
            first, last = max(start, align_down(start_pa, form.word_lg2)), min(start + region, end_pa)
            for pa in range(first, last, 1 << form.word_lg2):
                layout, words = self._word(table, form, pa)
                yield RawEntry(form.level_1(level_1, pa), words, layout, pa, pa + (1 << form.word_lg2))

    def _word(self, table: OwnerTable, form: GptForm, pa: int) -> tuple[str, tuple[int, ...]]:
        """One level 1 word: of a contiguous run each holds the same."""
        size = table.entry_lg2(pa)
        if size in CONTIGUOUS_LG2:
            contig = CONTIGUOUS_LG2.index(size) + 1
            return "gpt-contiguous", CONTIGUOUS.encode(GPI=_state(table.owner(pa)), Contig=contig)
        states = {}
        for n in range(1 << GRANULES_LG2):
            at = pa + (n << form.granule_lg2)
            owner = table.uniform(at, at + (1 << form.granule_lg2))
            if owner is None:
                raise BadInput(
                    f"the granule at {at:#x} has several owners",
                    why=f"a granule of 2**{form.granule_lg2} bytes has one state",
                    do="use a table of 4K granules (PGS = 0)",
                )
            states[f"GPI{n}"] = _state(owner)
        return "gpt-granules", GRANULES.encode(**states)

    # -- read in

    def read(self, load: Callable[[int], int], base: int, start_pa: int, end_pa: int) -> OwnerTable:
        """Owners and sizes as the words say; what neither host nor guest may reach is firmware's."""
        form, table, pa = GptForm.of(base), OwnerTable(), start_pa
        _check_reach(form, end_pa)
        while pa < end_pa:
            at = form.level_0(pa)
            word = load(at)
            if get(word, TYPE) == TABLE_TYPE:
                _check(TABLE, at, word, pa)
                stop = min(end_pa, align_down(pa, form.region_lg2) + (1 << form.region_lg2))
                self._level_1(load, form, masked(word, L1_ADDRESS), pa, stop, table)
            else:
                _check(BLOCK, at, word, pa)
                stop = min(end_pa, align_down(pa, form.region_lg2) + (1 << form.region_lg2))
                table.set(pa, stop, _owner(get(word, GPI), at, word, pa), form.region_lg2)
            pa = stop
        return table

    def _level_1(
        self, load: Callable[[int], int], form: GptForm, level_1: int, pa: int, end: int, table: OwnerTable
    ) -> None:
        while pa < end:
            at = form.level_1(level_1, pa)
            word = load(at)
            stop = min(end, align_down(pa, form.word_lg2) + (1 << form.word_lg2))
            if get(word, TYPE) == BLOCK_TYPE:
                size_lg2 = self._run(load, form, level_1, pa)
                table.set(pa, stop, _owner(get(word, GPI), at, word, pa), size_lg2)
            else:
                for granule in range(align_down(pa, form.granule_lg2), stop, 1 << form.granule_lg2):
                    n = granule >> form.granule_lg2 & (1 << GRANULES_LG2) - 1
                    owner = _owner(get(word, GRANULES[f"GPI{n}"]), at, word, granule)
                    table.set(max(granule, pa), min(granule + (1 << form.granule_lg2), stop), owner, form.granule_lg2)
            pa = stop

    def _run(self, load: Callable[[int], int], form: GptForm, level_1: int, pa: int) -> int:
        """log2 of a contiguous run's size; its words have to agree with its first (ARM-GPT-12)."""
        at = form.level_1(level_1, pa)
        word = load(at)
        _check(CONTIGUOUS, at, word, pa)
        contig = get(word, CONTIG)
        if not contig:
            raise _no_entry("Contig 0 is reserved (ARM-GPT-12)", at, pa, word)
        size_lg2 = CONTIGUOUS_LG2[contig - 1]
        first = form.level_1(level_1, align_down(pa, size_lg2))
        if load(first) != word:
            raise _no_entry(f"the run's first word, at {first:#x}, says otherwise (ARM-GPT-12)", at, pa, word)
        return size_lg2


def _state(owner: int) -> int:
    """What the table says of a granule with an owner (ARM-GPT-13)."""
    return {HOST: NON_SECURE, GUEST: REALM, OTHER_GUEST: REALM, FIRMWARE: ROOT}[owner]


def _owner(state: int, at: int, word: int, pa: int) -> int:
    if state not in STATES:
        raise _no_entry(f"granule state {state:#x} is reserved (ARM-GPT-4)", at, pa, word)
    return HOST if state in HOST_STATES else GUEST if state == REALM else FIRMWARE


def _check(layout: Layout, at: int, word: int, pa: int) -> None:
    for fault in layout.faults(word):
        raise _no_entry(fault, at, pa, word)


def _check_reach(form: GptForm, end_pa: int) -> None:
    if end_pa > 1 << form.protected_bits:
        raise BadInput(
            f"{end_pa - 1:#x} is not protected by this table",
            why=f"PPS says {form.protected_bits} bits",
            do="ask for a range below that, or give the register as hardware holds it",
        )


def _no_entry(why: str, at: int, pa: int, word: int) -> BadInput:
    return BadInput(
        f"no granule protection entry for {pa:#x}",
        where=f"{at:#x}: {word:#x}",
        why=why,
        do="check SMMU_ROOT_GPT_BASE and, from bit 64 on, SMMU_ROOT_GPT_BASE_CFG",
    )


__all__ = ["BLOCK", "CONTIGUOUS", "CONTIGUOUS_LG2", "GRANULES", "TABLE", "GptForm", "RawGpt"]

"""Granules, levels and runs of VMSAv8-64: the geometry that CD and STE choose.

Spec: Arm ARM DDI0487 chapter D8, translation granules; IHI0070 5.2 and 5.4. Facts: ARM-LVL-*.
"""

from attrs import frozen

from hitless.pagetable import Level

RUNS_LG2 = {12: {3: 4, 2: 4, 1: 4, 0: 4}, 14: {3: 7, 2: 5}, 16: {3: 5, 2: 5, 1: 5}}
"""log2 of the entries of a contiguous run, by granule and Arm level (ARM-LVL-3)."""


@frozen(kw_only=True)
class VmsaConfig:
    """What the fields of a CD or STE, and the SMMU behind them, make of the format.

    Args:
        granule_lg2: 12, 14 or 16 (TG0, TG1, S2TG).
        input_bits: 64 - T0SZ, T1SZ or S2T0SZ.
        output_bits: IPS or S2PS.
        ds: DS or S2DS: addresses of 52 bits with the 4K and 16K granules, OA[51:50] in bits 9:8.
        lpa: the SMMU has addresses of 52 bits, and the granule is 64K: OA[51:48] in bits 15:12.
        bbml: IDR3.BBML, which decides what nT is.
        ha: hardware sets AF.
        hd: hardware marks a leaf with DBM as dirty.
        affd: a clear AF does not fault.
        runs: whether contiguous runs are among the leaves; without them the bit is illegal.
    """

    granule_lg2: int = 12
    input_bits: int = 48
    output_bits: int = 48
    ds: bool = False
    lpa: bool = False
    bbml: int = 2
    ha: bool = False
    hd: bool = False
    affd: bool = False
    runs: bool = True

    @property
    def stride(self) -> int:
        """Index bits of a level."""
        return self.granule_lg2 - 3

    @property
    def first_level(self) -> int:
        """Arm's number of the start level without concatenated tables: -1 to 3 (ARM-LVL-9)."""
        return 4 - -(-(self.input_bits - self.granule_lg2) // self.stride)

    @property
    def largest_block(self) -> int:
        """Arm's number of the highest level that may hold leaves (ARM-LVL-2)."""
        if self.granule_lg2 == 12:
            return 0 if self.ds else 1
        return 1 if self.ds or self.lpa else 2

    def levels(self, start: int) -> tuple[Level, ...]:
        """The levels from Arm level 3 up to the start level, whose table has what bits are left (ARM-LVL-1)."""
        found = []
        for number in range(4 - start):
            lo = self.granule_lg2 + number * self.stride
            bits = self.stride if 3 - number > start else self.input_bits - lo
            found.append(Level(number, lo, bits, 3 - number, f"Arm level {3 - number}"))
        return tuple(found)

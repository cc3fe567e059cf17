"""Random tables of any format, by raw words: leaves, runs, pointers, some of which skip levels, and damaged entries."""

import random

from hitless.memory import Arena
from hitless.pagetable import READ, WRITE
from hitless_amd.v1 import AmdV1
from hitless_amd.v2 import AmdV2
from hitless_arm_smmu.stage1 import ArmStage1, Stage1Config
from hitless_arm_smmu.stage2 import ArmStage2, Stage2Config
from hitless_intel.first_stage import FirstStage
from hitless_intel.second_stage import SecondStage
from hitless_riscv.pte import SvConfig
from hitless_riscv.sv import Stage1 as RiscvStage1
from hitless_riscv.sv import Stage2 as RiscvStage2

FORMATS = [
    AmdV1(3),
    AmdV1(4, c_bit=47),
    AmdV1(6, leaf_512g=True),
    AmdV1(3, width=48, had=0),
    AmdV2(4),
    AmdV2(5, haw=45, sign_extended=True, c_bit=47, nx=False),
    SecondStage(46, aw=39, snoop_control=False),
    SecondStage(aw=57, mgaw=52, dirty=True, upper="ir-iw", leaf_levels=(0, 1)),
    FirstStage(4, haw=39),
    FirstStage(5, extended=True, execute_disable=True),
    ArmStage1(Stage1Config(upper=True, hd=True, ha=True)),
    ArmStage1(Stage1Config(granule_lg2=14, bbml=1, ns=True)),
    ArmStage1(Stage1Config(granule_lg2=12, input_bits=52, output_bits=52, ds=True, had=True)),
    ArmStage2(Stage2Config(output_bits=40)),
    ArmStage2(Stage2Config(granule_lg2=16, input_bits=48, output_bits=52, lpa=True, affd=True)),
    ArmStage2(Stage2Config(granule_lg2=16, input_bits=42, concatenate=True)),
    RiscvStage1(SvConfig(mode="sv39")),
    RiscvStage1(SvConfig(mode="sv48", pas=44, hardware_ad=False, svpbmt=False)),
    RiscvStage2(SvConfig(mode="sv57", svnapot=False)),
]
BASE = 0x10_0000


class RandomTables:
    """Tables in an arena of their own; ``iovas`` are those of entries that were written, and some more."""

    def __init__(self, fmt, seed, *, damage=0.15, tables=10):
        self.fmt, self.rng, self.damage, self.left = fmt, random.Random(seed), damage, tables
        self.arena = Arena(BASE, 1 << 24)
        self.next = BASE
        self.iovas = []
        self.root_pa = self.allocate(fmt.top)
        self.fill(fmt.top, self.root_pa, 0)

    def allocate(self, level):
        """The address of a table, aligned to its size."""
        size = 1 << level.table_lg2
        pa = -(-self.next // size) * size
        self.next = pa + size
        return pa

    def fill(self, level, pa, base):
        """Some entries of a table, in a few clusters."""
        rng, count = self.rng, 1 << level.bits
        many = rng.random() < 0.3
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(count)
            for index in range(at, min(count, at + (count if many else rng.randint(1, 6)))):
                self.entry(level, pa, index, base)

    def entry(self, level, pa, index, base):
        """One entry; of a run, all of its entries."""
        fmt, rng, number = self.fmt, self.rng, level.number
        iova = base + (index << level.lo)
        self.iovas.append(iova)
        sizes = [size for size in fmt.leaf_sizes if size.level == number]
        if number and self.left and (not sizes or rng.random() < 0.3):
            self.left -= 1
            word = fmt.table(rng.randint(1, number) if rng.random() < 0.2 else number, 0)
            child = fmt.levels[fmt.child_level(word, number)]
            table = self.allocate(child)
            self.store(pa + 8 * index, word | fmt.table(number, table) & ~fmt.table(number, 0))
            self.fill(child, table, iova)
        elif sizes and rng.random() < 0.9:
            size = rng.choice(sizes)
            rights = rng.choice([READ, READ | WRITE])
            oa = rng.getrandbits(fmt.oa_bits) >> size.lg2 << size.lg2
            first = fmt.leaf(size.lg2, oa, fmt.default_attrs(rights) | rng.choice([0, fmt.hardware_set(number)]))
            start = index >> size.entries_lg2 << size.entries_lg2
            for i in range(1 << size.entries_lg2):
                self.store(pa + 8 * (start + i), first + i * fmt.run_step(size.lg2))

    def store(self, pa, word):
        """A word, or what a fault of memory makes of it."""
        if self.rng.random() < self.damage:
            word = self.rng.choice([word ^ 1 << self.rng.randrange(64), self.rng.getrandbits(64), 0])
        self.arena.store(pa, word)

    def asked(self, more):
        """IOVAs inside of what was written, beside it, and anywhere."""
        fmt, rng = self.fmt, self.rng
        found = []
        for _ in range(more):
            near = rng.choice(self.iovas) + rng.getrandbits(rng.choice([0, 12, 21, 30]))
            found.append(fmt.canonical(near & (1 << fmt.iova_bits) - 1))
        return [*found, *(rng.getrandbits(rng.choice([fmt.iova_bits, 64])) for _ in range(more // 8)), 0, (1 << 64) - 1]

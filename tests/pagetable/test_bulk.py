"""Translating many IOVAs at once finds what walking each by itself finds: every format, random tables and damage."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitless.errors import BusError
from hitless.memory import Arena
from hitless.pagetable import READ, WRITE, Leaf, walk
from hitless.pagetable.bulk import translate_many
from run_formats import FORMATS
from stand import registry

SIZE = 1 << 18
VENDORS = [
    ("amd", "amd/v1"),
    ("amd", "amd/v2"),
    ("intel", "intel/second-stage"),
    ("intel", "intel/first-stage"),
    ("arm_smmu", "arm_smmu/stage2"),
    ("arm_smmu", "arm_smmu/stage1"),
    ("riscv", "riscv/stage2"),
    ("riscv", "riscv/stage1"),
]


def random_tables(fmt, arena, rng):
    """Entries of every kind in tables of every level, some with a bit flipped: the root, and IOVAs worth asking."""
    free, bases = [arena.base], []

    def table(level):
        pa = -(-free[0] >> level.table_lg2) << level.table_lg2
        free[0] = pa + (1 << level.table_lg2)
        return pa

    def grow(number, pa, base):
        level = fmt.levels[number]
        for _ in range(6):
            index = rng.choice([0, (1 << level.bits) - 1, rng.randrange(1 << level.bits)])
            iova = base + (index << level.lo)
            bases.append((iova, level.lo))
            sizes = [size for size in fmt.leaf_sizes if size.level == number]
            below = fmt.levels[number - 1] if number else None
            room = below is not None and free[0] + (2 << below.table_lg2) <= arena.base + arena.size
            if room and (not sizes or rng.random() < 0.6):
                child = table(below)
                word = fmt.table(number, child)
                if not arena.load(pa + 8 * index):
                    grow(number - 1, child, iova)
            elif sizes:
                size = rng.choice(sizes)
                oa = rng.randrange(1 << fmt.oa_bits) >> size.lg2 << size.lg2
                first = index >> size.entries_lg2 << size.entries_lg2
                word = fmt.leaf(size.lg2, oa, fmt.default_attrs(rng.choice([READ, WRITE, READ | WRITE])))
                for i in range(1 << size.entries_lg2):
                    arena.store(pa + 8 * (first + i), (word + i * fmt.run_step(size.lg2)) % (1 << 64))
                continue
            else:
                continue
            if rng.random() < 0.2:
                word ^= 1 << rng.randrange(64)
            arena.store(pa + 8 * index, word)

    root = table(fmt.top)
    grow(fmt.top.number, root, 0)
    iovas = [
        fmt.canonical((base + rng.randrange(1 << lo)) % (1 << fmt.iova_bits)) for base, lo in bases for _ in range(3)
    ]
    return root, iovas + [rng.randrange(1 << 64) for _ in range(5)]


def agrees(fmt, seed):
    """Whether both say the same of every IOVA; where a damaged pointer leads out of memory, both say so."""
    rng = random.Random(seed)
    with Arena(1 << 20, SIZE) as arena:
        root, iovas = random_tables(fmt, arena, rng)
        try:
            alone = [walk(arena.load, fmt, fmt.start(root, iova)) for iova in iovas]
        except BusError:
            with pytest.raises(BusError):
                translate_many(arena, fmt, root, np.array(iovas, np.uint64))
            return
        found = translate_many(arena, fmt, root, np.array(iovas, np.uint64), rights=True)
        for i, (iova, one) in enumerate(zip(iovas, alone, strict=True)):
            if isinstance(one, Leaf):
                assert found.kinds[found.faults[i]] == ""
                assert int(found.oas[i]) == (one.oa + iova - one.iova) % (1 << 64)
                assert int(found.rights[i]) == one.rights
            else:
                assert found.kinds[found.faults[i]] == one.kind
                assert int(found.oas[i]) == (1 << 64) - 1
        assert (found.mapped == [isinstance(one, Leaf) for one in alone]).all()


@given(st.sampled_from(sorted(FORMATS)), st.integers(0, 2**32))
def test_small_formats(name, seed):
    """Two formats with runs and small tables."""
    agrees(FORMATS[name](), seed)


@pytest.mark.parametrize(("vendor", "name"), VENDORS)
@given(seed=st.integers(0, 2**32))
def test_every_format(vendor, name, seed):
    """The vendors' formats, with words that one flipped bit has damaged."""
    agrees(registry(vendor).resolve(vendor, name).page_format, seed)


def test_many_of_few_leaves():
    """More IOVAs than a chunk holds, over leaves of one table: each leads where its leaf does."""
    fmt = FORMATS["steps"]()
    with Arena(1 << 20, 1 << 16) as arena:
        for index in range(16):
            arena.store(arena.base + 8 * index, fmt.leaf(20, (index * 7 % 16) << 24, fmt.default_attrs(READ)))
        iovas = np.random.default_rng(0).integers(0, 1 << 24, 100_000, dtype=np.uint64)
        found = translate_many(arena, fmt, arena.base, iovas)
        index, inside = iovas >> np.uint64(20), iovas & np.uint64((1 << 20) - 1)
        assert (found.oas == ((index * np.uint64(7) % np.uint64(16)) << np.uint64(24)) + inside).all()
        assert found.rights is None

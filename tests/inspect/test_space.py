"""What tables say: words written by hand after the specifications, and ranges worked out by hand."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from memories import Pages

from hitless.inspect.ranges import ranges
from hitless.inspect.space import AddressSpace
from hitless.inspect.wording import attributes_text, rights_text
from hitless.plugin import VendorRegistry

REGISTRY = VendorRegistry.installed()
AMD_RW, AMD_FC = 3 << 61, 1 << 60
ROOT = 0x10_0000


def fmt_of(name: str, **features):
    """A page format as features configure it."""
    return REGISTRY.resolve(name.partition("/")[0], name, features).page_format


def read(memory, fmt, root=ROOT):
    """The space, and its ranges as (iova, size, pa, rights, leaf)."""
    space = AddressSpace(memory, fmt, root)
    kinds = space.entries.kinds
    found = [
        (each.iova, each.size, each.pa, rights_text(kinds[each.kind].rights), kinds[each.kind].leaf_lg2)
        for each in ranges(space.chunks())
    ]
    return space, found


def amd_pointer(level: int, pa: int, rights: int = AMD_RW) -> int:
    """A pointer to a table of an AMD level (48882 2.2.3, table 15)."""
    return pa | level << 9 | 1 | rights


def amd_leaf(pa: int, rights: int = AMD_RW) -> int:
    """A leaf of its level's default size (48882 2.2.3, table 16)."""
    return pa | 1 | rights


def test_amd_leaves_of_every_kind():
    """48882 2.2.3: 4K, 2M and 1G leaves, a size-7 run of 64K, rights of the walk, skipped levels."""
    memory = Pages()
    memory.put(ROOT, amd_pointer(3, 0x10_1000), amd_pointer(1, 0x10_5000))  # the second skips two levels
    memory.put(0x10_1000, amd_pointer(2, 0x10_2000), amd_leaf(0x4000_0000, 1 << 61))
    memory.put(0x10_2000, amd_pointer(1, 0x10_3000, 1 << 61), amd_leaf(0x60_0000))
    memory.put(0x10_3000, amd_leaf(0x7000), amd_leaf(0x8000), amd_leaf(0xA000))
    memory.put(0x10_3000 + 8 * 16, *[0x2_0000 | 0x7000 | 7 << 9 | 1 | AMD_RW] * 16)  # lowest 0 is bit 15: 64K
    memory.put(0x10_5000, amd_leaf(0x9000))
    space, found = read(memory, fmt_of("amd/v1"))
    assert found == [
        (0x0, 0x2000, 0x7000, "R-", 12),
        (0x2000, 0x1000, 0xA000, "R-", 12),
        (0x1_0000, 0x1_0000, 0x2_0000, "R-", 16),
        (0x20_0000, 0x20_0000, 0x60_0000, "RW", 21),
        (0x4000_0000, 0x4000_0000, 0x4000_0000, "R-", 30),
        (0x80_0000_0000, 0x1000, 0x9000, "RW", 12),
    ]
    assert dict(space.leaves) == {12: 4, 16: 1, 21: 1, 30: 1}
    assert space.mapped == 4 * 4096 + (64 << 10) + (2 << 20) + (1 << 30)
    assert space.tables.total() == 5
    assert space.table_bytes == 5 * 4096
    assert not len(space.findings)


def test_intel_write_only_leaves_are_mapped():
    """VT-d 9.8: an entry is present when R or W is set, so bit 0 alone does not tell."""
    memory = Pages()
    memory.put(ROOT, 0x10_1003)
    memory.put(0x10_1000, 0x10_2003)
    memory.put(0x10_2000, 0x10_3003, 0x20_0000 | 1 << 7 | 1)
    memory.put(0x10_3000, 0x5002, 0, 0x6001 | 1 << 11)
    space, found = read(memory, fmt_of("intel/second-stage"))
    assert found == [
        (0x0, 0x1000, 0x5000, "-W", 12),
        (0x2000, 0x1000, 0x6000, "R-", 12),
        (0x20_0000, 0x20_0000, 0x20_0000, "R-", 21),
    ]
    kinds = [attributes_text(space.fmt, kind.attrs) for kind in space.entries.kinds.all]
    assert sorted(kinds) == ["", "", "SNP"]


def test_first_stage_upper_half_is_canonical():
    """VT-d 3.6: entry 256 of the root translates addresses with ones above bit 47."""
    memory = Pages()
    memory.put(ROOT + 8 * 256, 0x10_1000 | 0x27)
    memory.put(0x10_1000, 0x10_2000 | 0x27)
    memory.put(0x10_2000, 0x10_3000 | 0x27)
    memory.put(0x10_3000, 0x7000 | 0x67)
    _, found = read(memory, fmt_of("intel/first-stage"))
    assert found == [(0xFFFF_8000_0000_0000, 0x1000, 0x7000, "RW", 12)]


def test_arm_stage_1_contiguous_and_access_flag():
    """DDI0487 D8: a contiguous run is one leaf of 64K; a page without AF grants nothing; AP[2] takes writes."""
    page, af, contiguous = 3, 1 << 10, 1 << 52
    memory = Pages()
    memory.put(ROOT, 0x10_1000 | 3)
    memory.put(0x10_1000, 0x10_2000 | 3)
    memory.put(0x10_2000, 0x10_3000 | 3, 0x40_0000 | 1 | af | 1 << 6)
    memory.put(0x10_3000, *[(0x2_0000 + 4096 * i) | page | af | 1 << 6 | contiguous for i in range(16)])
    memory.put(0x10_3000 + 8 * 16, 0x7000 | page | 1 << 6, 0x9000 | page | af | 3 << 6)
    _, found = read(memory, fmt_of("arm_smmu/stage1"))
    assert found == [
        (0x0, 0x1_0000, 0x2_0000, "RW", 16),
        (0x1_0000, 0x1000, 0x7000, "--", 12),
        (0x1_1000, 0x1000, 0x9000, "R-", 12),
        (0x20_0000, 0x20_0000, 0x40_0000, "RW", 21),
    ]


# -- hostile tables


def test_loops_end():
    """A root that points to itself, and a table that points back to the root: findings, and what is sound stays."""
    memory = Pages()
    memory.put(ROOT, amd_pointer(3, ROOT), amd_pointer(3, 0x10_1000))
    memory.put(0x10_1000, amd_pointer(2, ROOT), amd_pointer(2, 0x10_1000), amd_leaf(0x4000_0000))
    space, found = read(memory, fmt_of("amd/v1"))
    assert [each.rule for each in space.findings] == ["I2"] * 3
    assert found == [(0x80_8000_0000, 1 << 30, 0x4000_0000, "RW", 30)]


def test_tables_that_everything_shares_end():
    """512 ** 3 ways to one table: a bounded number of them is followed, and it is said."""
    memory = Pages()
    for level in (4, 3, 2):
        memory.put(0x10_0000 + 0x1000 * (4 - level), *[amd_pointer(level - 1, 0x10_0000 + 0x1000 * (5 - level))] * 512)
    memory.put(0x10_3000, *[amd_leaf(0x1000 * i) for i in range(512)])
    space, _ = read(memory, fmt_of("amd/v1"))
    assert "I2" in space.findings.counts
    assert space.tables.total() < 100_000
    assert space.table_bytes == 4 * 4096


def test_pointers_outside_and_reserved_bits():
    """Each is a finding with place, word and reason; the entries beside them are decoded."""
    memory = Pages()
    memory.put(ROOT, amd_pointer(3, 0x7_0000_0000), amd_pointer(3, 0x10_1000) | 1 << 55, amd_pointer(3, 0x10_1000))
    memory.put(0x10_1000, amd_pointer(6, 0x10_2000), amd_leaf(0x4000_0000) | 1 << 52, amd_leaf(0x8000_0000))
    space, found = read(memory, fmt_of("amd/v1"))
    told = {(each.rule, each.entry) for each in space.findings}
    assert told == {
        ("I1", f"{0x7_0000_0000:#x}"),
        ("W1", f"{amd_pointer(3, 0x10_1000) | 1 << 55:#x}"),
        ("W1", f"{amd_pointer(6, 0x10_2000):#x}"),
        ("W1", f"{amd_leaf(0x4000_0000) | 1 << 52:#x}"),
    }
    assert found == [(0x100_8000_0000, 1 << 30, 0x8000_0000, "RW", 30)]
    assert all(each.where and each.why and each.do for each in space.findings)


def test_a_root_of_garbage_is_given_up():
    """Nothing but random words in 64 MiB: few findings are told, all are counted, and it ends."""
    rng = np.random.default_rng(7)
    memory = Pages()
    for page in range(1 << 14):
        memory.pages[page] = rng.integers(0, 1 << 64, 512, np.uint64, endpoint=False) & np.uint64(0x6000_0000_03FF_FFFF)
    space, _ = read(memory, fmt_of("amd/v1"), 0x1000)
    assert len(space.findings) > 1000
    assert len(list(space.findings)) < 1000


def test_giving_up_is_said(monkeypatch):
    """After too many illegal entries the tables that follow are not read, and one finding says so."""
    monkeypatch.setattr("hitless.inspect.space.HOPELESS", 100)
    memory = Pages()
    memory.put(ROOT, *[amd_pointer(3, 0x10_1000 + 0x1000 * i) for i in range(8)])
    for table in range(8):
        memory.put(0x10_1000 + 0x1000 * table, *[amd_leaf(0x4000_0000) | 1 << 52] * 64)
    space, _ = read(memory, fmt_of("amd/v1"))
    assert space.findings.counts == {"W1": 128, "I2": 1}


def test_a_root_that_is_not_there():
    """The only finding says so."""
    space, found = read(Pages(), fmt_of("amd/v1"), 0x5000)
    assert [each.rule for each in space.findings] == ["I1"]
    assert found == []


# -- against a walk of one address at a time


def naive(memory, root: int, iova: int) -> tuple[int, int] | None:
    """Page and rights of an IOVA by AMD's rules for legal v1 tables of four levels, one bit operation at a time."""
    table, rights = root, 3
    for level in (4, 3, 2, 1):
        word = int(memory.pages[table >> 12][iova >> 12 + 9 * (level - 1) & 511])
        if not word & 1:
            return None
        rights &= word >> 61 & 3
        kind, address = word >> 9 & 7, word & 0xF_FFFF_FFFF_F000
        if kind == 0:
            return address | iova & (1 << 12 + 9 * (level - 1)) - 4096, rights
        if kind == 7:
            size = 4096
            while address & size:
                size <<= 1
            size <<= 1
            return (address & -size) | iova & size - 4096, rights
        table = address
    return None


@st.composite
def amd_tables(draw):
    """Legal tables: leaves of several sizes, runs, shared tables, rights on every level."""
    memory = Pages()
    for level, base in ((4, 0x10_0000), (3, 0x11_0000), (2, 0x12_0000), (1, 0x13_0000)):
        for number in range(2):
            pa = base + 0x1000 * number
            memory.put(pa, 0)
            for index in draw(st.sets(st.integers(0, 511), max_size=4)):
                rights = draw(st.integers(0, 3)) << 61
                kinds = ["leaf"] * (level < 4) + ["pointer"] * (level > 1) + ["run"] * (level == 1)
                kind = draw(st.sampled_from(kinds))
                if kind == "leaf":
                    memory.put(pa + 8 * index, amd_leaf(draw(st.integers(1, 99)) << 12 + 9 * (level - 1), rights))
                elif kind == "pointer":
                    memory.put(
                        pa + 8 * index,
                        amd_pointer(level - 1, base + 0x1_0000 + 0x1000 * draw(st.integers(0, 1)), rights),
                    )
                else:
                    run = draw(st.sampled_from([2, 4, 16]))
                    address = draw(st.integers(1, 99)) * run * 4096 | (run * 4096 // 2 - 1 & -4096)
                    memory.put(pa + 8 * (index // run * run), *[address | 7 << 9 | 1 | rights] * run)
    return memory


@given(amd_tables(), st.data())
def test_ranges_are_what_single_walks_say(memory, data):
    """Every page of every range, some pages of each and those beside it, agrees with a naive walk."""
    space, found = read(memory, fmt_of("amd/v1"))
    assert not len(space.findings)
    for (iova, size, *_), (following, *_) in pairwise(found):
        assert iova + size <= following
    for iova, size, pa, rights, _ in found[:20]:
        page = data.draw(st.integers(0, size // 4096 - 1)) * 4096
        assert naive(memory, ROOT, iova + page) == (pa + page, ["--", "R-", "-W", "RW"].index(rights))
    for iova in data.draw(
        st.lists(st.sampled_from([e for each in found for e in (each[0] - 4096, each[0] + each[1])] or [0]))
    ):
        inside = any(start <= iova < start + size for start, size, *_ in found)
        assert inside == (0 <= iova < 1 << 48 and naive(memory, ROOT, iova) is not None)

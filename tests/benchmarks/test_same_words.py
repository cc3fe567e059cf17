"""hitless and the plain C of the benchmarks write the same words, and read the same from them."""

import numpy as np
import pytest
from benchmarks.baseline import FORMATS, CWork
from benchmarks.jobs import SIZES, Audit, Map, Merge, Refresh, Translate
from benchmarks.stage import BASE_PA, GIB, Stage
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hitless.memory import Arena

GIGABYTES, TABLES = 2, 1 << 24
PAGES = GIGABYTES * GIB >> 12
LENGTHS = (1, 1, 1, 2, 7, 511, 512, 513, 1024)

# From the specifications' tables, by hand. AMD: PR 0, NextLevel 11:9, FC 60, IR 61, IW 62; 48882 2.2.3. VT-d: R 0, W 1,
# EMT 5:3 = 6, PS 7, SNP 11; 9.8. Arm: type 1:0, MemAttr 5:2 = F, S2AP 7:6 = 3, SH 9:8 = 3, AF 10; DDI0487 D8.
WORDS = {
    "amd/v1": {
        "1G": (0x7000_0000_0000_0001, 0x6000_0000_0000_0601),
        "2M": (0x7000_0000_0000_0001, 0x6000_0000_0000_0401),
        "4K": (0x7000_0000_0000_0001, 0x6000_0000_0000_0201),
    },
    "intel/second-stage": {"1G": (0x8B3, 0x3), "2M": (0x8B3, 0x3), "4K": (0x833, 0x3)},
    "arm_smmu/stage2": {"1G": (0x7FD, 0x3), "2M": (0x7FD, 0x3), "4K": (0x7FF, 0x3)},
}


@st.composite
def ranges(draw, pages=PAGES, lengths=LENGTHS):
    """Disjoint ranges in any order, some of which touch, fill a leaf or cross one's edge."""
    near = st.sampled_from([0, 511, 512, 513, 1 << 18, (1 << 18) - 1, (1 << 18) - 512, pages - 1, pages - 512])
    starts = draw(st.lists(st.one_of(near, st.integers(0, pages - 1)), min_size=1, max_size=12, unique=True))
    found, free = [], 0
    for start in sorted(starts):
        length = min(draw(st.sampled_from(lengths)), pages - start)
        if start >= free:
            found.append((start << 12, start + length << 12))
            free = start + length
    return np.array(draw(st.permutations(found)), dtype=np.uint64)


@pytest.fixture(scope="module", params=[(name, case) for name in FORMATS for case in ("1G", "2M")])
def stage(request, c):
    """A guest of a vendor, mapped by leaves of 1G or 2M."""
    name, case = request.param
    made = Stage(c, name, GIGABYTES, SIZES[case], TABLES)
    yield made
    made.close()


def once(job):
    """Do a job on both sides; how they differ."""
    job.reset()
    job.hitless()
    job.c()
    return job.differences()


@given(pages=ranges(), complete=st.booleans())
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_refresh(stage, pages, complete):
    """Random ranges turn private: every word of every table is the same, and so are the tables' addresses."""
    assert once(Refresh(stage, "refresh", "1G", len(pages), complete=complete, pages=pages)) == []


@given(first=ranges(lengths=(1, 2)), second=ranges(lengths=(1, 3)))
@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_refresh_of_tables_that_were_cut_before(stage, first, second):
    """What C cuts, it cuts into tables that hitless left half cut, and they are the same words again."""
    job = Refresh(stage, "refresh", "1G", len(first), complete=False, pages=first)
    assert once(job) == []
    again = Refresh(stage, "refresh", "1G", len(second), complete=False, pages=_without(second, first))
    if len(again.pages) and stage.rounds.name != "WIPE":
        again.hitless()
        again.c()
        assert again.differences() == []


def _without(ranges_, others):
    """The ranges that touch none of the others: what is converted does not convert again."""
    kept = [row for row in ranges_.tolist() if not any(a < row[1] and row[0] < b for a, b in others.tolist())]
    return np.array(kept, dtype=np.uint64).reshape(-1, 2)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("case", SIZES)
def test_a_map(c, name, case):
    """A guest that leaves of one size map: hitless' words, C's, and those of the specification by hand."""
    stage = Stage(c, name, GIGABYTES, SIZES[case], TABLES, empty=True)
    job = Map(stage, "map", case, GIGABYTES)
    assert once(job) == []
    root = stage.domain.planner.root_pa
    leaf, pointer = WORDS[name][case]
    pa = stage.guest.backing.shared_pa
    words = {"1G": 1, "2M": 2, "4K": 3}[case]
    assert stage.c_word(root + 4096 * words) == pa | leaf
    assert stage.c_word(root + 4096 * words + 8) == (pa + (1 << SIZES[case])) | leaf
    assert stage.c_word(root + 4096 * (words - 1)) == (root + 4096 * words) | pointer
    stage.close()


@given(pages=ranges(lengths=(1, 2, 512)))
@settings(max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_merge(stage, pages):
    """After pages were converted and came back, what either merges is the same, and nothing is left to merge."""
    if stage.leaf_lg2 == SIZES["1G"]:
        assert once(Merge(stage, "merge", "all", 0, pages=pages)) == []


@pytest.mark.parametrize("name", FORMATS)
def test_a_translation(c, name):
    """Random IOVAs, also of pages that are not mapped any more, lead to the same addresses."""
    stage = Stage(c, name, GIGABYTES, SIZES["1G"], TABLES)
    assert once(Translate(stage, "translate", "mixed", 500, conversions=200)) == []
    stage.close()


@pytest.mark.parametrize("name", FORMATS)
def test_an_audit_finds_what_is_wrong(c, name):
    """Entries that lead elsewhere, or nowhere, are found by both, and nothing else is."""
    stage = Stage(c, name, 1, SIZES["4K"], TABLES)
    job = Audit(stage, "audit", "all", 1 << 18, conversions=300)
    assert once(job) == []
    assert job.found == [0, 0]
    job.damage([5, 70_000, 200_000])
    job.found.clear()
    job.hitless()
    job.c()
    assert job.found == [3, 3]
    stage.close()


@pytest.mark.parametrize("name", FORMATS)
def test_c_refuses_what_it_cannot_do(c, name):
    """Tables that run out, and ranges that nothing maps, are failures, not words somewhere."""
    arena = Arena(BASE_PA, 1 << 20)
    space = c.space(arena, name, BASE_PA, BASE_PA + 4096, BASE_PA + 3 * 4096)
    work = CWork(4, 4)
    page = np.array([[0x5000, 0x6000]], dtype=np.uint64)
    assert space.refresh(page, 1 << 45, 0, work) == 0, "nothing is mapped"
    assert space.map(0, GIB, 1 << 45, 2)
    assert space.refresh(page, 1 << 46, 0, work) == 0, "two tables are needed, one is left"
    assert not space.map(0, GIB, 1 << 45, 0)
    arena.close()

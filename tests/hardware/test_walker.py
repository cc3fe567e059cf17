"""The walker over plain memory: every word of tables and structures is written by hand, in the toy's raw bits.

A toy entry is ``address | W 8 | R 4 | leaf 2 | valid 1``; a root has 1024 entries for 4 MiB each, a table 1024 for
4 KiB each. A device has two words: ``tag << 52 | root | nested 2 | valid 1`` and the guest's space in pages; a space
is ``number << 52 | root | valid 1``.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitless.errors import BusError
from hitless.hardware.walker import (
    PlainMemory,
    Refusal,
    Translation,
    find,
    through,
    translate,
)

DEVICES, HOST_ROOT, HOST_TABLE = 0x1_0000_0000, 0x1_0010_0000, 0x1_0020_0000
BASE = DEVICES | 8
SPACE_GPA, GUEST_ROOT, GUEST_TABLE = 0x0080_1000, 0x0080_2000, 0x0080_4000
IN_HOST = 0x2_0000_0000 - 0x80_0000
GUEST_ENTRY = IN_HOST + GUEST_ROOT
TABLE, LEAF = 0b1101, 0b1111


class Memory(dict):
    """Words by address; what was never written is a bus error."""

    def __call__(self, pa: int) -> int:
        if pa not in self:
            raise BusError(pa, "no memory there")
        return self[pa]

    def zeros(self, pa: int, words: int) -> None:
        for i in range(words):
            self.setdefault(pa + 8 * i, 0)


@pytest.fixture(scope="module")
def structures(toys):
    """The toy's own structures."""
    return toys.resolve("toy-nested").structures


def nested() -> Memory:
    """Device 8 under its guest's stage 1.

    GPAs 0x800000 up to 0xc00000 lie at 0x2_0000_0000 in a 4M leaf; 0x400000 lies at 0x3_0000_0000 in 4K leaves.
    IOVA 0x40400000 leads to GPA 0x400000 in a 4M leaf, IOVA 0x1000 to GPA 0x803000 in a 4K leaf that may be read only.
    """
    memory = Memory()
    memory.zeros(DEVICES, 512)
    for table in (HOST_ROOT, HOST_TABLE):
        memory.zeros(table, 1024)
    memory[DEVICES + 128], memory[DEVICES + 136] = 7 << 52 | HOST_ROOT | 3, SPACE_GPA
    memory[HOST_ROOT + 8 * 2] = 0x2_0000_0000 | LEAF
    memory[HOST_ROOT + 8] = HOST_TABLE | TABLE
    for i in range(1024):
        memory[HOST_TABLE + 8 * i] = 0x3_0000_0000 + 4096 * i | LEAF
    host = IN_HOST
    memory.zeros(host + SPACE_GPA, 1)
    memory.zeros(host + GUEST_ROOT, 1024)
    memory.zeros(host + GUEST_TABLE, 1024)
    memory[host + SPACE_GPA] = 5 << 52 | GUEST_ROOT | 1
    memory[host + GUEST_ROOT] = GUEST_TABLE | TABLE
    memory[host + GUEST_ROOT + 8 * 257] = 0x40_0000 | LEAF
    memory[host + GUEST_TABLE + 8] = 0x80_3000 | 0b0111
    return memory


def test_a_nested_translation_reads_every_stage_1_entry_through_stage_2(structures):
    """The trace is all that hardware reads, in its order, by host physical address."""
    walked = translate(nested(), structures, BASE, 8, 0x1ABC)
    host = IN_HOST
    assert [(seen.pa, *seen.words) for seen in walked.trace] == [
        (DEVICES + 128, 7 << 52 | HOST_ROOT | 3, SPACE_GPA),
        (HOST_ROOT + 16, 0x2_0000_0000 | LEAF),  # where the guest's space lies
        (host + SPACE_GPA, 5 << 52 | GUEST_ROOT | 1),
        (HOST_ROOT + 16, 0x2_0000_0000 | LEAF),  # where its root's entry lies
        (host + GUEST_ROOT, GUEST_TABLE | TABLE),
        (HOST_ROOT + 16, 0x2_0000_0000 | LEAF),  # where its table's entry lies
        (host + GUEST_TABLE + 8, 0x80_3000 | 0b0111),
        (HOST_ROOT + 16, 0x2_0000_0000 | LEAF),  # the request's own address
    ]
    entries = [(seen.stage, seen.level, seen.target) for seen in walked.trace if not seen.structure]
    assert entries == [
        ("2", 1, "structure"),
        ("2", 1, "table"),
        ("1", 1, "input"),
        ("2", 1, "table"),
        ("1", 0, "input"),
        ("2", 1, "input"),
    ]
    assert [seen.structure for seen in walked.trace if seen.structure] == ["device", "space"]


def test_the_smaller_leaf_gives_the_size_and_both_must_grant_a_right(structures):
    """4K over 4M, and 4M over 4K: the result has 4K; attributes of both are kept apart."""
    memory = nested()
    small = translate(memory, structures, BASE, 8, 0x1ABC).outcome
    assert (small.start, small.size_lg2, small.pa, small.rights) == (0x1000, 12, 0x2_0000_3000, 1)
    assert (small.stage1.attrs, small.stage2.attrs) == (0b0100, 0b1100)
    large = translate(memory, structures, BASE, 8, 0x4040_5678, write=True).outcome
    assert (large.start, large.size_lg2, large.pa, large.rights) == (0x4040_5000, 12, 0x3_0000_5000, 3)
    assert (large.stage1.size_lg2, large.stage2.size_lg2) == (22, 12)


@pytest.mark.parametrize(
    ("change", "iova", "write", "kind", "stage", "target", "gpa"),
    [
        ({}, 0x1000, True, "permission", "1", "input", None),  # before stage 2 is asked
        ({}, 0x2000, False, "not-present", "1", "input", None),
        ({HOST_TABLE + 8 * 5: 0}, 0x4040_5000, False, "not-present", "2", "input", 0x40_5000),
        ({HOST_TABLE + 8 * 5: 0x3_0000_5000 | 0b0111}, 0x4040_5000, True, "permission", "2", "input", 0x40_5000),
        ({HOST_ROOT + 16: 0}, 0x1000, False, "not-present", "2", "structure", SPACE_GPA),
        ({HOST_ROOT + 16: 0x2_0000_0000 | 0b1011}, 0x1000, False, "permission", "2", "structure", SPACE_GPA),
        ({GUEST_ENTRY: 0x40_0000 | TABLE, HOST_TABLE: 0}, 0x1000, False, "not-present", "2", "table", 0x40_0008),
        ({GUEST_ENTRY: 0xFF_F000 | TABLE}, 0x1000, False, "not-present", "2", "table", 0xFF_F008),
        ({GUEST_ENTRY: GUEST_TABLE | TABLE | 16}, 0x1000, False, "reserved", "1", "input", None),
        ({IN_HOST + SPACE_GPA: 0}, 0x1000, False, "space", "", "input", None),
        ({DEVICES + 128: 0}, 0x1000, False, "device", "", "input", None),
        ({DEVICES + 128: 7 << 52 | HOST_ROOT | 3 | 32}, 0x1000, False, "device", "", "input", None),
        ({}, 1 << 32, False, "range", "1", "input", None),
    ],
)
def test_each_refusal_says_who_refused_what(structures, change, iova, write, kind, stage, target, gpa):
    """Stage, what was being translated, and the guest physical address that stage 2 refused."""
    refusal = translate(Memory(nested() | change), structures, BASE, 8, iova, write=write).outcome
    assert isinstance(refusal, Refusal)
    assert (refusal.kind, refusal.stage, refusal.target, refusal.gpa) == (kind, stage, target, gpa)


def test_what_cannot_be_read_is_a_refused_fetch(structures):
    """A table, and a structure, where there is no memory; the address is told."""
    memory = nested()
    memory[HOST_ROOT + 8] = 0x9_0000_0000 | TABLE
    refusal = translate(memory, structures, BASE, 8, 0x4040_5000).outcome
    assert (refusal.kind, refusal.stage, refusal.pa, refusal.structure) == ("fetch", "2", 0x9_0000_0028, "")
    refusal = translate(memory, structures, 0x8_0000_0008, 8, 0x1000).outcome
    assert (refusal.kind, refusal.stage, refusal.pa, refusal.structure) == ("fetch", "", 0x8_0000_0080, "device")


def test_a_malformed_structure_tells_its_words_and_why(structures):
    """Reserved bit 5 is set: structure, address, both words, and the layout's own sentence."""
    word = 7 << 52 | HOST_ROOT | 3 | 32
    refusal = translate(Memory(nested() | {DEVICES + 128: word}), structures, BASE, 8, 0).outcome
    assert (refusal.structure, refusal.pa, refusal.words) == ("device", DEVICES + 128, (word, SPACE_GPA))
    assert "11:5" in refusal.why


def test_one_stage_bypass_and_abort(structures):
    """Without a guest's stage the domain's tables alone; pass through leads to the address itself; stop refuses."""
    memory = nested()
    memory[DEVICES + 128] = 7 << 52 | HOST_ROOT | 1
    alone = translate(memory, structures, BASE, 8, 0x40_5ABC).outcome
    assert (alone.start, alone.size_lg2, alone.pa, alone.stage1) == (0x40_5000, 12, 0x3_0000_5000, None)
    memory[DEVICES + 128] = 0b1_0001
    assert translate(memory, structures, BASE, 8, 0x40_5ABC).outcome == Translation(
        0x40_5000, 12, 0x40_5000, 3, None, None
    )
    memory[DEVICES + 128] = 0b1001
    assert translate(memory, structures, BASE, 8, 0x40_5ABC).outcome.kind == "blocked"


def test_rights_of_the_structures_count_too(structures):
    """What a structure does not grant, no table can."""
    memory = PlainMemory(nested(), structures)
    found = find(structures, BASE, 8, None, memory)._replace(rights=1)
    assert through(found, 0x4040_5000, 1, memory).rights == 1
    assert through(found, 0x4040_5000, 2, memory).kind == "permission"


pages = st.dictionaries(st.integers(0, 63), st.tuples(st.integers(0, 63), st.integers(1, 3)), max_size=40)


@given(upper=pages, lower=pages, iova=st.integers(0, 63), write=st.booleans())
def test_a_nested_walk_is_two_dictionaries(structures, upper, lower, iova, write):
    """Random page maps of both stages: the walk finds what two look-ups in plain dictionaries find.

    Pages 0 to 63 of 4K; the guest's own tables lie in pages that stage 2 maps with a 4M leaf.
    """
    memory = nested()
    host, bits = IN_HOST, {1: 0b0100, 2: 0b1000, 3: 0b1100}
    for i in range(1024):
        memory[HOST_TABLE + 8 * i] = memory[host + GUEST_TABLE + 8 * i] = 0
    for page, (to, rights) in upper.items():
        memory[host + GUEST_TABLE + 8 * page] = 0x40_0000 + 4096 * to | bits[rights] | 3
    for page, (to, rights) in lower.items():
        memory[HOST_TABLE + 8 * page] = 0x3_0000_0000 + 4096 * to | bits[rights] | 3
    got = translate(memory, structures, BASE, 8, iova << 12, write=write).outcome
    want = 2 if write else 1
    gpa, granted = upper.get(iova, (None, 0))
    page, also = lower.get(gpa, (None, 0)) if granted & want else (None, 0)
    if granted & also & want:
        assert isinstance(got, Translation)
        assert (got.pa, got.rights) == (0x3_0000_0000 + 4096 * page, granted & also)
    else:
        assert isinstance(got, Refusal)
        assert got.stage == ("2" if granted & want else "1")

"""The stage 2 format against words written by hand from ARM-DESC-* and ARM-LVL-*."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitless.pagetable import READ, WRITE, Leaf, Position, WalkFault
from hitless_arm_smmu.stage2 import ArmStage2, Stage2Config

RW = READ | WRITE
NT = 1 << 16
AF = 1 << 10
DBM = 1 << 51
PAGE = 0x1234_5678_9000
BLOCK_2M = 0x1234_5660_0000
BLOCK_1G = 0x1234_4000_0000

FORMATS = {
    "bbml0": ArmStage2(Stage2Config(bbml=0)),
    "bbml1": ArmStage2(Stage2Config(bbml=1)),
    "bbml2": ArmStage2(),
    "s2fwb": ArmStage2(Stage2Config(s2fwb=True)),
    "httu": ArmStage2(Stage2Config(ha=True, hd=True)),
}
formats = st.sampled_from(list(FORMATS.values()))
words = st.integers(0, (1 << 64) - 1)
FMT = FORMATS["bbml2"]


def at(level: int, iova: int = 0) -> Position:
    """A walk about to read an entry of a level."""
    return Position("2", level, 0x1000, iova, RW)


@pytest.mark.parametrize(
    ("level", "oa", "word"),
    [(0, PAGE, PAGE | 0x7FF), (1, BLOCK_2M, BLOCK_2M | 0x7FD), (2, BLOCK_1G, BLOCK_1G | 0x7FD)],
)
def test_leaf_has_the_bits_of_the_check_values(level, oa, word):
    """A readable, writable, write-back, inner shareable leaf with AF is OA | 0x7FF, or 0x7FD for a block."""
    assert FMT.leaf(12 + 9 * level, oa, FMT.default_attrs(RW)) == word


@pytest.mark.parametrize(
    ("name", "rights", "word"),
    [
        ("bbml2", READ, 0x77F),
        ("bbml2", WRITE, 0x7BF),
        ("bbml2", 0, 0x73F),
        ("s2fwb", RW, 0x7DB),
        ("httu", RW, DBM | 0x37F),
        ("httu", READ, 0x37F),
    ],
)
def test_page_with_other_rights_and_features(name, rights, word):
    """S2AP is in bits 7:6; S2FWB codes write-back as 6; hardware update starts with AF clear, and DBM for writes."""
    assert FORMATS[name].leaf(12, 0, FORMATS[name].default_attrs(rights)) == word


def test_table_is_address_and_3():
    """A table descriptor is its address with 11 in bits 1:0, at every level that may hold one."""
    assert [FMT.table(level, 0x1234_5678_9000) for level in (1, 2, 3)] == [0x1234_5678_9003] * 3


def test_levels_are_those_of_the_4k_granule():
    """Core level 0 is Arm level 3; each level takes nine bits of a 48-bit address (ARM-LVL-1)."""
    assert [(e.number, e.lo, e.bits, e.spec_level, e.spec_name) for e in FMT.levels] == [
        (0, 12, 9, 3, "Arm level 3"),
        (1, 21, 9, 2, "Arm level 2"),
        (2, 30, 9, 1, "Arm level 1"),
        (3, 39, 9, 0, "Arm level 0"),
    ]
    assert FMT.iova_bits == 48
    assert FMT.oa_bits == 48
    assert FMT.leaf_lg2s == (12, 16, 21, 25, 30, 34)


def test_what_may_stand_in_a_table_of_each_level():
    """Pages at Arm level 3 only, blocks at levels 2 and 1, tables from level 2 up, no 512G block (ARM-LVL-2)."""
    legal = {level: [k for k in ("leaf", "table") if FMT.layout(k, level)] for level in range(4)}
    assert legal == {0: ["leaf"], 1: ["leaf", "table"], 2: ["leaf", "table"], 3: ["table"]}


@pytest.mark.parametrize(
    ("level", "word", "fault"),
    [
        (3, 0x7FD, "no leaf is legal at level 3 (Arm level 0)"),
        (0, PAGE | 0x7FD, "bits 1:0 (type) must be 0x3"),
        (0, PAGE | 0xFFF, "bits 11 "),
        (0, PAGE | 0x7FF | 1 << 48, "bits 49:48"),
        (0, PAGE | 0x7FF | 1 << 50, "bits 50 "),
        (1, BLOCK_2M | 0x7FD | 1 << 12, "bits 15:12"),
        (1, BLOCK_2M | 0x7FD | 1 << 20, "bits 20:17"),
        (2, BLOCK_1G | 0x7FD | 1 << 29, "bits 29:17"),
        (2, PAGE | 3 | 1 << 49, "bits 50:48"),
        (2, PAGE | 3 | 1 << 63, "bits 63:59"),
    ],
)
def test_illegal_words_are_found(level, word, fault):
    """Reserved bits and a type that a level does not have are faults with their bits named."""
    found = FMT.faults(word, level)
    assert len(found) == 1
    assert fault in found[0]


@pytest.mark.parametrize(
    "word", [0, 2, 1 << 63, 0xFFFF_FFFF_FFFF_FFFE], ids=["zero", "type-10", "software", "all-but-valid"]
)
def test_bit_0_alone_decides_what_is_empty(word):
    """Every word with bit 0 clear is invalid, at every level (ARM-DESC-2)."""
    for level in range(4):
        assert not FMT.present(word)
        assert FMT.step(at(level), word) == WalkFault("2", level, 0, word, "not-present")
    assert FMT.present(word | 1)


def test_type_01_at_arm_level_3_walks_as_not_present():
    """The reserved type is invalid for a walk, though software must not store it (ARM-DESC-2)."""
    word = PAGE | 0x7FD
    assert FMT.step(at(0), word) == WalkFault("2", 0, 0, word, "not-present")
    assert FMT.malformed(word, 0)


def test_nt_is_reserved_then_a_value_then_ignored():
    """Block bit 16 is reserved at BBML 0, and legal at 1 and 2; a page has an address bit there (ARM-DESC-9)."""
    block, page = BLOCK_2M | 0x7FD | NT, 0x7FF | NT
    faults = {name: FORMATS[name].faults(block, 1) for name in ("bbml0", "bbml1", "bbml2")}
    assert "bits 16 (nT)" in faults["bbml0"][0]
    assert not faults["bbml1"]
    assert not faults["bbml2"]
    assert FORMATS["bbml0"].malformed(block, 1)
    assert not FORMATS["bbml0"].faults(page, 0)
    assert FORMATS["bbml0"].leaf_oa(page, 0) == NT


def test_nt_keeps_a_block_out_of_conflicts_at_bbml_1_only():
    """Only a block, and only where nT counts, is outside of conflicts."""
    block, page = BLOCK_2M | 0x7FD, 0x7FF
    assert FORMATS["bbml1"].cacheable(block, 1)
    assert not FORMATS["bbml1"].cacheable(block | NT, 1)
    assert not FORMATS["bbml1"].cacheable(BLOCK_1G | 0x7FD | NT, 2)
    assert FORMATS["bbml1"].cacheable(page | NT, 0)
    assert FORMATS["bbml0"].cacheable(block | NT, 1)
    assert FORMATS["bbml2"].cacheable(block | NT, 1)


def test_nt_does_not_fault_and_is_no_attribute():
    """A walk uses a block with nT as one without, and a cut does not carry it to pages, where it is address."""
    fmt, word = FORMATS["bbml1"], BLOCK_2M | 0x7FD | NT
    found = fmt.step(at(1, BLOCK_2M + 0x3000), word)
    assert isinstance(found, Leaf)
    assert (found.iova, found.size_lg2, found.oa, found.attrs) == (BLOCK_2M, 21, BLOCK_2M, 0x7FC)


def test_walk_goes_from_the_root_to_a_page():
    """Tables pass rights on unchanged; the leaf's S2AP decides (ARM-DESC-4)."""
    found = FMT.step(at(3, 0x7FFF_F123_4567), 0x8003)
    assert found == Position("2", 2, 0x8000, 0x7FFF_F123_4567, RW)
    page = FMT.step(at(0, 0x7FFF_F123_4567), PAGE | 0x77F)
    assert page == Leaf("2", 0, 0x7FFF_F123_4000, 12, PAGE, READ, 0x77C, PAGE | 0x77F)


@pytest.mark.parametrize("level", [0, 1, 2])
def test_clear_access_flag_is_an_access_fault(level):
    """AF = 0 faults, unless hardware sets AF (ARM-DESC-8)."""
    word = (0x7FF if level == 0 else 0x7FD) & ~AF
    assert FMT.step(at(level), word) == WalkFault("2", level, 0, word, "access")
    assert isinstance(FORMATS["httu"].step(at(level), word), Leaf)


def test_reserved_bits_stop_a_walk():
    """A block with a reserved bit is not used by the model, so that a bad store is seen."""
    word = BLOCK_2M | 0x7FD | 1 << 17
    assert FMT.step(at(1), word) == WalkFault("2", 1, 0, word, "reserved")
    assert FMT.step(at(3), 0x7FD) == WalkFault("2", 3, 0, 0x7FD, "reserved")


def test_hardware_sets_nothing_by_default_and_af_and_s2ap1_with_httu():
    """Bits that may change under a plan are AF and S2AP[1], with hardware update only (ARM-DESC-10)."""
    assert [FMT.hardware_set(level) for level in range(4)] == [0, 0, 0, 0]
    assert [FORMATS["httu"].hardware_set(level) for level in range(4)] == [0x480, 0x480, 0x480, 0]


def test_dbm_grants_writes_with_httu_only():
    """Writable and clean is writable; without hardware update DBM is ignored, and no attribute (ARM-DESC-10)."""
    clean = DBM | 0x77F
    assert FORMATS["httu"].rights(clean, 0) == RW
    assert FMT.rights(clean, 0) == READ
    assert FORMATS["httu"].attrs(clean, 0) == DBM | 0x77C
    assert FMT.attrs(clean, 0) == 0x77C


def test_attributes_in_letters():
    """Rights come out as letters, whatever the coding."""
    for fmt in FORMATS.values():
        assert [fmt.attrs_text(fmt.default_attrs(rights)) for rights in (RW, READ, WRITE, 0)] == [
            "RW",
            "R-",
            "-W",
            "--",
        ]


@given(fmt=formats, level=st.integers(0, 2), frame=st.integers(0, (1 << 36) - 1), rights=st.integers(0, 3))
def test_leaf_gives_back_what_it_was_made_of(fmt, level, frame, rights):
    """Address, attributes and rights come back, and the word is legal, at every level and feature."""
    lo = 12 + 9 * level
    oa = (frame << 12) >> lo << lo
    word = fmt.leaf(12 + 9 * level, oa, fmt.default_attrs(rights))
    assert not fmt.faults(word, level)
    assert not fmt.malformed(word, level)
    assert fmt.is_leaf(word, level)
    assert fmt.leaf_oa(word, level) == oa
    assert fmt.attrs(word, level) == fmt.default_attrs(rights)
    assert fmt.rights(word, level) == rights


@given(fmt=formats, level=st.integers(1, 3), frame=st.integers(0, (1 << 36) - 1))
def test_table_gives_back_its_address(fmt, level, frame):
    """A pointer is legal, is no leaf, grants all, and leads where it was told to."""
    word = fmt.table(level, frame << 12)
    assert not fmt.faults(word, level)
    assert not fmt.is_leaf(word, level)
    assert fmt.table_pa(word) == frame << 12
    assert fmt.rights(word, level) == RW


@given(fmt=formats, level=st.integers(0, 2), some=st.lists(words, min_size=1, max_size=20))
def test_arrays_and_ints_agree(fmt, level, some):
    """Each function of words gives for an array what it gives for each int, as uint64."""
    array = np.array(some, dtype=np.uint64)
    attrs = fmt.default_attrs(RW)
    for function in (
        fmt.present,
        fmt.table_pa,
        lambda w: fmt.is_leaf(w, level),
        lambda w: fmt.leaf_oa(w, level),
        lambda w: fmt.attrs(w, level),
        lambda w: fmt.leaf(12 + 9 * level, w, attrs),
    ):
        result = function(array)
        assert result.dtype in (np.uint64, np.bool_)
        assert result.tolist() == [function(word) for word in some]


@given(fmt=formats, level=st.integers(0, 3), word=words)
def test_a_word_that_hardware_refuses_has_a_fault(fmt, level, word):
    """The fast check never refuses a present word in which the slow one finds nothing."""
    if fmt.present(word) and fmt.malformed(word, level):
        assert fmt.faults(word, level)

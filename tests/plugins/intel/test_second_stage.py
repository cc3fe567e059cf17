"""The second-stage format against words written by hand from INTEL-SS-*."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitless.pagetable import READ, WRITE, Leaf, Position, WalkFault
from hitless_intel.second_stage import SecondStage

FMT = SecondStage()
FORMATS = {
    "default": FMT,
    "haw 46": SecondStage(46),
    "no snoop control": SecondStage(snoop_control=False),
    "dirty": SecondStage(dirty=True),
    "no 1G": SecondStage(leaf_levels=(0, 1)),
    "4K only": SecondStage(leaf_levels=(0,)),
}
formats = st.sampled_from(list(FORMATS.values()))
words = st.integers(0, (1 << 64) - 1)

R, W, WB, IPAT, PS, A, D, SNP = 1, 2, 6 << 3, 1 << 6, 1 << 7, 1 << 8, 1 << 9, 1 << 11
PAGE, BLOCK_2M, BLOCK_1G = 0x1234_5678_9000, 0x1234_5660_0000, 0x1234_4000_0000
LEVELS = range(4)
RW = READ | WRITE


def at(level: int, iova: int = 0, rights: int = RW) -> Position:
    """A walk about to read an entry of a level."""
    return Position("2", level, 0x1000, iova, rights)


def legal_leaf(level: int) -> int:
    """A leaf of a level, read and write, uncached."""
    return (PAGE, BLOCK_2M, BLOCK_1G)[level] | (PS if level else 0) | R | W


@pytest.mark.parametrize(
    ("level", "oa", "word"),
    [(0, PAGE, PAGE | 0x833), (1, BLOCK_2M, BLOCK_2M | 0x8B3), (2, BLOCK_1G, BLOCK_1G | 0x8B3)],
)
def test_a_new_leaf_is_write_back_and_snooped(level, oa, word):
    """R, W, EMT = 6, SNP, and PS in all but a PTE (INTEL-SS-3, INTEL-SS-6, INTEL-SS-10, INTEL-SS-12)."""
    assert FMT.leaf(12 + 9 * level, oa, FMT.default_attrs(RW)) == word


@pytest.mark.parametrize(
    ("level", "oa", "attrs", "word"),
    [
        (0, 0x3000, 0x1, 0x3001),
        (0, 0x7000, 0x3, 0x7003),
        (1, 0x60_0000, 0x3, 0x60_0083),
        (2, 0xC000_0000, 0x1, 0xC000_0081),
        (2, 0xC000_0000, 0x2, 0xC000_0082),
        (0, 0xABC000, 0x801, 0xABC801),
        (1, 0x20_0000, 0x801, 0x20_0881),
        (2, 0x4000_0000, 0x803, 0x4000_0883),
        (0, 0xF_FFFF_FFFF_F000, 0x3, 0xF_FFFF_FFFF_F003),
    ],
)
def test_leaves_recorded_from_another_implementation(level, oa, attrs, word):
    """Words that an independent driver wrote, which leaves EMT 0."""
    assert FMT.leaf(12 + 9 * level, oa, attrs) == word
    assert (FMT.leaf_oa(word, level), FMT.attrs(word, level)) == (oa, attrs)
    assert not FMT.faults(word, level)


@pytest.mark.parametrize("level", [1, 2, 3])
def test_a_pointer_grants_both_rights(level):
    """The child's address, R and W, nothing else (INTEL-SS-3, INTEL-SS-4)."""
    assert FMT.table(level, 0x1_0000_1000) == 0x1_0000_1003
    assert FMT.table_pa(0x1_0000_1003) == 0x1_0000_1000


@pytest.mark.parametrize(("rights", "bits"), [(READ, R), (WRITE, W), (RW, R | W)])
def test_rights_are_bits_0_and_1(rights, bits):
    """Both ways, and write-only is a right of its own."""
    assert FMT.default_attrs(rights) & 3 == bits
    assert FMT.rights(bits, 0) == rights


def test_a_leaf_without_rights_cannot_be_made():
    """R = W = 0 is not present, so that no rights are no attributes (INTEL-SS-2)."""
    with pytest.raises(ValueError, match="INTEL-SS-2"):
        FMT.default_attrs(0)


def test_without_snoop_control_new_leaves_have_no_snp():
    """SNP is reserved if ECAP.SC = 0 (INTEL-SS-12)."""
    assert FORMATS["no snoop control"].default_attrs(RW) == 0x33


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("word", [0, PS, PAGE, 0xFFFF_FFFF_FFFF_FFFC])
def test_without_r_and_w_nothing_is_present(level, word):
    """Whatever else is set is ignored, reserved bits too (INTEL-SS-2)."""
    assert not FMT.present(word)
    assert not FMT.faults(word, level)
    assert FMT.step(at(level), word).kind == "not-present"


def test_levels():
    """Nine bits each from bit 12; the spec counts from 1 (INTEL-SS-5, INTEL-SS-16)."""
    found = [(level.number, level.lo, level.bits, level.spec_level) for level in FMT.levels]
    assert found == [(0, 12, 9, 1), (1, 21, 9, 2), (2, 30, 9, 3), (3, 39, 9, 4)]
    assert FMT.iova_bits == 48


@pytest.mark.parametrize(
    ("name", "sizes"), [("default", (12, 21, 30)), ("no 1G", (12, 21)), ("4K only", (12,)), ("haw 46", (12, 21, 30))]
)
def test_leaf_sizes_follow_sslps(name, sizes):
    """4 KiB always, 2 MiB and 1 GiB as CAP.SSLPS says (INTEL-SS-7)."""
    assert FORMATS[name].leaf_lg2s == sizes


@pytest.mark.parametrize(("name", "level"), [("default", 3), ("no 1G", 2), ("4K only", 1), ("4K only", 2)])
def test_ps_where_no_leaf_is_legal_is_a_reserved_bit(name, level):
    """PML4E always; PDE and PDPE without SSLPS: the walk ends with the reserved fault (INTEL-SS-6, INTEL-SS-7)."""
    fmt, word = FORMATS[name], PS | R | W
    assert fmt.malformed(word, level)
    assert fmt.faults(word, level)
    assert fmt.step(at(level), word).kind == "reserved"
    assert fmt.layout("leaf", level) is None


def test_ps_is_ignored_in_a_pte():
    """A 4 KiB leaf is one with and without bit 7 (INTEL-SS-6)."""
    for word in (PAGE | R, PAGE | PS | R):
        assert FMT.is_leaf(word, 0)
        assert not FMT.faults(word, 0)
        assert FMT.attrs(word, 0) == R
    assert FMT.layout("table", 0) is None


@pytest.mark.parametrize("level", [1, 2])
def test_ps_tells_leaf_from_pointer(level):
    """Set: a leaf; clear: a pointer (INTEL-SS-6)."""
    assert FMT.is_leaf(PS | R, level)
    assert not FMT.is_leaf(R, level)


RESERVED_LEAF = [
    *((0, bit) for bit in (61, 62)),
    *((1, bit) for bit in (*range(12, 21), 61, 62)),
    *((2, bit) for bit in (*range(12, 30), 61, 62)),
]


@pytest.mark.parametrize(("level", "bit"), RESERVED_LEAF)
def test_reserved_bits_of_a_leaf(level, bit):
    """61 and 62, and the address bits below the leaf's size (INTEL-SS-8, INTEL-SS-15)."""
    assert FMT.faults(legal_leaf(level) | 1 << bit, level)
    assert FMT.step(at(level), legal_leaf(level) | 1 << bit).kind == "reserved"


@pytest.mark.parametrize("level", [1, 2, 3])
@pytest.mark.parametrize("bit", [11, 61, 62])
def test_reserved_bits_of_a_pointer(level, bit):
    """SNP is reserved in a pointer, and 61 and 62 (INTEL-SS-12, INTEL-SS-15)."""
    assert FMT.faults(0x1003 | 1 << bit, level)
    assert FMT.step(at(level), 0x1003 | 1 << bit).kind == "reserved"


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("bit", [46, 47, 51])
def test_address_bits_above_haw_are_reserved(level, bit):
    """In pointers and leaves alike; with HAW 52 there are none (INTEL-SS-9)."""
    word = (legal_leaf(level) if level < 3 else 0x1003) & (1 << 46) - 1 | 1 << bit
    assert FORMATS["haw 46"].malformed(word, level)
    assert FORMATS["haw 46"].faults(word, level)
    assert not FMT.faults(word, level)


@pytest.mark.parametrize("level", [0, 1, 2])
def test_an_address_above_haw_is_not_folded_into_a_lower_one(level):
    """A leaf, or a pointer, to what the host cannot address is refused by the walk, not led elsewhere (W1)."""
    fmt = FORMATS["haw 46"]
    assert fmt.malformed(fmt.leaf(12 + 9 * level, 1 << 46, R), level)
    assert fmt.malformed(fmt.table(level + 1, 1 << 46), level + 1)


def test_snp_is_reserved_without_snoop_control():
    """ECAP.SC = 0 (INTEL-SS-12)."""
    assert FORMATS["no snoop control"].faults(PAGE | SNP | R, 0)
    assert not FMT.faults(PAGE | SNP | R, 0)


@pytest.mark.parametrize("emt", range(8))
@pytest.mark.parametrize("level", [0, 1, 2])
def test_memory_types(emt, level):
    """0, 1, 4, 5 and 6 are types, the others reserved (INTEL-SS-10)."""
    word = legal_leaf(level) | emt << 3
    assert bool(FMT.faults(word, level)) == (emt not in {0, 1, 4, 5, 6})
    assert FMT.malformed(word, level) == bool(FMT.faults(word, level))


@pytest.mark.parametrize("level", [1, 2, 3])
def test_ignored_bits_of_a_pointer(level):
    """2, 6:3, 10:9, 60:52 and 63 may hold anything; 8 is A, or ignored (INTEL-SS-13, INTEL-SS-14)."""
    everything = sum(1 << bit for bit in (2, *range(3, 7), 8, 9, 10, *range(52, 61), 63))
    for fmt in FORMATS.values():
        assert not fmt.faults(0x1003 | everything, level)


@pytest.mark.parametrize("level", [0, 1, 2])
def test_ignored_bits_of_a_leaf(level):
    """2, 10, 60:52 and 63; they are no attributes (INTEL-SS-14)."""
    everything = sum(1 << bit for bit in (2, 10, *range(52, 61), 63))
    assert not FMT.faults(legal_leaf(level) | everything, level)
    assert FMT.attrs(legal_leaf(level) | everything, level) == R | W


@pytest.mark.parametrize("level", [0, 1, 2])
def test_hardware_sets_a_and_d_only_with_ssads(level):
    """Bits 8 and 9, at every level alike (INTEL-SS-13)."""
    assert FORMATS["dirty"].hardware_set(level) == A | D
    assert FORMATS["dirty"].attrs(legal_leaf(level) | A | D, level) == R | W | A | D
    assert FMT.hardware_set(level) == 0


@given(formats, st.sampled_from([0, 1, 2]), words, st.integers(1, 3), st.sampled_from([0, 1, 4, 5, 6]), words)
def test_what_is_put_into_a_leaf_comes_out(fmt, level, oa, rights, emt, flags):
    """Address and attributes survive, at every level the same number, and the word is legal (W1)."""
    if fmt.layout("leaf", level) is None:
        return
    lo = (12, 21, 30)[level]
    oa = oa % (1 << fmt.oa_bits) >> lo << lo
    attrs = fmt.attrs(rights | emt << 3 | flags & (IPAT | A | D | SNP), 0)
    word = fmt.leaf(12 + 9 * level, oa, attrs)
    assert (fmt.leaf_oa(word, level), fmt.attrs(word, level)) == (oa, attrs)
    assert not fmt.faults(word, level)
    assert not fmt.malformed(word, level)


@given(formats, st.sampled_from(LEVELS), st.lists(words, min_size=1, max_size=8))
def test_arrays_give_what_ints_give(fmt, level, many):
    """Every function that takes a word takes many."""
    array = np.array(many, dtype=np.uint64)
    for function in (
        fmt.present,
        lambda word: fmt.is_leaf(word, level) & fmt.present(word),
        fmt.table_pa,
        lambda word: fmt.leaf_oa(word, level),
        lambda word: fmt.attrs(word, level),
    ):
        assert function(array).tolist() == [function(word) for word in many]
    size_lg2 = fmt.leaf_lg2s[level % len(fmt.leaf_lg2s)]
    found = fmt.leaf(size_lg2, array, 0x33)
    assert found.dtype == np.uint64
    assert found.tolist() == [fmt.leaf(size_lg2, word, 0x33) for word in many]


@given(formats, st.sampled_from(LEVELS), words)
def test_the_fast_check_agrees_with_the_full_one(fmt, level, word):
    """What hardware refuses has a reason in words, and the other way round."""
    if fmt.present(word):
        assert fmt.malformed(word, level) == bool(fmt.faults(word, level))


def test_walk_to_a_page():
    """Pointers lead down one level each, and a PTE ends the walk."""
    iova = 0x1234_5678_9ABC
    assert FMT.step(at(3, iova), 0x2003) == Position("2", 2, 0x2000, iova, RW)
    assert FMT.step(at(0, iova), 0x7001) == Leaf("2", 0, 0x1234_5678_9000, 12, 0x7000, READ, R, 0x7001)


def test_rights_are_the_and_of_the_walk():
    """A read-only pointer takes W from all below it (INTEL-SS-4)."""
    below = FMT.step(at(1), 0x2001)
    assert below == Position("2", 0, 0x2000, 0, READ)
    assert FMT.step(below, 0x7003).rights == READ


def test_addresses_above_48_bits_are_out_of_range():
    """A request above AW never reaches the tables (INTEL-SS-17)."""
    assert isinstance(FMT.start(0x1000, 1 << 48), WalkFault)
    assert FMT.start(0x1000, 1 << 48).kind == "range"
    assert FMT.start(0x1000, (1 << 48) - 1) == at(3, (1 << 48) - 1)

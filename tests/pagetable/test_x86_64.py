"""The long-mode format against the specifications' tables: bits by hand, not by the format's own layouts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitless.pagetable import READ, WRITE, Leaf, Position, WalkFault
from hitless.pagetable.shared.x86_64 import X86_64

P, RW, US, PWT, PCD, A, D, PS, G, PAT_LARGE, XD = (1 << n for n in (0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 63))
FORMATS = {
    "4 levels": X86_64(),
    "5 levels": X86_64(5),
    "46 bits": X86_64(haw=46),
    "47 bits of input": X86_64(sign_extended=False, width=47),
    "no 1G": X86_64(leaf_levels=(0, 1)),
    "C-bit 51": X86_64(haw=47, c_bit=51),
    "C-bit 47": X86_64(haw=47, c_bit=47),
    "no NX, no G": X86_64(roles={"XD": "reserved", "G": "ignored"}),
    "EA": X86_64(roles={"EA": "hardware"}),
}
FMT = FORMATS["4 levels"]
formats = st.sampled_from(list(FORMATS.values()))
words = st.integers(0, (1 << 64) - 1)
PAGE, BLOCK_2M, BLOCK_1G = 0x1234_5678_9000, 0x1234_5660_0000, 0x1234_4000_0000
UPPER = 0xFFFF_0000_0000_0000


def at(level: int, iova: int = 0) -> Position:
    """A walk about to read an entry of a level."""
    return Position("1", level, 0x1000, iova, READ | WRITE)


@pytest.mark.parametrize(
    ("lg2", "oa", "rights", "word"),
    [
        (12, PAGE, READ, PAGE | P | US),
        (12, PAGE, READ | WRITE, PAGE | P | RW | US),
        (21, BLOCK_2M, READ | WRITE, BLOCK_2M | P | RW | US | PS),
        (30, BLOCK_1G, WRITE, BLOCK_1G | P | RW | US | PS),
    ],
)
def test_a_new_leaf(lg2, oa, rights, word):
    """P, U/S, R/W for writes, PS above 4K; memory type 0; A and D are hardware's."""
    assert FMT.leaf(lg2, oa, FMT.default_attrs(rights)) == word


@pytest.mark.parametrize(
    ("lg2", "oa", "prot", "word"),
    [
        (12, 0x3000, 17, 0x3025),
        (21, 0x600000, 39, 0x6000E7),
        (30, 0xC0000000, 5, 0xC00000A5),
        (21, 0x8000000000000, 1, 0x80000000000A5),
        (12, 0xFFFFFFFFFF000, 3, 0xFFFFFFFFFF067),
    ],
)
def test_leaves_recorded_from_another_implementation(lg2, oa, prot, word):
    """Words that an independent driver wrote."""
    assert FMT.leaf(lg2, oa, FMT.from_prot(prot, {})) == word
    level = (lg2 - 12) // 9
    assert (FMT.leaf_oa(word, level), FMT.leaf_lg2(word, level)) == (oa, lg2)
    assert not FMT.faults(word, level)


@pytest.mark.parametrize("prot", [0, 4, 60])
def test_a_leaf_without_read_and_write_is_an_error(prot):
    """What is present can be read, so nothing can be mapped without rights."""
    assert FMT.from_prot(prot, {}) is None
    with pytest.raises(ValueError, match="rights"):
        FMT.default_attrs(0)


@pytest.mark.parametrize("level", [1, 2, 3])
def test_a_pointer_grants_all_and_is_accessed(level):
    """P, R/W, U/S and A, as recorded."""
    assert FMT.table(level, 0x1_0000_1000) == 0x1_0000_1027
    assert not FMT.faults(0x1_0000_1027, level)
    assert FMT.table_pa(0x1_0000_1027) == 0x1_0000_1000


def test_the_encryption_bit_stands_in_pointers_and_leaves_but_not_in_addresses():
    """As recorded with the C-bit at 51: set unless MMIO, and never part of an address."""
    fmt = FORMATS["C-bit 51"]
    assert fmt.table(3, 0x1_0000_1000) == 0x8_0001_0000_1027
    assert fmt.table_pa(0x8_0001_0000_1027) == 0x1_0000_1000
    assert fmt.leaf(12, 0x1000, fmt.from_prot(3, {})) == 0x8_0000_0000_1067
    assert fmt.leaf(12, 0x2000, fmt.from_prot(19, {})) == 0x2067
    assert fmt.leaf_oa(0x8_0080_0000_00E7, 2) == 0x80_0000_0000
    assert fmt.attrs(0x8_0080_0000_00E7, 2) == 1 << 51 | RW | US | A | D
    assert not fmt.faults(0x8_0080_0000_00E7, 2)
    assert fmt.faults(1 << 50 | P, 0)
    assert fmt.faults(1 << 47 | P, 0)


@pytest.mark.parametrize(("level", "bits"), [(0, []), (1, range(13, 21)), (2, range(13, 30))])
def test_reserved_bits_of_a_leaf(level, bits):
    """Between PAT and the address of a large leaf; hardware refuses each of them alone."""
    legal = (PAGE, BLOCK_2M, BLOCK_1G)[level] | (PS if level else 0) | P
    assert not FMT.faults(legal, level)
    for n in bits:
        assert FMT.faults(legal | 1 << n, level)
        assert FMT.step(at(level), legal | 1 << n).kind == "reserved"


@pytest.mark.parametrize("kind", ["leaf", "table"])
@pytest.mark.parametrize("n", range(46, 52))
def test_address_bits_beyond_the_width_are_reserved(kind, n):
    """From ``haw`` up to 51, in leaves and in pointers."""
    word, level = (P | 1 << n, 0) if kind == "leaf" else (P | 0x1000 | 1 << n, 1)
    assert FORMATS["46 bits"].malformed(word, level)
    assert not FMT.malformed(word, level)


@pytest.mark.parametrize(("level", "more"), [(0, 0), (1, G | D), (2, G | D), (3, G | D)])
def test_ignored_bits_are_nobodys(level, more):
    """11, 9 and 62:52, and 8 and 6 of a pointer: legal, and no attribute."""
    everything = 1 << 11 | 1 << 9 | 0x7FF << 52
    assert not FMT.faults(PAGE | P | everything | more, level)
    assert FMT.attrs(PAGE | P | everything, 0) == 0


@pytest.mark.parametrize("level", [3, 4])
def test_a_leaf_above_level_3_is_refused(level):
    """PS is reserved in PML4 and PML5 entries (VT-d 9.7)."""
    fmt = FORMATS["5 levels"]
    assert fmt.faults(PS | P, level)
    assert fmt.step(at(level), PS | P).kind == "reserved"
    assert fmt.malformed(PS | P, level)


def test_a_1g_leaf_where_the_unit_has_none():
    """PS of level 3 is refused, and no such size is offered."""
    fmt = FORMATS["no 1G"]
    assert fmt.leaf_lg2s == (12, 21)
    assert fmt.step(at(2), BLOCK_1G | PS | P).kind == "reserved"
    assert FMT.leaf_lg2s == (12, 21, 30)


def test_pat_moves_between_bit_7_and_bit_12():
    """The same memory type at every size: PAT is bit 7 of a 4K leaf and bit 12 of a large one."""
    attrs = FMT.attrs(PAGE | P | RW | US | PWT | PS, 0)
    assert FMT.leaf(21, BLOCK_2M, attrs) == BLOCK_2M | P | RW | US | PWT | PS | PAT_LARGE
    assert FMT.leaf(30, BLOCK_1G, attrs) == BLOCK_1G | P | RW | US | PWT | PS | PAT_LARGE
    assert FMT.attrs(BLOCK_2M | P | PS | PCD, 1) == PCD
    assert FMT.leaf_oa(BLOCK_2M | P | PS | PAT_LARGE, 1) == BLOCK_2M


def test_bits_whose_role_the_vendor_decides():
    """XD reserved without NX, G no attribute where it is ignored, EA set by hardware."""
    other = FORMATS["no NX, no G"]
    assert other.malformed(PAGE | P | XD, 0)
    assert not FMT.malformed(PAGE | P | XD, 0)
    assert (FMT.attrs(PAGE | P | G | XD, 0), other.attrs(PAGE | P | G, 0)) == (G | XD, 0)
    assert FMT.hardware_set(0) == A | D
    assert FORMATS["EA"].hardware_set(1) == A | D | 1 << 10
    assert FORMATS["EA"].layout("table", 1).hardware == A | 1 << 10


@pytest.mark.parametrize(
    ("name", "iova", "ok"),
    [
        ("4 levels", 0x7FFF_FFFF_FFFF, True),
        ("4 levels", 0x8000_0000_0000, False),
        ("4 levels", UPPER | 0x7FFF_FFFF_FFFF, False),
        ("4 levels", UPPER | 0x8000_0000_0000, True),
        ("4 levels", 0x8000_0000_0000_0000, False),
        ("4 levels", (1 << 64) - 1, True),
        ("5 levels", 0x00FF_FFFF_FFFF_FFFF, True),
        ("5 levels", 0x0100_0000_0000_0000, False),
        ("5 levels", 0xFF00_0000_0000_0000, True),
        ("47 bits of input", 0x7FFF_FFFF_FFFF, True),
        ("47 bits of input", 0x8000_0000_0000, False),
        ("47 bits of input", (1 << 64) - 1, False),
    ],
)
def test_input_is_canonical_or_narrow(name, iova, ok):
    """Bit 47 (56 with five levels) repeats up to 63, or all from the width on are 0."""
    found = FORMATS[name].start(0x1000, iova)
    top = FORMATS[name].top.number
    assert found == (at(top, iova) if ok else WalkFault("1", top, iova, 0, "range"))


def test_rights_are_those_of_user_requests():
    """Present is readable, R/W writable, and without U/S nothing is granted."""
    assert [FMT.rights(word, 0) for word in (P | US, P | US | RW, P | RW, P)] == [READ, READ | WRITE, 0, 0]
    found = FMT.step(at(0, 0x5ABC), 0x7000 | P | US)
    assert found == Leaf("1", 0, 0x5000, 12, 0x7000, READ, US, 0x7000 | P | US)
    assert FMT.step(at(0), 0x7000) == WalkFault("1", 0, 0, 0x7000, "not-present")


@given(formats, st.data())
def test_round_trip(fmt, data):
    """Every size at its boundaries: address and attributes come back, nothing is illegal, and P alone is added."""
    size = data.draw(st.sampled_from(fmt.leaf_sizes))
    top = (1 << min(fmt.oa_bits, 52)) - (1 << size.lg2)
    oa = data.draw(
        st.sampled_from([0, 1 << size.lg2, top]) | st.integers(0, top >> size.lg2).map(lambda n: n << size.lg2)
    )
    attrs = fmt.attrs(data.draw(words), 0)
    word = fmt.leaf(size.lg2, oa, attrs)
    assert (fmt.leaf_oa(word, size.level), fmt.attrs(word, size.level)) == (oa, attrs)
    assert fmt.present(word)
    assert fmt.is_leaf(word, size.level)
    assert not fmt.faults(word, size.level)
    assert not fmt.malformed(word, size.level)


@given(formats, st.integers(0, 3), st.lists(words, min_size=1, max_size=8))
def test_ints_and_arrays_give_the_same(fmt, level, many):
    """Every function that takes a word takes an array of them."""
    array = np.array(many, dtype=np.uint64)
    for function in (
        fmt.present,
        lambda w: fmt.is_leaf(w, level),
        fmt.table_pa,
        lambda w: fmt.leaf_oa(w, level),
        lambda w: fmt.attrs(w, level),
        lambda w: fmt.leaf(fmt.leaf_lg2s[-1], w, RW | PS),
    ):
        found = function(array)
        assert found.dtype in (np.uint64, np.bool_)
        assert found.tolist() == [function(word) for word in many]


@given(formats, st.integers(0, 3), words)
def test_malformed_and_faults_agree(fmt, level, word):
    """The fast form refuses exactly what has a fault."""
    if word & P:
        assert fmt.malformed(word, level) == bool(fmt.faults(word, level))

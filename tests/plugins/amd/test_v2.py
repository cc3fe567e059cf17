"""The v2 format against words written by hand from AMD-GPT-*."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitless.pagetable import READ, WRITE, Leaf, Position
from hitless_amd.v2 import AmdV2

RW = READ | WRITE
P, RW_BIT, US, PWT, PCD, A, D, PS, G, NX = 1, 2, 4, 8, 16, 32, 64, 128, 256, 1 << 63
PAT_4K, PAT_LARGE = 1 << 7, 1 << 12
FMT = AmdV2()
FORMATS = {
    "default": FMT,
    "5 levels": AmdV2(5),
    "sign extended": AmdV2(sign_extended=True),
    "no nx": AmdV2(nx=False),
    "c-bit": AmdV2(c_bit=51),
}
formats = st.sampled_from(list(FORMATS.values()))
SIZES = {12: 0, 21: 1, 30: 2}


def hand_leaf(pa: int, size_lg2: int, *, pat: bool = False, flags: int = 0) -> int:
    """A leaf by the rules of the sheet: PS from level 2 up, and PAT moves from bit 7 to bit 12."""
    word = pa | P | flags
    if size_lg2 == 12:
        return word | (PAT_4K if pat else 0)
    return word | PS | (PAT_LARGE if pat else 0)


def at(level: int, iova: int = 0) -> Position:
    """A walk about to read an entry of a level, counted from 0."""
    return Position("1", level, 0x1000, iova, RW)


@pytest.mark.parametrize("size_lg2", SIZES)
@pytest.mark.parametrize("pat", [False, True])
def test_every_leaf_at_every_edge(size_lg2, pat):
    """4K, 2M and 1G (AMD-GPT-3); PAT in its place (AMD-GPT-4); the same attributes at every level."""
    level = SIZES[size_lg2]
    for pa in (0, 1 << size_lg2, (1 << 52) - (1 << size_lg2)):
        word = hand_leaf(pa, size_lg2, pat=pat, flags=RW_BIT | US | PCD | D | NX)
        attrs = RW_BIT | US | PCD | D | NX | (PAT_4K if pat else 0)
        assert FMT.leaf(size_lg2, pa, attrs) == word
        assert not FMT.faults(word, level)
        assert FMT.step(at(level, 0x7F_FFFF_FFFF), word) == Leaf(
            "1", level, 0x7F_FFFF_FFFF >> size_lg2 << size_lg2, size_lg2, pa, RW, attrs, word
        )
    assert FMT.leaf_lg2s == (12, 21, 30)


@pytest.mark.parametrize(("levels", "top", "bits"), [(4, "AMD level 4", 47), (5, "AMD level 5", 56)])
def test_levels(levels, top, bits):
    """4 or 5 (AMD-GPT-2); without sign extension only the lower half is used (AMD-GPT-6)."""
    fmt = AmdV2(levels)
    assert (fmt.top.spec_name, fmt.top.number, fmt.iova_bits) == (top, levels - 1, bits)
    assert fmt.start(0x1000, (1 << bits) - 1) == Position("1", levels - 1, 0x1000, (1 << bits) - 1, RW)
    for iova in (1 << bits, (1 << 64) - 0x1000):
        assert fmt.start(0x1000, iova).kind == "range"


def test_sign_extended_input():
    """Bits 63:47 are all equal, and the upper half is translated; the hole is a fault."""
    fmt = FORMATS["sign extended"]
    for iova in (0, 0x7FFF_FFFF_F000, 0xFFFF_8000_0000_0000, 0xFFFF_FFFF_FFFF_F000):
        assert fmt.start(0x1000, iova) == Position("1", 3, 0x1000, iova, RW)
    for iova in (0x8000_0000_0000, 0xFFFF_7FFF_FFFF_F000, 0x8000_0000_0000_0000):
        assert fmt.start(0x1000, iova).kind == "range"


@pytest.mark.parametrize("level", [1, 2, 3])
def test_a_pointer(level):
    """P, R/W, U/S and A; PS is 0 (AMD-GPT-1)."""
    assert FMT.table(level, 0x1_2345_6000) == 0x1_2345_6027
    assert FMT.step(at(level), 0x1_2345_6027) == Position("1", level - 1, 0x1_2345_6000, 0, RW)


@pytest.mark.parametrize("level", [3])
def test_no_leaf_above_1g(level):
    """PS at level 4 is refused (AMD-GPT-3)."""
    assert FMT.step(at(level), P | US | PS).kind == "reserved"
    assert FORMATS["5 levels"].step(at(4), P | US | PS).kind == "reserved"


@pytest.mark.parametrize(("level", "position"), [(1, 13), (1, 20), (2, 13), (2, 29)])
def test_address_bits_below_a_large_leaf_are_reserved(level, position):
    """But for PAT."""
    word = P | US | PS | 1 << position
    assert FMT.step(at(level), word).kind == "reserved"
    assert FMT.faults(word, level)


@pytest.mark.parametrize("word", [P | US | NX, P | US | PS | NX, 0x2000 | P | US | NX])
def test_nx_needs_efr_nx(word):
    """Bit 63: a right that a device's reads and writes do not need, or a reserved bit (AMD-GPT-5)."""
    level = 1
    assert not FMT.malformed(word, level)
    assert FORMATS["no nx"].step(at(level), word).kind == "reserved"


@pytest.mark.parametrize(("flags", "rights"), [(0, 0), (RW_BIT, 0), (US, READ), (US | RW_BIT, RW)])
def test_rights(flags, rights):
    """What is present can be read; R/W grants writes; a device's requests are user requests."""
    assert FMT.rights(P | flags, 0) == rights
    if rights:
        assert FMT.default_attrs(rights) == flags


def test_the_c_bit():
    """In pointers and new leaves, and in no address (AMD-PTE-14)."""
    fmt = FORMATS["c-bit"]
    assert fmt.table(1, 0x1000) == 0x0008_0000_0000_1027
    assert fmt.leaf(12, 0x1000, fmt.default_attrs(RW)) == 0x0008_0000_0000_1007
    assert fmt.leaf_oa(0x0008_0000_0000_1007, 0) == fmt.table_pa(0x0008_0000_0000_1027) == 0x1000


def test_hardware_sets_a_and_d():
    """In leaves; in pointers A."""
    assert FMT.hardware_set(0) == A | D
    assert FMT.layout("table", 1).hardware == A


@given(fmt=formats, data=st.data())
def test_leaves_round_trip(fmt, data):
    """Address and attributes of every legal leaf come back, from ints and from arrays."""
    size_lg2 = data.draw(st.sampled_from([12, 21, 30]))
    level = SIZES[size_lg2]
    pa = data.draw(st.integers(0, (1 << fmt.oa_bits - size_lg2) - 1)) << size_lg2
    attrs = data.draw(st.integers(0, (1 << 64) - 1)) & (fmt.attrs((1 << 64) - 1, 0))
    word = fmt.leaf(size_lg2, pa, attrs)
    assert word == hand_leaf(pa, size_lg2, pat=bool(attrs & PAT_4K), flags=attrs & ~PAT_4K)
    assert (fmt.leaf_oa(word, level), fmt.attrs(word, level)) == (pa, attrs)
    assert not fmt.faults(word, level)
    many = np.array([word, word | D], dtype=np.uint64)
    assert fmt.leaf_oa(many, level).tolist() == [pa, pa]
    assert fmt.attrs(many, level).tolist() == [attrs, attrs | D]


@pytest.mark.parametrize(
    ("features", "sme_mask", "pointer"),
    [
        (["encrypt_tables"], hex(1 << 51), 0x0008_0000_0000_1027),
        ([], hex(1 << 51), 0x1027),
        ([], "0x0", 0x1027),
    ],
)
def test_recorded_configurations(features, sme_mask, pointer):
    """Four levels with 47 bits of input; the C-bit only where tables are encrypted."""
    config = {"vasz": 47, "oasz": 47, "level": 3, "features": features, "sme_mask": sme_mask}
    fmt = AmdV2.from_recording(config)
    assert isinstance(fmt, AmdV2)
    assert (len(fmt.levels), fmt.iova_bits, fmt.oa_bits) == (4, 47, 47)
    assert fmt.table(1, 0x1000) == pointer
    assert fmt.from_prot(3, config) & ~(1 << 51) == RW_BIT | US | A | D
    assert fmt.from_prot(1, config) & ~(1 << 51) == US | A
    assert fmt.from_prot(0, config) is None

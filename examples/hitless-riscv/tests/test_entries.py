"""Page table entries against words written by hand from RISCV-PTE-*, RISCV-LVL-* and RISCV-NAPOT-*."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitless.explain import explain_fields
from hitless.pagetable import READ, WRITE, Leaf, LeafSize, Position, WalkFault
from hitless_riscv.pte import SvConfig
from hitless_riscv.sv import Stage1, Stage2

V, R, W, X, U, G, A, D, N = 1, 2, 4, 8, 16, 32, 64, 128, 1 << 63
NC, IO = 1 << 61, 2 << 61
RW = READ | WRITE
MODES = ("sv39", "sv48", "sv57")
FORMATS = {f"{cls.__name__} {mode}": cls(SvConfig(mode=mode)) for cls in (Stage1, Stage2) for mode in MODES} | {
    "software marks": Stage2(SvConfig(hardware_ad=False)),
    "no svpbmt": Stage2(SvConfig(svpbmt=False)),
    "svrsw60t59b": Stage1(SvConfig(svrsw60t59b=True)),
    "46 bits": Stage1(SvConfig(pas=46)),
    "no runs": Stage1(SvConfig(svnapot=False)),
}
formats = st.sampled_from(list(FORMATS.values()))
words = st.integers(0, (1 << 64) - 1)
FMT, SECOND = Stage1(), Stage2()


def hand_leaf(pa, size_lg2, flags):
    """Word and level of a leaf by the sheet's rules; no code of the format takes part."""
    if size_lg2 == 16:
        return N | (pa >> 12 | 8) << 10 | flags | V, 0
    return (pa >> 12) << 10 | flags | V, (size_lg2 - 12) // 9


def at(level, iova=0, stage="1"):
    """A walk about to read an entry of a level."""
    return Position(stage, level, 0x1000, iova, RW)


@pytest.mark.parametrize(
    ("size_lg2", "pa", "attrs", "word"),
    [
        (16, 0x1_0001_0000, R | U | A | D, 0x8000_0000_4000_60D3),
        (16, 0x1_0001_0000, R | W | U | A | D, 0x8000_0000_4000_60D7),  # the fact sheet's check value
        (12, 0x3000, R | X | U | A, 0xC5B),  # this one and the next three were written by an independent driver
        (12, 0x3_0000, R | W | X | U | A | D, 0xC0DF),
        (21, 0x60_0000, R | X | U | A, 0x18_005B),
        (30, 0xC000_0000, R | X | U | A, 0x3000_005B),
        (39, 0x80_0000_0000, R | U, 0x20_0000_0013),
        (12, 0xFF_FFFF_FFFF_F000, R | U, 0x003F_FFFF_FFFF_FC13),
        (12, 0x1000, R | W | U | IO, 0x4000_0000_0000_0417),
        (12, 0x1000, R | W | U | NC, 0x2000_0000_0000_0417),
    ],
)
def test_check_values(size_lg2, pa, attrs, word):
    """Leaves of every kind, bit for bit, read back as what they are (RISCV-PTE-6, RISCV-NAPOT-1)."""
    level = FMT.leaf_size(size_lg2).level
    assert FMT.leaf(size_lg2, pa, attrs) == word
    assert hand_leaf(pa, size_lg2, attrs) == (word, level)
    assert (FMT.leaf_lg2(word, level), FMT.leaf_oa(word, level), FMT.attrs(word, level)) == (size_lg2, pa, attrs)
    assert not FMT.faults(word, level)


def test_check_value_of_a_pointer():
    """A pointer to a table at 0x100001000, as an independent driver wrote it (RISCV-PTE-11)."""
    assert FMT.table(1, 0x1_0000_1000) == 0x4000_0401
    assert FMT.table_pa(0x4000_0401) == 0x1_0000_1000


@pytest.mark.parametrize(
    ("mode", "levels", "first", "second"), [("sv39", 3, 39, 41), ("sv48", 4, 48, 50), ("sv57", 5, 57, 59)]
)
def test_geometry(mode, levels, first, second):
    """Widths, levels, the 16K root of the x4 forms, and leaves at every level (RISCV-LVL-1 to RISCV-LVL-3)."""
    one, two = Stage1(SvConfig(mode=mode)), Stage2(SvConfig(mode=mode))
    assert (one.iova_bits, two.iova_bits) == (first, second)
    assert (one.top.table_lg2, two.top.table_lg2) == (12, 14)
    for fmt in (one, two):
        assert [level.lo for level in fmt.levels] == [12, 21, 30, 39, 48][:levels]
        assert fmt.leaf_lg2s == (12, 16, *[21, 30, 39, 48][: levels - 1])
        assert fmt.leaf_size(16) == LeafSize(16, 0, 4)
    assert one.top.spec_name == f"S{mode[1:]} level {levels - 1}"
    assert two.top.spec_name == f"S{mode[1:]}x4 level {levels - 1}"


@pytest.mark.parametrize(
    ("fmt", "iova", "kind"),
    [
        (Stage1(SvConfig(mode="sv39")), 0x3F_FFFF_F000, ""),
        (Stage1(SvConfig(mode="sv39")), 0x40_0000_0000, "range"),
        (Stage1(SvConfig(mode="sv39")), 0xFFFF_FFC0_0000_0000, ""),
        (Stage1(SvConfig(mode="sv39")), 0xFFFF_FF80_0000_0000, "range"),
        (Stage1(SvConfig(mode="sv48")), 0xFFFF_8000_0000_0000, ""),
        (Stage1(SvConfig(mode="sv48")), 0x8000_0000_0000, "range"),
        (Stage2(SvConfig(mode="sv39")), 0x1FF_FFFF_F000, ""),
        (Stage2(SvConfig(mode="sv39")), 0x200_0000_0000, "range"),
        (Stage2(SvConfig(mode="sv39")), 0xFFFF_FFC0_0000_0000, "range"),
        (Stage2(SvConfig(mode="sv57")), (1 << 59) - 0x1000, ""),
        (Stage2(SvConfig(mode="sv57")), 1 << 59, "range"),
    ],
)
def test_input(fmt, iova, kind):
    """Stage 1 is sign-extended, stage 2 has zeros above (RISCV-LVL-1, RISCV-LVL-2)."""
    found = fmt.start(0x1000, iova)
    assert (found.kind if isinstance(found, WalkFault) else "") == kind


RESERVED = [
    *((bit, 0, R | U) for bit in (54, 55, 56, 57, 58, 59, 60)),
    *((bit, 1, R | U) for bit in (10, 18, 63)),
    *((bit, 3, R | U) for bit in (10, 36)),
    *((bit, 1, 0) for bit in (4, 6, 7, 54, 58, 59, 60, 61, 62, 63)),
]


@pytest.mark.parametrize(("bit", "level", "flags"), RESERVED)
def test_reserved_bits(bit, level, flags):
    """Reserved bits of leaves and of pointers, and the low bits of a large leaf's page number, are a page fault."""
    word = V | flags | 1 << bit
    assert FMT.malformed(word, level)
    assert FMT.faults(word, level)
    assert FMT.step(at(level), word).kind == "reserved"
    assert not FMT.malformed(word & ~(1 << bit), level)


@pytest.mark.parametrize(
    ("word", "level"),
    [
        (V | W | U, 0),  # W without R
        (V | W | X | U, 2),
        (V | R | U | 3 << 61, 0),  # PBMT 3
        (V | R | U | N, 0),  # N with PPN[3:0] = 0
        (V | R | U | N | 4 << 10, 0),
        (V | R | U | N | 9 << 10, 0),
        (V | R | U | N | 8 << 10, 1),  # N at a higher level
        (V, 0),  # a pointer at the last level
    ],
)
def test_reserved_codes(word, level):
    """What no single bit shows to be reserved (RISCV-PTE-3, RISCV-PTE-9, RISCV-NAPOT-1, RISCV-LVL-5)."""
    assert FMT.malformed(word, level)
    assert FMT.faults(word, level)
    assert FMT.step(at(level), word).kind == "reserved"


def test_what_extensions_change():
    """Svpbmt, Svrsw60t59b and Svnapot: without them their bits are reserved (RISCV-PTE-8, RISCV-PTE-9)."""
    leaf = V | R | U
    assert FORMATS["no svpbmt"].malformed(leaf | NC, 0) and not FMT.malformed(leaf | NC, 0)
    assert FMT.malformed(leaf | 1 << 59, 0) and not FORMATS["svrsw60t59b"].malformed(leaf | 3 << 59, 0)
    assert FORMATS["no runs"].malformed(leaf | N | 8 << 10, 0) and not FMT.malformed(leaf | N | 8 << 10, 0)


def test_software_and_global_bits():
    """Bits 9:8 are free; G counts in stage 1 alone (RISCV-PTE-5, RISCV-PTE-7)."""
    assert not FMT.malformed(V | R | U | 3 << 8, 0)
    assert (FMT.attrs(V | R | G, 0), SECOND.attrs(V | R | G, 0)) == (R | G, R)
    assert SECOND.layout("leaf", 0).mask("ignored") == 3 << 8 | G


@pytest.mark.parametrize(
    ("flags", "hardware", "software"),
    [
        (R | W | U | A | D, RW, RW),
        (R | W | U | A, RW, READ),
        (R | W | U, RW, 0),
        (R | U | D, READ, 0),
        (R | X | U | A, READ, READ),
        (X | U | A | D, 0, 0),
        (R | W | A | D, 0, 0),
    ],
)
def test_rights(flags, hardware, software):
    """A user's read and write; what hardware does not mark has to be marked (RISCV-PTE-4, RISCV-AD-2)."""
    assert SECOND.rights(V | flags, 0) == hardware
    assert FORMATS["software marks"].rights(V | flags, 0) == software


def test_pointers_restrict_nothing():
    """RISCV-PTE-12."""
    assert FMT.rights(V, 2) == RW


@pytest.mark.parametrize("name", FORMATS)
def test_default_attributes(name):
    """Legal, with the rights that were asked for, at every size; no rights cannot be mapped."""
    fmt = FORMATS[name]
    for rights in (READ, RW, WRITE):
        attrs = fmt.default_attrs(rights)
        for size in fmt.leaf_sizes:
            word = fmt.leaf(size.lg2, 0, attrs)
            assert not fmt.faults(word, size.level)
            assert fmt.rights(word, size.level) == rights | READ
            assert not attrs & fmt.hardware_set(size.level)
    with pytest.raises(ValueError, match="an entry is a pointer"):
        fmt.default_attrs(0)


def test_what_hardware_marks():
    """A and D, if hardware does it; it clears nothing (RISCV-AD-1)."""
    assert (SECOND.hardware_set(0), SECOND.hardware_set(2), SECOND.hardware_clears(0)) == (A | D, A | D, 0)
    assert FORMATS["software marks"].hardware_set(0) == 0


@given(formats, st.data())
def test_leaves_round_trip(fmt, data):
    """Any legal leaf, at any place and with any attributes, is read back; beside it stands the sheet's word."""
    size = data.draw(st.sampled_from(fmt.leaf_sizes))
    pa = data.draw(st.integers(0, (1 << fmt.oa_bits - size.lg2) - 1)) << size.lg2
    attrs = data.draw(st.sampled_from([R, R | W, R | X, R | W | X])) | data.draw(st.integers(0, 15)) << 4
    attrs = fmt.attrs(attrs, 0)
    word, level = hand_leaf(pa, size.lg2, attrs)
    assert fmt.leaf(size.lg2, pa, attrs) == word
    assert (size.level, fmt.run_step(size.lg2)) == (level, 0)
    assert (fmt.leaf_lg2(word, level), fmt.leaf_oa(word, level), fmt.attrs(word, level)) == (size.lg2, pa, attrs)
    iova = fmt.canonical(data.draw(st.integers(0, (1 << fmt.iova_bits) - 1)))
    rights, start = fmt.rights(word, level), iova >> size.lg2 << size.lg2
    assert fmt.step(at(level, iova, fmt.stage), word) == Leaf(
        fmt.stage, level, start, size.lg2, pa, rights, attrs, word
    )


@given(formats, st.integers(0, (1 << 44) - 1))
def test_pointers_round_trip(fmt, page):
    """Any table address."""
    word = fmt.table(1, page << 12)
    assert word == page << 10 | V
    assert (fmt.table_pa(word), fmt.is_leaf(word, 1), fmt.present(word)) == (page << 12, False, True)


@given(formats, st.data())
def test_a_step_agrees_with_the_faults_of_a_word(fmt, data):
    """What the walk refuses as reserved has a reason; what has none is followed; V = 0 is not present."""
    word, level = data.draw(words), data.draw(st.sampled_from(fmt.levels)).number
    found = fmt.step(at(level, 0, fmt.stage), word)
    if not word & V:
        assert found.kind == "not-present"
        assert not fmt.faults(word, level)
    elif isinstance(found, WalkFault):
        assert found.kind == "reserved"
        assert fmt.faults(word, level)
    else:
        wider = [fault for fault in fmt.faults(word, level) if "is wider than" not in fault]
        assert not wider


@given(formats, st.lists(words, min_size=1, max_size=8))
def test_ints_are_arrays(fmt, many):
    """Each function gives for an array what it gives for each of its words."""
    array = np.array(many, dtype=np.uint64)
    for level in (0, 1):
        for function in (
            fmt.present,
            fmt.table_pa,
            lambda word, level=level: fmt.is_leaf(word, level),
            lambda word, level=level: fmt.leaf_oa(word, level),
            lambda word, level=level: fmt.attrs(word, level),
            lambda word, level=level: fmt.leaf_lg2(word, level),
        ):
            found = np.broadcast_to(function(array), array.shape).tolist()
            assert found == [function(word) for word in many]
    for size in fmt.leaf_sizes:
        found = fmt.leaf(size.lg2, array, R | U)
        assert found.dtype == np.uint64
        assert found.tolist() == [fmt.leaf(size.lg2, word, R | U) for word in many]


def test_an_address_beyond_56_bits_is_refused_and_not_folded():
    """Its upper bits come to stand in reserved ones."""
    for pa in (1 << 56, 1 << 60):
        assert FMT.malformed(FMT.leaf(12, pa, R | U), 0)
    assert any("wider than 46 bits" in each for each in FORMATS["46 bits"].faults(FMT.leaf(12, 1 << 46, R | U), 0))


def test_a_run_is_explained():
    """``hitless explain riscv/stage1 0x80000000400060D7 --level 0``."""
    found = explain_fields(FMT, 0x8000_0000_4000_60D7, 0)
    assert (found["summary"], found["size"]) == ("leaf 64K -> 0x100010000 RW", "64K")
    assert found["faults"] == []
    assert "N with PPN[3:0] = 0x0" in explain_fields(FMT, 0x8000_0000_4000_40D7, 0)["faults"][0]

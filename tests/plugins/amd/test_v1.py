"""The v1 format against words written by hand from AMD-PTE-* and AMD-LVL-*."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitless.explain import explain_fields
from hitless.pagetable import READ, WRITE, Leaf, LeafSize, Position, WalkFault, entry_pa, walk
from hitless_amd.v1 import AmdV1

RW = READ | WRITE
PR, A, D, U, FC, IR, IW = 1, 1 << 5, 1 << 6, 1 << 59, 1 << 60, 1 << 61, 1 << 62
FMT = AmdV1(6)
FORMATS = {
    "mode 6": FMT,
    "mode 4": AmdV1(4),
    "no fc": AmdV1(3, force_coherent=False),
    "no had": AmdV1(4, had=0),
    "accessed": AmdV1(4, had=1),
    "c-bit 51": AmdV1(6, c_bit=51),
    "c-bit 47": AmdV1(5, c_bit=47),
    "512g": AmdV1(5, leaf_512g=True),
    "48 bits": AmdV1(6, oa_bits=48),
    "one level": AmdV1(1),
}
formats = st.sampled_from(list(FORMATS.values()))
words = st.integers(0, (1 << 64) - 1)

# The sheet's table of levels: level, default size, first and last size of NextLevel 7 (log2).
LEVELS = {1: (12, 13, 20), 2: (21, 22, 29), 3: (30, 31, 38), 4: (39, 40, 47), 5: (48, 49, 51)}


def hand_leaf(pa: int, size_lg2: int, flags: int) -> tuple[int, int, int]:
    """Word, copies and level of a leaf, by the rules of the sheet; no code of the format takes part."""
    level = (size_lg2 - 12) // 9 + 1
    if (size_lg2 - 12) % 9 == 0:
        return pa | flags | PR, 1, level
    word = pa | flags | PR | 7 << 9
    for position in range(12, size_lg2 - 1):
        word |= 1 << position
    assert not word >> (size_lg2 - 1) & 1
    return word, 2 ** ((size_lg2 - 12) % 9), level


def at(level: int, iova: int = 0) -> Position:
    """A walk about to read an entry of a level, counted from 0."""
    return Position("2", level, 0x1000, iova, RW)


@pytest.mark.parametrize(
    ("pa", "size_lg2", "word", "copies", "level"),
    [
        (0x1_0000_0000, 13, 0x7000_0001_0000_0E01, 2, 1),
        (0x1_0001_0000, 16, 0x7000_0001_0001_7E01, 16, 1),
        (0x1_0000_0000, 20, 0x7000_0001_0007_FE01, 256, 1),
        (0x1_0000_0000, 21, 0x7000_0001_0000_0001, 1, 2),
        (0x1_0000_0000, 22, 0x7000_0001_001F_FE01, 2, 2),
        (0x1_4000_0000, 29, 0x7000_0001_4FFF_FE01, 256, 2),
    ],
)
def test_check_values(pa, size_lg2, word, copies, level):
    """The derived values of the fact sheet, with PR = IR = IW = FC = 1 (AMD-LVL-11, AMD-LVL-12)."""
    assert FMT.leaf(size_lg2, pa, FC | IR | IW) == word
    assert hand_leaf(pa, size_lg2, FC | IR | IW) == (word, copies, level)
    assert FMT.leaf_size(size_lg2) == LeafSize(size_lg2, level - 1, copies.bit_length() - 1)
    assert (FMT.leaf_lg2(word, level - 1), FMT.leaf_oa(word, level - 1)) == (size_lg2, pa)
    assert not FMT.faults(word, level - 1)


def test_check_value_of_a_pointer():
    """From a level-2 table to a level-1 table at 0x200000000 (AMD-PTE-3, AMD-PTE-6)."""
    assert FMT.table(1, 0x2_0000_0000) == 0x6000_0002_0000_0201
    assert FMT.table_pa(0x6000_0002_0000_0201) == 0x2_0000_0000


@pytest.mark.parametrize(
    ("size_lg2", "pa", "attrs", "word"),
    [
        (12, 0x1234000, FC | IR, 0x3000_0000_0123_4001),
        (12, 0x123A000, FC | IR | IW, 0x7000_0000_0123_A001),
        (16, 0x10000, FC | IR | IW | D, 0x7000_0000_0001_7E41),
        (30, 0x4000_0000, FC | IR | IW | D, 0x7000_0000_4000_0041),
        (32, 0x80_0000_0000, FC | IR | IW, 0x7000_0080_7FFF_FE01),
        (49, 0x2_0000_0000_0000, FC | IR | IW, 0x7002_FFFF_FFFF_FE01),
    ],
)
def test_leaves_recorded_from_another_implementation(size_lg2, pa, attrs, word):
    """Words that an independent driver wrote."""
    level = FMT.leaf_size(size_lg2).level
    assert FMT.leaf(size_lg2, pa, attrs) == word
    assert (FMT.leaf_oa(word, level), FMT.leaf_lg2(word, level), FMT.attrs(word, level)) == (pa, size_lg2, attrs)


def test_every_legal_leaf_size():
    """All sizes of the sheet's table of levels, but 512 GiB, which an erratum forbids (AMD-LVL-4, AMD-LVL-15)."""
    wanted = {
        LeafSize(lg2, level - 1, lg2 - default)
        for level, (default, first, last) in LEVELS.items()
        for lg2 in (default, *range(first, last + 1))
        if lg2 != 39
    }
    assert set(FMT.leaf_sizes) == wanted
    assert FMT.leaf_lg2s == tuple(sorted(size.lg2 for size in wanted))


@pytest.mark.parametrize("size", FMT.leaf_sizes, ids=lambda size: str(size.lg2))
def test_every_leaf_at_every_edge(size):
    """First, second and last place in the output space: the word, read back, is a leaf of that size there."""
    last = (1 << 52) - (1 << size.lg2)
    for pa in {0, min(1 << size.lg2, last), last}:
        word, copies, level = hand_leaf(pa, size.lg2, IR | IW | U | A)
        assert FMT.leaf(size.lg2, pa, IR | IW | U | A) == word
        assert (copies, level) == (1 << size.entries_lg2, size.level + 1)
        assert FMT.run_step(size.lg2) == 0
        assert not FMT.faults(word, size.level)
        iova = 0x7FFF_FFFF_FFFF >> size.lg2 << size.lg2
        assert FMT.step(at(size.level, iova | 5), word) == Leaf(
            "2", size.level, iova, size.lg2, pa, RW, IR | IW | U | A, word
        )


@pytest.mark.parametrize("level", range(5))
def test_a_run_is_legal_at_its_own_level_alone(level):
    """A size code of another level is refused where it stands (AMD-LVL-16)."""
    for size in FMT.leaf_sizes:
        if not size.entries_lg2 or size.level == level:
            continue
        word, _, _ = hand_leaf(0, size.lg2, IR)
        assert FMT.malformed(word, level)
        assert FMT.step(at(level), word).kind == "reserved"
        assert f"a size of level {size.level} (AMD level {size.level + 1})" in FMT.faults(word, level)[-1]


def test_a_4m_leaf_is_explained():
    """``hitless explain amd/v1 0x70000001001ffe01 --level 2``."""
    found = explain_fields(FMT, 0x7000_0001_001F_FE01, FMT.spec_level(2).number)
    assert found["summary"] == "leaf 4M -> 0x100000000 RW"
    assert (found["size"], found["address"], found["faults"]) == ("4M", "0x100000000", [])


def test_a_size_code_of_another_level_is_explained():
    """``hitless explain amd/v1 0x6000000080000e01 --level 2``: it says whose size it is."""
    found = explain_fields(FMT, 0x6000_0000_8000_0E01, FMT.spec_level(2).number)
    assert found["summary"] == "leaf 8K -> 0x80000000 RW, ILLEGAL"
    assert any("bit 12 as the lowest 0" in fault and "code 8K, a size of level 0" in fault for fault in found["faults"])


def test_size_7_with_the_default_size_is_one_entry():
    """2 MiB coded in the address of a level-2 entry: a legal single leaf (AMD-LVL-16)."""
    word = 0x7000_0001_000F_FE01
    assert FMT.leaf_lg2(word, 1) == 21
    assert FMT.leaf_oa(word, 1) == 0x1_0000_0000
    assert not FMT.faults(word, 1)
    assert FMT.step(at(1, 0x2_1234), word) == Leaf("2", 1, 0, 21, 0x1_0000_0000, RW, FC | IR | IW, word)


def test_size_codes_that_no_level_has():
    """Every address bit 1, or 2**52 and above: no leaf (AMD-LVL-15)."""
    for word in (0x7_FFFF_FFFF_FE01 | IR, 0xF_FFFF_FFFF_FE01 | IR):
        for level in range(5):
            assert FMT.malformed(word, level)
            assert "a size of no level" in FMT.faults(word, level)[-1]


def test_the_512g_leaf_is_an_erratum():
    """NextLevel 0 at level 4, and its size-7 form: illegal, unless the features say that the unit has no erratum."""
    by_next_level, by_size = 0x100_0000_0000 | IR | PR, 0x3F_FFFF_FE01 | IR
    for word in (by_next_level, by_size):
        assert FMT.malformed(word, 3)
        assert "512G" in " ".join(FMT.faults(word, 3))
        assert not FORMATS["512g"].faults(word, 3)
    assert FORMATS["512g"].leaf(39, 0x100_0000_0000, IR) == by_next_level
    with pytest.raises(KeyError, match="no leaf of 512G"):
        FMT.leaf(39, 0, IR)


@pytest.mark.parametrize("level", range(6))
@pytest.mark.parametrize("next_level", range(1, 7))
def test_a_pointer_leads_down(level, next_level):
    """NextLevel is below the level of the table (AMD-LVL-6); an entry of level 1 is never a pointer (AMD-LVL-5)."""
    word = 0x20_0000 | next_level << 9 | PR | IR | IW
    found = FMT.step(at(level), word)
    if next_level <= level:
        assert found == Position("2", next_level - 1, 0x20_0000, 0, RW)
        assert not FMT.faults(word, level)
    else:
        assert found == WalkFault("2", level, 0, word, "reserved")
        assert FMT.faults(word, level)


def test_level_6_holds_pointers_only():
    """NextLevel 0 and 7 are illegal there (AMD-LVL-2)."""
    assert FMT.layout("leaf", 5) is None
    for word in (IR | PR, 0x1_FE01 | IR):
        assert FMT.step(at(5), word).kind == "reserved"
        assert FMT.faults(word, 5)


@pytest.mark.parametrize(("iova", "kind"), [(0x1FF000, None), (0x20_0000, "range"), (1 << 38, "range")])
def test_skipped_address_bits_must_be_0(iova, kind):
    """A pointer from level 4 straight to level 1 skips bits 38:21 of the IOVA (AMD-LVL-7)."""
    found = FMT.step(at(3, iova), 0x20_0000 | 1 << 9 | PR | IR)
    assert getattr(found, "kind", None) == kind
    if kind is None:
        assert found == Position("2", 0, 0x20_0000, iova, READ)


@pytest.mark.parametrize(("mode", "bits"), [(1, 21), (2, 30), (3, 39), (4, 48), (5, 57), (6, 64)])
def test_widths_of_modes(mode, bits):
    """12 + 9n bits, and 64 for mode 6; an IOVA above them is a page fault (AMD-LVL-8, AMD-LVL-10)."""
    fmt = AmdV1(mode)
    assert fmt.iova_bits == bits
    assert [level.spec_level for level in fmt.levels] == list(range(1, mode + 1))
    assert fmt.start(0x1000, (1 << bits) - 1) == Position("2", mode - 1, 0x1000, (1 << bits) - 1, RW)
    if bits < 64:
        assert fmt.start(0x1000, 1 << bits).kind == "range"


def test_indexes_of_levels():
    """Level 1 takes bits 20:12, ... level 6 bits 63:57 (AMD-LVL-1, AMD-LVL-2)."""
    iova = sum((level + 1) << 12 + 9 * level for level in range(6))
    assert [(entry_pa(level, 0, iova) >> 3) for level in FMT.levels] == [1, 2, 3, 4, 5, 6]
    assert entry_pa(FMT.levels[5], 0, (1 << 64) - 1) >> 3 == 127


@pytest.mark.parametrize("position", range(52, 59))
@pytest.mark.parametrize("level", [0, 1, 4])
def test_reserved_bits_are_detected(position, level):
    """Bits 58:52 of leaves, and of pointers (AMD-PTE-9)."""
    leaf = PR | IR | IW | 1 << position
    assert FMT.step(at(level), leaf).kind == "reserved"
    assert "58:52" in FMT.faults(leaf, level)[0]
    if level:
        assert FMT.step(at(level), leaf | level << 9).kind == "reserved"


def test_roles_of_all_bits():
    """Ignored 63, 8:7, 4:1; reserved 58:52; hardware may set A in both kinds, D in leaves (AMD-PTE-9 to 13)."""
    leaf, table = FMT.layout("leaf", 0), FMT.layout("table", 1)
    assert leaf.mask("ignored") == 0x8000_0000_0000_019E
    assert leaf.reserved == table.reserved == 0x07F0_0000_0000_0000
    assert (leaf.hardware, table.hardware) == (A | D, A)
    assert table.mask("ignored") == 0x8000_0000_0000_019E | D | U | FC
    assert FMT.hardware_set(0) == A | D
    assert FORMATS["accessed"].hardware_set(0) == A
    assert FORMATS["no had"].hardware_set(0) == 0


@pytest.mark.parametrize("word", [0, 0xFFFF_FFFF_FFFF_FFFE, FC | IR | IW])
def test_without_pr_nothing_is_present(word):
    """All other bits are free for software (AMD-PTE-2)."""
    assert not FMT.present(word)
    assert not FMT.faults(word, 1)
    assert FMT.step(at(1), word).kind == "not-present"


@pytest.mark.parametrize(("rights", "bits"), [(READ, IR), (WRITE, IW), (RW, IR | IW), (0, 0)])
def test_rights(rights, bits):
    """IR and IW, both ways; of a walk, the AND of all entries (AMD-PTE-5, AMD-PTE-6)."""
    assert FMT.default_attrs(rights) == bits | FC
    assert FORMATS["no fc"].default_attrs(rights) == bits
    assert FMT.rights(bits | PR, 0) == rights
    assert FMT.step(at(1), 0x20_0000 | 1 << 9 | PR | bits).rights == rights


def test_sme():
    """The C-bit in pointers and new leaves; it is no part of any address (AMD-PTE-14)."""
    fmt = FORMATS["c-bit 51"]
    assert fmt.table(3, 0x1_0000_0000) == 0x6008_0001_0000_0601
    assert fmt.table_pa(0x6008_0001_0000_0601) == 0x1_0000_0000
    attrs = fmt.default_attrs(RW)
    for word, size_lg2, pa in (
        (0x7008_0000_0000_1001, 12, 0x1000),
        (0x7008_0000_0001_7E01, 16, 0x10000),
        (0x7008_0080_7FFF_FE01, 32, 0x80_0000_0000),
    ):
        level = fmt.leaf_size(size_lg2).level
        assert fmt.leaf(size_lg2, pa, attrs) == word
        assert (fmt.leaf_oa(word, level), fmt.leaf_lg2(word, level), fmt.attrs(word, level)) == (pa, size_lg2, attrs)
    assert fmt.leaf(12, 0x2000, attrs & ~(1 << 51)) == 0x7000_0000_0000_2001


def test_sme_limits_addresses():
    """Leaves end below the C-bit, and bits above it are reserved (AMD-PTE-15)."""
    fmt = FORMATS["c-bit 47"]
    assert fmt.oa_bits == 47
    assert max(fmt.leaf_lg2s) == 47
    assert fmt.layout("leaf", 0).reserved == 0x07FF_0000_0000_0000
    assert fmt.leaf_oa(PR | 1 << 47 | 0x1000, 0) == 0x1000
    assert fmt.malformed(PR | 1 << 48, 0)


def test_output_width():
    """An address, and a leaf, wider than the output width is a fault of legality."""
    fmt = FORMATS["48 bits"]
    assert not fmt.faults(PR | (1 << 48) - 0x1000, 0)
    assert "wider than 48 bits" in fmt.faults(PR | 1 << 48, 0)[0]
    assert "wider than 48 bits" in fmt.faults(PR | 1 << 48 | 1 << 9, 1)[0]
    assert max(fmt.leaf_lg2s) == 48


def test_alignment():
    """The address of a default leaf is aligned to it; a run's cannot be otherwise."""
    assert "not aligned" in FMT.faults(PR | 0x1000, 1)[0]
    assert "not aligned" in FMT.faults(PR | 0x20_0000, 2)[0]


def test_the_root_grows():
    """A new root whose entry 0 is a pointer to the old one; every translation stays (AMD-LIVE-8)."""
    memory = {0x1000: 0x2000 | 1 << 9 | PR | IR | IW, 0x2000: 0x1234_5000 | PR | IR}
    fmt, root = AmdV1(2, width=64), 0x1000
    before = walk(lambda pa: memory.get(pa, 0), fmt, fmt.start(root, 0x234))
    for mode in range(3, 7):
        fmt = fmt.grown()
        assert (fmt.mode, fmt.iova_bits) == (mode, min(12 + 9 * mode, 64))
        memory[mode << 16] = fmt.table(mode - 1, root)
        assert memory[mode << 16] == root | (mode - 1) << 9 | PR | IR | IW
        root = mode << 16
        assert walk(lambda pa: memory.get(pa, 0), fmt, fmt.start(root, 0x234)) == before
    assert fmt.grown() is None
    assert AmdV1(3).grown() is None
    assert AmdV1(3, width=48).grown().grown() is None


def test_growth_keeps_the_configuration():
    """C-bit, FC, HAD, widths and errata."""
    fmt = AmdV1(3, width=64, oa_bits=47, force_coherent=False, c_bit=51, had=1, leaf_512g=True, run_mix=True).grown()
    assert (fmt.oa_bits, fmt.run_mix, fmt.hardware_set(0)) == (47, True, A)
    assert fmt.default_attrs(RW) == IR | IW | 1 << 51
    assert 39 in fmt.leaf_lg2s


@given(fmt=formats, data=st.data())
def test_leaves_round_trip(fmt, data):
    """Size, address and attributes of every legal leaf come back, from ints and from arrays."""
    size = data.draw(st.sampled_from(fmt.leaf_sizes))
    pa = data.draw(st.integers(0, (1 << fmt.oa_bits - size.lg2) - 1)) << size.lg2
    attrs = data.draw(words) & fmt.attrs((1 << 64) - 1, 0)
    word = fmt.leaf(size.lg2, pa, attrs)
    assert word == hand_leaf(pa, size.lg2, attrs)[0]
    assert not fmt.faults(word, size.level)
    assert not fmt.malformed(word, size.level)
    many = fmt.leaf(size.lg2, np.array([pa], dtype=np.uint64), attrs)
    assert many.dtype == np.uint64
    assert many.tolist() == [word]
    back = (fmt.leaf_oa(word, size.level), fmt.leaf_lg2(word, size.level), fmt.attrs(word, size.level))
    assert back == (pa, size.lg2, attrs)


@given(fmt=formats, some=st.lists(words, min_size=1, max_size=8), data=st.data())
def test_ints_and_arrays_say_the_same(fmt, some, data):
    """Of any words, legal or not."""
    level = data.draw(st.integers(0, len(fmt.levels) - 1))
    many = np.array(some, dtype=np.uint64)
    assert fmt.present(many).tolist() == [fmt.present(word) for word in some]
    assert fmt.is_leaf(many, level).tolist() == [fmt.is_leaf(word, level) for word in some]
    for name in ("leaf_oa", "attrs"):
        found = getattr(fmt, name)(many, level)
        assert found.dtype == np.uint64
        assert found.tolist() == [getattr(fmt, name)(word, level) for word in some]
    assert fmt.table_pa(many).tolist() == [fmt.table_pa(word) for word in some]
    sizes = np.broadcast_to(fmt.leaf_lg2(many, level), many.shape)
    assert sizes.tolist() == [fmt.leaf_lg2(word, level) for word in some]


@given(fmt=formats, word=words, data=st.data())
def test_what_hardware_refuses_is_never_legal(fmt, word, data):
    """The fast check and the list of faults agree on every word that fits the output width."""
    level = data.draw(st.integers(0, len(fmt.levels) - 1))
    word |= PR
    if fmt.malformed(word, level):
        assert fmt.faults(word, level)
    if not fmt.faults(word, level):
        assert isinstance(fmt.step(at(level), word), Leaf | Position)


@pytest.mark.parametrize(
    ("prot", "features", "attrs"),
    [
        (1, [], IR),
        (2, [], IW),
        (3, ["force_coherence"], IR | IW | FC),
        (63, ["force_coherence"], IR | IW | FC),
        (4, ["force_coherence"], None),
        (0, [], None),
    ],
)
def test_recorded_protection(prot, features, attrs):
    """READ 1, WRITE 2; neither is an error; the others are ignored."""
    assert AmdV1(3).from_prot(prot, {"features": features}) == attrs


def test_recorded_protection_with_sme():
    """The C-bit, unless MMIO (16)."""
    assert FORMATS["c-bit 51"].from_prot(3, {"features": []}) == IR | IW | 1 << 51
    assert FORMATS["c-bit 51"].from_prot(3 | 16, {"features": []}) == IR | IW


def test_recorded_configurations():
    """Root level, widths, growth and C-bit as a recording's ``config`` says."""
    config = {
        "vasz": 48,
        "oasz": 47,
        "level": 2,
        "features": ["dynamic_top", "encrypt_tables"],
        "sme_mask": hex(1 << 51),
    }
    fmt = AmdV1.from_recording(config)
    assert (fmt.mode, fmt.iova_bits, fmt.oa_bits, fmt.grown().iova_bits) == (3, 39, 47, 48)
    assert fmt.table(2, 0) == 0x6008_0000_0000_0401
    plain = AmdV1.from_recording({**config, "features": [], "level": 3, "vasz": 40})
    assert (plain.mode, plain.iova_bits, plain.grown()) == (4, 40, None)
    assert plain.table(2, 0) == 0x6000_0000_0000_0401

"""Second-stage tables of every width and setting, against a little encoder of INTEL-SS-* written for these tests."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitless.pagetable import READ, WRITE, Leaf, Position, WalkFault
from hitless_intel.second_stage import SecondStage

FORMS = {
    "3 levels": (SecondStage(aw=39), 39, 52),
    "4 levels": (SecondStage(), 48, 52),
    "5 levels": (SecondStage(aw=57), 57, 52),
    "MGAW 46": (SecondStage(aw=48, mgaw=46), 46, 52),
    "MGAW 52 of 57": (SecondStage(aw=57, mgaw=52), 52, 52),
    "MGAW above AW": (SecondStage(aw=39, mgaw=57), 39, 52),
    "HAW 39": (SecondStage(39), 48, 39),
    "HAW 46, 5 levels": (SecondStage(46, aw=57), 57, 46),
    "A and D": (SecondStage(aw=57, dirty=True), 57, 52),
    "IR and IW": (SecondStage(upper="ir-iw"), 48, 52),
    "TM": (SecondStage(upper="tm"), 48, 52),
    "2M only": (SecondStage(leaf_levels=(0, 1)), 48, 52),
}
SIZES = {0: 12, 1: 21, 2: 30}
TOP = (1 << 64) - 1
names = st.sampled_from(list(FORMS))


def entry(oa: int, level: int, *, leaf: bool, **bits: int) -> int:
    """A word from the table of INTEL-SS-*: R 0, W 1, EMT 5:3, IPAT 6, PS 7, A 8, D 9, SNP 11, address, IR 61, IW 62."""
    at = {"r": 0, "w": 1, "emt": 3, "ipat": 6, "a": 8, "d": 9, "snp": 11, "ir": 61, "iw": 62}
    word = oa | (1 << 7 if leaf and level else 0)
    for name, value in bits.items():
        word |= value << at[name]
    return word


@pytest.mark.parametrize("name", FORMS)
def test_levels_and_widths(name):
    """AW 39, 48, 57 give 3, 4, 5 levels of 9 bits; MGAW and HAW limit input and output (INTEL-SS-16, INTEL-SS-19)."""
    fmt, iova_bits, oa_bits = FORMS[name]
    assert [(each.lo, each.bits, each.spec_level) for each in fmt.levels] == [
        (12, 9, 1), (21, 9, 2), (30, 9, 3), (39, 9, 4), (48, 9, 5),
    ][: len(fmt.levels)]  # fmt: skip
    assert len(fmt.levels) == {39: 3, 48: 4, 57: 5}[fmt.aw]
    assert (fmt.iova_bits, fmt.oa_bits) == (iova_bits, oa_bits)


@pytest.mark.parametrize("name", FORMS)
def test_input_ends_at_the_smaller_of_aw_and_mgaw(name):
    """The last address below is walked from the root, the first one above is out of range (INTEL-SS-17)."""
    fmt, iova_bits, _ = FORMS[name]
    root = len(fmt.levels) - 1
    for iova in (0, (1 << iova_bits) - 1):
        assert fmt.start(0x5000, iova) == Position("2", root, 0x5000, iova, READ | WRITE)
    for iova in (1 << iova_bits, 1 << 63, TOP):
        found = fmt.start(0x5000, iova)
        assert isinstance(found, WalkFault)
        assert found.kind == "range"


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("level", range(5))
def test_every_leaf_size_at_every_level(name, level):
    """4K, 2M and 1G where CAP.SSLPS allows; first and last page of the output; elsewhere PS is refused (INTEL-SS-6)."""
    fmt, iova_bits, oa_bits = FORMS[name]
    if level >= len(fmt.levels):
        return
    legal = level < 3 and not (name == "2M only" and level == 2)
    assert (SIZES.get(level) in fmt.leaf_lg2s) == legal
    if not legal:
        word = entry(0, level, leaf=True, r=1, w=1)
        assert fmt.step(Position("2", level, 0, 0, 3), word).kind == "reserved"
        assert fmt.faults(word, level)
        return
    size = 1 << SIZES[level]
    iova = (1 << iova_bits) - 1
    for oa in (0, (1 << oa_bits) - size):
        word = entry(oa, level, leaf=True, r=1, w=1, emt=6, snp=1)
        assert fmt.leaf(SIZES[level], oa, 0x833) == word
        found = fmt.step(Position("2", level, 0, iova, 3), word)
        assert found == Leaf("2", level, iova // size * size, SIZES[level], oa, 3, 0x833, word)
    if oa_bits < 52:
        beyond = fmt.leaf(SIZES[level], 1 << oa_bits, 3)
        assert fmt.step(Position("2", level, 0, iova, 3), beyond).kind == "reserved"
        assert fmt.faults(beyond, level)


@pytest.mark.parametrize("level", range(5))
@pytest.mark.parametrize("upper", ["reserved", "ir-iw", "tm"])
def test_bits_62_and_61(upper, level):
    """Reserved; or IR and IW, granted by pointers; or 62 TM and 61 ignored (INTEL-SS-15)."""
    fmt = SecondStage(aw=57, upper=upper)
    granted = {"reserved": 3, "ir-iw": 3 | 3 << 61, "tm": 3}[upper]
    if level:
        assert fmt.table(level, 0x5000) == 0x5000 | granted
    words = {
        "leaf": entry(0, level, leaf=True, r=1, w=1) if level < 3 else None,
        "pointer": entry(0x5000, level, leaf=False, r=1, w=1) if level else None,
    }
    for word in filter(None, words.values()):
        assert not fmt.faults(word, level)
        for bit in (61, 62):
            assert fmt.malformed(word | 1 << bit, level) == (upper == "reserved")
            assert bool(fmt.faults(word | 1 << bit, level)) == (upper == "reserved")
    if level < 3:
        carried = {"reserved": 0, "ir-iw": 3 << 61, "tm": 1 << 62}[upper]
        assert fmt.attrs(TOP, level) & 3 << 61 == carried


@pytest.mark.parametrize("level", range(1, 5))
def test_pointers_of_five_levels(level):
    """R, W and the address; bits 7 and 11 are reserved, the last level has none (INTEL-SS-6, INTEL-SS-12)."""
    fmt = FORMS["5 levels"][0]
    word = entry(0x7_F000, level, leaf=False, r=1, w=1)
    assert fmt.table(level, 0x7_F000) == word
    assert fmt.step(Position("2", level, 0, 5 << 48, 3), word) == Position("2", level - 1, 0x7_F000, 5 << 48, 3)
    assert fmt.step(Position("2", level, 0, 0, 3), word | 1 << 11).kind == "reserved"


def test_a_walker_may_set_a_in_pointers_and_a_and_d_in_leaves():
    """Only with SSADE; bit 9 of a pointer stays ignored (INTEL-SS-13, INTEL-SS-14)."""
    fmt, plain = FORMS["A and D"][0], FORMS["5 levels"][0]
    assert {fmt.layout("table", level).hardware for level in range(1, 5)} == {1 << 8}
    assert {fmt.layout("leaf", level).hardware for level in range(3)} == {3 << 8}
    assert {plain.layout(kind, 1).hardware for kind in ("leaf", "table")} == {0}


@given(names, st.sampled_from([0, 1, 2]), st.integers(0, TOP), st.integers(1, 3), st.sampled_from([0, 1, 4, 5, 6]))
def test_leaves_are_what_the_table_says(name, level, oa, rights, emt):
    """Word from values and values from word, at every level, as the little encoder has them."""
    fmt, _, oa_bits = FORMS[name]
    if SIZES[level] not in fmt.leaf_lg2s:
        return
    oa = oa % (1 << oa_bits) >> SIZES[level] << SIZES[level]
    word = entry(oa, level, leaf=True, r=rights & 1, w=rights >> 1, emt=emt, snp=1, ipat=1)
    attrs = rights | emt << 3 | 1 << 11 | 1 << 6
    assert fmt.leaf(SIZES[level], oa, attrs) == word
    assert (fmt.leaf_oa(word, level), fmt.attrs(word, level), fmt.rights(word, level)) == (oa, attrs, rights)
    assert fmt.leaf_lg2(word, level) == SIZES[level]
    assert not fmt.faults(word, level)


@given(names, st.integers(0, 4), st.lists(st.integers(0, TOP), min_size=1, max_size=8))
def test_arrays_give_what_ints_give(name, level, many):
    """Every function that takes a word takes many, in every form."""
    fmt = FORMS[name][0]
    level %= len(fmt.levels)
    array = np.array(many, dtype=np.uint64)
    for function in (
        fmt.present,
        lambda word: fmt.is_leaf(word, level),
        fmt.table_pa,
        lambda word: fmt.leaf_oa(word, level),
        lambda word: fmt.attrs(word, level),
        lambda word: fmt.leaf(21, word, 0x33),
    ):
        assert function(array).tolist() == [function(word) for word in many]


# -- recordings


def config(**changes):
    """A recording's configuration."""
    plain = {"vasz": 48, "oasz": 52, "level": 3, "features": [], "pgsizes": "0x0"}
    return plain | changes


@pytest.mark.parametrize(("level", "vasz", "aw"), [(2, 39, 39), (3, 48, 48), (4, 57, 57), (4, 52, 57), (3, 46, 48)])
def test_levels_of_a_recording(level, vasz, aw):
    """The top level gives AW, the input width MGAW, the output width HAW."""
    fmt = SecondStage.from_recording(config(level=level, vasz=vasz, oasz=46))
    assert (fmt.aw, fmt.iova_bits, fmt.oa_bits, len(fmt.levels)) == (aw, vasz, 46, level + 1)
    assert fmt.leaf_lg2s == (12, 21, 30)


@pytest.mark.parametrize(("pgsizes", "sizes"), [("0x201000", (12, 21)), ("0x1000", (12,)), ("0x40001000", (12, 30))])
def test_leaf_sizes_of_a_recording(pgsizes, sizes):
    """The mask of page sizes, 0 for all."""
    assert SecondStage.from_recording(config(pgsizes=pgsizes)).leaf_lg2s == sizes


@pytest.mark.parametrize("wrong", [{"level": 1}, {"level": 5}, {"level": 2, "vasz": 48}])
def test_a_recording_that_no_unit_walks_is_not_answered(wrong):
    """Two levels, six, or more input bits than the levels index."""
    assert SecondStage.from_recording(config(**wrong)) is None


@pytest.mark.parametrize(
    ("prot", "features", "attrs"),
    [
        (0x1, [], 0x1),
        (0x2, [], 0x2),
        (0x13, [], 0x3),
        (0x3F, ["force_coherence"], 0x803),
        (0x1, ["force_coherence"], 0x801),
        (0x1, ["force_writeable"], None),
        (0x2, ["force_writeable"], 0x2),
        (0x3C, [], None),
        (0x0, ["force_coherence"], None),
    ],
)
def test_protection_bits_of_a_recording(prot, features, attrs):
    """R, W, SNP; neither READ nor WRITE is an error; the rest is nobody's."""
    fmt = SecondStage.from_recording(config())
    assert fmt.recorded_as == ("vtdss",)
    assert fmt.from_prot(prot, config(features=features)) == attrs


@pytest.mark.parametrize(
    ("kind", "level", "word", "address"),
    [
        ("table", 4, 0x1_0000_1003, 0x1_0000_1000),
        ("table", 3, 0x1_0000_2403, 0x1_0000_2000),
        ("table", 1, 0x1_0000_4403, 0x1_0000_4000),
        ("leaf", 0, 0xABC801, 0xABC000),
        ("leaf", 0, 0x8D9_C324_0001, 0x8D9_C324_0000),
        ("leaf", 1, 0x4000_0083, 0x4000_0000),
        ("leaf", 2, 0xC000_0081, 0xC000_0000),
    ],
)
def test_words_of_an_independent_driver(kind, level, word, address):
    """They are legal, and made again but for bit 10 of pointers, a software mark that hardware ignores."""
    fmt = SecondStage.from_recording(config(level=4, vasz=57))
    assert not fmt.faults(word, level)
    assert bool(fmt.is_leaf(word, level)) == (kind == "leaf")
    made = fmt.leaf(SIZES[level], address, word & 0x803) if kind == "leaf" else fmt.table(level, address)
    assert (made ^ word) & ~fmt.layout(kind, level).mask("ignored") == 0


def test_what_a_comparison_may_leave_out():
    """The ignored bits by hand: 2, 10, 60:52, 63; in a PTE also 7; in pointers also 6:3 and 9 (INTEL-SS-14)."""
    fmt = SecondStage.from_recording(config(level=4, vasz=57))
    common = 1 << 2 | 1 << 10 | 0x1FF << 52 | 1 << 63
    assert fmt.layout("leaf", 0).mask("ignored") == common | 1 << 7
    assert {fmt.layout("leaf", level).mask("ignored") for level in (1, 2)} == {common}
    assert {fmt.layout("table", level).mask("ignored") for level in range(1, 5)} == {common | 0xF << 3 | 1 << 9}

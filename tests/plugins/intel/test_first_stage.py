"""First-stage tables against a little encoder of INTEL-FS-* written for these tests."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitless.pagetable import READ, WRITE, Leaf, Position, WalkFault
from hitless_intel.first_stage import FirstStage

FORMS = {
    "4 levels": (FirstStage(), 48, 52),
    "5 levels": (FirstStage(5), 57, 52),
    "HAW 46": (FirstStage(haw=46), 48, 46),
    "no 1G": (FirstStage(leaf_levels=(0, 1)), 48, 52),
    "EAFE": (FirstStage(5, extended=True), 57, 52),
    "XD": (FirstStage(execute_disable=True), 48, 52),
    "no snoop": (FirstStage(sets_accessed=False), 48, 52),
}
SIZES = {0: 12, 1: 21, 2: 30}
TOP = (1 << 64) - 1
PLAIN = FORMS["4 levels"][0]
names = st.sampled_from(list(FORMS))


def entry(oa: int, level: int, *, leaf: bool = True, **bits: int) -> int:
    """A word from the tables of INTEL-FS-*: present, PS in large leaves, PAT in bit 7 or 12; other bits by name."""
    at = {"rw": 1, "us": 2, "pwt": 3, "pcd": 4, "a": 5, "d": 6, "g": 8, "ea": 10, "xd": 63}
    at["pat"] = 12 if level else 7
    word = oa | 1 | (1 << 7 if leaf and level else 0)
    for name, value in bits.items():
        word |= value << at[name]
    return word


@pytest.mark.parametrize("name", FORMS)
def test_levels_and_canonical_input(name):
    """Four or five levels of 9 bits; bits above repeat the highest, else reason range (INTEL-FS-7, INTEL-FS-8)."""
    fmt, bits, oa_bits = FORMS[name]
    count = 5 if bits == 57 else 4
    assert [(each.lo, each.bits) for each in fmt.levels] == [(12 + 9 * i, 9) for i in range(count)]
    assert (fmt.iova_bits, fmt.oa_bits, fmt.stage) == (bits, oa_bits, "1")
    half = 1 << bits - 1
    for iova in (0, half - 1, (1 << 64) - half, TOP):
        assert fmt.start(0x5000, iova) == Position("1", count - 1, 0x5000, iova, READ | WRITE)
    for iova in (half, (1 << bits) - 1, 1 << bits, (1 << 64) - half - 1, 1 << 63):
        found = fmt.start(0x5000, iova)
        assert isinstance(found, WalkFault)
        assert found.kind == "range"


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("level", range(5))
def test_every_leaf_size_at_every_level(name, level):
    """4K, 2M, and 1G with CAP.FS1GP; first and last page of the output; elsewhere PS is refused (INTEL-FS-2, 6)."""
    fmt, bits, oa_bits = FORMS[name]
    if level >= len(fmt.levels):
        return
    legal = level < 3 and not (name == "no 1G" and level == 2)
    if not legal:
        word = entry(0, level, us=1, rw=1)
        assert fmt.step(Position("1", level, 0, 0, 3), word).kind == "reserved"
        assert fmt.faults(word, level)
        return
    size = 1 << SIZES[level]
    assert SIZES[level] in fmt.leaf_lg2s
    for oa in (0, (1 << oa_bits) - size):
        for iova in ((1 << bits - 1) - 1, TOP):
            word = entry(oa, level, us=1, rw=1, pat=1, pcd=1)
            found = fmt.step(Position("1", level, 0, iova, 3), word)
            assert found == Leaf("1", level, iova // size * size, SIZES[level], oa, 3, fmt.attrs(word, level), word)
            assert fmt.leaf(SIZES[level], oa, fmt.attrs(word, level)) == word
    if oa_bits < 52:
        beyond = fmt.leaf(SIZES[level], 1 << oa_bits, 6)
        assert fmt.step(Position("1", level, 0, 0, 3), beyond).kind == "reserved"


@pytest.mark.parametrize(
    ("level", "oa", "rights", "word"),
    [
        (0, 0x1234_5000, READ, 0x1234_5005),
        (0, 0x1234_5000, READ | WRITE, 0x1234_5007),
        (1, 0x1220_0000, READ | WRITE, 0x1220_0087),
        (2, 0x4000_0000, READ, 0x4000_0085),
    ],
)
def test_new_leaves(level, oa, rights, word):
    """P, U/S, R/W for writes; memory type 0; A and D clear (INTEL-FS-1)."""
    assert PLAIN.leaf(SIZES[level], oa, PLAIN.default_attrs(rights)) == word


def test_where_hardware_cannot_set_a_and_d_they_are_set_beforehand():
    """A walk that had to set them would fault, so that new leaves have A, and D if written (INTEL-FS-11)."""
    fmt = FORMS["no snoop"][0]
    assert fmt.leaf(12, 0x5000, fmt.default_attrs(READ | WRITE)) == 0x5067
    assert fmt.leaf(12, 0x5000, fmt.default_attrs(READ)) == 0x5025
    assert fmt.hardware_set(0) == 0
    assert fmt.attrs(0x5067, 0) == 0x66


@pytest.mark.parametrize("level", range(1, 5))
def test_pointers(level):
    """P, R/W, U/S, A and the address; PS is reserved in all that may hold no leaf (INTEL-FS-1, INTEL-FS-2)."""
    fmt = FORMS["5 levels"][0]
    assert fmt.table(level, 0x7_F000) == 0x7_F027
    assert fmt.step(Position("1", level, 0, 7, 3), 0x7_F027) == Position("1", level - 1, 0x7_F000, 7, 3)
    ignored = 1 << 6 | 1 << 8 | 1 << 9 | 1 << 11 | 0x7FF << 52 | 1 << 63 | 1 << 10
    assert not fmt.faults(0x7_F027 | ignored, level)


@pytest.mark.parametrize(
    ("name", "leaf", "table"),
    [
        ("4 levels", 1 << 8 | 1 << 9 | 1 << 10 | 1 << 11 | 0xFFF << 52, 0xF << 8 | 1 << 6 | 0xFFF << 52),
        ("EAFE", 1 << 8 | 1 << 9 | 1 << 11 | 0xFFF << 52, 0xB << 8 | 1 << 6 | 0xFFF << 52),
        ("XD", 0xF << 8 | 0x7FF << 52, 0xF << 8 | 1 << 6 | 0x7FF << 52),
    ],
)
def test_ignored_bits(name, leaf, table):
    """9, 11, 62:52 and G; EA without EAFE; 63 unless it is XD (INTEL-FS-4, INTEL-FS-5, INTEL-FS-9, INTEL-FS-10)."""
    fmt = FORMS[name][0]
    assert {fmt.layout("leaf", level).mask("ignored") for level in range(3)} == {leaf}
    assert {fmt.layout("table", level).mask("ignored") for level in range(1, 4)} == {table}


@pytest.mark.parametrize(("name", "leaf", "table"), [("4 levels", 0x60, 0x20), ("EAFE", 0x460, 0x420)])
def test_what_hardware_sets(name, leaf, table):
    """A and D; A of pointers; EA with EAFE (INTEL-FS-1, INTEL-FS-9)."""
    fmt = FORMS[name][0]
    assert {fmt.hardware_set(level) for level in range(3)} == {leaf}
    assert {fmt.layout("table", level).hardware for level in range(1, 4)} == {table}


@pytest.mark.parametrize(("level", "bits"), [(1, range(13, 21)), (2, range(13, 30))])
def test_reserved_bits_of_large_leaves(level, bits):
    """Below the page's size, but for PAT in bit 12 (INTEL-FS-3)."""
    word = entry(1 << 35, level, us=1)
    for bit in bits:
        assert PLAIN.step(Position("1", level, 0, 0, 3), word | 1 << bit).kind == "reserved"
        assert PLAIN.faults(word | 1 << bit, level)
    assert not PLAIN.faults(word | 1 << 12, level)


@pytest.mark.parametrize("level", range(4))
@pytest.mark.parametrize("bit", [46, 51])
def test_address_bits_above_haw_are_reserved(level, bit):
    """In leaves and pointers (INTEL-FS-4)."""
    word = (entry(0, level, us=1) if level < 3 else 0x1027) | 1 << bit
    assert FORMS["HAW 46"][0].malformed(word, level)
    assert not PLAIN.malformed(word, level)


@pytest.mark.parametrize("word", [0, 0xFFFF_FFFF_FFFF_FFFE])
def test_without_p_nothing_is_present(word):
    """Whatever else is set (INTEL-FS-1)."""
    for level in range(4):
        assert not PLAIN.present(word)
        assert PLAIN.step(Position("1", level, 0, 0, 3), word).kind == "not-present"


@pytest.mark.parametrize(("word", "rights"), [(0x5, READ), (0x7, READ | WRITE), (0x1, 0), (0x3, 0)])
def test_rights(word, rights):
    """Present and U/S can be read, R/W written; a supervisor page refuses a device's requests (INTEL-FS-1)."""
    assert PLAIN.rights(word, 0) == rights


@given(names, st.sampled_from([0, 1, 2]), st.integers(0, TOP), st.integers(0, TOP))
def test_leaves_are_what_the_table_says(name, level, oa, flags):
    """Word from values and values from word, at every level the same attributes, as the little encoder has them."""
    fmt, _, oa_bits = FORMS[name]
    if SIZES[level] not in fmt.leaf_lg2s:
        return
    oa = oa % (1 << oa_bits) >> SIZES[level] << SIZES[level]
    bits = {key: flags >> i & 1 for i, key in enumerate(("rw", "us", "pwt", "pcd", "a", "d", "pat"))}
    bits |= {"ea": flags >> 10 & 1} if name == "EAFE" else {}
    bits |= {"xd": flags >> 11 & 1} if name == "XD" else {}
    word = entry(oa, level, **bits)
    attrs = entry(0, 0, **bits) & ~1
    assert fmt.leaf(SIZES[level], oa, attrs) == word
    assert (fmt.leaf_oa(word, level), fmt.attrs(word, level)) == (oa, attrs)
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
        lambda word: fmt.leaf(21, word, 0x66),
    ):
        assert function(array).tolist() == [function(word) for word in many]


@given(names, st.integers(0, 4), st.integers(0, TOP))
def test_the_fast_check_agrees_with_the_full_one(name, level, word):
    """What hardware refuses has a reason in words, and the other way round."""
    fmt = FORMS[name][0]
    level %= len(fmt.levels)
    if fmt.present(word):
        assert fmt.malformed(word, level) == bool(fmt.faults(word, level))


def config(**changes):
    """A recording's configuration."""
    plain = {"vasz": 48, "oasz": 52, "level": 3, "features": ["sign_extend"], "pgsizes": "0x0", "sme_mask": "0x0"}
    return plain | changes


def test_recordings():
    """Levels, widths and leaf sizes; addresses canonical or not; nothing with an encryption bit."""
    fmt = FirstStage.from_recording(config())
    assert (fmt.name, fmt.recorded_as) == ("intel/first-stage", ("x86_64",))
    assert isinstance(fmt.start(0, TOP), Position)
    low = FirstStage.from_recording(config(features=[], vasz=47, oasz=48))
    assert (low.iova_bits, low.oa_bits) == (47, 48)
    assert isinstance(low.start(0, (1 << 47) - 1), Position)
    assert isinstance(low.start(0, 1 << 47), WalkFault)
    assert FirstStage.from_recording(config(level=4, vasz=57)).iova_bits == 57
    assert FirstStage.from_recording(config(pgsizes="0x201000")).leaf_lg2s == (12, 21)
    assert FirstStage.from_recording(config(sme_mask="0x8000000000000")) is None


@pytest.mark.parametrize(
    ("prot", "attrs"), [(0x1, 0x24), (0x3, 0x66), (0x2, 0x66), (0x1B, 0x66), (0x4, None), (0, None)]
)
def test_protection_bits_of_a_recording(prot, attrs):
    """U/S and A always, R/W and D with WRITE; neither READ nor WRITE is an error."""
    assert FirstStage.from_recording(config()).from_prot(prot, config()) == attrs

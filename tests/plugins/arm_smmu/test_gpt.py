"""The granule protection table bit for bit, beside positions written by hand: no layout is used here."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitless.errors import BadInput
from hitless.ownership import FIRMWARE, GUEST, HOST, OTHER_GUEST, OwnerTable
from hitless_arm_smmu.gpt import RawGpt

PAGE, K64, M2, M32, M512, G1 = 1 << 12, 1 << 16, 1 << 21, 1 << 25, 1 << 29, 1 << 30
L0 = 0x70_0000_0000
BASE = L0 | 2 << 64  # PPS 2: 40 bits protected; PGS 0: 4K; L0GPTSZ 0: regions of 1G
L1 = L0 + 0x2_0000  # behind 1024 level 0 entries of 8 bytes, at a multiple of its own size
L1_BYTES = 0x2_0000  # 1G / 64K words of 8 bytes
PA = 2 * G1
ALL_HOST = 0x9999_9999_9999_9999


def words_of(table, start, end, base=BASE):
    """The words that a range's entries hold, by address."""
    return {entry.pa: entry.words[0] for entry in RawGpt().entries(table, base, start, end)}


def read(words, start, end, base=BASE):
    """What a memory of these words says, as entries."""
    return list(RawGpt().read(lambda pa: words[pa], base, start, end).entries(start, end))


def test_granules_stand_four_bits_each():
    """Granule n of a level 1 word is in bits 4n+3:4n: 9 Non-secure, B Realm, A Root (ARM-GPT-4, ARM-GPT-12)."""
    table = OwnerTable()
    table.set(PA + 5 * PAGE, PA + 6 * PAGE, GUEST, 12)
    table.set(PA + 15 * PAGE, PA + 16 * PAGE, FIRMWARE, 12)
    table.set(PA + 16 * PAGE, PA + 17 * PAGE, OTHER_GUEST, 12)
    level_1 = L1 + 2 * L1_BYTES
    assert words_of(table, PA, PA + 2 * K64) == {
        L0 + 8 * 2: level_1 | 3,
        level_1: 0xA999_9999_99B9_9999,
        level_1 + 8: 0x9999_9999_9999_999B,
    }


@pytest.mark.parametrize(("size", "contig"), [(M2, 1), (M32, 2), (M512, 3)])
def test_a_contiguous_run_repeats_its_word(size, contig):
    """Type 1, GPI 7:4, Contig 9:8, in every word of the run (ARM-GPT-12)."""
    table = OwnerTable()
    start = PA + M512
    table.set(start, start + size, GUEST, size.bit_length() - 1)
    found = words_of(table, start, start + size)
    first = L1 + 2 * L1_BYTES + M512 // K64 * 8
    assert found.pop(L0 + 8 * 2) == L1 + 2 * L1_BYTES | 3
    assert found == {first + 8 * i: 1 | 0xB << 4 | contig << 8 for i in range(size // K64)}


def test_a_region_of_one_state_is_a_block():
    """Type 1, GPI 7:4, at level 0; there is no level 1 table (ARM-GPT-11)."""
    table = OwnerTable()
    table.set(PA, PA + G1, GUEST, 30)
    assert words_of(table, PA + 7 * PAGE, PA + 8 * PAGE) == {L0 + 16: 1 | 0xB << 4}
    assert read({L0 + 16: 1 | 0xB << 4}, PA + 7 * PAGE, PA + 8 * PAGE) == [(PA + 7 * PAGE, PA + 8 * PAGE, GUEST, 30)]


@pytest.mark.parametrize(
    ("state", "owner"),
    [
        (0x9, HOST),
        (0xD, HOST),
        (0xF, HOST),
        (0xB, GUEST),
        (0x0, FIRMWARE),
        (0x4, FIRMWARE),
        (0x5, FIRMWARE),
        (0x8, FIRMWARE),
        (0xA, FIRMWARE),
    ],
)
def test_what_each_state_means(state, owner):
    """What a Non-secure access passes is the host's, Realm the guest's, all else firmware's (ARM-GPT-13)."""
    words = {L0 + 16: 0x5000 | 3, 0x5000: ALL_HOST & ~0xF0 | state << 4}
    expected = [(PA, PA + K64, HOST, 12)]
    if owner != HOST:
        expected = [
            (PA, PA + PAGE, HOST, 12),
            (PA + PAGE, PA + 2 * PAGE, owner, 12),
            (PA + 2 * PAGE, PA + K64, HOST, 12),
        ]
    assert read(words, PA, PA + K64) == expected


@pytest.mark.parametrize(("pgs", "granule"), [(1, 1 << 16), (2, 1 << 14)])
def test_larger_granules(pgs, granule):
    """PGS 1 is 64K, 2 is 16K: one word speaks of 16 of them; a granule has one state."""
    base = BASE | pgs << 14 + 64
    words = {L0 + 16: 0x5000 | 3, 0x5000: ALL_HOST ^ (0x9 ^ 0xB) << 8}
    start, end = PA + 2 * granule, PA + 3 * granule
    assert read(words, PA, PA + 16 * granule, base)[1] == (start, end, GUEST, granule.bit_length() - 1)
    table = OwnerTable()
    table.set(start, end, GUEST, 12)
    assert words[0x5000] in words_of(table, PA, PA + 16 * granule, base).values()
    table.set(start, start + PAGE, HOST, 12)
    with pytest.raises(BadInput, match="several owners"):
        words_of(table, PA, PA + 16 * granule, base)


@pytest.mark.parametrize("l0gptsz", [0, 4, 6])
def test_larger_regions(l0gptsz):
    """A level 0 entry speaks of 2**(30 + L0GPTSZ) bytes."""
    base = BASE | l0gptsz << 20 + 64
    pa = 3 << 30 + l0gptsz
    assert read({L0 + 24: 1 | 0xB << 4}, pa, pa + PAGE, base) == [(pa, pa + PAGE, GUEST, 30 + l0gptsz)]


@pytest.mark.parametrize(
    ("level_0", "level_1", "why"),
    [
        (0x5000 | 2, 0, "must be 0x1"),
        (0x5000 | 3 | 1 << 8, 0, "must be 0x0"),
        (1 | 0x7 << 4, 0, "reserved"),
        (0x5000 | 3, ALL_HOST & ~0xF | 0x3, "reserved"),
        (0x5000 | 3, 1 | 0xB << 4, "Contig 0"),
        (0x5000 | 3, 1 | 0xB << 4 | 1 << 8 | 1 << 20, "must be 0x0"),
    ],
)
def test_a_word_that_means_nothing_is_bad_input(level_0, level_1, why):
    """A type, state, size or reserved bit that has no meaning: named with its place."""
    words = {L0 + 16: level_0, 0x5000: level_1}
    with pytest.raises(BadInput, match=why):
        read(words, PA, PA + PAGE)


def test_a_run_that_disagrees_is_bad_input():
    """One word of a contiguous run says otherwise (ARM-GPT-12)."""
    words = {L0 + 16: 0x5000 | 3, 0x5000: 1 | 0x9 << 4 | 1 << 8, 0x5008: 1 | 0xB << 4 | 1 << 8}
    with pytest.raises(BadInput, match="first word"):
        read(words, PA, PA + 2 * K64)


@pytest.mark.parametrize("config", [7, 3 << 14])
def test_reserved_sizes_are_bad_input(config):
    """PPS 7 and PGS 3 mean nothing."""
    with pytest.raises(BadInput):
        read({}, PA, PA + PAGE, L0 | config << 64)


def test_beyond_the_protected_size_is_bad_input():
    """The table says nothing there."""
    with pytest.raises(BadInput, match="not protected"):
        read({}, (1 << 40) - PAGE, (1 << 40) + PAGE)


@given(data=st.data())
def test_what_is_written_is_read(data):
    """Any mixture of owners and sizes comes back from its own words."""
    table = OwnerTable()
    for start in range(PA, PA + 3 * M2, M2):
        kind = data.draw(st.sampled_from(["host", "large", "granules"]))
        if kind == "large":
            table.set(start, start + M2, data.draw(st.sampled_from([HOST, GUEST, FIRMWARE])), 21)
        for page in data.draw(st.sets(st.integers(0, 511), max_size=5)) if kind == "granules" else ():
            owner = data.draw(st.sampled_from([GUEST, FIRMWARE]))
            table.set(start + page * PAGE, start + (page + 1) * PAGE, owner, 12)
    assert read(words_of(table, PA, PA + 3 * M2), PA, PA + 3 * M2) == list(table.entries(PA, PA + 3 * M2))

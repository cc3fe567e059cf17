"""Descriptors against words written by hand from INTEL-QI-*."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitless.hardware.facts import Completes, Drops, Illegal, Match, NoEffect
from hitless.refresh.commands import Target
from hitless_intel.commands import IntelCommands
from hitless_intel.features import IntelFeatures

QI = IntelCommands(IntelFeatures())
SMALL = IntelCommands(IntelFeatures(mamv=9))
NO_DRAIN = IntelCommands(IntelFeatures(drain=False))
K4, M2, G1 = 1 << 12, 1 << 21, 1 << 30
TOP = (1 << 64) - 1
DID = 0x1234
PAGES = 0x1234_00F2  # DID, DR, DW, G = 3, type 2


def leaves(first: int, size: int, level: int = 0) -> Target:
    """Leaves of one level."""
    return Target(first, first + size - 1, 12 + 9 * level, level, False)


def tables(first: int, size: int) -> Target:
    """Table pointers that went."""
    return Target(first, first + size - 1, size.bit_length() - 1, None, True)


def only(commands: IntelCommands, *words: int):
    """The one effect of a descriptor."""
    (effect,) = commands.decode(words)
    return effect


@pytest.mark.parametrize(
    ("target", "high"),
    [
        (leaves(0x1000, K4), 0x1040),
        (leaves(0x20_0000, M2, 1), 0x20_0049),
        (leaves(0x4000_0000, G1, 2), 0x4000_0052),
        (tables(0x20_0000, M2), 0x20_0009),
        (tables(0x4000_0000, G1), 0x4000_0012),
        (leaves((1 << 48) - K4, K4), 0xFFFF_FFFF_F040),
    ],
)
def test_page_selective_words(target, high):
    """AM tells the size, IH = 1 that only leaves changed (INTEL-QI-3, INTEL-QI-6, INTEL-INV-3, INTEL-INV-4)."""
    assert QI.invalidate(target, DID) == [(PAGES, high)]


def test_nothing_above_mamv():
    """A unit with MAMV 9 takes a 1 GiB leaf in 512 commands of 2 MiB (INTEL-QI-6)."""
    found = SMALL.invalidate(leaves(0x4000_0000, G1, 2), DID)
    assert found == [(PAGES, 0x4000_0049 + i * M2) for i in range(512)]


def test_a_whole_tag_is_one_domain_selective_command():
    """G = 2, leaves and tables of the DID (INTEL-INV-5)."""
    assert QI.invalidate_tag(DID) == [(0x1234_00E2, 0)]


@pytest.mark.parametrize(
    ("target", "high"),
    [
        (leaves(0x1000, K4), 0x1000),
        (leaves(0x20_0000, M2, 1), 0x2F_F001),
        (leaves(0x4000_0000, G1, 2), 0x5FFF_F001),
        (Target(0, TOP, 12, None, True), 0x7FFF_FFFF_FFFF_F001),
    ],
)
def test_device_tlb_words(target, high):
    """S = 1: ones below the lowest 0 bit of the address tell the size (INTEL-QI-4, INTEL-QI-8)."""
    assert QI.invalidate_device(target, 0x8001) == [(0x8001_0000_0003, high)]


def test_wait_words():
    """SW and FN, status data in 63:32, and the address as it is (INTEL-QI-5)."""
    assert QI.wait(0x1000_0008, 7) == (0x7_0000_0065, 0x1000_0008)


def test_a_wait_has_32_bits_of_status():
    """A number that would wrap is an error, since the word is compared with >= (INTEL-WAIT-2)."""
    assert QI.wait(0x1000, 0xFFFF_FFFF)[0] >> 32 == 0xFFFF_FFFF
    with pytest.raises(ValueError, match="32 bits"):
        QI.wait(0x1000, 1 << 32)


def test_without_draining_it_is_not_asked_for():
    """DW and DR are set as CAP.DWD and CAP.DRD say (INTEL-WAIT-3)."""
    assert NO_DRAIN.invalidate(leaves(0x1000, K4), DID) == [(0x1234_0032, 0x1040)]
    assert NO_DRAIN.invalidate_tag(DID) == [(0x1234_0022, 0)]


ranges = st.tuples(st.integers(0, (1 << 36) - 1), st.integers(1, 1 << 20)).map(
    lambda pair: (pair[0] << 12, min((pair[0] + pair[1]) << 12, 1 << 48) - 1)
)


@given(ranges, st.sampled_from([9, 18, 63]), st.booleans())
def test_blocks_cover_exactly_the_target(bounds, mamv, pointers):
    """Aligned blocks, one behind the other, from first to last and nothing beyond, none above MAMV (E1); not thousands."""
    first, last = bounds
    commands = IntelCommands(IntelFeatures(mamv=mamv))
    found = commands.invalidate(Target(first, last, 12, None, pointers), DID)
    if last - first >> 12 + mamv >= 1024:
        assert found == [(0x1234_00E2, 0)]  # so many for one target that the domain is asked for: drains, G = 2
        return
    at = first
    for low, high in found:
        size = 1 << 12 + (high & 0x3F)
        assert low == PAGES
        assert high & 0x3F <= mamv
        assert bool(high & 1 << 6) is not pointers
        assert high & 0xF80 == 0
        assert high >> 12 << 12 == at
        assert at % size == 0
        at += size
    assert at == last + 1


@given(ranges)
def test_device_blocks_cover_exactly_the_target(bounds):
    """The same for the size code of the device TLB (INTEL-QI-8)."""
    first, last = bounds
    at = first
    for _, high in QI.invalidate_device(Target(first, last, 12, None, False), 1):
        ones = 0
        if high & 1:
            while high >> 12 + ones & 1:
                ones += 1
        size = 1 << 12 + (ones + 1 if high & 1 else 0)
        assert (high & ~0xFFF) // size * size == at
        at += size
    assert at == last + 1


@given(ranges, st.booleans())
def test_decode_reads_back_what_was_encoded(bounds, pointers):
    """The declared effects of a target's commands are the target, in legacy mode and nothing else."""
    found = [effect for words in QI.invalidate(Target(*bounds, 12, None, pointers), DID) for effect in QI.decode(words)]
    assert (found[0].first, found[-1].last) == bounds
    assert {(each.tag, each.tag_mask, each.tables, each.leaves) for each in found} == {(DID, 0xFFFF, pointers, True)}


def test_what_a_page_selective_command_drops():
    """Leaves that overlap, whatever their size; pointers that overlap, without the hint (INTEL-INV-2, INTEL-INV-3)."""
    hinted, full = only(QI, PAGES, 0x20_0049), only(QI, PAGES, 0x20_0009)
    assert (hinted.leaves, hinted.tables) == (True, False)
    assert (full.leaves, full.tables) == (True, True)
    for effect in (hinted, full):
        assert (effect.tag, effect.first, effect.last) == (DID, 0x20_0000, 0x3F_FFFF)
        assert (effect.leaf_match, effect.table_match) == (Match.PIECE_OVERLAPS, Match.PIECE_OVERLAPS)
        assert (effect.device, effect.leaf_levels) == (None, None)


def test_am_masks_the_low_bits_of_an_address():
    """A misaligned command covers the aligned block around its address, not what follows it (INTEL-QI-6)."""
    effect = only(QI, PAGES, 0x30_1049)
    assert (effect.first, effect.last) == (0x20_0000, 0x3F_FFFF)


@pytest.mark.parametrize(("low", "tag"), [(0x1234_00E2, DID), (0x1234_00D2, None)])
@pytest.mark.parametrize("high", [0, 1 << 6])
def test_domain_and_global_drop_everything(low, tag, high):
    """Leaves and pointers of the DID, or of all; IH and AM mean nothing here (INTEL-INV-5)."""
    effect = only(QI, low, high)
    assert (effect.tag, effect.leaves, effect.tables) == (tag, True, True)
    assert (effect.first, effect.last) == (0, TOP)


@pytest.mark.parametrize(("bits", "writes", "reads"), [(0, False, False), (1, True, False), (2, False, True)])
@pytest.mark.parametrize("granularity", [1, 2, 3])
def test_only_what_was_asked_for_is_drained(bits, writes, reads, granularity):
    """DW drains writes and DR reads; left out, the next wait ends nothing (INTEL-WAIT-3)."""
    effect = only(QI, 0x1_0002 | granularity << 4 | bits << 6, 0)
    assert (effect.drains_writes, effect.drains_reads) == (writes, reads)


def test_a_unit_without_draining_ignores_the_bits():
    """CAP.DWD = CAP.DRD = 0: neither the command nor the wait drains (INTEL-WAIT-3)."""
    effect = only(NO_DRAIN, PAGES, 0x1040)
    assert (effect.drains_writes, effect.drains_reads) == (False, False)
    wait = only(NO_DRAIN, *NO_DRAIN.wait(0x1000, 1))
    assert (wait.drains_writes, wait.drains_reads) == (False, False)


@pytest.mark.parametrize("drain", [False, True])
def test_from_version_2_on_a_unit_always_drains(drain):
    """Whether or not the bits are there (INTEL-WAIT-4)."""
    commands = IntelCommands(IntelFeatures(drain=drain, version=2))
    effect = only(commands, 0x1234_0032, 0x1040)
    assert (effect.drains_writes, effect.drains_reads) == (True, True)
    wait = only(commands, *commands.wait(0x1000, 1))
    assert (wait.drains_writes, wait.drains_reads) == (True, True)


def test_a_wait_completes_with_its_32_bit_word():
    """The word, where it goes, and that reads and writes are drained (INTEL-WAIT-1, INTEL-WAIT-2)."""
    wait = only(QI, 0x9_0000_0065, 0x1_0000_0004)
    assert isinstance(wait, Completes)
    assert (wait.store_pa, wait.value, wait.bits) == (0x1_0000_0004, 9, 32)
    assert (wait.drains_reads, wait.drains_writes) == (True, True)


def test_a_wait_without_status_write_shows_nothing():
    """SW = 0 stores no word (INTEL-QI-5)."""
    assert isinstance(only(QI, 0x9_0000_0055, 0x1000), NoEffect)


@pytest.mark.parametrize(
    ("high", "first", "last"),
    [
        (0x1000, 0x1000, 0x1FFF),
        (0x1001, 0, 0x3FFF),
        (0x2001, 0x2000, 0x3FFF),
        (0x2F_F001, 0x20_0000, 0x3F_FFFF),
        (0x7FFF_FFFF_FFFF_F001, 0, TOP),
    ],
)
def test_what_a_device_tlb_command_drops(high, first, last):
    """The device's translations, which it stops using before it answers (INTEL-QI-8, INTEL-WAIT-6)."""
    effect = only(QI, 0x8001_0000_0003, high)
    assert isinstance(effect, Drops)
    assert (effect.device, effect.first, effect.last) == (0x8001, first, last)
    assert (effect.drains_reads, effect.drains_writes) == (True, True)


LEGAL = {
    "context": (0x31, 0, [*range(6, 9), *range(12, 16), *range(50, 64), *range(64, 128)]),
    "iotlb": (PAGES, 0x1040, [8, *range(12, 16), *range(32, 64), *range(71, 76)]),
    "device": (0x3, 0x1000, [*range(4, 9), *range(21, 32), *range(48, 52), *range(65, 76)]),
    "wait": (0x25, 0x1000, [8, *range(12, 32), 64, 65]),
    "pasid iotlb": (0x36, 0x1000, [*range(6, 9), *range(12, 16), *range(52, 64), *range(71, 76)]),
    "pasid cache": (0x37, 0, [*range(6, 9), *range(12, 16), *range(52, 64), *range(64, 128)]),
    "pasid device": (0x8, 0x1000, [*range(65, 75)]),
}


@pytest.mark.parametrize("name", LEGAL)
def test_reserved_bits_stop_the_queue(name):
    """Each reserved bit alone makes a descriptor illegal, and without it there is nothing wrong (INTEL-QI-10)."""
    low, high, bits = LEGAL[name]
    assert not isinstance(only(QI, low, high), Illegal)
    for bit in bits:
        whole = low | high << 64 | 1 << bit
        assert isinstance(only(QI, whole & TOP, whole >> 64), Illegal), f"bit {bit}"


@pytest.mark.parametrize("kind", [0x0, 0xB, 0xC, 0xD, 0xE, 0xF, *(high << 9 | 2 for high in range(1, 8)), 0xE05])
def test_unknown_types_stop_the_queue(kind):
    """The type is in bits 11:9 and 3:0; the status register tells (INTEL-QI-1, INTEL-QI-10)."""
    effect = only(QI, kind | 0x30, 0)
    assert isinstance(effect, Illegal)
    assert "IQE" in effect.why
    assert "unknown" in QI.describe((kind | 0x30, 0))


@pytest.mark.parametrize(("kind", "name"), [(4, "interrupt entry"), (9, "page group"), (0xA, "HPT")])
def test_what_is_not_modelled_is_named_and_legal(kind, name):
    """Descriptors that concern no translation (INTEL-QI-11)."""
    assert isinstance(only(QI, kind | 0x10, 0), NoEffect)
    assert name in QI.describe((kind | 0x10, 0))
    assert "not modelled" in QI.describe((kind | 0x10, 0))


@pytest.mark.parametrize("low", [0x1, 0x2, 0x6, 0x16, 0x27])
def test_reserved_granularities_stop_the_queue(low):
    """G has no such value in this descriptor."""
    assert isinstance(only(QI, low, 0), Illegal)


def test_am_above_mamv_stops_the_queue():
    """And only there: the last legal one is MAMV itself (INTEL-QI-6)."""
    assert isinstance(only(SMALL, PAGES, 9), Drops)
    assert isinstance(only(SMALL, PAGES, 10), Illegal)
    assert isinstance(only(QI, PAGES, 0x12), Drops)
    assert isinstance(only(QI, PAGES, 0x13), Illegal)


def test_am_beyond_the_address_space_covers_all_of_it():
    """MAMV 63 lets AM name more than 64 bits."""
    effect = only(IntelCommands(IntelFeatures(mamv=63)), PAGES, 63)
    assert (effect.first, effect.last) == (0, TOP)


def test_a_device_range_without_a_size_is_illegal():
    """S = 1 and no 0 bit from 12 up (INTEL-QI-8)."""
    assert isinstance(only(QI, 0x3, 0xFFFF_FFFF_FFFF_F001), Illegal)


def test_descriptions_name_what_is_set():
    """Name, fields with their meaning, and the range."""
    assert QI.describe((PAGES, 0x20_0049)) == (
        "IOTLB invalidate G=0x3 (page in domain) DW=0x1 DR=0x1 DID=0x1234 AM=0x9 IH=0x1 address=0x200"
        " covers [0x200000, 0x3fffff]"
    )
    assert QI.describe(QI.wait(0x1000, 7)) == "wait SW=0x1 FN=0x1 status data=0x7 status address=0x400"
    assert "covers [0x200000, 0x3fffff]" in QI.describe((0x8001_0000_0003, 0x2F_F001))

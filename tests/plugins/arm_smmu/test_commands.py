"""Commands against words written by hand from ARM-CMD-* and ARM-TLBI-*."""

from functools import cache

import pytest
from arm_commands import G1, K4, M2, leaves, made, table
from hypothesis import given
from hypothesis import strategies as st

from hitless.hardware.facts import Completes, Drops, DropsStructure, Illegal, Match, NoEffect
from hitless.refresh.commands import Target
from hitless_arm_smmu.commands import range_codes

RIL = made()
PLAIN = made(ril=False)
TAG = 0x1234
HEAD = 0x1234_0000_002A


def read_ipa(words: tuple[int, ...]) -> dict[str, int]:
    """The fields of a TLBI_S2_IPA by their bit positions."""
    whole = words[0] | words[1] << 64
    assert whole & 0xFF == 0x2A
    bits = {"num": (16, 12), "scale": (24, 20), "vmid": (47, 32), "leaf": (64, 64), "ttl": (73, 72), "tg": (75, 74)}
    fields = {name: whole >> lo & (1 << hi - lo + 1) - 1 for name, (hi, lo) in bits.items()}
    fields["ipa"] = (whole >> 76 & (1 << 40) - 1) << 12
    known = sum(((1 << hi - lo + 1) - 1) << lo for hi, lo in (*bits.values(), (7, 0), (115, 76)))
    assert not whole & ~known
    return fields


def covered(words: tuple[int, ...]) -> tuple[int, int]:
    """What a TLBI_S2_IPA with TG 4K, or with one address, covers: half-open."""
    found = read_ipa(words)
    return found["ipa"], found["ipa"] + (found["num"] + 1 << found["scale"]) * K4


# -- encoding


@pytest.mark.parametrize(
    ("target", "words"),
    [
        # one page: the level alone keeps the range form legal
        (leaves(0x1234_5678_9000, K4, 0), (HEAD, 0x1234_5678_9000 | 0x701)),
        # one 2M block: 1 * 2**9 granules, TTL 2
        (leaves(0x4020_0000, M2, 1), (HEAD | 9 << 20, 0x4020_0000 | 0x601)),
        # one 1G block: 1 * 2**18 granules, TTL 1
        (leaves(0x4000_0000, G1, 2), (HEAD | 18 << 20, 0x4000_0000 | 0x501)),
        # three 2M blocks: NUM 2
        (leaves(0x4020_0000, 3 * M2, 1), (HEAD | 2 << 12 | 9 << 20, 0x4020_0000 | 0x601)),
        # 2M and 1G of tables: Leaf = 0, no TTL
        (table(0x4020_0000, 21), (HEAD | 9 << 20, 0x4020_0000 | 0x400)),
        (table(0x4000_0000, 30), (HEAD | 18 << 20, 0x4000_0000 | 0x400)),
        # leaves of no known level: Leaf = 1, no TTL
        (Target(0x4020_0000, 0x403F_FFFF, 21, None, False), (HEAD | 9 << 20, 0x4020_0000 | 0x401)),
        # one granule of no known level has no range form
        (Target(0x5000, 0x5FFF, 12, None, False), (HEAD, 0x5001)),
        (table(0x5000, 12), (HEAD, 0x5000)),
        # the last page of the input space
        (leaves((1 << 48) - K4, K4, 0), (HEAD, 0xFFFF_FFFF_F000 | 0x701)),
    ],
)
def test_invalidation_by_range(target, words):
    """One command, with the level of the leaf that was there, and Leaf = 0 only where a pointer went."""
    assert RIL.invalidate(target, TAG) == [words]


def test_uneven_range_takes_several_commands():
    """1,025 pages are 1 and then 1,024, lowest first."""
    assert RIL.invalidate(leaves(0x7000, 1025 * K4, 0), 1) == [
        (0x1_0000_002A, 0x7701),
        (0x1_0000_002A | 10 << 20, 0x8701),
    ]


@given(first=st.integers(0, (1 << 36) - 1), granules=st.integers(1, 1 << 36))
def test_ranges_cover_exactly_the_target(first, granules):
    """Commands follow each other without gap or overlap, and every code fits its field."""
    at = start = first << 12
    for address, num, scale in range_codes(start, start + granules * K4 - 1):
        assert address == at
        assert 0 <= num <= 31
        assert 0 <= scale <= 31
        at += (num + 1 << scale) * K4
    assert at == start + granules * K4


@given(level=st.integers(0, 2), first=st.integers(0, 1 << 15), count=st.integers(1, 1 << 17))
def test_addresses_are_aligned_to_the_level_that_ttl_names(level, first, count):
    """Whole leaves stay whole: no command with TTL begins or ends inside a leaf (ARM-TLBI-3)."""
    size = 1 << 12 + 9 * level
    at = first * size
    for words in RIL.invalidate(leaves(first * size, count * size, level), TAG):
        found, (start, end) = read_ipa(words), covered(words)
        assert (found["ttl"], found["tg"], found["leaf"], found["vmid"]) == (3 - level, 1, 1, TAG)
        assert start == at
        assert start % size == 0
        assert end % size == 0
        at = end
    assert at == (first + count) * size


@cache
def fewest(limit: int) -> list[int]:
    """The least number of terms m * 2**s, 1 <= m <= 32, that sum up to each number below the limit."""
    terms = sorted({m << s for m in range(1, 33) for s in range(12) if m << s < limit})
    best = [0]
    for n in range(1, limit):
        best.append(1 + min(best[n - term] for term in terms if term <= n))
    return best


def test_ranges_take_as_few_commands_as_can_be():
    """No other choice of NUM and SCALE covers a range exactly with fewer commands (E1)."""
    limit = 3000
    assert [len(list(range_codes(0, n * K4 - 1))) for n in range(1, limit)] == fewest(limit)[1:]


def test_whole_input_space_is_one_command():
    """2**36 granules are 32 * 2**31."""
    assert list(range_codes(0, (1 << 48) - 1)) == [(0, 31, 31)]


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (leaves(0x4000_0000, G1, 2), [(HEAD, 0x4000_0001)]),
        (leaves(0x4020_0000, 2 * M2, 1), [(HEAD, 0x4020_0001), (HEAD, 0x4040_0001)]),
        (leaves(0x5000, K4, 0), [(HEAD, 0x5001)]),
        (table(0x4020_0000, 21), [(HEAD, 0x4020_0000 + i * K4) for i in range(512)]),
        (table(0x4000_0000, 30), [(0x1234_0000_0028, 0)]),
        (leaves(0, 513 * K4, 0), [(0x1234_0000_0028, 0)]),
    ],
    ids=["1g", "two-2m", "4k", "table-2m", "table-1g", "513-pages"],
)
def test_invalidation_without_ril(target, words):
    """One address a leaf, one a granule below a pointer, and the whole VMID above the declared threshold."""
    assert PLAIN.invalidate(target, TAG) == words


def test_whole_tag_is_vmall():
    """TLBI_S12_VMALL with the VMID in 47:32 (ARM-CMD-3)."""
    assert RIL.invalidate_tag(TAG) == [(0x1234_0000_0028, 0)]


@pytest.mark.parametrize(
    ("first", "last", "commands"),
    [
        (0x5000, 0x5FFF, [(0x5000, 0)]),
        (0x4020_0000, 0x403F_FFFF, [(0x4020_0000, 9)]),
        (0x4000_0000, 0x7FFF_FFFF, [(0x4000_0000, 18)]),
        (0x1F_F000, 0x3F_FFFF, [(0x1F_F000, 0), (0x20_0000, 9)]),
        (0, (1 << 64) - 1, [(0, 52)]),
        ((1 << 64) - 4096, (1 << 64) - 1, [(0xFFFF_FFFF_FFFF_F000, 0)]),
    ],
)
def test_device_invalidation(first, last, commands):
    """ATC_INV blocks of 4K * 2**Size, aligned to their size, for the device's stream, without SSID (ARM-CMD-5)."""
    found = RIL.invalidate_device(Target(first, last, 12, 0, False), 0x8001)
    assert found == [(0x8001_0000_0040, address | size) for address, size in commands]


def test_a_wait_stands_before_the_devices_commands():
    """TLBI, SYNC, ATC_INV, SYNC (ARM-SYNC-4)."""
    assert RIL.atc_after_wait is True


@pytest.mark.parametrize(("coherent", "attributes"), [(True, 0xFC0_0000), (False, 0x100_0000)])
def test_wait_writes_32_bits_by_msi(coherent, attributes):
    """CS = 1, MSIData in 63:32, MSIAddress[55:2] in 119:66; write-back where the caches meet (ARM-CMD-6)."""
    commands = made(coherent=coherent)
    assert commands.wait(0x12_3456_7008, 7) == (0x7_0000_1046 | attributes, 0x12_3456_7008)


def test_wait_keeps_data_to_32_bits():
    """A number that has outgrown the field is cut to its low 32 bits and spoils nothing else."""
    assert RIL.wait(0x1000, 0x5_0000_0009) == RIL.wait(0x1000, 9)


# -- decoding


def test_every_command_that_is_encoded_is_legal():
    """What the encoder makes, the decoder understands, with RIL and without."""
    targets = [leaves(0x4000_0000, s, n) for s, n in ((K4, 0), (M2, 1), (G1, 2), (3 * M2, 1))]
    for commands in (RIL, PLAIN):
        for target in (*targets, table(0x4000_0000, 21), table(0x4000_0000, 30), table(0x5000, 12)):
            for words in [*commands.invalidate(target, TAG), *commands.invalidate_device(target, 5)]:
                (effect,) = commands.decode(words)
                assert isinstance(effect, Drops)
                assert effect.tables >= (target.tables and effect.device is None)


def test_decode_of_a_range_with_level():
    """Only leaves of that level, piece by piece, and no pointers (ARM-TLBI-3, ARM-TLBI-4)."""
    (drops,) = RIL.decode((0x7_0090_002A, 0x4020_0000 | 0x601))
    assert (drops.tag, drops.first, drops.last) == (7, 0x4020_0000, 0x403F_FFFF)
    assert drops.leaves
    assert not drops.tables
    assert drops.leaf_levels == frozenset({1})
    assert drops.leaf_match is Match.PIECE_OVERLAPS
    assert drops.device is None


@pytest.mark.parametrize(("ttl", "core", "scale"), [(3, 0, 0), (2, 1, 9), (1, 2, 18)])
def test_ttl_is_arms_own_level(ttl, core, scale):
    """TTL 3 names pages, 1 the 1G blocks."""
    (drops,) = RIL.decode((0x2A | scale << 20, 0x4000_0000 | 0x401 | ttl << 8))
    assert drops.leaf_levels == frozenset({core})
    assert drops.last == 0x4000_0000 + (1 << 12 + scale) - 1


def test_decode_of_a_range_without_level():
    """Leaves of every level, and with Leaf = 0 every pointer (ARM-TLBI-4)."""
    (drops,) = RIL.decode((0x7_0090_202A, 0x4020_0000 | 0x400))
    assert drops.tables
    assert drops.leaf_levels is None
    assert (drops.first, drops.last) == (0x4020_0000, 0x4020_0000 + 3 * M2 - 1)


@pytest.mark.parametrize(("ttl", "tables"), [(1, False), (2, False), (3, True)])
def test_pointers_go_down_to_the_level_above_ttl(ttl, tables):
    """With TTL only pointers above its level are sure to go: all of them for TTL 3 alone (ARM-TLBI-5)."""
    (drops,) = RIL.decode((0x2A | 18 << 20, 0x4000_0000 | 0x400 | ttl << 8))
    assert drops.tables is tables


def test_decode_of_one_address():
    """Without TG every leaf that contains the address goes, whole (ARM-TLBI-2)."""
    for commands in (RIL, PLAIN):
        (drops,) = commands.decode((0x7_0000_002A, 0x4020_3001))
        assert (drops.tag, drops.first, drops.last, drops.tables) == (7, 0x4020_3000, 0x4020_3FFF, False)
        assert drops.leaf_match is Match.LEAF_OVERLAPS
        assert drops.leaf_levels is None
        assert commands.decode((0x7_0000_002A, 0x4020_3000))[0].tables


@pytest.mark.parametrize(
    "words",
    [(0x2A | 9 << 20, 0x4020_1601), (0x2A | 18 << 20, 0x4020_0501), (0x2A | 9 << 20, 0x4020_0001), (0x2A, 0x4020_0301)],
    ids=["inside-2m", "inside-1g", "range-without-tg", "ttl-without-tg"],
)
def test_unpredictable_commands_promise_nothing(words):
    """A misaligned address with TTL, or a range without TG, is taken but drops nothing for sure (ARM-TLBI-3)."""
    assert RIL.decode(words) == []


@pytest.mark.parametrize("tg", [2, 3])
def test_other_granules_concern_nothing_here(tg):
    """Entries made with 4K are not sure to go (ARM-TLBI-12)."""
    assert RIL.decode((0x2A | 9 << 20, 0x4020_0001 | tg << 10)) == [NoEffect("ARM-TLBI-12")]
    (drops,) = RIL.decode((0x12 | 9 << 20, 0x4020_0001 | tg << 10))  # stage 1's granule is not known here
    assert isinstance(drops, Drops)


def test_range_form_of_nothing_is_illegal():
    """TG with NUM, SCALE and TTL all 0 stops the queue (ARM-TLBI-7)."""
    (illegal,) = RIL.decode((0x2A, 0x5401))
    assert isinstance(illegal, Illegal)
    assert illegal.source == "ARM-TLBI-7"


@pytest.mark.parametrize("words", [(0x2A | 1 << 12, 0), (0x2A | 1 << 20, 0), (0x2A, 0x400), (0x2A, 0x300)])
def test_range_fields_need_ril(words):
    """A unit without RIL refuses NUM, SCALE, TG and TTL (ARM-TLBI-1)."""
    (illegal,) = PLAIN.decode(words)
    assert isinstance(illegal, Illegal)
    assert illegal.source == "ARM-TLBI-1"


@pytest.mark.parametrize(
    "words",
    [
        (0xFF, 0),
        (0x00, 0),
        (0x2A | 1 << 8, 0),
        (0x2A | 1 << 10, 0),
        (0x2A | 1 << 17, 0),
        (0x2A | 1 << 25 | 1 << 12, 1 << 10),
        (0x2A | 1 << 48, 0),
        (0x2A, 0x2),
        (0x2A, 0x80),
        (0x2A, 1 << 52),
        (0x28 | 1 << 12, 0),
        (0x28 | 1 << 48, 0),
        (0x28, 1),
        (0x30 | 1 << 32, 0),
        (0x40 | 1 << 10, 0),
        (0x40, 1 << 6),
        (0x40, 53),
        (0x46 | 3 << 12, 0x1000),
        (0x46 | 1 << 12 | 1 << 14, 0x1000),
        (0x46 | 1 << 12, 0x1001),
        (0x46 | 1 << 12, 1 << 63),
        (0x03, 2),
        (0x04, 0x20),
        (0x03 | 1 << 10, 0),
        (0x05 | 1 << 10, 0),
        (0x06, 1),
        (0x10 | 1 << 48, 0),
        (0x11, 1),
        (0x12 | 1 << 26, 0),
        (0x13 | 1 << 48, 0),
        (0x12, 1 << 7),
        (0x20 | 1 << 32, 0),
        (0x44 | 3 << 12, 0),
        (0x44, 1 << 16),
        (0x01, 0),
        (0x41, 0),
    ],
)
def test_reserved_bits_and_unknown_opcodes_are_illegal(words):
    """The queue stops with CERROR_ILL (ARM-CMD-8)."""
    (effect,) = RIL.decode(words)
    assert isinstance(effect, Illegal)
    assert effect.why


@pytest.mark.parametrize("opcode", [0x28, 0x2A])
def test_vmid_width_is_checked(opcode):
    """Without VMID16 a VMID beyond 8 bits is illegal."""
    narrow = made(vmid16=False)
    assert isinstance(narrow.decode((opcode | 0x100 << 32, 0))[0], Illegal)
    assert isinstance(narrow.decode((opcode | 0xFF << 32, 0))[0], Drops)


def test_decode_of_whole_tags():
    """VMALL drops all of a VMID, NSNH_ALL all of everything (ARM-CMD-3)."""
    (vmall,) = RIL.decode((0x7_0000_0028, 0))
    assert (vmall.tag, vmall.leaves, vmall.tables, vmall.first, vmall.last) == (7, True, True, 0, (1 << 64) - 1)
    (every,) = RIL.decode((0x30, 0))
    assert (every.tag, every.leaves, every.tables) == (None, True, True)


def test_decode_of_device_invalidation():
    """One device's ATC, a block; a misaligned block promises nothing (ARM-CMD-5)."""
    (drops,) = RIL.decode((0x8001_0000_0040, 0x4020_0009))
    assert (drops.device, drops.tag, drops.first, drops.last) == (0x8001, None, 0x4020_0000, 0x403F_FFFF)
    assert (drops.pasid, drops.every_pasid) == (None, False)
    (every,) = RIL.decode((0x8001_0000_0040, 52))
    assert (every.first, every.last) == (0, (1 << 64) - 1)
    assert RIL.decode((0x8001_0000_0040, 0x4020_1009)) == []


def test_decode_of_device_invalidation_by_pasid():
    """With SSV one PASID's translations go, with G besides those of every PASID; G alone counts for nothing."""
    (one,) = RIL.decode((0x8001_0000_5840, 0))
    assert (one.pasid, one.every_pasid) == (5, False)
    (every,) = RIL.decode((0x8001_0000_5A40, 0))
    assert (every.pasid, every.every_pasid) == (None, True)
    (none,) = RIL.decode((0x8001_0000_5240, 0))
    assert (none.pasid, none.every_pasid) == (None, False)


def test_decode_of_a_wait():
    """The completion word is MSIData at MSIAddress, 32 bits; other completion signals write nothing."""
    (done,) = RIL.decode((0x9_0FC0_1046, 0x12_3456_7008))
    assert isinstance(done, Completes)
    assert (done.store_pa, done.value, done.bits) == (0x12_3456_7008, 9, 32)
    assert done.drains_reads
    assert done.drains_writes
    assert isinstance(RIL.decode((0x46, 0))[0], NoEffect)
    assert isinstance(RIL.decode((0x2046, 0x1000))[0], NoEffect)


@pytest.mark.parametrize(
    ("words", "drops"),
    [
        ((0x8001_0000_0003, 1), DropsStructure("ARM-CMD-2, ARM-STE-4", frozenset({"ste"}), 0x8001)),
        ((0x8001_0000_0003, 0), DropsStructure("ARM-CMD-2, ARM-STE-4", frozenset({"ste", "l1std"}), 0x8001)),
        ((0x8001_0000_0004, 31), DropsStructure("ARM-CMD-2, ARM-STE-4")),
        ((0x8000_0000_0004, 7), DropsStructure("ARM-CMD-2, ARM-STE-4", frozenset({"ste"}), 0x8000, ~0xFF)),
        ((0x8000_0000_0004, 0), DropsStructure("ARM-CMD-2, ARM-STE-4", frozenset({"ste"}), 0x8000, ~1)),
        ((0x20_0000_5005, 1), DropsStructure("ARM-CMD-9", frozenset({"cd"}), 0x20, pasid=5)),
        ((0x20_0000_5005, 0), DropsStructure("ARM-CMD-9", frozenset({"cd", "l1cd"}), 0x20, pasid=5)),
        ((0x20_0000_0006, 0), DropsStructure("ARM-CMD-10", frozenset({"cd", "l1cd"}), 0x20)),
    ],
)
def test_configuration_commands_drop_structures(words, drops):
    """CFGI_* by stream, substream, Leaf and range (ARM-CMD-2, ARM-CMD-9, ARM-CMD-10)."""
    assert RIL.decode(words) == [drops]


@pytest.mark.parametrize(
    ("words", "tag", "mask", "stages"),
    [
        ((0x7_0000_0010, 0), 7, 0xFFFF, {"1", "12"}),
        ((0x3_0007_0000_0011, 0), 0x3_0007, -1, {"1", "12"}),
        ((0x7_0000_0028, 0), 7, 0xFFFF, {"1", "2", "12"}),
        ((0x30, 0), None, -1, {"1", "2", "12"}),
        ((0x3_0007_0000_0012, 0x1000), 0x3_0007, -1, {"1", "12"}),
        ((0x7_0000_0013, 0x1000), 7, 0xFFFF, {"1", "12"}),
        ((0x7_0000_002A, 0x1000), 7, 0xFFFF, {"2"}),
    ],
    ids=["nh-all", "nh-asid", "s12-vmall", "nsnh-all", "nh-va", "nh-vaa", "s2-ipa"],
)
@pytest.mark.parametrize("commands", [RIL, made(1)], ids=["stage2", "stage1"])
def test_tags_and_stages_of_tlbis(commands, words, tag, mask, stages):
    """Stage 1 goes by VMID and ASID, or by VMID alone; S2_IPA leaves combined entries (ARM-TLBI-9, ARM-TLBI-16)."""
    (drops,) = commands.decode(words)
    assert isinstance(drops, Drops)
    assert (drops.tag, drops.tag_mask, drops.stages) == (tag, mask, frozenset(stages))
    assert drops.tables
    assert drops.leaves


@pytest.mark.parametrize("words", [(0x20, 0), (0x8001_0000_0044, 0), (0x8001_0000_1044, 5), (0x8001_0000_2044, 0xFFFF)])
def test_commands_that_concern_nothing_here(words):
    """EL2's own streams, and answers to stalled requests (ARM-CMD-14, ARM-CMD-15)."""
    (effect,) = RIL.decode(words)
    assert isinstance(effect, NoEffect)

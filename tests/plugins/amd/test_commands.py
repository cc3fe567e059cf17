"""Commands against words written by hand from AMD-CMD-* and AMD-INV-*."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitless.hardware.facts import Completes, Drops, DropsStructure, Illegal, Match, NoEffect
from hitless.refresh.commands import Target
from hitless_amd.commands import AmdCommands, covered, size_code
from hitless_amd.features import AmdFeatures
from hitless_amd.v1 import AmdV1
from hitless_amd.v2 import AmdV2

V1 = AmdCommands(AmdV1(), AmdFeatures())
V2 = AmdCommands(AmdV2(), AmdFeatures())
K4, M2, G1 = 1 << 12, 1 << 21, 1 << 30
LAST = (1 << 64) - 1
WHOLE = 0x7FFF_FFFF_FFFF_F000


def target(first: int, size: int, *, tables: bool = False) -> Target:
    """Leaves, or pointers, of a range."""
    return Target(first, first + size - 1, 12, None, tables)


def hand_covered(word: int) -> tuple[int, int]:
    """What the sheet's table of size codes says of a second word."""
    if not word & 1:
        return word >> 12 << 12, word | 0xFFF
    bits = [word >> position & 1 for position in range(12, 52)]
    if all(bits):
        return 0, LAST
    size = 1 << 12 + bits.index(0) + 1
    return word // size * size, word // size * size + size - 1


# -- encoding


@pytest.mark.parametrize(
    ("first", "size", "tables", "word"),
    [
        (0x1000, K4, False, 0x1000),
        (0x2000, 2 * K4, False, 0x2001),
        (0x20_0000, M2, False, 0x2F_F001),
        (0x20_0000, M2, True, 0x2F_F003),
        (0x4000_0000, G1, False, 0x5FFF_F001),
        (0, 1 << 52, False, 0x7_FFFF_FFFF_F001),
        (0, 1 << 53, False, WHOLE | 1),
        (0, 1 << 64, True, WHOLE | 3),
    ],
)
def test_size_codes_of_the_sheet(first, size, tables, word):
    """The derived examples; the whole space above 2**52 (AMD-CMD-8, AMD-CMD-9)."""
    assert V1.invalidate(target(first, size, tables=tables), 0x1234) == [(0x3000_1234_0000_0000, word)]


def test_an_uneven_range_is_several_blocks():
    """Each naturally aligned, none larger than asked for (E1)."""
    assert V1.invalidate(target(0x3000, 5 * K4), 7) == [
        (0x3000_0007_0000_0000, 0x3000),
        (0x3000_0007_0000_0000, 0x5001),
    ]


@given(lg2=st.integers(12, 52), index=st.integers(0, (1 << 12) - 1))
def test_codes_cover_exactly_what_was_asked(lg2, index):
    """Of every size that the code has, by the sheet's rule and by the decoder."""
    start = (index << lg2) & LAST
    word = size_code(start, lg2)
    assert hand_covered(word) == covered(word) == (start, start + (1 << lg2) - 1)


@pytest.mark.parametrize("word", [0xF_FFFF_FFFF_F001, 0x1F_FFFF_FFFF_F001, WHOLE | 1, LAST])
def test_forms_of_the_whole_space(word):
    """Bits 51:12 all 1, whatever stands above them (AMD-CMD-9)."""
    assert covered(word) == hand_covered(word) == (0, LAST)


@given(word=st.integers(0, LAST))
def test_the_decoder_reads_every_address_word(word):
    """As the sheet says, whatever the address."""
    assert covered(word) == hand_covered(word)


def test_a_v2_table_is_invalidated_by_pasid():
    """Tag DomainID | PASID << 16: PASID in 19:0, GN set (AMD-CMD-4, AMD-INV-15)."""
    tag = 0x1234 | 0xABCDE << 16
    assert V2.invalidate(target(0x20_0000, M2), tag) == [(0x3000_1234_000A_BCDE, 0x2F_F005)]
    assert V2.invalidate(target(0x20_0000, M2, tables=True), tag) == [(0x3000_1234_000A_BCDE, 0x2F_F007)]
    assert V2.invalidate_tag(tag) == [(0x3000_1234_000A_BCDE, WHOLE | 7)]


def test_a_whole_domain():
    """All pages, pointers too."""
    assert V1.invalidate_tag(0xBEEF) == [(0x3000_BEEF_0000_0000, WHOLE | 3)]


def test_nothing_more_for_a_nested_domain():
    """A command without GN covers nested entries (AMD-INV-10)."""
    assert not V1.invalidate_nested(1)


@pytest.mark.parametrize(
    ("commands", "pasid", "words"),
    [
        (V1, None, (0x4000_0108_2000_0108, 0x2F_F001)),
        (V1, 0xABCDE, (0x4ADE_0108_20BC_0108, 0x2F_F005)),
        (V2, None, (0x4000_0108_2000_0108, 0x2F_F005)),
        (V2, 0x12345, (0x4145_0108_2023_0108, 0x2F_F005)),
    ],
)
def test_the_devices_cache(commands, pasid, words):
    """PASID[7:0] in 55:48, [15:8] in 23:16, [19:16] in 59:56; QueueID is the device (AMD-CMD-5, AMD-CMD-16)."""
    assert commands.invalidate_device(target(0x20_0000, M2), 0x108, pasid) == [words]


def test_a_wait():
    """S, the address in 51:3, the word to store (AMD-CMD-2)."""
    assert V1.wait(0xF_FFFF_FFFF_FFF8, 0x1122_3344_5566_7788) == (0x100F_FFFF_FFFF_FFF9, 0x1122_3344_5566_7788)


# -- decoding


def test_pages_of_a_domain():
    """Only entries inside the range; nested ones of every PASID too (AMD-INV-2, AMD-INV-3, AMD-INV-10)."""
    (drops,) = V1.decode((0x3000_1234_0000_0000, 0x2F_F003))
    assert isinstance(drops, Drops)
    assert (drops.tag, drops.tag_mask, drops.stages) == (0x1234, 0xFFFF, {"2", "12"})
    assert (drops.leaves, drops.tables, drops.first, drops.last) == (True, True, 0x20_0000, 0x3F_FFFF)
    assert drops.leaf_match is drops.table_match is Match.PIECE_INSIDE
    assert drops.of_tag(0x1234 | 5 << 16)
    assert not drops.of_tag(0x1235)
    assert not V1.decode((0x3000_1234_0000_0000, 0x2F_F001))[0].tables


def test_pages_of_a_pasid():
    """With GN: its guest translations and the combined ones, of that PASID alone (AMD-INV-15)."""
    (drops,) = V2.decode((0x3000_1234_000A_BCDE, 0x2F_F005))
    assert (drops.tag, drops.stages) == (0x1234 | 0xABCDE << 16, {"1", "12"})
    assert drops.of_tag(0x1234 | 0xABCDE << 16)
    assert not drops.of_tag(0x1234)


def test_the_whole_space_of_a_pasid_drops_its_gcr3_entry():
    """With PDE, and only in that form (AMD-INV-13)."""
    drops, structure = V2.decode((0x3000_1234_0000_0005, WHOLE | 7))
    assert (drops.first, drops.last) == (0, LAST)
    assert structure == DropsStructure("AMD-INV-13", frozenset({"gcr3"}), tag=0x1234 | 5 << 16)
    assert len(V2.decode((0x3000_1234_0000_0005, WHOLE | 5))) == 1
    assert len(V2.decode((0x3000_1234_0000_0005, 0x2F_F007))) == 1
    assert len(V1.decode((0x3000_1234_0000_0000, WHOLE | 3))) == 1


def test_a_device_table_entry():
    """INVALIDATE_DEVTAB_ENTRY of one device (AMD-INV-12)."""
    (drops,) = V1.decode((0x2000_0000_0000_0108, 0))
    assert isinstance(drops, DropsStructure)
    assert (drops.device, "dte" in drops.structures, "gcr3" in drops.structures) == (0x108, True, False)


@pytest.mark.parametrize(
    ("words", "pasids"),
    [
        ((0x4000_0108_2000_0108, 0x2F_F001), [None]),
        ((0x4ADE_0108_20BC_0108, 0x2F_F005), [0xABCDE]),
        ((0x4000_0108_2000_0108, 0x2F_F005), [0, None]),
    ],
)
def test_pages_of_a_devices_cache(words, pasids):
    """PASID 0 with GN stands for requests without a PASID too (AMD-CMD-16)."""
    drops = V1.decode(words)
    assert [each.pasid for each in drops] == pasids
    assert {(each.device, each.first, each.last) for each in drops} == {(0x108, 0x20_0000, 0x3F_FFFF)}


def test_a_wait_completes():
    """And drains reads and writes (AMD-WAIT-2)."""
    assert V1.decode((0x1000_0000_0000_2009, 77)) == [Completes("AMD-WAIT-1, AMD-WAIT-2", 0x2008, 77, 64)]
    assert V1.decode((0x1000_0000_0000_0002, 0)) == [NoEffect("AMD-CMD-2")]


def test_invalidate_all():
    """Everything, structures too; only with EFR.IA (AMD-CMD-7, AMD-INV-14)."""
    drops, structures = V1.decode((0x8000_0000_0000_0000, 0))
    assert (drops.tag, drops.tables, drops.first, drops.last) == (None, True, 0, LAST)
    assert structures == DropsStructure("AMD-INV-14")
    (illegal,) = AmdCommands(AmdV1(), AmdFeatures(ia=False)).decode((0x8000_0000_0000_0000, 0))
    assert isinstance(illegal, Illegal)
    assert "EFR.IA" in illegal.why


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ((0x5000_0000_0000_FFFF, 0), "INVALIDATE_INTERRUPT_TABLE DeviceID=0xffff"),
        (
            (0x600A_BCDE_FF00_0108, 0x14),
            "PREFETCH_IOMMU_PAGES DeviceID=0x108 PFCount=0xff PASID=0xabcde GN=0x1 Inval=0x1 covers [0x0, 0xfff]",
        ),
        (
            (0x700A_BCDE_0000_0108, 0xF3FF_0000_0004),
            "COMPLETE_PPR_REQUEST DeviceID=0x108 PASID=0xabcde GN=0x1 tag=0x3ff response=0xf",
        ),
    ],
)
def test_commands_that_concern_nothing_here(words, name):
    """Legal, described field by field, without effect (AMD-CMD-12 to AMD-CMD-14)."""
    assert isinstance(V1.decode(words)[0], NoEffect)
    assert V1.describe(words) == name


@pytest.mark.parametrize(("opcode", "name"), [(9, "INSERT_GUEST_EVENT"), (10, "RESET_VMMIO")])
def test_commands_of_virtual_iommus_are_named(opcode, name):
    """And refused (AMD-CMD-15)."""
    (illegal,) = V1.decode((opcode << 60, 0))
    assert isinstance(illegal, Illegal)
    assert name in illegal.why
    assert V1.describe((opcode << 60, 0)) == name


@pytest.mark.parametrize("opcode", [0, 0xB, 0xC, 0xD, 0xE, 0xF])
def test_unknown_opcodes(opcode):
    """Illegal commands (AMD-CMD-11)."""
    (illegal,) = V1.decode((opcode << 60, 0))
    assert isinstance(illegal, Illegal)
    assert hex(opcode) in illegal.why
    assert V1.describe((opcode << 60, 0)) == f"unknown opcode {opcode:#x}"


# Reserved bits by hand: (word 0, word 1) of each opcode.
RESERVED = {
    1: (0x0FF0_0000_0000_0000, 0),
    2: (0x0FFF_FFFF_FFFF_0000, LAST),
    3: (0x0FFF_0000_FFF0_0000, 0xFF8),
    4: (0, 0xFCA),
    5: (0x0FFF_FFFF_FFFF_0000, LAST),
    6: (0x0FF0_0000_00FF_0000, 0xFEA),
    7: (0x0FF0_0000_FFFF_0000, 0xFFFF_0C00_FFFF_FFFB),
    8: (0x0FFF_FFFF_FFFF_FFFF, LAST),
}


@pytest.mark.parametrize("opcode", RESERVED)
def test_each_reserved_bit_is_illegal(opcode):
    """And each other bit is not (AMD-CMD-10)."""
    for word, mask in enumerate(RESERVED[opcode]):
        for position in range(60 if word == 0 else 64):
            words = [opcode << 60, 0]
            words[word] |= 1 << position
            illegal = any(isinstance(effect, Illegal) for effect in V1.decode(tuple(words)))
            assert illegal == bool(mask >> position & 1), f"word {word} bit {position}"


def test_what_is_encoded_is_legal():
    """Every encoder's words decode without a fault."""
    for commands in (V1, V2):
        made = [
            *commands.invalidate(Target(0, LAST, 12, None, tables=True), 0xFFFF),
            *commands.invalidate_tag(0xFFFF),
            *commands.invalidate_device(Target(0x1000, 0x8FFF, 12, 0, tables=False), 0xFFFF, 0xFFFFF),
            commands.wait(0x1000, 1),
        ]
        assert not [effect for words in made for effect in commands.decode(words) if isinstance(effect, Illegal)]


def test_layouts_by_name():
    """One for each opcode that is modelled."""
    assert len(V1.layouts) == 8
    assert V1.layouts["INVALIDATE_IOMMU_PAGES"].encode(DomainID=0x1234, S=1, address=0x2FF) == (
        0x3000_1234_0000_0000,
        0x2F_F001,
    )

"""Descriptors of scalable mode, and those for structures, against words written by hand (INTEL-QI-*, INTEL-INV-*)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitless.hardware.facts import Completes, Drops, DropsStructure, Illegal, NoEffect
from hitless.refresh.commands import Target
from hitless_intel.commands import IntelCommands
from hitless_intel.features import IntelFeatures

FIRST, SECOND = "intel/first-stage", "intel/second-stage"
LEGACY = IntelCommands(IntelFeatures())
SS = IntelCommands(IntelFeatures(mode="scalable"))
FS = IntelCommands(IntelFeatures(), FIRST)
M2 = 1 << 21
TOP = (1 << 64) - 1
DID, PASID = 0x1234, 0xA_BCDE
TAG = DID | PASID << 16
LOW = PASID << 32 | DID << 16
CONTEXTS = {"root", "scalable-root", "context", "scalable-context"}
PASIDS = {"pasid-dir", "pasid"}


def place(**bits: int) -> tuple[int, ...]:
    """Four words from values by the position of their lowest bit: ``b16=DID``."""
    whole = 0
    for name, value in bits.items():
        whole |= value << int(name[1:])
    return tuple(whole >> 64 * i & TOP for i in range(4))


# -- words


def test_a_descriptor_has_256_bits_in_scalable_mode():
    """Also for first-stage tables, which exist there only, and in legacy mode where IQA.DW says so (INTEL-QI-1)."""
    assert (LEGACY.words, SS.words, FS.words) == (2, 4, 4)
    wide = IntelCommands(IntelFeatures(wide_descriptors=True))
    target = Target(0x20_0000, 0x3F_FFFF, 21, 1, False)
    for commands in (SS, wide):
        assert commands.words == 4
        assert commands.invalidate(target, DID) == [(0x1234_00F2, 0x20_0049, 0, 0)]
        assert commands.wait(0x1000, 7) == (0x7_0000_0065, 0x1000, 0, 0)
        assert commands.invalidate_device(target, 0x8001) == [(0x8001_0000_0003, 0x2F_F001, 0, 0)]


@pytest.mark.parametrize(
    ("target", "high"),
    [
        (Target(0x1000, 0x1FFF, 12, 0, False), 0x1040),
        (Target(0x20_0000, 0x3F_FFFF, 21, 1, False), 0x20_0049),
        (Target(0x20_0000, 0x3F_FFFF, 21, None, True), 0x20_0009),
        (Target(TOP - M2 + 1, TOP, 21, None, True), 0xFFFF_FFFF_FFE0_0009),
    ],
)
def test_first_stage_targets_are_pasid_iotlb_descriptors(target, high):
    """Type 6, G 3 in 5:4, DID 31:16, PASID 51:32; AM, IH and address above; upper canonical half too (INTEL-QI-15)."""
    assert FS.invalidate(target, TAG) == [(place(b0=6, b4=3, b16=DID, b32=PASID)[0], high, 0, 0)]


def test_all_of_a_first_stage_tag_is_one_command():
    """G 2: all of the PASID (INTEL-QI-15, INTEL-INV-14)."""
    assert FS.invalidate_tag(TAG) == [place(b0=6, b4=2, b16=DID, b32=PASID)]


def test_device_tlb_of_one_pasid():
    """Type 8: SID 31:16, PASID 51:32; S is bit 11 of the high word (INTEL-QI-12)."""
    target = Target(0x20_0000, 0x3F_FFFF, 21, 1, False)
    low = place(b0=8, b16=0x8001, b32=PASID)[0]
    assert FS.invalidate_device(target, 0x8001, PASID) == [(low, 0x2F_F800, 0, 0)]
    assert FS.invalidate_device(Target(0x1000, 0x1FFF, 12, 0, False), 0x8001, PASID) == [(low, 0x1000, 0, 0)]
    assert FS.invalidate_device(target, 0x8001) == [(0x8001_0000_0003, 0x2F_F001, 0, 0)]


def test_structure_commands():
    """Context cache by device; PASID cache of one PASID, of all; IOTLB of all; all of a device (INTEL-QI-2, 12, 13)."""
    assert SS.invalidate_context(0x8001, DID) == place(b0=1, b4=3, b16=DID, b32=0x8001)
    assert SS.invalidate_pasid_entry(DID, PASID) == place(b0=7, b4=1, b16=DID, b32=PASID)
    assert SS.invalidate_every_pasid_entry() == place(b0=7, b4=3)
    assert SS.invalidate_everything() == place(b0=2, b4=1, b6=1, b7=1)
    assert SS.invalidate_whole_device(0x8001) == [
        (place(b0=3, b32=0x8001)[0], 0x7FFF_FFFF_FFFF_F001, 0, 0),
        (place(b0=8, b16=0x8001)[0], 0x7FFF_FFFF_FFFF_F801, 0, 0),
    ]


@pytest.mark.parametrize("commands", [IntelCommands(IntelFeatures(psi=False), name) for name in (SECOND, FIRST)])
def test_without_psi_nothing_is_page_selective(commands):
    """The encoder asks for all of the tag; a page-selective descriptor stops the queue (INTEL-QI-6)."""
    target = Target(0x1000, 0x1FFF, 12, 0, False)
    assert commands.invalidate(target, DID) == commands.invalidate_tag(DID)
    assert all(isinstance(each, Drops) for each in commands.decode(commands.invalidate_tag(DID)[0]))
    padding = (0,) * (commands.words - 2)
    for kind in (2, 6):
        (effect,) = commands.decode((kind | 0x30, 0x1000, *padding))
        assert isinstance(effect, Illegal)


# -- effects


@pytest.mark.parametrize("hint", [0, 1])
def test_a_page_selective_iotlb_command_drops_all_that_nested_through_it(hint):
    """Second-stage entries in the range; every first-stage and nested one of the DID, IH or not (INTEL-INV-12)."""
    second, others = SS.decode(place(b0=2, b4=3, b6=3, b16=DID, b64=9 | hint << 6, b76=0x200))
    assert (second.stages, second.tag, second.tag_mask) == ({"2"}, DID, 0xFFFF)
    assert (second.first, second.last, second.leaves, second.tables) == (0x20_0000, 0x3F_FFFF, True, not hint)
    assert (others.stages, others.tag, others.tag_mask) == ({"1", "12"}, DID, 0xFFFF)
    assert (others.first, others.last, others.leaves, others.tables) == (0, TOP, True, True)
    assert all(each.of_tag(DID | PASID << 16) and not each.of_tag(DID + 1) for each in (second, others))
    assert {(each.drains_reads, each.drains_writes) for each in (second, others)} == {(True, True)}


@pytest.mark.parametrize(("granularity", "tag"), [(1, None), (2, DID)])
def test_wider_iotlb_commands_drop_every_stage(granularity, tag):
    """Domain and global: leaves and pointers of all stages (INTEL-INV-5)."""
    (effect,) = SS.decode(place(b0=2, b4=granularity, b16=DID))
    assert (effect.stages, effect.tag) == ({"1", "2", "12"}, tag)
    assert (effect.leaves, effect.tables, effect.first, effect.last) == (True, True, 0, TOP)
    assert effect.of_tag(DID | PASID << 16)


@pytest.mark.parametrize("hint", [0, 1])
def test_a_page_selective_pasid_iotlb_command(hint):
    """First-stage and nested entries of one PASID in the range; second-stage ones stay; it drains (INTEL-INV-13)."""
    (effect,) = FS.decode(place(b0=6, b4=3, b16=DID, b32=PASID, b64=9 | hint << 6, b76=0x200))
    assert (effect.stages, effect.tag, effect.tag_mask) == ({"1", "12"}, TAG, -1)
    assert (effect.first, effect.last, effect.leaves, effect.tables) == (0x20_0000, 0x3F_FFFF, True, not hint)
    assert (effect.drains_reads, effect.drains_writes) == (True, True)


def test_a_pasid_iotlb_command_always_drains():
    """Also on a unit that cannot be asked to (INTEL-WAIT-9); the wait alone drains nothing there."""
    commands = IntelCommands(IntelFeatures(drain=False), FIRST)
    (effect,) = commands.decode(place(b0=6, b4=2, b16=DID, b32=PASID))
    assert (effect.drains_reads, effect.drains_writes) == (True, True)
    (wait,) = commands.decode(place(b0=5, b5=1, b32=7))
    assert isinstance(wait, Completes)
    assert (wait.drains_reads, wait.drains_writes) == (False, False)


@pytest.mark.parametrize("high", [0, 1 << 6, 9])
def test_a_pasid_iotlb_command_for_all_of_a_pasid(high):
    """Leaves and pointers, whatever AM, IH and address are (INTEL-INV-14)."""
    (effect,) = FS.decode((*place(b0=6, b4=2, b16=DID, b32=PASID)[:1], high, 0, 0))
    assert (effect.stages, effect.tag, effect.tag_mask) == ({"1", "12"}, TAG, -1)
    assert (effect.first, effect.last, effect.leaves, effect.tables) == (0, TOP, True, True)


@pytest.mark.parametrize(
    ("words", "pasid", "every", "first", "last"),
    [
        (place(b0=3, b32=0x8001, b76=5), None, False, 0x5000, 0x5FFF),
        (place(b0=8, b16=0x8001, b32=PASID, b76=5), PASID, False, 0x5000, 0x5FFF),
        (place(b0=8, b16=0x8001, b32=PASID, b75=1, b76=5), PASID, False, 0x4000, 0x7FFF),
        (place(b0=8, b16=0x8001, b32=PASID, b64=1, b75=1, b76=0x2FF), None, True, 0x20_0000, 0x3F_FFFF),
    ],
)
def test_device_tlb_commands_by_pasid(words, pasid, every, first, last):
    """Without PASID, of one PASID, of all with G; the device ends what it had going (INTEL-QI-8, INTEL-QI-12)."""
    (effect,) = SS.decode(words)
    assert (effect.device, effect.pasid, effect.every_pasid) == (0x8001, pasid, every)
    assert (effect.first, effect.last) == (first, last)
    assert (effect.drains_reads, effect.drains_writes) == (True, True)


def test_a_pasid_device_range_without_a_size_is_illegal():
    """S, bit 11, is set and no 0 bit stands above it (INTEL-QI-8)."""
    (effect,) = SS.decode((place(b0=8)[0], 0xFFFF_FFFF_FFFF_F800, 0, 0))
    assert isinstance(effect, Illegal)


@pytest.mark.parametrize(("fm", "left_out"), [(0, 0), (1, 0b100), (2, 0b110), (3, 0b111)])
def test_context_cache_of_a_device(fm, left_out):
    """SID and FM; in legacy mode the DID has to be the entry's too (INTEL-QI-2, INTEL-QI-14, INTEL-QI-16)."""
    words = place(b0=1, b4=3, b16=DID, b32=0x8001, b48=fm)
    (legacy,), (scalable,) = LEGACY.decode(words[:2]), SS.decode(words)
    for effect in (legacy, scalable):
        assert isinstance(effect, DropsStructure)
        assert (effect.structures, effect.device, effect.device_mask) == (CONTEXTS, 0x8001, ~left_out)
    assert (legacy.tag, legacy.tag_mask) == (DID, 0xFFFF)
    assert scalable.tag is None


def test_context_cache_of_a_domain_and_of_all():
    """By DID only in legacy mode: a scalable entry holds none (INTEL-QI-2, INTEL-QI-14)."""
    (domain,) = LEGACY.decode(place(b0=1, b4=2, b16=DID)[:2])
    assert (domain.structures, domain.device, domain.tag, domain.tag_mask) == (CONTEXTS, None, DID, 0xFFFF)
    assert isinstance(SS.decode(place(b0=1, b4=2, b16=DID))[0], NoEffect)
    for commands in (LEGACY, SS):
        (every,) = commands.decode(place(b0=1, b4=1)[: commands.words])
        assert (every.structures, every.device, every.tag) == (CONTEXTS, None, None)


def test_pasid_cache():
    """Of a domain, of one PASID, of all (INTEL-QI-13)."""
    (domain,) = SS.decode(place(b0=7, b16=DID, b32=PASID))
    assert (domain.structures, domain.tag, domain.tag_mask, domain.pasid) == (PASIDS, DID, 0xFFFF, None)
    (every,) = SS.decode(place(b0=7, b4=3, b16=DID, b32=PASID))
    assert (every.structures, every.tag, every.pasid, every.device) == (PASIDS, None, None, None)
    by_tag, by_request = SS.decode(place(b0=7, b4=1, b16=DID, b32=PASID))
    assert (by_tag.structures, by_tag.tag, by_tag.tag_mask, by_tag.pasid) == (PASIDS, TAG, -1, None)
    assert (by_request.tag, by_request.tag_mask, by_request.pasid) == (DID, 0xFFFF, PASID)


def test_with_caching_mode_what_was_not_present_goes_too():
    """Such structures have no domain: by device or PASID alone (INTEL-INV-17)."""
    features = IntelFeatures(caching_mode=True)
    (context,) = IntelCommands(features).decode(place(b0=1, b4=3, b32=0x8001)[:2])
    assert (context.device, context.tag) == (0x8001, None)
    (context,) = IntelCommands(features).decode(place(b0=1, b4=3, b16=DID, b32=0x8001)[:2])
    assert context.tag == DID
    by_tag, by_request = IntelCommands(features, FIRST).decode(place(b0=7, b4=1, b16=DID, b32=PASID))
    assert (by_tag.tag, by_request.tag, by_request.pasid) == (TAG, None, PASID)


def test_under_nesting_nothing_has_to_follow():
    """A page-selective command takes what was made through the domain with it (INTEL-INV-12)."""
    assert list(SS.invalidate_nested(DID)) == []


# -- legality


def test_the_upper_half_is_reserved():
    """Each of its bits alone stops the queue, in every descriptor (INTEL-QI-1, INTEL-QI-10)."""
    legal = [
        place(b0=1, b4=3),
        place(b0=2, b4=3),
        place(b0=3, b76=1),
        place(b0=5, b5=1),
        place(b0=6, b4=3),
        place(b0=7, b4=1),
        place(b0=8, b76=1),
    ]
    for words in legal:
        assert not any(isinstance(each, Illegal) for each in SS.decode(words))
        for at in range(128, 256):
            wrong = list(words)
            wrong[at // 64] |= 1 << at % 64
            assert isinstance(SS.decode(tuple(wrong))[0], Illegal)


def test_am_of_a_pasid_iotlb_command_is_at_most_mamv():
    """The same limit as for the IOTLB command (INTEL-QI-6)."""
    small = IntelCommands(IntelFeatures(mamv=9), FIRST)
    assert isinstance(small.decode(place(b0=6, b4=3, b64=9))[0], Drops)
    assert isinstance(small.decode(place(b0=6, b4=3, b64=10))[0], Illegal)


ranges = st.tuples(st.integers(0, (1 << 36) - 1), st.integers(1, 1 << 20)).map(
    lambda pair: (pair[0] << 12, min((pair[0] + pair[1]) << 12, 1 << 48) - 1)
)


@given(ranges, st.integers(0, 0xFFFF), st.integers(0, (1 << 20) - 1), st.booleans())
def test_first_stage_commands_read_back(bounds, did, pasid, pointers):
    """The declared effects of a target's commands are the target, one block behind the other."""
    tag = did | pasid << 16
    at = bounds[0]
    for words in FS.invalidate(Target(*bounds, 12, None, pointers), tag):
        (effect,) = FS.decode(words)
        assert (effect.tag, effect.tables, effect.first) == (tag, pointers, at)
        at = effect.last + 1
    assert at == bounds[1] + 1


@given(st.integers(0, (1 << 256) - 1))
def test_whatever_the_queue_holds_is_decoded_and_described(whole):
    """Any words are a legal command with effects or an illegal one, and have a description."""
    words = tuple(whole >> 64 * i & TOP for i in range(4))
    for commands in (LEGACY, SS, FS):
        assert commands.decode(words[: commands.words])
        assert commands.describe(words[: commands.words])


def test_descriptions_name_pasids_and_ranges():
    """Name, every field that is not 0, the range."""
    assert FS.describe(FS.invalidate(Target(0x20_0000, 0x3F_FFFF, 21, 1, False), TAG)[0]) == (
        "PASID IOTLB invalidate G=0x3 (page) DID=0x1234 PASID=0xabcde AM=0x9 IH=0x1 address=0x200"
        " covers [0x200000, 0x3fffff]"
    )
    assert "covers [0x200000, 0x3fffff]" in FS.describe((0x8, 0x2F_F800, 0, 0))


def test_layouts_by_name():
    """What explains words field by field finds each descriptor under its name, as wide as the queue's."""
    names = {"context cache", "IOTLB", "device TLB", "PASID IOTLB", "PASID cache", "PASID device TLB"}
    for commands, width in ((LEGACY, 128), (SS, 256)):
        assert set(commands.layouts) == {f"{name} invalidate" for name in names} | {"wait"}
        assert {layout.width for layout in commands.layouts.values()} == {width}

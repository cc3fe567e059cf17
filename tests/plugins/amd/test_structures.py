"""Device table and GCR3 tables as hardware reads them, against words written by hand from AMD-DTE-* and AMD-GCR-*."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amd_devices import (
    BASE,
    DEVICE,
    DOMAIN,
    DTE_PA,
    GCR3,
    GCR3_LOW,
    GIOV,
    GUEST_ROOT,
    GV,
    IR,
    IW,
    LAST,
    ROOT,
    TV,
    Memory,
    V,
    hand_dte,
    structures,
)
from hitless.hardware.facts import FaultRecord
from hitless.hardware.structures import BadStructure, Fetch, Found, StageRoot
from hitless.hardware.walker import Refusal, Translation, translate
from hitless.pagetable import READ, WRITE
from hitless_amd.events import AmdEvents
from hitless_amd.structures import AmdStructures
from hitless_amd.v1 import AmdV1
from hitless_amd.v2 import AmdV2

RW = READ | WRITE
PLAIN = structures()


def read(words: list[int], pasid: int | None = None, *, of: AmdStructures = PLAIN) -> Fetch | Found | BadStructure:
    """What the DTE leads to."""
    at = of.start(BASE, DEVICE, pasid)
    assert isinstance(at, Fetch)
    assert at[:3] == ("dte", DTE_PA, 4)
    return of.step(at, tuple(words))


# -- the base register


@pytest.mark.parametrize(("pages", "device", "inside"), [(1, 127, True), (1, 128, False), (512, 65535, True)])
def test_the_device_table_ends(pages, device, inside):
    """Bits 8:0 are its 4K pages minus 1; a device beyond it is reported (AMD-DTE-20, AMD-DTE-21)."""
    found = PLAIN.start(BASE | pages - 1, device, None)
    if inside:
        assert found == Fetch("dte", BASE + 32 * device, 4)
    else:
        assert (found.kind, found.words) == ("ILLEGAL_DEV_TABLE_ENTRY", ())


# -- device table entries


def test_v_0_passes_untranslated():
    """While SNP is off (AMD-DTE-6); with SNP the model holds it off (AMD-DTE-23)."""
    assert read([0, 0, 0, 0]) == Found("bypass", None, None, 0)
    assert read([LAST & ~1, LAST, LAST, LAST]).mode == "bypass"
    assert read([0, 0, 0, 0], of=structures(snp=True)).mode == "abort"


def test_tv_0_holds_off():
    """V = 1, TV = 0, whatever the other translation fields say (AMD-DTE-7)."""
    assert read([V, 0, 0, 0]).mode == "abort"
    assert read([V | 7 << 9, DOMAIN, 0, 0]).mode == "abort"


@pytest.mark.parametrize(("bits", "rights"), [(0, 0), (IR, READ), (IW, WRITE), (IR | IW, RW)])
def test_mode_0_does_not_translate(bits, rights):
    """IR and IW still hold; with both 0 every request is blocked (AMD-DTE-4, AMD-DTE-17)."""
    assert read([V | TV | bits, DOMAIN, 0, 0]) == Found("bypass", None, None, DOMAIN, rights)


@pytest.mark.parametrize("mode", range(1, 7))
def test_modes(mode):
    """The v1 table with that many levels, filed under the DomainID (AMD-DTE-2, AMD-DTE-3)."""
    found = read(hand_dte(mode, root=ROOT, high=1 << 32))
    assert (found.mode, found.stage1, found.tag, found.rights, found.ats) == ("translate", None, DOMAIN, RW, True)
    assert isinstance(found.stage2.page_format, AmdV1)
    assert (found.stage2.page_format.mode, found.stage2.root_pa, found.stage2.tag) == (mode, ROOT, DOMAIN)
    assert not read(hand_dte(mode, root=ROOT)).ats


@pytest.mark.parametrize(("hats", "levels"), [(0, 4), (1, 5), (2, 6)])
def test_mode_is_limited_by_hats(hats, levels):
    """Above it, and Mode 7: ILLEGAL_DEV_TABLE_ENTRY with RZ (AMD-LVL-14, AMD-DTE-4)."""
    for mode in range(1, 8):
        found = read(hand_dte(mode), of=structures(hats=hats))
        if mode <= levels:
            assert found.stage2.page_format.mode == mode
        else:
            assert found.kind == "ILLEGAL_DEV_TABLE_ENTRY RZ"
            assert f"Mode {mode}" in found.why


# Reserved bits by hand: word 0 to word 3.
RESERVED = (0x8000_0000_0000_007C, 0, 0x0030_0000_0000_0000, 0x001F_0000_0000_7FFF)


def test_each_reserved_bit_is_refused():
    """And no other bit of the fields that have no effect here (AMD-DTE-10 to AMD-DTE-15)."""
    harmless = (0x0030_0000_0000_0000, 0x7FFE_0000_0000, LAST & ~(3 << 54), LAST)
    for word in range(4):
        for position in range(64):
            words = hand_dte(4, root=ROOT)
            words[word] |= 1 << position
            found = read(words)
            if RESERVED[word] >> position & 1:
                assert found.kind == "ILLEGAL_DEV_TABLE_ENTRY RZ", f"word {word} bit {position}"
                assert found.words == tuple(words)
            elif harmless[word] >> position & 1:
                assert isinstance(found, Found), f"word {word} bit {position}"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (hand_dte(4, low=2 << 7), "HAD = 2"),
        (hand_dte(0, low=GV, glx=3), "GLX 3"),
        (hand_dte(0, low=GV, glx=2), "GLX 2"),
        ([*hand_dte(0, low=GV)[:2], 2 << 54, 0], "GuestPagingMode 2"),
        ([*hand_dte(0, low=GV)[:2], 3 << 54, 0], "GuestPagingMode 3"),
    ],
)
def test_reserved_values_are_refused(words, why):
    """The event, RZ, and what is wrong (AMD-DTE-5, AMD-DTE-15, AMD-DTE-19, AMD-GCR-2)."""
    found = read(words)
    assert (found.structure, found.pa, found.kind) == ("dte", DTE_PA, "ILLEGAL_DEV_TABLE_ENTRY RZ")
    assert why in found.why


@pytest.mark.parametrize("had", [0, 1, 3])
def test_had(had):
    """Sets A, or A and D, of the v1 table (AMD-DTE-5)."""
    assert isinstance(read(hand_dte(4, low=had << 7)), Found)


def test_snp_needs_a_v1_table():
    """Mode 0 with V = TV = 1, and DomainID 0: ILLEGAL_DEV_TABLE_ENTRY without RZ (AMD-RMP-15, AMD-DTE-16)."""
    snp = structures(snp=True)
    assert read(hand_dte(0), of=snp).kind == "ILLEGAL_DEV_TABLE_ENTRY"
    assert read(hand_dte(0, low=GV | GIOV, gcr3=GCR3), of=snp).kind == "ILLEGAL_DEV_TABLE_ENTRY"
    words = hand_dte(4, root=ROOT)
    assert isinstance(read(words, of=snp), Found)
    words[1] = 0
    assert read(words, of=snp).kind == "ILLEGAL_DEV_TABLE_ENTRY"
    assert isinstance(read(words), Found)


# -- GCR3 tables


def test_the_address_of_the_gcr3_table_has_three_parts():
    """Bits 14:12 in 60:58, 30:15 in 31:16 of word 1, 51:31 in 63:43 of word 1 (AMD-DTE-10, AMD-DTE-11)."""
    found = read(hand_dte(0, low=GV | GIOV, gcr3=GCR3))
    assert found[:3] == ("gcr3", GCR3, 1)


@given(page=st.integers(0, (1 << 40) - 1))
def test_every_address_of_a_gcr3_table(page):
    """All 40 bits find their way."""
    assert read(hand_dte(0, low=GV | GIOV, gcr3=page << 12)).pa == page << 12


@pytest.mark.parametrize(
    ("pasid", "giov", "guest"), [(None, 0, False), (None, GIOV, True), (0, 0, True), (7, GIOV, True)]
)
def test_who_uses_the_guests_table(pasid, giov, guest):
    """Requests with a PASID, and with GIOV those without one (AMD-DTE-18)."""
    found = read(hand_dte(4, root=ROOT, low=GV | giov, gcr3=GCR3), pasid)
    if guest:
        assert found[:3] == ("gcr3", GCR3 + 8 * (pasid or 0), 1)
    else:
        assert (found.stage1, found.stage2.root_pa) == (None, ROOT)


def test_a_pasid_without_gv():
    """INVALID_DEVICE_REQUEST (AMD-DTE-22)."""
    assert read(hand_dte(4, root=ROOT), 3).kind == "INVALID_DEVICE_REQUEST"


@pytest.mark.parametrize(
    ("glx", "pasid", "path"),
    [
        (0, 0x1FF, [("gcr3", 0x1FF)]),
        (1, 0x2_3456, [("gcr3-level2", 0x11A), ("gcr3", 0x56)]),
        (2, 0xA_BCDE, [("gcr3-level3", 0x2), ("gcr3-level2", 0x15E), ("gcr3", 0xDE)]),
    ],
)
def test_levels_of_gcr3_tables(glx, pasid, path):
    """GLX 0, 1, 2: the index at level l is PASID >> 9l (AMD-GCR-2)."""
    unit = structures(glx=2)
    at, table = read(hand_dte(0, low=GV, gcr3=GCR3, glx=glx), pasid, of=unit), GCR3
    for name, index in path:
        assert at[:3] == (name, table + 8 * index, 1)
        table += 0x1000
        at = unit.step(at, (table | 1,))
    assert at.stage1 == StageRoot(at.stage1.page_format, table, DOMAIN | pasid << 16)
    assert isinstance(at.stage1.page_format, AmdV2)
    assert (at.stage2, at.tag) == (None, DOMAIN | pasid << 16)


@pytest.mark.parametrize(("glx", "pasid"), [(0, 0x200), (1, 0x4_0000)])
def test_a_pasid_beyond_the_table(glx, pasid):
    """Answered like a page that is not present (AMD-GCR-3)."""
    assert read(hand_dte(0, low=GV, gcr3=GCR3, glx=glx), pasid).kind == "not-present"


@pytest.mark.parametrize(
    ("word", "kind"),
    [(0, "not-present"), (0x5000, "not-present"), *(((1 << n) | 1, "reserved") for n in (1, 11, 52, 63))],
)
def test_bad_gcr3_entries(word, kind):
    """V = 0, and reserved bits (AMD-GCR-3, AMD-GCR-5)."""
    found = PLAIN.step(read(hand_dte(0, low=GV | GIOV, gcr3=GCR3)), (word,))
    assert (found.structure, found.pa, found.kind) == ("gcr3", GCR3, kind)


@pytest.mark.parametrize(("paging_mode", "levels"), [(0, 4), (1, 5)])
def test_levels_of_the_guests_table(paging_mode, levels):
    """GuestPagingMode in 55:54 of word 2 (AMD-GPT-2)."""
    words = hand_dte(3, root=ROOT, low=GV | GIOV, gcr3=GCR3)
    words[2] = paging_mode << 54
    found = PLAIN.step(read(words), (GUEST_ROOT | 1,))
    assert len(found.stage1.page_format.levels) == levels
    assert (found.stage1.root_pa, found.stage2.page_format.mode, found.stage2.tag) == (GUEST_ROOT, 3, DOMAIN)


def test_sme_is_no_part_of_an_address():
    """The C-bit in base register, root, GCR3 tables and guest root (AMD-PTE-14)."""
    c = 1 << 51
    unit = structures(c_bit=51)
    at = unit.start(BASE | c, DEVICE, None)
    assert at.pa == DTE_PA
    found = unit.step(at, tuple(hand_dte(4, root=ROOT | c)))
    assert found.stage2.root_pa == ROOT
    at = unit.step(at, tuple(hand_dte(0, low=GV | GIOV, gcr3=GCR3_LOW | c)))
    assert at.pa == GCR3_LOW
    assert unit.step(at, (GUEST_ROOT | c | 1,)).stage1.root_pa == GUEST_ROOT


# -- walks


def nested() -> Memory:
    """By hand: a guest's table of 4 levels over a v1 table of 3 levels.

    Guest physical pages 0x1000 to 0x4000 are the guest's tables; all of [0, 2M) lies at 0x8000_0000.
    """
    memory = Memory()
    words = hand_dte(3, root=ROOT, low=GV | GIOV, gcr3=GCR3_LOW)
    memory.update({DTE_PA + 8 * i: word for i, word in enumerate(words)})
    memory[GCR3_LOW] = 0x1000 | 1
    memory[ROOT] = 0x20_1000 | 2 << 9 | IR | IW | 1
    memory[0x20_1000] = 0x8000_0000 | IR | IW | 1
    for page in range(1, 4):
        memory[0x8000_0000 + (page << 12)] = (page + 1 << 12) | 0x27
    memory[0x8000_4000 + 8 * 5] = 0x7000 | 0x67
    memory[0x8000_4000 + 8 * 6] = 0x7000 | 0x65
    memory[0x8000_4000 + 8 * 7] = 0x20_0000 | 0x67
    return memory


def test_a_nested_walk():
    """DTE, GCR3, then 4 guest entries, each through the host's 2 levels, and the page itself: 16 reads."""
    walked = translate(nested().load, PLAIN, BASE, DEVICE, 0x5123)
    found = walked.outcome
    assert isinstance(found, Translation)
    assert (found.start, found.size_lg2, found.pa, found.rights) == (0x5000, 12, 0x8000_7000, RW)
    assert (found.stage1.oa, found.stage2.size_lg2) == (0x7000, 21)
    assert len(walked.trace) == 2 + 4 * 3 + 2


@pytest.mark.parametrize(
    ("iova", "write", "word"),
    [
        (0x6008, True, (0x2071_0000_0000_0008, 0x6008)),
        (0x8008, False, (0x2001_0000_0000_0008, 0x8008)),
        (0x7008, False, (0x2000_1234_0000_0008, 0x20_0008)),
    ],
)
def test_events_of_a_nested_walk(iova, write, word):
    """The guest's table forbids writes, has no entry, or leads where the host's has none: three page faults."""
    refusal = translate(nested().load, PLAIN, BASE, DEVICE, iova, write=write).outcome
    assert isinstance(refusal, Refusal)
    assert AmdEvents(AmdV2()).encode(event_of(refusal, iova, write)) == word


def event_of(refusal: Refusal, iova: int, write: bool):
    """The fault record of a refusal, as a unit makes it."""
    place = (refusal.stage, refusal.target, refusal.gpa, refusal.structure, refusal.pa)
    return FaultRecord(DEVICE, iova, write, refusal.kind, refusal.level, DOMAIN, None, *place)


def test_a_malformed_dte_ends_in_its_event():
    """Mode 7: ILLEGAL_DEV_TABLE_ENTRY with RZ for the device's request."""
    memory = Memory({DTE_PA: hand_dte(7)[0], DTE_PA + 8: DOMAIN})
    refusal = translate(memory.load, PLAIN, BASE, DEVICE, 0x5008, write=True).outcome
    assert AmdEvents(AmdV1()).encode(event_of(refusal, 0x5008, True)) == (0x10A0_0000_0000_0008, 0x5008)


def test_layouts_have_names():
    """What ``hitless explain`` decodes."""
    assert (PLAIN.layouts["dte"].width, PLAIN.layouts["gcr3"].width) == (256, 64)

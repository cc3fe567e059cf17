"""From the root table register to the tables: structures written by hand from the specification's tables."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitless.hardware.structures import BadStructure, Fetch, Found
from hitless_intel import plugin
from hitless_intel.features import IntelFeatures
from hitless_intel.structures import IntelStructures

ROOT, LOWER, UPPER, DIRECTORY, TABLE = 0x10_0000, 0x20_0000, 0x30_0000, 0x40_0000, 0x50_0000
SS_ROOT, FS_ROOT = 0x1234_5000, 0x6789_A000
LEGACY, SCALABLE = ROOT, ROOT | 1 << 10
DEVICE, HIGH_DEVICE = 0x3A12, 0x3A92  # bus 3A, devfn 12 and 92
DID, PASID = 0xBEE, 0x1_2345  # directory index 0x48D, table index 5


def unit(format_name: str = "intel/second-stage", **features) -> IntelStructures:
    """The structures of a unit with these features."""
    chosen = IntelFeatures(**features)
    return IntelStructures(plugin.page_formats(chosen)[format_name], chosen)


UNIT = unit(mode="scalable")


def resolve(structures: IntelStructures, memory: dict[int, int], base: int, device: int, pasid: int | None):
    """Read structures until the unit knows; and every fetch on the way."""
    fetches = []
    at = structures.start(base, device, pasid)
    while isinstance(at, Fetch):
        fetches.append((at.structure, at.pa, at.words))
        at = structures.step(at, tuple(memory.get(at.pa + 8 * i, 0) for i in range(at.words)))
    return at, fetches


def legacy(context: tuple[int, int], root: tuple[int, int] = (LOWER | 1, 0)) -> dict[int, int]:
    """Memory with one context entry for DEVICE: bus 0x3A is root entry 0x3A, devfn 0x12 context entry 0x12."""
    words = {ROOT + 0x3A0: root[0], ROOT + 0x3A8: root[1]}
    return words | {LOWER + 0x120: context[0], LOWER + 0x128: context[1]}


CONTEXT = (SS_ROOT | 1, DID << 8 | 2)


def test_legacy_mode_reads_root_and_context():
    """The root entry of the bus, then the context entry of devfn, 16 bytes each (INTEL-CTX-1, INTEL-CTX-2)."""
    found, fetches = resolve(UNIT, legacy(CONTEXT), LEGACY, DEVICE, None)
    assert fetches == [("root", 0x10_03A0, 2), ("context", 0x20_0120, 2)]
    assert isinstance(found, Found)
    assert (found.mode, found.stage1, found.tag, found.ats) == ("translate", None, DID, False)
    assert (found.stage2.root_pa, found.stage2.tag, found.stage2.page_format.iova_bits) == (SS_ROOT, DID, 48)


@pytest.mark.parametrize(("aw", "bits", "levels"), [(1, 39, 3), (2, 48, 4), (3, 57, 5)])
def test_aw_tells_the_levels(aw, bits, levels):
    """001b, 010b, 011b: 39, 48 and 57 bits, in both modes (INTEL-SS-16)."""
    old, _ = resolve(UNIT, legacy((SS_ROOT | 1, aw)), LEGACY, DEVICE, None)
    new, _ = resolve(UNIT, scalable((SS_ROOT | 0x81 | aw << 2, *[0] * 7)), SCALABLE, DEVICE, PASID)
    for found in (old, new):
        assert (found.stage2.page_format.iova_bits, len(found.stage2.page_format.levels)) == (bits, levels)


def test_translation_types_of_legacy_mode():
    """01: ATS too; 10: pass-through, whatever the pointer (INTEL-CTX-2)."""
    ats, _ = resolve(UNIT, legacy((SS_ROOT | 0x5, 2)), LEGACY, DEVICE, None)
    assert (ats.mode, ats.ats) == ("translate", True)
    through, _ = resolve(UNIT, legacy((0x9, DID << 8 | 2)), LEGACY, DEVICE, None)
    assert (through.mode, through.stage1, through.stage2, through.tag) == ("bypass", None, None, DID)


@pytest.mark.parametrize(
    ("root", "context", "code", "structure"),
    [
        ((0, 0), CONTEXT, 0x1, "root"),
        ((LOWER, 0), CONTEXT, 0x1, "root"),
        ((LOWER | 3, 0), CONTEXT, 0xA, "root"),
        ((LOWER | 1 << 11 | 1, 0), CONTEXT, 0xA, "root"),
        ((LOWER | 1, 1), CONTEXT, 0xA, "root"),
        ((LOWER | 1, 0), (SS_ROOT, 2), 0x2, "context"),
        ((LOWER | 1, 0), (SS_ROOT | 0x11, 2), 0xB, "context"),
        ((LOWER | 1, 0), (SS_ROOT | 1, 0x82), 0xB, "context"),
        ((LOWER | 1, 0), (SS_ROOT | 1, 1 << 24 | 2), 0xB, "context"),
        ((LOWER | 1, 0), (SS_ROOT | 1, 0), 0x3, "context"),
        ((LOWER | 1, 0), (SS_ROOT | 1, 4), 0x3, "context"),
        ((LOWER | 1, 0), (SS_ROOT | 0xD, 2), 0x3, "context"),
    ],
)
def test_legacy_reasons(root, context, code, structure):
    """1 and 2 not present, A and B reserved bits, 3 an AW or TT that is none (INTEL-FLT-2)."""
    found, _ = resolve(UNIT, legacy(context, root), LEGACY, DEVICE, None)
    assert isinstance(found, BadStructure)
    assert (found.structure, int(found.kind, 16)) == (structure, code)
    assert "INTEL-" in found.why


@pytest.mark.parametrize(
    ("features", "context"),
    [
        ({"pass_through": False}, (0x9, 2)),
        ({"device_tlb": False}, (SS_ROOT | 0x5, 2)),
        ({"sagaw": 0xC}, (SS_ROOT | 1, 1)),
        ({"sagaw": 0x6}, (SS_ROOT | 1, 3)),
    ],
)
def test_what_a_legacy_unit_does_not_have_is_invalid(features, context):
    """Reason 3 for ECAP.PT, ECAP.DT and CAP.SAGAW (INTEL-CTX-11, INTEL-SS-18)."""
    found, _ = resolve(unit(**features), legacy(context), LEGACY, DEVICE, None)
    assert found.kind == "0x03"
    found, _ = resolve(UNIT, legacy(context), LEGACY, DEVICE, None)
    assert isinstance(found, Found)


@pytest.mark.parametrize(
    ("base", "pasid", "code"), [(ROOT | 2 << 10, None, 0x30), (ROOT | 3 << 10, None, 0x30), (ROOT | 1, None, 0x30)]
)
def test_a_register_without_a_mode(base, pasid, code):
    """TTM 10b and 11b are no translation modes, 9:0 are reserved (INTEL-CTX-5, INTEL-FLT-8)."""
    found = UNIT.start(base, DEVICE, pasid)
    assert isinstance(found, BadStructure)
    assert (int(found.kind, 16), found.words) == (code, (base,))


def test_legacy_mode_takes_no_pasid():
    """Reason 31h (INTEL-FLT-8)."""
    assert UNIT.start(LEGACY, DEVICE, 0).kind == "0x31"
    assert isinstance(UNIT.start(LEGACY, DEVICE, None), Fetch)


# -- scalable mode

CONTEXT_4 = (DIRECTORY | 7 << 9 | 1 << 3 | 1, 0, 0, 0)  # PDTS 7, PASIDE, P
PASID_8 = (SS_ROOT | 2 << 6 | 2 << 2 | 1, DID, 0, 0, 0, 0, 0, 0)  # second stage, 48 bits


def scalable(pasid: tuple[int, ...], context=CONTEXT_4, directory=TABLE | 1, root=(LOWER | 1, UPPER | 1)):
    """Memory that leads to one PASID entry for DEVICE and HIGH_DEVICE, under PASID."""
    memory = {ROOT + 0x3A0: root[0], ROOT + 0x3A8: root[1], DIRECTORY + 0x48D * 8: directory}
    for table in (LOWER, UPPER):
        memory |= {table + 0x12 * 32 + 8 * i: word for i, word in enumerate(context)}
    return memory | {TABLE + 5 * 64 + 8 * i: word for i, word in enumerate(pasid)}


@pytest.mark.parametrize(("device", "context"), [(DEVICE, 0x20_0240), (HIGH_DEVICE, 0x30_0240)])
def test_scalable_mode_reads_four_structures(device, context):
    """Root half by devfn bit 7, context 32 bytes, directory 8, PASID entry 64 (INTEL-CTX-6 to INTEL-CTX-8)."""
    found, fetches = resolve(UNIT, scalable(PASID_8), SCALABLE, device, PASID)
    assert fetches == [
        ("scalable-root", 0x10_03A0, 2),
        ("scalable-context", context, 4),
        ("pasid-dir", 0x40_2468, 1),
        ("pasid", 0x50_0140, 8),
    ]
    assert (found.mode, found.stage1, found.tag) == ("translate", None, DID)
    assert (found.stage2.root_pa, found.stage2.tag) == (SS_ROOT, DID)


@pytest.mark.parametrize(("half", "device"), [(0, DEVICE), (1, HIGH_DEVICE)])
def test_only_the_devices_half_of_a_root_entry_counts(half, device):
    """P and reserved bits of the other half are the other functions' affair (INTEL-CTX-6, INTEL-FLT-8)."""
    good = [LOWER | 1, UPPER | 1]
    for bad, code in ((0, 0x39), (good[half] | 2, 0x3A), (good[half] | 1 << 63, 0x3A)):
        own, other = list(good), list(good)
        own[half], other[1 - half] = bad, bad
        assert int(resolve(UNIT, scalable(PASID_8, root=own), SCALABLE, device, PASID)[0].kind, 16) == code
        assert isinstance(resolve(UNIT, scalable(PASID_8, root=other), SCALABLE, device, PASID)[0], Found)


def changed(words: tuple[int, ...], at: int, value: int) -> tuple[int, ...]:
    """The words with other bits flipped."""
    whole = sum(word << 64 * i for i, word in enumerate(words)) ^ value << at
    return tuple(whole >> 64 * i & (1 << 64) - 1 for i in range(len(words)))


@pytest.mark.parametrize(
    ("context", "directory", "pasid", "code"),
    [
        (changed(CONTEXT_4, 0, 1), TABLE | 1, PASID_8, 0x41),
        (changed(CONTEXT_4, 7, 1), TABLE | 1, PASID_8, 0x42),
        (changed(CONTEXT_4, 85, 1), TABLE | 1, PASID_8, 0x42),
        (changed(CONTEXT_4, 255, 1), TABLE | 1, PASID_8, 0x42),
        (changed(CONTEXT_4, 3, 1), TABLE | 1, PASID_8, 0x45),
        (changed(CONTEXT_4, 9, 4), TABLE | 1, PASID_8, 0x46),
        (CONTEXT_4, TABLE, PASID_8, 0x51),
        (CONTEXT_4, TABLE | 5, PASID_8, 0x52),
        (CONTEXT_4, TABLE | 1, changed(PASID_8, 0, 1), 0x59),
        (CONTEXT_4, TABLE | 1, changed(PASID_8, 5, 1), 0x5A),
        (CONTEXT_4, TABLE | 1, changed(PASID_8, 80, 1), 0x5A),
        (CONTEXT_4, TABLE | 1, changed(PASID_8, 129, 1), 0x5A),
        (CONTEXT_4, TABLE | 1, changed(PASID_8, 511, 1), 0x5A),
        (CONTEXT_4, TABLE | 1, changed(PASID_8, 6, 0b010), 0x5B),
        (CONTEXT_4, TABLE | 1, changed(PASID_8, 6, 0b111), 0x5B),
        (CONTEXT_4, TABLE | 1, changed(PASID_8, 2, 0b010), 0x5B),
        (CONTEXT_4, TABLE | 1, changed(PASID_8, 2, 0b110), 0x5B),
    ],
)
def test_scalable_reasons(context, directory, pasid, code):
    """Not present, reserved, invalid, PASIDE and size, each with its own code (INTEL-FLT-9, INTEL-FLT-10)."""
    memory = scalable(pasid, context, directory)
    found, fetches = resolve(UNIT, memory, SCALABLE, DEVICE, PASID)
    assert isinstance(found, BadStructure)
    assert int(found.kind, 16) == code
    assert (found.structure, found.pa) == fetches[-1][:2]
    assert found.words == tuple(memory.get(found.pa + 8 * i, 0) for i in range(fetches[-1][2]))


def entry(kind: int, **more: int) -> tuple[int, ...]:
    """A PASID entry of a type, with both roots, AW 2; ``more``: values by bit position ``b130``."""
    whole = 1 | 2 << 2 | kind << 6 | SS_ROOT | DID << 64 | FS_ROOT << 128
    for at, value in more.items():
        whole |= value << int(at[1:])
    return tuple(whole >> 64 * i & (1 << 64) - 1 for i in range(8))


def test_first_stage():
    """PGTT 1: FSPTPTR, FSPM, EAFE; filed under DID and PASID (INTEL-CTX-9, INTEL-INV-11, INTEL-FS-7)."""
    found, _ = resolve(UNIT, scalable(entry(1)), SCALABLE, DEVICE, PASID)
    assert (found.mode, found.stage2, found.tag) == ("translate", None, DID | PASID << 16)
    assert (found.stage1.root_pa, found.stage1.tag) == (FS_ROOT, DID | PASID << 16)
    assert (len(found.stage1.page_format.levels), found.stage1.page_format.hardware_set(0)) == (4, 0x60)
    deep, _ = resolve(UNIT, scalable(entry(1, b130=1, b135=1)), SCALABLE, DEVICE, PASID)
    assert (len(deep.stage1.page_format.levels), deep.stage1.page_format.hardware_set(0)) == (5, 0x460)


def test_nested():
    """PGTT 3: both stages, each filed as its own, the result under DID and PASID (INTEL-CTX-9, INTEL-INV-11)."""
    found, _ = resolve(UNIT, scalable(entry(3)), SCALABLE, DEVICE, PASID)
    assert (found.mode, found.tag) == ("translate", DID | PASID << 16)
    assert (found.stage1.root_pa, found.stage1.tag) == (FS_ROOT, DID | PASID << 16)
    assert (found.stage2.root_pa, found.stage2.tag) == (SS_ROOT, DID)
    assert (found.stage1.page_format.stage, found.stage2.page_format.stage) == ("1", "2")


def test_pass_through_in_scalable_mode():
    """PGTT 4: no table, whatever the pointers (INTEL-CTX-9)."""
    found, _ = resolve(UNIT, scalable(entry(4)), SCALABLE, DEVICE, PASID)
    assert (found.mode, found.stage1, found.stage2) == ("bypass", None, None)


def test_ssade_lets_hardware_set_a_and_d():
    """Bit 9 of the PASID entry, where the unit has ECAP.SSADS (INTEL-SS-13, INTEL-CTX-14)."""
    dirty = unit(mode="scalable", ssads=True)
    plain, _ = resolve(dirty, scalable(entry(2)), SCALABLE, DEVICE, PASID)
    sets, _ = resolve(dirty, scalable(entry(2, b9=1)), SCALABLE, DEVICE, PASID)
    assert (plain.stage2.page_format.hardware_set(0), sets.stage2.page_format.hardware_set(0)) == (0, 0x300)
    assert resolve(UNIT, scalable(entry(2, b9=1)), SCALABLE, DEVICE, PASID)[0].kind == "0x5a"


@pytest.mark.parametrize(
    ("features", "words"),
    [
        ({"nesting": False}, entry(3)),
        ({"pass_through": False}, entry(4)),
        ({"sagaw": 0x2, "aw": 39}, entry(2)),
        ({"sagaw": 0x2, "aw": 39}, entry(3)),
        ({"fs5lp": False}, entry(1, b130=1)),
        ({}, entry(1, b130=2)),
        ({}, entry(3, b130=3)),
    ],
)
def test_what_a_scalable_unit_does_not_have_is_invalid(features, words):
    """Reason 5Bh for ECAP.NEST, ECAP.PT, CAP.SAGAW, CAP.FS5LP, FSPM (INTEL-CTX-11, INTEL-SS-18, INTEL-FS-7)."""
    found, _ = resolve(unit(mode="scalable", **features), scalable(words), SCALABLE, DEVICE, PASID)
    assert found.kind == "0x5b"


def test_aw_of_a_first_stage_entry_means_nothing():
    """Only a second stage has a width (INTEL-CTX-3)."""
    found, _ = resolve(UNIT, scalable(changed(entry(1), 2, 2)), SCALABLE, DEVICE, PASID)
    assert isinstance(found, Found)


def without_pasid(rid: int, pasid=PASID_8, *, priv: int = 0, pdts: int = 7, low: int = 0) -> dict[int, int]:
    """Memory for requests without PASID; the PASID entry is the one of PASID."""
    return scalable(pasid, (DIRECTORY | pdts << 9 | low | 1, rid | priv << 20, 0, 0))


def test_requests_without_pasid_use_rid_pasid():
    """PASIDE is not asked (INTEL-CTX-7)."""
    found, fetches = resolve(UNIT, without_pasid(PASID, entry(1)), SCALABLE, DEVICE, None)
    assert fetches[2:] == [("pasid-dir", 0x40_2468, 1), ("pasid", 0x50_0140, 8)]
    assert found.tag == DID | PASID << 16


@pytest.mark.parametrize(("pdts", "held"), [(0, 1 << 13), (3, 1 << 16), (7, 1 << 20)])
def test_the_directory_has_a_size(pdts, held):
    """2^(PDTS+7) entries of 64 PASIDs: 46h and 48h beyond (INTEL-CTX-7, INTEL-FLT-9)."""
    base = (DIRECTORY | pdts << 9 | 9, 0, 0, 0)
    for pasid in (held - 1, held):
        if pasid >> 20:
            continue
        sent = resolve(UNIT, scalable(PASID_8, base), SCALABLE, DEVICE, pasid)[0].kind
        own = resolve(UNIT, without_pasid(pasid, pdts=pdts), SCALABLE, DEVICE, None)[0].kind
        assert (sent == "0x46", own == "0x48") == (pasid == held, pasid == held)


def test_a_pasid_wider_than_the_unit_takes():
    """ECAP.PSS plus 1 bits, reason 89h (INTEL-CTX-12)."""
    narrow = unit(mode="scalable", pasid_bits=16)
    assert resolve(narrow, scalable(PASID_8), SCALABLE, DEVICE, 1 << 16)[0].kind == "0x89"
    assert resolve(narrow, scalable(PASID_8), SCALABLE, DEVICE, (1 << 16) - 1)[0].kind == "0x51"


@pytest.mark.parametrize("kind", [1, 3])
def test_privileged_requests_need_sre(kind):
    """RID_PRIV makes requests without PASID privileged; without SRE that is reason 5Dh (INTEL-FLT-10)."""
    assert resolve(UNIT, without_pasid(PASID, entry(kind), priv=1), SCALABLE, DEVICE, None)[0].kind == "0x5d"
    allowed = without_pasid(PASID, entry(kind, b128=1), priv=1)
    assert isinstance(resolve(UNIT, allowed, SCALABLE, DEVICE, None)[0], Found)
    assert isinstance(resolve(UNIT, without_pasid(PASID, entry(2), priv=1), SCALABLE, DEVICE, None)[0], Found)


def test_dte_enables_ats():
    """Bit 2 of the context entry; on a unit without device TLBs it is reason 43h (INTEL-CTX-7, INTEL-CTX-11)."""
    memory = without_pasid(PASID, low=4)
    assert resolve(UNIT, memory, SCALABLE, DEVICE, None)[0].ats
    assert not resolve(UNIT, without_pasid(PASID), SCALABLE, DEVICE, None)[0].ats
    assert resolve(unit(mode="scalable", device_tlb=False), memory, SCALABLE, DEVICE, None)[0].kind == "0x43"


def test_pre_hpte_and_eptr_are_let_be():
    """Page requests and the host permission table are not modelled (INTEL-CTX-17)."""
    assert isinstance(resolve(UNIT, without_pasid(PASID, low=0x70), SCALABLE, DEVICE, None)[0], Found)


@pytest.mark.parametrize("where", ["context", "directory", "pasid"])
@pytest.mark.parametrize("present", [0, 1])
def test_fpd_keeps_faults_out_of_the_records(where, present):
    """FPD of any structure on the way, present or not: the kind says so, and no event comes of it (INTEL-FLT-13)."""
    fpd = {each: 2 if each == where else 0 for each in ("context", "directory", "pasid")}
    last = {"context": 0, "directory": 1, "pasid": 2}[where]
    p = [1, 1, 0] if present else [int(i < last) for i in range(3)]
    context = (DIRECTORY | 7 << 9 | 8 | fpd["context"] | p[0], 0, 0, 0)
    pasid = (SS_ROOT | 0x88 | fpd["pasid"] | p[2], *[0] * 7)
    found, _ = resolve(UNIT, scalable(pasid, context, TABLE | fpd["directory"] | p[1]), SCALABLE, DEVICE, PASID)
    code = {"context": "0x41", "directory": "0x51", "pasid": "0x59"}[where] if not present else "0x59"
    assert found.kind == f"{code} fpd"


def test_fpd_of_a_legacy_context_entry():
    """The same in legacy mode (INTEL-FLT-5)."""
    found, _ = resolve(UNIT, legacy((SS_ROOT | 3, 0)), LEGACY, DEVICE, None)
    assert found.kind == "0x03 fpd"


def test_pointers_above_haw_are_reserved():
    """HAW 46: bit 46 of each pointer ends in the reserved-bit code of its structure (INTEL-CTX-13)."""
    narrow, high = unit(mode="scalable", haw=46), 1 << 46
    assert narrow.start(LEGACY | high, DEVICE, None).kind == "0x30"
    assert resolve(narrow, legacy(CONTEXT, (LOWER | high | 1, 0)), LEGACY, DEVICE, None)[0].kind == "0x0a"
    assert resolve(narrow, legacy((SS_ROOT | high | 1, 2)), LEGACY, DEVICE, None)[0].kind == "0x0b"
    for memory, kind in (
        (scalable(PASID_8, root=(LOWER | high | 1, 0)), "0x3a"),
        (scalable(PASID_8, changed(CONTEXT_4, 46, 1)), "0x42"),
        (scalable(PASID_8, directory=TABLE | high | 1), "0x52"),
        (scalable(changed(PASID_8, 46, 1)), "0x5a"),
        (scalable(changed(entry(1), 128 + 46, 1)), "0x5a"),
    ):
        assert resolve(narrow, memory, SCALABLE, DEVICE, PASID)[0].kind == kind


def test_the_domains_own_format_stands_for_itself():
    """A structure that describes just the configured tables leads to that very object."""
    features = IntelFeatures(mode="scalable")
    for name, words, stage in (("intel/second-stage", entry(2), "stage2"), ("intel/first-stage", entry(1), "stage1")):
        fmt = plugin.page_formats(features)[name]
        found, _ = resolve(IntelStructures(fmt, features), scalable(words), SCALABLE, DEVICE, PASID)
        assert getattr(found, stage).page_format is fmt


words = st.integers(0, (1 << 64) - 1)


@given(st.lists(words, min_size=15, max_size=15), st.booleans(), st.one_of(st.none(), st.integers(0, (1 << 20) - 1)))
def test_whatever_memory_holds_there_is_an_answer(many, present, pasid):
    """Any words in any structure end in a result or a named fault, within five reads."""
    feed = iter(many)
    at = UNIT.start(SCALABLE if pasid is not None or present else LEGACY, DEVICE, pasid)
    for _ in range(5):
        if not isinstance(at, Fetch):
            break
        read = [next(feed) for _ in range(at.words)]
        read[0] |= int(present)
        at = UNIT.step(at, tuple(read))
    assert isinstance(at, BadStructure | Found)
    if isinstance(at, BadStructure):
        assert int(at.kind.split()[0], 16) > 0

"""Structures as they are written: words and addresses by hand, then the way back through the reader."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitless.errors import HitlessError
from hitless.hardware.structures import BadStructure, Fetch, Found, StageRoot, StructureEntry
from hitless_intel import plugin
from hitless_intel.features import IntelFeatures
from hitless_intel.structures import IntelStructures

FIRST, SECOND = "intel/first-stage", "intel/second-stage"


class Bump:
    """Memory from 0x1_0000_0000 on, in order."""

    def __init__(self):
        self.next = 0x1_0000_0000

    def allocate(self, size_lg2: int = 12) -> int:
        pa = (self.next + (1 << size_lg2) - 1) >> size_lg2 << size_lg2
        self.next = pa + (1 << size_lg2)
        return pa


def make(**features):
    """Structures of a unit, and a function that makes stages of its formats."""
    chosen = IntelFeatures(**features)
    formats = plugin.page_formats(chosen)

    def stage(name: str, root_pa: int, tag: int) -> StageRoot:
        return StageRoot(formats[name], root_pa, tag)

    return IntelStructures(formats[SECOND], chosen), stage


def written(image) -> dict[int, int]:
    """The image as memory, each word by its address; no word twice."""
    memory: dict[int, int] = {}
    for pa, words in image.writes:
        for i, word in enumerate(words):
            assert pa + 8 * i not in memory
            memory[pa + 8 * i] = word
    return memory


def resolve(structures, memory, base, device, pasid):
    """What the unit knows after it has read all structures."""
    at = structures.start(base, device, pasid)
    while isinstance(at, Fetch):
        at = structures.step(at, tuple(memory.get(at.pa + 8 * i, 0) for i in range(at.words)))
    return at


def test_legacy_words():
    """Root table, one context table a bus; TT, AW and DID where the tables say (INTEL-CTX-1, INTEL-CTX-2)."""
    structures, stage = make()
    entries = [
        StructureEntry(0x0012, None, None, stage(SECOND, 0xAAAA_A000, 7), 7),
        StructureEntry(0x0013, None, None, stage(SECOND, 0xBBBB_B000, 9), 9, ats=True),
        StructureEntry(0x0200, None, None, None, 5),
        StructureEntry(0x0201, None, None, None, 6, blocked=True),
    ]
    image = structures.setup(entries, Bump())
    root, bus0, bus2 = 0x1_0000_0000, 0x1_0000_1000, 0x1_0000_2000
    assert image.base == root
    assert image.blocks == ((root, 12), (bus0, 12), (bus2, 12))
    assert written(image) == {
        root: bus0 | 1,
        root + 8: 0,
        root + 0x20: bus2 | 1,
        root + 0x28: 0,
        bus0 + 0x120: 0xAAAA_A001,
        bus0 + 0x128: 0x702,
        bus0 + 0x130: 0xBBBB_B005,
        bus0 + 0x138: 0x902,
        bus2: 0x9,
        bus2 + 8: 0x503,
    }


def test_scalable_words():
    """Root halves, context, directory and PASID entries of two devices (INTEL-CTX-6 to INTEL-CTX-9)."""
    structures, stage = make(mode="scalable")
    pasid = 0x2_0041  # directory index 0x801, PASID table index 1
    entries = [
        StructureEntry(0x0085, None, None, stage(SECOND, 0xAAAA_A000, 7), 7, ats=True),
        StructureEntry(0x0085, pasid, stage(FIRST, 0xBBBB_B000, pasid << 16 | 9), None, pasid << 16 | 9),
        StructureEntry(0x0003, None, stage(FIRST, 0x5000, 3), stage(SECOND, 0xCCCC_C000, 3), 3),
    ]
    image = structures.setup(entries, Bump())
    root, upper = 0x1_0000_0000, 0x1_0000_1000
    directory, table0, table1 = 0x1_0000_8000, 0x1_0001_0000, 0x1_0001_1000
    lower, directory3, table3 = 0x1_0001_2000, 0x1_0001_3000, 0x1_0001_4000
    assert image.base == root | 1 << 10
    assert image.blocks == (
        *((root, 12), (upper, 12), (directory, 15), (table0, 12), (table1, 12)),
        *((lower, 12), (directory3, 12), (table3, 12)),
    )
    memory = {at: word for at, word in written(image).items() if word}
    assert memory == {
        root: lower | 1,
        root + 8: upper | 1,
        upper + 5 * 32: directory | 5 << 9 | 0b1101,
        directory: table0 | 1,
        directory + 0x801 * 8: table1 | 1,
        table0: 0xAAAA_A089,
        table0 + 8: 1 << 23 | 7,
        table1 + 64: 0x4D,  # AW 3, which a first stage does not use (INTEL-CTX-19)
        table1 + 72: 1 << 23 | 9,
        table1 + 80: 0xBBBB_B000,
        lower + 3 * 32: directory3 | 1,
        directory3: table3 | 1,
        table3: 0xCCCC_C0C9,
        table3 + 8: 1 << 23 | 3,
        table3 + 16: 0x5000,
    }


def test_rid_pasid_is_what_the_tag_says():
    """A guest's address space for requests without PASID: bits 83:64 of the context entry (INTEL-CTX-7)."""
    structures, stage = make(mode="scalable")
    tag = structures.stage1_tag(7, 0x1_2345)
    assert tag == 0x1_2345_0007
    entry = StructureEntry(5, None, stage(FIRST, 0x5000, tag), stage(SECOND, 0x6000, 7), tag)
    image = structures.setup([entry], Bump())
    context = next(words for _, words in image.writes if len(words) == 4)
    assert context[1] == 0x1_2345
    assert resolve(structures, written(image), image.base, 5, None).tag == tag


def test_pwsnp_ssade_eafe_and_fspm_are_what_the_unit_is_set_up_for():
    """Bits 87, 9, 135 and 131:130 (INTEL-CTX-9, INTEL-SS-13)."""
    structures, stage = make(mode="scalable", ssads=True, eafe=True, first_stage_levels=5, aw=57)
    both = StructureEntry(1, None, stage(FIRST, 0x5000, 3), stage(SECOND, 0x6000, 3), 3)
    words = next(w for _, w in structures.setup([both], Bump()).writes if len(w) == 8)
    assert words == (0x6000 | 1 << 9 | 3 << 6 | 3 << 2 | 1, 1 << 23 | 3, 0x5000 | 1 << 7 | 1 << 2, 0, 0, 0, 0, 0)
    structures, stage = make(mode="scalable", coherent=False, aw=39)
    words = next(
        w
        for _, w in structures.setup([both._replace(stage1=None, stage2=stage(SECOND, 0x6000, 3))], Bump()).writes
        if len(w) == 8
    )
    assert words[:2] == (0x6000 | 2 << 6 | 1 << 2 | 1, 3)


def test_a_device_all_of_which_is_blocked_is_not_present():
    """P of its context entry stays 0, in legacy mode too; its tables are there for later."""
    for mode in ("legacy", "scalable"):
        structures, stage = make(mode=mode)
        image = structures.setup([StructureEntry(5, None, None, stage(SECOND, 0x6000, 3), 3, blocked=True)], Bump())
        found = resolve(structures, written(image), image.base, 5, None)
        assert isinstance(found, BadStructure)
        assert found.kind == ("0x02" if mode == "legacy" else "0x41")


def test_one_blocked_pasid_leaves_the_others():
    """Its entry is not present, that of another PASID is (INTEL-FLT-10)."""
    structures, stage = make(mode="scalable")
    entries = [
        StructureEntry(5, None, None, stage(SECOND, 0x6000, 3), 3),
        StructureEntry(5, 70, None, stage(SECOND, 0x7000, 4), 4, blocked=True),
    ]
    image = structures.setup(entries, Bump())
    assert resolve(structures, written(image), image.base, 5, None).stage2.root_pa == 0x6000
    assert resolve(structures, written(image), image.base, 5, 70).kind == "0x59"


REFUSED = {
    "a first stage in legacy mode": (
        {},
        lambda stage: [StructureEntry(1, None, stage(FIRST, 0, 3), None, 3)],
        "INTEL-CTX-5",
    ),
    "a PASID in legacy mode": (
        {},
        lambda stage: [StructureEntry(1, 3, None, stage(SECOND, 0, 3), 3)],
        "INTEL-CTX-5",
    ),
    "pass-through without ECAP.PT": (
        {"pass_through": False},
        lambda stage: [StructureEntry(1, None, None, None, 3)],
        "INTEL-CTX-11",
    ),
    "ATS without ECAP.DT": (
        {"device_tlb": False},
        lambda stage: [StructureEntry(1, None, None, stage(SECOND, 0, 3), 3, ats=True)],
        "INTEL-CTX-11",
    ),
    "nesting without ECAP.NEST": (
        {"mode": "scalable", "nesting": False},
        lambda stage: [StructureEntry(1, None, stage(FIRST, 0, 3), stage(SECOND, 0, 3), 3)],
        "INTEL-CTX-11",
    ),
    "a PASID wider than ECAP.PSS says": (
        {"mode": "scalable", "pasid_bits": 16},
        lambda stage: [StructureEntry(1, 1 << 16, None, stage(SECOND, 0, 3), 3)],
        "INTEL-CTX-12",
    ),
    "a tag without the PASID": (
        {"mode": "scalable"},
        lambda stage: [StructureEntry(1, 5, stage(FIRST, 0, 3), None, 3)],
        "INTEL-INV-11",
    ),
    "a second-stage tag with a PASID": (
        {"mode": "scalable"},
        lambda stage: [StructureEntry(1, 5, None, stage(SECOND, 0, 3), 5 << 16 | 3)],
        "INTEL-INV-11",
    ),
    "a nested pair of two DIDs": (
        {"mode": "scalable"},
        lambda stage: [StructureEntry(1, 5, stage(FIRST, 0, 5 << 16 | 3), stage(SECOND, 0, 4), 5 << 16 | 3)],
        "INTEL-INV-1",
    ),
    "a DID of first and second stage": (
        {"mode": "scalable"},
        lambda stage: [
            StructureEntry(1, None, stage(FIRST, 0, 3), None, 3),
            StructureEntry(2, None, None, stage(SECOND, 0, 3), 3),
        ],
        "INTEL-CTX-10",
    ),
    "a DID of pass-through and nesting": (
        {"mode": "scalable"},
        lambda stage: [
            StructureEntry(1, None, None, None, 3),
            StructureEntry(2, None, stage(FIRST, 0, 3), stage(SECOND, 0, 3), 3),
        ],
        "INTEL-CTX-10",
    ),
    "no PASID beside PASID 0": (
        {"mode": "scalable"},
        lambda stage: [
            StructureEntry(1, None, None, stage(SECOND, 0, 3), 3),
            StructureEntry(1, 0, None, stage(SECOND, 0, 3), 3),
        ],
        "INTEL-CTX-7",
    ),
    "a first-stage table as second stage": (
        {"mode": "scalable"},
        lambda stage: [StructureEntry(1, None, None, stage(FIRST, 0, 3), 3)],
        "INTEL-CTX-3",
    ),
    "a second-stage table as first stage": (
        {"mode": "scalable"},
        lambda stage: [StructureEntry(1, None, stage(SECOND, 0, 3), None, 3)],
        "INTEL-CTX-3",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_structures_cannot_say_is_refused(name):
    """An error that names the device, the fact and the way out."""
    features, entries, fact = REFUSED[name]
    structures, stage = make(**features)
    with pytest.raises(HitlessError) as raised:
        structures.setup(entries(stage), Bump())
    assert (raised.value.rule, raised.value.who) == (fact, "intel")
    assert raised.value.where.startswith("device 0x")
    assert raised.value.do


@st.composite
def devices(draw):
    """Devices with and without PASIDs, of all kinds of translation; DIDs by kind, so that none is shared."""
    found = []
    for device in draw(st.sets(st.integers(0, 0xFFFF), min_size=1, max_size=4)):
        ats = draw(st.booleans())
        for pasid in draw(st.sets(st.one_of(st.none(), st.integers(1, (1 << 20) - 1)), min_size=1, max_size=3)):
            kind = draw(st.sampled_from(["first", "second", "nested", "through"]))
            did = draw(st.integers(1, 0x7FFF)) | (0x8000 if kind in ("second", "nested") else 0)
            roots = draw(st.tuples(st.integers(1, (1 << 40) - 1), st.integers(1, (1 << 40) - 1)))
            found.append((device, pasid, kind, did, roots[0] << 12, roots[1] << 12, ats))
    return found


@given(devices())
def test_what_was_set_up_is_what_the_unit_reads(asked):
    """Each device and PASID leads to its tables and tags; a PASID that nobody asked for leads nowhere."""
    structures, stage = make(mode="scalable")
    entries = []
    for device, pasid, kind, did, first, second, ats in asked:
        tag = did | (pasid or 0) << 16 if kind in ("first", "nested") else did
        stage1 = stage(FIRST, first, tag) if kind in ("first", "nested") else None
        stage2 = stage(SECOND, second, did) if kind in ("second", "nested") else None
        entries.append(StructureEntry(device, pasid, stage1, stage2, tag, ats))
    image = structures.setup(entries, Bump())
    memory = written(image)
    inside = [(pa, pa + (1 << lg2)) for pa, lg2 in image.blocks]
    assert all(any(start <= pa < end for start, end in inside) for pa in memory)
    for entry in entries:
        found = resolve(structures, memory, image.base, entry.device, entry.pasid)
        assert isinstance(found, Found)
        for read, asked_for in ((found.stage1, entry.stage1), (found.stage2, entry.stage2)):
            assert (read is None) == (asked_for is None)
            if asked_for is not None:
                assert read[1:] == asked_for[1:]
                assert read.page_format.name == asked_for.page_format.name
                assert read.page_format.levels == asked_for.page_format.levels
        if entry.stage1 or entry.stage2:
            assert found.tag == entry.tag
        assert found.ats == entry.ats
    for device in {entry.device for entry in entries}:
        unused = next(i for i in range(1, 9) if all((e.device, e.pasid) != (device, i) for e in entries))
        assert isinstance(resolve(structures, memory, image.base, device, unused), BadStructure)

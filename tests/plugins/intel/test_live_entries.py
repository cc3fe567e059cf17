"""One live entry that changes: stores and descriptors by hand, and what the unit reads after each store."""

import pytest

from hitless.errors import HitlessError
from hitless.hardware.structures import BadStructure, Fetch, Found, StageRoot, StructureEntry
from hitless_intel import plugin
from hitless_intel.features import IntelFeatures
from hitless_intel.structures import IntelStructures

FIRST, SECOND = "intel/first-stage", "intel/second-stage"
ROOT, BUS, DIRECTORY, TABLE = 0x10_0000, 0x20_0000, 0x40_0000, 0x50_0000
DEVICE = 0x0012
ALL = 0x7FFF_FFFF_FFFF_F001
ALL_OF_PASID = 0x7FFF_FFFF_FFFF_F800


def make(**features):
    """Structures of a unit, and a function that makes stages of its formats."""
    chosen = IntelFeatures(**features)
    formats = plugin.page_formats(chosen)
    return IntelStructures(formats[SECOND], chosen), lambda name, pa, tag: StageRoot(formats[name], pa, tag)


def legacy_memory(low: int, high: int) -> dict[int, int]:
    """A live context entry of DEVICE."""
    return {ROOT: BUS | 1, BUS + 0x120: low, BUS + 0x128: high}


def scalable_memory(pasid_entry: tuple[int, ...], index: int = 0, context: int = 0xD) -> dict[int, int]:
    """A live PASID entry of DEVICE, whose context entry has DTE and PASIDE."""
    memory = {ROOT: BUS | 1, BUS + 0x240: DIRECTORY | context, DIRECTORY: TABLE | 1}
    return memory | {TABLE + 64 * index + 8 * i: word for i, word in enumerate(pasid_entry)}


def resolve(structures, memory, base, pasid=None):
    """What the unit knows after it has read all structures of DEVICE."""
    at = structures.start(base, DEVICE, pasid)
    while isinstance(at, Fetch):
        at = structures.step(at, tuple(memory.get(at.pa + 8 * i, 0) for i in range(at.words)))
    return at


def play(rounds, memory):
    """Do the stores one by one, each a compare-and-exchange of one word; memory after each."""
    states = []
    for each in rounds:
        for store in each.stores:
            assert len(store.expected) == len(store.new) == 1
            assert (memory.get(store.pa, 0),) == store.expected
            memory[store.pa] = store.new[0]
            states.append(dict(memory))
    return states


def test_a_legacy_entry_is_blocked_by_one_store():
    """P goes; context cache of the device, IOTLB of its DID, then its device TLB (INTEL-CTX-4, INTEL-QI-9)."""
    structures, _ = make()
    memory = legacy_memory(0xAAAA_A005, 0x702)
    entry = StructureEntry(DEVICE, None, None, None, 0, blocked=True)
    (out,) = structures.change(ROOT, entry, lambda pa: memory.get(pa, 0))
    assert [(s.pa, s.expected, s.new) for s in out.stores] == [(BUS + 0x120, (0xAAAA_A005,), (0xAAAA_A004,))]
    assert out.commands == ((0x12_0007_0031, 0), (0x7_00E2, 0), (0x12_0000_0003, ALL))
    play([out], memory)
    assert resolve(structures, memory, ROOT).kind == "0x02"
    assert structures.change(ROOT, entry, lambda pa: memory.get(pa, 0)) == []


def test_a_legacy_entry_without_ats_needs_no_device_tlb_command():
    """TT 00 (INTEL-CTX-2)."""
    structures, _ = make()
    memory = legacy_memory(0xAAAA_A001, 0x702)
    entry = StructureEntry(DEVICE, None, None, None, 0, blocked=True)
    (out,) = structures.change(ROOT, entry, lambda pa: memory.get(pa, 0))
    assert out.commands == ((0x12_0007_0031, 0), (0x7_00E2, 0))


def test_a_new_domain_in_legacy_mode():
    """Out, wait, then the high word and the low word with P: no request sees a mixture (INTEL-CTX-4)."""
    structures, stage = make()
    memory = legacy_memory(0xAAAA_A001, 0x702)
    entry = StructureEntry(DEVICE, None, None, stage(SECOND, 0xBBBB_B000, 9), 9)
    rounds = structures.change(ROOT, entry, lambda pa: memory.get(pa, 0))
    assert [[(s.pa, s.new[0]) for s in each.stores] for each in rounds] == [
        [(BUS + 0x120, 0xAAAA_A000)],
        [(BUS + 0x128, 0x902), (BUS + 0x120, 0xBBBB_B001)],
    ]
    assert rounds[1].commands == ()
    *between, after = play(rounds, memory)
    assert all(isinstance(resolve(structures, state, ROOT), BadStructure) for state in between)
    found = resolve(structures, after, ROOT)
    assert (found.stage2.root_pa, found.tag) == (0xBBBB_B000, 9)
    assert structures.change(ROOT, entry, lambda pa: memory.get(pa, 0)) == []


def test_with_caching_mode_what_appears_is_told():
    """A context entry that was not present may be cached, under DID 0 (INTEL-INV-6)."""
    structures, stage = make(caching_mode=True)
    memory = legacy_memory(0, 0)
    entry = StructureEntry(DEVICE, None, None, stage(SECOND, 0xBBBB_B000, 9), 9)
    (into,) = structures.change(ROOT, entry, lambda pa: memory.get(pa, 0))
    assert into.commands == ((0x12_0000_0031, 0), (0x9_00E2, 0))
    assert len(make()[0].change(ROOT, entry, lambda pa: memory.get(pa, 0))[0].commands) == 0


SS_ENTRY = (0xAAAA_A089, 1 << 23 | 7, 0, 0, 0, 0, 0, 0)
FS_ENTRY = (0x41, 1 << 23 | 7, 0xBBBB_B000, 0, 0, 0, 0, 0)
NESTED_ENTRY = (0xAAAA_A0C9, 1 << 23 | 7, 0xBBBB_B000, 0, 0, 0, 0, 0)
THROUGH_ENTRY = (0x101, 1 << 23 | 7, 0, 0, 0, 0, 0, 0)
P5 = 5 << 32
PASID_CACHE = P5 | 0x7_0017
IOTLB_DOMAIN, PASID_IOTLB = 0x7_00E2, P5 | 0x7_0026
DEVICE_TLB = (P5 | 0x12_0008, ALL_OF_PASID, 0, 0)


@pytest.mark.parametrize(
    ("words", "translations"),
    [
        (SS_ENTRY, [IOTLB_DOMAIN]),
        (FS_ENTRY, [PASID_IOTLB]),
        (NESTED_ENTRY, [PASID_IOTLB, IOTLB_DOMAIN]),
        (THROUGH_ENTRY, [PASID_IOTLB]),
    ],
)
def test_one_pasid_is_blocked(words, translations):
    """P of its entry; PASID cache, then what its type was filed under, then the device TLB (INTEL-QI-9)."""
    structures, _ = make(mode="scalable")
    memory = scalable_memory(words, 5)
    entry = StructureEntry(DEVICE, 5, None, None, 0, blocked=True)
    (out,) = structures.change(ROOT | 1 << 10, entry, lambda pa: memory.get(pa, 0))
    assert [(s.pa, s.expected, s.new) for s in out.stores] == [(TABLE + 320, words[:1], (words[0] & ~1,))]
    assert list(out.commands) == [*((low, 0, 0, 0) for low in (PASID_CACHE, *translations)), DEVICE_TLB]
    play([out], memory)
    assert resolve(structures, memory, ROOT | 1 << 10, 5).kind == "0x59"


def test_a_new_first_stage_for_a_pasid():
    """Second stage out, first stage in: all words before the one with P (INTEL-CTX-4)."""
    structures, stage = make(mode="scalable")
    memory = scalable_memory(SS_ENTRY, 5)
    tag = 5 << 16 | 8
    entry = StructureEntry(DEVICE, 5, stage(FIRST, 0xCCCC_C000, tag), None, tag)
    rounds = structures.change(ROOT | 1 << 10, entry, lambda pa: memory.get(pa, 0))
    *between, after = play(rounds, memory)
    assert all(isinstance(resolve(structures, state, ROOT | 1 << 10, 5), BadStructure) for state in between)
    found = resolve(structures, after, ROOT | 1 << 10, 5)
    assert (found.stage1.root_pa, found.stage2, found.tag) == (0xCCCC_C000, None, tag)
    assert [s.pa for s in rounds[-1].stores] == [TABLE + 328, TABLE + 336, TABLE + 320]


def test_a_whole_scalable_device_is_blocked_and_comes_back():
    """P of the context entry; everything that any PASID of it had goes; later one store restores it (INTEL-CTX-15)."""
    structures, stage = make(mode="scalable")
    memory = scalable_memory(SS_ENTRY)
    base = ROOT | 1 << 10
    fence = StructureEntry(DEVICE, None, None, None, 0, blocked=True)
    (out,) = structures.change(base, fence, lambda pa: memory.get(pa, 0))
    assert out.commands == (
        (0x12_0000_0031, 0, 0, 0),
        (0x37, 0, 0, 0),
        (0xD2, 0, 0, 0),
        (0x12_0000_0003, ALL, 0, 0),
        (0x12_0008, ALL_OF_PASID | 1, 0, 0),
    )
    play([out], memory)
    assert resolve(structures, memory, base).kind == "0x41"
    assert structures.change(base, fence, lambda pa: memory.get(pa, 0)) == []
    again = StructureEntry(DEVICE, None, None, stage(SECOND, 0xAAAA_A000, 7), 7)
    rounds = structures.change(base, again, lambda pa: memory.get(pa, 0))
    assert [[(s.pa, s.new[0]) for s in each.stores] for each in rounds] == [[(BUS + 0x240, DIRECTORY | 0xD)]]
    play(rounds, memory)
    assert isinstance(resolve(structures, memory, base), Found)


@pytest.mark.parametrize(
    ("memory", "entry", "fact"),
    [
        ({}, StructureEntry(DEVICE, None, None, None, 3), "INTEL-CTX-4"),
        ({ROOT: BUS | 1, BUS + 0x240: DIRECTORY | 1}, StructureEntry(DEVICE, None, None, None, 3), "INTEL-CTX-4"),
        (scalable_memory(SS_ENTRY, context=0x9), StructureEntry(DEVICE, None, None, None, 3, ats=True), "INTEL-CTX-7"),
        (scalable_memory(SS_ENTRY), StructureEntry(DEVICE, 1 << 13, None, None, 3), "INTEL-CTX-7"),
    ],
)
def test_what_has_no_table_yet_cannot_change(memory, entry, fact):
    """A change has no memory for tables, and leaves the context entry as it is."""
    structures, _ = make(mode="scalable")
    with pytest.raises(HitlessError) as raised:
        structures.change(ROOT | 1 << 10, entry, lambda pa: memory.get(pa, 0))
    assert raised.value.rule == fact

"""Device table and GCR3 tables as software writes and changes them; words by hand from AMD-DTE-* and AMD-GCR-*."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amd_devices import DEVICE, DOMAIN, GUEST_ROOT, IR, IW, ROOT, TV, Memory, Tables, V, structures
from hitless.errors import HitlessError
from hitless.hardware.structures import (
    BadStructure,
    Fetch,
    Found,
    StageRoot,
    StructureEntry,
    StructureRound,
    StructureStore,
)
from hitless.hardware.walker import translate
from hitless_amd.structures import AmdStructures
from hitless_amd.v1 import AmdV1
from hitless_amd.v2 import AmdV2

V1_ROOT = StageRoot(AmdV1(4), ROOT, DOMAIN)


def guest(pasid: int, root: int = GUEST_ROOT) -> StageRoot:
    """A guest's table, filed under its PASID."""
    return StageRoot(AmdV2(), root, DOMAIN | pasid << 16)


def test_setup_writes_a_v1_device():
    """Every other device is held off: V = 1, TV = 0 (AMD-DTE-7)."""
    image = structures().setup([StructureEntry(DEVICE, None, None, V1_ROOT, DOMAIN, ats=True)], Tables())
    assert image.base & 0x1FF == 0
    ((table, words),) = image.writes
    assert (table, len(words)) == (image.base, 512)
    assert words[32:36] == (V | TV | 3 << 7 | 4 << 9 | ROOT | IR | IW, DOMAIN | 1 << 32, 0, 0)
    others = words[:32] + words[36:]
    assert others == (V, 0, 0, 0) * 127
    assert image.blocks == ((table, 12),)


@pytest.mark.parametrize(
    ("device", "pages", "size_lg2"), [(127, 1, 12), (128, 2, 13), (0x180, 4, 14), (0xFFFF, 512, 21)]
)
def test_the_device_table_is_large_enough(device, pages, size_lg2):
    """32 bytes a device, in whole pages."""
    image = structures().setup([StructureEntry(device, None, None, V1_ROOT, DOMAIN)], Tables())
    assert image.base & 0x1FF == pages - 1
    assert image.blocks[0][1] == size_lg2
    assert isinstance(structures().start(image.base, device, None), Fetch)


ENTRIES = [
    ("v1", StructureEntry(DEVICE, None, None, V1_ROOT, DOMAIN)),
    ("bypass", StructureEntry(DEVICE, None, None, None, DOMAIN)),
    ("v2", StructureEntry(DEVICE, None, guest(0), None, DOMAIN)),
    ("v2, ats", StructureEntry(DEVICE, None, guest(0), None, DOMAIN, ats=True)),
    ("nested", StructureEntry(DEVICE, None, guest(0), V1_ROOT, DOMAIN)),
    ("pasid", StructureEntry(DEVICE, 0x3_4567, guest(0x3_4567), V1_ROOT, DOMAIN | 0x3_4567 << 16)),
    ("blocked", StructureEntry(DEVICE, None, None, V1_ROOT, DOMAIN, blocked=True)),
    ("pasid blocked", StructureEntry(DEVICE, 5, guest(5), V1_ROOT, DOMAIN | 5 << 16, blocked=True)),
]


def says(memory: Memory, base: int, unit: AmdStructures, device: int, pasid: int | None) -> Found | BadStructure:
    """What structures in memory lead to."""
    at = unit.start(base, device, pasid)
    while isinstance(at, Fetch):
        at = unit.step(at, tuple(memory.load(at.pa + 8 * i) for i in range(at.words)))
    return at


@pytest.mark.parametrize(("name", "entry"), ENTRIES, ids=[name for name, _ in ENTRIES])
@pytest.mark.parametrize("features", [{}, {"glx": 2}, {"c_bit": 51}])
def test_setup_says_what_was_asked(name, entry, features):
    """Read back by the same unit: stages, roots, tags and ATS."""
    unit = structures(**features)
    image = unit.setup([entry], Tables())
    found = says(Memory().fill(image), image.base, unit, entry.device, entry.pasid)
    if name == "pasid blocked":
        assert found.kind == "not-present"
        return
    mode = "abort" if entry.blocked else "translate" if entry.stage1 or entry.stage2 else "bypass"
    assert found.mode == mode
    if entry.blocked:
        return
    assert (found.tag, found.ats) == (entry.tag, entry.ats)
    for stage, wanted in ((found.stage1, entry.stage1), (found.stage2, entry.stage2)):
        assert (stage and stage[1:]) == (wanted and wanted[1:])


def test_setup_of_several_pasids():
    """One DTE, one GCR3 root; requests without a PASID use the v1 table."""
    unit = structures(glx=1)
    roots = {5: 0x50_0000, 0x205: 0x51_0000, 0x3_FFFF: 0x52_0000}
    entries = [StructureEntry(DEVICE, None, None, V1_ROOT, DOMAIN)]
    entries += [StructureEntry(DEVICE, p, guest(p, root), V1_ROOT, DOMAIN | p << 16) for p, root in roots.items()]
    image = unit.setup(entries, Tables())
    memory = Memory().fill(image)
    assert says(memory, image.base, unit, DEVICE, None).stage1 is None
    assert {p: says(memory, image.base, unit, DEVICE, p).stage1.root_pa for p in roots} == roots
    assert says(memory, image.base, unit, DEVICE, 6).kind == "not-present"
    assert says(memory, image.base, unit, DEVICE, 0x1_0000).structure == "gcr3-level2"
    assert len(image.blocks) == 1 + 1 + 3


@pytest.mark.parametrize(
    ("stage2", "word"), [(None, 0x0008_0000_0030_0001), (V1_ROOT, GUEST_ROOT | 1)], ids=["alone", "nested"]
)
def test_the_c_bit_is_of_host_addresses(stage2, word):
    """In the DTE's roots and in a GCR3 entry; not where that is a guest physical address (AMD-PTE-14, AMD-GCR-4)."""
    c = 1 << 51
    unit = structures(c_bit=51, glx=0)
    image = unit.setup([StructureEntry(DEVICE, None, guest(0), stage2, DOMAIN)], Tables())
    memory = Memory().fill(image)
    word0, word1 = (memory[(image.base & ~c) + 32 * DEVICE + 8 * i] for i in range(2))
    assert image.base >> 51 == 1
    assert word0 >> 51 & 1 == (stage2 is not None)
    assert word1 >> 63 == 1
    gcr3 = (word0 >> 58 & 7) << 12 | (word1 >> 16 & 0xFFFF) << 15 | word1 >> 43 << 31
    assert memory[gcr3 & ~c] == word


@given(page=st.integers(1, (1 << 40) - 8))
def test_a_gcr3_table_anywhere(page):
    """All bits of its address reach their three places."""
    tables = Tables()
    tables.next = page << 12
    unit = structures()
    image = unit.setup([StructureEntry(0, None, guest(0), None, DOMAIN)], tables)
    word0, word1 = image.writes[0][1][:2]
    assert (word0 >> 58 & 7) << 12 | (word1 >> 16 & 0xFFFF) << 15 | word1 >> 43 << 31 == image.blocks[1][0]


@pytest.mark.parametrize(
    ("entries", "features", "why"),
    [
        ([StructureEntry(8, None, None, None, 1)], {"snp": True}, "AMD-RMP-15"),
        ([StructureEntry(8, None, guest(0), None, DOMAIN)], {"snp": True}, "AMD-RMP-19"),
        ([StructureEntry(8, None, None, V1_ROOT, 0)], {"snp": True}, "DomainID other than 0"),
        ([StructureEntry(8, 0x200, guest(0x200), None, DOMAIN)], {"glx": 0}, "PASID 0x200"),
        (
            [StructureEntry(8, 1, guest(1), None, DOMAIN), StructureEntry(8, 2, guest(2), V1_ROOT, DOMAIN)],
            {},
            "share its DomainID and v1 table",
        ),
    ],
)
def test_what_the_device_table_cannot_say(entries, features, why):
    """Refused with the device and the reason."""
    with pytest.raises(HitlessError) as raised:
        structures(**features).setup(entries, Tables())
    assert raised.value.where == "device 0x8"
    assert why in str(raised.value)


# -- changing


def live(*entries: StructureEntry, **features: object) -> tuple[AmdStructures, Memory, int]:
    """A unit with its structures in memory."""
    unit = structures(**features)
    image = unit.setup(entries, Tables())
    return unit, Memory().fill(image), image.base


def apply(memory: Memory, rounds: list[StructureRound]) -> None:
    """Do the stores; each finds what it expects."""
    for each in rounds:
        for store in each.stores:
            assert store.pa % (8 * len(store.new)) == 0
            for i, (expected, new) in enumerate(zip(store.expected, store.new, strict=True)):
                assert memory.load(store.pa + 8 * i) == expected
                memory[store.pa + 8 * i] = new


ALL = 0x7FFF_FFFF_FFFF_F000


def test_a_fence_is_one_128_bit_store():
    """TV and I go; then the DTE, the domain's pages, and the device's cache are invalidated (AMD-DTE-8, AMD-DTE-9)."""
    entry = StructureEntry(DEVICE, None, None, V1_ROOT, DOMAIN, ats=True)
    unit, memory, base = live(entry)
    rounds = unit.change(base, entry._replace(blocked=True), memory.load)
    old = V | TV | 3 << 7 | 4 << 9 | ROOT | IR | IW
    store = StructureStore(base + 32 * DEVICE, (old, DOMAIN | 1 << 32), (old & ~TV, DOMAIN))
    commands = (
        (0x2000_0000_0000_0008, 0),
        (0x3000_1234_0000_0000, ALL | 3),
        (0x4000_0008_2000_0008, ALL | 1),
    )
    assert rounds == [StructureRound((store,), commands)]
    apply(memory, rounds)
    assert says(memory, base, unit, DEVICE, None).mode == "abort"
    apply(memory, unit.change(base, entry, memory.load))
    assert says(memory, base, unit, DEVICE, None).stage2.root_pa == ROOT


def test_a_fence_of_a_nested_device_keeps_its_gcr3_table():
    """It comes back as it was; every PASID that it had is invalidated with GN."""
    entry = StructureEntry(DEVICE, None, guest(0), V1_ROOT, DOMAIN, ats=True)
    other = StructureEntry(DEVICE, 9, guest(9), V1_ROOT, DOMAIN | 9 << 16)
    unit, memory, base = live(entry, other)
    rounds = unit.change(base, entry._replace(blocked=True), memory.load)
    assert rounds[0].commands == (
        (0x2000_0000_0000_0008, 0),
        (0x3000_1234_0000_0000, ALL | 3),
        (0x3000_1234_0000_0000, ALL | 7),
        (0x3000_1234_0000_0009, ALL | 7),
        (0x4000_0008_2000_0008, ALL | 1),
        (0x4000_0008_2000_0008, ALL | 5),
        (0x4009_0008_2000_0008, ALL | 5),
    )
    apply(memory, rounds)
    assert {says(memory, base, unit, DEVICE, pasid).mode for pasid in (None, 9)} == {"abort"}
    apply(memory, unit.change(base, entry, memory.load))
    assert says(memory, base, unit, DEVICE, None).stage1.root_pa == GUEST_ROOT
    assert says(memory, base, unit, DEVICE, 9).stage1.root_pa == GUEST_ROOT


def test_a_fence_finds_every_pasid():
    """Through three levels of GCR3 tables."""
    pasids = [0x7, 0x2_0107, 0xA_BCDE, 0xF_FFFF]
    entries = [StructureEntry(DEVICE, pasid, guest(pasid), V1_ROOT, DOMAIN | pasid << 16) for pasid in pasids]
    whole = StructureEntry(DEVICE, None, None, V1_ROOT, DOMAIN)
    unit, memory, base = live(whole, *entries, glx=2)
    (only,) = unit.change(base, whole._replace(blocked=True), memory.load)
    guests = {word0 & 0xF_FFFF for word0, word1 in only.commands if word0 >> 60 == 3 and word1 & 4}
    assert guests == set(pasids)


def test_a_pasid_changes_in_one_store():
    """Its GCR3 entry, and what was cached of that PASID alone (AMD-INV-13)."""
    entry = StructureEntry(DEVICE, 5, guest(5), V1_ROOT, DOMAIN | 5 << 16)
    unit, memory, base = live(entry)
    rounds = unit.change(base, entry._replace(stage1=guest(5, 0x66_0000)), memory.load)
    ((store,), commands) = rounds[0]
    assert (store.expected, store.new) == ((GUEST_ROOT | 1,), (0x66_0001,))
    assert commands == ((0x3000_1234_0000_0005, ALL | 7),)
    apply(memory, rounds)
    assert says(memory, base, unit, DEVICE, 5).stage1.root_pa == 0x66_0000
    apply(memory, unit.change(base, entry._replace(blocked=True), memory.load))
    assert says(memory, base, unit, DEVICE, 5).kind == "not-present"


@pytest.mark.parametrize(("pasid", "why"), [(0x4_0000, "no GCR3 table for PASID"), (0x3_0000, "have no level 1")])
def test_a_pasid_without_a_table_cannot_change(pasid, why):
    """The GCR3 tables are those of setup."""
    unit, memory, base = live(StructureEntry(DEVICE, 5, guest(5), V1_ROOT, DOMAIN | 5 << 16))
    entry = StructureEntry(DEVICE, pasid, guest(pasid), V1_ROOT, DOMAIN | pasid << 16)
    with pytest.raises(HitlessError, match="cannot say") as raised:
        unit.change(base, entry, memory.load)
    assert why in raised.value.why


def test_a_device_that_was_held_off_has_nothing_to_forget():
    """Only its DTE may be cached."""
    unit, memory, base = live(StructureEntry(DEVICE, None, None, V1_ROOT, DOMAIN))
    (only,) = unit.change(base, StructureEntry(9, None, None, V1_ROOT, DOMAIN), memory.load)
    assert only.commands == ((0x2000_0000_0000_0009, 0),)
    apply(memory, [only])
    assert says(memory, base, unit, 9, None).stage2.root_pa == ROOT


def test_the_root_grows_under_dma():
    """Root and Mode in one 128-bit store; only the DTE is invalidated, for both roots translate alike (AMD-LIVE-8)."""
    fmt = AmdV1(3, width=48)
    entry = StructureEntry(DEVICE, None, None, StageRoot(fmt, ROOT, DOMAIN), DOMAIN)
    unit, memory, base = live(entry, mode=3, dynamic_top=True)
    grown, root = fmt.grown(), 0x77_0000
    changed = entry._replace(stage2=StageRoot(grown, root, DOMAIN))
    memory[root] = grown.table(3, ROOT)
    memory.update({ROOT: 0x20_1000 | 2 << 9 | IR | IW | 1, 0x20_1000: 0x8000_0000 | IR | IW | 1})
    before = translate(memory.load, unit, base, DEVICE, 0x1234).outcome
    (only,) = unit.change(base, changed, memory.load)
    assert only.commands == ((0x2000_0000_0000_0008, 0),)
    ((pa, expected, new),) = only.stores
    flags = V | TV | 3 << 7 | IR | IW
    assert (pa, expected, new) == (
        base + 32 * DEVICE,
        (flags | 3 << 9 | ROOT, DOMAIN),
        (flags | 4 << 9 | root, DOMAIN),
    )
    apply(memory, [only])
    assert translate(memory.load, unit, base, DEVICE, 0x1234).outcome == before


def test_another_root_of_the_next_mode_is_not_growth():
    """Without the pointer to the old root everything is invalidated."""
    entry = StructureEntry(DEVICE, None, None, StageRoot(AmdV1(3), ROOT, DOMAIN), DOMAIN)
    unit, memory, base = live(entry)
    (only,) = unit.change(base, entry._replace(stage2=StageRoot(AmdV1(4), 0x77_0000, DOMAIN)), memory.load)
    assert only.commands == ((0x2000_0000_0000_0008, 0), (0x3000_1234_0000_0000, ALL | 3))

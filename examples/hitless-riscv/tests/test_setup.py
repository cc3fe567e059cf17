"""Structures as they are written, and changed while they live."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sheet import EN_ATS, FIRST, GADE, SADE, SECOND, SV48, Memory, atp
from test_structures import found, structures

from hitless.errors import HitlessError
from hitless.hardware.structures import BadStructure, StageRoot, StructureEntry
from hitless_riscv.sv import Stage1, Stage2

AREA = 0x50_0000


class Pages:
    """Memory for structures: one block after the other."""

    def __init__(self, start=AREA):
        self.next = start

    def allocate(self, size_lg2=12):
        pa = self.next
        self.next += 1 << size_lg2
        return pa


def written(image):
    """The image as memory."""
    memory = Memory()
    for pa, size_lg2 in image.blocks:
        memory.page(pa, 1 << size_lg2)
    for pa, words in image.writes:
        memory.put(pa, *words)
    return memory


def one(**more):
    """Stage 1."""
    return StageRoot(Stage1(), FIRST, 5)._replace(**more)


def two(**more):
    """Stage 2."""
    return StageRoot(Stage2(), SECOND, 7)._replace(**more)


NESTED_TAG = structures().stage1_tag(7, 9)
roots = st.sampled_from([(None, None, 0), (one(), None, 5), (None, two(), 7), (one(tag=NESTED_TAG), two(), NESTED_TAG)])


def test_setup_by_hand():
    """Two devices in a one-level directory: each word (RISCV-DC-1, RISCV-DC-5)."""
    entries = [StructureEntry(3, None, None, two(), 7, ats=True), StructureEntry(5, None, one(), None, 5)]
    image = structures().setup(entries, Pages())
    assert image.base == AREA >> 12 << 10 | 2
    memory = written(image)
    three = [memory[AREA + 64 * 3 + 8 * i] for i in range(8)]
    assert three == [1 | EN_ATS | GADE | SADE, atp(SV48, SECOND, 7), *[0] * 6]
    five = [memory[AREA + 64 * 5 + 8 * i] for i in range(4)]
    assert five == [1 | GADE | SADE, 0, 5 << 12, atp(SV48, FIRST)]
    assert memory[AREA + 64 * 4] == 0


@given(
    st.dictionaries(st.integers(0, (1 << 24) - 1), st.tuples(roots, st.booleans(), st.booleans()), max_size=5),
    st.booleans(),
)
def test_setup_round_trip(devices, extended):
    """What is written is read as it was asked for; who is blocked, or not named, is refused."""
    entries = [
        StructureEntry(device, None, *stages, ats=ats, blocked=blocked)
        for device, (stages, ats, blocked) in devices.items()
    ]
    image = structures(msi_flat=extended).setup(entries, Pages())
    memory = written(image)
    for entry in entries:
        here = found(memory, image.base, entry.device, msi_flat=extended)
        if entry.blocked:
            assert here.kind == "258"
            continue
        assert (here.tag, here.ats) == (entry.tag, entry.ats)
        for root, wanted in ((here.stage1, entry.stage1), (here.stage2, entry.stage2)):
            assert (root is None) == (wanted is None)
            assert root is None or (root.root_pa, root.tag) == (wanted.root_pa, wanted.tag)
            assert root is None or root.page_format.config == wanted.page_format.config
    if not devices:
        assert found(memory, image.base, 1).kind == "258"


@given(st.sets(st.integers(0, (1 << 24) - 1), max_size=5), st.booleans())
def test_devices_of_a_directory(devices, extended):
    """A reader of images is led to every device that was named, in order, and looks into no page twice."""
    mine = structures(msi_flat=extended)
    image = mine.setup([StructureEntry(device, None, None, two(), 7) for device in devices], Pages())
    memory = written(image)
    ranges = list(mine.devices(image.base, memory.load))
    assert all(any(device in each for each in ranges) for device in devices)
    assert all(len(each) == (64 if extended else 128) for each in ranges)
    assert [each.start for each in ranges] == sorted({each.start for each in ranges})
    pages = {device // len(ranges[0]) for device in devices} if ranges else set()
    assert len(ranges) == max(len(pages), 1 if image.base & 15 == 2 else 0)
    assert list(mine.devices(0, memory.load)) == list(mine.devices(1, memory.load)) == []


@pytest.mark.parametrize("largest", [9, 0x1234, 0xABCDE])
@pytest.mark.parametrize("alone", ["refused", "bypass", "stage 1"])
def test_setup_of_processes(largest, alone):
    """PASIDs, beside requests without one that are refused, bypass, or have tables of their own (RISCV-PC-6)."""
    entries = [StructureEntry(8, n, one(tag=n, root_pa=n << 12), None, n) for n in (4, largest)]
    if alone != "refused":
        stage1 = one(tag=3) if alone == "stage 1" else None
        entries.append(StructureEntry(8, None, stage1, None, 3 if stage1 else 0))
    image = structures().setup(entries, Pages())
    memory = written(image)
    for pasid in (4, largest):
        here = found(memory, image.base, 8, pasid)
        assert (here.tag, here.stage1.root_pa) == (pasid, pasid << 12)
    here = found(memory, image.base, 8)
    said = here.kind if isinstance(here, BadStructure) else (here.mode, here.tag)
    assert said == {"refused": "266", "bypass": ("bypass", 0), "stage 1": ("translate", 3)}[alone]
    assert found(memory, image.base, 8, 6).kind == "266"


def test_a_nested_process_directory_lies_in_guest_memory():
    """Host memory holds the device's context alone (RISCV-PC-7)."""
    entries = [StructureEntry(8, 4, one(tag=NESTED_TAG), two(), NESTED_TAG)]
    image = structures().setup(entries, Pages(), Pages(0x9000))
    assert image.guest_writes == ((0x9000 + 16 * 4, (1 | 9 << 12, atp(SV48, FIRST))),)
    assert written(image)[AREA + 64 * 8 + 24] == atp(1, 0x9000)
    with pytest.raises(HitlessError, match="cannot say"):
        structures().setup(entries, Pages())


@pytest.mark.parametrize(
    "entries",
    [
        [StructureEntry(1 << 24, None, None, two(), 7)],
        [StructureEntry(8, None, None, two(tag=1 << 16), 1 << 16)],
        [StructureEntry(8, None, one(tag=1 << 20), None, 1 << 20)],
        [StructureEntry(8, 1 << 20, one(), None, 5)],
        [StructureEntry(8, 0, one(), None, 5)],
        [StructureEntry(8, 3, None, two(), 7)],
        [StructureEntry(8, 3, one(), None, 5), StructureEntry(8, None, None, two(), 7)],
    ],
)
def test_what_the_structures_cannot_say(entries):
    """Ids that are too wide, PASID 0 where all without one are it, several second stages: an error with its fact."""
    with pytest.raises(HitlessError, match="cannot say") as caught:
        structures().setup(entries, Pages(), Pages(0x9000))
    assert caught.value.rule.startswith("RISCV-")


def carry_out(memory, rounds):
    """The stores of a change, each against what it expects; the commands by round."""
    for each in rounds:
        for store in each.stores:
            assert tuple(memory[store.pa + 8 * i] for i in range(len(store.expected))) == store.expected
            memory.put(store.pa, *store.new)
    return [each.commands for each in rounds]


@given(roots, roots, st.booleans(), st.booleans())
def test_change_of_a_device(old, new, ats, blocked):
    """V goes first, caches are told in order and waited for, then the new words stand (RISCV-LIVE-7)."""
    mine = structures()
    image = mine.setup([StructureEntry(8, None, *old, ats=ats)], Pages())
    memory = written(image)
    entry = StructureEntry(8, None, *new, ats=ats, blocked=blocked)
    commands = carry_out(memory, mine.change(image.base, entry, memory.load))
    here = found(memory, image.base, 8)
    if blocked:
        assert here.kind == "258"
    else:
        assert (here.tag, here.ats) == (new[2], ats)
    if commands:
        assert commands[0] == ((3 | 1 << 33 | 8 << 40, 0),)
        gone = [{0x81, 0x01}] if old[1] else [{0x01}] if old[0] else []
        told = [{words[0] & 0x3FF for words in each} for each in commands[1:] if each]
        assert told == [*gone, *([{0x04}] if ats else [])]
    assert not mine.change(image.base, entry, memory.load)


def test_change_of_a_process():
    """INVAL_PDT, then VMA of the PSCID, then the device's PASID (RISCV-LIVE-8)."""
    mine = structures()
    entries = [StructureEntry(8, pasid, one(tag=pasid), None, pasid, ats=True) for pasid in (3, 4)]
    image = mine.setup(entries, Pages())
    memory = written(image)
    new = StructureEntry(8, 3, one(tag=6, root_pa=0x77_0000), None, 6, ats=True)
    assert carry_out(memory, mine.change(image.base, new, memory.load)) == [
        ((0x83 | 1 << 33 | 8 << 40 | 3 << 12, 0),),
        ((0x01 | 1 << 32 | 3 << 12, 0),),
        ((0x04 | 8 << 40 | 1 << 32 | 3 << 12, 0x7FFF_FFFF_FFFF_F800),),
        (),
    ]
    assert (found(memory, image.base, 8, 3).tag, found(memory, image.base, 8, 4).tag) == (6, 4)
    carry_out(memory, mine.change(image.base, new._replace(blocked=True), memory.load))
    assert found(memory, image.base, 8, 3).kind == "266"
    carry_out(memory, mine.change(image.base, new._replace(pasid=None, blocked=True), memory.load))
    assert found(memory, image.base, 8, 4).kind == "258"
    nothing = Memory(dict.fromkeys(range(0x70_0000, 0x70_1000, 8), 0))
    with pytest.raises(HitlessError, match="cannot say") as caught:
        mine.change(0x700 << 10 | 3, new, nothing.load)
    assert "no dc to change" in caught.value.why

"""What vendors declare of QEMU, without a QEMU: queues, traces, registers."""

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitless.hardware.emulator import Queues, Ring, Until, Write
from hitless.machine.qemu.boards import BOARDS, GUEST_PA
from hitless.machine.qemu.errors import NoEmulator
from hitless.machine.qemu.machine import QemuMachine
from qemu_stand import FORMATS, emulated
from stand import registry

RINGS = (Ring(0, 8, 16), Ring(0, 8, 32), Ring(0, 8), Ring(0, 8, wraps=True))


@given(
    ring=st.sampled_from(RINGS),
    entries=st.sampled_from([2, 128, 256]),
    before=st.integers(0, 5000),
    more=st.integers(0, 255),
)
def test_a_ring_counts_on(ring, entries, before, more):
    """From a register and the last count follows the count, as long as less than a turn has passed."""
    more %= entries
    raw = ring.pointer(before + more, entries)
    assert raw < entries * ring.step * (2 if ring.wraps else 1)
    assert ring.advanced(before, raw, entries) == before + more
    assert ring.advanced(before, raw | 1 << 24, entries) == before + more  # error bits above the index


def test_a_ring_has_the_hardware_s_values():
    """Bytes or indices, and the bit above the index on odd turns."""
    assert Ring(0, 8, 16).pointer(257, 256) == 0x10
    assert Ring(0, 8, 32).pointer(255, 256) == 0x1FE0
    assert Ring(0, 8, wraps=True).pointer(257, 256) == 0x101
    assert Ring(0, 8, wraps=True).pointer(513, 256) == 1


LINES = {
    "intel/second-stage": (
        (
            "vtd_dmar_translate dev 00:05.00 iova 0xc0000000 -> gpa 0x100000000 mask 0x3fffffff",
            (0xC0000000, 1 << 32, 30),
        ),
        ("vtd_dmar_translate dev 00:05.00 iova 0x5000 -> gpa 0x100007000 mask 0xfff", (0x5000, 0x100007000, 12)),
        ("vtd_dmar_fault sid 0x28 fault 5 addr 0x6004 write 1", (0x6004, None, None)),
        ("vtd_fsts_ppf FSTS PPF bit set to 1", None),
    ),
    "amd/v1": (
        ("amdvi_translation_result devid: 00:05.0 gpa 0x612348 hpa 0x100000000", (0x612348, 1 << 32, None)),
        ("amdvi_translation_result devid: 00:05.0 gpa 0x6000 hpa 0x0", (0x6000, None, None)),
        ("amdvi_iotlb_hit hit iotlb devid 00:05.0 gpa 0x5010 hpa 0x100007000", None),
    ),
    "arm_smmu/stage2": (
        (
            "smmuv3_translate_success smmuv3-x-40-1 sid=0x28 iova=0x5010 translated=0x100007010 perm=0x3 stage=2",
            (0x5010, 0x100007010, None),
        ),
        ("smmuv3_record_event SMMU_EVT_F_TRANSLATION sid=0x28", (None, None, None)),
        (
            "smmu_iotlb_lookup_miss IOTLB cache MISS asid=-1 vmid=1 addr=0x1000 hit=0 miss=1 hit rate=0",
            (0x1000, None, None),
        ),
        ("smmu_iotlb_insert IOTLB ++ asid=1 vmid=1 addr=0x1000 tg=1 level=3", None),
    ),
}


@pytest.mark.parametrize(("page_format", "line", "told"), [(f, *each) for f, lines in LINES.items() for each in lines])
def test_trace_lines(page_format, line, told):
    """Lines as QEMU 10.0 wrote them, read."""
    found = emulated(page_format.split("/")[0], page_format).emulator.read_trace(line)
    assert (found and found[:3]) == told


@pytest.mark.parametrize(("vendor", "page_format"), FORMATS, ids=[name for _, name in FORMATS])
def test_declarations_are_whole(vendor, page_format):
    """Registers are written in widths that exist, waits can be met, and every deviation says what was seen."""
    emulator = emulated(vendor, page_format).emulator
    steps = [
        *emulator.start(Queues(1 << 30, 256, (1 << 30) + (1 << 16), 128)),
        *emulator.point((1 << 30) + (1 << 20), enabled=False),
        *emulator.point((1 << 30) + (1 << 20), enabled=True),
    ]
    for step in steps:
        assert step.bits in (32, 64)
        assert 0 <= step.value < 1 << step.bits
        if isinstance(step, Until):
            assert step.value & ~step.mask == 0
        else:
            assert isinstance(step, Write)
    ids = [each.id for each in emulator.deviations]
    assert len(ids) == len(set(ids))
    assert all(each.startswith(f"{vendor}.") for each in ids)
    assert emulator.board in BOARDS
    assert emulator.unable((10, 0)) is None
    assert emulator.blind


@pytest.mark.parametrize(
    ("page_format", "reason"), [("arm_smmu/stage2", "from 10.0 on"), ("intel/first-stage", "from 10.0 on")]
)
def test_what_an_old_version_lacks_is_a_reason(page_format, reason):
    """QEMU 7.2 has no stage 2 and no first stage: each is a sentence for a skip."""
    assert reason in emulated(page_format.split("/")[0], page_format).emulator.unable((7, 2))


def test_boards_keep_guest_memory_apart():
    """Tables and queues lie below guest memory, and no two parts of the file overlap."""
    for board in BOARDS.values():
        start, end = board.low
        assert 16 << 20 <= start < end <= GUEST_PA
        assert board.low_offset + end - start <= board.guest_offset


def test_a_vendor_without_an_emulator():
    """A plugin need not declare one; then there is no QEMU machine for it, and the error says so."""
    record = attrs.evolve(registry("amd").resolve("amd"), emulator=None)
    with pytest.raises(NoEmulator, match="declares no emulator"):
        QemuMachine.of(record)

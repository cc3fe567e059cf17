"""An emulated unit: the real queue and the real completion, what stays cached, fault records, errors."""

import shutil
import threading
import time

import pytest

from hitless.errors import HitlessError
from hitless.hardware.emulator import Until
from hitless.hardware.facts import FaultRecord
from hitless.hardware.structures import Found
from hitless.hardware.translator import Attachment
from hitless.machine.qemu.boards import BOARDS
from hitless.machine.qemu.errors import EmulatorError, NotEmulated
from hitless.machine.qemu.machine import QemuMachine
from hitless.ownership import OwnerTable
from hitless.plugin import Vendor
from hitless.refresh.commands import Target
from hitless.units import PAGE
from qemu_stand import FORMATS, attach, emulated, machine_of, put, unit_of

G, M = 1 << 30, 1 << 20
GUEST = 1 << 32
IOVA = 3 * G
OLD, NEW = GUEST, GUEST + G
FIELDS = {
    "intel": ("SID", "FI", "T1"),
    "arm_smmu": ("SID", "input address", "RnW"),
    "riscv": ("DID", "iotval", ""),  # the cause tells the direction
}
"""Of a fault record: the device, the address, and whether it was a read."""


class Bench:
    """One unit with one device behind a table that maps one leaf."""

    def __init__(self, vendor: Vendor, machine: QemuMachine) -> None:
        self.vendor, self.machine = vendor, machine
        self.unit = unit_of(machine, vendor)
        self.root = machine.tables.allocate(vendor.page_format.top.table_lg2)
        self.device = attach(machine, self.unit, vendor, self.root)

    def put(self, iova: int, size_lg2: int, oa: int, rights: int = 3) -> int:
        return put(self.machine, self.vendor, self.root, iova, size_lg2, oa, rights)

    def arrives(self, iova: int, *, write: bool = True) -> int | None:
        found = self.unit.look(self.device, iova, write=write)
        return found and found[0]

    def invalidate(self, iova: int, size_lg2: int, tag: int = 1) -> None:
        level = next(each.number for each in self.vendor.page_format.levels if each.lo == size_lg2)
        target = Target(iova, iova + (1 << size_lg2) - 1, size_lg2, level, tables=False)
        for words in self.vendor.commands.invalidate(target, tag):
            self.unit.submit(words)
        self.unit.complete()


@pytest.fixture(scope="module", params=FORMATS, ids=[name for _, name in FORMATS])
def bench(request):
    """One QEMU for all tests of a format."""
    vendor = emulated(*request.param)
    with machine_of(vendor, guest_bytes=2 * G) as machine:
        yield Bench(vendor, machine)


@pytest.mark.parametrize("size_lg2", [12, 21, 30])
def test_stale_until_it_is_invalidated(bench, size_lg2):
    """A new address in a live leaf: the device goes to the old one until the command is waited for, then to the new."""
    iova = {12: IOVA + PAGE, 21: IOVA + 8 * M, 30: IOVA + 4 * G}[size_lg2]
    bench.put(iova, size_lg2, OLD)
    at = iova + (1 << size_lg2) - 16
    offset = at - iova
    assert bench.arrives(at) == OLD + offset
    bench.put(iova, size_lg2, NEW)
    assert bench.arrives(at) == OLD + offset
    bench.invalidate(iova, size_lg2)
    assert bench.arrives(at) == NEW + offset
    assert bench.arrives(at, write=False) == NEW + offset


def test_a_wait_alone_drops_nothing(bench):
    """A missing invalidation is seen: the wait completes, and the device still goes to the old address."""
    bench.put(IOVA + 64 * M, 12, OLD)
    assert bench.arrives(IOVA + 64 * M) == OLD
    bench.put(IOVA + 64 * M, 12, NEW)
    bench.unit.complete()
    assert bench.arrives(IOVA + 64 * M) == OLD
    bench.invalidate(IOVA + 64 * M, 12)
    assert bench.arrives(IOVA + 64 * M) == NEW


def test_another_tag_drops_nothing(bench):
    """An invalidation of another domain, VMID or ASID leaves the stale translation where it is."""
    bench.put(IOVA + 66 * M, 12, OLD)
    assert bench.arrives(IOVA + 66 * M) == OLD
    bench.put(IOVA + 66 * M, 12, NEW)
    tag = 2 << 16 if bench.vendor.page_format.name == "arm_smmu/stage1" else 2  # the same VMID, another ASID
    bench.invalidate(IOVA + 66 * M, 12, tag)
    assert bench.arrives(IOVA + 66 * M) == OLD
    bench.invalidate(IOVA + 66 * M, 12)


def test_the_queue_goes_round(bench):
    """More commands than the queue holds: each is taken, in order, and every wait completes."""
    entries = bench.unit.facts.queue_entries
    before = bench.unit.tail
    for number in range(entries):
        bench.invalidate(number * PAGE, 12)
    assert bench.unit.tail - before == 2 * entries
    bench.put(IOVA + 68 * M, 12, OLD)
    assert bench.arrives(IOVA + 68 * M) == OLD


def test_rights_are_kept(bench):
    """A leaf that may only be read can be read and not written."""
    bench.put(IOVA + 70 * M, 12, OLD, 1)
    bench.unit.forget()
    assert bench.arrives(IOVA + 70 * M) is None
    if bench.unit.emulator.traces_rights:
        assert bench.arrives(IOVA + 70 * M, write=False) == OLD


def test_a_fault_record_is_decoded(bench):
    """What QEMU writes of a refused request our decoder tells: device, address, direction, that nothing was there."""
    bench.unit.drain_events()
    assert bench.arrives(IOVA + 72 * M) is None
    records = bench.unit.drain_events()
    if bench.unit.emulator.events is None:
        assert not records
        return
    told = bench.vendor.events.decode(records[0])
    device, address, read = FIELDS[bench.vendor.name]
    assert told[device] == bench.device
    assert told[address] << (12 if address == "FI" else 0) == IOVA + 72 * M
    assert not read or told[read] == 0
    expected = bench.vendor.events.decode(
        bench.vendor.events.encode(_not_present(bench.device, IOVA + 72 * M, bench.vendor))
    )
    assert told["event"] == expected["event"]
    assert not bench.unit.drain_events() or len(records) < 3


def _not_present(device: int, iova: int, vendor: Vendor) -> FaultRecord:
    return FaultRecord(device, iova, True, "not-present", 0, 1, stage=vendor.page_format.stage)


def test_a_leaf_that_flips_is_old_or_new(bench):
    """A thread rewrites a leaf as the executor does; what a device writes goes to the old page or to the new."""
    iova = IOVA + 80 * M
    at = bench.put(iova, 12, OLD)
    one = bench.machine.memory.load(at)
    bench.put(iova, 12, NEW)
    other = bench.machine.memory.load(at)
    done, flips = threading.Event(), 0

    def flip() -> None:
        nonlocal flips
        while not done.is_set():
            for _ in range(101):
                found = bench.machine.memory.load(at)
                hardware = found & ~(one | other)
                bench.machine.memory.compare_exchange(
                    at, found, (other if found & ~hardware == one else one) | hardware
                )
                flips += 1
            time.sleep(0)

    thread = threading.Thread(target=flip)
    thread.start()
    try:
        seen = []
        for _ in range(60):
            seen.append(bench.arrives(iova + 8))
            bench.invalidate(iova, 12)
    finally:
        done.set()
        thread.join()
    assert set(seen) == {OLD + 8, NEW + 8}
    assert flips > 1000


def test_a_register_that_never_changes_is_an_error(bench):
    """A wait for a register is bounded."""
    with pytest.raises(EmulatorError, match="register 0x0 never became"):
        bench.unit.registers.access([Until(0, 1 << 31, 3)])


def test_what_it_has_not_is_refused(bench):
    """Devices that were not named, and devices with an ATC, cannot be attached; nothing changes."""
    found = Found("bypass", None, None, 0)
    for each in (
        Attachment(0x30, found, bench.vendor.ownership, OwnerTable()),
        Attachment(bench.device, found, bench.vendor.ownership, OwnerTable(), ats=True),
    ):
        with pytest.raises(HitlessError):
            bench.unit.attach([each])
    bench.put(IOVA + 90 * M, 12, OLD)
    assert bench.arrives(IOVA + 90 * M) == OLD


@pytest.mark.parametrize(("vendor", "page_format"), [FORMATS[1], FORMATS[4]], ids=["intel", "arm_smmu"])
def test_a_bad_command_stops_the_queue(vendor, page_format):
    """A command that QEMU refuses is an error that names it; AMD's emulation goes on without a word."""
    record = emulated(vendor, page_format)
    with machine_of(record) as machine:
        unit = unit_of(machine, record)
        unit.submit((0xEF,) + (0,) * (record.commands.words - 1))
        with pytest.raises(HitlessError, match="refused a command and stopped its queue") as raised:
            unit.complete()
        assert "0xef" in raised.value.where


def test_two_units_share_one_memory():
    """Each unit is a QEMU of its own, and both walk the same tables."""
    vendor = emulated("intel", "intel/second-stage")
    with machine_of(vendor) as machine:
        units = [unit_of(machine, vendor) for _ in range(2)]
        root = machine.tables.allocate(12)
        put(machine, vendor, root, IOVA, 12, OLD)
        for unit in units:
            device = attach(machine, unit, vendor, root)
            assert unit.look(device, IOVA + 8, write=True) == (OLD + 8, 12)
        assert len({each.pid for each in machine.processes}) == 2


def test_what_is_not_emulated_is_a_reason():
    """A format, or a feature, that this QEMU does not have is refused with that reason, before anything is wrong."""
    for vendor, page_format, features in (
        ("amd", "amd/v2", {"snp": False}),
        ("intel", "intel/second-stage", {"aw": 57, "haw": 52, "sagaw": 0xE}),
        ("arm_smmu", "arm_smmu/stage2", {"ipa_bits": 42, "concatenate": True}),
    ):
        record = emulated(vendor, page_format, **features)
        if shutil.which(BOARDS[record.emulator.board].program) is None:
            pytest.skip(f"{BOARDS[record.emulator.board].program} is not installed")
        with machine_of(record) as machine, pytest.raises(NotEmulated, match="QEMU"):
            machine.add_unit("iommu0", record)

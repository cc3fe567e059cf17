"""What tests with QEMU share: a machine with one unit, or a skip with the reason."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from hitless.hardware.structures import Found, StageRoot
from hitless.hardware.translator import Attachment
from hitless.hardware.vendor import Vendor
from hitless.machine.qemu.errors import NoEmulator
from hitless.machine.qemu.machine import QemuMachine, emulator_of
from hitless.machine.qemu.unit import QemuUnit
from hitless.ownership import OwnerTable
from hitless.pagetable import READ, WRITE, entry_pa
from hitless.plugin import VendorRegistry
from installed import OWN, VENDORS
from stand import registry

FORMATS = [
    ("amd", "amd/v1"),
    ("intel", "intel/second-stage"),
    ("intel", "intel/first-stage"),
    ("arm_smmu", "arm_smmu/stage1"),
    ("arm_smmu", "arm_smmu/stage2"),
]
if "riscv" in VENDORS:  # a stranger's, from examples/hitless-riscv
    FORMATS += [("riscv", "riscv/stage2"), ("riscv", "riscv/stage1")]


def vendors(name: str) -> VendorRegistry:
    """A vendor of this distribution, or one that is installed beside it."""
    return registry(name) if name in OWN else VendorRegistry.installed([name])


def emulated(vendor: str, page_format: str, **features: Any) -> Vendor:
    """A vendor as QEMU emulates it."""
    found = vendors(vendor)
    told = emulator_of(found.resolve(vendor, page_format)).features
    return found.resolve(vendor, page_format, {**told, **features})


@contextmanager
def machine_of(vendor: Vendor, **memory: int) -> Iterator[QemuMachine]:
    """A QEMU machine that is closed afterwards."""
    machine = QemuMachine.of(vendor, **memory)
    try:
        yield machine
    finally:
        machine.close()


def unit_of(machine: QemuMachine, vendor: Vendor, devices: tuple[int, ...] = ()) -> QemuUnit:
    """A unit, or a skip where there is no QEMU, or one that cannot do this."""
    try:
        return machine.add_unit(f"iommu{len(machine.units)}", vendor, devices)
    except NoEmulator as error:
        pytest.skip(f"{error.what} ({error.why})" if error.why else error.what)


def attach(machine: QemuMachine, unit: QemuUnit, vendor: Vendor, root_pa: int, tag: int = 1) -> int:
    """Put the unit's first device behind a table; the device."""
    device, root = next(iter(unit.devices)), StageRoot(vendor.page_format, root_pa, tag)
    stages = (root, None) if vendor.page_format.stage == "1" else (None, root)
    unit.attach([Attachment(device, Found("translate", *stages, tag), vendor.ownership, OwnerTable())])
    return device


def put(machine: QemuMachine, vendor: Vendor, root_pa: int, iova: int, size_lg2: int, oa: int, rights: int = 3) -> int:
    """Write a plain leaf, and the tables above it, without the code that plans use; the address of its entry."""
    fmt, table, level = vendor.page_format, root_pa, vendor.page_format.top.number
    while fmt.levels[level].lo > size_lg2:
        at = entry_pa(fmt.levels[level], table, iova)
        if not machine.memory.load(at):
            machine.memory.store(at, fmt.table(level, machine.tables.allocate(fmt.levels[level - 1].table_lg2)))
        table, level = int(fmt.table_pa(machine.memory.load(at))), level - 1
    at = entry_pa(fmt.levels[level], table, iova)
    machine.memory.store(at, int(fmt.leaf(size_lg2, oa, fmt.default_attrs(rights))))
    return at


__all__ = ["FORMATS", "READ", "WRITE", "attach", "emulated", "machine_of", "put", "unit_of", "vendors"]

"""The QEMU machine: the same as the one in memory, with memory that QEMU shares and units that it emulates."""

import mmap
import os
from collections.abc import Sequence
from typing import Any, Self

from attrs import asdict, define, field

from hitless.errors import HitlessError
from hitless.hardware.emulator import Emulator
from hitless.hardware.unit import Unit
from hitless.hardware.vendor import Vendor
from hitless.machine.inmemory import QUEUE_BYTES, STRUCTURE_BYTES, Machine
from hitless.machine.qemu.boards import BOARDS, GUEST_PA, Board
from hitless.machine.qemu.edu import Edu, edu_argument
from hitless.machine.qemu.errors import NotEmulated
from hitless.machine.qemu.nvme import BULK_DEVICE, MOST_PAGES, WINDOW_LG2, Nvme, nvme_arguments
from hitless.machine.qemu.pci import Pci
from hitless.machine.qemu.process import QemuProcess, find_program, version_of
from hitless.machine.qemu.registers import Registers
from hitless.machine.qemu.unit import QemuUnit, Witnessed
from hitless.memory import Arena, PageAllocator
from hitless.units import PAGE_LG2, align_up

_RAM_LG2 = 30
_SLOTS = (5, 29)
"""Those below and above are the board's own, the unit's, or the NVMe controller's."""


def emulator_of(vendor: Vendor) -> Emulator:
    """What a vendor declares.

    Raises:
        NotEmulated: it declares none.
    """
    if vendor.emulator is None:
        raise NotEmulated("its plugin declares no emulator", who=vendor.name, do="use the machine in memory")
    return vendor.emulator


def check_emulated(vendor: Vendor) -> str:
    """The path of the QEMU program that emulates a vendor's units.

    Raises:
        NotEmulated: the QEMU that is installed does not.  NoEmulator: none is installed.
    """
    emulator = emulator_of(vendor)
    program = find_program(BOARDS[emulator.board].program)
    version = version_of(program)
    if reason := emulator.unable(version):
        raise NotEmulated(reason, who=vendor.name, why=f"this is QEMU {version[0]}.{version[1]}")
    return program


@define(eq=False, kw_only=True)
class QemuMachine(Machine):
    """Memory that one or more QEMU processes share, each with one unit and the devices behind it.

    The memory is a file without a name. Tables, structures and queues lie below 4 GiB, guest memory above: as
    much of it as is asked for, since only pages that are written cost anything.

    Args:
        board: what the units stand on.
        guest_bytes: how much guest memory has bytes, from GUEST_PA on.
        bulk: every unit has an NVMe controller behind it, too, for many pages at once.
    """

    board: Board
    guest_bytes: int = 1 << _RAM_LG2
    bulk: bool = False
    guest: Arena = field(init=False)
    processes: list[QemuProcess] = field(factory=list)
    _memory_fd: int = field(init=False)
    _bytes: int = field(init=False)

    @classmethod
    def of(
        cls,
        vendor: Vendor,
        seed: int = 0,
        *,
        table_bytes: int = 1 << 28,
        guest_bytes: int = 1 << 30,
        bulk: bool = False,
    ) -> "QemuMachine":
        """A machine for units of a vendor; tables have to be content with what lies below 4 GiB.

        Raises:
            NotEmulated: the vendor declares no emulation.
        """
        board = BOARDS[emulator_of(vendor).board]
        low, end = board.low
        table_bytes = min(table_bytes, end - low - QUEUE_BYTES - STRUCTURE_BYTES)
        return cls(
            seed=seed,
            base_pa=low,
            table_bytes=table_bytes,
            name="qemu",
            board=board,
            guest_bytes=guest_bytes,
            bulk=bulk,
        )

    def _open(self, size: int) -> Arena:
        board = self.board
        self._bytes = board.guest_offset + align_up(self.guest_bytes, _RAM_LG2)
        self._memory_fd = os.memfd_create("hitless-memory")
        os.ftruncate(self._memory_fd, self._bytes)
        self.guest = Arena(GUEST_PA, self.guest_bytes, self._mapped(board.guest_offset, self.guest_bytes))
        return Arena(self.base_pa, size, self._mapped(board.low_offset, size))

    def _mapped(self, offset: int, size: int) -> mmap.mmap:
        return mmap.mmap(self._memory_fd, size, offset=offset)

    def split_tables(self, sizes: Sequence[int]) -> list[PageAllocator]:
        """See :meth:`Machine.split_tables`; one user has what lies below 4 GiB, even if it asked for more."""
        return [self.tables] if len(sizes) == 1 else super().split_tables(sizes)

    def add_unit(self, name: str, vendor: Vendor, devices: Sequence[int] = ()) -> QemuUnit:
        """A unit in a QEMU of its own; see :meth:`Machine.add_unit`.

        ``devices`` are as :meth:`place` places them; none: one.

        Raises:
            NotEmulated: QEMU cannot show this format.  NoEmulator: it is not installed.  EmulatorError: it failed.
        """
        unit = super().add_unit(name, vendor, devices or self.place([0]))
        assert isinstance(unit, QemuUnit)  # noqa: S101 - see _make_unit
        return unit

    def place(self, devices: Sequence[int]) -> list[int]:
        """One PCI slot after the other: what a device's id is elsewhere does not matter.

        Raises:
            HitlessError: there are not so many.
        """
        slots = range(_SLOTS[0], _SLOTS[1] + 1)
        if len(devices) > len(slots):
            raise HitlessError(
                f"{len(devices)} devices behind one unit", who="qemu", do=f"a board has slots for {len(slots)}"
            )
        return [slot << 3 for slot, _ in zip(slots, devices, strict=False)]

    def _make_unit(self, vendor: Vendor, devices: Sequence[int], **parts: Any) -> Unit:
        emulator = emulator_of(vendor)
        if BOARDS[emulator.board] is not self.board:
            raise HitlessError("units of one machine stand on one board", who=vendor.name, do="use two machines")
        check_emulated(vendor)
        machine = ",".join(filter(None, [self.board.machine, emulator.machine, "memory-backend=m0"]))
        arguments = ["-machine", machine, *emulator.arguments]
        for device in devices:
            arguments += edu_argument(device)
        with _Storage() as storage:
            arguments += nvme_arguments(BULK_DEVICE, storage.fd) if self.bulk else ()
            qemu = QemuProcess.start(self.board, self._memory_fd, self._bytes, arguments, [storage.fd])
            self.processes.append(qemu)
            pages = storage.pages()
        pci = Pci(qemu)
        at = emulator.registers
        return QemuUnit(
            **parts,
            emulator=emulator,
            registers=Registers(qemu, at if isinstance(at, int) else pci.enable(int(at, 16) << 3)),
            devices={device: Edu(qemu, pci.enable(device)) for device in devices},
            guest_memory=self.guest,
            bulk=self._bulk(pci, pages) if self.bulk else None,
        )

    def _bulk(self, pci: Pci, pages: mmap.mmap) -> Nvme:
        registers = Registers(pci.process, pci.enable(BULK_DEVICE))
        return Nvme(registers, pages, self.memory, self._reserve(1 << WINDOW_LG2))

    @property
    def tally(self) -> dict[str, int] | None:
        return asdict(self.witnessed)

    @property
    def witnessed(self) -> Witnessed:
        """What was seen of all units."""
        found = Witnessed()
        for unit in self.units.values():
            if isinstance(unit, QemuUnit):
                found.add(unit.witnessed)
        return found

    def close(self) -> None:
        """End the processes and give all memory back; harmless a second time."""
        for each in self.processes:
            each.close()
        self.processes.clear()
        super().close()
        self.guest.close()
        if self._memory_fd >= 0:
            os.close(self._memory_fd)
            self._memory_fd = -1


class _Storage:
    """The file behind an NVMe controller; QEMU and a mapping keep it after it is closed here."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("hitless-storage")
        os.ftruncate(self.fd, MOST_PAGES << PAGE_LG2)

    def pages(self) -> mmap.mmap:
        """What the controller has written."""
        return mmap.mmap(self.fd, MOST_PAGES << PAGE_LG2)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)

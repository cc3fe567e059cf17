"""An NVMe controller: DMA from hundreds of pages with one command, into storage that can be looked into.

Spec: NVM Express base specification: controller properties, submission and completion queues, PRP lists; NVM command
set: Write.
"""

import mmap
import time
from collections.abc import Callable, Sequence

from attrs import define, field

from hitless.machine.qemu.process import ANSWER_SECONDS
from hitless.machine.qemu.registers import Registers
from hitless.memory import PhysicalMemory
from hitless.units import PAGE, PAGE_LG2

BULK_DEVICE = 30 << 3
"""Slot 30 of bus 0."""
WINDOW_LG2 = 15
"""log2 of the memory that queues and lists take."""
MOST_PAGES = 512
_CC, _CSTS, _AQA, _ASQ, _ACQ, _DOORBELLS = 0x14, 0x1C, 0x24, 0x28, 0x30, 0x1000
_ENTRIES = 16
_SQE_WORDS, _CQE_WORDS = 8, 2
_CREATE_SQ, _CREATE_CQ, _WRITE = 1, 5, 1
_LIST = 4
"""The window's page that holds the PRP list; before it lie two submission and two completion queues."""


def nvme_arguments(device: int, storage_fd: int) -> tuple[str, ...]:
    """QEMU's arguments for a controller at slot << 3 | function, whose namespace is an open file, in blocks of 4K."""
    blocks = f"logical_block_size={PAGE},physical_block_size={PAGE}"
    return (
        *("-blockdev", f"driver=file,filename=/proc/self/fd/{storage_fd},node-name=f0,locking=off"),
        *("-device", f"nvme,serial=hitless,drive=f0,addr={device >> 3:02x}.0,mdts=0,{blocks}"),
    )


@define(eq=False)
class Nvme:
    """One controller.

    Args:
        registers: its BAR 0.
        storage: the namespace.
        memory: where its window lies.
        window_pa: 2**WINDOW_LG2 bytes of memory.
    """

    registers: Registers
    storage: mmap.mmap
    memory: PhysicalMemory
    window_pa: int
    _window_iova: int = 0
    _tails: list[int] = field(factory=lambda: [0, 0])

    def start(self, window_iova: int) -> None:
        """Switch it on, with one pair of queues for commands besides the admin queues.

        ``window_iova`` is where the device reaches its window: read and write, as long as it is used.

        Raises:
            EmulatorError: it does not come up, or refuses a command.
        """
        self._window_iova = at = window_iova
        registers = self.registers
        registers.write(_AQA, (_ENTRIES - 1) << 16 | _ENTRIES - 1)
        registers.write(_ASQ, at, 64)
        registers.write(_ACQ, at + 2 * PAGE, 64)
        registers.write(_CC, 4 << 20 | 6 << 16 | 1)
        self._bounded(lambda: bool(registers.read(_CSTS) & 1), "the controller does not become ready")
        size = (_ENTRIES - 1) << 16 | 1
        self._submit(0, [_CREATE_CQ, 0, 0, at + 3 * PAGE, 0, size | 1 << 32, 0, 0])
        self._submit(0, [_CREATE_SQ, 0, 0, at + PAGE, 0, size | 0x1_0001 << 32, 0, 0])

    def gather(self, iovas: Sequence[int]) -> list[int]:
        """The first word of each page, as the device reads it; at most MOST_PAGES pages. One that faults gives 0.

        Raises:
            EmulatorError: the command fails.
        """
        if not 2 < len(iovas) <= MOST_PAGES:
            raise ValueError(f"3 to {MOST_PAGES} pages, not {len(iovas)}")
        self.storage[: len(iovas) << PAGE_LG2] = bytes(len(iovas) << PAGE_LG2)
        for i, iova in enumerate(iovas[1:]):
            self.memory.store(self.window_pa + _LIST * PAGE + 8 * i, iova)
        listed = self._window_iova + _LIST * PAGE
        self._submit(1, [_WRITE | 1 << 32, 0, 0, iovas[0], listed, 0, len(iovas) - 1, 0])
        return [int.from_bytes(self.storage[at : at + 8], "little") for at in range(0, len(iovas) << PAGE_LG2, PAGE)]

    def _submit(self, queue: int, words: Sequence[int]) -> None:
        """One command, and its completion."""
        turn, index = divmod(self._tails[queue], _ENTRIES)
        entry = self.window_pa + queue * PAGE + index * _SQE_WORDS * 8
        for i, word in enumerate(words):
            self.memory.store(entry + 8 * i, word)
        self._tails[queue] += 1
        self.registers.write(_DOORBELLS + 8 * queue, (index + 1) % _ENTRIES)
        done = self.window_pa + (2 + queue) * PAGE + index * _CQE_WORDS * 8 + 8
        phase = turn & 1 ^ 1
        self._bounded(lambda: self.memory.load(done) >> 48 & 1 == phase, f"command {words[0] & 0xFF} does not end")
        self.registers.write(_DOORBELLS + 8 * queue + 4, (index + 1) % _ENTRIES)
        if status := self.memory.load(done) >> 49:
            raise self.registers.qemu.error(f"command {words[0] & 0xFF} of the NVMe controller: status {status:#x}")

    def _bounded(self, happened: Callable[[], bool], what: str) -> None:
        until = time.monotonic() + ANSWER_SECONDS
        while not happened():
            if time.monotonic() > until:
                raise self.registers.qemu.error(f"NVMe: {what}")

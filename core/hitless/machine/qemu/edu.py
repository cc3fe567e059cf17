"""The ``edu`` device: DMA of up to 4 KiB between memory and a buffer of its own."""

import time

from attrs import define

from hitless.machine.qemu.process import ANSWER_SECONDS, QemuProcess

_SOURCE, _TARGET, _COUNT, _COMMAND = 0x80, 0x88, 0x90, 0x98
_BUFFER = 0x40000
_SPARE = _BUFFER + 0x800
_READ, _WRITE, _BUSY = 1, 3, 1


def edu_argument(device: int) -> tuple[str, ...]:
    """QEMU's arguments for one, at slot << 3 | function, that takes addresses of 64 bits."""
    return "-device", f"edu,addr={device >> 3:02x}.{device & 7},dma_mask=0xffffffffffffffff"


@define(eq=False)
class Edu:
    """One device; ``registers`` is where its BAR 0 lies.

    A read that faults gives zeros. A transfer of more than 4 bytes that faults is tried again in pieces of 4, each
    with a fault of its own.
    """

    process: QemuProcess
    registers: int

    def load(self, iova: int) -> None:
        """Eight bytes of memory, which :meth:`write` writes from now on."""
        self._transfer(iova, _BUFFER, 8, _READ)

    def write(self, iova: int, count: int = 8) -> None:
        """What was loaded, to memory."""
        self._transfer(_BUFFER, iova, count, _WRITE)

    def read(self, iova: int, count: int = 4) -> None:
        """From memory into another part of the buffer."""
        self._transfer(iova, _SPARE, count, _READ)

    def give_back(self, iova: int, count: int = 4) -> None:
        """What was read last, to memory."""
        self._transfer(_SPARE, iova, count, _WRITE)

    def _transfer(self, source: int, target: int, count: int, command: int) -> None:
        qtest = self.process.qtest
        for offset, value in ((_SOURCE, source), (_TARGET, target), (_COUNT, count), (_COMMAND, command)):
            qtest.write(self.registers + offset, value, 64)
        until = time.monotonic() + ANSWER_SECONDS
        while qtest.read(self.registers + _COMMAND, 64) & _BUSY:
            if time.monotonic() > until:
                raise self.process.error(f"a transfer of edu at {self.registers:#x} does not end")

"""PCI configuration space: finds functions, places their registers, lets them do DMA."""

from attrs import define, field

from hitless.errors import HitlessError
from hitless.machine.qemu.process import QemuProcess

_ADDRESS, _DATA = 0xCF8, 0xCFC
_COMMAND, _BAR0 = 0x04, 0x10
_MEMORY_AND_MASTER = 6
_NOTHING = 0xFFFF_FFFF


@define(eq=False)
class Pci:
    """Bus 0 of a board."""

    process: QemuProcess
    _next_pa: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._next_pa = self.process.board.bars_pa

    def read(self, device: int, offset: int) -> int:
        """32 bits of a function's configuration space; ``device`` is slot << 3 | function."""
        return self._access(device, offset, None)

    def write(self, device: int, offset: int, value: int) -> None:
        """Write 32 bits of a function's configuration space."""
        self._access(device, offset, value)

    def _access(self, device: int, offset: int, value: int | None) -> int:
        qtest, config = self.process.qtest, self.process.board.config
        if config is not None:
            at = config + (device << 12) + offset
            if value is None:
                return qtest.read(at, 32)
            qtest.write(at, value, 32)
            return value
        qtest.port_out(_ADDRESS, 1 << 31 | device << 8 | offset)
        if value is None:
            return qtest.port_in(_DATA)
        qtest.port_out(_DATA, value)
        return value

    def enable(self, device: int) -> int:
        """Place BAR 0 of a function and let it do DMA; the address of its registers.

        Raises:
            HitlessError: there is no such function.
        """
        if self.read(device, 0) == _NOTHING:
            raise HitlessError(f"there is no PCI function {device >> 3:02x}.{device & 7}", who="qemu")
        self.write(device, _BAR0, _NOTHING)
        size = (~(self.read(device, _BAR0) & ~0xF) & _NOTHING) + 1
        pa = -(-self._next_pa // size) * size
        self._next_pa = pa + size
        wide = self.read(device, _BAR0) & 4
        self.write(device, _BAR0, pa)
        if wide:
            self.write(device, _BAR0 + 4, 0)
        self.write(device, _COMMAND, self.read(device, _COMMAND) & 0xFFFF | _MEMORY_AND_MASTER)
        return pa

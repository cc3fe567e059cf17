"""A unit's registers in a running QEMU, driven by what its vendor declares."""

from collections.abc import Sequence

from attrs import define

from hitless.hardware.emulator import Access, Alarm, Records, Write
from hitless.machine.qemu.process import QemuProcess
from hitless.refresh.commands import Words

_READS = 2_000


@define(eq=False)
class Registers:
    """Reads and writes at offsets from ``pa``."""

    qemu: QemuProcess
    pa: int

    def read(self, offset: int, bits: int = 32) -> int:
        """One register."""
        return self.qemu.qtest.read(self.pa + offset, bits)

    def write(self, offset: int, value: int, bits: int = 32) -> None:
        """Write one register."""
        self.qemu.qtest.write(self.pa + offset, value, bits)

    def access(self, steps: Sequence[Access]) -> None:
        """Writes and waits, in order.

        Raises:
            EmulatorError: a register never came to hold what was waited for.
        """
        for step in steps:
            if isinstance(step, Write):
                self.write(step.offset, step.value, step.bits)
                continue
            for _ in range(_READS):
                if self.read(step.offset, step.bits) & step.mask == step.value:
                    break
            else:
                what = f"register {step.offset:#x} never became {step.value:#x} in the bits {step.mask:#x}"
                raise self.qemu.error(what)

    def raised(self, alarm: Alarm) -> bool:
        """Whether a unit tells that it has stopped."""
        seen = 0 if alarm.acknowledged is None else self.read(alarm.acknowledged)
        return bool((self.read(alarm.offset) ^ seen) & alarm.mask)

    def records(self, told: Records) -> list[Words]:
        """The fault records that registers hold; they are freed."""
        found: list[Words] = []
        for at in range(told.offset, told.offset + 16 * told.count, 16):
            words = self.read(at, 64), self.read(at + 8, 64)
            if words[told.valid // 64] >> told.valid % 64 & 1:
                found.append(words)
                self.write(at + told.clear[0], told.clear[1])
        self.access(told.also)
        return found

"""The qtest protocol: reads and writes of physical addresses and I/O ports, one line each way."""

from collections.abc import Callable

from attrs import define

from hitless.machine.qemu.errors import EmulatorError
from hitless.machine.qemu.lines import Lines

_WIDTH = {8: "b", 16: "w", 32: "l", 64: "q"}


@define(eq=False)
class Qtest:
    """One connection; answers come in the order of the questions.

    Args:
        lines: of the connection.
        died: what QEMU said, for the error when it does not answer.
    """

    lines: Lines
    died: Callable[[str], EmulatorError]

    def read(self, pa: int, bits: int = 32) -> int:
        """A register, or memory."""
        return int(self._ask(f"read{_WIDTH[bits]} {pa:#x}")[1], 0)

    def write(self, pa: int, value: int, bits: int = 32) -> None:
        """Write a register, or memory."""
        self._ask(f"write{_WIDTH[bits]} {pa:#x} {value:#x}")

    def port_in(self, port: int) -> int:
        """32 bits of an I/O port."""
        return int(self._ask(f"inl {port:#x}")[1], 0)

    def port_out(self, port: int, value: int) -> None:
        """Write 32 bits to an I/O port."""
        self._ask(f"outl {port:#x} {value:#x}")

    def little_endian(self) -> bool:
        """What the machine answers first of all: its byte order."""
        return self._ask("endianness")[1] == "little"

    def _ask(self, line: str) -> list[str]:
        try:
            self.lines.send(line)
            answer = self._line()
            while answer.startswith("IRQ"):
                answer = self._line()
        except OSError as error:
            raise self.died(f"no answer to qtest command {line!r}: {error}") from error
        words = answer.split()
        if not words or words[0] != "OK":
            raise self.died(f"qtest command {line!r} was answered {answer!r}")
        return words

    def _line(self) -> str:
        return self.lines.receive().decode("ascii", "replace").strip()

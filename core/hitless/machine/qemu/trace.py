"""QEMU's trace lines, as they come."""

import os
from collections.abc import Iterator, Sequence

from attrs import define

from hitless.machine.qemu.process import QemuProcess

_PART = 1 << 20
_ENOUGH = 1 << 26


@define(eq=False)
class TraceLog:
    """Reads what was traced since the last time."""

    process: QemuProcess
    _at: int = 0
    _kept_from: int = 0
    _rest: bytes = b""

    def switch_on(self, events: Sequence[str]) -> None:
        """Trace these events from now on.

        Raises:
            EmulatorError: this QEMU has no such event.
        """
        for name in events:
            self.process.qmp.execute("trace-event-set-state", name=name, enable=True)

    def lines(self) -> Iterator[str]:
        """The lines that are new."""
        while part := os.pread(self.process.log_fd, _PART, self._at):
            self._at += len(part)
            *whole, self._rest = (self._rest + part).split(b"\n")
            for line in whole:
                yield line.decode("ascii", "replace")
        if self._at - self._kept_from > _ENOUGH:  # its memory goes; QEMU writes on at its own place
            self._kept_from = self._at
            os.ftruncate(self.process.log_fd, 0)
            os.ftruncate(self.process.log_fd, self._at)

    def skip(self) -> None:
        """Let go what is new."""
        for _ in self.lines():
            pass

"""The memory of a QEMU that somebody else started, read through its monitor.

QEMU writes pages into a file of ours (``pmemsave``), so both run on one host. A guest that runs goes on writing:
stop it first if tables have to agree with each other. Only RAM is read, since reading devices changes them.
"""

import re
import socket
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from attrs import define, field

from hitless.bits import U64Array
from hitless.errors import BadInput, BusError
from hitless.machine.qemu.errors import EmulatorError
from hitless.machine.qemu.lines import Lines
from hitless.machine.qemu.qmp import Qmp
from hitless.memory.images import Segment

_CHUNK_LG2 = 18
_SECONDS = 20.0
_MEMORY = re.compile(r'\s*AS "memory"')
_RANGE = re.compile(r"\s+([0-9a-f]{16})-([0-9a-f]{16}) \(prio -?\d+, ram\)")


@define(eq=False)
class MonitoredMemory:
    """A guest's RAM, fetched in chunks and kept; see :func:`open_monitor`. BusError where there is none.

    Args:
        segments: where RAM is, sorted.
    """

    qmp: Qmp
    link: socket.socket
    segments: Sequence[Segment]
    _chunks: dict[int, U64Array] = field(factory=dict)

    def load(self, pa: int) -> int:
        """The word at ``pa``."""
        return int(self.view(pa, 1)[0])

    def view(self, pa: int, count: int) -> U64Array:
        """The ``count`` words from ``pa`` on, as they were when they were fetched."""
        segment = self._segment(pa, 8 * count)
        if segment is None or pa & 7:
            raise BusError(pa, "a word lies at a multiple of 8" if pa & 7 else "QEMU has no RAM there")
        parts, at, end = [], pa, pa + 8 * count
        while at < end:
            start, words = self._chunk(at, segment)
            stop = min(end, start + 8 * words.size)
            parts.append(words[at - start >> 3 : stop - start >> 3])
            at = stop
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def gather(self, pas: U64Array) -> U64Array:
        """The words at the addresses."""
        return np.array([self.load(pa) for pa in pas.reshape(-1).tolist()], np.uint64).reshape(pas.shape)

    def contains(self, pa: int, size: int) -> bool:
        """Whether all of ``[pa, pa + size)`` is RAM."""
        return self._segment(pa, size) is not None

    def close(self) -> None:
        """Leave the monitor."""
        self.link.close()

    def _segment(self, pa: int, size: int) -> Segment | None:
        return next((each for each in self.segments if each.start <= pa and pa + size <= each.end), None)

    def _chunk(self, pa: int, segment: Segment) -> tuple[int, U64Array]:
        """The RAM around an address, and where it starts."""
        start = max(pa >> _CHUNK_LG2 << _CHUNK_LG2, segment.start)
        if start not in self._chunks:
            size = min((pa >> _CHUNK_LG2) + 1 << _CHUNK_LG2, segment.end) - start
            with tempfile.TemporaryDirectory(prefix="hitless-") as folder:
                path = Path(folder) / "ram"
                self.qmp.execute("pmemsave", val=start, size=size, filename=str(path))
                self._chunks[start] = np.fromfile(path, np.uint64)
        return start, self._chunks[start]


def _ram(tree: str) -> list[Segment]:
    """The RAM of the address space ``memory`` in what ``info mtree -f`` prints."""
    found: list[Segment] = []
    ours = False
    for line in tree.splitlines():
        if line.startswith("FlatView"):
            ours = False
        elif _MEMORY.match(line):
            ours = True
        elif ours and (match := _RANGE.match(line)):
            start, end = int(match[1], 16), int(match[2], 16) + 1
            if found and found[-1].end == start:
                found[-1] = found[-1]._replace(size=end - found[-1].start)
            else:
                found.append(Segment(start, end - start, 0))
    return found


def open_monitor(path: str) -> MonitoredMemory:
    """The memory of the QEMU whose QMP monitor listens on a Unix socket (``-qmp unix:PATH,server=on,wait=off``).

    Raises:
        BadInput: nobody answers there.
    """
    link = socket.socket(socket.AF_UNIX)
    link.settimeout(_SECONDS)
    try:
        link.connect(path)
    except OSError as error:
        link.close()
        raise BadInput(
            f"no monitor answers at {path!r}",
            why=error.strerror or str(error),
            do="start QEMU with -qmp unix:PATH,server=on,wait=off, and give qmp:PATH",
        ) from error
    qmp = Qmp(Lines(link), lambda why: EmulatorError("the monitor does not do what is asked", who="qemu", why=why))
    try:
        qmp.greet()
        tree = qmp.execute("human-monitor-command", **{"command-line": "info mtree -f"})
        return MonitoredMemory(qmp, link, _ram(tree))
    except EmulatorError:
        link.close()
        raise

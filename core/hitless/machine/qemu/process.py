"""One QEMU process, that leaves nothing behind.

It gets its memory, firmware, log and connections as open files without names, so there is nothing to remove: not
after an error, an interrupt, or when this process is killed. The kernel ends QEMU when this process ends.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Self

from attrs import define, field

from hitless.hardware.emulator import Version
from hitless.machine.qemu.boards import Board
from hitless.machine.qemu.errors import EmulatorError, NoEmulator
from hitless.machine.qemu.lines import Lines
from hitless.machine.qemu.qmp import Qmp
from hitless.machine.qemu.qtest import Qtest

ANSWER_SECONDS = 20.0
"""No answer takes longer, on the slowest of build machines: what does is an error."""
_END_SECONDS = 2.0
_NO_ICOUNT_TIMER = "icount sleep disabled and no active timers"

# Ends with its parent (PR_SET_PDEATHSIG, 1, SIGKILL, 9), then becomes QEMU. A function to be called between fork and
# exec would do the same, but not safely beside threads.
_SHIM = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9)
if os.getppid() == int(sys.argv[1]):
    os.execvp(sys.argv[2], sys.argv[2:])
"""


def find_program(name: str) -> str:
    """The path of a QEMU program.

    Raises:
        NoEmulator: it is not installed, or this system cannot run it as is needed.
    """
    if not hasattr(os, "memfd_create"):
        raise NoEmulator("the QEMU machine needs Linux", who="qemu", do="use the machine in memory")
    path = shutil.which(name)
    if path is None:
        raise NoEmulator(
            f"{name} is not installed",
            who="qemu",
            do="install it from your distribution's packages; `hitless doctor` lists what is missing",
        )
    return path


def version_of(path: str) -> Version:
    """The version that a QEMU program tells.

    Raises:
        EmulatorError: it does not.
    """
    try:
        command = [path, "--version"]
        told = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_SECONDS, check=True)  # noqa: S603
        found = re.search(r"version (\d+)\.(\d+)", told.stdout)
    except (OSError, subprocess.SubprocessError) as error:
        raise EmulatorError(f"{path} does not tell its version", who="qemu", why=str(error)) from error
    if found is None:
        raise EmulatorError(f"{path} does not tell its version", who="qemu", why=told.stdout.strip())
    return int(found[1]), int(found[2])


@define(eq=False)
class QemuProcess:
    """A running QEMU; use it as a context, or close it.

    Args:
        board: what it emulates.
        version: as it tells itself.
        qtest, qmp: the two connections.
        log_fd: the file that trace lines are written to.
    """

    board: Board
    version: Version
    qtest: Qtest
    qmp: Qmp
    log_fd: int
    _process: "subprocess.Popen[bytes]"
    _errors_fd: int
    _links: tuple[socket.socket, ...]
    _closed: bool = field(default=False, init=False)

    @classmethod
    def start(
        cls, board: Board, memory_fd: int, memory_bytes: int, arguments: Sequence[str], files: Sequence[int] = ()
    ) -> Self:
        """Start QEMU and wait until it answers.

        Args:
            board: what it emulates.
            memory_fd: the file that is its memory.
            memory_bytes: how long that is.
            arguments: devices, the unit first; a ``-machine`` option is added to.
            files: open files that arguments name as ``/proc/self/fd/N``.

        Raises:
            NoEmulator: it is not installed.  EmulatorError: it refused, died or does not answer.
        """
        program = find_program(board.program)
        with _Opened() as opened:
            firmware, log, errors = (opened.file(name) for name in ("firmware", "log", "errors"))
            os.pwrite(firmware, board.firmware, 0)
            (qtest, qtest_peer), (qmp, qmp_peer) = opened.pair(), opened.pair()
            command = [
                program,
                *("-nodefaults", "-display", "none", "-no-user-config"),
                *("-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off"),
                *("-bios", f"/proc/self/fd/{firmware}", *board.arguments),
                *("-m", f"{memory_bytes >> 20}M"),
                *("-object", _memory(memory_fd, memory_bytes)),
                *("-chardev", f"socket,id=q,fd={qtest_peer.fileno()}", "-qtest", "chardev:q", "-qtest-log", "none"),
                *("-chardev", f"socket,id=mon,fd={qmp_peer.fileno()}", "-mon", "chardev=mon,mode=control"),
                *("-D", f"/proc/self/fd/{log}"),
                *arguments,
            ]
            process = subprocess.Popen(  # noqa: S603 - the program that was found, with our own arguments
                [sys.executable, "-I", "-S", "-c", _SHIM, str(os.getpid()), *command],
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                pass_fds=(firmware, log, memory_fd, qtest_peer.fileno(), qmp_peer.fileno(), *files),
            )
            opened.close(qtest_peer, qmp_peer)  # or nobody would notice that QEMU closed them
            try:
                found = cls._greet(board, process, qtest, qmp, log, errors)
            except BaseException:
                _end(process)
                raise
            opened.keep(log, errors, qtest, qmp)
        return found

    @classmethod
    def _greet(
        cls,
        board: Board,
        process: "subprocess.Popen[bytes]",
        qtest: socket.socket,
        qmp: socket.socket,
        log: int,
        errors: int,
    ) -> Self:
        def died(what: str) -> EmulatorError:
            return _error(board, process, errors, what)

        ask, control = Qtest(Lines(qtest), died), Qmp(Lines(qmp), died)
        version = control.greet()
        if not ask.little_endian():
            raise died("a big-endian machine")
        return cls(board, version, ask, control, log, process, errors, (qtest, qmp))

    @property
    def pid(self) -> int:
        return self._process.pid

    def error(self, what: str) -> EmulatorError:
        """An error with what QEMU itself has said."""
        return _error(self.board, self._process, self._errors_fd, what)

    def close(self) -> None:
        """End the process and wait for it; harmless a second time."""
        if self._closed:
            return
        self._closed = True
        _end(self._process)
        for link in self._links:
            link.close()
        os.close(self.log_fd)
        os.close(self._errors_fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Opened:
    """Files and connections that are closed again unless they are kept."""

    def __init__(self) -> None:
        self._files: list[int] = []
        self._links: list[socket.socket] = []

    def file(self, name: str) -> int:
        self._files.append(os.memfd_create(f"hitless-{name}"))
        return self._files[-1]

    def pair(self) -> tuple[socket.socket, socket.socket]:
        ours, theirs = socket.socketpair()
        ours.settimeout(ANSWER_SECONDS)
        self._links += [ours, theirs]
        return ours, theirs

    def keep(self, *kept: "int | socket.socket") -> None:
        self._files = [each for each in self._files if each not in kept]
        self._links = [each for each in self._links if each not in kept]

    def close(self, *links: socket.socket) -> None:
        for link in links:
            link.close()
            self._links.remove(link)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for fd in self._files:
            os.close(fd)
        for link in self._links:
            link.close()


def _memory(fd: int, size: int) -> str:
    return f"memory-backend-file,id=m0,size={size},mem-path=/proc/self/fd/{fd},share=on"


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Ask, then force; wait either way."""
    process.terminate()
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _error(board: Board, process: "subprocess.Popen[bytes]", errors: int, what: str) -> EmulatorError:
    """The error of a QEMU that did not do what it should, with its own words."""
    until = time.monotonic() + 0.5  # one that closed its connection is about to end
    while process.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    status = process.poll()
    said = os.pread(errors, 1 << 16, 0).decode("utf-8", "replace").splitlines()
    said = [line.strip() for line in said if line.strip() and _NO_ICOUNT_TIMER not in line]
    state = "it is still running" if status is None else f"it ended with status {status}"
    return EmulatorError(
        what,
        who=board.program,
        why="; ".join([state, *said[-3:]]),
        do="`hitless doctor` tells which QEMU is installed; versions 7.2 and 10.0 were tried",
    )

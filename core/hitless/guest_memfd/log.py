"""Conversion logs: QEMU's and Linux's trace events, as people have them.

Two events are understood, behind any prefix and among any other lines, plain or gzip:

- QEMU: ``kvm_convert_memory start 0x4000000 size 0x1000 shared_to_private`` (or
  ``private_to_shared``); guest physical addresses in bytes.
- Linux: ``kvm_vm_set_mem_attributes: 0x00000000000100 -- 0x00000000000200 [0x8]``; frame numbers,
  the end exclusive; 0x8 is private, 0x0 shared.

A file is streamed: neither its length nor that of a line matters.
"""

import gzip
import os
import re
import shutil
import sys
import tempfile
import zlib
from collections.abc import Generator, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, NamedTuple, NoReturn, Self, TypeAlias, cast

from attrs import define, field, frozen

from hitless.errors import BadInput
from hitless.units import PAGE, PAGE_LG2, SPACE

STDIN = "-"
LINE_MAX = 1 << 16
"""Bytes of a line that are held at a time."""
TEXT_MAX = 200
"""Characters of a line that are shown."""
_HEAD = 4096
_EVENT_MAX = 512

_QEMU = "kvm_convert_memory"
_LINUX = "kvm_vm_set_mem_attributes"
_SAMPLES = (
    f"{_QEMU} start 0x4000000 size 0x1000 shared_to_private",
    f"{_QEMU} start 0x4000000 size 0x1000 private_to_shared",
    f"{_LINUX}: 0x00000000000100 -- 0x00000000000200 [0x8]",
)
_LEGAL = (
    f"legal: {_SAMPLES[0]} (or private_to_shared; bytes, multiples of 4K), "
    f"{_SAMPLES[2]} (0x8 private, 0x0 shared; frame numbers, end exclusive)"
)
_TO_PRIVATE = {"shared_to_private": True, "private_to_shared": False}

_NAME = re.compile(f"{_QEMU}|{_LINUX}")
_QEMU_EVENT = re.compile(rf"{_QEMU}\s+start\s+(\S+)\s+size\s+(\S+)\s+(\w+)")
# Some variants print ` .` in front of the numbers.
_LINUX_EVENT = re.compile(rf"{_LINUX}:[\s.]*(\S+)\s+--[\s.]*(\S+)\s+\[\s*([^\]]*?)\s*\]")
# User-space tools print `%#llx` of 0 as C does, without 0x.
_HEX = r"(?:0[xX][0-9a-fA-F]+|0+)"
_NUMBER = re.compile(_HEX)
_COMPLETE = re.compile(
    rf"{_QEMU}\s+start\s+{_HEX}\s+size\s+{_HEX}\s+(?:shared_to_private|private_to_shared)"
    rf"|{_LINUX}:[\s.]*{_HEX}\s+--[\s.]*{_HEX}\s+\[\s*{_HEX}\s*\]"
)
# Both names are functions, too (back traces name them), and command lines name the QEMU event.
_EVENT_START = re.compile(rf"\b{_QEMU}(?:\s+\w|\s*$)|\b{_LINUX}:")
_MENTION = re.compile(rf"(?:[=/,'\"`]|\b(?:trace|events?|enabled?)[:\s]\s*){_QEMU}(?:\s|$)")


class LogConversion(NamedTuple):
    """One line that converts guest physical ``[start, end)``.

    Attributes:
        line_number: counted from 1.
        start, end: bytes, multiples of 4 KiB.
        to_private: whether the guest becomes the owner.
        text: the line as it can be shown (see :func:`safe_text`).
    """

    line_number: int
    start: int
    end: int
    to_private: bool
    text: str


@define
class LogCounts:
    """What was read so far; a line is a conversion, or ignored, or cut."""

    lines: int = 0
    conversions: int = 0
    ignored_lines: int = 0
    cut_lines: int = 0


@frozen
class LogFile:
    """An open log that can be read more than once; a context manager. Made by :func:`open_log`.

    Args:
        name: as people know it.
        stream: binary.
        size: bytes, where the stream is seekable; else None, and it can be read once.
    """

    name: str
    stream: IO[bytes] = field(repr=False)
    size: int | None

    def close(self) -> None:
        """Close the file."""
        self.stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


LogSource: TypeAlias = str | os.PathLike[str] | IO[bytes] | LogFile


def open_log(path: str | os.PathLike[str]) -> LogFile:
    """Open a log so that it can be read twice; ``-`` is standard input.

    What cannot be rewound (a pipe) is copied to a temporary file first, to its end.

    Raises:
        BadInput: there is no such file, or it cannot be read.
    """
    name = os.fspath(path)
    shown = "standard input" if name == STDIN else safe_text(name)
    try:
        stream: IO[bytes] = sys.stdin.buffer if name == STDIN else Path(name).open("rb")  # noqa: SIM115
        if name == STDIN or not stream.seekable():
            spool = tempfile.TemporaryFile()  # noqa: SIM115 - the LogFile closes it
            shutil.copyfileobj(stream, spool)
            spool.seek(0)
            if stream is not sys.stdin.buffer:
                stream.close()
            stream = spool
        return LogFile(shown, stream, os.fstat(stream.fileno()).st_size)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        why = getattr(error, "strerror", None) or str(error)
        raise BadInput(f"cannot read the log {shown}", why=why, do="name a file, or - for stdin") from error


def read_log(source: LogSource, limit: int | None = None) -> "LogReader":
    """Read a log's conversions, in order.

    Args:
        source: a path, ``-`` for standard input (not spooled: it is read once), a binary stream from
            where it stands, or a :class:`LogFile` from its start.
        limit: stop after so many conversions.

    Raises:
        BadInput: there is no such file. Everything else is raised while iterating.
    """
    if isinstance(source, LogFile):
        if source.size is not None:
            source.stream.seek(0)
        return LogReader(source, limit)
    if source == STDIN:
        return LogReader(LogFile("standard input", sys.stdin.buffer, None), limit)
    if isinstance(source, str | os.PathLike):
        return LogReader(open_log(source), limit, owned=True)
    name = getattr(source, "name", None)
    return LogReader(LogFile(safe_text(name) if isinstance(name, str) else "the log", source, None), limit)


def highest_end(source: LogSource, below: int = 1 << 40) -> int:
    """The highest end of a converted range that does not reach beyond ``below``; 0 if there is none.

    Reads all of the log, and raises what reading it raises. A seekable stream stands where it stood.
    """
    rewind = None if isinstance(source, str | os.PathLike | LogFile) else source
    start = rewind.tell() if rewind is not None and rewind.seekable() else None
    highest = 0
    for conversion in read_log(source):
        if highest < conversion.end <= below:
            highest = conversion.end
    if rewind is not None and start is not None:
        rewind.seek(start)
    return highest


def safe_text(text: str) -> str:
    """The text in printable characters only, and no more than 200 of them."""
    shown = text[: TEXT_MAX + 1]
    if not shown.isprintable():
        shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)
    return shown if len(shown) <= TEXT_MAX else shown[: TEXT_MAX - 3] + "..."


class LogReader:
    """Iterates over the conversions of a log, once, and counts lines. Made by :func:`read_log`.

    Iterating raises BadInput where a line of one of the two events cannot be read, and at the end
    where the log is empty or holds no conversion at all. The last line is never unreadable where
    more of the same would have made it whole: it counts as cut.

    Attributes:
        counts: what was read so far.
        name: the log's name, as it can be shown.
    """

    def __init__(self, log: LogFile, limit: int | None = None, *, owned: bool = False) -> None:
        self.counts = LogCounts()
        self.name = log.name
        self._log = log
        self._limit = limit
        self._owned = owned
        self._stream = log.stream
        self._truncated = False
        self._conversions = self._read()

    @property
    def position(self) -> int:
        """Bytes of the file that were read, compressed ones of a gzip; for a bar beside LogFile.size."""
        return self._log.stream.tell() if self._log.size is not None and not self._log.stream.closed else 0

    def __iter__(self) -> Iterator[LogConversion]:
        return self._conversions

    def __next__(self) -> LogConversion:
        return next(self._conversions)

    def close(self) -> None:
        """Close the file, if the reader opened it; at the end of the log that has happened."""
        self._conversions.close()
        if self._owned:
            self._log.close()

    def _read(self) -> Generator[LogConversion]:
        try:
            yield from self._lines()
        finally:
            if self._owned:
                self._log.close()

    def _lines(self) -> Iterator[LogConversion]:
        counts = self.counts
        if self._limit is not None and self._limit <= 0:
            return
        self._open()
        line = self._next_line()
        while line:
            counts.lines += 1
            if b"kvm_" not in line and line.endswith(b"\n"):  # nearly all lines of a mixed log
                counts.ignored_lines += 1
                line = self._next_line()
                continue
            text = line.rstrip(b"\r\n").decode("utf-8", "backslashreplace")
            parsed = _parse(text)
            if isinstance(parsed, tuple):
                counts.conversions += 1
                yield LogConversion(counts.lines, *parsed, safe_text(text))
                if counts.conversions == self._limit:
                    return
                line = self._next_line()
                continue
            following = self._next_line()
            if not following and not self._truncated and _is_cut(text, ended=line.endswith(b"\n")):
                counts.cut_lines += 1
            elif parsed is None or _MENTION.search(text):
                counts.ignored_lines += 1
            else:
                self._refuse_line(text, parsed)
            line = following
        self._check_end()

    def _open(self) -> None:
        """Look at the first bytes: gzip by its magic, and what is no text is refused."""
        try:
            head = _peek(self._stream)
            if head.startswith(b"\x1f\x8b"):
                zipped = gzip.GzipFile(fileobj=self._stream)
                self._stream = cast(IO[bytes], zipped)
                head = zipped.peek(_HEAD)[:_HEAD]
        except EOFError:
            self._truncated = True
            return
        except (gzip.BadGzipFile, zlib.error) as error:
            self._refuse_gzip(error)
        except OSError as error:
            self._refuse_read(error)
        if b"\0" in head:
            raise BadInput(
                "the log is a binary file",
                where=self.name,
                why="it has NUL bytes near its start",
                do="give a text log, plain or gzip; QEMU's is text with the trace backend 'log'",
            )

    def _next_line(self) -> bytes:
        if self._truncated:
            return b""
        try:
            line = self._stream.readline(LINE_MAX)
            if len(line) == LINE_MAX and not line.endswith(b"\n"):
                line = self._long_line(line)
        except EOFError:
            self._truncated = True
            return b""
        except (gzip.BadGzipFile, zlib.error) as error:
            self._refuse_gzip(error)
        except OSError as error:
            self._refuse_read(error)
        return line

    def _long_line(self, line: bytes) -> bytes:
        """Read to the end of a line without holding it: only what may be an event is kept."""
        while True:
            at = max(line.find(_QEMU.encode()), line.find(_LINUX.encode()))
            kept = line[max(at - TEXT_MAX, 0) : at + _EVENT_MAX] if at >= 0 else line[-_EVENT_MAX:]
            more = self._stream.readline(LINE_MAX)
            line = kept + more
            if len(more) < LINE_MAX or more.endswith(b"\n"):
                return line

    def _check_end(self) -> None:
        counts = self.counts
        if self._truncated:
            counts.lines += 1
            counts.cut_lines += 1
        if not counts.lines:
            raise BadInput(f"the log {self.name} is empty", do=f"trace {_QEMU} or {_LINUX}")
        if not counts.conversions:
            cut = ", the last one cut" if counts.cut_lines else ""
            raise BadInput(
                f"the log {self.name} holds no conversion event",
                why=f"{counts.lines} line{'s' if counts.lines != 1 else ''} read{cut}",
                do=_LEGAL,
            )

    def _refuse_line(self, text: str, why: str) -> NoReturn:
        where = f"{self.name}, line {self.counts.lines}: {safe_text(text)}"
        raise BadInput("the log has a conversion event that cannot be read", where=where, why=why, do=_LEGAL)

    def _refuse_gzip(self, error: Exception) -> NoReturn:
        raise BadInput(
            "the log's gzip data is corrupt",
            where=f"{self.name}, after line {self.counts.lines}",
            why=safe_text(str(error)),
            do="make the file again; one that is only cut short can be read",
        ) from error

    def _refuse_read(self, error: OSError) -> NoReturn:
        where = f"{self.name}, after line {self.counts.lines}"
        raise BadInput("cannot read on in the log", where=where, why=error.strerror or str(error)) from error


def _peek(stream: IO[bytes]) -> bytes:
    """The first bytes of a stream, which stay in it."""
    if stream.seekable():
        start = stream.tell()
        head = stream.read(_HEAD)
        stream.seek(start)
        return head
    with suppress(AttributeError):
        peeked: bytes = stream.peek(_HEAD)  # type: ignore[attr-defined]
        return peeked[:_HEAD]
    raise BadInput("the log cannot be read", why="its stream can neither seek nor peek", do="give its path")


def _parse(text: str) -> tuple[int, int, bool] | str | None:
    """A line's conversion (start, end, to_private); or why it cannot be read; or None: another line."""
    for name in _NAME.finditer(text):
        is_qemu = name[0] == _QEMU
        event = _QEMU_EVENT if is_qemu else _LINUX_EVENT
        # No longer than an event can be: a hostile line must not cost its length squared.
        if match := event.match(text, name.start(), name.start() + _EVENT_MAX):
            return _parse_qemu(*match.groups()) if is_qemu else _parse_linux(*match.groups())
    return "it has not the event's form" if _EVENT_START.search(text) else None


def _parse_qemu(start_text: str, size_text: str, direction: str) -> tuple[int, int, bool] | str:
    for name, text in (("start", start_text), ("size", size_text)):
        if not _NUMBER.fullmatch(text):
            return f"{name} {safe_text(text)!r} is not a number"
    if direction not in _TO_PRIVATE:
        return f"{safe_text(direction)!r} is no direction"
    start, size = int(start_text, 16), int(size_text, 16)
    if (start | size) % PAGE:
        return "start and size are not multiples of 4K"
    return _checked(start, start + size, _TO_PRIVATE[direction])


def _parse_linux(start_text: str, end_text: str, attributes: str) -> tuple[int, int, bool] | str:
    for name, text in (("start", start_text), ("end", end_text), ("attribute mask", attributes)):
        if not _NUMBER.fullmatch(text):
            return f"{name} {safe_text(text)!r} is not a number"
    start, end, mask = (int(text, 16) for text in (start_text, end_text, attributes))
    if mask & ~0x8:
        return f"the attributes {mask:#x} have bits other than 0x8 (private)"
    return _checked(start << PAGE_LG2, end << PAGE_LG2, bool(mask))


def _checked(start: int, end: int, to_private: bool) -> tuple[int, int, bool] | str:
    if end <= start:
        return "the range is empty" if end == start else "the range ends before it starts"
    if end > SPACE:
        return "the range ends beyond 2**64"
    return start, end, to_private


def _is_cut(text: str, *, ended: bool) -> bool:
    """Whether the line stops inside an event: more text of the same kind would make that whole.

    Inside the event's name only a line without its newline (``ended``) is believed to be cut.
    """
    for sample in _SAMPLES:
        name = _LINUX if sample.startswith(_LINUX) else _QEMU
        at = text.rfind(name)
        if at >= 0:
            rest = text[at:]
            return len(rest) < _EVENT_MAX and any(
                _COMPLETE.fullmatch(rest + each[n:])
                for each in _SAMPLES
                if each.startswith(name)
                for n in range(len(name), len(each))
            )
        if not ended:
            for n in range(1, len(name)):
                if text.endswith(name[:n]) and not re.search(r"\w$", text[:-n]):
                    return True
    return False

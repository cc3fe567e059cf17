"""Which kind of image a file is: raw, ELF core, LiME, or one of them compressed by gzip or zstd."""

import mmap
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from hitless.errors import BadInput
from hitless.memory.images.elf import elf_segments
from hitless.memory.images.image import ImageMemory, Segment
from hitless.memory.images.lime import LIME_MAGIC, lime_segments
from hitless.units import parse_range, parse_size

_ELF, _GZIP, _ZSTD = b"\x7fELF", b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_OTHER = {
    b"KDUM": "a compressed kdump",
    b"make": "a flattened makedumpfile",
    b"PAGE": "a Windows crash dump",
    b"Libv": "a saved domain of libvirt",
    b"QEVM": "a snapshot of QEMU's own",
    b"QFI\xfb": "a QCOW2 disk",
}
"""By how they begin: what is easily taken for raw memory."""
_CHUNK = 1 << 20
_HOLE = 1 << 16
"""So many zero bytes in a row are left as a hole in what is unpacked."""


def open_image(path: str | os.PathLike[str], base: int | None = None, segments: Sequence[Segment] = ()) -> ImageMemory:
    """The memory that a file holds.

    Args:
        path: the file. A compressed one is unpacked into a sparse file without a name, in ``TMPDIR``.
        base: physical address of the first byte of a raw image; None: 0.
        segments: what a raw image holds where; instead of ``base``. A size of 0: up to the end of the file.

    Raises:
        BadInput: it cannot be read, or is no such image.
    """
    name = os.fspath(path)
    try:
        with Path(path).open("rb") as file:
            return _open(file, name, base, segments)
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL
        why = getattr(error, "strerror", None) or str(error)
        raise BadInput(f"cannot read {name!r}", why=why, do="give a file of raw memory, an ELF core or LiME") from error


def _open(file: IO[bytes], name: str, base: int | None, segments: Sequence[Segment]) -> ImageMemory:
    start = file.read(4)
    if start[:2] == _GZIP or start == _ZSTD:
        with tempfile.TemporaryFile() as unpacked:
            file.seek(0)
            _unpack(file, unpacked, name, zstd=start == _ZSTD)
            unpacked.seek(0)
            return _open_plain(unpacked, unpacked.read(4), name, base, segments)
    return _open_plain(file, start, name, base, segments)


def _open_plain(file: IO[bytes], start: bytes, name: str, base: int | None, segments: Sequence[Segment]) -> ImageMemory:
    size = os.fstat(file.fileno()).st_size
    if size < 8:
        raise BadInput(f"{name!r} holds no memory", why=f"it has {size} bytes")
    if start in _OTHER:
        raise BadInput(f"{name!r} is {_OTHER[start]}", do="dump memory as ELF: virsh dump --memory-only --format elf")
    told = base is not None or bool(segments)
    if start in (_ELF, LIME_MAGIC):
        if told:
            raise BadInput(f"{name!r} says itself what lies where", do="leave --base and --segment to raw images")
        found = elf_segments(file, name) if start == _ELF else lime_segments(file, size, name)
    else:
        found = [_whole(each, size) for each in segments] or [Segment(base or 0, size, 0)]
    return ImageMemory(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), found)


def _whole(segment: Segment, size: int) -> Segment:
    return segment if segment.size else segment._replace(size=max(size - segment.offset, 0))


def parse_segment(text: str) -> Segment:
    """A segment from ``START+SIZE@OFFSET``, ``START-END@OFFSET`` or ``START@OFFSET`` (up to the file's end).

    Raises:
        BadInput: the text is none of them.
    """
    where, _, offset = text.partition("@")
    at = parse_size(offset) if offset else 0
    if "+" in where or "-" in where:
        start, end = parse_range(where)
        return Segment(start, end - start, at)
    return Segment(parse_size(where), 0, at)


# -- compressed


def _unpack(packed: IO[bytes], into: IO[bytes], name: str, *, zstd: bool) -> None:
    """Unpack a file into a sparse one.

    Raises:
        BadInput: it is damaged.
    """
    end = 0
    try:
        for chunk in _zstd(packed) if zstd else _gzip(packed):
            for at in range(0, len(chunk), _HOLE):
                part = chunk[at : at + _HOLE]
                if part.strip(b"\0"):
                    into.seek(end)
                    into.write(part)
                end += len(part)
    except EOFError as error:
        raise BadInput(f"{name!r} ends too early", why=str(error), do="copy it again") from error
    into.truncate(end)
    into.flush()


def _gzip(packed: IO[bytes]) -> Iterator[bytes]:
    import gzip  # noqa: PLC0415 - only compressed images need it
    import zlib  # noqa: PLC0415

    try:
        with gzip.GzipFile(fileobj=packed) as file:
            while chunk := file.read(_CHUNK):
                yield chunk
    except zlib.error as error:
        raise OSError(0, str(error)) from error


def _zstd(packed: IO[bytes]) -> Iterator[bytes]:
    import zstandard  # noqa: PLC0415 - only compressed images need it

    try:
        reader = zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True)
        while chunk := reader.read(_CHUNK):
            yield chunk
    except zstandard.ZstdError as error:
        raise OSError(0, str(error)) from error

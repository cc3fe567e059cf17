"""LiME images: ranges of physical memory one after the other, each behind a header of 32 bytes."""

import struct
from typing import IO

from hitless.errors import BadInput
from hitless.memory.images.image import Segment

LIME_MAGIC = b"EMiL"
_HEADER = struct.Struct("<4sIQQQ")
"""Magic, version 1, first address, last address (inclusive), 8 reserved bytes."""


def lime_segments(file: IO[bytes], size: int, name: str) -> list[Segment]:
    """What each range holds, up to the end of the file.

    Raises:
        BadInput: what should be a header is none.
    """
    found = []
    at = 0
    while at + _HEADER.size <= size:
        file.seek(at)
        magic, version, first, last, _ = _HEADER.unpack(file.read(_HEADER.size))
        if magic != LIME_MAGIC or version != 1 or last < first:
            raise BadInput(
                f"{name!r} has no LiME header at byte {at:#x}",
                why="a range is damaged, or was written in another way than format=lime",
            )
        length = last - first + 1
        found.append(Segment(first, length, at + _HEADER.size))
        at += _HEADER.size + length
    return found


def lime_header(start: int, size: int) -> bytes:
    """The header of the range ``[start, start + size)``, to write such an image."""
    return _HEADER.pack(LIME_MAGIC, 1, start, start + size - 1, 0)

"""Memory images: what a file holds where, and files that are no images."""

import gzip
import struct

import numpy as np
import pytest
import zstandard

from hitless.errors import BadInput, BusError, HitlessError
from hitless.memory.images import Segment, open_image, parse_segment

PAGE = bytes(range(256)) * 16


def word(page: bytes, at: int) -> int:
    """A word as a little-endian machine reads it."""
    return struct.unpack_from("<Q", page, at)[0]


def elf_core(segments, kind=4, machine=62) -> bytes:
    """An ELF64 file of PT_LOAD segments (physical address, data), headers written field by field."""
    head = struct.pack("<4sBBBB8x", b"\x7fELF", 2, 1, 1, 0)
    head += struct.pack("<HHIQQQIHHHHHH", kind, machine, 1, 0, 64, 0, 0, 64, 56, len(segments), 0, 0, 0)
    offset = 64 + 56 * len(segments)
    headers, body = b"", b""
    for pa, data in segments:
        at = offset + len(body)
        headers += struct.pack("<IIQQQQQQ", 1, 6, at, 0xFFFF_8000_0000_0000 + pa, pa, len(data), len(data), 0)
        body += data
    return head + headers + body


def lime(segments) -> bytes:
    """A LiME image, headers as its documentation says."""
    return b"".join(struct.pack("<IIQQ8x", 0x4C694D45, 1, pa, pa + len(data) - 1) + data for pa, data in segments)


@pytest.fixture
def file(tmp_path):
    """Write a file, and give its path."""

    def write(data: bytes):
        path = tmp_path / "image"
        path.write_bytes(data)
        return path

    return write


def test_a_raw_image_begins_at_its_base(file):
    """Words lie where the base says; outside is no memory."""
    image = open_image(file(PAGE), base=0x4000_0000)
    assert image.load(0x4000_0008) == word(PAGE, 8)
    assert image.view(0x4000_0010, 2).tolist() == [word(PAGE, 16), word(PAGE, 24)]
    assert image.contains(0x4000_0000, 4096)
    assert not image.contains(0x4000_0000, 4104)
    for pa in (0x3FFF_FFF8, 0x4000_1000, 0x4000_0004):
        with pytest.raises(BusError):
            image.load(pa)


def test_segments_place_parts_of_a_file(file):
    """As QEMU's memory of an x86 machine: what lies above 4 GiB follows what lies below in the file."""
    low, high = PAGE, bytes(reversed(PAGE))
    image = open_image(file(low + high), segments=[Segment(0, 4096, 0), parse_segment("4G@4K")])
    assert image.load(0) == word(low, 0)
    assert image.load((4 << 30) + 8) == word(high, 8)
    pas = np.array([8, (4 << 30) + 16, 0], np.uint64)
    assert image.gather(pas).tolist() == [word(low, 8), word(high, 16), word(low, 0)]
    with pytest.raises(BusError):
        image.gather(np.array([0, 1 << 31], np.uint64))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0+2G@0", Segment(0, 2 << 30, 0)),
        ("0x1000-0x3000@8K", Segment(0x1000, 0x2000, 8192)),
        ("4G@2G", Segment(4 << 30, 0, 2 << 30)),
        ("4G", Segment(4 << 30, 0, 0)),
    ],
)
def test_forms_of_a_segment(text, expected):
    """Start, size or end, and offset in the file."""
    assert parse_segment(text) == expected


@pytest.mark.parametrize("make", [elf_core, lime])
@pytest.mark.parametrize("pack", [lambda data: data, gzip.compress, zstandard.ZstdCompressor().compress])
def test_dumps_say_themselves_what_lies_where(file, make, pack):
    """ELF cores and LiME images, plain, gzip and zstd: physical addresses, never virtual ones."""
    parts = [(0x1000, PAGE), (0x1_0000_0000, bytes(reversed(PAGE)))]
    image = open_image(file(pack(make(parts))))
    assert [(each.start, each.size) for each in image.segments] == [(0x1000, 4096), (0x1_0000_0000, 4096)]
    assert image.load(0x1008) == word(PAGE, 8)
    assert image.load(0x1_0000_0FF8) == word(parts[1][1], 4088)
    with pytest.raises(BusError):
        image.load(0x2000)


def test_what_is_packed_stays_sparse(file):
    """64 MiB of zeros and one page unpack into a file with holes, and read as zeros."""
    image = open_image(file(gzip.compress(bytes(64 << 20) + PAGE)))
    assert image.size == (64 << 20) + 4096
    assert image.load(32 << 20) == 0
    assert image.load((64 << 20) + 16) == word(PAGE, 16)


def test_a_sparse_file_opens_at_once(tmp_path):
    """A file of 64 GiB that holds nothing is mapped, not read."""
    path = tmp_path / "sparse"
    with path.open("wb") as out:
        out.truncate(64 << 30)
    assert open_image(path).load((64 << 30) - 8) == 0


def test_a_dump_that_was_cut_short_still_opens(file):
    """What is missing is counted, and what is there can be read."""
    image = open_image(file(lime([(0, PAGE * 2)])[:-4096]))
    assert image.missing == 4096
    assert image.load(0xFF8) == word(PAGE, 0xFF8)
    with pytest.raises(BusError):
        image.load(0x1000)


@pytest.mark.parametrize(
    ("data", "arguments"),
    [
        (b"", {}),
        (b"1234567", {}),
        (b"\x7fELF" + bytes(2), {}),
        (b"\x7fELF" + bytes(60), {}),
        (elf_core([(0, PAGE)], kind=2), {}),
        (elf_core([]), {}),
        (lime([(0, PAGE)]) + b"x" * 64, {}),
        (gzip.compress(PAGE)[:-20], {}),
        (b"\x1f\x8b" + b"nothing of the kind", {}),
        (b"\x28\xb5\x2f\xfd" + b"nothing of the kind", {}),
        (lime([(0, PAGE)]), {"base": 4096}),
        (PAGE * 2, {"segments": [Segment(0, 8192, 0), Segment(4096, 4096, 0)]}),
        (PAGE, {"segments": [Segment(0, 4096, 8192)]}),
        (PAGE, {"base": 4}),
        (b"KDUMP   " + PAGE, {}),
        (b"QFI\xfb" + PAGE, {}),
        (PAGE, {"base": (1 << 64) - 8}),
    ],
)
def test_what_is_no_image_is_refused(file, data, arguments):
    """With a reason, never a traceback."""
    with pytest.raises(BadInput):
        open_image(file(data), **arguments)


def test_files_that_cannot_be_read(tmp_path):
    """Missing, a folder, an impossible name."""
    for path in (tmp_path / "missing", tmp_path, "a\0b"):
        with pytest.raises(BadInput):
            open_image(path)


def test_an_image_is_only_read(file):
    """Every way of writing is refused, views included."""
    path = file(PAGE)
    image = open_image(path)
    one = np.array([0], np.uint64)
    for write in (
        lambda: image.store(0, 1),
        lambda: image.store32(0, 1),
        lambda: image.compare_exchange(0, 0, 1),
        lambda: image.scatter(one, one),
    ):
        with pytest.raises(HitlessError):
            write()
    with pytest.raises(ValueError, match="read-only"):
        image.view(0, 1)[0] = 1
    assert path.read_bytes() == PAGE

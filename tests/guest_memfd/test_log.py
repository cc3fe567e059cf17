"""Conversion logs: what is read, what is passed over, and what is refused with its line."""

import gzip
import io
import os
import subprocess
import sys
import threading
import tracemalloc

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hitless.errors import BadInput
from hitless.guest_memfd.log import highest_end, open_log, read_log, safe_text

QEMU = "kvm_convert_memory start 0x4000000 size 0x1000 shared_to_private"
LINUX = "kvm_vm_set_mem_attributes: 0x00000000000100 -- 0x00000000000200 [0x8]"
GOOD = QEMU + "\n"


def read(data: str | bytes, limit: int | None = None):
    """All conversions of a text, and the counts as a tuple (lines, conversions, ignored, cut)."""
    reader = read_log(io.BytesIO(data.encode() if isinstance(data, str) else data), limit)
    found = list(reader)
    counts = reader.counts
    return found, (counts.lines, counts.conversions, counts.ignored_lines, counts.cut_lines)


def refusal(data: str | bytes) -> BadInput:
    """The error that reading a text ends with."""
    with pytest.raises(BadInput) as caught:
        read(data)
    assert caught.value.exit_status == 2
    return caught.value


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (QEMU, (0x4000000, 0x4001000, True)),
        ("kvm_convert_memory start 0x0 size 0x200000 private_to_shared", (0, 0x200000, False)),
        ("12345@1700000000.123456:" + QEMU, (0x4000000, 0x4001000, True)),
        ("qemu-system-x86 [7] 12.5: " + QEMU + " # why", (0x4000000, 0x4001000, True)),
        (LINUX, (0x100000, 0x200000, True)),
        (" qemu-9 [003] ..... 77.1: " + LINUX, (0x100000, 0x200000, True)),
        ("kvm_vm_set_mem_attributes: 0x100 -- 0x101 [0x0]", (0x100000, 0x101000, False)),
        ("x: kvm:" + LINUX, (0x100000, 0x200000, True)),
        ("kvm_vm_set_mem_attributes: . 0x100 -- 0x101 [0x8]", (0x100000, 0x101000, True)),
        ("kvm_vm_set_mem_attributes: .0x100 -- .0x101 [0x8]", (0x100000, 0x101000, True)),
        (
            " . kvm_vm_set_mem_attributes: 0x0000000000000100 -- 0x0000000000000101 [0x8]",
            (1 << 20, 0x101000, True),
        ),
        ("kvm_vm_set_mem_attributes: 0000000000000000 -- 0x00000000080000 [0x8]", (0, 1 << 31, True)),
        (
            "kvm_vm_set_mem_attributes: 0xfffffffffffff -- 0x10000000000000 [0x0]",
            (2**64 - 4096, 2**64, False),
        ),
        (
            "kvm_convert_memory start 0xFFFFFFFFFFFFF000 size 0x1000 shared_to_private",
            (2**64 - 4096, 2**64, True),
        ),
        ("\x1b[31m[bold]" + QEMU + "\x1b[0m", (0x4000000, 0x4001000, True)),
        ("qemu -trace kvm_convert_memory: " + QEMU, (0x4000000, 0x4001000, True)),
    ],
)
@pytest.mark.parametrize("ending", ["\n", "\r\n", ""])
def test_events_behind_any_prefix(line, expected, ending):
    """Both events are read whatever stands around them, with either line ending, or none at the end."""
    found, counts = read(line + ending)
    assert [tuple(c[1:4]) for c in found] == [expected]
    assert all(type(value) is int for value in found[0][1:3])
    assert counts == (1, 1, 0, 0)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "Linux version 6.16",
        "qemu-system-x86_64 -trace kvm_convert_memory -smp 8",
        "qemu-system-x86_64 -trace enable=kvm_convert_memory",
        "-trace kvm_convert_memory",
        "enabled event: kvm_convert_memory",
        "echo 1 > events/kvm/kvm_vm_set_mem_attributes/enable",
        "#3  kvm_convert_memory (start=67108864, size=4096, to_private=true) at kvm-all.c:3000",
        "[   1.2]  kvm_vm_set_mem_attributes+0x12/0x340 [kvm]",
        "kvm_convert_memory_done start 0x1 size 0x2 shared",
        "my_kvm_convert_memory start here",
        "a k",
        "kvm_exit: reason HLT",
        "\x1b[2J [red]markup[/red] \xff",
    ],
)
def test_other_lines_are_passed_over(line):
    """Lines that are no event, some of which name one, are counted and change nothing."""
    found, counts = read(GOOD + line + "\n" + GOOD)
    assert len(found) == 2
    assert counts == (3, 2, 1, 0)
    assert [c.line_number for c in found] == [1, 3]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("kvm_convert_memory start 0xzz size 0x1000 shared_to_private", "'0xzz' is not a number"),
        ("kvm_convert_memory start 4096 size 0x1000 shared_to_private", "'4096' is not a number"),
        ("kvm_convert_memory start 0x1000 size - shared_to_private", "size '-' is not a number"),
        ("kvm_convert_memory start 0x1000 size 0x1000 sideways", "'sideways' is no direction"),
        ("kvm_convert_memory start 0x1000 size 0x1000 shared_to_privat", "no direction"),
        ("kvm_convert_memory start 0x1000 size 0x1000", "form"),
        ("kvm_convert_memory start 0x1000", "form"),
        ("kvm_convert_memory garbage", "form"),
        ("12@1.5:kvm_convert_memory", "form"),
        ("kvm_convert_memory start 0x1800 size 0x1000 shared_to_private", "multiples of 4K"),
        ("kvm_convert_memory start 0x1000 size 0x800 shared_to_private", "multiples of 4K"),
        ("kvm_convert_memory start 0x1000 size 0x0 shared_to_private", "empty"),
        ("kvm_convert_memory start 0xfffffffffffff000 size 0x2000 shared_to_private", "beyond 2**64"),
        ("kvm_vm_set_mem_attributes: 0x100 -- 0x200 [0x9]", "bits other than 0x8"),
        ("kvm_vm_set_mem_attributes: 0x100 -- 0x200 [rw]", "'rw' is not a number"),
        ("kvm_vm_set_mem_attributes: 0x200 -- 0x100 [0x8]", "ends before it starts"),
        ("kvm_vm_set_mem_attributes: 0x200 -- 0x200 [0x8]", "empty"),
        ("kvm_vm_set_mem_attributes: 0x200 -- 0x20g [0x8]", "'0x20g' is not a number"),
        ("kvm_vm_set_mem_attributes: 0x200 -- 0x10000000000001 [0x8]", "beyond 2**64"),
        ("kvm_vm_set_mem_attributes: 0x200 -> 0x300 [0x8]", "form"),
    ],
)
def test_an_unreadable_event_is_refused_with_its_line(line, why):
    """The error names the line's number and text, what is wrong with it, and what would be legal."""
    error = refusal(GOOD + line + "\n" + GOOD)
    assert why in error.why
    assert "line 2" in error.where
    assert line in error.where
    assert QEMU in error.do
    assert LINUX in error.do
    assert "0x8 private, 0x0 shared" in error.do


@pytest.mark.parametrize("ending", ["\n", ""])
@pytest.mark.parametrize(
    "line",
    [
        "kvm_convert_memory start 0xzz size 0x1000 shared_to_private",
        "kvm_convert_memory start 0x1000 size 0x1000 sideways",
        "kvm_convert_memory start 0x1800 size 0x1000 shared_to_private",
        "kvm_vm_set_mem_attributes: 0x200 -- 0x20g [0x8]",
    ],
)
def test_a_last_line_that_is_wrong_and_not_cut_is_refused(line, ending):
    """What no further text could make whole is unreadable, at the end of the log too."""
    assert "line 2" in refusal(GOOD + line + ending).where


def test_the_text_of_an_error_is_shown_safely():
    """Control and direction characters are escaped, long lines cut off, and markup stays text."""
    error = refusal("\x1b]0;x\x07[red]\u202e kvm_convert_memory start x\x01y" + "z" * 999 + "\n" + GOOD)
    shown = str(error)
    assert all(c.isprintable() or c == "\n" for c in shown)
    assert r"\x1b]0;x\x07[red]\u202e" in shown
    assert max(len(line) for line in error.where.splitlines()) < 250


@given(st.text(max_size=400))
def test_safe_text_is_printable_and_bounded(text):
    """No text gets through that a terminal would act on."""
    shown = safe_text(text)
    assert shown.isprintable()
    assert len(shown) <= 200
    assert shown == text or not text.isprintable() or len(text) > 200


@pytest.mark.parametrize("event", [QEMU, QEMU.replace("shared_to_private", "private_to_shared"), LINUX])
@pytest.mark.parametrize("prefix", ["", "12345@1700000000.123456:", " qemu-9 [003] 77.1: "])
def test_a_last_line_cut_anywhere_in_its_event(event, prefix):
    """Each place inside the event counts as cut; only the whole event counts as a conversion."""
    for size in range(1, len(event)):
        found, counts = read(GOOD + prefix + event[:size])
        assert len(found) == 1, event[:size]
        assert counts == (2, 1, 0, 1), event[:size]
    assert read(GOOD + prefix + event)[1] == (2, 2, 0, 0)


@pytest.mark.parametrize("event", [QEMU, LINUX])
def test_a_cut_event_counts_as_cut_with_a_newline_too(event):
    """A tool that adds the missing newline to a cut log does not make it unreadable."""
    at = event.index("0x") + 4
    assert read(GOOD + event[:at] + "\n")[1] == (2, 1, 0, 1)
    assert "line 2" in refusal(GOOD + event[:at] + "\n" + GOOD).where


def test_a_last_line_cut_in_its_prefix_is_another_line():
    """What shows no event is ignored; nobody can tell what it would have become."""
    assert read(GOOD + "12345@17000")[1] == (2, 1, 1, 0)


def test_limit_stops_after_so_many_conversions():
    """Lines behind the limit are not read, not even bad ones; no conversion at all is legal there."""
    text = GOOD + "other\n" + GOOD + "kvm_convert_memory garbage\n"
    found, counts = read(text, limit=2)
    assert (len(found), counts) == (2, (3, 2, 1, 0))
    assert read(text, limit=0) == ([], (0, 0, 0, 0))


def test_counts_are_right_while_iterating():
    """After each conversion the counts are those of what was read."""
    reader = read_log(io.BytesIO((GOOD + "other\n" + GOOD).encode()))
    assert next(reader).line_number == 1
    assert (reader.counts.lines, reader.counts.conversions) == (1, 1)
    assert next(reader).line_number == 3
    assert (reader.counts.lines, reader.counts.ignored_lines) == (3, 1)


def test_an_empty_log_is_refused():
    """Nothing at all, plain or compressed, is an empty log."""
    assert "is empty" in refusal("").what
    assert "is empty" in refusal(gzip.compress(b"")).what


def test_a_log_without_conversions_is_refused():
    """The error names both events."""
    error = refusal("nothing\nof interest\n" + QEMU[:30])
    assert "holds no conversion event" in error.what
    assert "3 lines read, the last one cut" in error.why
    assert "kvm_convert_memory" in error.do
    assert "kvm_vm_set_mem_attributes" in error.do


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_binary_file_is_refused(pack):
    """NUL bytes in the first 4 KiB are no text, behind gzip too; later ones do not matter."""
    assert "binary" in refusal(pack(b"\x7fELF\0\0" + GOOD.encode())).what
    late = GOOD * 80 + "\0\n" + GOOD
    assert len(late) > 4096
    assert read(pack(late.encode()))[1][1] == 81


def test_gzip_is_told_by_its_magic(tmp_path):
    """Names do not matter; the members of a concatenated gzip are one log."""
    path = tmp_path / "plain.log"
    path.write_bytes(gzip.compress(GOOD.encode()) + gzip.compress((GOOD * 2).encode()))
    assert len(list(read_log(path))) == 3
    named = tmp_path / "misnamed.gz"
    named.write_text(GOOD)
    assert len(list(read_log(str(named)))) == 1


def test_a_truncated_gzip_ends_in_a_cut_line():
    """Every line before the end of a cut gzip is read; the rest counts as one cut line."""
    lines = [f"kvm_convert_memory start {n << 12:#x} size 0x1000 shared_to_private\n" for n in range(4000)]
    whole = gzip.compress("".join(lines).encode(), 1)
    for size in (len(whole) - 1, len(whole) - 9, len(whole) * 2 // 3):
        found, counts = read(whole[:size])
        assert [c.start for c in found] == [n << 12 for n in range(len(found))]
        assert counts == (len(found) + 1, len(found), 0, 1)
    assert len(read(whole[: len(whole) - 9])[0]) > 3900
    assert "holds no conversion event" in refusal(whole[:6]).what


def test_a_corrupt_gzip_is_refused():
    """A wrong checksum and garbage behind the end are named; no damage passes for a whole log."""
    lines = "".join(f"{n} {QEMU}\n" for n in range(4000)).encode()
    whole = gzip.compress(lines, 1, mtime=0)
    checksum = bytearray(whole)
    checksum[-8] ^= 0xFF
    for data in (bytes(checksum), whole + b"garbage garbage", b"\x1f\x8b\x55" + whole[3:]):
        assert "gzip data is corrupt" in refusal(data).what
    for at in range(12, len(whole) - 8, 397):
        damaged = bytearray(whole)
        damaged[at] ^= 0xFF
        try:
            assert read(bytes(damaged))[1][3] == 1, "it may only look cut short"
        except BadInput:
            continue  # corrupt, or the text that came out makes no sense


@pytest.mark.parametrize("length", [1 << 16, (1 << 16) - 1, (1 << 16) + 1, 1_000_000])
def test_a_long_line_is_one_line(length):
    """A line longer than the buffer is one ignored line, or the event that it ends or begins with."""
    text = "x" * length + "\n" + "y" * length + " " + QEMU + "\n" + QEMU + " " + "z" * length + "\n" + GOOD
    found, counts = read(text)
    assert [c.line_number for c in found] == [2, 3, 4]
    assert {c[1:4] for c in found} == {(0x4000000, 0x4001000, True)}
    assert counts == (4, 3, 1, 0)
    assert read(GOOD + "x" * length)[1] == (2, 1, 1, 0)
    assert read(GOOD + "x" * length + " " + QEMU[:-3])[1] == (2, 1, 0, 1)


@pytest.mark.parametrize("distance", range(0, 80, 7))
def test_an_event_across_the_edge_of_the_buffer(distance):
    """An event that the buffer's edge cuts in two is still found."""
    text = "x" * ((1 << 16) - distance - 1) + " " + QEMU + "\n" + GOOD
    assert [c.line_number for c in read(text)[0]] == [1, 2]


def test_memory_does_not_grow_with_the_log():
    """Neither a line of 64 MiB nor many lines are held."""

    class Endless(io.RawIOBase):
        left = 64 << 20

        def readable(self) -> bool:
            return True

        def readinto(self, buffer) -> int:
            size = min(len(buffer), self.left)
            buffer[:size] = b"k" * size
            self.left -= size
            return size

    reader = read_log(io.BufferedReader(Endless()))
    tracemalloc.start()
    with pytest.raises(BadInput, match="holds no conversion event"):
        list(reader)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 << 20
    assert reader.counts.lines == 1


@pytest.mark.parametrize(
    "body",
    [
        " ." * 30_000,
        "." * 60_000,
        " " * 60_000 + "x",
        "0x" * 30_000,
        " 0x1 -- 0x2 [" + " " * 60_000,
        "[" * 60_000,
    ],
)
def test_a_hostile_line_costs_little(body):
    """A long line after an event's name is refused at once, not after minutes of matching."""
    assert "line 1" in refusal(f"kvm_vm_set_mem_attributes:{body}\n" + GOOD).where
    assert "line 1" in refusal(f"kvm_convert_memory start{body}\n" + GOOD).where


def test_missing_files_and_directories_are_refused(tmp_path):
    """Before anything is read, with the name and the system's reason."""
    for path, why in ((tmp_path / "no\x1b.log", "No such file"), (tmp_path, "directory"), ("a\0b", "null")):
        for use in (read_log, open_log, highest_end):
            with pytest.raises(BadInput) as caught:
                use(path)
            assert why in caught.value.why
            assert str(caught.value).replace("\n", "").isprintable()


def test_highest_end_below_a_limit(tmp_path):
    """The highest end that does not reach beyond the limit, and the stream can be read again."""
    text = "".join(
        f"kvm_convert_memory start {start:#x} size {size:#x} private_to_shared\n"
        for start, size in (
            (0x1000, 0x1000),
            (0x380000000000, 0x1000),
            (0x4000, 0x2000),
            ((1 << 40) - 4096, 8192),
        )
    )
    path = tmp_path / "log"
    path.write_text(text)
    assert highest_end(path) == 0x6000
    assert highest_end(path, below=0x5000) == 0x2000
    assert highest_end(path, below=1 << 63) == 0x380000001000
    assert highest_end(path, below=0x1000) == 0
    stream = io.BytesIO(b"skipped\n" + text.encode())
    stream.readline()
    assert highest_end(stream) == 0x6000
    assert len(list(read_log(stream))) == 4
    with open_log(path) as log:
        assert highest_end(log) == 0x6000
        assert log.size == len(text)
        reader = read_log(log)
        assert len(list(reader)) == 4
        assert reader.position == len(text)


def test_an_end_at_the_limit_counts():
    """A range that ends exactly at the limit lies below it."""
    text = f"kvm_convert_memory start {(1 << 40) - 4096:#x} size 0x1000 private_to_shared\n"
    assert highest_end(io.BytesIO(text.encode())) == 1 << 40


def test_standard_input_is_spooled_and_can_be_read_twice():
    """Open_log copies what cannot be rewound; read_log takes `-` as it is."""
    program = (
        "from hitless.guest_memfd.log import *\n"
        "with open_log('-') as log: print(log.name, log.size, highest_end(log), len(list(read_log(log))))"
    )
    env = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=gzip.compress(GOOD.encode()),
        capture_output=True,
        env=env,
        check=True,
    )
    assert done.stdout.decode().split()[:2] == ["standard", "input"]
    assert done.stdout.decode().split()[3:] == [str(0x4001000), "1"]
    program = "from hitless.guest_memfd.log import *\nprint(len(list(read_log('-'))))"
    done = subprocess.run(
        [sys.executable, "-c", program], input=GOOD.encode(), capture_output=True, env=env, check=True
    )
    assert done.stdout.split() == [b"1"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_named_pipe_is_spooled(tmp_path):
    """A shell's process substitution can be read twice, too."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_text, args=(GOOD * 3,))
    writer.start()
    with open_log(path) as log:
        assert highest_end(log) == 0x4001000
        assert len(list(read_log(log))) == 3
    writer.join()


def test_a_reader_closes_the_file_that_it_opened(tmp_path):
    """At the end, at the limit, and on close; a stream that was given stays open."""
    path = tmp_path / "log"
    path.write_text(GOOD * 3)
    for limit in (None, 1):
        reader = read_log(path, limit)
        list(reader)
        assert reader._log.stream.closed
    reader = read_log(path)
    next(reader)
    reader.close()
    assert reader._log.stream.closed
    stream = io.BytesIO(GOOD.encode())
    list(read_log(stream))
    assert not stream.closed


PAGES = st.integers(0, 2**52 - 1)
PREFIX = st.text(st.characters(blacklist_characters="\r\n", blacklist_categories=["Cs"]), max_size=40).map(
    lambda text: text.replace("kvm_", "")
)
CONVERSIONS = st.tuples(PAGES, PAGES, st.booleans()).map(lambda c: (min(c[:2]) << 12, max(c[:2]) + 1 << 12, c[2]))


def qemu_line(start: int, end: int, to_private: bool) -> str:
    """The event as QEMU prints it."""
    direction = "shared_to_private" if to_private else "private_to_shared"
    return f"kvm_convert_memory start {start:#x} size {end - start:#x} {direction}"


def linux_line(start: int, end: int, to_private: bool) -> str:
    """The event as Linux prints it."""
    attributes = 8 if to_private else 0
    return f"kvm_vm_set_mem_attributes: {start >> 12:#016x} -- {end >> 12:#016x} [{attributes:#x}]"


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.tuples(PREFIX, st.one_of(st.none(), st.tuples(st.sampled_from([qemu_line, linux_line]), CONVERSIONS))),
        max_size=20,
    ),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from([bytes, gzip.compress]),
)
def test_round_trip_of_what_the_two_print(entries, newline, pack):
    """Whatever is printed, with any prefixes and other lines between, comes back in order."""
    text = "".join(
        prefix + ("" if event is None else event[0](*event[1])) + newline for prefix, event in entries
    ).replace("\0", "")
    expected = [event[1] for _, event in entries if event is not None]
    data = pack((GOOD + text).encode())
    found, counts = read(data)
    assert [c[1:4] for c in found[1:]] == expected
    others = len(entries) - len(expected)
    assert counts == (1 + len(entries), 1 + len(expected), others, 0)
    numbers = [n for n, (_, event) in enumerate(entries, 2) if event is not None]
    assert [c.line_number for c in found[1:]] == numbers

"""The example logs are what their descriptions promise, and the long one is what its script makes."""

import gzip
import importlib.util
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from hitless.guest_memfd.log import LogConversion, highest_end, read_log

EXAMPLES = Path(__file__).parents[2] / "examples"
LONG, SHORT, SCRIPT = EXAMPLES / "guest-16g.log.gz", EXAMPLES / "short.log", EXAMPLES / "make_guest_log.py"
M, G, T = 1 << 20, 1 << 30, 1 << 40
HUGE = 2 * M
RAM = ((0, 2 * G), (4 * G, 18 * G))
POOL = (0x58000000, 0x78000000)


@pytest.fixture(scope="module")
def script():
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("make_guest_log", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def long_log() -> list[LogConversion]:
    """The long log's conversions."""
    return list(read_log(LONG))


def in_ram(conversion: LogConversion) -> bool:
    """Whether all of it is RAM of the long log's guest."""
    return any(low <= conversion.start and conversion.end <= high for low, high in RAM)


def pages(conversions) -> dict[int, bool]:
    """Page by page, whether it is private at the end; what is not named is private."""
    private: dict[int, bool] = {}
    for conversion in conversions:
        for page in range(conversion.start, conversion.end, 4096):
            private[page] = conversion.to_private
    return private


def test_the_committed_log_is_what_the_script_makes(script, tmp_path):
    """Running the script again gives the same log, and the same script the same bytes."""
    text = gzip.decompress(LONG.read_bytes()).decode()
    assert script.guest_log() == text
    for name in ("one", "two"):
        subprocess.run([sys.executable, SCRIPT, "--output", tmp_path / name], check=True, capture_output=True)
    one = (tmp_path / "one").read_bytes()
    assert one == (tmp_path / "two").read_bytes()
    # How it is packed depends on the zlib that Python was built with; what is packed does not.
    assert gzip.decompress(one).decode() == text
    assert one[4:8] == bytes(4), "the gzip header holds a time"


def test_another_seed_is_another_log(script):
    """The seed decides, and the number of conversions is the one that was asked for."""
    assert script.guest_log(2, 1000) != script.guest_log(1, 1000)
    assert script.guest_log(2, 1000).count("kvm_convert_memory start") == 1000


def test_the_long_log_says_that_it_is_synthetic():
    """The first line of the log, and of the script, say so."""
    with gzip.open(LONG, "rt", encoding="utf-8") as log:
        assert "synthetic profile" in next(log)
    assert "synthetic profile" in SCRIPT.read_text(encoding="utf-8").splitlines()[0]
    assert LONG.stat().st_size < 400 << 10


def test_the_long_log_holds_what_it_promises(long_log):
    """At least 20,000 conversions, most of them single pages, among other lines; 18 GiB of addresses."""
    reader = read_log(LONG)
    assert list(reader) == long_log
    assert reader.counts.conversions == len(long_log) >= 20_000
    assert reader.counts.ignored_lines > 300
    assert reader.counts.cut_lines == 0
    assert 17 * G < highest_end(LONG) <= 18 * G
    sizes = Counter(c.end - c.start for c in long_log)
    assert sizes[4096] > 0.9 * len(long_log)
    assert sizes[POOL[1] - POOL[0]] == 1


def test_the_long_log_turns_the_pool_shared_as_a_whole_and_early(long_log):
    """One conversion of 2M-aligned ends within the first hundred; later pages inside leave and return."""
    index, pool = next((i, c) for i, c in enumerate(long_log) if (c.start, c.end) == POOL)
    assert index < 100
    assert not pool.to_private
    assert pool.start % HUGE == pool.end % HUGE == 0
    inside = [c for c in long_log if POOL[0] <= c.start and c.end <= POOL[1] and c is not pool]
    left = {c.start for c in inside if c.to_private}
    returned = {c.start for c in inside if not c.to_private}
    assert len(left) > 1000
    assert returned <= left
    assert len(returned) > 0.9 * len(left)


def test_the_long_log_has_scattered_pages_that_come_back(long_log):
    """Single pages in hundreds of 2M parts of private memory turn shared, and most come back."""
    high = [c for c in long_log if c.start >= 5 * G and in_ram(c) and c.end - c.start == 4096]
    shared = {c.start for c in high if not c.to_private}
    back = {c.start for c in high if c.to_private}
    assert len({page // HUGE for page in shared}) >= 200
    assert back <= shared
    assert len(back) > 0.9 * len(shared)


def test_the_long_log_has_whole_2m_parts_in_both_directions(long_log):
    """Aligned 2 MiB conversions, in the pool and in private memory, there and back."""
    huge = [c for c in long_log if c.end - c.start == HUGE]
    assert all(c.start % HUGE == 0 for c in huge)
    for inside in (True, False):
        part = [c for c in huge if (POOL[0] <= c.start < POOL[1]) == inside]
        assert {c.to_private for c in part} == {True, False}
        assert 20 < len(part) < 500


def test_the_long_log_converts_registers_and_straddles_nothing(long_log):
    """What is not RAM lies in the hole below 4 GiB or above 1 TiB, and nothing lies across an edge."""
    others = [c for c in long_log if not in_ram(c)]
    assert all(not (c.start < high and low < c.end) for c in others for low, high in RAM)
    assert any(c.start >= 2 * G and c.end <= 4 * G for c in others)
    assert any(c.start >= T for c in others)
    assert all(2 * G <= c.start < 4 * G or c.start >= T for c in others)


def test_the_long_log_repeats_only_what_firmware_had_converted(long_log):
    """In RAM each line changes all of its pages, but for three that the kernel converts again."""
    private: dict[int, bool] = {}
    unchanged = []
    for conversion in filter(in_ram, long_log):
        span = range(conversion.start, conversion.end, 4096)
        before = {private.get(page, True) for page in span}
        if before == {conversion.to_private}:
            unchanged.append(conversion)
        else:
            assert before == {not conversion.to_private}, conversion
        private.update(dict.fromkeys(span, conversion.to_private))
    assert len(unchanged) == 3
    assert all(c.end - c.start == 4096 and not c.to_private for c in unchanged)


def test_the_short_log_holds_what_it_promises():
    """Both events, a duplicate, registers above 1 TiB, all else in 4 GiB, and a cut last line."""
    reader = read_log(SHORT)
    found = list(reader)
    assert 25 <= len(found) <= 40
    counts = reader.counts
    assert (counts.conversions, counts.cut_lines) == (len(found), 1)
    assert counts.lines == counts.conversions + counts.ignored_lines + 1
    assert counts.ignored_lines > 10
    assert sum("kvm_vm_set_mem_attributes" in c.text for c in found) >= 4
    assert [c.start for c in found if c.end > 4 * G] == [0x380000000000]
    assert highest_end(SHORT) == 4 * G


def test_the_short_log_shares_a_pool_as_a_whole_and_cuts_it():
    """4 MiB at once, repeated by the second event; then single pages, there and back."""
    found = list(read_log(SHORT))
    pool = (0x40000000, 0x40400000, False)
    assert [c[1:4] for c in found[:2]] == [pool, pool]
    assert "kvm_vm_set_mem_attributes" in found[1].text
    inside = [c for c in found[2:] if pool[0] <= c.start < pool[1]]
    assert {c.start for c in inside if not c.to_private} <= {c.start for c in inside if c.to_private}
    assert (0x40200000, 0x40400000, True) in [c[1:4] for c in found]
    private = pages(c for c in found if c.end <= 4 * G)
    assert all(private[page] for page in range(0x40200000, 0x40400000, 4096))
    lonely = [page for page, own in private.items() if not own and 2 * G <= page < 3 * G]
    assert len(lonely) == 6


def test_comments_of_the_short_log_are_no_events():
    """Every line that is no comment and not blank is an event."""
    lines = SHORT.read_text(encoding="utf-8").splitlines()
    events = [n for n, line in enumerate(lines, 1) if line and not line.startswith("#")]
    assert [c.line_number for c in read_log(SHORT)] == events[:-1]
    assert re.fullmatch(r"\S+kvm_convert_memory start 0x4000", lines[-1])

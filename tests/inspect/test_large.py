"""A 64 GiB sparse image with 16 million leaves, no two of them side by side: in bounded memory."""

import re
import subprocess
import sys

import numpy as np
import pytest

RW = 3 << 61
PAGES = 16 << 20
FIRST = 16 << 30
"""Where the tables lie: root, one table of AMD level 3, 64 of level 2, 32,768 of level 1."""
MEASURED = """
import atexit, pathlib, sys
from hitless.cli import main

atexit.register(lambda: sys.stderr.write(pathlib.Path("/proc/self/status").read_text()))
main()
"""
"""The command, which tells its own peak at its end: what getrusage says of a child begins with its parent's."""


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """Tables of four AMD levels that map 64 GiB in pages of 4K, in no order."""
    path = tmp_path_factory.mktemp("large") / "ram"
    level_3, level_2, level_1 = FIRST + 0x1000, FIRST + 0x2000, FIRST + 0x2000 + 64 * 4096
    pages = np.random.default_rng(1).permutation(PAGES).astype(np.uint64)
    parts = {
        FIRST: np.array([level_3 | 3 << 9 | 1 | RW], np.uint64),
        level_3: np.arange(64, dtype=np.uint64) * np.uint64(4096) + np.uint64(level_2 | 2 << 9 | 1 | RW),
        level_2: np.arange(32768, dtype=np.uint64) * np.uint64(4096) + np.uint64(level_1 | 1 << 9 | 1 | RW),
        level_1: pages << np.uint64(12) | np.uint64(1 | RW),
    }
    with path.open("wb") as out:
        out.truncate(64 << 30)
        for pa, words in parts.items():
            out.seek(pa)
            out.write(words.tobytes())
    return path, pages


@pytest.mark.slow
def test_sixteen_million_leaves(image, tmp_path):
    """Every leaf is counted, the CSV has every range, and no more than 1 GiB of memory is used."""
    path, pages = image
    told = tmp_path / "told.csv"
    command = [sys.executable, "-c", MEASURED, "inspect", path, "--format", "amd/v1", "--root", hex(FIRST), "--csv"]
    with told.open("wb") as out:
        ended = subprocess.run(command, stdout=out, stderr=subprocess.PIPE, text=True, check=True)
    assert int(re.search(r"VmHWM:\s*(\d+) kB", ended.stderr)[1]) < 1 << 20
    size = 0
    with told.open() as lines:
        assert next(lines).startswith("space,iova,size,pa")
        for number, line in enumerate(lines):
            _, iova, length, pa, *_ = line.split(",")
            size += int(length, 0)
            if number % 65_537 == 0:
                assert int(pa, 0) == int(pages[int(iova, 0) >> 12]) << 12
    assert size == 64 << 30


@pytest.mark.slow
def test_totals_of_sixteen_million_leaves(image, hitless, tmp_path):
    """Totals without writing the ranges."""
    path, _ = image
    found = hitless("inspect", path, "--format", "amd/v1", "--root", hex(FIRST), "--limit", "1")
    assert "16,777,216 of 4K" in found.out
    assert "32,834 tables" in found.out
    assert "64G mapped" in found.out

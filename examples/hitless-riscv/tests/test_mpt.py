"""Memory protection tables against words written by hand from RISCV-MTT-*."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitless.hardware.structures import OwnerRun
from hitless_riscv.mpt import LAYOUTS, read_mpt

ROOT, LOWER, LOWEST = 0x10_0000, 0x20_0000, 0x30_0000
PAGE, M, G, T = 1 << 12, 1 << 20, 1 << 30, 1 << 40
ALL = sum(7 << 8 + 3 * i for i in range(16)) | 3
SMMPT43, SMMPT52 = 1 << 60, 2 << 60


class Tables:
    """Tables by address; what was never named is all granted."""

    def __init__(self):
        self.tables = {}

    def put(self, table, index, word):
        """One entry."""
        self.tables.setdefault(table, {})[index] = word

    def view(self, pa, count):
        """All entries of a table."""
        words = np.full(count, ALL, dtype=np.uint64)
        for index, word in self.tables.get(pa, {}).items():
            words[index] = word
        return words

    def runs(self, base=SMMPT43 | ROOT >> 12):
        """What the host may not reach."""
        return [(run.start, run.end) for run in read_mpt(base, {}, self.view)]


def pointer(pa):
    """A pointer entry."""
    return pa >> 12 << 10 | 1


def test_nothing_is_forbidden():
    """Where all is granted, and where the table is Bare."""
    assert Tables().runs() == []
    assert list(read_mpt(ROOT >> 12, {}, Tables().view)) == []


@pytest.mark.parametrize(("mode", "level", "piece"), [(SMMPT43, 2, G), (SMMPT52, 3, 512 * G)])
def test_pieces_of_a_root(mode, level, piece):
    """16 pieces of 1G, or of 512G, an entry: what has no right, or a reserved code (RISCV-MTT-2, RISCV-MTT-9)."""
    tables = Tables()
    tables.put(ROOT, 3, 3 | 1 << 8 | 3 << 11 | 0 << 14 | 5 << 17 | 4 << 20 | ALL >> 23 << 23)
    tables.put(ROOT, 5, ALL & ~(7 << 8) | 2 << 8)
    first = 3 * 16 * piece + 2 * piece
    assert tables.runs(mode | ROOT >> 12) == [(first, first + piece), (5 * 16 * piece, 5 * 16 * piece + piece)]


def test_three_levels():
    """16G, 32M and 64K an entry; a page of 4K is the smallest piece."""
    tables = Tables()
    tables.put(ROOT, 1, pointer(LOWER))
    tables.put(LOWER, 2, pointer(LOWEST))
    tables.put(LOWEST, 3, ALL & ~(7 << 8 + 3 * 5))
    page = 16 * G + 2 * 32 * M + 3 * 16 * PAGE + 5 * PAGE
    assert tables.runs() == [(page, page + PAGE)]
    assert list(read_mpt(SMMPT43 | ROOT >> 12, {}, tables.view)) == [OwnerRun(page, page + PAGE, 1)]


def test_what_is_not_valid_grants_nothing():
    """An entry with V clear, and a pointer at the lowest level."""
    tables = Tables()
    tables.put(ROOT, 1, pointer(LOWER))
    tables.put(LOWER, 0, 0)
    tables.put(LOWER, 2, pointer(LOWEST))
    tables.put(LOWEST, 0, pointer(ROOT))
    start = 16 * G
    assert tables.runs() == [(start, start + 32 * M), (start + 64 * M, start + 64 * M + 16 * PAGE)]


def test_a_napot_leaf():
    """32 entries say one thing: 2M of no right (RISCV-MTT-2, RISCV-MTT-10)."""
    tables = Tables()
    tables.put(ROOT, 0, pointer(LOWER))
    tables.put(LOWER, 0, pointer(LOWEST))
    for i in range(32):
        tables.put(LOWEST, 32 + i, 7 | 4 << 12)
        tables.put(LOWEST, 64 + i, 7 | 3 << 8 | 4 << 12)
    assert tables.runs() == [(2 * M, 4 * M)]


@given(st.sets(st.integers(0, 16 * 512 - 1), max_size=40))
def test_any_pages(pages):
    """Whatever pages of 32M are forbidden: these, and adjacent ones as one run."""
    tables = Tables()
    tables.put(ROOT, 0, pointer(LOWER))
    tables.put(LOWER, 0, pointer(LOWEST))
    for entry in {page >> 4 for page in pages}:
        gone = sum(7 << 8 + 3 * (page & 15) for page in pages if page >> 4 == entry)
        tables.put(LOWEST, entry, ALL & ~gone)
    runs = tables.runs()
    assert {at for start, end in runs for at in range(start, end, PAGE)} == {page * PAGE for page in pages}
    assert all(one[1] < other[0] for one, other in pairwise(runs))


def test_layouts():
    """Words of each kind are legal by their own layout, and by no other."""
    words = {"mpt-pointer": pointer(ROOT), "mpt-leaf": ALL, "mpt-napot": 7 | 7 << 8 | 4 << 12}
    for name, word in words.items():
        assert [other for other in words if not list(LAYOUTS[other].faults(word))] == [name]

"""Many IOVAs at once, against one step of the format after the other."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitless.bits import as_words
from hitless.errors import BusError
from hitless.memory import Arena
from hitless.pagetable import Leaf, Position, translate_many
from hitless.pagetable.bulk import NOWHERE
from hitless_amd.v1 import AmdV1
from random_tables import FORMATS, RandomTables

NAMES = [f"{i}-{fmt.name}" for i, fmt in enumerate(FORMATS)]


def scalar(fmt, arena, root_pa, iova):
    """Output address, kind of fault and rights of one IOVA; None: a table is not in memory."""
    at = fmt.start(root_pa, iova)
    for _ in range(64):
        if not isinstance(at, Position):
            break
        level = fmt.levels[at.level]
        pa = at.table_pa + 8 * (at.iova >> level.lo & (1 << level.bits) - 1)
        if not arena.contains(pa, 8):
            return None
        at = fmt.step(at, arena.load(pa))
    return (at.oa + iova - at.iova, "", at.rights) if isinstance(at, Leaf) else (NOWHERE, at.kind, 0)


@pytest.mark.parametrize("fmt", FORMATS, ids=NAMES)
@given(seed=st.integers(0, 1 << 32), low=st.booleans())
def test_many_translations_are_what_each_walk_finds(fmt, seed, low):
    """Addresses, faults and rights, of sparse IOVAs and of many within few entries, whatever the entries hold."""
    tables = RandomTables(fmt, seed)
    with tables.arena:
        wanted = {iova: scalar(fmt, tables.arena, tables.root_pa, iova) for iova in tables.asked(200)}
        iovas = [iova for iova, found in wanted.items() if found is not None]
        if low:
            iovas = [iova for iova in iovas if iova < 1 << 32] or iovas
        found = translate_many(tables.arena, fmt, tables.root_pa, as_words(iovas), rights=True)
        kinds = [found.kinds[number] for number in found.faults.tolist()]
        assert list(zip(found.oas.tolist(), kinds, found.rights.tolist(), strict=True)) == [wanted[i] for i in iovas]
        assert found.mapped.tolist() == [kind == "" for kind in kinds]
        plain = translate_many(tables.arena, fmt, tables.root_pa, as_words(iovas))
        assert np.array_equal(plain.oas, found.oas) and plain.rights is None


def test_more_iovas_than_one_chunk():
    """What is read once for all, and what is walked, fit together at the seams of chunks."""
    fmt, rng = AmdV1(4), np.random.default_rng(7)
    with Arena(0, 1 << 20) as arena:
        attrs = fmt.default_attrs(3)
        arena.store(0x1000, 0x2000 | 3 << 9 | 1)
        arena.view(0x2000, 3)[:] = [fmt.leaf(30, 5 << 30, attrs), 0x3000 | 2 << 9 | 1, 0]
        arena.view(0x3000, 3)[:] = [fmt.leaf(21, 9 << 21, attrs), 0x4000 | 1 << 9 | 1, 0]
        arena.view(0x4000, 2)[:] = [fmt.leaf(12, 0x7000, attrs), 0]
        iovas = np.concatenate([rng.integers(0, 3 << 30, 100_000), (1 << 30) + rng.integers(0, 3 << 21, 100_000)])
        iovas = rng.permutation(as_words(iovas))
        found = translate_many(arena, fmt, 0x1000, iovas)
        wanted = [scalar(fmt, arena, 0x1000, iova)[0] for iova in iovas[::37].tolist()]
        assert found.oas[::37].tolist() == wanted


def test_a_table_outside_memory_matters_only_to_who_needs_it():
    """An IOVA that leads there is a bus error; its neighbours, of the same table, are none."""
    fmt = AmdV1(3)
    with Arena(0, 0x4000) as arena:
        arena.view(0x1000, 2)[:] = [fmt.leaf(30, 7 << 30, fmt.default_attrs(3)), fmt.table(2, 1 << 40)]
        assert translate_many(arena, fmt, 0x1000, as_words([5])).oas.tolist() == [(7 << 30) + 5]
        far = as_words([0, 2 << 30, 9])
        assert translate_many(arena, fmt, 0x1000, far).mapped.tolist() == [True, False, True]
        with pytest.raises(BusError):
            translate_many(arena, fmt, 0x1000, as_words([0, 1 << 30]))


def test_no_iovas():
    """Empty arrays are fine."""
    with Arena(0, 0x4000) as arena:
        found = translate_many(arena, AmdV1(3), 0x1000, as_words([]))
        assert found.oas.size == found.faults.size == 0

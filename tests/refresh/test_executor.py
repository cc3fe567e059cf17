"""The executor: folding, races, and A and D saved from tables that a merge replaces."""

import pytest

from hitless.errors import Raced
from hitless.memory import Arena, PageAllocator
from hitless.plan import Fill, FillRun, Fold, Release, Store
from hitless.refresh.executor import Executor

BASE = 0x1000_0000
D = 0x40


@pytest.fixture
def arena():
    """A megabyte of memory."""
    with Arena(BASE, 1 << 20) as arena:
        yield arena


def executor(arena, **more):
    """An executor without units."""
    return Executor(arena, PageAllocator(arena, BASE + 0x8000, 0x8000), {}, None, **more)


def test_a_fill_writes_runs_and_then_what_overrides_them(arena):
    """Runs rise by their increment, modulo 2**64; overrides win."""
    fill = Fill(BASE, 12, [FillRun(BASE, 4, 2**64 - 1, 2)], [(BASE + 8, 7)])
    executor(arena).run([fill])
    assert arena.view(BASE, 5).tolist() == [2**64 - 1, 7, 3, 5, 0]


def test_bits_that_hardware_set_are_folded_into_the_new_word(arena):
    """Memory differs only in D: the new word gets it, and the store is tried again."""
    arena.store(BASE, 0x1001 | D)
    executor(arena).run([Store(BASE, 0x1001, 0x2001, D, "replace", 0, 0)])
    assert arena.load(BASE) == 0x2001 | D


def test_a_wiped_entry_keeps_no_bits(arena):
    """0 stays 0."""
    arena.store(BASE, 0x1001 | D)
    executor(arena).run([Store(BASE, 0x1001, 0, D, "wipe", 0, 0)])
    assert arena.load(BASE) == 0


def test_in_a_cut_they_go_to_every_leaf_of_the_new_table(arena):
    """The pointer itself gets none."""
    arena.store(BASE, 0x200001 | D)
    executor(arena).run(
        [
            Fill(BASE + 0x1000, 12, [FillRun(BASE + 0x1000, 3, 1, 0x1000)]),
            Store(BASE, 0x200001, BASE + 0x1203, D, "cut", 1, 0, [(BASE + 0x1000, 3)]),
        ]
    )
    assert arena.load(BASE) == BASE + 0x1203
    assert arena.view(BASE + 0x1000, 4).tolist() == [1 | D, 0x1001 | D, 0x2001 | D, 0]


def test_anything_else_is_raced_and_names_the_step(arena):
    """A word that nobody planned is a bug, not something to overwrite."""
    arena.store(BASE, 0x5001)
    with pytest.raises(Raced, match="0x5001") as caught:
        executor(arena).run([Store(BASE, 0x1001, 0x2001, D, "replace", 0, 0)])
    assert "store replace" in str(caught.value)
    assert arena.load(BASE) == 0x5001


def test_release_saves_the_bits_of_the_table_first(arena):
    """D that a walker set in the old table until the wait goes into the leaf that replaced it; then it is free."""
    run = executor(arena)
    table = run.tables.allocate(12)
    arena.store(table + 16, 0x3001 | D | 0x8)
    arena.store(BASE, 0x200001)
    run.run([Release([(table, 12)], [Fold(BASE, table, 512, D)])])
    assert arena.load(BASE) == 0x200001 | D
    assert not run.tables.in_use(table)


def test_only_stores_to_reachable_entries_are_counted(arena):
    """Fills are not."""
    run = executor(arena)
    arena.store(BASE, 1)
    run.run([Fill(BASE + 0x1000, 12, [FillRun(BASE + 0x1000, 512, 1, 1)]), Store(BASE, 1, 3, 0, "map", 0, 0)])
    assert run.counters.stores == 1


RO = 0x80


def test_bits_that_hardware_cleared_are_folded_too(arena):
    """Arm's stage 1 clears its read-only bit when a clean page is written: the new word has it clear as well."""
    arena.store(BASE, 0x1001 | D)
    executor(arena).run([Store(BASE, 0x1001 | RO, 0x2001 | RO, D | RO, "replace", 0, 0)])
    assert arena.load(BASE) == 0x2001 | D


def test_they_spread_over_the_run_and_stay_out_of_empty_entries(arena):
    """What hardware changed in one entry of a run is the whole run's, in whatever form its entries are by now."""
    for i, word in enumerate((0x1001 | RO, 0x2001 | RO | D, 0, 0x4003 | RO)):
        arena.store(BASE + 8 * i, word)
    executor(arena).run([Store(BASE + 8, 0x2001 | RO, 0x9001 | RO, D, "resize", 0, 0, [], [(BASE, 4)])])
    assert arena.view(BASE, 4).tolist() == [0x1001 | RO | D, 0x9001 | RO | D, 0, 0x4003 | RO | D]


def test_release_folds_many_into_many(arena):
    """Two entries into three, twice side by side; bits that hardware clears are cleared if any source has them so."""
    table, new = BASE + 0x1000, BASE + 0x2000
    for i, word in enumerate((1 | RO, 1 | RO | D, 1 | RO, 1)):
        arena.store(table + 8 * i, word)
    for i in range(6):
        arena.store(new + 8 * i, 0x10 * i | RO if i != 1 else 0)
    executor(arena).run([Release([], [Fold(new, table, 2, D, 3, 2, RO)])])
    assert arena.view(new, 6).tolist() == [RO | D, 0, 0x20 | RO | D, 0x30, 0x40, 0x50]

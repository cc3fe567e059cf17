"""Batches done at once leave what their steps leave one by one: words, counters, commands, and errors."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitless.columns import Blocks, words
from hitless.errors import Raced
from hitless.memory import Arena, PageAllocator
from hitless.plan import Cleans, Fills, Folds, Invalidates, Release, Stores
from hitless.refresh.executor import Executor

BASE, SIZE = 0x10_0000, 1 << 22
HARDWARE = 0x60


class Port:
    """A unit that keeps what it is told."""

    name, fenced, held = "iommu0", False, False

    def __init__(self):
        self.told = []

    def submit(self, command):
        self.told.append(command)

    def complete(self):
        self.told.append("wait")


def make(between=None):
    """An executor on memory of its own, all of it tables; ``between``: then it goes step by step."""
    arena = Arena(BASE, SIZE)
    tables = PageAllocator(arena, BASE, SIZE)
    how = {} if between is None else {"between": between}
    return Executor(arena, tables, {"iommu0": Port()}, None, **how)


def both(steps, setting=lambda executor: None):
    """Two executors after the same steps: at once, and step by step."""
    executors = make(), make(between=lambda step: None)
    for executor in executors:
        setting(executor)
        executor.run(steps)
    one, other = executors
    assert np.array_equal(one.memory.view(BASE, SIZE // 8), other.memory.view(BASE, SIZE // 8))
    assert one.counters == other.counters
    assert one.ports["iommu0"].told == other.ports["iommu0"].told
    assert one.tables.state() == other.tables.state()
    return one


@given(st.integers(0, 2**32))
def test_fills(seed):
    """Whole tables side by side and apart, rising alike or not, part rows short and long, and words over them."""
    rng = random.Random(seed)
    size_lg2 = rng.choice([7, 9, 12, 13])
    entries, count = 1 << size_lg2 - 3, rng.randrange(1, 150 if size_lg2 < 12 else 90)
    slots = sorted(rng.sample(range(SIZE >> size_lg2), count)) if rng.random() < 0.5 else list(range(3, 3 + count))
    if rng.random() < 0.3:
        rng.shuffle(slots)
    pas = [BASE + (slot << size_lg2) for slot in slots]
    rising, runs, over = [rng.choice([0x1000, 1 << 21, 0, (1 << 64) - 8]) for _ in range(2)], [], []
    for pa in pas:
        kind = rng.random()
        if kind < 0.7:
            runs.append((pa, entries, rng.getrandbits(64), rising[rng.random() < 0.1]))
        elif kind < 0.9:
            first = rng.randrange(entries)
            runs.append((pa + 8 * first, rng.randrange(1, entries - first + 1), rng.getrandbits(64), rising[0]))
        if rng.random() < 0.5:
            over.append((pa + 8 * rng.randrange(entries), rng.getrandbits(64)))
    columns = (words(each[i] for each in runs) for i in range(4))
    both([Fills(size_lg2, words(pas), *columns, words(pa for pa, _ in over), words(word for _, word in over))])


def stores(count, folds=None, new=0x5000):
    """Replaces of adjacent entries that hold their own numbers above bit 12."""
    index = np.arange(count, dtype=np.uint64)
    one = np.uint64(1)
    pa, expected = np.uint64(BASE + 0x1000) + index * np.uint64(8), (index + one) << np.uint64(12) | one
    return Stores("replace", 0, HARDWARE, pa, expected, expected + np.uint64(new), index << np.uint64(12), folds)


@given(st.lists(st.tuples(st.integers(0, 49), st.sampled_from([0x20, 0x40, 0x60])), max_size=8))
def test_bits_that_hardware_set_meanwhile_are_kept(marked):
    """A leaf that is marked between plan and store keeps its marks, as if each was stored alone."""
    step = stores(50)

    def setting(executor):
        executor.memory.scatter(step.pa, step.expected)
        for number, bits in marked:
            pa = int(step.pa[number])
            executor.memory.store(pa, executor.memory.load(pa) | bits)

    done = both([step], setting)
    for number in range(50):
        marks = 0
        for which, bits in marked:
            marks |= bits if which == number else 0
        assert done.memory.load(int(step.pa[number])) == (number + 1 << 12 | 1) + 0x5000 | marks
    assert done.counters.stores == 50


def test_bits_of_a_leaf_that_is_cut_go_to_the_new_table():
    """They are folded into the leaves that take over, and not into the pointer."""
    folds = Folds(words([0, 1, 2]), words([BASE, BASE + 0x800]), words([4, 2]))
    step = stores(2, folds)

    def setting(executor):
        executor.memory.view(BASE, 8)[:] = 0x1001
        executor.memory.view(BASE + 0x800, 8)[:] = 0x1001
        executor.memory.scatter(step.pa, step.expected)
        executor.memory.store(int(step.pa[1]), int(step.expected[1]) | 0x40)

    done = both([step], setting)
    assert done.memory.gather(step.pa).tolist() == step.new.tolist()
    assert done.memory.view(BASE, 5).tolist() == [0x1001] * 5
    assert done.memory.view(BASE + 0x800, 3).tolist() == [0x1041, 0x1041, 0x1001]


def test_an_entry_that_somebody_else_changed_is_raced():
    """The error names that entry, at once as step by step."""
    step = stores(30)
    told = []
    for executor in (make(), make(between=lambda step: None)):
        executor.memory.scatter(step.pa, step.expected)
        executor.memory.store(int(step.pa[17]), 0xBAD1)
        with pytest.raises(Raced) as caught:
            executor.run([step])
        told.append(str(caught.value))
        assert executor.memory.load(int(step.pa[17])) == 0xBAD1
        assert executor.memory.load(int(step.pa[16])) == int(step.new[16])
    assert told[0] == told[1]


def test_commands_places_and_tables():
    """Commands in their order; tables are freed in theirs."""
    command = np.array([[1, 2], [3, 4]], dtype=np.uint64)

    def setting(executor):
        executor.tables.allocate_many(6)

    steps = [
        Cleans(words([BASE]), 8),
        Invalidates("iommu0", 3, command, words([0, 9]), words([8, 9])),
        Release(Blocks(words([BASE + 0x2000, BASE + 0x5000, BASE + 0x4000, BASE]), words([12] * 4))),
    ]
    done = both(steps, setting)
    assert done.ports["iommu0"].told == [(1, 2), (3, 4)]
    assert done.counters.invalidations == 2
    assert done.tables.allocate() == BASE


def test_tables_of_a_fenced_unit_are_never_freed():
    """It may walk them still."""
    executor = make()
    executor.tables.allocate_many(2)
    executor.ports["iommu0"].fenced = True
    executor.run([Release(Blocks(words([BASE]), words([12])))])
    assert executor.tables.in_use(BASE)

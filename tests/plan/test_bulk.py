"""Batches of steps: the singles that they stand for, and the text of a plan that holds them."""

import numpy as np

from hitless.columns import words
from hitless.plan import (
    Barrier,
    Clean,
    Cleans,
    Fill,
    FillRun,
    Fills,
    Folds,
    Invalidate,
    Invalidates,
    Own,
    Owns,
    Plan,
    Store,
    Stores,
    format_plan,
    parse_plan,
    singles,
)


def fills():
    """Two tables of 4K: one ramp with a word over it, and a half with a run and a single word."""
    return Fills(
        12,
        words([0x5000, 0x1000]),
        run_pa=words([0x5000, 0x1800]),
        run_entries=words([512, 3]),
        run_first=words([7, (1 << 64) - 1]),
        run_increment=words([0x1000, 2]),
        override_pa=words([0x5008, 0x1000]),
        override_word=words([9, 5]),
    )


def test_a_fill_for_each_table():
    """In the order of the tables; runs and words go to the table that they lie in."""
    assert list(fills().singles()) == [
        Fill(0x5000, 12, [FillRun(0x5000, 512, 7, 0x1000)], [(0x5008, 9)]),
        Fill(0x1000, 12, [FillRun(0x1800, 3, (1 << 64) - 1, 2)], [(0x1000, 5)]),
    ]


def test_a_store_for_each_entry():
    """With what all have in common, and each with the rows that A and D of its leaf go to."""
    folds = Folds(words([0, 2, 2]), words([0x5000, 0x6000]), words([512, 3]))
    stores = Stores("cut", 1, 0x60, words([8, 16]), words([1, 2]), words([3, 4]), words([0, 1 << 21]), folds)
    assert list(stores.singles()) == [
        Store(8, 1, 3, 0x60, "cut", 1, 0, [(0x5000, 512), (0x6000, 3)]),
        Store(16, 2, 4, 0x60, "cut", 1, 1 << 21),
    ]
    assert all(type(each) is int for each in (stores.single(1).pa, stores.single(0).fold[0][0]))


def test_a_step_for_each_command_place_and_range():
    """Invalidates, Cleans and Owns; ends are inclusive in columns, and are not in an Own."""
    invalidates = Invalidates("iommu0", 3, np.array([[1, 2], [3, 4]], dtype=np.uint64), words([0, 9]), words([8, 9]))
    assert list(invalidates.singles()) == [
        Invalidate("iommu0", 3, (1, 2), 0, 8),
        Invalidate("iommu0", 3, (3, 4), 9, 9),
    ]
    assert list(Cleans(words([64, 8]), 8).singles()) == [Clean(64, 8), Clean(8, 8)]
    owns = Owns("RMPUPDATE", words([0, 0x3000]), words([0xFFF, 0x4FFF]), 1, 12, "iotlb")
    assert list(owns.singles()) == [
        Own("RMPUPDATE", 0, 0x1000, 1, 12, "iotlb"),
        Own("RMPUPDATE", 0x3000, 0x5000, 1, 12, "iotlb"),
    ]


def test_singles_keep_the_order_of_all_steps():
    """What stands alone stays where it is between batches."""
    steps = [Barrier(), fills(), Cleans(words([8]), 8), Barrier()]
    assert [type(step) for step in singles(steps)] == [Barrier, Fill, Fill, Clean, Barrier]
    assert len(list(singles(steps))) == 5


def test_a_plan_with_batches_is_printed_step_by_step():
    """Its text is that of the plan of singles, which is what comes back when it is parsed."""
    stores = Stores("map", 0, 0, words([8]), words([0]), words([3]), words([0x1000]))
    plan = Plan("test", prepare=[fills(), Barrier()], refresh=[stores])
    one_by_one = Plan("test", prepare=list(singles(plan.prepare)), refresh=list(singles(plan.refresh)))
    assert format_plan(plan) == format_plan(one_by_one)
    assert parse_plan(format_plan(plan)) == one_by_one
    assert [step for _, step in plan.steps()] == [step for _, step in one_by_one.steps()]
    assert plan.all() == [*plan.prepare, *plan.refresh]

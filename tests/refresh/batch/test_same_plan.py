"""Planning on columns gives the plan that planning entry by entry gives: every format, random tables and requests."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitless.errors import HitlessError, OutOfTableMemory
from hitless.refresh.batch.changes import BatchChanges
from hitless.refresh.recipes import Recipes, Scope, SplitRules, break_before_make, one_store
from run_formats import FORMATS
from stand import registry
from two_paths import Random, Space, alike, both_plan, plain_sizes, told, units_of

LEAF, TABLE, NONE = (one_store(scope, "x") for scope in (Scope.LEAF, Scope.TABLE, Scope.NONE))
SIMPLE = Recipes(cut=LEAF, merge=TABLE, replace=break_before_make(Scope.LEAF, "x"), wipe=LEAF, map=NONE, prune=TABLE)
VENDORS = [
    ("amd", "amd/v1", {}),
    ("amd", "amd/v2", {}),
    ("intel", "intel/second-stage", {}),
    ("intel", "intel/first-stage", {}),
    ("arm_smmu", "arm_smmu/stage2", {"bbml": 1}),
    ("arm_smmu", "arm_smmu/stage1", {"bbml": 2}),
    ("riscv", "riscv/stage2", {}),
    ("riscv", "riscv/stage1", {}),
]


class Commands:
    """Commands that say the target and nothing else; some take two for one target."""

    atc_after_wait = nested_after_wait = False

    def invalidate(self, target, tag):
        command = (target.first, target.last, target.leaf_lg2, -1 if target.level is None else target.level, tag)
        return [(*command, int(target.tables))] * (1 + (target.leaf_lg2 > 12))

    def invalidate_tag(self, tag):
        return [(tag,)]

    def invalidate_device(self, target, device):
        return [(target.first, target.last, device)]


def one_after_the_other(make, spaces, rng, rounds=3):
    """Requests on memories that begin alike: each planned on both paths, compared, and done."""
    fmt, now = make.fmt, make.memory()
    now.spans = now.spans if rng.random() < 0.9 else []
    pair = spaces
    how = {}
    ranges = make.ranges(now) if rng.random() < 0.3 else [(make.base, make.base + make.size)]
    for _ in range(rounds):
        prepared = both_plan(pair, make, None, now, ranges, **how)
        if isinstance(prepared[0], HitlessError):
            assert type(prepared[1]) is type(prepared[0])
            assert str(prepared[1]) == str(prepared[0])
            alike(pair)
            return
        compare(pair, prepared, how)
        for space, each in zip(pair, prepared, strict=True):
            space.run(each)
        alike(pair)
        assert [each.told for each in pair[0].ports.values()] == [each.told for each in pair[1].ports.values()]
        make.mark([space.arena for space in pair], pair[0].planner.root_pa)
        now = make.memory(now)
        ranges = make.ranges(now)
        how = {
            "wipe_first": rng.random() < 0.3,
            "owed": tuple(each for each in make.ranges(now) if rng.random() < 0.5) if rng.random() < 0.5 else (),
            "owned": rng.random() < 0.3,
            "merge": rng.random() < 0.3,
        }
    del fmt


def compare(pair, prepared, how):
    """Two plans of one request."""
    one, other = prepared
    assert isinstance(other.changes, BatchChanges) or how.get("merge")
    assert not isinstance(one.changes, BatchChanges)
    assert told(other) == told(one)
    assert list(other.allocated) == list(one.allocated)
    assert other.span == one.span
    for name in ("cut", "wipe", "place", "unlinked", "unplaced"):
        ours, theirs = (list(getattr(each.changes, name)) for each in prepared)
        key = repr if name in ("unlinked", "unplaced") else lambda change: change.pa
        assert len(theirs) == len(ours)
        for a, b in zip(sorted(ours, key=key), sorted(theirs, key=key), strict=True):
            if name in ("cut", "wipe", "place"):
                b.fold, a.fold = sorted(_each(b.fold)), sorted(_each(a.fold))
            assert a == b
    assert pair[0].tables.state() == pair[1].tables.state()


def _each(fold):
    return [pa + 8 * i for pa, count in fold for i in range(count)]


@given(st.sampled_from(sorted(FORMATS)), st.integers(0, 2**32), st.sampled_from([1, 4, 1000]))
def test_small_tables(name, seed, whole_tag):
    """Small tables of three levels, so that every level has many of everything."""
    rng = random.Random(seed)
    fmt = FORMATS[name]()
    sizes = [(12, 16, 20), (12, 16), (12, 20), (12,), (16, 20)][rng.choices(range(5), [12, 3, 3, 2, 1])[0]]
    rules = SplitRules(sizes, "x", whole_tag)
    units = units_of(Commands())
    pair = [
        Space(fmt, rules, SIMPLE, units, columns=columns, size=1 << 20, coherent=seed % 2 == 0)
        for columns in (False, True)
    ]
    one_after_the_other(Random(fmt, rng, size=1 << 24), pair, rng, 5)


@pytest.mark.parametrize(("vendor", "name", "features"), VENDORS)
@given(seed=st.integers(0, 2**32))
def test_every_format(vendor, name, features, seed):
    """The vendors' formats, rules, recipes and commands."""
    rng = random.Random(seed)
    record = registry(vendor).resolve(vendor, name, features)
    fmt = record.page_format
    rules = SplitRules(plain_sizes(fmt, record.split_rules.leaf_lg2s), "x", rng.choice([2, 64, 1024]))
    units = units_of(record.commands)
    pair = [
        Space(fmt, rules, record.recipes, units, columns=columns, size=1 << 25, coherent=seed % 3 != 0)
        for columns in (False, True)
    ]
    base = rng.choice([0, 1 << 31, (1 << fmt.iova_bits) - (1 << 31)])
    one_after_the_other(Random(fmt, rng, base=base, size=1 << 31), pair, rng)


@given(st.integers(0, 2**32), st.integers(1, 40))
def test_what_fails_leaves_nothing(seed, after):
    """Where table memory ends in the middle, both raise, and the allocator is as before."""
    rng = random.Random(seed)
    fmt = FORMATS["steps"]()
    pair = [
        Space(fmt, SplitRules((12, 16, 20), "x"), SIMPLE, units_of(Commands()), columns=columns, size=1 << 20)
        for columns in (False, True)
    ]
    make = Random(fmt, rng, size=1 << 24)
    memory = make.memory()
    ranges = make.ranges(memory)
    before = pair[0].tables.state()
    for space in pair:
        space.tables.fail_after(after)
    prepared = both_plan(pair, make, None, memory, ranges)
    assert isinstance(prepared[0], OutOfTableMemory) == isinstance(prepared[1], OutOfTableMemory)
    if isinstance(prepared[0], OutOfTableMemory):
        assert pair[0].tables.state() == pair[1].tables.state() == before

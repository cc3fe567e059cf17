"""One block in one leaf, planned directly: the same changes and tables as the survey finds piece by piece."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitless.errors import HitlessError, OutOfTableMemory
from hitless.pagetable import READ, WRITE
from hitless.refresh.build import Builder
from hitless.refresh.carve import carve
from hitless.refresh.grow import Planned
from hitless.refresh.planner import give_back
from hitless.refresh.recipes import Recipes, Scope, SplitRules, one_store
from hitless.refresh.survey import Survey
from hitless.refresh.target import PlanRequest
from run_formats import FORMATS
from stand import registry
from two_paths import Memory, Random, Space, told, units_of

LEAF, TABLE = (one_store(scope, "x") for scope in (Scope.LEAF, Scope.TABLE))
SIMPLE = Recipes(cut=LEAF, merge=TABLE, replace=LEAF, wipe=LEAF, map=LEAF, prune=TABLE, resize=LEAF)
VENDORS = [
    ("amd", "amd/v1", {}),
    ("amd", "amd/v2", {}),
    ("intel", "intel/second-stage", {}),
    ("intel", "intel/first-stage", {}),
    ("arm_smmu", "arm_smmu/stage2", {"bbml": 2, "contiguous": True}),
    ("arm_smmu", "arm_smmu/stage1", {"bbml": 2}),
    ("riscv", "riscv/stage2", {}),
    ("riscv", "riscv/stage1", {}),
]


def overlaid(memory, start, end, oa, attributes):
    """A memory with another target for one range; what lies around it keeps its own, and has an edge there."""
    spans = [(start, end, oa, attributes)]
    for low, high, to, had in memory.spans:
        for a, b in ((low, min(high, start)), (max(low, end), high)):
            if a < b:
                spans.append((a, b, None if to is None else to + a - low, had))
    return Memory(sorted(spans, key=lambda span: span[0]))


def change(make, memory, rng):
    """A block of a leaf's size, and the memory after a request for it: most often only the block is different."""
    lg2 = rng.choice(make.sizes)
    start = make.base + (rng.randrange(make.size >> lg2) << lg2)
    end = start + (1 << lg2)
    now = next(iter(memory.layout(start, end)))
    kind = rng.random()
    if kind < 0.3:
        oa = None
    elif kind < 0.5 and now.oa is not None:
        oa = now.oa
    else:
        oa = rng.randrange(1 << 20) << rng.choice([make.sizes[0] if lg2 <= 21 else lg2, lg2, lg2])
    attributes = rng.choice([now.attrs, *make.attrs]) or make.attrs[0]
    after = overlaid(memory, start, end, oa, attributes if oa is not None else 0)
    if rng.random() < 0.1:
        page = make.base + (rng.randrange(make.size >> make.sizes[0]) << make.sizes[0])
        after = overlaid(after, page, page + make.page, None, 0)
    return (start, end), after


def found(space, request, how):
    """What one of the two finds, with the tables that it builds; nothing stays allocated."""
    assembler, memory = space.assembler, Planned(space.arena)
    builder = Builder(assembler.fmt, assembler.rules, space.tables)
    arguments = (assembler.fmt, memory, builder, request)
    try:
        if how is carve:
            changes = carve(*arguments, space.planner.root_pa, list(request.ranges))
        else:
            survey = Survey(*arguments, in_place=assembler.in_place, joins=assembler.joins)
            survey.root(space.planner.root_pa, list(request.ranges))
            changes = survey.changes
        tables = list(builder.allocated)
        return changes, tables, list(builder.fills)
    finally:
        give_back(space.tables, builder.allocated)


def several(space, make, rng, rounds=6):
    """Requests one after the other, each found both ways and then done; how many were found directly."""
    now, direct = make.memory(), 0
    whole = ((make.base, make.base + make.size),)
    space.run(space.planner.plan("test", PlanRequest(whole, now.layout)))
    for _ in range(rounds):
        block, after = change(make, now, rng)
        owed = rng.choice([(), (block,), (block,), whole])
        request = PlanRequest((block,), after.layout, wipe_first=rng.random() < 0.3, owed=owed)
        before = space.tables.state()
        try:
            ours = found(space, request, carve)
            assert space.tables.state() == before
            if ours[0] is not None:
                direct += 1
                assert ours == found(space, request, Survey)
            space.run(space.planner.plan("test", request))
        except HitlessError:
            assert space.tables.state() == before
            return direct
        make.mark([space.arena], space.planner.root_pa)
        now = after
    return direct


@given(st.sampled_from(sorted(FORMATS)), st.integers(0, 2**32))
def test_small_tables(name, seed):
    """Formats with runs, of which some are laid out, some not."""
    rng = random.Random(seed)
    fmt = FORMATS[name]()
    rules = SplitRules(rng.choice([(12, 16, 20), (12, 20), (12, 16), (12,), fmt.leaf_lg2s]), "x")
    space = Space(fmt, rules, SIMPLE, units_of(registry("amd").resolve("amd").commands), columns=False, size=1 << 20)
    several(space, Random(fmt, rng, size=1 << 24), rng, 12)


@pytest.mark.parametrize(("vendor", "name", "features"), VENDORS)
@given(seed=st.integers(0, 2**32))
def test_every_format(vendor, name, features, seed):
    """The vendors' formats, rules and recipes."""
    rng = random.Random(seed)
    record = registry(vendor).resolve(vendor, name, features)
    fmt = record.page_format
    space = Space(fmt, record.split_rules, record.recipes, units_of(record.commands), columns=False, size=1 << 25)
    base = rng.choice([0, 1 << 31, (1 << fmt.iova_bits) - (1 << 31)])
    several(space, Random(fmt, rng, base=base, size=1 << 31), rng)


@pytest.mark.parametrize(("vendor", "name", "features"), [each for each in VENDORS if "contiguous" not in each[2]])
def test_a_page_in_leaves_of_every_size(vendor, name, features):
    """A page that changes alone is found directly, whatever the leaf's size, and the plan tells the same story."""
    record = registry(vendor).resolve(vendor, name, features)
    fmt, rules = record.page_format, record.split_rules
    attributes = fmt.default_attrs(READ | WRITE)
    for lg2 in rules.leaf_lg2s:
        space = Space(fmt, rules, record.recipes, units_of(record.commands), columns=False, size=1 << 20)
        page = (1 << lg2) - 0x1000
        now = Memory([(0, 1 << lg2, 1 << 40, attributes)])
        space.run(space.planner.plan("test", PlanRequest(((0, 1 << lg2),), now.layout)))
        after = overlaid(now, page, page + 0x1000, 5 << 40, attributes)
        request = PlanRequest(((page, page + 0x1000),), after.layout)
        ours = found(space, request, carve)
        assert ours[0] is not None
        assert ours == found(space, request, Survey)
        assert [change.iova for change in ours[0].cut] == ([0] if lg2 > 12 else [])
        assert [(change.iova, change.kind) for change in ours[0].place] == [(page, "replace")]
        assert told(space.planner.plan("test", request))


def test_what_fails_leaves_nothing():
    """Where table memory ends at the second table, the first is given back."""
    record = registry("amd").resolve("amd")
    space = Space(
        record.page_format, record.split_rules, record.recipes, units_of(record.commands), columns=False, size=1 << 16
    )
    attributes = record.page_format.default_attrs(READ | WRITE)
    now = Memory([(0, 1 << 30, 1 << 40, attributes)])
    space.run(space.planner.plan("test", PlanRequest(((0, 1 << 30),), now.layout)))
    after = overlaid(now, 0x5000, 0x6000, None, 0)
    before = space.tables.state()
    space.tables.fail_after(2)
    with pytest.raises(OutOfTableMemory):
        space.planner.plan("test", PlanRequest(((0x5000, 0x6000),), after.layout))
    assert space.tables.state() == before

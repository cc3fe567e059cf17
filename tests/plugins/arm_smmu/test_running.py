"""The formats in the running model: conversions under DMA with each of them, alone and nested."""

import pytest

from hitless.guest_memfd.slots import Slot, Slots
from hitless.iommufd import Ioas
from hitless.memory import Arena, PageAllocator
from hitless.plan import Invalidate, Plan, Store
from hitless.refresh.build import Builder, Row
from hitless.refresh.recipes import SplitRules
from hitless.refresh.target import Piece
from hitless_arm_smmu.stage2 import ArmStage2, Stage2Config
from stand import K, M, Stand

FEATURES = {
    "plain": {},
    "runs": {"contiguous": True},
    "runs-bbml1": {"contiguous": True, "bbml": 1},
    "hardware-dirty": {"httu": True, "contiguous": True},
    "concatenated": {"ipa_bits": 40, "concatenate": True},
    "52-bit": {"ds": True, "ipa_bits": 52, "va_bits": 52, "output_bits": 52},
    "linear, no range": {"two_level": False, "ril": False, "contiguous": True, "coherent": False},
}


def stand(stage: int, features: dict[str, object], **more: object) -> Stand:
    """A guest of 64 MiB in hunks of 64 MiB, all private."""
    return Stand(
        "arm_smmu",
        "separate",
        features=features,
        memory=64 * M,
        hunk_lg2=26,
        rate=6,
        page_format=f"arm_smmu/stage{stage}",
        settings={"merge": "at_once"},
        **more,
    )


@pytest.mark.parametrize(("name", "ats"), [*((name, False) for name in FEATURES), ("runs", True)])
@pytest.mark.parametrize("stage", [1, 2])
def test_conversions_break_nothing(stage, name, ats):
    """Pages, a run and a block there and back: every neighbour reaches its own page, none a stale one."""
    here = stand(stage, FEATURES[name], ats=ats)
    for start, size in ((32 * M, 2 * M), (8 * M + 64 * K, 64 * K), (8 * M + 256 * K, 4 * K)):
        here.share(start, size)
    for start, size in ((33 * M, 4 * K), (8 * M + 64 * K, 64 * K), (8 * M + 256 * K, 4 * K)):
        here.hide(start, size)
    assert here.violations() == {}
    assert here.seen.neighbour > 100
    assert here.domain.units[0].conflicts == 0


@pytest.mark.parametrize("granule", ["16K", "64K"])
@pytest.mark.parametrize("stage", [1, 2])
def test_other_granules(stage, granule):
    """The same in pages of 64K."""
    here = stand(stage, {"granule": granule, "contiguous": True})
    for start, size in ((32 * M, 512 * K), (8 * M + 64 * K, 64 * K)):
        here.share(start, size)
        here.hide(start, 64 * K)
    assert here.violations() == {}
    assert here.seen.neighbour > 50


@pytest.mark.parametrize(
    ("config", "lg2", "boundary"),
    [
        (Stage2Config(granule_lg2=16, lpa=True, input_bits=52, output_bits=52), 29, 1 << 48),
        (Stage2Config(ds=True, input_bits=52, output_bits=52), 30, 1 << 50),
    ],
)
def test_leaves_across_the_edge_of_an_address_field(config, lg2, boundary):
    """Words do not rise evenly where an address goes over from one field into the other: each is right all the same."""
    fmt = ArmStage2(config)
    builder = Builder(fmt, SplitRules((lg2,), "x"), PageAllocator(Arena(1 << 20, 1 << 22), 1 << 20, 1 << 22))
    size, leaves = fmt.leaf_size(lg2), 13
    oa = boundary - (5 << lg2)
    row = Row(0, size, leaves, Piece(0, leaves << lg2, oa, 0x7FC, None, ""))
    found = {}
    for laid in builder.laid(row, 0x1000):
        for i in range(laid.entries):
            found[laid.entry_pa + 8 * i] = (laid.first + i * laid.increment) & (1 << 64) - 1
    assert found == {0x1000 + 8 * i: fmt.leaf(lg2, oa + (i << lg2), 0x7FC) for i in range(leaves)}


def test_runs_are_laid_out_and_taken_apart():
    """A page of a run converts: the run's other entries lose the Contiguous bit, and come back as a run."""
    here = stand(2, {"contiguous": True})
    assert here.leaves() == {"32M": 2}
    here.share(5 * M)
    assert here.leaves() == {"4K": 16, "64K": 31, "2M": 15, "32M": 1}
    plan = here.plan(5 * M + 64 * K)
    resized = [step for _, step in plan.steps() if isinstance(step, Store) and step.what == "resize"]
    assert len(resized) == 16
    assert all(step.expected ^ step.new == 1 << 52 for step in resized)
    here.hide(5 * M)
    assert here.leaves() == {"32M": 2}
    assert here.violations() == {}


@pytest.mark.parametrize(
    ("features", "ats"),
    [({}, False), ({"contiguous": True}, True), ({"granule": "16K"}, False)],
    ids=["4K", "runs", "16K"],
)
def test_a_guests_stage_1_over_stage_2(features, ats):
    """A nested device, its CD in guest memory: no neighbour notices conversions below."""
    ioas = Ioas.scrambled(Slots([Slot(0, 0, 64 * M)]), 4 * M, 1)
    here = stand(2, features, stage1="arm_smmu/stage1", ioas=ioas, ats=ats)
    here.share(8 * M, 256 * K)
    here.share(24 * M, 16 * K)
    here.hide(8 * M + 16 * K, 16 * K)
    assert here.violations() == {}
    assert here.seen.neighbour > 50
    caches = here.domain.units[0].requests.caches
    assert {stage for stage, _ in caches} == {"1", "2", "12"}


def test_nested_without_the_combined_entries():
    """TLBI_S2_IPA alone leaves what was made of both stages: devices go on to the old memory (ARM-TLBI-9)."""

    def mutate(plan: Plan) -> None:
        for section in ("isolate", "refresh"):
            steps = getattr(plan, section)
            kept = [s for s in steps if not (isinstance(s, Invalidate) and s.words[0] & 0xFF == 0x10)]
            setattr(plan, section, kept)

    ioas = Ioas.identity(Slots([Slot(0, 0, 64 * M)]))
    here = stand(2, {}, stage1="arm_smmu/stage1", ioas=ioas, mutate=mutate)
    here.share(8 * M, 64 * K)
    here.engine._near = [(8 * M, 8 * M + 64 * K)]
    here.warm(60)
    for page in range(8):
        here.hide(8 * M + page * 4 * K)
    assert here.violations()


@pytest.mark.parametrize("stage", [1, 2])
def test_a_unit_that_hangs_is_fenced(stage):
    """Its devices are cut off in their structures."""
    here = stand(stage, {})
    unit = here.domain.units[0]
    unit.hung = True
    here.share(8 * M)
    found = unit.requests.structures.start(unit.requests.base, 8, None)
    memory = here.machine.arena
    while not hasattr(found, "mode"):
        found = unit.requests.structures.step(found, tuple(memory.load(found.pa + 8 * i) for i in range(found.words)))
    assert found.mode == "abort"
    assert unit.fenced

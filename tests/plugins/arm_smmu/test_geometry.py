"""Levels, leaf sizes and start levels of every granule, from ARM-LVL-*."""

import pytest

from hitless_arm_smmu.granules import VmsaConfig
from hitless_arm_smmu.stage1 import ArmStage1, Stage1Config
from hitless_arm_smmu.stage2 import ArmStage2, Stage2Config

SIZES = {
    # by Arm level: log2 of a plain leaf and of a run
    (12, ""): {3: (12, 16), 2: (21, 25), 1: (30, 34)},
    (12, "ds"): {3: (12, 16), 2: (21, 25), 1: (30, 34), 0: (39, 43)},
    (14, ""): {3: (14, 21), 2: (25, 30)},
    (14, "ds"): {3: (14, 21), 2: (25, 30), 1: (36,)},
    (16, ""): {3: (16, 21), 2: (29, 34)},
    (16, "lpa"): {3: (16, 21), 2: (29, 34), 1: (42, 47)},
}


def wide(granule_lg2: int, form: str) -> dict[str, int | bool]:
    """A configuration of the widest addresses of a form."""
    bits = 52 if form else 48
    return {"granule_lg2": granule_lg2, "input_bits": bits, "output_bits": bits, **({form: True} if form else {})}


@pytest.mark.parametrize(("granule_lg2", "form"), SIZES)
@pytest.mark.parametrize("stage", ["1", "2"])
def test_leaves_of_every_level(stage, granule_lg2, form):
    """Pages, blocks and runs are legal at exactly the levels that the tables name (ARM-LVL-2, ARM-LVL-3)."""
    told = wide(granule_lg2, form)
    fmt = ArmStage1(Stage1Config(**told)) if stage == "1" else ArmStage2(Stage2Config(**told))
    found: dict[int, tuple[int, ...]] = {}
    for size in fmt.leaf_sizes:
        level = fmt.levels[size.level]
        found[level.spec_level] = (*found.get(level.spec_level, ()), size.lg2)
        assert size.lg2 == level.lo + size.entries_lg2
    assert found == SIZES[granule_lg2, form]
    for level in fmt.levels:
        assert (fmt.layout("leaf", level.number) is not None) == (level.spec_level in found)
        assert (fmt.layout("table", level.number) is not None) == (level.spec_level != 3)
    assert fmt.leaf_lg2s == tuple(sorted(fmt.leaf_lg2s))


@pytest.mark.parametrize(("granule_lg2", "los"), [(12, (12, 21, 30, 39)), (14, (14, 25, 36, 47)), (16, (16, 29, 42))])
def test_levels_take_granule_less_three_bits(granule_lg2, los):
    """Every level but the root's has granule - 3 index bits, the root what is left of 48 (ARM-LVL-1)."""
    fmt = ArmStage1(Stage1Config(granule_lg2=granule_lg2))
    assert tuple(level.lo for level in fmt.levels) == los
    assert [level.bits for level in fmt.levels[:-1]] == [granule_lg2 - 3] * (len(los) - 1)
    assert fmt.top.bits == 48 - los[-1]
    assert [level.spec_level for level in fmt.levels] == [3, 2, 1, 0][: len(los)]


@pytest.mark.parametrize(
    ("granule_lg2", "bits", "start", "root_bits"),
    [
        (12, 48, 0, 9),
        (12, 42, 0, 3),
        (12, 39, 1, 9),
        (12, 32, 1, 2),
        (12, 25, 2, 4),
        (12, 52, -1, 4),
        (14, 48, 0, 1),
        (14, 47, 1, 11),
        (14, 36, 2, 11),
        (14, 25, 3, 11),
        (14, 52, 0, 5),
        (16, 48, 1, 6),
        (16, 52, 1, 10),
        (16, 42, 2, 13),
        (16, 29, 3, 13),
        (16, 25, 3, 9),
    ],
)
def test_stage_1_starts_where_its_input_size_says(granule_lg2, bits, start, root_bits):
    """No concatenation: the root table has the index bits that remain (ARM-LVL-9)."""
    fmt = ArmStage1(Stage1Config(granule_lg2=granule_lg2, input_bits=bits, ds=bits == 52 and granule_lg2 != 16))
    assert (fmt.top.spec_level, fmt.top.bits, fmt.iova_bits) == (start, root_bits, bits)
    assert fmt.top.spec_name == f"Arm level {start}"


@pytest.mark.parametrize(
    ("granule_lg2", "bits", "output", "concatenate", "start", "root_bits", "sl0"),
    [
        (12, 48, 48, False, 0, 9, 2),
        (12, 48, 48, True, 0, 9, 2),  # 512 tables would be too many
        (12, 43, 48, False, 0, 4, 2),
        (12, 43, 48, True, 1, 13, 1),  # 16 tables
        (12, 44, 48, True, 0, 5, 2),  # 32 would be too many
        (12, 40, 44, False, 0, 1, 2),
        (12, 40, 40, False, 1, 10, 1),  # too narrow an output for level 0
        (12, 42, 42, False, 1, 12, 1),
        (12, 39, 40, False, 1, 9, 1),
        (12, 34, 40, True, 2, 13, 0),
        (12, 32, 32, False, 1, 2, 1),
        (12, 30, 32, True, 2, 9, 0),
        (12, 25, 32, True, 2, 4, 0),  # level 3 would need STT
        (12, 52, 52, False, -1, 4, 4),
        (12, 52, 52, True, 0, 13, 2),
        (14, 48, 48, False, 1, 12, 2),  # never level 0 for two entries
        (14, 47, 48, False, 1, 11, 2),
        (14, 40, 48, False, 1, 4, 2),
        (14, 40, 40, False, 2, 15, 1),
        (14, 40, 42, False, 1, 4, 2),
        (14, 36, 40, False, 2, 11, 1),
        (14, 29, 40, True, 3, 15, 0),
        (14, 25, 40, False, 3, 11, 0),
        (14, 52, 52, False, 0, 5, 3),
        (16, 48, 48, False, 1, 6, 2),
        (16, 46, 48, True, 2, 17, 1),
        (16, 42, 44, False, 2, 13, 1),
        (16, 33, 40, True, 3, 17, 0),
        (16, 52, 52, False, 1, 10, 2),
    ],
)
def test_stage_2_start_levels(granule_lg2, bits, output, concatenate, start, root_bits, sl0):
    """S2SL0, and up to 16 concatenated tables where they are asked for or demanded (ARM-LVL-4 to ARM-LVL-6)."""
    config = Stage2Config(
        granule_lg2=granule_lg2,
        input_bits=bits,
        output_bits=output,
        concatenate=concatenate,
        ds=bits == 52 and granule_lg2 != 16,
        lpa=bits == 52 and granule_lg2 == 16,
    )
    fmt = ArmStage2(config)
    assert (fmt.top.spec_level, fmt.top.bits, config.sl0) == (start, root_bits, sl0)
    assert fmt.top.bits <= granule_lg2 - 3 + 4
    assert fmt.iova_bits == bits


def test_a_run_has_to_fit_into_its_table():
    """A root of four 1G entries has no 16G run, one of 16 has."""
    small, large = (ArmStage1(Stage1Config(input_bits=bits)) for bits in (32, 34))
    assert small.leaf_lg2s == (12, 16, 21, 25, 30)
    assert large.leaf_lg2s == (12, 16, 21, 25, 30, 34)
    assert "bits 52 (Contiguous)" in small.faults(0xF45 | 1 << 52, 2)[0]


def test_plain_configurations_compare_equal():
    """Asking for concatenation where it changes nothing is the same format."""
    assert Stage2Config(concatenate=True).plain == Stage2Config().plain
    assert Stage2Config(input_bits=40, concatenate=True).plain != Stage2Config(input_bits=40).plain


def test_defaults():
    """4K granule, 48 bits in and out, four levels; runs can be read."""
    assert ArmStage2().config == Stage2Config()
    assert ArmStage2().top.spec_level == 0
    assert (VmsaConfig().granule_lg2, VmsaConfig().input_bits, VmsaConfig().output_bits) == (12, 48, 48)
    assert ArmStage2().leaf_lg2s == (12, 16, 21, 25, 30, 34)

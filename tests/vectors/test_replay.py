"""The replay's own map and unmap: what the README of the recordings says of them, by raw words."""

import pytest

from hitless.vectors.recording import CONFIG, Op
from hitless.vectors.replay import Replay
from hitless_amd.v1 import AmdV1
from hitless_arm_smmu.stage1 import ArmStage1
from hitless_intel.first_stage import FirstStage

M, G = 1 << 20, 1 << 30


@pytest.fixture
def replay():
    """An address space of a class and a configuration."""
    opened = []

    def replay(cls, **config):
        config = {**CONFIG, "vasz": 48, "oasz": 48, "level": 2, **config}
        made = Replay.of(cls.from_recording(config), config)
        opened.append(made)
        return made

    yield replay
    for each in opened:
        each.close()


def state(space):
    """Every word of memory that was touched, and where the root is."""
    return space.root_pa, space.arena.view(space.arena.base, 1 << 15).tolist()


def test_a_map_takes_the_largest_leaf_that_is_aligned_and_fits(replay):
    """AMD with runs: 4K, 8K, 16K up to the boundary; by the words of the specification's table."""
    space = replay(AmdV1, features=["force_coherence"], vasz=39)
    assert space.map(Op("map", 0x1000, 0x7000, 0x1_0000_1000, 3)) == ""
    pointer = space.arena.load(space.root_pa) & 0xF_FFFF_FFFF_F000
    table = space.arena.load(pointer) & 0xF_FFFF_FFFF_F000
    assert space.arena.view(table, 9).tolist() == [
        0,
        0x7000_0001_0000_1001,
        *[0x7000_0001_0000_2E01] * 2,
        *[0x7000_0001_0000_5E01] * 4,
        0,
    ]


def test_allowed_sizes_are_the_recordings(replay):
    """``pgsizes`` leaves only 4K: no 2M leaf, and nothing that is not aligned to 4K."""
    space = replay(AmdV1, pgsizes="0x1000", vasz=39)
    assert space.map(Op("map", 2 * M, 2 * M, 2 * M, 3)) == ""
    assert space._at(2 * M).size_lg2 == 12
    assert "aligned" in space.map(Op("map", 0x800, 0x1000, 0, 3))


@pytest.mark.parametrize(
    ("op", "why"),
    [
        (Op("map", 0, 0x1000, 0x5000, 0), "protection"),
        (Op("map", 0x10, 0x1000, 0, 3), "aligned"),
        (Op("map", 0, 0x1000, 0x10, 3), "aligned"),
        (Op("map", 0, 0, 0, 3), "aligned"),
        (Op("map", 1 << 39, 0x1000, 0, 3), "input"),
        (Op("map", (1 << 39) - 0x1000, 0x2000, 0, 3), "input"),
        (Op("map", 0, 0x1000, 1 << 48, 3), "output"),
        (Op("map", 0, 0x2000, (1 << 48) - 0x1000, 3), "output"),
        (Op("map", 3 * M - 0x1000, 0x2000, 0, 3), "mapped"),
        (Op("map", 0, G, 0, 3), "mapped"),
    ],
)
def test_a_map_that_fails_changes_nothing(replay, op, why):
    """Both ends of input and output are checked, and everything that is mapped in between."""
    space = replay(AmdV1, vasz=39)
    assert space.map(Op("map", 3 * M, 0x1000, 0x1000, 3)) == ""
    before = state(space)
    assert why in space.map(op)
    assert state(space) == before


def test_an_unmap_never_divides_a_leaf(replay):
    """From inside a leaf it removes nothing; ending inside one, all of it; tables that map nothing go."""
    space = replay(AmdV1, vasz=39)
    pages = space.tables.used_pages
    space.map(Op("map", 2 * M, 4 * M, 2 * M, 3))
    assert space.unmap(2 * M + 0x1000, M) == 0
    assert space.unmap(2 * M, 2 * M + 0x1000) == 4 * M
    assert space.tables.used_pages == pages
    assert space.unmap(0, G) == 0


def test_a_recorded_driver_may_have_removed_less(replay):
    """Stop before a leaf that the end lies inside, or at a gap: as many bytes as are recorded."""
    space = replay(AmdV1, vasz=39, pgsizes="0x201000")
    space.map(Op("map", 2 * M, 2 * M, 2 * M, 3))
    assert space.unmap(2 * M, 0x1000, 0) == 0
    space.map(Op("map", 4 * M, 0x2000, 2 * M, 3))
    space.map(Op("map", 4 * M + 0x3000, 0x1000, 2 * M, 3))
    assert space.unmap(4 * M, 0x4000, 0x2000) == 0x2000
    assert space._at(4 * M + 0x3000) is not None
    assert space._at(4 * M) is None


def test_a_root_grows_when_an_address_needs_it(replay):
    """Levels are put on top until it fits: the old root is entry 0 of the new one."""
    space = replay(AmdV1, features=["dynamic_top"], level=1, vasz=64, oasz=52)
    old = space.root_pa
    assert space.map(Op("map", 0, 0x1000, 0x1000, 3)) == ""
    assert space.root_pa == old
    assert space.map(Op("map", 1 << 39, 0x1000, 0x2000, 3)) == ""
    assert space.fmt.top.number == 3
    third = space.arena.load(space.root_pa) & 0xF_FFFF_FFFF_F000
    assert space.arena.load(space.root_pa) == third | 0x6000_0000_0000_0601
    assert space.arena.load(third) == old | 0x6000_0000_0000_0401
    assert (space._at(0).oa, space._at(1 << 39).oa) == (0x1000, 0x2000)


def test_both_halves_of_sign_extended_input(replay):
    """The upper half is mapped and unmapped at its canonical addresses; the hole between cannot be."""
    space = replay(FirstStage, features=["sign_extend"], level=3)
    top = (1 << 64) - (1 << 47)
    assert space.map(Op("map", top, 0x1000, 0x1000, 3)) == ""
    assert space.map(Op("map", (1 << 64) - 0x2000, 0x2000, 0x5000, 3)) == ""
    assert space._at((1 << 64) - 1).oa == 0x6000
    assert "input" in space.map(Op("map", 1 << 47, 0x1000, 0, 3))
    assert "input" in space.map(Op("map", (1 << 47) - 0x1000, 0x2000, 0, 3))
    assert space.unmap((1 << 64) - 0x1000, 0x1000) == 0x1000
    assert space._at((1 << 64) - 1) is None


def test_dirty_is_what_the_format_says_a_write_leaves(replay):
    """AMD sets D in one copy; Arm's stage 1 clears its read-only bit; reading clears it in all."""
    space = replay(AmdV1, vasz=39)
    space.map(Op("map", 0x4000, 0x4000, 0x4000, 3))
    assert space.do(Op("dirty", 0x6123)) == ""
    leaf = space._at(0x4000)
    pa = space._entries(leaf)
    assert [space.arena.load(each) >> 6 & 1 for each in pa] == [0, 0, 1, 0]
    assert space.do(Op("readdirty", 0, 0x10000, dirty=((0x4000, 0x4000),))) == ""
    assert [space.arena.load(each) >> 6 & 1 for each in pa] == [0, 0, 0, 0]
    assert space.do(Op("dirty", 0x1_0000, ret=-2)) == ""
    arm = replay(ArmStage1, features=["dbm"], level=0, granule=12, fmt="armv8")
    arm.map(Op("map", 0x1000, 0x1000, 0x1000, 3))
    (entry,) = arm._entries(arm._at(0x1000))
    arm.arena.store(entry, arm.arena.load(entry) | 1 << 7)
    assert arm.do(Op("readdirty", 0, 0x10000)) == ""
    assert arm.do(Op("dirty", 0x1000)) == ""
    assert arm.arena.load(entry) >> 7 & 1 == 0
    assert arm.do(Op("readdirty", 0, 0x10000, dirty=((0x1000, 0x1000),))) == ""
    assert arm.arena.load(entry) >> 7 & 1 == 1

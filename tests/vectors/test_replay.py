"""The replay's own map and unmap: what the README of the recordings says of them, by raw words."""

import pytest
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st

from hitless.pagetable import table_leaves, translate
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


CONFIGS = {
    "amd mode 1": (AmdV1, {"level": 0, "vasz": 21}),
    "amd mode 3": (AmdV1, {"level": 2, "vasz": 39}),
    "amd mode 6": (AmdV1, {"level": 5, "vasz": 64, "oasz": 52}),
    "amd growing": (AmdV1, {"level": 0, "vasz": 64, "oasz": 52, "features": ["dynamic_top"]}),
    "x86 lower": (FirstStage, {"level": 3, "vasz": 47}),
    "x86 five levels": (FirstStage, {"level": 4, "vasz": 57, "features": ["sign_extend"]}),
    "arm 4K": (ArmStage1, {"level": 0, "granule": 12, "fmt": "armv8"}),
    "arm 16K upper": (ArmStage1, {"level": 0, "granule": 14, "fmt": "armv8", "features": ["ttbr1"]}),
    "arm 64K 52 bits": (
        ArmStage1,
        {"level": 0, "granule": 16, "fmt": "armv8", "vasz": 52, "oasz": 52, "features": ["lpa", "lva"]},
    ),
}


@pytest.mark.parametrize("name", CONFIGS)
@profile(max_examples=30)
@given(data=st.data())
def test_random_maps_and_unmaps_against_a_dictionary(name, data):
    """Every page leads where the last map of it said, or nowhere; what overlaps is refused; no table is left over."""
    cls, told = CONFIGS[name]
    config = {**CONFIG, "vasz": 48, "oasz": 48, **told}
    space = Replay.of(cls.from_recording(config), config)
    page, base = 1 << space.sizes()[0], space.fmt.canonical(0)
    bits = min(config["vasz"] - 1, 34) - page.bit_length() + 1
    pages: dict[int, tuple[int, int]] = {}  # first page of a map -> (pages, where it leads)
    try:
        for _ in range(data.draw(st.integers(1, 8))):
            lg2 = data.draw(st.integers(0, bits))
            first = data.draw(st.integers(0, (1 << bits) - 1)) >> lg2 << lg2
            count = min(data.draw(st.integers(1, 3)) << min(lg2, 12), (1 << bits) - first)
            to = data.draw(st.sampled_from([first, first + 1, first + (1 << 18), 0]))
            ok = all(first + count <= other or other + many <= first for other, (many, _) in pages.items())
            why = space.map(Op("map", base + first * page, count * page, to * page, 3))
            assert bool(why) != ok, why
            if ok:
                pages[first] = (count, to)
        for first in data.draw(st.lists(st.sampled_from(sorted(pages)), unique=True)):
            assert space.unmap(base + first * page, pages.pop(first)[0] * page) > 0
        for first, (count, to) in pages.items():
            for at in {0, count // 2, count - 1}:
                found = translate(space.arena, space.fmt, space.root_pa, base + (first + at) * page + 5)
                assert found == (to + at) * page + 5
        left = sum(1 << leaf.size_lg2 for leaf in table_leaves(space.arena, space.fmt, space.root_pa))
        assert left == sum(count for count, _ in pages.values()) * page
        for first, (count, _) in pages.items():
            space.unmap(base + first * page, count * page)
        assert not list(table_leaves(space.arena, space.fmt, space.root_pa))
        if "features" not in told or "dynamic_top" not in told["features"]:
            assert space.tables.used_bytes == 1 << space.fmt.top.table_lg2
    finally:
        space.close()

"""What a command drops of a cache: by tag under a mask, and by stage."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitless.hardware.caches import Cache, CachedLeaf, CachedStructure, CachedTable
from hitless.hardware.facts import Drops, DropsStructure, Match
from hitless.hardware.structures import Fetch


def cache() -> Cache:
    """A leaf and a pointer of each stage, and a combined leaf, for one page."""
    found = Cache()
    for stage in ("1", "2", "12"):
        found.add_leaf(CachedLeaf(0, 12, 0x1000, 3, 0, 0, 0, 12, True, stage))
    for stage in ("1", "2"):
        found.add_table(CachedTable(0, 21, 0, 0x2000, 3, stage))
    return found


@pytest.mark.parametrize(
    ("stages", "leaves", "tables"),
    [
        ({"1", "2", "12"}, [], []),
        ({"2"}, ["1", "12"], ["1"]),
        ({"1", "12"}, ["2"], ["2"]),
        ({"12"}, ["1", "2"], ["1", "2"]),
    ],
)
def test_a_command_of_one_stage_leaves_the_others(stages, leaves, tables):
    """Leaves and pointers stay unless their own stage is named; a combined result is a kind of its own."""
    found = cache()
    found.drop(Drops("x", tables=True, stages=frozenset(stages)))
    assert [leaf.stage for leaf in found.leaves_at(0)] == leaves
    assert [table.stage for table in found.tables_at(0)] == tables


def test_a_command_for_a_domain_targets_its_every_pasid():
    """Only the bits of the mask count; without a mask the tag is the whole number, without a tag all are."""
    domain = Drops("x", tag=0x0007, tag_mask=0xFFFF)
    assert [tag for tag in (0x7, 0x1_0007, 0x5_0007, 0x8, 0x1_0008) if domain.of_tag(tag)] == [0x7, 0x1_0007, 0x5_0007]
    assert Drops("x", tag=0x1_0007).of_tag(0x1_0007)
    assert not Drops("x", tag=0x1_0007).of_tag(0x7)
    assert Drops("x").of_tag(0x1_0007)


def combined() -> CachedLeaf:
    """IOVA 0x5000 through GPA 0x203000 of a 2M stage-2 leaf, cached whole, to 0x9_0000_3000."""
    lower = CachedLeaf(0x200000, 21, 0x9_0000_0000, 3, 0, 1, 0x200000, 21, True, "2")
    return CachedLeaf(0x5000, 12, 0x9_0000_3000, 3, 0, 0, 0x4000, 14, True, "12", lower)


@pytest.mark.parametrize(
    ("stages", "first", "last", "more", "gone"),
    [
        ({"1", "12"}, 0x5000, 0x5FFF, {}, True),
        ({"1", "12"}, 0x203000, 0x203FFF, {}, False),
        ({"2", "12"}, 0x203000, 0x203FFF, {}, True),
        ({"2", "12"}, 0x5000, 0x5FFF, {}, False),
        ({"2", "12"}, 0x204000, 0x204FFF, {}, False),
        ({"2", "12"}, 0x204000, 0x204FFF, {"leaf_match": Match.LEAF_OVERLAPS}, True),
        ({"1", "12"}, 0x6000, 0x6FFF, {"leaf_match": Match.LEAF_OVERLAPS}, True),
        ({"2", "12"}, 0x203000, 0x203FFF, {"leaf_levels": frozenset({0})}, False),
        ({"2", "12"}, 0x203000, 0x203FFF, {"leaf_levels": frozenset({1})}, True),
        ({"1", "12"}, 0x5000, 0x5FFF, {"leaf_levels": frozenset({0})}, True),
        ({"1"}, 0, 1 << 40, {}, False),
        ({"2"}, 0, 1 << 40, {}, False),
    ],
)
def test_a_combined_result_is_met_by_the_addresses_of_the_stage_that_a_command_names(stages, first, last, more, gone):
    """A stage-1 command by IOVA, a stage-2 command by guest physical address, with that stage's leaf and level."""
    found = Cache(combined=True)
    found.add_leaf(combined())
    found.drop(Drops("x", stages=frozenset(stages), first=first, last=last, **more))
    assert bool(found.leaves_at(0x5000)) is not gone
    assert found.size == (0 if gone else 1)


def test_shapes_of_combined_results_are_of_both_stages():
    """Equal stage-1 leaves over different stage-2 leaves are different shapes (rule K1)."""
    one = combined()
    other = one._replace(lower=one.lower._replace(leaf_start=0x203000, leaf_lg2=12))
    assert one.shape() == (0x4000, 14, 0x200000, 21)
    assert other.shape() == (0x4000, 14, 0x203000, 12)
    assert one.shape(runs=False) == (0, 1)


def test_an_invalidation_by_pa_spares_what_leads_to_guest_memory():
    """Stage 1 of a nested translation leads to guest physical addresses, which may be the same numbers."""
    found = Cache()
    found.add_leaf(CachedLeaf(0, 12, 0x1000, 3, 0, 0, 0, 12, True, "1", None, False))
    found.add_leaf(CachedLeaf(0, 12, 0x1000, 3, 0, 0, 0, 12, True, "1"))
    found.forget_pa(0x1000, 0x2000)
    assert [leaf.host for leaf in found.leaves_at(0)] == [False]


@pytest.mark.parametrize(
    ("cached", "dropped", "gone"),
    [(None, None, True), (None, 0, True), (None, 5, False), (0, 0, True), (5, 5, True), (5, 0, False)],
)
def test_requests_without_a_pasid_read_the_structures_of_pasid_0(cached, dropped, gone):
    """A command for PASID 0 drops what was read for requests that carry none."""
    structure = CachedStructure("context", 8, cached, (0,), Fetch("context", 0, 1))
    assert structure.targeted(DropsStructure("x", pasid=dropped)) is gone


@pytest.mark.parametrize(
    ("first", "last", "gone"),
    [(0x10000, 0x1FFFF, True), (0, 0x2FFFF, True), (0x10000, 0x1EFFF, False), (0x15000, 0x15FFF, False)],
)
@pytest.mark.parametrize("match", Match)
def test_a_run_goes_only_as_a_whole_where_the_command_says_so(first, last, gone, match):
    """A piece of a run stays while the range leaves out any of the run; a plain leaf beside it is not concerned."""
    found = Cache()
    found.add_leaf(CachedLeaf(0x15000, 12, 0x5000, 3, 0, 0, 0x10000, 16, True))
    found.drop(Drops("x", first=first, last=last, whole_lg2s=frozenset({16}), leaf_match=match))
    assert bool(found.leaves_at(0x15000)) is not gone
    plain = CachedLeaf(0x15000, 12, 0x5000, 3, 0, 0, 0x15000, 12, True)
    assert plain.targeted(Drops("x", first=0x15000, last=0x15FFF, whole_lg2s=frozenset({16}), leaf_match=match))


_PIECES = (12, 16, 21)
leaves = st.builds(
    lambda lg2, block, leaf_lg2, pa, host: CachedLeaf(
        block << lg2,
        lg2,
        pa << 12,
        3,
        0,
        0,
        block << lg2 >> max(leaf_lg2, lg2) << max(leaf_lg2, lg2),
        max(leaf_lg2, lg2),
        True,
        "2",
        None,
        host,
    ),
    st.sampled_from(_PIECES),
    st.integers(0, 5),
    st.sampled_from(_PIECES),
    st.integers(0, 0x420),
    st.booleans(),
)
ranges = st.tuples(st.integers(0, 0x1400), st.integers(1, 0x300)).map(lambda each: (each[0] << 12, sum(each) << 12))
actions = st.one_of(
    st.tuples(st.just("add"), leaves),
    st.tuples(st.just("drop"), ranges, st.sampled_from(Match)),
    st.tuples(st.just("forget"), ranges),
    st.tuples(st.just("forget-all"), st.lists(ranges, min_size=1, max_size=3)),
    st.tuples(st.just("evict"), st.integers(0, 9)),
)


@given(st.lists(actions, max_size=60))
def test_what_is_asked_of_indexes_is_what_a_look_at_every_entry_finds(story):
    """By piece, by leaf and by physical address; after evictions, and where several leaves lie in one place."""
    found, plain = Cache(), []
    for action, *told in story:
        if action == "add":
            found.add_leaf(told[0])
            plain += [told[0]] if told[0] not in plain else []
        elif action == "drop":
            (start, end), match = told
            drops = Drops("x", first=start, last=end - 1, leaf_match=match)
            found.drop(drops)
            plain = [leaf for leaf in plain if not leaf.targeted(drops)]
        elif action in ("forget", "forget-all"):
            gone = told if action == "forget" else told[0]
            if action == "forget":
                found.forget_pa(*gone[0])
            else:
                found.forget_meeting(lambda pa, size, gone=gone: any(a < pa + size and pa < b for a, b in gone))
            for start, end in gone:
                plain = [
                    leaf for leaf in plain if not leaf.host or leaf.pa >= end or leaf.pa + (1 << leaf.size_lg2) <= start
                ]
        else:
            found.size += 1000
            found.evict(random.Random(told[0]))
            found.size -= 1000
            plain = [leaf for leaf in plain if leaf in found.leaves_at(leaf.start)]
        held = [leaf for pages in found.leaves.values() for here in pages.values() for leaf in here]
        assert sorted(held) == sorted(plain)
        assert found.size == len(plain)

"""What the planner asks commands for: targets joined where they are alike, blocks that make up a range exactly."""

from hypothesis import given
from hypothesis import strategies as st

from hitless.refresh.commands import Target, aligned_blocks, join_targets

pages = st.integers(0, 63)
targets = st.lists(
    st.builds(
        lambda at, count, lg2, tables: Target(at << 12, (at + count << 12) - 1, lg2, 0, tables),
        pages,
        st.integers(1, 4),
        st.sampled_from([12, 21]),
        st.booleans(),
    ),
    max_size=8,
)


@given(targets)
def test_joined_targets_cover_the_same_pages_of_each_kind(found):
    """Nothing is lost, nothing is gained, and kinds (leaf size, level, tables) never mix."""

    def covered(each):
        return {
            (page, t.leaf_lg2, t.level, t.tables) for t in each for page in range(t.first >> 12, (t.last >> 12) + 1)
        }

    joined = join_targets(found)
    assert covered(joined) == covered(found)
    assert len(joined) <= len(found)


def test_adjacent_targets_of_different_leaves_stay_apart():
    """A command for 2M leaves next to one for 4K leaves: the smaller one is not widened."""
    small, large = Target(0, 0xFFF, 12, 0, False), Target(0x1000, 0x1FFF, 21, 1, False)
    assert join_targets([large, small]) == [small, large]
    assert join_targets([small, small._replace(first=0x1000, last=0x1FFF)]) == [small._replace(last=0x1FFF)]


def test_targets_of_one_place_may_know_their_level_or_not():
    """A pointer that went and a leaf of the same range are two targets, in a fixed order."""
    leaf, pointer = Target(0, 0x1F_FFFF, 21, 1, False), Target(0, 0x1F_FFFF, 21, None, True)
    assert join_targets([leaf, pointer]) == join_targets([pointer, leaf]) == [pointer, leaf]


counts = st.integers(0, 600) | st.integers(0, 600).map(lambda n: n << 18)


@given(st.integers(0, 2**52 - 1), counts, st.integers(30, 64))
def test_blocks_are_aligned_and_exact(page, count, most):
    """Side by side they are the range; each is a power of two, aligned to itself, and not above the limit."""
    first, last = page << 12, min((page + count << 12) + 0xFFF, 2**64 - 1)
    at = first
    for start, lg2 in aligned_blocks(first, last, most):
        assert start == at
        assert start % (1 << lg2) == 0
        assert 12 <= lg2 <= most
        at += 1 << lg2
    assert at == last + 1

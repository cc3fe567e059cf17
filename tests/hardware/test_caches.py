"""What a command drops of a cache: by tag under a mask, and by stage."""

import pytest

from hitless.hardware.caches import Cache, CachedLeaf, CachedTable
from hitless.hardware.facts import Drops


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

"""Owner changes as columns against the same ones one by one, for every vendor."""

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitless.columns import Ranges
from hitless.errors import Refused
from hitless.ownership import GUEST, HOST, OTHER_GUEST, OwnerChange, OwnerChanges, OwnerTable, edges, inner
from hitless.plan import Owns, singles
from stand import registry

K, M = 1 << 10, 1 << 20
PAGE = 4 * K
BASE, SPAN = 1 << 35, 1 << 30
KINDS = {
    "amd": ("amd", {}),
    "amd-drops": ("amd", {"rmpupdate_drops": "iotlb"}),
    "amd-no-snp": ("amd", {"snp": False}),
    "intel": ("intel", {}),
    "arm": ("arm_smmu", {}),
    "arm-32M": ("arm_smmu", {"gpt_block": "32M"}),
    "arm-4K": ("arm_smmu", {"gpt_block": "4K"}),
    "arm-no-gpc": ("arm_smmu", {"gpc": False}),
    "riscv": ("riscv", {"smmtt": True}),
    "riscv-unchecked": ("riscv", {}),
}


def ownership(kind: str):
    """A vendor's ownership with some features."""
    name, features = KINDS[kind]
    return registry(name).resolve(name, "", features).ownership


# Places near edges of entries, in pages, and such as lie anywhere.
_PLACES = st.builds(
    lambda block, near: max(0, min(SPAN // PAGE, block + near)),
    st.sampled_from([512 * i for i in (0, 1, 2, 3, 15, 16, 17, 31, 32, 255, 256, 257, 511, 512)]),
    st.sampled_from([-2, -1, 0, 0, 0, 1, 2, 100]),
)


@st.composite
def changes(draw, owners):
    """Sorted, disjoint changes, not adjacent where the owner is the same."""
    cuts = sorted(draw(st.sets(_PLACES, max_size=12)))
    found = []
    for start, end in zip(cuts[::2], cuts[1::2], strict=False):
        leaf_lg2 = draw(st.sampled_from([64, 64, 21, 12]))
        found.append(OwnerChange(BASE + start * PAGE, BASE + end * PAGE, draw(owners), leaf_lg2))
    return found


def columns(found: list[OwnerChange]) -> OwnerChanges:
    """The same changes as columns."""
    starts, ends, owners, sizes = ([int(value) for value in column] for column in zip(*found, strict=True))
    lasts = [end - 1 for end in ends]
    return OwnerChanges(*(np.array(each, np.uint64) for each in (starts, lasts, owners, sizes)))


def carried_out(table: OwnerTable, vendor, found) -> OwnerTable:
    """The table after a vendor's own steps, one by one, for changes."""
    after = table.copy()
    for step in singles(vendor.own(table, found, trusted=False, allow_break=True).own):
        after.apply(step)
    return after


def rows(table: OwnerTable) -> list[tuple[int, int, int, int]]:
    """Everything that a table says of the memory that is looked at."""
    return list(table.entries(BASE - (1 << 30), BASE + SPAN + (1 << 30)))


@pytest.mark.parametrize("kind", KINDS)
@given(
    guests=st.sets(_PLACES, max_size=6).map(sorted),
    hunk_lg2=st.sampled_from([12, 21, 30]),
    earlier=changes(st.sampled_from([HOST, GUEST, OTHER_GUEST])),
    now=st.one_of(changes(st.just(HOST)), changes(st.just(GUEST)), changes(st.sampled_from([HOST, GUEST]))),
)
def test_many_changes_leave_the_table_as_one_after_the_other(kind, guests, hunk_lg2, earlier, now):
    """Steps for columns give every page the owner and the entry size that the steps for single changes give."""
    vendor, table = ownership(kind), OwnerTable()
    for start, end in zip(guests[::2], guests[1::2], strict=False):
        vendor.initial(table, BASE + start * PAGE, BASE + end * PAGE, GUEST, hunk_lg2)
    table = carried_out(table, vendor, earlier)
    before = rows(table)
    if not now:
        return
    expected = rows(carried_out(table, vendor, now))
    steps = vendor.own(table, columns(now), trusted=False, allow_break=True).own
    assert rows(table) == before, "the table that is asked about was changed"
    assert rows(carried_out(table, vendor, columns(now))) == expected
    bulk = table.copy()
    for step in steps:
        assert isinstance(step, Owns)
        bulk.apply(step)
    assert rows(bulk) == expected


def test_the_steps_of_many_changes_are_few():
    """What has one operation, owner and size is one step, however many ranges there are; a smash comes first."""
    vendor, table = ownership("amd"), OwnerTable()
    vendor.initial(table, BASE, BASE + SPAN, GUEST, 30)
    found = [OwnerChange(BASE + i * 4 * M, BASE + i * 4 * M + PAGE, HOST) for i in range(100)]
    steps = vendor.own(table, columns(found), trusted=False, allow_break=False).own
    assert [(step.op, len(step), step.size_lg2) for step in steps] == [("PSMASH", 100, 12), ("RMPUPDATE", 100, 12)]
    assert steps[0].start_pa.tolist() == [BASE + i * 4 * M for i in range(100)]
    assert steps[0].last_pa.tolist() == [BASE + i * 4 * M + 2 * M - 1 for i in range(100)]


def test_a_smash_of_many_under_a_trusted_device_is_refused():
    """As it is for one change; the first block is named."""
    vendor, table = ownership("amd"), OwnerTable()
    vendor.initial(table, BASE, BASE + SPAN, GUEST, 30)
    found = [OwnerChange(BASE + i * 4 * M + PAGE, BASE + i * 4 * M + 2 * PAGE, HOST) for i in range(1, 9)]
    with pytest.raises(Refused, match=f"{BASE + 4 * M:#x}"):
        vendor.own(table, columns(found), trusted=True, allow_break=False)


@given(st.lists(st.tuples(st.integers(0, 63), st.integers(1, 20)), max_size=8), st.sampled_from([13, 14, 15]))
def test_edges_and_inner_blocks(pieces, size_lg2):
    """Blocks that reach over an edge of a range, and whole ones inside, as looking at every block finds them."""
    spans, at = [], 0
    for gap, size in pieces:
        spans.append((at + gap, at + gap + size))
        at += gap + size + 1
    ranges = Ranges.of((a * PAGE, b * PAGE) for a, b in spans)
    block = (1 << size_lg2) // PAGE
    over, whole = set(), []
    for a, b in spans:
        inside = []
        for first in range(a // block * block, b, block):
            if a <= first and first + block <= b:
                inside.append(first)
            else:
                over.add(first)
        if inside:
            whole.append((inside[0] * PAGE, (inside[-1] + block) * PAGE))
    assert [each // PAGE for each in edges(ranges, size_lg2).tolist()] == sorted(over)
    assert list(inner(ranges, size_lg2)[1]) == whole


def test_owner_changes_are_the_same_rows():
    """A column's row is the change that it was made of, with ints."""
    found = [OwnerChange(BASE, BASE + PAGE, HOST), OwnerChange(BASE + M, BASE + 2 * M, GUEST, 21)]
    assert columns(found) == found
    assert attrs.asdict(columns(found)[1:], recurse=False)["leaf_lg2"].tolist() == [21]

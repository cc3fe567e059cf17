"""The text form of plans and layouts: printed and parsed, the same thing both ways."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitless.errors import BadInput
from hitless.pagetable import Mapping, format_layout, parse_layout, table_leaves
from hitless.plan import (
    SECTIONS,
    Barrier,
    Call,
    Clean,
    Fill,
    FillRun,
    Fold,
    Invalidate,
    Own,
    Plan,
    Release,
    Store,
    StoreStructure,
    Wait,
    format_plan,
    parse_plan,
)
from stand import PAGE, M, Stand

words = st.integers(0, 2**64 - 1)
sizes = st.integers(12, 30)
names = st.from_regex(r"[a-z][a-z0-9.-]{0,10}", fullmatch=True)
counts = st.integers(1, 600)
pairs = st.lists(st.tuples(words, st.integers(0, 600)), max_size=3)
commands = st.lists(words, min_size=1, max_size=4).map(tuple)
stores = st.builds(Store, words, words, words, words, names, st.integers(0, 5), words, pairs, pairs)
drops = st.sampled_from(["none", "iotlb", "iotlb+atc"])
owns = st.builds(Own, names, words, words, st.integers(0, 7), sizes, drops)
invalidates = st.builds(Invalidate, names, st.integers(0, 65535), commands, words, words)
waits = st.builds(Wait, names)
cleans = st.builds(Clean, words, st.integers(0, 2**40))
effects = st.one_of(stores, cleans, st.builds(Barrier), owns, invalidates, waits)
steps = st.one_of(
    st.builds(Fill, words, sizes, st.lists(st.builds(FillRun, words, st.integers(0, 512), words, words), max_size=3)),
    effects,
    st.builds(Call, names, words, words, st.lists(effects, max_size=3), st.booleans()),
    st.builds(
        StoreStructure,
        *(names, st.integers(0, 65535), st.none() | st.integers(0, 2**20 - 1), st.just("") | names, names, words),
        *[st.lists(words, min_size=1, max_size=2).map(tuple)] * 2,
    ),
    st.builds(
        Release,
        st.lists(st.tuples(words, sizes), min_size=1, max_size=3),
        st.lists(st.builds(Fold, words, words, counts, words, counts, counts, words), max_size=2),
    ),
)
plans = st.builds(Plan, names, *(st.lists(steps, max_size=4) for _ in SECTIONS))


@given(plans)
def test_a_plan_is_what_its_text_says(plan):
    """parse_plan is the exact inverse of format_plan."""
    assert parse_plan(format_plan(plan)) == plan


def test_comments_and_empty_lines_are_passed_over():
    """A plan with explanations, as `hitless plan` prints it, is the same plan."""
    text = "plan a\n\n# why\n[isolate]\n# at level 2\nwait iommu0 # done\n"
    assert parse_plan(text) == Plan("a", isolate=[Wait("iommu0")])


_BAD = (
    "[isolate]\nstore everything",
    "wait iommu0",
    "[isolate]\nwait",
    "[own]\nown x y z",
    "[own]\ncall A [0x1, 0x2)\n  does release 0x1000:4K",
)


@pytest.mark.parametrize("bad", _BAD)
def test_what_is_no_plan_is_bad_input_with_its_line(bad):
    """The error names the line."""
    with pytest.raises(BadInput, match=r"line [123]"):
        parse_plan(bad)


def test_the_layout_of_a_table_is_text_and_back():
    """A real table's leaves, printed and parsed."""
    stand = Stand("amd", memory=4 * M, hunk_lg2=21)
    stand.share(PAGE)
    leaves = [Mapping.of(leaf) for leaf in table_leaves(stand.machine.arena, stand.fmt, stand.domain.planner.root_pa)]
    text = format_layout(leaves)
    assert parse_layout(text) == sorted(leaves)
    assert text.splitlines()[1] == f"0x1000 4K -> {stand.guest.pa(PAGE):#x} RW"


def test_a_line_that_is_no_layout():
    """Bad input with its line."""
    with pytest.raises(BadInput, match="line 1"):
        parse_layout("0x1000 -> nowhere")

"""What a refresh costs: the page is made from conversions and results as they are."""

import json

import pytest

from benchmarks import costs, readme


@pytest.fixture(scope="module")
def document() -> dict:
    """The results that the repository holds."""
    return json.loads(costs.RESULTS.read_text(encoding="utf-8"))


@pytest.mark.slow
def test_the_page_is_up_to_date(document):
    """It is what ``python -m benchmarks.costs`` writes: counts of conversions now, times of results.json."""
    assert costs.PAGE.read_text(encoding="utf-8") == costs.page(document)


def test_the_readme_is_up_to_date(document):
    """Its section about speed is what ``python -m benchmarks.readme`` writes."""
    text = readme.README.read_text(encoding="utf-8")
    assert text.split(readme.BEGIN)[1].split(readme.END)[0] == f"{readme.section(document)}\n"


@pytest.mark.parametrize(
    ("name", "unsplit", "split", "back"),
    [
        ("amd", (2, 2, 2, 262_145, 2), (0, 1, 1, 1, 1), (0, 1, 1, 1, 1)),
        ("intel", (2, 2, 2, 262_145, 2), (0, 1, 1, 1, 1), (0, 1, 0, 0, 0)),
        ("arm_smmu", (2, 3, 2, 262_145, 2), (0, 2, 1, 1, 1), (0, 2, 1, 1, 1)),
    ],
)
def test_what_one_page_costs(name, unsplit, split, back):
    """By hand: tables, stores, commands, pages invalidated, waits.

    A cut is one store, and its invalidation covers the gigabyte; AMD replaces, Intel wipes and has nothing to
    invalidate when a page comes back, Arm stores twice with one wait between.
    """
    cases = {case.text: case for case in costs.CASES}
    assert costs.counted(name, cases["one page in a leaf of 1G turns private"]) == unsplit
    assert costs.counted(name, cases["one page in a leaf of 4K turns private"]) == split
    assert costs.counted(name, cases["the same page turns shared again"]) == back


def test_numbers_that_nobody_reads():
    """A command for a whole tag covers 2^52 pages, which is said as such."""
    assert costs.number(262_145) == "262,145"
    assert costs.number(1 << 52) == "all"
    assert costs.number((1 << 52) + 512) == "all, and 512"
    assert costs.number(2 << 52) == "all, twice"

"""Fact ids and rule ids: written once, complete, and every citation leads to one."""

import re
from collections import Counter
from pathlib import Path

import pytest
from attrs import frozen

ROOT = Path(__file__).parents[2]
FACTS = ROOT / "docs" / "facts"
FACT_ID = re.compile(r"\b(?:AMD|INTEL|ARM)-[A-Z]{2,6}-[0-9]+\b")
PREFIX = {"amd": "AMD-", "intel": "INTEL-", "arm_smmu": "ARM-"}
CITING = ("core", "plugins", "docs", "tests", "examples", "README.md", "CHANGELOG.md", "SECURITY.md")
SUFFIXES = {".py", ".md", ".toml"}
RULES = ["N1", "N2", "C1", "C2", "F1", "F2", "B1", "S1", "K1", "R1", "W1", "A1", "D1", "M1", "H1", "E1", "T1"]


@frozen
class Fact:
    """One row of docs/facts."""

    vendor: str
    id: str
    cells: tuple[str, ...]


def facts_of(vendor: str) -> list[Fact]:
    """The rows of a vendor's tables that begin with a fact id."""
    found = []
    for line in (FACTS / f"{vendor}.md").read_text(encoding="utf-8").splitlines():
        cells = tuple(cell.strip() for cell in line.strip().strip("|").split("|"))
        if line.startswith("|") and FACT_ID.fullmatch(cells[0]):
            found.append(Fact(vendor, cells[0], cells[1:]))
    return found


ALL = [fact for vendor in PREFIX for fact in facts_of(vendor)]


def citing_files() -> list[Path]:
    """Every file in which a fact may be cited."""
    roots = [ROOT / name for name in CITING]
    files = [path for root in roots for path in ([root] if root.is_file() else sorted(root.rglob("*")))]
    return [path for path in files if path.suffix in SUFFIXES and "__pycache__" not in path.parts]


@pytest.mark.parametrize("vendor", PREFIX)
def test_each_vendor_has_facts_under_its_own_prefix(vendor):
    """A vendor's file holds that vendor's ids, and more than a few."""
    ids = [fact.id for fact in facts_of(vendor)]
    assert len(ids) > 20
    assert all(fact_id.startswith(PREFIX[vendor]) for fact_id in ids)


def test_ids_are_unique():
    """An id stands for one fact."""
    repeated = [fact_id for fact_id, count in Counter(fact.id for fact in ALL).items() if count > 1]
    assert not repeated


@pytest.mark.parametrize("vendor", PREFIX)
def test_facts_are_complete(vendor):
    """A row has a sentence, a source, and says whether it is confirmed."""
    for fact in facts_of(vendor):
        assert len(fact.cells) == 3, f"{fact.id}: {len(fact.cells) + 1} cells, not 4"
        assert all(fact.cells), f"{fact.id}: an empty cell"
        assert fact.cells[2] in {"yes", "no"}, f"{fact.id}: confirmed is {fact.cells[2]!r}"


def test_every_row_of_a_fact_table_has_an_id():
    """A row whose id is misspelt would be lost without a word."""
    for vendor in PREFIX:
        text = (FACTS / f"{vendor}.md").read_text(encoding="utf-8")
        rows = [line for line in text.splitlines() if re.search(r"\| (yes|no) \|$", line)]
        assert len(rows) == len(facts_of(vendor))


@pytest.mark.parametrize("vendor", PREFIX)
def test_sources_are_in_the_key_table(vendor):
    """A source's key is explained at the head of the file; an inference says that it is one."""
    text = (FACTS / f"{vendor}.md").read_text(encoding="utf-8")
    keys = set(re.findall(r"^\| ([A-Z0-9]{1,5}) \| ", text, re.MULTILINE))
    assert keys
    for fact in facts_of(vendor):
        named = set(re.findall(r"[A-Z0-9]+", fact.cells[1]))
        assert named & keys or fact.cells[1].startswith("inference"), f"{fact.id}: {fact.cells[1]}"


def test_cited_facts_exist():
    """Every fact id in sources, tests and documentation is a row of docs/facts."""
    known = {fact.id for fact in ALL}
    missing = [
        f"{path.relative_to(ROOT)}: {cited}"
        for path in citing_files()
        for cited in sorted(set(FACT_ID.findall(path.read_text(encoding="utf-8"))) - known)
    ]
    assert not missing, "\n".join(missing)


def test_every_rule_has_one_heading():
    """docs/rules.md has exactly one heading per rule, in the order of the design."""
    text = (ROOT / "docs" / "rules.md").read_text(encoding="utf-8")
    assert re.findall(r"^## ([A-Z][0-9]+)\b", text, re.MULTILINE) == RULES

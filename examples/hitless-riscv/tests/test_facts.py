"""Fact ids: written once, complete, and every citation leads to one."""

import re
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
FACT_ID = re.compile(r"\bRISCV-[A-Z]{2,6}-[0-9]+\b")
TEXT = (ROOT / "docs" / "facts.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip().strip("|").split("|")]
    for line in TEXT.splitlines()
    if line.startswith("| RISCV-")
]


def test_facts_are_complete():
    """An id stands for one fact, which has a sentence, a known source, and says whether it is confirmed."""
    assert [fact for fact, count in Counter(row[0] for row in ROWS).items() if count > 1] == []
    keys = set(re.findall(r"^\| ([A-Z]{1,5}) \| ", TEXT, re.MULTILINE))
    for fact, sentence, source, confirmed in ROWS:
        assert FACT_ID.fullmatch(fact) and sentence
        named = {each.strip() for each in source.split(",")} - {"and inference", "inference"}
        assert named <= keys, f"{fact}: {source}"
        assert confirmed in {"yes", "no"}
        assert confirmed == "no" or len(named) > 1, f"{fact}: confirmed by one source"


def test_cited_facts_exist():
    """In sources, tests and documentation."""
    known = {row[0] for row in ROWS}
    files = [path for suffix in ("py", "md", "toml") for path in ROOT.rglob(f"*.{suffix}")]
    assert len(files) > 20
    for path in files:
        cited = set(FACT_ID.findall(path.read_text(encoding="utf-8")))
        assert cited <= known, f"{path.name}: {sorted(cited - known)}"


def test_each_unsettled_feature_cites_an_unconfirmed_fact(registry):
    """What the specification leaves open is a feature that says so."""
    confirmed = {row[0]: row[3] for row in ROWS}
    for info in registry.features("riscv"):
        cited = FACT_ID.findall(info.source)
        assert cited
        if info.unconfirmed:
            assert {confirmed[fact] for fact in cited} == {"no"}

"""The kit as people run it: options, status, gaps, capabilities, report; each in a process of its own."""

import html.parser
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hitless.conformance import matrix
from hitless.conformance.gaps import Gap, read_gaps
from hitless.conformance.rules import OWED, RULES
from hitless.errors import BadInput

QUICK = "-k", "HOOK or FMT2 or FMT7"


def kit(folder: Path, *arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run the kit in a folder."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--pyargs", "hitless.conformance", *arguments]
    environment = {**os.environ, "NO_COLOR": "1", **(env or {})}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=environment)


def rows(path: Path) -> list[dict[str, str]]:
    """The results of a report."""
    return json.loads(path.read_text(encoding="utf-8"))["results"]


@pytest.fixture
def project(acme, tmp_path) -> Path:
    """A copy of the generated vendor, to be changed; quick to test."""
    for source in acme.rglob("*"):
        if source.is_file() and "__pycache__" not in source.parts:
            target = tmp_path / source.relative_to(acme)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
    return tmp_path


def mend(path: Path, old: str, new: str) -> None:
    """Change a file in one place."""
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1, old
    path.write_text(text.replace(old, new), encoding="utf-8")


# -- options


def test_an_unknown_vendor_is_a_usage_error(tmp_path):
    """Status 4, and the list of what is installed."""
    done = kit(tmp_path, "--iommu", "nobody")
    assert done.returncode == 4, done.stdout
    assert "no vendor 'nobody' is installed" in done.stderr
    for name in ("amd", "arm_smmu", "intel"):
        assert name in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--iommu", "no_such_module:plugin"], ["no module 'no_such_module'", "amd"]),
        (["--iommu", "amd", "--iommu-formats", "amd/v9"], ["amd has no page format 'amd/v9'", "amd/v1"]),
        (["--iommu", "amd", "--iommu-report", "kit.pdf"], ["kit.pdf", "neither .json nor .html"]),
        (["--iommu", "amd", "--iommu-suite", "half"], ["half"]),
    ],
)
def test_options_that_cannot_be_meant(tmp_path, arguments, words):
    """Each is a usage error that says what would be right."""
    done = kit(tmp_path, *arguments)
    assert done.returncode == 4, done.stdout + done.stderr
    assert all(word in done.stderr for word in words), done.stderr


def test_without_a_vendor_nothing_is_collected(tmp_path):
    """No test, and a line that says what was missing."""
    done = kit(tmp_path)
    assert done.returncode == 5, done.stdout
    assert "--iommu NAME" in done.stdout


def test_the_plugin_of_pytest_imports_nothing_but_pytest():
    """In a run that has no --iommu, no other module of hitless is loaded by it."""
    code = (
        "import sys, pytest\n"
        "class Look:\n"
        "    def pytest_unconfigure(self): print([n for n in sys.modules if n.startswith('hitless')])\n"
        "pytest.main(['-q', '--collect-only', '-p', 'no:cacheprovider', '/nowhere'], plugins=[Look()])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd="/")
    assert "['hitless', 'hitless.conformance', 'hitless.conformance.plugin']" in done.stdout, done.stdout + done.stderr


def test_all_options_begin_alike():
    """The kit adds nothing else to pytest's options."""
    done = subprocess.run([sys.executable, "-m", "pytest", "--help"], capture_output=True, text=True, check=False)
    section = done.stdout.partition("conformance of an IOMMU vendor")[2].partition("\n\n")[0]
    options = [line.split()[0] for line in section.splitlines() if line.strip().startswith("-")]
    names = {each.partition("=")[0] for each in options}
    assert names == {"--iommu", "--iommu-formats", "--iommu-suite", "--iommu-machine", "--iommu-report"}


# -- a vendor under development


@pytest.mark.slow
def test_the_generated_vendor_passes(project):
    """The smoke suite, from the vendor's own folder, under xdist: more than a hundred rows pass, none fails."""
    done = kit(
        project, "--iommu", "hitless_acme:plugin", "--iommu-suite", "smoke", "--iommu-report", "r.json", "-n", "1"
    )
    assert done.returncode == 0, done.stdout[-3000:]
    found = rows(project / "r.json")
    assert sum(row["outcome"] == "passed" for row in found) >= 100
    assert not [row for row in found if row["outcome"] == "failed"]
    assert {row["rule"] for row in found} >= set(OWED)


@pytest.mark.slow
def test_a_newcomers_path(project):
    """One bit is moved: the rule says which bits differ, in which file the words lie, and where they come from."""
    mend(
        project / "hitless_acme" / "page_format.py",
        'WR = bit("W", 3, "write allowed")',
        'WR = bit("W", 4, "write allowed")',
    )
    mend(project / "hitless_acme" / "page_format.py", "reserved(4, 4)", "reserved(3, 3)")
    mend(
        project / "hitless_acme" / "page_format.py",
        "(V, L, R, WR, reserved(11, 4)",
        "(V, L, R, WR, reserved(3, 3), reserved(11, 5)",
    )
    done = kit(project, "--iommu", "hitless_acme:plugin", "--iommu-report", "r.json", *QUICK)
    assert done.returncode == 1
    failed = [row for row in rows(project / "r.json") if row["outcome"] == "failed"]
    assert {row["rule"] for row in failed} == {"FMT2"}
    assert "bits 3, 4 differ" in failed[0]["reason"]
    assert "ACME 3 table 1" in failed[0]["reason"]
    lines = (project / "hitless_acme" / "page_format.py").read_text(encoding="utf-8").splitlines()
    (at,) = [number for number, line in enumerate(lines, 1) if line.startswith("    def default_attrs(")]
    assert f"default_attrs() in hitless_acme/page_format.py:{at}" in failed[0]["reason"]


@pytest.mark.slow
def test_a_plugin_that_does_not_load_is_one_failure(project):
    """A misspelt hook: one row under HOOK1, which names it and lists the hooks there are."""
    mend(project / "hitless_acme" / "plugin.py", "def ownership(", "def owner_ship(")
    done = kit(project, "--iommu", "hitless_acme:plugin", "--iommu-report", "r.json")
    assert done.returncode == 1
    (row,) = rows(project / "r.json")
    assert (row["rule"], row["outcome"]) == ("HOOK1", "failed")
    assert "owner_ship" in row["reason"]
    assert "ownership" in row["reason"]


@pytest.mark.slow
def test_a_part_of_the_kit_is_not_judged_as_the_whole(project):
    """Chosen tests under xdist: rules that were not asked for are not missed."""
    done = kit(project, "--iommu", "hitless_acme:plugin", "--iommu-report", "r.json", "-n", "1", *QUICK)
    assert done.returncode == 0, done.stdout[-2000:]
    assert {row["rule"] for row in rows(project / "r.json")} & set(OWED) == set()


# -- the two ways out


def gaps(project: Path, text: str) -> None:
    """Write the project's known gaps."""
    mend(project / "pyproject.toml", "[tool.hitless.gaps]\n", f"[tool.hitless.gaps]\n{text}\n")


@pytest.mark.slow
def test_emulated_units_are_witnesses_where_they_are_asked_for(tmp_path):
    """Walks and scenarios on QEMU's units; formats that it does not emulate are skipped with the reason."""
    if shutil.which("qemu-system-x86_64") is None:
        pytest.skip("qemu-system-x86_64 is not installed")
    which = ["--iommu", "amd", "--iommu-suite", "smoke", "-k", "EMU1 or (EMU2 and one-page-in-2m)"]
    done = kit(tmp_path, *which, "--iommu-machine", "qemu", "--iommu-report", "r.json")
    assert done.returncode == 0, done.stdout
    found = {(row["rule"], row["configuration"].split()[0]): row for row in rows(tmp_path / "r.json")}
    assert {key: row["outcome"] for key, row in found.items()} == {
        ("EMU1", "amd/v1"): "passed",
        ("EMU1", "amd/v2"): "skipped",
        ("EMU2", "amd/v1"): "passed",
        ("EMU2", "amd/v2"): "skipped",
    }
    assert "QEMU translates v1 tables only" in found["EMU1", "amd/v2"]["reason"]
    assert kit(tmp_path, *which).returncode == pytest.ExitCode.NO_TESTS_COLLECTED


def test_a_known_gap_is_an_expected_failure(project):
    """What fails under the rule is xfailed with the author's reason, and the run is green."""
    mend(project / "hitless_acme" / "spec_words.toml", "word = 0x7654_3007", "word = 0x7654_3003")
    gaps(project, 'FMT2 = "read-only leaves are not settled"')
    done = kit(project, "--iommu", "hitless_acme:plugin", "--iommu-report", "r.json", *QUICK)
    assert done.returncode == 0, done.stdout[-2000:]
    found = [row for row in rows(project / "r.json") if row["outcome"] == "xfailed"]
    assert {row["rule"] for row in found} == {"FMT2"}
    assert all(row["reason"].startswith("read-only leaves are not settled: ") for row in found)
    assert "xfailed" in done.stdout


@pytest.mark.slow
def test_a_gap_that_passes_fails(project):
    """The run is red, and the message says to take the gap out; the command line chose no tests."""
    gaps(project, 'FMT7 = "an old story"')
    done = kit(project, "--iommu", "hitless_acme:plugin", "--iommu-suite", "smoke", "--iommu-report", "r.json")
    assert done.returncode == 1, done.stdout[-2000:]
    (row,) = [row for row in rows(project / "r.json") if row["outcome"] == "failed"]
    assert row["rule"] == "FMT7"
    assert "passes" in row["reason"]
    assert "the known gap passes (an old story)" in done.stdout


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('FMT99 = "x"', ["'FMT99' names no rule", "FMT1"]),
        ('N1 = "x"', ["N1 cannot be a known gap"]),
        ('A1 = { reason = "x" }', ["A1 cannot be a known gap"]),
        ('FMT1 = ""', ["needs a reason"]),
        ("FMT1 = true", ["needs a reason"]),
        ('FMT1 = { reason = "x", when = "never" }', ["needs a reason"]),
    ],
)
def test_gaps_that_cannot_be(tmp_path, text, words):
    """A gap that names no rule, an owed one, or no reason is refused before anything runs."""
    (tmp_path / "pyproject.toml").write_text(f"[tool.hitless.gaps]\n{text}\n", encoding="utf-8")
    with pytest.raises(BadInput) as caught:
        read_gaps(tmp_path)
    assert all(word in str(caught.value) for word in words)


def test_a_gap_that_cannot_be_is_a_usage_error(project):
    """Status 4."""
    gaps(project, 'FMT99 = "x"')
    done = kit(project, "--iommu", "hitless_acme:plugin")
    assert done.returncode == 4
    assert "names no rule" in done.stderr


def test_gaps_may_be_narrowed(tmp_path):
    """To configurations, by patterns; the file is looked for upwards."""
    text = '[tool.hitless.gaps]\nFMT1 = { reason = "x", configurations = ["acme/table c*"] }\n'
    (tmp_path / "pyproject.toml").write_text(text, encoding="utf-8")
    (tmp_path / "below").mkdir()
    (gap,) = read_gaps(tmp_path / "below")
    assert gap == Gap("FMT1", "x", ("acme/table c*",))
    assert gap.covers("FMT1", "acme/table coherent=false")
    assert not gap.covers("FMT1", "acme/table")
    assert not gap.covers("FMT2", "acme/table coherent=false")


@pytest.mark.slow
def test_a_capability_skips_with_its_clause(project):
    """The rules that it waives are skipped, and say which clause they are skipped for."""
    mend(
        project / "hitless_acme" / "plugin.py",
        "    @hookimpl\n    def spec_words",
        "    @hookimpl\n    def capabilities(self):\n"
        '        return [Capability("no-strangers", "CAP.NS", "all devices are named", ("FMT7",))]\n\n'
        "    @hookimpl\n    def spec_words",
    )
    mend(project / "hitless_acme" / "plugin.py", "import API, hookimpl", "import API, Capability, hookimpl")
    done = kit(project, "--iommu", "hitless_acme:plugin", "--iommu-report", "r.json", *QUICK)
    assert done.returncode == 0, done.stdout[-2000:]
    skipped = [row for row in rows(project / "r.json") if row["outcome"] == "skipped"]
    assert {(row["rule"], row["reason"]) for row in skipped} == {
        ("FMT7", "no-strangers: all devices are named (CAP.NS)")
    }
    assert json.loads((project / "r.json").read_text())["capabilities"][0]["clause"] == "CAP.NS"


# -- the report


class _Links(html.parser.HTMLParser):
    """Everything that a page would load from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.found += [str(value) for name, value in attrs if name in ("src", "href")]


@pytest.mark.slow
def test_the_report(project):
    """JSON has what it should; the page needs nothing else, and shows text of plugins as text."""
    mend(project / "hitless_acme" / "rules.py", '"ACME 5.4"', '"ACME <b>5.4</b>"')
    arguments = ["--iommu", "hitless_acme:plugin", "--iommu-suite", "smoke", "-k", "HOOK or FMT or MUT or CMD"]
    done = kit(project, *arguments, "--iommu-report", "r.json", "--iommu-report", "r.html")
    assert done.returncode == 0, done.stdout[-2000:]
    data = json.loads((project / "r.json").read_text(encoding="utf-8"))
    assert list(data)[:2] == ["hitless", "schema"]
    assert data["schema"] == "kit/1"
    assert {"vendor", "distribution", "version", "capabilities", "gaps", "mutation", "results"} <= data.keys()
    assert (data["vendor"], data["distribution"]) == ("acme", "under development")
    assert 0 < data["mutation"]["caught"] == data["mutation"]["mutants"]
    assert all({"rule", "configuration", "outcome", "reason"} <= row.keys() for row in data["results"])
    assert {row["outcome"] for row in data["results"]} <= {"passed", "failed", "skipped", "xfailed"}
    keys = [(row["rule"], row["configuration"], row["case"]) for row in data["results"]]
    assert len(keys) - len(set(keys)) <= 10, "nearly every row has a name of its own"
    assert any("DROP: drops leaves" in line for line in data["declared"]["acme/table"])
    page = (project / "r.html").read_text(encoding="utf-8")
    links = _Links()
    links.feed(page)
    assert links.found == []
    assert "<b>5.4</b>" not in page
    assert "&lt;b&gt;5.4" in page
    assert "conformance of acme" in done.stdout


def test_rules_are_told_apart():
    """Each id once, with a sentence and a source; those that are owed are the eight."""
    assert set(OWED) == {"N1", "N2", "C1", "C2", "F1", "R1", "W1", "A1"}
    assert all(rule.sentence and rule.source for rule in RULES.values())
    assert len({rule.sentence for rule in RULES.values()}) == len(RULES)


def test_no_shared_test_knows_a_vendor():
    """The kit's own tests name no vendor: what one cannot do it declares."""
    folder = Path(importlib.import_module("hitless.conformance").__file__).parent
    tests = sorted(folder.glob("*.py"))
    assert len(tests) > 15
    for path in tests:
        words = set(re.findall(r"[a-z0-9]+", path.read_text(encoding="utf-8").lower()))
        assert not words & {"intel", "arm", "smmu", "riscv", "vtd", "toy"}, path


def test_reports_side_by_side():
    """A rule of the checker has a line of its own, the kit's own rules one a family; what fails is told."""
    results = [("N1", "passed"), ("FMT1", "passed"), ("FMT2", "failed"), ("FMT3", "xfailed"), ("acme.X1", "passed")]
    report = {
        "vendor": "acme",
        "results": [{"rule": rule, "outcome": outcome} for rule, outcome in results],
        "mutation": {"mutants": 3, "caught": 2},
        "gaps": [{}],
    }
    lines = list(matrix.table([report, {**report, "vendor": "zeta", "results": []}]))
    assert lines[0] == "| rule | acme | zeta | |"
    assert "| N1 | 1 | – | DMA to a neighbour never faults |" in lines
    assert "| FMT | 1, 1 failed, 1 xfailed | – | page formats |" in lines
    assert "| acme.X1 | 1 | – | rules of its own |" in lines
    assert lines[-2:] == ["| mutants | 2 of 3 | 2 of 3 | caught |", "| gaps | 1 | 1 | |"]

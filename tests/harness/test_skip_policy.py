"""The skip policy of tests/conftest.py, tried on a suite of its own."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


CONFTEST = Path(__file__).parents[1] / "conftest.py"
SUITE = {
    "test_one.py": """
        import pytest
        def test_skipped(): pytest.skip("no such machine: 7")
        @pytest.mark.xfail(reason="known gap")
        def test_gap(): assert False
        def test_good(): pass
        """,
    "test_two.py": """
        import pytest
        pytest.skip("whole module", allow_module_level=True)
        """,
}


@pytest.fixture
def suite(tmp_path):
    """A folder with the shared conftest, a skipped test, a skipped module, an xfail and a passing test."""
    shutil.copy(CONFTEST, tmp_path / "conftest.py")
    for name, text in SUITE.items():
        (tmp_path / name).write_text("\n".join(line.removeprefix(" " * 8) for line in text.splitlines()))
    (tmp_path / "allowed_skips.txt").write_text("# none\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    return tmp_path


def run(suite: Path, *options: str) -> tuple[int, str]:
    """Status and output of pytest in the suite."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options]
    done = subprocess.run(command, cwd=suite, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("processes", [(), ("-n", "1")], ids=["alone", "xdist"])
def test_a_skip_with_an_unknown_reason_fails(suite, processes):
    """Both a skipped test and a skipped module fail, with their reasons; the xfail stays an xfail."""
    status, output = run(suite, "--no-unexpected-skips", *processes, "--continue-on-collection-errors")
    assert status == 1
    assert "unexpected skip: no such machine: 7" in output
    assert "unexpected skip: whole module" in output
    assert "1 xfailed" in output


def test_an_allowed_reason_stays_a_skip(suite):
    """A line of the list matches the whole reason as a regular expression."""
    (suite / "allowed_skips.txt").write_text(r"no such machine: \d" + "\nwhole module\n")
    status, output = run(suite, "--no-unexpected-skips")
    assert status == 0, output
    assert "2 skipped" in output


def test_part_of_a_reason_is_not_enough(suite):
    """A line that matches only the beginning of a reason allows nothing."""
    (suite / "allowed_skips.txt").write_text("no such machine\nwhole module\n")
    status, _output = run(suite, "--no-unexpected-skips")
    assert status == 1


def test_without_the_option_skips_are_skips(suite):
    """At a developer's desk nothing changes."""
    status, output = run(suite)
    assert status == 0
    assert "2 skipped" in output

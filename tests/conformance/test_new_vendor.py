"""``hitless new-vendor``: names, folders, and what is written."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

from hitless.cli.new_vendor_command import command
from hitless.conformance.new_vendor import renamed, write_vendor
from hitless.errors import BadInput


def test_the_name_is_everywhere(tmp_path):
    """No trace of the starter's own name is left, in any of its forms."""
    written = write_vendor("big_iron", tmp_path / "out")
    assert (tmp_path / "out" / "hitless_big_iron" / "plugin.py") in written
    for path in written:
        text = path.read_text(encoding="utf-8")
        assert "acme" not in text.lower(), path
        assert "acme" not in path.name
    text = (tmp_path / "out" / "pyproject.toml").read_text(encoding="utf-8")
    assert 'name = "hitless-big-iron"' in text
    assert 'big_iron = "hitless_big_iron:plugin"' in text
    assert "class BigIronFormat" in (tmp_path / "out" / "hitless_big_iron" / "page_format.py").read_text(
        encoding="utf-8"
    )


@pytest.mark.parametrize("name", ["", "Acme", "2fast", "a-b", "a__b", "import", "../x", "a.b", "_a", "a_"])
def test_names_that_cannot_be(tmp_path, name):
    """Nothing is written."""
    with pytest.raises(BadInput):
        write_vendor(name, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_not_empty(tmp_path):
    """It is left alone."""
    (tmp_path / "mine.txt").write_text("x", encoding="utf-8")
    with pytest.raises(BadInput, match="not empty"):
        write_vendor("zeta", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_name_that_is_taken(tmp_path, monkeypatch):
    """Of two distributions with one vendor name neither loads: the command refuses the name of an installed vendor."""
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(command, ["amd"])
    assert isinstance(done.exception, BadInput)
    assert "installed already" in str(done.exception)


def test_the_command_says_what_comes_next(tmp_path, monkeypatch):
    """It writes ./hitless-NAME, and names the files and the kit's command line."""
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(command, ["zeta"])
    assert done.exit_code == 0, done.output
    assert "hitless-zeta/hitless_zeta/page_format.py" in done.output
    assert "--iommu hitless_zeta:plugin" in done.output
    assert (tmp_path / "hitless-zeta" / ".github" / "workflows" / "kit.yml").exists()


def test_names_in_several_forms():
    """The longer forms are replaced before the shorter ones."""
    assert renamed("hitless-acme hitless_acme acme AcmeX ACME 3", "a_b") == "hitless-a-b hitless_a_b a_b ABX A-B 3"


@pytest.mark.slow
def test_what_is_written_is_tested_and_typed(acme):
    """Its own tests pass, and mypy finds nothing, strict."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=acme,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    done = subprocess.run([sys.executable, "-m", "mypy"], cwd=acme, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout

"""The plugin in hitless: recordings, a guest's log, the checker and its mistakes, explanations."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
RECORDINGS = Path(__file__).parent / "recordings"
SHARED = ROOT.parent / "shared" / "vectors"


def hitless(*arguments, status=0):
    """What the command line says, as JSON."""
    command = [sys.executable, "-m", "hitless.cli", *map(str, arguments), "--json", "-"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == status, done.stdout + done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("folder", [RECORDINGS, SHARED], ids=["excerpt", "all"])
def test_recordings(folder):
    """Every word that an independent driver wrote is written here too; what is skipped should not be copied."""
    if not folder.is_dir():
        pytest.skip("the recordings are not beside the repository")
    data = hitless("vectors", "verify", folder, "--vendor", "riscv")
    (row,) = [each for each in data["files"] if each["fmt"] == "riscv_64"]
    assert row["failed"] == 0
    assert row["passed"] >= 3
    assert row["entries"] > 100
    assert all(each["case"].startswith("quirk_") for each in row["skipped"])
    assert not row["differences"]


@pytest.mark.parametrize("backing", ["in-place", "separate", "scattered"])
def test_a_guests_log(backing, tmp_path):
    """Both stages, two units, ATS, runs: no neighbour faults, none goes elsewhere, nothing stale is reached."""
    config = tmp_path / "riscv.toml"
    text = (Path(__file__).parents[1] / "riscv.toml").read_text(encoding="utf-8")
    config.write_text(text.replace('backing = "separate"', f'backing = "{backing}"'), encoding="utf-8")
    rows = hitless("run", ROOT / "examples" / "short.log", "--config", config)["domains"]
    assert [row["domain"] for row in rows] == ["second", "runs", "first"]
    for row in rows:
        assert row["neighbour_dma"] > 10
        assert (row["cuts"] > 0) == (backing != "in-place")  # in place the MPT alone carries a conversion
        broken = ("neighbour_faults", "neighbour_misrouted", "converted_misrouted", "stale_after_refresh", "conflicts")
        assert [name for name in broken if row[name]] == []


SPACES = """
[guest]
memory = "4G"
hunk = "1G"
backing = "separate"
together = true

[[domain]]
name = "plain"
vendor = "riscv"
format = "riscv/stage1"
units = ["one"]

[[domain]]
name = "pasid5"
vendor = "riscv"
format = "riscv/stage1"
units = ["one"]
pasid = 5

[[domain]]
name = "pasid6"
vendor = "riscv"
format = "riscv/stage1"
units = ["one"]
pasid = 6

[[unit]]
name = "one"
vendor = "riscv"
device = [{ id = 0x20, ats = true }]
"""


def test_address_spaces_of_one_device(tmp_path):
    """Each has a PSCID of its own: what one plan invalidates is its own space's, and nothing stale stays in any."""
    config = tmp_path / "spaces.toml"
    config.write_text(SPACES, encoding="utf-8")
    rows = hitless("run", ROOT / "examples" / "short.log", "--config", config, "--check", "all")["domains"]
    assert [(row["domain"], row["pasid"]) for row in rows] == [("plain", None), ("pasid5", 5), ("pasid6", 6)]
    for row in rows:
        assert row["neighbour_dma"] > 10
        broken = ("neighbour_faults", "neighbour_misrouted", "converted_misrouted", "stale_after_refresh", "conflicts")
        assert [name for name in broken if row[name]] == []


@pytest.mark.parametrize("scenario", ["one-page-in-2m", "merge", "ats", "nested", "raced-ad"])
def test_scenarios(scenario):
    """No violation in any configuration, and no refusal."""
    rows = hitless("check", "--vendor", "riscv", "--scenario", scenario, "--jobs", "1")["results"]
    assert len(rows) > 20
    assert {row["outcome"] for row in rows} <= {"ok", "not_applicable"}
    assert sum(row["outcome"] == "ok" for row in rows) >= (10 if scenario == "nested" else 20)


def test_the_one_refusal_and_why():
    """A run that cannot be taken apart entry by entry is refused, and that is shown to be right (RISCV-NAPOT-5)."""
    rows = hitless("check", "--vendor", "riscv", "--scenario", "runs", "--jobs", "1")["results"]
    refused = [row for row in rows if row["outcome"] == "refused"]
    assert refused
    assert {row["reason"] for row in refused} == {"riscv.napot-resize"}
    assert all(row["features"]["napot"] and not row["features"]["napot_mix"] for row in refused)
    assert not [row for row in rows if row["outcome"] == "violated"]


@pytest.mark.parametrize("page_format", ["riscv/stage2", "riscv/stage1"])
def test_every_mistake_is_caught(page_format):
    """Core's and its own, each under exactly its rules; what is right, or harmless, stays green."""
    arguments = ("--scenario", "one-page-in-2m", "--feature", "mode=sv48", "--mutants", "--jobs", "1")
    data = hitless("check", "--format", page_format, *arguments)
    mutants = data["mutants"]
    assert sum(each["id"].startswith("riscv.") for each in mutants) >= 15
    assert all(each["caught"] for each in mutants)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("riscv/stage2", "0x40000401", "--level", "1"), "0x100001000"),
        (("riscv/dc", "1", "0", "0", "0", "0", "0", "0", "0"), "tc.V"),
        (("riscv/pc", "0x77001", "0x8000000000000400"), "0x400000"),
        (("riscv/ddt", "0x48d15401"), "0x12345"),
        (("riscv/ddtp", "0x40004"), "3LVL"),
        (("riscv/command", "0x0005100200000481", "0x1c00"), "covers [0x7000, 0x7fff]"),
        (("riscv/event", "0x0041080c00000017", "0", "0x7000", "0x9001"), "write guest page fault"),
    ],
)
def test_explanations(arguments, said):
    """Tables, structures, the register, commands and records by name."""
    assert said in json.dumps(hitless("explain", *arguments))

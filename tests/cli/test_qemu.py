"""The command line on the QEMU machine, and what it says where there is none."""

import re
from pathlib import Path

import pytest

from hitless.machine.qemu.errors import NoEmulator
from hitless.machine.qemu.process import find_program

RULES = Path(__file__).parents[2] / "docs" / "rules.md"


@pytest.fixture(scope="module")
def qemu():
    """Both programs, or a skip."""
    try:
        find_program("qemu-system-x86_64")
        find_program("qemu-system-aarch64")
    except NoEmulator as error:
        pytest.skip(error.what)


def test_run_on_qemu(hitless, short_log, qemu):
    """A log on emulated units: devices see nothing wrong, and the JSON says how much was seen, and what cannot be."""
    done = hitless("run", short_log, "--machine", "qemu", "--vendor", "amd", "--vendor", "intel", "--json", "-")
    assert done.status == 0
    for row in done.json["domains"]:
        assert row["machine"] == "qemu"
        assert (row["neighbour_faults"], row["neighbour_misrouted"], row["stale_after_refresh"]) == (0, 0, 0)
        assert (row["machine_checks"], row["conflicts"], row["freed_table_reads"]) == (None, None, None)
        assert row["witnessed"]["by_dma"] > 100
        assert row["near_dma"] > 50
        assert row["waits"] > 0


def test_the_baseline_is_seen_to_break(hitless, short_log, qemu):
    """Unmap and remap: an emulated device faults beside the converted pages (N1), and the status is 1."""
    done = hitless(
        *("run", short_log, "--machine", "qemu", "--vendor", "intel", "--strategy", "unmap-remap"),
        *("--memory", "4G", "--backing", "separate", "--json", "-"),
    )
    assert done.status == 1
    assert done.json["domains"][0]["neighbour_faults"] > 0


def test_the_same_seed_gives_the_same(hitless, short_log, qemu):
    """Twice the same JSON, but for the seconds."""
    found = []
    for _ in range(2):
        rows = hitless("run", short_log, "--machine", "qemu", "--vendor", "amd", "--limit", 5, "--json", "-").json
        for row in rows["domains"]:
            del row["seconds"]
        found.append(rows)
    assert found[0] == found[1]


def test_memory_has_no_witness(hitless, short_log):
    """On the machine in memory the counts are the model's own."""
    row = hitless("run", short_log, "--vendor", "amd", "--limit", 2, "--json", "-").json["domains"][0]
    assert (row["witnessed"], row["conflicts"], row["machine"]) == (None, 0, "memory")


def test_check_on_qemu(hitless, qemu):
    """A scenario that can be shown counts four rules, and no other; one that cannot says why."""
    done = hitless(
        *("check", "--machine", "qemu", "--format", "intel/second-stage"),
        *("--scenario", "one-page-in-2m", "--scenario", "ats", "--json", "-", "--quiet"),
    )
    assert done.status == 0
    shown, hidden = done.json["witnessed"]
    assert (shown["outcome"], shown["reason"]) == ("ok", "")
    assert {rule for rule, count in shown["rules"].items() if count == 0} == {"N1", "N2", "C1", "F1"}
    assert min(shown["conversions"], shown["by_dma"], shown["by_trace"]) > 0
    assert (hidden["outcome"], set(hidden["rules"].values())) == ("not_applicable", {None})
    assert "ATC" in hidden["reason"]
    known = set(re.findall(r"^## ([A-Z]\d): ", RULES.read_text(encoding="utf-8"), re.MULTILINE))
    assert set(shown["rules"]) == known
    assert done.json["compared"] == []


def test_check_compares_walks(hitless, qemu, monkeypatch):
    """Without scenarios named, QEMU's walks are compared with ours."""
    monkeypatch.setattr("hitless.cli.check_qemu.SCENARIOS", ())
    done = hitless("check", "--machine", "qemu", "--format", "amd/v1", "--json", "-", "--quiet")
    assert done.status == 0
    (row,) = done.json["compared"]
    assert row["asked"] == 2000
    assert row["faults"] == []
    assert row["excused"][0]["deviation"] == "amd.above-the-root"
    assert sum(row["sizes"].values()) > 1000


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--mutants",), "goes with --vendor"),
        (("--all",), "goes with --vendor"),
        (("--format", "amd/v2"), "QEMU translates v1 tables only"),
        (("--format", "intel/second-stage", "--feature", "haw=52"), "no more on either side"),
    ],
)
def test_what_does_not_go_together(hitless, qemu, arguments, problem):
    """Options that mean nothing here, and what is not emulated, are bad input with the reason."""
    done = hitless("check", "--machine", "qemu", *arguments)
    assert done.status == 2
    assert problem in done.err


def test_devices_with_ats_are_refused(hitless, short_log, write, qemu):
    """QEMU's devices have no ATC: a configuration that wants one is bad input."""
    config = write(
        "[[domain]]\nvendor = 'intel'\nunits = ['u']\n[[unit]]\nname = 'u'\nvendor = 'intel'\n"
        "device = [{ id = 0x100, ats = true }]\n[[guest.slot]]\ngpa = 0\nsize = '4G'\noffset = 0\n"
    )
    done = hitless("run", short_log, "--config", config, "--machine", "qemu")
    assert done.status == 2
    assert "neither an ATC nor PASIDs" in done.err


@pytest.mark.parametrize("command", [("run", "LOG", "--memory", "4G"), ("check",)])
def test_without_qemu(hitless, short_log, monkeypatch, tmp_path, command):
    """Where QEMU is missing, that is said, with where to look, and nothing is a bug."""
    monkeypatch.setenv("PATH", str(tmp_path))
    arguments = [short_log if each == "LOG" else each for each in command]
    done = hitless(*arguments, "--machine", "qemu", "--vendor", "amd")
    assert done.status == 2
    assert "qemu-system-x86_64 is not installed" in done.err
    assert "hitless doctor" in done.err


def test_doctor_where_qemu_is(hitless, qemu):
    """Versions of the programs, and for each format what it is blind to."""
    told = hitless("doctor", "--json", "-").json
    assert told["schema"] == "doctor/1"
    programs = {each["name"]: each for each in told["programs"]}
    assert re.fullmatch(r"\d+\.\d+", programs["qemu-system-x86_64"]["version"])
    formats = {each["format"]: each for each in told["formats"]}
    assert formats["amd/v1"]["qemu"] is True
    assert formats["amd/v1"]["blind"]
    assert formats["amd/v2"]["qemu"] is False
    assert "v1 tables only" in formats["amd/v2"]["reason"]


def test_doctor_where_qemu_is_not(hitless, monkeypatch, tmp_path):
    """What is missing, and the package to install; the status is 0 all the same."""
    monkeypatch.setenv("PATH", str(tmp_path))
    done = hitless("doctor")
    assert done.status == 0
    assert "missing" in done.out
    assert "qemu-system-arm" in done.out
    told = hitless("doctor", "--json", "-").json
    assert {each["path"] for each in told["programs"]} == {None}
    assert not any(each["qemu"] for each in told["formats"])

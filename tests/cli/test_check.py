"""``hitless check``."""

import json
import os
import pty
import runpy
import shlex
import subprocess
import sys
from contextlib import suppress

import pytest

from hasty import hasty_config
from hitless import __version__
from hitless.check.scenarios import SCENARIOS
from installed import NAMES

ONE = (
    "--vendor",
    "intel",
    "--format",
    "intel/second-stage",
    "--scenario",
    "one-page-in-2m",
    "--feature",
    "coherent=true",
)
MUTANT = ("--format", "amd/v1", "--mutant", "generic.small-invalidation")


def again_of(text: str) -> list[list[str]]:
    """The commands that a text says to repeat things with, without their first word."""
    lines = [line.partition("again: ")[2] for line in text.splitlines() if line.startswith("  again: ")]
    return [shlex.split(line)[1:] for line in lines]


# -- scenarios


def test_a_scenario_that_holds(hitless):
    """A table with a line a format, nothing else, status 0."""
    ended = hitless("check", *ONE)
    assert (ended.status, ended.err) == (0, "")
    head, _, row = ended.out.splitlines()[:3]
    assert [cell.strip() for cell in head.split("┃")] == [
        "format", "settings", "ok", "refused", "n/a", "violated", "plans", "steps",
    ]  # fmt: skip
    assert [cell.strip() for cell in row.split("│")][:6] == ["intel/second-stage", "1", "1", "0", "0", "0"]


def test_json(hitless):
    """All keys of schema check/1, in their order; standard output holds nothing else."""
    data = hitless("check", *ONE, "--json", "-").json
    assert list(data) == [
        "hitless", "schema", "plans", "steps", "facts",
        "results", "violations", "refused", "mutants", "harmless", "deletions", "witnessed", "compared",
    ]  # fmt: skip
    assert (data["hitless"], data["schema"]) == (__version__, "check/1")
    (result,) = data["results"]
    assert list(result) == ["vendor", "format", "scenario", "features", "plans", "steps", "outcome", "reason"]
    assert (result["format"], result["scenario"], result["outcome"]) == ("intel/second-stage", "one-page-in-2m", "ok")
    assert result["features"] == {"coherent": True}
    assert result["plans"] == data["plans"] > 1
    assert result["steps"] == data["steps"] > data["plans"]


def test_configurations_cover_every_pair(hitless):
    """Without ``--feature`` a scenario is checked with several sets of features, each pair of values in one of them."""
    results = hitless("check", "--format", "amd/v1", "--scenario", "first-page", "--json", "-").json["results"]
    sets = [each["features"] for each in results]
    assert len(sets) > 5
    pairs = {(each["np_cache"], each["cut_may_replace"]) for each in sets}
    assert pairs == {(False, False), (False, True), (True, False), (True, True)}


def test_several_scenarios_formats_and_vendors(hitless):
    """Each option may be repeated; what is not named is left out."""
    chosen = ("--scenario", "first-page", "--scenario", "last-page", "--vendor", "amd", "--vendor", "intel")
    data = hitless("check", *chosen, "--format", "intel/first-stage", "--json", "-").json
    assert {(each["format"], each["scenario"]) for each in data["results"]} == {
        ("intel/first-stage", "first-page"),
        ("intel/first-stage", "last-page"),
    }


@pytest.mark.parametrize(
    ("arguments", "known"),
    [
        (("--vendor", "nobody"), NAMES),
        (("--format", "amd/v9"), "amd/v1, amd/v2"),
        (("--scenario", "none"), ", ".join(each.id for each in SCENARIOS)),
        (("--vendor", "amd", "--feature", "nothing=1"), "np_cache"),
        (("--vendor", "amd", "--feature", "mode=9"), "3, 4, 5, 6"),
        (("--vendor", "amd", "--feature", "mode"), "3, 4, 5, 6"),
        (("--vendor", "intel", "--mutant", "amd.nothing"), "generic.no-wait"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_unknown_names(hitless, arguments, known):
    """What does not exist is bad input, and the error lists what does."""
    ended = hitless("check", *arguments)
    assert (ended.status, ended.out) == (2, "")
    assert known in ended.err
    assert "again: hitless check" in ended.err


def test_features_that_no_hardware_has_together(hitless):
    """The vendor's sentence says why."""
    ended = hitless("check", "--vendor", "intel", "--feature", "ssads=true", "--feature", "mode=legacy")
    assert ended.status == 2
    assert "INTEL-SS-13" in ended.err


def test_quiet(hitless, tmp_path):
    """No table; JSON goes to its file all the same."""
    target = tmp_path / "check.json"
    ended = hitless("check", *ONE, "--quiet", "--json", target)
    assert (ended.status, ended.out, ended.err) == (0, "", "")
    assert json.loads(target.read_text())["results"]


# -- refusals


def test_a_refusal_is_told_but_breaks_nothing(hitless):
    """What is refused is done all the same, and what breaks then is told before the table; the status stays 0."""
    ended = hitless("check", "--format", "amd/v1", "--scenario", "trusted-page", "--feature", "snp=true")
    assert (ended.status, ended.err) == (0, "")
    first = ended.out.splitlines()[0]
    assert first.startswith("amd/v1 refuses amd.trusted-smash, ")
    assert "(trusted-page); done all the same, it breaks " in first
    rule = first.rstrip(":").split()[-1]
    assert f"  break  {rule} is broken, " in ended.out
    data = hitless(
        "check", "--format", "amd/v1", "--scenario", "trusted-page", "--feature", "snp=true", "--json", "-"
    ).json
    assert [each["outcome"] for each in data["results"]] == ["refused"]
    assert {each["reason"] for each in data["refused"]} == {"amd.trusted-smash"}
    assert rule in {each["forced_rule"] for each in data["refused"]}
    assert data["violations"]
    assert all(each["forced"] for each in data["violations"])
    assert all(each["timeline"][-1].startswith("  break  ") for each in data["violations"])


# -- mutants and deletions


def test_a_mutant_is_told(hitless, tmp_path):
    """Caught: status 1, a story for each rule on standard error, and the command that repeats it does so."""
    program = tmp_path / "mutant.py"
    ended = hitless("check", *MUTANT, "--replay", program)
    assert ended.status == 1
    commands = again_of(ended.err)
    assert commands
    assert all(command == ["check", "--vendor", "amd", *MUTANT] for command in commands)
    assert "amd/v1, mutant generic.small-invalidation: " in ended.err
    assert hitless(*commands[0]).err == ended.err
    runpy.run_path(str(program))


def test_json_of_a_mutant(hitless):
    """``violations`` are that mutant's; ``mutants`` has its one row."""
    data = hitless("check", *MUTANT, "--json", "-").json
    (row,) = data["mutants"]
    assert row["caught"]
    assert row["rules"] == row["expected_rules"]
    assert row["twin_violations"] == []
    assert sorted({each["rule"] for each in data["violations"]}) == row["rules"]
    assert data["results"] == []
    assert list(data["violations"][0]) == [
        "vendor", "format", "scenario", "features", "rule", "step", "forced", "what", "timeline",
    ]  # fmt: skip


def test_a_mutant_without_a_place(hitless):
    """A mistake that this hardware cannot be harmed by is bad input, not a success."""
    ended = hitless(
        "check", "--format", "amd/v1", "--feature", "snp=false", "--mutant", "generic.atc-without-wait-between"
    )
    assert (ended.status, ended.out) == (2, "")
    assert "no place" in ended.err


def test_all_mutants_of_a_format(hitless):
    """Every one caught under exactly its rules, twins clean, harmless changes green: status 0."""
    ended = hitless("check", "--mutants", "--format", "intel/second-stage", "--json", "-")
    assert (ended.status, ended.err) == (0, "")
    data = ended.json
    assert len(data["mutants"]) > 30
    assert all(each["caught"] and not each["twin_violations"] for each in data["mutants"])
    assert all(set(each["rules"]) <= {"E1"} for each in data["harmless"])
    assert data["harmless"]
    shown = hitless("check", "--mutants", "--format", "intel/second-stage")
    assert f"│ {len(data['mutants']):>7} │ {len(data['mutants']):>6} │" in shown.out


def test_deletions_of_a_scenario(hitless):
    """Each step is left out in turn; most are noticed, and each says what broke."""
    data = hitless("check", *ONE[2:6], "--deletion", "--json", "-").json
    assert data["results"] == []
    assert len(data["deletions"]) > 10
    for each in data["deletions"]:
        assert (each["outcome"] == "caught") == bool(each["rules"])
        assert each["text"].split()[0] in {"store", "barrier", "clean", "invalidate", "wait"}
    shown = hitless("check", *ONE[2:6], "--deletion")
    assert shown.status == 0
    assert "superfluous" in shown.out


# -- a configuration


def test_a_configuration_with_a_mistake(hitless, tmp_path, monkeypatch):
    """An extension that forgets an invalidation is caught, told and replayed under the configuration's own name."""
    config = hasty_config(tmp_path)
    monkeypatch.chdir(tmp_path)
    ended = hitless("check", "--config", config.name, "--scenario", "one-page-in-4k", "--replay", "replay.py")
    assert ended.status == 1
    assert "F1 is broken" in ended.err
    assert again_of(ended.err)[0] == [
        "check", "--config", "hasty.toml", "--vendor", "amd", "--scenario", "one-page-in-4k",
    ]  # fmt: skip
    assert "configured('hasty.toml', 'careless')" in (tmp_path / "replay.py").read_text()
    ran = subprocess.run([sys.executable, "replay.py"], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


def test_a_configuration_is_checked_as_it_is(hitless, write):
    """Scenarios that are about another setting do not apply; units, ATS, policy and trust are the configuration's."""
    config = write(
        '[guest]\nmemory = "1G"\nbacking = "in-place"\n'
        '[[unit]]\nname = "one"\nvendor = "intel"\ndevice = [{ id = 8, ats = true }]\n'
        '[[domain]]\nvendor = "intel"\nunits = ["one"]\npolicy = "wipe"\n'
        '[[domain]]\nvendor = "amd"\npolicy = "match"\n'
    )
    chosen = (
        "--scenario",
        "one-page-in-2m",
        "--scenario",
        "two-units",
        "--scenario",
        "wipe-policy",
        "--scenario",
        "scattered",
    )
    results = hitless("check", "--config", config, *chosen, "--json", "-").json["results"]
    outcomes = {(each["format"], each["scenario"]): each["outcome"] for each in results}
    assert outcomes == {
        ("intel/second-stage", "one-page-in-2m"): "ok",
        ("intel/second-stage", "two-units"): "not_applicable",
        ("intel/second-stage", "wipe-policy"): "ok",
        ("intel/second-stage", "scattered"): "not_applicable",
        ("amd/v1", "one-page-in-2m"): "ok",
        ("amd/v1", "two-units"): "ok",
        ("amd/v1", "wipe-policy"): "not_applicable",
        ("amd/v1", "scattered"): "not_applicable",
    }
    only = hitless("check", "--config", config, *chosen, "--vendor", "amd", "--json", "-").json["results"]
    assert {each["vendor"] for each in only} == {"amd"}


@pytest.mark.parametrize("more", [("--format", "amd/v1"), ("--feature", "snp=true"), ("--all",), ("--mutants",)])
def test_a_configuration_says_all_of_that(hitless, write, more):
    """``--config`` does not go with what would say it a second time."""
    config = write('[guest]\nmemory = "1G"\n[[domain]]\nvendor = "amd"\n')
    assert hitless("check", "--config", config, *more).status == 2


# -- programs


def test_nothing_to_replay(hitless, tmp_path):
    """No violation, no program; that is said."""
    target = tmp_path / "none.py"
    ended = hitless("check", *ONE, "--replay", target, "--quiet")
    assert (ended.status, ended.err) == (0, "nothing to replay\n")
    assert not target.exists()


def test_a_program_that_cannot_be_written(hitless, tmp_path):
    """Bad input, like any file that cannot be written."""
    ended = hitless("check", *MUTANT, "--quiet", "--replay", tmp_path / "no" / "folder.py")
    assert ended.status == 2
    assert "cannot write" in ended.err


# -- processes, terminals, plugins


def test_a_broken_vendor_does_not_stop_the_others(install, hitless):
    """It is reported, the others are checked, and the status is 2; named, it is an error."""
    install("dist-broken", "broken_vendor", "raise OSError('no')\n", vendors={"broken": "broken_vendor:plugin"})
    ended = hitless("check", "--format", "amd/v1", "--scenario", "first-page", "--feature", "mode=4", "--json", "-")
    assert ended.status == 2
    assert [each["format"] for each in ended.json["results"]] == ["amd/v1"]
    assert "plugin 'broken' did not load" in ended.err
    named = hitless("check", "--vendor", "broken")
    assert (named.status, named.out) == (2, "")


def test_progress_on_a_terminal():
    """Standard error that is a terminal gets bars; standard output never gets an escape sequence."""
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "hitless.cli", "check", *ONE]
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100"}
    env.pop("NO_COLOR", None)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=slave, env=env) as process:
        os.close(slave)
        shown = b""
        with suppress(OSError):  # a pseudo-terminal ends with an error
            while part := os.read(master, 1 << 16):
                shown += part
        assert process.stdout is not None
        out = process.stdout.read()
    os.close(master)
    assert b"intel/second-stage, scenarios: " in shown
    assert b"checked" in shown
    assert b"\x1b" not in out


@pytest.mark.slow
def test_processes_find_the_same(hitless):
    """However many processes share the work, the JSON is the same."""
    chosen = ("check", "--vendor", "amd", "--scenario", "one-page-in-4k", "--scenario", "trusted-page", "--json", "-")
    one, two = (hitless(*chosen, "--jobs", jobs) for jobs in (1, 2))
    assert one.status == two.status == 0
    assert one.out == two.out


def test_help_imports_nothing_heavy():
    """``hitless --help`` names the command without importing the checker."""
    code = "import sys; from hitless.cli.main import cli; import click; print(cli.get_help(click.Context(cli))); "
    code += "print([name for name in sys.modules if name.startswith(('hitless.check', 'numpy'))])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "check " in out
    assert out.splitlines()[-1] == "[]"

"""``hitless run``."""

import gzip
import json
import os
import pty
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from hasty import hasty_config
from hitless import __version__
from hitless.cli import run_command
from hitless.run import LogCounts, Row, RunResult
from installed import NAMES, VENDORS

SHARE = "kvm_convert_memory start {:#x} size {:#x} private_to_shared"
PAGE = SHARE.format(0x40000000, 0x1000)
BBML0 = """
[guest]
memory = "4G"
backing = "separate"
[[domain]]
name = "old"
vendor = "arm_smmu"
features = { bbml = 0 }
"""


def test_the_short_log(hitless, short_log):
    """Every installed vendor runs it, nothing faults, and the table shows it in 80 columns."""
    ended = hitless("run", short_log)
    assert (ended.status, ended.err) == (0, "")
    lines = ended.out.splitlines()
    assert all(len(line) <= 80 for line in lines)
    header = next(line for line in lines if "amd" in line)
    assert [cell.strip() for cell in header.split("┃")[1:]] == VENDORS
    for name in ("conversions", "cuts", "stores", "commands", "pages invalidated", "waits", "near DMA"):
        assert any(line.startswith(name) for line in lines), name
    for name in ("neighbour faults", "misrouted", "stale"):
        (line,) = [line for line in lines if line.startswith(f"{name} ")]
        assert [cell.strip() for cell in line.split("│")[1:]] == ["0"] * len(VENDORS)


def test_json_on_standard_output_stands_alone(hitless, short_log):
    """With ``--json -`` standard output is one JSON document of schema run/1."""
    ended = hitless("run", short_log, "--json", "-")
    data = ended.json
    assert list(data)[:2] == ["hitless", "schema"]
    assert (data["hitless"], data["schema"]) == (__version__, "run/1")
    assert [row["domain"] for row in data["domains"]] == VENDORS
    log = data["log"]
    assert log["lines"] == len(short_log.read_bytes().splitlines())
    kinds = ("conversions", "unchanged", "outside", "cut_lines", "ignored_lines")
    assert log["lines"] == sum(log[kind] for kind in kinds)


def test_json_in_a_file(hitless, short_log, tmp_path):
    """The file is replaced as a whole, nothing is left beside it, and the table is shown all the same."""
    target = tmp_path / "result.json"
    target.write_text("old")
    ended = hitless("run", short_log, "--vendor", "amd", "--json", target)
    assert json.loads(target.read_text())["schema"] == "run/1"
    assert "neighbour DMA" in ended.out
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


@pytest.mark.parametrize("target", ["missing/result.json", "."])
def test_json_that_cannot_be_written_is_told_before_the_work(target, hitless, short_log, tmp_path, monkeypatch):
    """A folder that is not there, or one in place of a file, is status 2, and nothing has run."""
    monkeypatch.setattr(run_command, "run_log", None)
    ended = hitless("run", short_log, "--json", tmp_path / target)
    assert (ended.status, ended.out) == (2, "")
    assert "--json" in ended.err


def test_json_into_a_device(hitless, short_log):
    """What is no plain file is written to, and never replaced."""
    assert hitless("run", short_log, "--quiet", "--json", "/dev/null").status == 0
    assert not Path("/dev/null").is_file()


def test_the_same_seed_gives_the_same_json(hitless, short_log):
    """Twice the same run is the same JSON but for ``seconds``; another seed gives other DMA."""

    def run(seed: int):
        data = hitless("run", short_log, "--seed", seed, "--json", "-").json
        for row in data["domains"]:
            del row["seconds"]
        return data

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_vendors_are_chosen(hitless, short_log):
    """``--vendor`` may be repeated; each vendor is one domain, in the order given."""
    rows = hitless("run", short_log, "--vendor", "intel", "--vendor", "amd", "--json", "-").json["domains"]
    assert [row["vendor"] for row in rows] == ["intel", "amd"]


def test_an_unknown_vendor(hitless, short_log):
    """It is status 2, with those that exist."""
    ended = hitless("run", short_log, "--vendor", "adm")
    assert (ended.status, ended.out) == (2, "")
    assert "no vendor 'adm' is installed" in ended.err
    assert NAMES in ended.err
    assert f"again: hitless run {short_log} --vendor adm" in ended.err


@pytest.mark.parametrize("backing", ["in-place", "separate", "scattered"])
def test_backing(backing, hitless, short_log, write):
    """``--backing`` decides, with and without a configuration."""
    config = write('[guest]\nmemory = "4G"\nbacking = "separate"\n[[domain]]\nvendor = "amd"\n')
    for options in (("--vendor", "amd"), ("--config", config)):
        ended = hitless("run", short_log, *options, "--backing", backing, "--json", "-")
        assert ended.json["domains"][0]["backing"] == backing
    assert hitless("run", short_log, "--config", config, "--json", "-").json["domains"][0]["backing"] == "separate"


def test_memory_from_the_log(hitless, make_log):
    """Without a size the guest reaches to the highest converted address below 1 TiB, in whole GiB."""
    log = make_log(PAGE, SHARE.format(0x1_3FFF_F000, 0x1000), SHARE.format(0x3800_0000_0000, 0x1000))
    data = hitless("run", log, "--vendor", "amd", "--json", "-").json
    assert data["log"]["outside"] == 1
    leaves = data["domains"][0]["leaves"]
    assert leaves["1G"] * (1 << 30) + leaves["2M"] * (1 << 21) + leaves["4K"] * (1 << 12) == 5 << 30


def test_memory_that_the_log_does_not_tell(hitless, make_log):
    """A log of device pages alone does not say how large the guest is."""
    log = make_log(SHARE.format(0x3800_0000_0000, 0x1000))
    ended = hitless("run", log, "--vendor", "amd")
    assert (ended.status, ended.out) == (2, "")
    assert "--memory SIZE" in ended.err
    assert hitless("run", log, "--vendor", "amd", "--memory", "1G").status == 0


@pytest.mark.parametrize("size", ["0", "-1", "4097", "4Q", "32E", "9" * 5000, "[red]"])
def test_a_size_that_is_none(size, hitless, short_log):
    """It is a usage error."""
    ended = hitless("run", short_log, f"--memory={size}")
    assert (ended.status, ended.out) == (2, "")


def test_memory_contradicts_a_configuration(hitless, short_log, write):
    """``--memory`` beside ``--config`` is a usage error."""
    ended = hitless("run", short_log, "--config", write(BBML0), "--memory", "4G")
    assert ended.status == 2
    assert "--memory and --config" in ended.err


def test_a_vendor_of_a_configuration(hitless, short_log, write):
    """``--vendor`` selects among the domains of a configuration."""
    config = write('[guest]\nmemory = "4G"\n[[domain]]\nvendor = "amd"\n[[domain]]\nvendor = "intel"\n')
    rows = hitless("run", short_log, "--config", config, "--vendor", "intel", "--json", "-").json["domains"]
    assert [row["domain"] for row in rows] == ["intel"]
    ended = hitless("run", short_log, "--config", config, "--vendor", "arm_smmu")
    assert ended.status == 2
    assert "it has amd, intel" in ended.err


def test_a_configuration_with_three_mistakes(hitless, short_log, write):
    """All three are told, one a line, with their paths."""
    text = BBML0.replace('"4G"', "[]").replace("bbml = 0", "bbml = 7") + "merge = 1\n"
    ended = hitless("run", short_log, "--config", write(text))
    assert (ended.status, ended.out) == (2, "")
    for path in ("$.guest.memory", "$.domain[0].features.bbml", "$.domain[0].merge"):
        assert len([line for line in ended.err.splitlines() if line.endswith(f" @ {path}")]) == 1


def test_refusals_are_counted_and_allowed(hitless, short_log, write):
    """Arm at BBML 0 refuses what it cannot do: status 2, a count, a reason; ``--allow-break`` does it."""
    config = write(BBML0)
    refused = hitless("run", short_log, "--config", config, "--json", "-")
    assert refused.status == 2
    (row,) = refused.json["domains"]
    assert row["refused"]
    assert all(set(each) == {"reason", "count"} and each["count"] > 0 for each in row["refused"])
    assert "BBML" in refused.err.upper()
    assert refused.err.rstrip().splitlines()[-1] == f"  again: hitless run {short_log} --config {config} --json -"
    shown = hitless("run", short_log, "--config", config)
    assert f"refused {row['refused'][0]['reason']}" in shown.out
    allowed = hitless("run", short_log, "--config", config, "--allow-break", "--json", "-").json["domains"][0]
    assert allowed["refused"] == []
    assert allowed["cuts"] > 0


def test_strategies(hitless, short_log):
    """Both strategies stand side by side; refresh decides the status, unmap-remap does when it is alone."""
    both = ("--strategy", "refresh", "--strategy", "unmap-remap")
    options = ("run", short_log, "--backing", "separate", "--vendor", "amd")
    ended = hitless(*options, *both, "--json", "-")
    assert ended.status == 0
    rows = ended.json["domains"]
    assert [row["strategy"] for row in rows] == ["refresh", "unmap-remap"]
    assert rows[0]["neighbour_faults"] == 0
    assert rows[1]["neighbour_faults"] > 0
    alone = hitless(*options, "--strategy", "unmap-remap")
    assert alone.status == 1
    assert "amd (unmap-remap): broken: N1 neighbour_faults " in alone.err
    assert "again: hitless run" in alone.err


def test_limit_and_quiet(hitless, short_log):
    """``--limit`` stops early, ``--quiet`` shows nothing."""
    assert hitless("run", short_log, "--limit", "3", "--vendor", "amd", "--json", "-").json["log"]["conversions"] <= 3
    ended = hitless("run", short_log, "--quiet", "--vendor", "amd")
    assert (ended.status, ended.out, ended.err) == (0, "", "")
    assert hitless("run", short_log, "--limit", "0").status == 2


def test_eight_columns_are_two_tables(hitless, short_log, write):
    """At 80 columns up to four domains stand side by side, the others below."""
    text = '[guest]\nmemory = "4G"\n' + "".join(
        f'[[domain]]\nname = "domain-{number}"\nvendor = "amd"\n' for number in range(8)
    )
    ended = hitless("run", short_log, "--config", write(text), "--limit", "1")
    headers = [line for line in ended.out.splitlines() if "domain-" in line]
    assert [len(re.findall(r"domain-\d", line)) for line in headers] == [4, 4]
    assert all(len(line) <= 80 for line in ended.out.splitlines())


# -- what a run finds


def result(**told) -> RunResult:
    """A result with one row of which some things are told."""
    row = Row("d[red]\x1b", "amd", "amd/v1", {}, "in-place", "match", "memory", 1, "refresh", leaves={12: 1})
    for name, value in told.items():
        owner = row.dma if hasattr(row.dma, name) else row
        setattr(owner, name, value)
    return RunResult(LogCounts(lines=1, conversions=1, pages=1), [row], [], frozenset({"refresh"}))


@pytest.mark.parametrize(
    ("told", "status", "said"),
    [
        ({}, 0, ""),
        ({"neighbour_faults": 2}, 1, "N1 neighbour_faults 2"),
        ({"stale": 3}, 1, "F1 stale_after_refresh 3"),
        ({"machine_checks": 1}, 1, "C1 machine_checks 1"),
        ({"freed_table_reads": 1}, 1, "R1 freed_table_reads 1"),
        ({"refused": Counter({"x.why": 1})}, 2, ""),
        ({"refused": Counter({"x.why": 1}), "neighbour_misrouted": 1}, 1, "N2 neighbour_misrouted 1"),
        ({"fenced": ["iommu0"]}, 2, ""),
    ],
)
def test_what_decides_the_status(told, status, said, hitless, short_log, monkeypatch):
    """1 where a rule broke, 2 where something was refused or fenced; 1 goes before 2. Names are no markup."""
    monkeypatch.setattr(run_command, "run_log", lambda *_arguments, **_options: result(**told))
    ended = hitless("run", short_log)
    assert ended.status == status
    assert said in ended.err
    assert ("again: hitless run" in ended.err) == (status != 0)
    assert "d[red]\\x1b" in ended.out
    assert "\x1b" not in ended.out + ended.err


def test_huge_figures_keep_the_table_narrow(hitless, short_log, monkeypatch):
    """A command for a whole tag covers 2**52 pages: that is shown short."""
    found = result()
    found.rows[0].done.invalidated_pages = 1 << 52
    monkeypatch.setattr(run_command, "run_log", lambda *_arguments, **_options: found)
    assert "4.5e+15" in hitless("run", short_log).out


# -- bad input


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([b""], "is empty"),
        (["nothing to see"], "holds no conversion event"),
        ([b"\x7fELF\0\0\0"], "binary file"),
        (["kvm_convert_memory start x size 0x1000 private_to_shared", PAGE], "cannot be read"),
        (["kvm_convert_memory start 0x10 size 0x1000 private_to_shared", PAGE], "multiples of 4K"),
        ([b"\x1f\x8b\x08garbage"], "gzip"),
    ],
    ids=["empty", "no event", "binary", "unreadable", "unaligned", "bad gzip"],
)
def test_bad_logs(lines, said, hitless, make_log):
    """Each is status 2 with its reason, whether memory has to be found from the log or not."""
    log = make_log(*lines)
    for options in ((), ("--memory", "4G")):
        ended = hitless("run", log, "--vendor", "amd", *options)
        assert ended.status == 2
        assert said in ended.err
        assert "again: hitless run" in ended.err


def test_a_log_that_is_not_there(hitless, tmp_path):
    """A missing log, or a folder, is status 2."""
    for log in (tmp_path / "missing.log", tmp_path):
        ended = hitless("run", log)
        assert (ended.status, ended.out) == (2, "")
        assert "cannot read" in ended.err


def test_a_range_that_straddles_the_end_of_memory(hitless, make_log):
    """It ends the log with status 2; what came before stands and is reported."""
    log = make_log(PAGE, SHARE.format(0xFFFFF000, 0x2000))
    ended = hitless("run", log, "--memory", "4G", "--vendor", "amd", "--json", "-")
    assert ended.status == 2
    assert "straddles" in ended.err
    assert ended.json["log"]["conversions"] == 1


def test_markup_and_control_characters_in_a_log(hitless, make_log):
    """They come out as text: no colour, no cursor movement, nothing swallowed."""
    bad = b"[bold red]\x1b[31m[/] kvm_convert_memory start \x1b]0;t\x07 size 0x1000 private_to_shared\n"
    ended = hitless("run", make_log(PAGE, bad), "--memory", "4G", "--vendor", "amd")
    assert ended.status == 2
    assert "[bold red]\\x1b[31m[/] kvm_convert_memory" in ended.err
    assert not set(ended.out + ended.err) & {"\x1b", "\x07"}
    good = b"[bold red]\x1b[31m[/link] \xff noise\n"
    ended = hitless("run", make_log(good, PAGE), "--memory", "4G", "--vendor", "amd")
    assert (ended.status, ended.err) == (0, "")


def test_a_compressed_log(hitless, make_log, short_log):
    """A gzip file is read as it is, and a cut one to where it goes."""
    whole = gzip.compress(short_log.read_bytes())
    options = ("--vendor", "amd", "--memory", "4G", "--json", "-")
    plain = hitless("run", short_log, *options).json["log"]
    assert hitless("run", make_log(whole), *options).json["log"] == plain
    assert hitless("run", make_log(whole[:-400]), *options).json["log"]["cut_lines"] == 1


# -- plugins that do not load


def test_a_broken_vendor_does_not_stop_the_others(install, hitless, short_log):
    """It is reported with distribution and cause, the others run, and the status is 2."""
    install("dist-broken", "broken_vendor", "raise OSError('[red]\\x1b')\n", vendors={"broken": "broken_vendor:plugin"})
    ended = hitless("run", short_log, "--json", "-")
    assert ended.status == 2
    assert [row["vendor"] for row in ended.json["domains"]] == VENDORS
    assert "plugin 'broken' did not load" in ended.err
    assert "dist-broken 1.0" in ended.err
    assert "OSError: [red]\\x1b" in ended.err
    assert "again: hitless run" in ended.err
    named = hitless("run", short_log, "--vendor", "broken")
    assert (named.status, named.out) == (2, "")
    assert "OSError: [red]\\x1b" in named.err
    assert hitless("run", short_log, "--vendor", "amd").err == ""


# -- streams and terminals


def test_standard_input(short_log):
    """``-`` is read once, also where memory is found from it."""
    command = [sys.executable, "-m", "hitless.cli", "run", "-", "--vendor", "amd", "--json", "-"]
    with short_log.open("rb") as stream:
        done = subprocess.run(command, stdin=stream, capture_output=True, check=False)
    piped = subprocess.run(command, input=short_log.read_bytes(), capture_output=True, check=False)
    assert (done.returncode, piped.returncode) == (0, 0)
    first, second = json.loads(done.stdout), json.loads(piped.stdout)
    assert first["log"] == second["log"]
    assert first["log"]["conversions"] > 20


def test_a_named_pipe(short_log, tmp_path):
    """What can be opened only once is opened once."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    command = [sys.executable, "-m", "hitless.cli", "run", str(pipe), "--vendor", "amd", "--quiet"]
    running = subprocess.Popen(command)
    pipe.write_bytes(short_log.read_bytes())
    assert running.wait(timeout=60) == 0


def test_bars_only_on_a_terminal(make_log):
    """Standard error that is a terminal gets bars; standard output never gets an escape sequence."""
    away, back = PAGE, PAGE.replace("private_to_shared", "shared_to_private")
    log = make_log(*[away, back] * 100)
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "hitless.cli", "run", str(log), "--vendor", "amd"]
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100"}
    env.pop("NO_COLOR", None)
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=slave, env=env)
    os.close(slave)
    out, _ = running.communicate(timeout=60)
    shown = b""
    try:
        while part := os.read(master, 65536):
            shown += part
    except OSError:  # the end, as Linux tells it for a terminal
        pass
    os.close(master)
    assert running.returncode == 0
    assert b"amd (refresh)" in shown
    assert b"\x1b" in shown
    assert b"\x1b" not in out


def test_plans_of_a_log_are_checked(hitless, short_log, tmp_path):
    """``--check`` counts plans in table and JSON; a rule that breaks in one is told, with status 1."""
    right = hitless("run", short_log, "--vendor", "intel", "--check", "--limit", "4")
    assert (right.status, right.err) == (0, "")
    assert any(line.startswith("plans checked") and line.rstrip().endswith(" 3") for line in right.out.splitlines())
    assert "checked" not in hitless("run", short_log, "--vendor", "intel", "--limit", "4").out
    wrong = hitless("run", short_log, "--config", hasty_config(tmp_path), "--check=all", "--limit", "2")
    assert wrong.status == 1
    assert "  break  F" in wrong.err
    assert "F1 in checked plans" in wrong.err
    assert any(line.startswith("F1 in checked") for line in wrong.out.splitlines())


def test_the_word_behind_check_is_its_value(hitless, short_log):
    """The log cannot stand there: that is said, with what can."""
    ended = hitless("run", "--check", short_log)
    assert ended.status == 2
    assert "sampled" in ended.err
    assert "put the log before --check" in ended.err

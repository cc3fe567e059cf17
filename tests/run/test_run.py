"""Runs of whole logs: what the examples have to show, determinism, and bad input half way."""

import json
from pathlib import Path

import attrs
import pytest

from hitless.config import GuestConfig, check, default_config, load, open_registry
from hitless.plugin import PluginSource, hookimpl
from hitless.run import run_log

ROOT = Path(__file__).parents[2]
SHORT = ROOT / "examples" / "short.log"


def run(log, config="examples/short.toml", **options):
    """A log through an example configuration."""
    config = load(str(ROOT / config))
    registry = open_registry(config)
    check(config, registry)
    return run_log(config, registry, log, **options)


def without_seconds(result):
    """The JSON but for what differs from run to run."""
    data = result.as_json()
    for row in data["domains"]:
        del row["seconds"]
    return json.dumps(data)


def test_the_short_log_on_all_vendors():
    """Separate backing: nothing broke; cuts, invalidations and waits everywhere; the baseline faults neighbours."""
    result = run(SHORT, strategies=("refresh", "unmap-remap"))
    assert result.status == 0
    rows = [row for row in result.rows if row.strategy == "refresh"]
    assert [row.domain for row in rows] == ["amd", "intel", "arm-bbml1", "arm-bbml2"]
    for row in rows:
        assert not row.violations
        assert min(row.cuts, row.done.invalidations, row.done.waits) > 0
        assert row.dma.near >= 10 * row.cuts
        assert row.units == (2 if row.domain == "amd" else 1)
    assert all(row.dma.neighbour_faults for row in result.rows if row.strategy == "unmap-remap")


def test_every_line_is_counted_once():
    """conversions, unchanged, outside, cut and ignored lines make up the log."""
    log = run(SHORT).log
    assert log.lines == log.conversions + log.unchanged + log.outside + log.cut_lines + log.ignored_lines
    assert (log.unchanged, log.outside, log.cut_lines) == (1, 1, 1)


@pytest.mark.slow
def test_the_long_log_in_place():
    """The first conversions of the long log, in place: all zeros, and DMA near every cut that devices may see."""
    result = run(ROOT / "examples" / "guest-16g.log.gz", "examples/all-vendors.toml", limit=1500)
    assert result.status == 0
    for row in result.rows:
        assert not row.violations
        assert row.dma.near >= 10 * row.cuts


@pytest.mark.slow
def test_the_same_seed_gives_the_same_json_twice():
    """Everything but the seconds; another seed gives other DMA."""
    first, again, other = run(SHORT, seed=5), run(SHORT, seed=5), run(SHORT, seed=6)
    assert without_seconds(first) == without_seconds(again)
    assert without_seconds(first) != without_seconds(other)


@pytest.mark.slow
def test_processes_give_what_one_process_gives(monkeypatch):
    """Worlds share nothing: side by side they end as one after the other."""
    alone = run(SHORT)
    monkeypatch.setattr("hitless.run.runner._WORTH_PROCESSES", 0)
    assert without_seconds(run(SHORT)) == without_seconds(alone)


def test_the_baseline_alone_decides_the_status():
    """unmap-remap beside refresh is a comparison; alone it is judged."""
    assert run(SHORT, strategies=("unmap-remap",)).status == 1


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("kvm_convert_memory start 0x1000 size 0xZZ private_to_shared", "line 2"),
        ("kvm_convert_memory start 0xfffff000 size 0x2000 private_to_shared", "straddles"),
        ("kvm_convert_memory start 0x1800 size 0x1000 private_to_shared", "line 2"),
    ],
)
def test_a_bad_line_ends_the_run_and_what_was_done_stands(tmp_path, line, says):
    """Status 2, the line is named, and the conversion before it is reported."""
    log = tmp_path / "log"
    good = "kvm_convert_memory start 0x1000 size 0x1000 private_to_shared\n"
    log.write_text(good + line + "\n" + good.replace("0x1000 size", "0x5000 size"))
    result = run(log)
    assert result.status == 2
    assert all(says in problem for problem in result.problems)
    assert (result.log.conversions, result.log.pages) == (1, 1)


def test_a_line_that_is_not_of_the_guests_pages_ends_the_run(tmp_path):
    """A guest of 64K pages cannot convert 4K; what was done stands, and the line is named."""
    log = tmp_path / "a.log"
    line = "kvm_convert_memory start {} size {} private_to_shared\n"
    log.write_text(line.format("0x40000000", "0x10000") + line.format("0x40020000", "0x1000"))
    config = attrs.evolve(load(str(ROOT / "examples/short.toml")), guest=GuestConfig(memory=1 << 32, page_size=1 << 16))
    result = run_log(config, open_registry(config), log)
    assert result.status == 2
    assert result.log.conversions == 1
    assert any("not one of whole 64K pages" in problem and "line 2" in problem for problem in result.problems)


def test_out_of_table_memory_is_reported_and_the_rest_goes_on(tmp_path):
    """A conversion that finds no memory changes nothing; earlier and later ones stand; status 2."""
    config = tmp_path / "c.toml"
    config.write_text('[guest]\nmemory="4G"\n[[domain]]\nvendor="amd"\ntable_memory="16K"\n')
    log = tmp_path / "log"
    lines = [0x1000, 0x2000, 0x40000000, 0x3000]
    log.write_text("".join(f"kvm_convert_memory start {a:#x} size 0x1000 private_to_shared\n" for a in lines))
    loaded = load(str(config))
    result = run_log(loaded, open_registry(loaded), log)
    assert result.status == 2
    row = result.rows[0]
    assert dict(row.refused) == {"out-of-table-memory": 1}
    assert (result.log.conversions, result.log.pages) == (4, 3)
    assert not row.violations


def test_refusals_are_counted_by_reason():
    """Arm at BBML0: cuts are refused, the status is 2, nothing breaks."""
    registry = open_registry(None, ["arm_smmu"])
    config = default_config(registry, memory=4 << 30, backing="separate")
    config = attrs.evolve(config, domain=tuple(attrs.evolve(d, features={"bbml": 0}) for d in config.domain))
    result = run_log(config, registry, SHORT)
    assert result.status == 2
    assert set(result.rows[0].refused) == {"arm_smmu.bbml0-cut"}
    assert not result.rows[0].violations


def test_several_domains_on_one_guest(tmp_path):
    """With together = true there is one guest_memfd, all domains its notifiers, the same rows."""
    text = (ROOT / "examples" / "short.toml").read_text()
    text = text.replace('backing = "separate"', 'backing = "separate"\ntogether = true')
    path = tmp_path / "c.toml"
    path.write_text(text)
    config = load(str(path))
    registry = open_registry(config)
    check(config, registry)
    result = run_log(config, registry, SHORT)
    assert result.status == 0
    assert [row.domain for row in result.rows] == ["amd", "intel", "arm-bbml1", "arm-bbml2"]
    assert all(row.cuts for row in result.rows)


def test_an_observer_that_raises_is_named_and_nothing_is_lost():
    """The hook and its exception are told, status 2; the conversion before it stands and is reported."""

    class Watching:
        api = 1

        @hookimpl
        def conversion_done(self, record):
            raise RuntimeError("no more paper")

    registry = open_registry(None, ["amd"])
    registry.extensions["watching"] = PluginSource("watching", "w", "1", "w:w", Watching())
    config = default_config(registry, memory=4 << 30)
    config = attrs.evolve(config, domain=tuple(attrs.evolve(d, extensions=("watching",)) for d in config.domain))
    result = run_log(config, registry, SHORT)
    assert result.status == 2
    assert "conversion_done" in result.problems[0]
    assert "no more paper" in result.problems[0]
    assert result.rows[0].done.waits > 0

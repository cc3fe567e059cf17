"""What a run of the benchmarks leaves behind, and when it does not count."""

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from benchmarks.jobs import Refresh
from benchmarks.measure import Spread, in_turn
from benchmarks.single import CASES, TableJob
from benchmarks.stage import GUEST_PA, Stage
from benchmarks.validity import limit_ns, void

from benchmarks import memory, plot, results, run, suite

SMALL = [
    *("--gigabytes", "1", "--conversions", "40", "--mapped", "1", "--iovas", "50", "--curve-to", "100"),
    *("--checked", "20", "--samples", "3", "--repetitions", "3", "--seconds", "0", "--no-memory"),
]
JOBS = {
    "refresh": {"1G", "2M", "curve-100"},
    "refresh-tables": {"1G", "2M", "curve-100"},
    "refresh-one": {"1G", "2M", "split"},
    "map": {"4K", "2M", "1G"},
    "translate": {"mixed", "1G"},
    "audit": {"all"},
    "merge": {"all"},
    "check": {"1G"},
}


def made_up(**changes):
    """A row as the full-size refresh on AMD gives it: 100,000 conversions, C at 20 ms."""
    row = {
        "job": "refresh-tables",
        "format": "amd/v1",
        "case": "1G",
        "n": 100_000,
        "hitless_s": 0.021,
        "c_s": 0.020,
        "ratio": 1.05,
        "target": 1.2,
        "c_limit_ns": 400.0,
    }
    return row | changes


@pytest.fixture(scope="module")
def ran(c, tmp_path_factory):
    """A small run of everything on one vendor, and its folder."""
    into = tmp_path_factory.mktemp("bench")
    status = run.main(["--format", "amd/v1", "--into", str(into), *SMALL])
    return status, into


def test_the_rows_of_a_run(ran):
    """Every job and case is there, with items, seconds and ratios that fit together."""
    status, into = ran
    found = json.loads((into / "results.json").read_text(encoding="utf-8"))
    assert status == 0
    assert found["schema"] == "bench/1"
    assert {"cpu", "cores", "ramp_gb_s", "python", "numpy"} <= set(found["machine"])
    cases = {}
    for row in found["jobs"]:
        cases.setdefault(row["job"], set()).add(row["case"])
        assert row["format"] == "amd/v1"
        assert row["n"] >= 1
        assert row["hitless_s"] > 0
        assert "differences" not in row
        if row["job"] == "check":
            assert row["c_s"] is None
            assert row["ratio"] is None
        else:
            assert row["ratio"] == pytest.approx(row["hitless_s"] / row["c_s"])
    assert cases == JOBS


def test_the_plot_is_an_svg(ran):
    """It is well-formed, draws a dot for each ratio, and no text leaves the picture."""
    _, into = ran
    found = json.loads((into / "results.json").read_text(encoding="utf-8"))
    root = ET.fromstring((into / "results.svg").read_text(encoding="utf-8"))  # noqa: S314 - we wrote it
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    ratios = [row for row in found["jobs"] if row["ratio"] and not row["case"].startswith("curve-")]
    titles = list(root.iter("{http://www.w3.org/2000/svg}title"))
    assert len(titles) >= len(ratios) + 1
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    for text in root.iter("{http://www.w3.org/2000/svg}text"):
        assert 0 <= float(text.attrib["x"]) <= width
        assert 0 <= float(text.attrib["y"]) <= height


def test_a_plot_of_nothing():
    """A run of the checker alone has no ratios, and its plot is an empty one."""
    row = made_up(job="check", c_s=None, ratio=None)
    assert ET.fromstring(plot.drawn({"jobs": [row]})) is not None  # noqa: S314 - we wrote it


def test_which_limit_c_has():
    """By hand: 209 ns and a round of 65 ns, a third more, at twice the bandwidth half of it."""
    assert limit_ns("refresh-tables", "1G", 100_000, 1, 14.0) == pytest.approx(1.3 * (209 + 65))
    assert limit_ns("refresh", "1G", 100_000, 2, 28.0) == pytest.approx(1.3 * (209 + 130) / 2)
    assert limit_ns("refresh", "2M", 100_000, 1, 14.0) == pytest.approx(1.3 * (226 + 65))
    assert limit_ns("merge", "all", 31_200, 1, 14.0) == pytest.approx(1.3 * 245)
    assert limit_ns("refresh", "1G", 99_999, 1, 14.0) is None, "fewer items cost more each"
    assert limit_ns("refresh", "curve-1000", 1000, 1, 14.0) is None


def test_when_a_run_is_void():
    """C that is slower than its limit, and words that differ; not a slow hitless."""
    assert void([made_up(), made_up(hitless_s=9.0, ratio=450.0)]) == []
    (slow,) = void([made_up(), made_up(c_s=0.041)])
    assert "refresh-tables 1G on amd/v1: C takes 410.0 ns an item, 400.0 ns is the most" in slow
    (other,) = void([made_up(differences=["1 words, first at 0x1000"])])
    assert "differ: 1 words, first at 0x1000" in other
    assert void([made_up(c_limit_ns=None, c_s=99.0)]) == []


def test_words_that_differ_make_a_run_fail(c, monkeypatch, tmp_path, capsys):
    """A C that stores something else is noticed, said, and gives status 1."""
    refresh = Refresh.c

    def other(job):
        refresh(job)
        job.stage.spoil()

    monkeypatch.setattr(Refresh, "c", other)
    status = run.main(["refresh-tables", "--format", "amd/v1", "--into", str(tmp_path), *SMALL])
    assert status == 1
    assert "VOID refresh-tables 1G on amd/v1: hitless and C differ" in " ".join(capsys.readouterr().err.split())


def test_an_unknown_job(capsys):
    """It is refused with the ones that there are, and status 2."""
    with pytest.raises(SystemExit) as refused:
        run.main(["polish"])
    assert refused.value.code == 2
    assert "no such job: polish" in capsys.readouterr().err


def test_targets_of_single_conversions():
    """AMD's is a ratio; the others may take twice AMD's time, over their own base."""
    one = {"job": "refresh-one", "case": "1G", "n": 1, "target": None}
    rows = [
        one | {"format": "amd/v1", "hitless_s": 30e-6, "c_s": 5e-6},
        one | {"format": "intel/second-stage", "hitless_s": 70e-6, "c_s": 4e-6},
        one | {"format": "amd/v1", "case": "2M", "hitless_s": 30e-6, "c_s": 5e-6},
    ]
    results.aim(rows)
    assert [row["target"] for row in rows] == [8.0, pytest.approx(15.0), None]


def test_how_the_cost_of_a_conversion_grows():
    """By hand: 2 us among a thousand, 3 us among a million; a curve that ends earlier says nothing."""
    rows = [
        made_up(case="curve-1000", n=1000, hitless_s=2e-3),
        made_up(case="curve-1000000", n=1_000_000, hitless_s=3.0),
        made_up(format="intel/second-stage", case="curve-1000", n=1000, hitless_s=2e-3),
    ]
    assert results.growth(rows) == {("refresh-tables", "amd/v1"): pytest.approx(1.5)}


@pytest.mark.parametrize("side", ["hitless", "c"])
def test_peak_memory_is_of_a_process_of_its_own(c, side):
    """40 pages in a gigabyte are at most 41 tables; C needs little more, hitless what its arrays take."""
    command = [sys.executable, "-m", "benchmarks.memory", "refresh-tables", "amd/v1", "1G", side, "1", "40"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(memory.__file__).parents[1])
    assert 30 * 4096 <= int(done.stdout) <= 64 << 20


def test_the_spread():
    """Median and quartiles, by hand."""
    assert Spread([5.0, 1.0, 3.0, 2.0, 4.0]).median == 3.0
    assert Spread([5.0, 1.0, 3.0, 2.0, 4.0]).quartiles == (2.0, 4.0)
    assert Spread([2.0]).quartiles == (2.0, 2.0)


def test_both_sides_are_measured_in_turn(c):
    """At least three times each, whatever the budget, and the first pass does not count."""
    stage = Stage(c, "amd/v1", 1, 30, 1 << 25)
    calls = []

    class Counted(Refresh):
        def hitless(self):
            calls.append("hitless")
            super().hitless()

        def c(self):
            calls.append("c")
            super().c()

    found = in_turn(Counted(stage, "refresh", "1G", 5), 9, 0.0)
    assert len(found.hitless.values) == len(found.c.values) == 3
    assert calls == ["c", "hitless", "hitless", "c", "c", "hitless", "hitless", "c"]
    stage.close()


def test_the_base_of_single_conversions():
    """The bare table job leads the page to its new address, its neighbours where they led, in both cuts."""
    for leaf_lg2, left in ((30, 2), (21, 3)):
        job = TableJob(2, leaf_lg2, 4)
        iova = (1 << 30) + (9 << 21) + (7 << 12)
        assert job.translate(iova) == GUEST_PA + iova
        job.refresh(iova, 0x7777000)
        assert job.translate(iova) == 0x7777000
        for other in (iova - 4096, iova + 4096, iova + (1 << 21), (1 << 30) + 5, iova - (1 << 30)):
            assert job.translate(other) == GUEST_PA + other
        job.refresh(iova - 4096, 0x9999000)
        assert job.tables_left == left


def test_every_job_has_a_name():
    """What the command line takes is what the suite knows."""
    assert set(suite.NAMES) == {*JOBS, "curve"}
    assert set(CASES) == JOBS["refresh-one"]

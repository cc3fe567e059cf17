"""Plans of a log, checked as they are prepared."""

import pytest

from hasty import hasty_config
from hitless.config import default_config, load_checked, open_registry
from hitless.run import run_log
from hitless.run.plans import plan_conversions
from hitless.units import Range

M = 1 << 20


def run_of(vendor, log, **options):
    """A run of one vendor on a small guest; its row and the result."""
    registry = open_registry(None, [vendor])
    config = default_config(registry, memory=1 << 30, backing="separate")
    result = run_log(config, registry, log, **options)
    return result.rows[0], result


@pytest.fixture
def log(tmp_path):
    """120 single pages turn shared, one after the other."""
    path = tmp_path / "pages.log"
    line = "kvm_convert_memory start {:#x} size 0x1000 private_to_shared\n"
    path.write_text("".join(line.format(n * 0x3000) for n in range(120)))
    return path


@pytest.mark.parametrize(("check", "count"), [("none", 0), ("sampled", 52), ("all", 120)])
def test_how_many_plans_are_checked(log, check, count):
    """Sampled are the first 50 and then every 50th (the 51st and the 101st); none break a rule."""
    row, result = run_of("intel", log, check=check)
    assert (row.checked, dict(row.check_violations), row.story, result.status) == (count, {}, "", 0)
    assert row.as_json()["checked"] == count
    assert row.as_json()["check_violations"] == {}


@pytest.mark.parametrize("vendor", ["amd", "arm_smmu", "intel"])
def test_checking_changes_nothing_else(vendor):
    """The same figures with and without: a check reads, and draws no random number."""
    both = [run_of(vendor, "examples/short.log", check=check, limit=12)[0].as_json() for check in ("none", "all")]
    for each in both:
        del each["seconds"], each["checked"]
    assert both[0] == both[1]


def test_plans_are_checked_as_they_stand_on_what_was_done_before(tmp_path):
    """A page goes and comes back: cut, replaced and replaced again, on the tables that the plans before left."""
    path = tmp_path / "back.log"
    line = "kvm_convert_memory start 0x5000 size 0x1000 {}\n"
    path.write_text("".join(line.format(kind) for kind in ["private_to_shared", "shared_to_private"] * 3))
    row, result = run_of("amd", path, check="all")
    assert (row.checked, result.status, row.cuts) == (6, 0, 1)


def test_a_mistake_is_counted_and_told(tmp_path):
    """What breaks in checked plans is counted by rule, decides the status, and the first one is told."""
    config, registry = load_checked(hasty_config(tmp_path))
    result = run_log(config, registry, "examples/short.log", check="sampled", limit=5)
    row = result.rows[0]
    assert result.status == 1
    assert row.checked == 4  # one line of the five changes nothing
    assert set(row.check_violations) == {"F1", "F2"}
    assert row.violations["F1 in checked plans"] == row.check_violations["F1"] > 0
    assert row.story.startswith("amd/v1, [0x40000000, 0x40400000) to shared: ")
    assert "\n  break  " in row.story


def test_a_plan_by_itself(tmp_path):
    """``plan`` checks what it prints; a plan that nothing is wrong with has an empty report."""
    registry = open_registry(None, ["amd"])
    config = default_config(registry, memory=1 << 30, backing="separate")
    asked = [(Range(4 * M, 4 * M + 4096), "shared"), (Range(4 * M, 4 * M + 4096), "private")]
    for planned in plan_conversions(config, registry, asked, check=True):
        assert planned.report.violations == []
        assert planned.report.steps == len(list(planned.plan.steps())) >= 5
    assert [each.report for each in plan_conversions(config, registry, asked)] == [None, None]
    wrong, loaded = load_checked(hasty_config(tmp_path))
    (planned,) = plan_conversions(wrong, loaded, asked[:1], check=True)
    assert planned.report.counts["F1"] == 1
    assert "F1 is broken" in planned.story or "F2 is broken" in planned.story

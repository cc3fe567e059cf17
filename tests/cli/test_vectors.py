"""``hitless vectors``: the report, exit statuses, bad input."""

import json
from pathlib import Path

RECORDINGS = Path(__file__).parents[1] / "vectors" / "recordings"


def test_the_report_as_json(hitless):
    """One row per file with all counts as numbers; status 0 when every word is as recorded."""
    found = hitless("vectors", "verify", RECORDINGS, "--json", "-")
    assert found.status == 0
    data = found.json
    assert data["schema"] == "vectors/1"
    assert "flips" not in data
    rows = {row["file"]: row for row in data["files"]}
    assert list(rows) == sorted(path.name for path in RECORDINGS.glob("*.json"))
    row = rows["x86_64.json"]
    assert {key: row[key] for key in ("fmt", "cases", "passed", "failed")} == {
        "fmt": "x86_64",
        "cases": 4,
        "passed": 3,
        "failed": 0,
    }
    assert [each["case"] for each in row["skipped"]] == ["quirk_noncanonical_alias"]
    assert row["skipped"][0]["reason"]
    assert row["entries"] == 33
    assert rows["arm_s1.json"]["differences"][0]["justified"]
    for each in rows.values():
        assert list(each) == ["file", "fmt", "cases", "passed", "failed", "skipped", "entries", "differences"]
        assert all(type(each[key]) is int for key in ("cases", "passed", "failed", "entries"))


def test_the_report_as_a_table(hitless):
    """Files with their counts, what was skipped and why, flips."""
    found = hitless("vectors", "verify", RECORDINGS, "--flip", "200")
    assert found.status == 0
    assert "amdv1_flex.json" in found.out
    assert "quirk_noncanonical_alias: skipped" in found.out
    assert "200 bits flipped" in found.out
    assert "0 missed" in found.out


def test_only_one_vendor(hitless):
    """Files and configurations of the others are skipped, not failed."""
    data = hitless("vectors", "verify", RECORDINGS, "--vendor", "intel", "--json", "-").json
    rows = {row["file"]: row for row in data["files"]}
    assert rows["vtdss.json"]["passed"] == 3
    assert rows["amdv1.json"]["passed"] == 0
    assert len(rows["amdv1.json"]["skipped"]) == 3
    assert all(row["failed"] == 0 for row in rows.values())


def test_flips_in_json(hitless):
    """Counted, with those that were missed; a seed repeats them."""
    first, second = (
        hitless("vectors", "verify", RECORDINGS, "--flip", "100", "--seed", "3", "--json", "-").json for _ in range(2)
    )
    assert first == second
    flips = first["flips"]
    assert flips["changed"] == 100 == flips["reported"] + flips["ignored"]
    assert flips["missed"] == []


def test_a_difference_is_status_1_and_told(hitless, tmp_path):
    """With the case, the place, both words and the fields."""
    raw = json.loads((RECORDINGS / "amdv1.json").read_text())
    (dirty,) = [case for case in raw["cases"] if case["name"] == "dirty"]
    dirty["dumps"][0]["runs"][2]["raw"] = "0x7000000000011041"
    (tmp_path / "amdv1.json").write_text(json.dumps(raw))
    found = hitless("vectors", "verify", tmp_path)
    assert found.status == 1
    assert "recorded 0x7000000000011041, ours 0x7000000000010041; address differ" in " ".join(found.out.split())


def test_bad_input_is_status_2(hitless, tmp_path):
    """No folder, no file, no recording, no such vendor or format, no place to write to."""
    (tmp_path / "bad.json").write_text('{"fmt": "amdv1"}')
    for arguments in (
        ("verify", tmp_path / "no"),
        ("verify", tmp_path),
        ("verify", RECORDINGS, "--vendor", "nobody"),
        ("verify", RECORDINGS, "--flip", "-1"),
        ("make", "--format", "amd/v9", "-o", tmp_path / "x.json"),
        ("make", "--format", "nobody/v1", "-o", tmp_path / "x.json"),
        ("make", "--format", "amd/v1", "-o", tmp_path / "no" / "x.json"),
        ("make", "-o", tmp_path / "x.json"),
    ):
        found = hitless("vectors", *arguments)
        assert found.status == 2, arguments
        assert "bug" not in found.err


def test_making_vectors(hitless, tmp_path):
    """JSON and a C header side by side, whichever of the two names was given; they verify."""
    for name in ("one.json", "two.h"):
        assert hitless("vectors", "make", "--format", "amd/v2", "-o", tmp_path / name).status == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.h", "one.json", "two.h", "two.json"]
    assert (tmp_path / "one.h").read_text().startswith("/* hitless")
    assert hitless("vectors", "verify", tmp_path).status == 0

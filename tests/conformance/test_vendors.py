"""The vendors of this repository under the kit's smoke suite; `make kit` runs the full one."""

import json
import subprocess
import sys

import pytest


@pytest.mark.slow
@pytest.mark.parametrize("vendor", ["amd", "arm_smmu", "intel"])
def test_a_vendor_passes(tmp_path, vendor):
    """From an empty folder, without a gap: nothing fails, and every family of rules has rows that pass."""
    report = tmp_path / "kit.json"
    options = ["--iommu", vendor, "--iommu-suite", "smoke", "--iommu-report", str(report)]
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--pyargs",
        "hitless.conformance",
        *options,
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    data = json.loads(report.read_text(encoding="utf-8"))
    assert data["gaps"] == []
    passed = {row["rule"].rstrip("0123456789") for row in data["results"] if row["outcome"] == "passed"}
    assert passed >= {"N", "C", "F", "FMT", "CMD", "EVT", "STR", "MAP", "OWN", "MUT", "HOOK", "BAD"}
    assert not [row for row in data["results"] if row["outcome"] in ("failed", "xfailed")]

"""Vectors of our own: the same each time, verified by the same door as recorded ones, and C that compiles."""

import json
import re
import shutil
import subprocess

import pytest

from hitless.config import open_registry
from hitless.errors import BadInput
from hitless.vectors import c_header, formats_of, make, read_recording, verify

FORMATS = (
    "amd/v1",
    "amd/v2",
    "intel/second-stage",
    "intel/first-stage",
    "arm_smmu/stage1",
    "arm_smmu/stage2",
)


@pytest.fixture(scope="module")
def registry():
    """The in-tree vendors."""
    return open_registry(None, ["amd", "arm_smmu", "intel"])


@pytest.fixture(scope="module")
def made(registry):
    """Vectors of every format."""
    return {name: make(registry.resolve(name.partition("/")[0], name).page_format) for name in FORMATS}


@pytest.mark.parametrize("name", FORMATS)
def test_our_own_vectors_are_verified_like_recorded_ones(name, made, registry, tmp_path):
    """Every case passes; each kind of operation, every plain leaf size, and failing maps are in it."""
    path = tmp_path / "made.json"
    path.write_text(json.dumps(made[name]))
    found = verify(read_recording(path), formats_of(registry))
    assert (found.passed, found.failed, found.skipped) == (5, 0, []), found.differences[:3]
    ops = [op for case in made[name]["cases"] for op in case["ops"]]
    assert {op["op"] for op in ops} == {"map", "unmap", "phys"}
    assert {op["ret"] for op in ops if op["op"] == "map"} == {0, -22}
    sizes = {run["lg2"] for run in made[name]["cases"][0]["dumps"][0]["runs"] if run["k"] == "leaf"}
    fmt = registry.resolve(name.partition("/")[0], name).page_format
    assert {size.lg2 for size in fmt.leaf_sizes if size.lg2 <= 30} <= sizes


def test_the_same_format_gives_the_same_vectors(made, registry):
    """Nothing is drawn that is not seeded."""
    assert make(registry.resolve("amd", "amd/v1").page_format) == made["amd/v1"]


def test_a_word_that_another_hand_can_check(made):
    """The 8K run of AMD's `sizes`: [8K, 16K) leads to 24K, both copies 0x7000000000006E01 but for FC."""
    runs = made["amd/v1"]["cases"][0]["dumps"][0]["runs"]
    (run,) = [run for run in runs if run.get("lg2") == 13]
    assert (run["n"], run["iova"], run["oa"], run["contig"]) == (2, "0x2000", "0x6000", 1)
    assert int(run["raw"], 16) & ~(7 << 60) == 0x6E01


@pytest.mark.parametrize("name", FORMATS)
def test_the_header_holds_every_operation_and_run(name, made):
    """One row each, with the same numbers; `after_op` counts the operations of the header."""
    text = c_header(made[name])
    for case in made[name]["cases"]:
        head = rf"hitless_\w+_{case['name']}"
        ops = re.search(rf"struct hitless_op {head}_ops\[\] = {{\n(.*?)}};", text, re.DOTALL)[1].splitlines()
        words = re.search(rf"struct hitless_words {head}_words\[\] = {{\n(.*?)}};", text, re.DOTALL)[1].splitlines()
        assert len(ops) == sum(op["op"] != "phys" for op in case["ops"])
        runs = [run for dump in case["dumps"] for run in dump["runs"]]
        assert len(words) == len(runs)
        assert words[-1].split(",")[0].strip("\t {") == str(len(ops))
        for line, run in zip(words, runs, strict=True):
            assert f"{run['iova']}ull, {run['raw']}ull, {run['inc']}ull" in line


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler is installed")
@pytest.mark.parametrize("name", FORMATS)
def test_the_header_compiles(name, made, tmp_path):
    """As C99, without a warning, and its numbers arrive."""
    (tmp_path / "made.h").write_text(c_header(made[name]))
    prefix = "hitless_" + made[name]["fmt"]
    (tmp_path / "main.c").write_text(
        f'#include "made.h"\nint main(void) {{ return {prefix}_sizes_ops[0].size != {prefix}_sizes_ops[0].iova; }}\n'
    )
    flags = [
        "-std=c99",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-pedantic",
        "-Wno-unused-const-variable",
        "-Wno-unused-variable",
    ]
    subprocess.run(["cc", *flags, "-o", "main", "main.c"], cwd=tmp_path, check=True)
    assert subprocess.run([tmp_path / "main"], check=False).returncode == 0


def test_a_format_that_answers_no_recordings_cannot_be_made(registry):
    """It says which functions it lacks."""
    fmt = registry.resolve("amd", "amd/v1").page_format

    class Silent(type(fmt)):
        recorded_as = ()

    with pytest.raises(BadInput, match="answers no recordings"):
        make(Silent())

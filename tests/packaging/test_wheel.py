"""The wheel: what is in it, what is not, and that vendors load from it when the sources are out of reach."""

import configparser
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "hitless": ROOT / "core",
    "hitless_amd": ROOT / "plugins" / "amd",
    "hitless_intel": ROOT / "plugins" / "intel",
    "hitless_arm_smmu": ROOT / "plugins" / "arm_smmu",
}
VENDORS = {"amd": "hitless_amd", "intel": "hitless_intel", "arm_smmu": "hitless_arm_smmu"}

pytestmark = pytest.mark.fresh


def build(kind: str, source: Path, into: Path) -> Path:
    """Build a wheel or an sdist, with this environment's backend and no network."""
    command = [sys.executable, "-m", "build", f"--{kind}", "--no-isolation", "--outdir", str(into)]
    done = subprocess.run([*command, str(source)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (made,) = into.iterdir()
    return made


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel of this tree."""
    return build("wheel", ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def names(wheel) -> set[str]:
    """The files in the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def info(names) -> str:
    """The name of the wheel's dist-info folder."""
    (folder,) = {name.split("/")[0] for name in names if ".dist-info/" in name}
    return folder


def source_files(package: str) -> set[str]:
    """The files of a package's source tree, as their names should stand in the wheel."""
    root = PACKAGES[package]
    found = [path.relative_to(root) for path in (root / package).rglob("*") if path.is_file()]
    return {path.as_posix() for path in found if "__pycache__" not in path.parts}


@pytest.mark.parametrize("package", PACKAGES)
def test_every_source_file_is_in_the_wheel(package, names):
    """Nothing is lost on the way: an ignore rule that matches a source folder would do that silently."""
    sources = source_files(package)
    assert f"{package}/__init__.py" in sources
    assert sources <= names


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_is_marked_as_typed(package, names):
    """Type checkers of strangers read the annotations: each package carries py.typed."""
    assert f"{package}/py.typed" in names


def test_the_wheel_holds_nothing_else(names, info):
    """No tests, documentation, examples or caches: the four packages and the metadata."""
    assert {name.split("/")[0] for name in names} == {*PACKAGES, info}
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc")]


def test_the_entry_points(wheel, info):
    """The vendors come through the same door as strangers, and the command is there."""
    with zipfile.ZipFile(wheel) as archive:
        parser = configparser.ConfigParser()
        parser.read_string(archive.read(f"{info}/entry_points.txt").decode())
    assert dict(parser["hitless.vendors"]) == {name: f"{package}:plugin" for name, package in VENDORS.items()}
    assert dict(parser["console_scripts"]) == {"hitless": "hitless.cli:main"}


def test_the_licence(wheel, names, info):
    """The licence's text is in the wheel and its name in the metadata."""
    assert f"{info}/licenses/LICENSE" in names
    with zipfile.ZipFile(wheel) as archive:
        assert "License-Expression: Apache-2.0" in archive.read(f"{info}/METADATA").decode()


def test_the_sdist_builds_the_same_wheel(names, tmp_path):
    """The sdist carries all that the wheel is made of, and tests, documentation and tasks besides."""
    sdist = build("sdist", ROOT, tmp_path / "sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    (tree,) = (tmp_path / "unpacked").iterdir()
    for expected in ("tests/conftest.py", "docs/README.md", "Makefile", ".ci/run", "LICENSE"):
        assert (tree / expected).is_file(), expected
    with zipfile.ZipFile(build("wheel", tree, tmp_path / "again")) as archive:
        assert set(archive.namelist()) == names


# -- the plugin door, from the wheel alone ---------------------------------------------------------


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> dict[str, str]:
    """The environment of a Python that sees the wheel and its dependencies, and not this tree.

    The dependencies are links to those of this environment; its own hitless, and the path files that lead an
    editable install back to the sources, are left out. Python runs with ``-S``: no path file is read.
    """
    place = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-compile"]
    subprocess.run([*command, "--target", str(place / "wheel"), str(wheel)], check=True)
    dependencies = place / "dependencies"
    dependencies.mkdir()
    for key in ("purelib", "platlib"):
        for entry in Path(sysconfig.get_path(key)).iterdir():
            ours = "hitless" in entry.name.lower() or entry.suffix == ".pth"
            if not ours and not (dependencies / entry.name).exists():
                (dependencies / entry.name).symlink_to(entry)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "HITLESS"))}
    path = os.pathsep.join([str(place / "wheel"), str(dependencies)])
    return {**kept, "PYTHONPATH": path, "PYTHONSAFEPATH": "1", "COLUMNS": "200", "NO_COLOR": "1"}


def python(environment: dict[str, str], cwd: Path, source: str, *arguments: str) -> str:
    """Run a program in that environment, away from the repository; its output."""
    command = [sys.executable, "-S", "-c", source, *arguments]
    done = subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_only_the_wheel_is_seen(installed, tmp_path):
    """The environment really hides the sources: every package comes from the wheel's folder."""
    source = "import importlib, sys\nfor n in sys.argv[1:]: print(importlib.import_module(n).__file__)"
    wheel = installed["PYTHONPATH"].split(os.pathsep)[0]
    printed = python(installed, tmp_path, source, *PACKAGES).splitlines()
    assert len(printed) == len(PACKAGES)
    assert all(line.startswith(wheel) for line in printed), printed


def test_the_entry_points_load_from_the_wheel(installed, tmp_path):
    """Each entry leads to an object with ``api = 1``, as it does for a stranger's distribution."""
    source = (
        "from importlib.metadata import entry_points\n"
        "for e in entry_points(group='hitless.vendors'): print(e.name, e.dist.name, e.load().api)"
    )
    printed = sorted(python(installed, tmp_path, source).splitlines())
    assert printed == [f"{vendor} hitless 1" for vendor in sorted(VENDORS)]


def test_hitless_vendors_lists_the_three(installed, tmp_path):
    """The command that the wheel installs finds the three vendors in it, and nothing broken."""
    source = "import sys; sys.argv[0] = 'hitless'; from hitless.cli import main; sys.exit(main())"
    printed = python(installed, tmp_path, source, "vendors")
    for vendor in VENDORS:
        assert vendor in printed
    assert shutil.which("hitless", path=str(Path(installed["PYTHONPATH"].split(os.pathsep)[0]) / "bin"))


@pytest.mark.parametrize("vendor", VENDORS)
def test_the_kit_runs_from_the_wheel(installed, tmp_path, vendor):
    """The kit is found by pytest: its options its tests, and the vendor's spec words, in what the wheel installs."""
    source = (
        "import sys, pytest\n"
        "sys.exit(pytest.main(['-q', '-p', 'no:cacheprovider', '--pyargs', 'hitless.conformance', '-k', 'FMT2 or CMD1',"
        " '--iommu-suite', 'smoke', '--iommu', sys.argv[1]]))"
    )
    printed = python(installed, tmp_path, source, vendor)
    assert f"conformance of {vendor}" in printed
    assert "CMD1" in printed


def test_new_vendor_writes_from_the_wheel(installed, tmp_path):
    """The starter is in the wheel."""
    source = "import sys; sys.argv[0] = 'hitless'; from hitless.cli import main; sys.exit(main())"
    python(installed, tmp_path, source, "new-vendor", "zeta")
    assert (tmp_path / "hitless-zeta" / "hitless_zeta" / "spec_words.toml").exists()


# -- a stranger's distribution beside it


EXAMPLE = ROOT / "examples" / "hitless-riscv"


@pytest.fixture(scope="module")
def stranger(tmp_path_factory) -> Path:
    """The wheel of the example."""
    return build("wheel", EXAMPLE, tmp_path_factory.mktemp("stranger"))


def test_a_strangers_wheel_is_whole(stranger):
    """All of its package, its words and its types, and nothing of hitless."""
    sources = {f"hitless_riscv/{path.name}" for path in (EXAMPLE / "hitless_riscv").iterdir() if path.is_file()}
    with zipfile.ZipFile(stranger) as archive:
        held = set(archive.namelist())
    assert sources <= held
    assert {"hitless_riscv/py.typed", "hitless_riscv/spec_words.toml"} <= sources
    assert {name.split("/")[0] for name in held} == {"hitless_riscv", "hitless_riscv-0.1.0.dist-info"}


def test_a_strangers_wheel_works_beside_ours(installed, stranger, tmp_path):
    """Installed from its wheel, away from the sources, its vendor is found and answers."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-compile"]
    subprocess.run([*command, "--target", str(tmp_path / "site"), str(stranger)], check=True)
    path = os.pathsep.join([installed["PYTHONPATH"], str(tmp_path / "site")])
    source = "import sys; sys.argv[0] = 'hitless'; from hitless.cli import main; sys.exit(main())"
    environment = {**installed, "PYTHONPATH": path}
    assert "hitless-riscv 0.1.0 (hitless_riscv:plugin)" in python(environment, tmp_path, source, "vendors")
    word = "0x80000000400060D7"
    assert "leaf 64K -> 0x100010000 RW" in python(environment, tmp_path, source, "explain", "riscv/stage1", word)

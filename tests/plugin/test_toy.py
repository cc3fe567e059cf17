"""A stranger's plugin: the toy of tests/third_party, built, installed and run by public names alone."""

import ast
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hitless.errors import PluginError
from hitless.plugin import VendorRegistry
from public_names import PUBLIC_WITHOUT_ALL

TOY = Path(__file__).parents[1] / "third_party" / "hitless-toy"
NESTED = TOY.with_name("hitless-toy-nested")
BUDGET = 150
LOG = """\
1@1.0:kvm_convert_memory start 0x200000 size 0x1000 private_to_shared
1@2.0:kvm_convert_memory start 0x400000 size 0x400000 private_to_shared
1@3.0:kvm_convert_memory start 0x480000 size 0x2000 shared_to_private
1@4.0:kvm_convert_memory start 0x3ffff000 size 0x1000 private_to_shared
1@5.0:kvm_convert_memory start 0x480000 size 0x2000 private_to_shared
1@6.0:kvm_convert_memory start 0x200000 size 0x1000 shared_to_private
"""
TWO_UNITS = """
[guest]
memory = "4G"
backing = "separate"
[[vendor]]
name = "toy"
plugin = "hitless_toy:plugin"
path = "{path}"
[[domain]]
vendor = "toy"
merge = "at_once"
units = ["one", "two"]
[[unit]]
name = "one"
vendor = "toy"
device = [{{ id = 8 }}, {{ id = 16, ats = true }}]
[[unit]]
name = "two"
vendor = "toy"
device = [{{ id = 24, ats = true }}]
"""
WITH_EXTENSION = """
[guest]
memory = "2G"
backing = "separate"
[[domain]]
name = "plain"
vendor = "amd"
[[domain]]
name = "extended"
vendor = "amd"
extensions = ["toy-amd"]
"""


@pytest.fixture
def log(tmp_path) -> Path:
    """Single pages and a whole 4M leaf that turn shared, parts that come back, the last page of a GiB."""
    path = tmp_path / "guest.log"
    path.write_text(LOG, encoding="utf-8")
    return path


@pytest.fixture
def development(monkeypatch):
    """Whatever a test imports from a folder is forgotten again."""
    monkeypatch.setattr(sys, "path", sys.path[:])
    yield
    sys.modules.pop("hitless_toy", None)


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder with the toy installed from a wheel of its own, without a network."""
    base = tmp_path_factory.mktemp("toy")
    for command in (
        ["build", "--wheel", "--no-isolation", "--outdir", str(base / "wheel"), str(TOY)],
        ["pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(base / "site"), str(base / "wheel")],
    ):
        if command[0] == "pip":
            (command[-1],) = map(str, (base / "wheel").iterdir())
        done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return base / "site"


def hitless(*arguments, path: Path | None = None):
    """The command line in a process of its own; what its JSON said."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if path is not None:
        env["PYTHONPATH"] = str(path)
    command = [sys.executable, "-m", "hitless.cli", *map(str, arguments), "--json", "-"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def assert_hitless(row):
    """No DMA was disturbed or went astray, and there was something to disturb."""
    zero = ("neighbour_faults", "neighbour_misrouted", "stale_after_refresh")
    assert {name: row[name] for name in zero} == dict.fromkeys(zero, 0)
    assert row["cuts"] > 0
    assert row["invalidations"] > 0
    assert row["near_dma"] > 0
    assert row["refused"] == []


# -- what the plugin is


def test_a_vendor_fits_in_150_lines():
    """The whole Python of the distribution, blank lines and all, stays within the budget."""
    lines = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in TOY.rglob("*.py")}
    assert lines
    assert sum(lines.values()) <= BUDGET, lines


@pytest.mark.parametrize("source", [TOY / "hitless_toy.py", NESTED / "hitless_toy_nested.py"])
def test_a_vendor_needs_public_names_only(source):
    """Each import from hitless names something in ``__all__``, or in tests/public_names.py."""
    tree = ast.parse(source.read_text(encoding="utf-8"))
    plain = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    assert not [name for name in plain if name.split(".")[0].startswith("hitless")]
    checked = 0
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "hitless":
            module = importlib.import_module(node.module)
            public = PUBLIC_WITHOUT_ALL.get(node.module) or set(module.__all__)
            private = {alias.name for alias in node.names} - public
            assert not private, f"{node.module} does not offer {sorted(private)}"
            checked += len(node.names)
    assert checked > 15


# -- under development: loaded from a folder, nothing is built


def test_a_vendor_under_development_loads_from_a_folder(development):
    """``module:object`` and a path are enough; the record says that nobody shipped it."""
    registry = VendorRegistry([])
    registry.add_object("toy", "hitless_toy:plugin", path=TOY)
    vendor = registry.resolve("toy")
    assert vendor.page_format.name == "toy/flat"
    assert (vendor.page_format.iova_bits, vendor.page_format.leaf_lg2s) == (32, (12, 22))
    assert set(vendor.origins.values()) == {"under development (hitless_toy:plugin)"}


def test_its_features_reach_its_strategies(development):
    """A feature that is switched off takes the large leaves away."""
    registry = VendorRegistry([])
    registry.add_object("toy", "hitless_toy:plugin", path=TOY)
    assert registry.resolve("toy").split_rules.leaf_lg2s == (12, 22)
    assert registry.resolve("toy", features={"large": False}).split_rules.leaf_lg2s == (12,)


def test_its_words_are_what_its_documentation_says(development):
    """An entry, a command of each kind and a refused one, against words written by hand."""
    registry = VendorRegistry([])
    registry.add_object("toy", "hitless_toy:plugin", path=TOY)
    vendor = registry.resolve("toy")
    assert vendor.page_format.leaf(12, 0x1234_5000, vendor.page_format.default_attrs(3)) == 0x1234_500F
    assert vendor.page_format.table(1, 0x8000) == 0x800D
    (drop,) = vendor.commands.decode((0x1100_0100_4000_0400, 0))
    assert (drop.tag, drop.device, drop.tables, drop.first, drop.last) == (1, None, True, 0x40_0000, 0x40_0FFF)
    (wait,) = vendor.commands.decode((0x2000_0000_0000_1000, 7))
    assert (wait.store_pa, wait.value) == (0x1000, 7)
    for refused in ((0x3000_0000_0000_0000, 0), (0x1400_0000_0000_0000, 0)):
        assert [type(effect).__name__ for effect in vendor.commands.decode(refused)] == ["Illegal"]


def test_it_breaks_before_it_makes(development):
    """A new address in a live entry takes two stores, 0 first; a cut takes one."""
    registry = VendorRegistry([])
    registry.add_object("toy", "hitless_toy:plugin", path=TOY)
    recipes = registry.resolve("toy").recipes
    assert [each.word(0x500F, 0x900F) for each in recipes.replace.rounds] == [0, 0x900F]
    assert [each.word(0x500F, 0x900D) for each in recipes.cut.rounds] == [0x900D]


def test_a_vendor_that_is_not_there_is_an_error_that_names_it(development):
    """A wrong folder or object: the error names the entry and the cause."""
    with pytest.raises(PluginError, match="toy") as raised:
        VendorRegistry([]).add_object("toy", "hitless_toy_of_nobody:plugin", path=TOY)
    assert "hitless_toy_of_nobody:plugin" in raised.value.where
    assert "ModuleNotFoundError" in raised.value.why


def test_two_units_with_device_caches_see_nothing_of_its_conversions(tmp_path, log):
    """Refresh on two units, ATC on: all zeros, merged again; the baseline beside it disturbs neighbours."""
    config = tmp_path / "toy.toml"
    config.write_text(TWO_UNITS.format(path=TOY.as_posix()), encoding="utf-8")
    result = hitless("run", log, "--config", config, "--strategy", "refresh", "--strategy", "unmap-remap")
    refresh, baseline = result["domains"]
    assert refresh["units"] == 2
    assert_hitless(refresh)
    assert refresh["merges"] == 2
    assert refresh["leaves"] == {"4M": 1023, "4K": 1024}
    assert baseline["neighbour_faults"] > 0


# -- built and installed


@pytest.mark.fresh
def test_the_installed_vendor_is_listed_with_its_origin(installed):
    """``hitless vendors`` names distribution, version and entry of vendor and extension; nothing is broken."""
    listed = hitless("vendors", path=installed)
    vendors = {each["name"]: each for each in listed["vendors"]}
    assert set(vendors) >= {"amd", "arm_smmu", "intel", "toy"}
    toy = vendors["toy"]
    assert toy["origin"] == "hitless-toy 0.0.7 (hitless_toy:plugin)"
    assert [each["name"] for each in toy["formats"]] == ["toy/flat"]
    assert [each["name"] for each in toy["features"]] == ["large"]
    assert set(toy["strategies"].values()) == {toy["origin"]}
    (extension,) = listed["extensions"]
    assert extension["name"] == "toy-amd"
    assert extension["origin"] == "hitless-toy 0.0.7 (hitless_toy:no_huge_leaves)"
    assert extension["hooks"] == ["split_rules"]
    assert listed["broken"] == []


@pytest.mark.fresh
def test_without_its_distribution_there_is_no_toy():
    """The toy comes from its wheel alone: this repository does not install it."""
    names = {each["name"] for each in hitless("vendors")["vendors"]}
    assert names >= {"amd", "arm_smmu", "intel"}
    assert "toy" not in names


@pytest.mark.fresh
def test_the_installed_vendor_runs_a_log(installed, log):
    """By name, with separate backing: status 0, nothing disturbed, leaves cut."""
    result = hitless("run", log, "--vendor", "toy", "--backing", "separate", "--memory", "1G", path=installed)
    (row,) = result["domains"]
    assert (row["vendor"], row["format"]) == ("toy", "toy/flat")
    assert_hitless(row)
    assert result["log"]["conversions"] == 6


@pytest.mark.fresh
def test_its_extension_changes_amd_only_where_it_is_named(installed, log, tmp_path):
    """A domain that names it has no leaf above 2M; the one beside it keeps its 1G leaf."""
    config = tmp_path / "extension.toml"
    config.write_text(WITH_EXTENSION, encoding="utf-8")
    plain, extended = hitless("run", log, "--config", config, path=installed)["domains"]
    assert plain["leaves"]["1G"] == 1
    assert set(extended["leaves"]) == {"4K", "2M"}
    assert_hitless(extended)

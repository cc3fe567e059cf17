"""Checking a configuration against its plugins."""

import sys
from typing import ClassVar

import attrs
import pytest

from hitless.config import (
    Config,
    DomainConfig,
    GuestConfig,
    SlotConfig,
    check,
    default_config,
    load,
    load_checked,
    load_text,
    open_registry,
)
from hitless.errors import BadInput, PluginError
from hitless.pagetable import Level
from hitless.plugin import PluginSource, VendorRegistry, hookimpl
from hitless_amd.plugin import AmdPlugin
from hitless_amd.v1 import AmdV1
from installed import NAMES, VENDORS

ARM_FEATURES = (
    "bbml, granule, va_bits, ipa_bits, output_bits, concatenate, ds, contiguous, s2fwb, ns, ril, run_cover, coherent, "
    "httu, gpc, gpt_block, gpt_drops, half, rmm_bbml2, two_level, vmid16, asid16"
)
GUEST = '[guest]\nmemory = "4G"\n'


def domain(lines: str) -> str:
    """A configuration with one domain."""
    return f"{GUEST}[[domain]]\n{lines}\n"


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        ("vendor = 'adm'", f"no vendor 'adm' is installed, there are {NAMES} @ $.domain[0].vendor"),
        ("vendor = 'amd'\nformat = 'amd/v9'", "amd has no format 'amd/v9', it has amd/v1, amd/v2 @ $.domain[0].format"),
        ("vendor = 'amd'\npolicy = 'all'", "amd has no policy 'all', it has match, wipe, check @ $.domain[0].policy"),
        ("vendor = 'amd'\nfeatures.mode = 9", "9 is not legal, use 1, 2, 3, 4, 5, 6 @ $.domain[0].features.mode"),
        ("vendor = 'amd'\nfeatures.mode = 4.0", "expected int, not 4.0 @ $.domain[0].features.mode"),
        ("vendor = 'amd'\nfeatures.snp = 1", "expected bool, not 1 @ $.domain[0].features.snp"),
        ("vendor = 'amd'\nfeatures.mode = true", "expected int, not True @ $.domain[0].features.mode"),
        (
            "vendor = 'arm_smmu'\nfeatures.bblm = 1",
            f"arm_smmu has no feature 'bblm', it has {ARM_FEATURES} @ $.domain[0].features.bblm",
        ),
        (
            "vendor = 'amd'\nextensions = ['x']",
            "no extension 'x' is installed, there are none @ $.domain[0].extensions[0]",
        ),
    ],
)
def test_what_the_plugins_know(lines, fault, write, faults_of):
    """Vendors, formats, policies, features and extensions that are not there are faults that name what is."""
    assert faults_of(load_checked, write(domain(lines))) == [fault]


def test_faults_of_all_kinds_are_in_one_list(write, faults_of):
    """Three mistakes, one of structure, one between tables, one that only the plugin sees: three lines."""
    path = write(domain("vendor = 'amd'\nmerge = 'often'\nunits = ['u']\nfeatures.mode = 7"))
    paths = [fault.rpartition(" @ ")[2] for fault in faults_of(load_checked, path)]
    assert paths == ["$.domain[0].merge", "$.domain[0].units[0]", "$.domain[0].features.mode"]


def test_a_format_and_a_policy_can_both_be_wrong(write, faults_of):
    """A wrong format does not hide a wrong policy."""
    paths = [
        f.rpartition(".")[2] for f in faults_of(load_checked, write(domain("vendor='amd'\nformat='f'\npolicy='p'")))
    ]
    assert paths == ["format", "policy"]


def test_what_is_right_is_loaded(write):
    """A checked configuration comes with the plugins that it names, and no others."""
    config, registry = load_checked(write(domain("vendor = 'arm_smmu'\nfeatures.bbml = 1")))
    assert [each.name for each in config.domains] == ["arm_smmu"]
    assert list(registry.vendors) == ["arm_smmu"]


def test_only_what_is_named_is_imported(install, write):
    """A vendor that is installed, but not named, is not even imported."""
    install("dist-loud", "loud_vendor", "raise RuntimeError('imported')\n", vendors={"loud": "loud_vendor:plugin"})
    _, registry = load_checked(write(domain("vendor = 'amd'")))
    assert not registry.broken
    assert "loud" in {each.name for each in open_registry(None).broken}


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        ("features.mode = 3", "guest memory ends at 0x10000000000, amd/v1 translates 39 bits @ $.domain[0].format"),
        ("features.mode = 4", None),
    ],
)
def test_guest_memory_fits_the_format(lines, fault, write, faults_of):
    """Memory beyond what the root table can index is a fault, not a wrong run."""
    text = domain(f"vendor = 'amd'\n{lines}").replace("4G", "1T")
    if fault is None:
        load_checked(write(text))
    else:
        assert faults_of(load_checked, write(text)) == [fault]


def test_guest_memory_lies_in_the_half_that_a_device_can_name(write, faults_of):
    """With sign-extended input the lower half ends one bit earlier than the table could index."""
    text = domain("vendor = 'intel'\nformat = 'intel/first-stage'")
    slot = "[[guest.slot]]\ngpa = {}\noffset = 0\nsize = '1G'\n"
    low, high = ((1 << 47) - (1 << 30), 1 << 47)
    load_checked(write(text.replace('memory = "4G"\n', "") + slot.format(low)))
    problem = f"guest memory at {high:#x} is no input of intel/first-stage, whose 48 bits are extended upwards"
    (found,) = faults_of(load_checked, write(text.replace('memory = "4G"\n', "") + slot.format(high)))
    assert found == f"{problem} @ $.domain[0].format"


def test_physical_memory_fits_the_format(write, faults_of):
    """Where guest memory lies has to be within the format's output addresses."""
    text = domain("vendor = 'intel'\nfeatures.haw = 42").replace("4G", "3T")
    assert faults_of(load_checked, write(text)) == [
        "physical memory ends at 0x50000000000, intel/second-stage has 42 bits of address @ $.domain[0].format"
    ]


class _Coarse(AmdV1):
    """The same entries, in tables whose smallest leaf is 16K."""

    name: ClassVar[str] = "coarse/v1"

    def __init__(self) -> None:
        super().__init__()
        self.levels = tuple(Level(i, 14 + 9 * i, 9, i + 1, f"level {i + 1}") for i in range(4))


class _CoarsePlugin(AmdPlugin):
    @hookimpl
    def page_formats(self, features):
        return {"coarse/v1": _Coarse()}


def test_a_granule_larger_than_a_page_is_refused(faults_of):
    """A format that cannot map the page that the guest converts is a fault with its reason."""
    registry = VendorRegistry([PluginSource("coarse", "dist", "1", "m:plugin", _CoarsePlugin())])
    config = Config(GuestConfig(memory=1 << 30), (DomainConfig("coarse", "d"),))
    problem = (
        "the smallest page of coarse/v1 is 16K, the guest converts pages of 4K: a cut cannot reach them; give "
        "guest.page_size, or memory in place under a policy that leaves everything mapped"
    )
    assert faults_of(check, config, registry) == [f"{problem} @ $.domain[0].format"]


@pytest.mark.parametrize(
    ("guest", "policy", "fault"),
    [
        ({}, "check", ""),  # in place, and the owner check alone decides
        ({}, "wipe", "a cut cannot reach them"),
        ({"backing": "separate"}, "check", "a cut cannot reach them"),
        ({"backing": "separate", "page_size": 1 << 16}, "check", ""),
        ({"backing": "separate", "page_size": 1 << 16}, "wipe", ""),
        ({"backing": "separate", "page_size": 1 << 14}, "check", "a cut cannot reach them"),
        ({"backing": "scattered", "page_size": 1 << 16}, "check", "scattered memory lies in pages of 4K"),
        ({"memory": (1 << 30) + 4096}, "check", "the slot at 0x0 is not made of such pages"),
    ],
)
def test_a_granule_and_the_guests_page(guest, policy, fault, faults_of):
    """A granule above the guest's page needs memory in place and a policy that leaves everything mapped."""
    registry = open_registry(None, ["arm_smmu"])
    told = GuestConfig(**({"memory": 1 << 30} | guest))
    config = Config(told, (DomainConfig("arm_smmu", "d", features={"granule": "64K"}, policy=policy),))
    if not fault:
        check(config, registry)
        return
    (found,) = faults_of(check, config, registry)
    assert found.startswith("the smallest page of arm_smmu/stage2 is 64K, ")
    assert fault in found
    assert found.endswith(" @ $.domain[0].format")


def test_a_config_that_was_made_by_a_program_is_checked_too(faults_of):
    """``check`` applies every rule, also those that reading a file applies."""
    registry = open_registry(None, ["amd"])
    good = default_config(registry, memory=1 << 30)
    check(good, registry)
    bad = attrs.evolve(good, guest=GuestConfig(slot=(SlotConfig(1, 4096, 0),), hunk=3))
    assert [fault.rpartition(" @ ")[2] for fault in faults_of(check, bad, registry)] == [
        "$.guest.hunk",
        "$.guest.slot[0]",
    ]


# -- plugins under development

VENDOR = "from hitless_amd.plugin import AmdPlugin\nplugin = AmdPlugin()\n"
EXTENSION = """
from hitless.plugin import hookimpl
from hitless.refresh.recipes import SplitRules

class Extension:
    api = 1

    @hookimpl(tryfirst=True)
    def split_rules(self, page_format, features):
        return SplitRules((12, 21), "test")

plugin = Extension()
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder for modules under development; what they change of ``sys`` is undone."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    made = tmp_path / "mine"
    made.mkdir()
    yield made
    for name in [name for name in sys.modules if name.startswith("dev_")]:
        del sys.modules[name]


def test_a_vendor_under_development(folder, write):
    """``[[vendor]]`` loads an object from a folder beside the file; nothing has to be installed."""
    (folder / "dev_vendor.py").write_text(VENDOR)
    text = domain("vendor = 'mine'") + "[[vendor]]\nname = 'mine'\nplugin = 'dev_vendor:plugin'\npath = 'mine'\n"
    _, registry = load_checked(write(text))
    assert list(registry.vendors) == ["mine"]
    assert registry.resolve("mine").page_format.name == "amd/v1"


def test_an_extension_under_development(folder, write):
    """``[[extension]]`` replaces a strategy, only in domains that name it."""
    (folder / "dev_extension.py").write_text(EXTENSION)
    text = domain("vendor = 'amd'\nextensions = ['small']\n[[domain]]\nvendor = 'amd'")
    text += "[[extension]]\nname = 'small'\nplugin = 'dev_extension:plugin'\npath = 'mine'\n"
    config, registry = load_checked(write(text))
    rules = [registry.resolve("amd", extensions=each.extensions).split_rules.leaf_lg2s for each in config.domains]
    assert rules == [(12, 21), (12, 21, 30)]


def test_two_extensions_that_replace_the_same_strategy(folder, write, faults_of):
    """Which of them counts would be a matter of load order, so it is a fault."""
    (folder / "dev_extension.py").write_text(EXTENSION)
    text = domain("vendor = 'amd'\nextensions = ['x', 'y']")
    for name in "xy":
        text += f"[[extension]]\nname = '{name}'\nplugin = 'dev_extension:Extension'\npath = 'mine'\n"
    text = text.replace("dev_extension:Extension", "dev_extension:plugin", 1)
    (folder / "dev_extension.py").write_text(
        EXTENSION.replace("plugin = Extension()", "plugin = Extension()\nExtension = Extension()")
    )
    (fault,) = faults_of(load_checked, write(text))
    assert "both replace split_rules" in fault
    assert fault.endswith("@ $.domain[0]")


@pytest.mark.parametrize(
    ("source", "plugin", "cause"),
    [
        ("raise RuntimeError('[red]no\\x1b')", "dev_broken:plugin", "RuntimeError: [red]no\\x1b"),
        ("plugin = object()", "dev_broken:plugin", "the plugin object must have api = 1, not None"),
        ("", "dev_broken:plugin", "AttributeError: module 'dev_broken' has no attribute 'plugin'"),
        ("", "dev_missing:plugin", "ModuleNotFoundError: No module named 'dev_missing'"),
        (VENDOR.replace("AmdPlugin()", "type('P', (), {'api': 1})()"), "dev_broken:plugin", "hooks not implemented"),
        (EXTENSION.replace("def split_rules", "def split_rule"), "dev_broken:plugin", "split_rule"),
    ],
    ids=["raises", "no api", "no object", "no module", "no hooks", "misspelt hook"],
)
def test_a_plugin_under_development_that_does_not_load(source, plugin, cause, folder, write, faults_of):
    """It is a fault with its cause, in the same list as the others; the domain that names it is not told twice."""
    (folder / "dev_broken.py").write_text(source)
    text = domain("vendor = 'mine'\n[[domain]]\nvendor = 'nobody'")
    text += f"[[vendor]]\nname = 'mine'\nplugin = '{plugin}'\npath = 'mine'\n"
    mine, nobody = faults_of(load_checked, write(text))
    assert cause in mine
    assert mine.endswith(" @ $.vendor[0].plugin")
    assert mine.isprintable()
    assert nobody.endswith(" @ $.domain[1].vendor")
    assert faults_of(open_registry, load(write(text)))[0] == mine


def test_an_installed_vendor_that_does_not_load(install, write, faults_of):
    """A fault where the domain names it, with the cause."""
    install("dist-broken", "broken_vendor", "import nowhere\n", vendors={"broken": "broken_vendor:plugin"})
    (fault,) = faults_of(load_checked, write(domain("vendor = 'broken'")))
    assert fault == (
        "vendor 'broken' does not load: ModuleNotFoundError: No module named 'nowhere' @ $.domain[0].vendor"
    )


def test_two_distributions_with_one_vendor_name(install, write, faults_of):
    """Neither loads, and both are named."""
    for name in ("one", "two"):
        install(f"dist-{name}", f"{name}_vendor", VENDOR, vendors={"twice": f"{name}_vendor:plugin"})
    (fault,) = faults_of(load_checked, write(domain("vendor = 'twice'")))
    assert "dist-one 1.0" in fault
    assert "dist-two 1.0" in fault


# -- selection and defaults


def test_only_some_vendors_of_a_configuration(write):
    """With ``vendors`` other domains are gone, and their plugins are not loaded, whatever state those are in."""
    text = domain("vendor = 'amd'\nunits = ['u']\n[[domain]]\nvendor = 'nobody'\nunits = ['w']")
    for name, vendor in (("u", "amd"), ("w", "nobody")):
        text += f"[[unit]]\nname = '{name}'\nvendor = '{vendor}'\ndevice = [{{ id = 1 }}]\n"
    config, registry = load_checked(write(text), ["amd"])
    assert [each.vendor for each in config.domains] == ["amd"]
    assert [each.name for each in config.units] == ["u"]
    assert list(registry.vendors) == ["amd"]


def test_vendors_that_a_configuration_has_not(write):
    """Selecting nothing is bad input that names what there is."""
    with pytest.raises(BadInput, match="no domain of vendor 'intel'") as caught:
        load_checked(write(domain("vendor = 'amd'")), ["amd", "intel"])
    assert caught.value.do == "it has amd"


def test_the_default_configuration():
    """Every vendor once, in the order of names, on one private slot in place with 1 GiB hunks."""
    registry = open_registry(None)
    config = default_config(registry, memory=3 << 30)
    assert config.guest == GuestConfig(memory=3 << 30)
    assert config.guest.slots == (SlotConfig(0, 3 << 30, 0),)
    assert (config.guest.hunk, config.guest.backing, config.guest.owner) == (1 << 30, "in-place", "private")
    assert config.domains == tuple(DomainConfig(name, name) for name in VENDORS)
    check(config, registry)


def test_the_default_configuration_of_some_vendors():
    """Those named, in that order, each once; a name that nobody has is an error with those that exist."""
    registry = open_registry(None, ["intel", "amd"])
    config = default_config(registry, memory=1 << 30, backing="separate", vendors=["intel", "amd", "intel"])
    assert [each.name for each in config.domains] == ["intel", "amd"]
    assert config.guest.backing == "separate"
    with pytest.raises(PluginError, match="no vendor 'adm' is installed") as caught:
        open_registry(None, ["adm"])
    assert caught.value.do == f"choose one of {NAMES}"
    with pytest.raises(PluginError, match="no vendor plugin is installed"):
        default_config(VendorRegistry([]), memory=1 << 30)


def test_the_text_form_of_faults():
    """What a person sees: the source, how many, a line each, what to do."""
    with pytest.raises(Exception, match="nowhere") as caught:
        load_text("[guest]\nmemory = 1\n", "nowhere.toml")
    assert str(caught.value).splitlines() == [
        "nowhere.toml: 2 faults in the configuration:",
        "  must be a multiple of 4K above 0, not 1 @ $.guest.memory",
        "  missing: give at least one [[domain]] with vendor = NAME @ $.domain",
        "  do   mend every line above; `hitless vendors` lists vendors, formats and features",
    ]


PICKY = """
from attrs import frozen
from hitless.plugin import hookimpl
from hitless_amd.features import AmdFeatures

@frozen
class Features(AmdFeatures):
    def impossible(self):
        return "a unit with NpCache has no SNP (X-Y-9)" if self.np_cache and self.snp else None

class Extension:
    api = 1

    @hookimpl(tryfirst=True)
    def features(self):
        return Features

plugin = Extension()
"""


def test_features_that_no_unit_has_together_are_a_fault_of_the_configuration(folder, write, faults_of):
    """In the vendor's own sentence, at the domain's features; either of them alone is read."""
    (folder / "dev_picky.py").write_text(PICKY)
    lines = "vendor = 'amd'\nextensions = ['picky']\nfeatures.np_cache = true\nfeatures.snp = {}"
    more = "[[extension]]\nname = 'picky'\nplugin = 'dev_picky:plugin'\npath = 'mine'\n"
    faults = faults_of(load_checked, write(domain(lines.format("true")) + more))
    assert faults == ["a unit with NpCache has no SNP (X-Y-9) @ $.domain[0].features"]
    config, _ = load_checked(write(domain(lines.format("false")) + more))
    assert config.domain[0].features == {"np_cache": True, "snp": False}

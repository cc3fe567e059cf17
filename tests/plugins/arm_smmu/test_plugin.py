"""The plugin object and its features."""

from itertools import product

import pytest

from hitless.plugin import API, feature_infos, impossible
from hitless_arm_smmu import plugin
from hitless_arm_smmu.features import ArmSmmuFeatures


def test_default_features_are_those_of_a_current_smmu():
    """BBML 2, range invalidation, coherent, checked; nothing that hardware would set."""
    found = {info.name: info.default for info in feature_infos(ArmSmmuFeatures)}
    assert found == {
        "bbml": 2,
        "granule": "4K",
        "va_bits": 48,
        "ipa_bits": 48,
        "output_bits": 48,
        "concatenate": False,
        "ds": False,
        "contiguous": False,
        "s2fwb": False,
        "ns": False,
        "ril": True,
        "run_cover": True,
        "coherent": True,
        "httu": False,
        "gpc": True,
        "gpt_block": "512M",
        "gpt_drops": "iotlb+atc",
        "half": "host",
        "rmm_bbml2": False,
        "two_level": True,
        "vmid16": True,
        "asid16": True,
    }


def test_features_say_which_format_they_matter_to():
    """What one stage alone looks at is told."""
    found = {info.name: info.formats for info in feature_infos(ArmSmmuFeatures) if info.formats}
    first, second = ("arm_smmu/stage1",), ("arm_smmu/stage2",)
    assert found == {
        **dict.fromkeys(("va_bits", "ns"), first),
        **dict.fromkeys(("ipa_bits", "concatenate", "s2fwb", "half", "rmm_bbml2"), second),
    }


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"granule": "64K", "ds": True}, "ds is for the 4K and 16K granules"),
        ({"va_bits": 52}, "52-bit addresses with the 4K granule need ds"),
        ({"output_bits": 52, "granule": "16K"}, "52-bit addresses with the 16K granule need ds"),
        ({"output_bits": 40}, "an IPA of 48 bits is wider than the output's 40"),
        ({"ipa_bits": 52, "ds": True}, "an IPA of 52 bits is wider than the output's 48"),
    ],
)
def test_combinations_that_no_hardware_has(told, words):
    """Widths that the granule or the output cannot have are impossible, with the fact that says so."""
    found = impossible(ArmSmmuFeatures(**told))
    assert found is not None
    assert found.startswith(words)
    assert "(ARM-" in found


def test_every_possible_combination_of_widths_makes_formats():
    """What is not impossible gives two formats of those widths, with structures, rules and commands for them."""
    count = 0
    for granule, va, ipa, output, ds in product(
        ("4K", "16K", "64K"), (25, 32, 39, 48, 52), (25, 36, 40, 48, 52), (32, 40, 42, 48, 52), (False, True)
    ):
        features = ArmSmmuFeatures(granule=granule, va_bits=va, ipa_bits=ipa, output_bits=output, ds=ds)
        if impossible(features) is not None:
            continue
        count += 1
        second, first = plugin.page_formats(features).values()
        assert (first.iova_bits, first.oa_bits, second.iova_bits, second.oa_bits) == (va, output, ipa, output)
        assert plugin.split_rules(second, features).leaf_lg2s
    assert count > 100


@pytest.mark.parametrize("bbml", [-1, 3])
def test_bbml_3_is_refused(bbml):
    """A value that the register field does not have is a fault."""
    with pytest.raises(ValueError, match="bbml"):
        ArmSmmuFeatures(bbml=bbml)


def test_features_reach_the_strategies():
    """Each strategy is made from the features that it is given."""
    features = plugin.features()(bbml=1, s2fwb=True, ril=False, gpc=False, coherent=False)
    formats = plugin.page_formats(features)
    assert list(formats) == ["arm_smmu/stage2", "arm_smmu/stage1"]
    fmt = formats["arm_smmu/stage2"]
    assert fmt.leaf(12, 0, fmt.default_attrs(3)) == 0x7DB
    assert not fmt.cacheable(0x1_07FD, 1)
    assert len(plugin.recipes(fmt, features).cut.rounds) == 2
    assert plugin.hardware(fmt, features).size_conflict
    assert not plugin.hardware(fmt, features).coherent
    assert plugin.ownership(fmt, features).policies
    assert plugin.split_rules(fmt, features).leaf_lg2s == (12, 21, 30)
    assert plugin.commands(fmt, features).wait(0x1000, 1)[0] == 0x1_0100_1046
    assert plugin.events(fmt, features).words == 4


def test_plugin_names_its_api():
    """The door reads the version of the hooks from the object."""
    assert plugin.api == API
    assert "SMMUv3" in plugin.title

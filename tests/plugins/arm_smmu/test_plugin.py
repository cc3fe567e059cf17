"""The plugin object and its features."""

import pytest

from hitless.plugin import API, feature_infos
from hitless_arm_smmu import plugin
from hitless_arm_smmu.features import ArmSmmuFeatures


def test_default_features_are_those_of_a_current_smmu():
    """BBML 2, range invalidation, coherent, checked; nothing that hardware would set."""
    found = {info.name: info.default for info in feature_infos(ArmSmmuFeatures)}
    assert found == {
        "bbml": 2,
        "s2fwb": False,
        "ril": True,
        "coherent": True,
        "httu": False,
        "gpc": True,
        "vmid16": True,
    }


@pytest.mark.parametrize("bbml", [-1, 3])
def test_bbml_3_is_refused(bbml):
    """A value that the register field does not have is a fault."""
    with pytest.raises(ValueError, match="bbml"):
        ArmSmmuFeatures(bbml=bbml)


def test_features_reach_the_strategies():
    """Each strategy is made from the features that it is given."""
    features = plugin.features()(bbml=1, s2fwb=True, ril=False, gpc=False, coherent=False)
    formats = plugin.page_formats(features)
    assert list(formats) == ["arm_smmu/stage2"]
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

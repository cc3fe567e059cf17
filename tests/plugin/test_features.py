"""Features: each vendor's declarations are complete, and lead to facts."""

import importlib
import re
from pathlib import Path

import pytest
from attrs import frozen

import hitless_amd
from hitless.errors import PluginError
from hitless.plugin import PluginSource, VendorRegistry, feature, feature_infos, hookimpl

FACTS = Path(__file__).parents[2] / "docs" / "facts"
PREFIX = {"amd": "AMD-", "arm_smmu": "ARM-", "intel": "INTEL-"}
FACT_ID = re.compile(r"(?:AMD|ARM|INTEL)-[A-Z]+-\d+")
REGISTER_FIELD = re.compile(r"[A-Z]+\d?\.[A-Z]+\d*")


def features_of(vendor):
    """The class that a vendor's plugin declares its features with."""
    return importlib.import_module(f"hitless_{vendor}").plugin.features()


CASES = [
    pytest.param(vendor, info, id=f"{vendor}.{info.name}")
    for vendor in PREFIX
    for info in feature_infos(features_of(vendor))
]


def facts(vendor):
    """The ids that begin a row of the vendor's facts."""
    text = (FACTS / f"{vendor}.md").read_text(encoding="utf-8")
    return set(re.findall(rf"^\| ({FACT_ID.pattern}) \|", text, re.MULTILINE))


@pytest.mark.parametrize("vendor", PREFIX)
def test_every_vendor_declares_features(vendor):
    """Each of the three has some, by its own prefix of facts."""
    assert len(list(feature_infos(features_of(vendor)))) >= 3
    assert facts(vendor)
    assert all(each.startswith(PREFIX[vendor]) for each in facts(vendor))


@pytest.mark.parametrize(("vendor", "info"), CASES)
def test_a_feature_says_what_it_is(vendor, info):
    """The sentence is one that a person can read, on one line."""
    assert len(info.sentence.split()) >= 3
    assert info.sentence == info.sentence.strip()
    assert "\n" not in info.sentence


@pytest.mark.parametrize(("vendor", "info"), CASES)
def test_a_feature_rests_on_a_fact(vendor, info):
    """The source is one or more ids of the vendor's facts, or the register field that reports the feature."""
    for source in info.source.split(", "):
        assert source in facts(vendor) or REGISTER_FIELD.fullmatch(source), source


@pytest.mark.parametrize(("vendor", "info"), CASES)
def test_a_default_is_legal(vendor, info):
    """The default is among the legal values, which have its type; a bool has both, a free number or word none."""
    assert all(type(value) is type(info.default) for value in info.values)
    if isinstance(info.default, bool) or info.values:
        assert info.default in info.values
        assert len(set(info.values)) == len(info.values) > 1


@pytest.mark.parametrize(("vendor", "info"), CASES)
def test_a_value_that_is_not_legal_is_refused(vendor, info):
    """The class takes every legal value and no other."""
    cls = features_of(vendor)
    for value in info.values:
        assert getattr(cls(**{info.name: value}), info.name) == value
    with pytest.raises(ValueError, match=info.name):
        cls(**{info.name: b"of another world"})


def test_feature_infos_keep_the_order_and_all_that_was_said():
    """What ``feature`` was given comes back, field for field; a bool needs no values."""

    @frozen
    class Some:
        width: int = feature(9, "bits of it", "X-Y-1", (9, 18), formats=("x/y",))
        good: bool = feature(True, "whether it is", "X-Y-2", unconfirmed=True)
        word: str = feature("any", "a word of no list", "X-Y-3")

    first, second, third = feature_infos(Some)
    assert (first.name, first.default, first.sentence, first.source) == ("width", 9, "bits of it", "X-Y-1")
    assert (first.values, first.unconfirmed) == ((9, 18), False)
    assert (second.values, second.unconfirmed) == ((False, True), True)
    assert third.values == ()
    assert (first.formats, second.formats) == (("x/y",), ())
    with pytest.raises(ValueError, match="width"):
        Some(width=10)
    assert Some(word="whatever").word == "whatever"


# -- values, as a configuration gives them


def registry(**extensions):
    """The amd vendor, with extensions by name."""
    return VendorRegistry(
        [PluginSource("amd", "hitless", "0.1.0", "hitless_amd:plugin", hitless_amd.plugin)],
        [PluginSource(name, "stranger", "1", f"{name}:ext", plugin) for name, plugin in extensions.items()],
    )


def faults(**values):
    """What is wrong with feature values of amd."""
    return registry().feature_faults("amd", values)


def test_legal_features_have_no_faults():
    """What the class declares is taken, and reaches the record."""
    assert faults(mode=6, np_cache=True, boundary="check_unit") == []
    assert registry().resolve("amd", features={"mode": 6}).page_format.iova_bits == 64


@pytest.mark.parametrize("value", ["4", True, 4.0, None, [4]])
def test_a_feature_of_another_type_is_not_coerced(value):
    """A text that looks like a number, or a bool, is none."""
    assert faults(mode=value) == [f"expected int, not {value!r} @ .mode"]


def test_a_number_is_no_bool():
    """1 is not True."""
    assert faults(snp=1) == ["expected bool, not 1 @ .snp"]


def test_an_unknown_feature_names_the_known_ones():
    """With its path."""
    (fault,) = faults(levels=4)
    assert fault.startswith("amd has no feature 'levels', it has mode, ")
    assert fault.endswith(" @ .levels")


def test_a_value_that_is_not_legal_names_the_legal_ones():
    """With its path."""
    assert faults(mode=7) == ["7 is not legal, use 1, 2, 3, 4, 5, 6 @ .mode"]


def test_all_faults_come_at_once():
    """One line each, in the order they stand in; resolving refuses with all of them."""
    bad = {"mode": 7, "levels": 4, "snp": "yes"}
    lines = faults(**bad)
    assert [line.rsplit(" @ ", 1)[1] for line in lines] == [".mode", ".levels", ".snp"]
    with pytest.raises(PluginError) as raised:
        registry().resolve("amd", features=bad)
    assert all(line in raised.value.why for line in lines)


def test_an_extension_may_bring_features():
    """Its features class counts where it is named: a configuration may set what it adds."""

    @frozen
    class More(type(hitless_amd.plugin.features()())):
        mood: str = feature("calm", "how the unit feels", "EXT-2", ("calm", "bold"))

    class Moody:
        api = 1

        @hookimpl(tryfirst=True)
        def features(self):
            return More

    found = registry(moody=Moody())
    assert found.feature_faults("amd", {"mood": "bold"}, ["moody"]) == []
    assert found.resolve("amd", features={"mood": "bold"}, extensions=["moody"]).features.mood == "bold"
    assert found.feature_faults("amd", {"mood": "bold"}) != []


@frozen
class Picky(type(hitless_amd.plugin.features()())):
    """AMD features of which no unit has both of two."""

    def impossible(self):
        return "a unit with NpCache has no SNP (X-Y-9)" if self.np_cache and self.snp else None


class WithPicky:
    """An extension that declares it."""

    api = 1

    @hookimpl(tryfirst=True)
    def features(self):
        return Picky


def test_a_combination_that_hardware_does_not_have_is_refused_in_the_vendors_sentence():
    """Each value is legal, both are not; resolving refuses with the same words, and one alone is fine."""
    found, both = registry(picky=WithPicky()), {"np_cache": True, "snp": True}
    assert found.feature_faults("amd", both, ["picky"]) == ["a unit with NpCache has no SNP (X-Y-9)"]
    assert found.feature_faults("amd", {"np_cache": True, "snp": False}, ["picky"]) == []
    assert found.feature_faults("amd", both) == []
    with pytest.raises(PluginError, match="X-Y-9"):
        found.resolve("amd", features=both, extensions=["picky"])


def test_a_fault_of_one_value_goes_before_the_combination():
    """Where a value is not legal there is no instance to ask."""
    found = registry(picky=WithPicky())
    (fault,) = found.feature_faults("amd", {"np_cache": True, "mode": 9}, ["picky"])
    assert fault.endswith(" @ .mode")


def test_a_features_class_that_cannot_tell_is_a_plugin_fault():
    """An exception in ``impossible`` names vendor and cause."""

    class Raising(Picky):
        def impossible(self):
            raise ZeroDivisionError("oh")

    class WithRaising:
        api = 1
        features = hookimpl(lambda self: Raising, tryfirst=True)

    with pytest.raises(PluginError, match="impossible") as raised:
        registry(raising=WithRaising()).resolve("amd", extensions=["raising"])
    assert "ZeroDivisionError: oh" in raised.value.why

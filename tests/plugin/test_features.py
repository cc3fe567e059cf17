"""Features: each vendor's declarations are complete, and lead to facts."""

import importlib
import re
from pathlib import Path

import pytest
from attrs import frozen

from hitless.plugin import feature, feature_infos

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
def test_a_register_field_is_one_that_the_facts_name(vendor, info):
    """A source that is not an id stands, as it is written, in the vendor's facts."""
    text = (FACTS / f"{vendor}.md").read_text(encoding="utf-8")
    assert [source for source in info.source.split(", ") if source not in text] == []


@pytest.mark.parametrize(("vendor", "info"), CASES)
def test_a_default_is_legal(vendor, info):
    """The default is among the legal values, all of which have its type; a bool has both values."""
    assert all(type(value) is type(info.default) for value in info.values)
    assert info.default in info.values
    assert len(set(info.values)) == len(info.values) > 1


@pytest.mark.parametrize(("vendor", "info"), CASES)
def test_a_value_that_is_not_legal_is_refused(vendor, info):
    """The class takes every legal value and no other."""
    cls = features_of(vendor)
    for value in info.values:
        assert getattr(cls(**{info.name: value}), info.name) == value
    with pytest.raises(ValueError, match=info.name):
        cls(**{info.name: "of another world"})


@pytest.mark.parametrize("vendor", PREFIX)
def test_unsettled_facts_make_unconfirmed_features_and_only_those(vendor):
    """A feature that rests on an unconfirmed fact alone, as a setting, is marked so wherever a fact says no."""
    rows = {
        cells[1]: cells[-2]
        for line in (FACTS / f"{vendor}.md").read_text(encoding="utf-8").splitlines()
        if (cells := [cell.strip() for cell in line.split("|")])[1:2] and FACT_ID.fullmatch(cells[1])
    }
    for info in feature_infos(features_of(vendor)):
        if info.unconfirmed:
            assert any(rows[each] == "no" for each in FACT_ID.findall(info.source)), info.name


def test_feature_infos_keep_the_order_and_all_that_was_said():
    """What ``feature`` was given comes back, field for field; a bool needs no values."""

    @frozen
    class Some:
        width: int = feature(9, "bits of it", "X-Y-1", (9, 18))
        good: bool = feature(True, "whether it is", "X-Y-2", unconfirmed=True)
        word: str = feature("any", "a word of no list", "X-Y-3")

    first, second, third = feature_infos(Some)
    assert (first.name, first.default, first.sentence, first.source) == ("width", 9, "bits of it", "X-Y-1")
    assert (first.values, first.unconfirmed) == ((9, 18), False)
    assert (second.values, second.unconfirmed) == ((False, True), True)
    assert third.values == ()
    with pytest.raises(ValueError, match="width"):
        Some(width=10)
    assert Some(word="whatever").word == "whatever"

"""Mutants: each is caught under exactly its rules, the right plan beside it is clean, and no mistake is forgotten."""

import importlib.util
import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from attrs import evolve

from hitless.check.mutants import LEFT, Harmless, Mutant, Reason, changed, run_mutants, situations, without
from hitless.check.mutants.mistakes import MISTAKES, cells_of, page
from hitless.check.mutants.running import Tried, all_mutants, nearby_of, try_nearby, try_on
from hitless.errors import PluginError
from hitless.plan import Wait
from hitless.plugin import PluginSource, VendorRegistry, hookimpl
from installed import OWN

ROOT = Path(__file__).parents[2]
TOY = ROOT / "tests" / "third_party" / "hitless-toy" / "hitless_toy.py"
FORMATS = (
    ("amd", "amd/v1"),
    ("amd", "amd/v2"),
    ("arm_smmu", "arm_smmu/stage1"),
    ("arm_smmu", "arm_smmu/stage2"),
    ("intel", "intel/first-stage"),
    ("intel", "intel/second-stage"),
)
AMD, ARM, INTEL = "amd/v1", "arm_smmu/stage2", "intel/second-stage"

BY_HAND = {
    # Nothing is waited for: the old leaf is cached at the end, and before that when owners change.
    "generic.no-wait": {AMD: "B1 F1 F2 H1", ARM: "F1 F2 H1", INTEL: "C2 F1 F2 H1"},
    # A walker finds the empty table.
    "generic.link-before-fill": {AMD: "N1", ARM: "N1", INTEL: "N1"},
    # AMD: the 2M check refuses the neighbours; what is owed is sent twice. TDX: private memory is reached.
    "generic.owner-before-isolate": {AMD: "B1 E1 N1", INTEL: "C1 C2"},
    # Old 2M leaf and new 4K leaf meet, with different addresses.
    "generic.cut-and-replace": {AMD: "K1", ARM: "K1", INTEL: "K1"},
    # The old page belongs to the host again by then, so that its leaf is cached; on Intel there was a hole.
    "generic.merge-of-unequal": {AMD: "K1 M1", ARM: "K1 M1", INTEL: "M1"},
    "generic.leaf-only-after-merge": {AMD: "F2 R1", ARM: "F2 R1", INTEL: "F2 R1"},
    "generic.leaf-only-after-prune": {AMD: "C2 F1 F2 R1", ARM: "C2 F1 F2 R1", INTEL: "C2 F1 F2 R1"},
    "generic.attributes-lost-in-cut": {AMD: "N2", ARM: "N2", INTEL: "N2"},
    "generic.one-page-too-many-wiped": {AMD: "F2 N1", ARM: "F2 N1", INTEL: "F2 N1"},
    # Only Arm forbids a new address in a live leaf.
    "generic.one-page-too-many-replaced": {AMD: "F2 N2", ARM: "F2 K1 N2", INTEL: "F2 N2"},
    "generic.pointer-without-write": {AMD: "N1", INTEL: "N1"},
    "generic.marks-lost-in-cut": {AMD: "D1", ARM: "D1", INTEL: "D1"},
    "generic.truncate-as-refresh": {AMD: "B1 C2", ARM: "C2", INTEL: "C2"},
    "generic.map-beside": {AMD: "A1", ARM: "A1", INTEL: "A1 C2"},
    "generic.table-given-away": {AMD: "T1", ARM: "T1", INTEL: "T1"},
    "amd.inv-4k-after-2m": {AMD: "B1 F1 F2"},
    "amd.rmp-merged-over-4k": {AMD: "C2 N1 S1"},
    "arm_smmu.bbml1-cut-without-nt": {ARM: "K1"},
    "arm_smmu.bbml0-break-under-neighbours": {ARM: "N1"},
    "arm_smmu.ttl-of-the-new-level": {ARM: "F1 F2"},
    "generic.nested-results-stay": {ARM: "F1 F2"},
    "amd.grow-without-devtab-invalidation": {AMD: "F1 F2"},
    "amd.grow-without-the-old-root": {AMD: "F2 N1"},
    # The old verdict stays cached, with its translation.
    "arm_smmu.gpt-without-tlbi": {ARM: "F1 F2"},
    "arm_smmu.gpt-devices-forgotten": {ARM: "F1 F2"},
    # The granule is checked with each access: a leaf too many reaches only what its half is for, but too early.
    "arm_smmu.gpt-mapped-before-owner": {ARM: "C2"},
    "arm_smmu.gpt-unfold-without-break": {ARM: "K1"},
    "arm_smmu.gpt-unfold-under-neighbours": {ARM: "N1"},
    "arm_smmu.gpt-unfold-stops-broken": {ARM: "N1"},
    # The page is reached after isolate; what is cached goes with the granule's own invalidation.
    "arm_smmu.gpt-call-not-done": {ARM: "C2"},
    "arm_smmu.gpt-call-half-done": {ARM: "C2"},
    "arm_smmu.gpt-call-not-waited": {ARM: "C2 H1"},
    "intel.no-drain-bits": {INTEL: "C2 F1"},
    "intel.tdx-stale-leaf-left": {INTEL: "C1 C2 F2"},
}
"""What must break, decided from the specifications' facts and not from the mutants' own expectations."""


@cache
def registry() -> VendorRegistry:
    """The in-tree vendors."""
    return VendorRegistry.installed(["amd", "arm_smmu", "intel"])


@cache
def rows(vendor: str, page_format: str):
    """Every mutant of a format, run once for all tests."""
    return tuple(run_mutants(registry(), vendor, page_format))


def failures(found):
    """Rows that are not as they must be, told in a line each."""
    return [
        f"{row.id} on {row.format} {dict(row.features)}: expected {row.expected_rules}, broke {row.rules}, "
        f"twin {row.twin_violations}"
        for row in found
        if not row.caught or row.twin_violations
    ]


# -- caught


@pytest.mark.parametrize("page_format", [AMD, ARM, INTEL])
def test_what_breaks_was_decided_by_hand(page_format):
    """A sample of mutants breaks what the specifications say, whatever the mutants themselves expect."""
    wanted = {each: " ".join(sorted(by[page_format].split())) for each, by in BY_HAND.items() if page_format in by}
    found = run_mutants(registry(), page_format.split("/")[0], page_format, chosen=wanted.__contains__)
    assert {row.id: " ".join(row.rules) for row in found} == wanted


@pytest.mark.slow
@pytest.mark.parametrize(("vendor", "page_format"), FORMATS)
def test_every_mutant_is_caught_under_exactly_its_rules(vendor, page_format):
    """Core's and the vendor's own; the plan without the mistake breaks nothing."""
    found = rows(vendor, page_format)
    assert failures(found) == []
    own = [row for row in found if row.id.startswith(f"{vendor}.")]
    assert len(own) >= 7
    assert len(found) - len(own) >= 40


@pytest.mark.slow
def test_there_are_enough_of_them():
    """At least 60 different ones, and more than half of them have been decided on every vendor."""
    ids = Counter(row.id for vendor, name in FORMATS for row in rows(vendor, name))
    assert len(ids) >= 95
    assert sum(count == len(FORMATS) for count in ids.values()) >= 30


DECLARING = {
    "amd/v1": ("boundary", "cut_may_replace", "np_cache", "rmpupdate_drops", "size7", "snp"),
    "amd/v2": ("np_cache", "rmpupdate_drops"),
    "arm_smmu/stage1": ("bbml", "coherent", "contiguous", "gpc", "granule", "ril"),
    "arm_smmu/stage2": ("bbml", "coherent", "contiguous", "gpc", "granule", "httu", "ril"),
    "intel/first-stage": ("coherent", "fs1gp", "psi"),
    "intel/second-stage": ("caching_mode", "coherent", "mamv", "mode", "psi", "version"),
}
"""Features that change what a vendor declares, and so what a mistake breaks."""


@pytest.mark.slow
@pytest.mark.parametrize(("vendor", "page_format"), FORMATS)
def test_expectations_follow_what_is_declared(vendor, page_format):
    """On hardware that differs in one declaration a mutant breaks what that hardware leads one to expect."""
    _, nearby = nearby_of(registry(), vendor, page_format, None)
    wrong, tried = [], 0
    for record in nearby:
        differs = nearby.differing(record).keys()
        if not differs & set(DECLARING[page_format]):
            continue
        for mutant in all_mutants(record):
            if mutant.raced is not None or mutant.features:
                continue
            found = "" if mutant.why_not(record) or mutant.situation.why_not(record) else try_on(mutant, record)
            if isinstance(found, Tried):
                tried += 1
                clean = found.twin is None or not found.twin.rules
                if found.report.rules != found.expected or not found.expected or not clean:
                    wrong.append((mutant.id, nearby.differing(record), found.expected, found.report.rules))
    assert wrong == []
    assert tried >= 100


def test_a_row_says_what_a_reader_of_json_needs():
    """The keys of schema check/1, and nothing that cannot be written as JSON."""
    (row,) = run_mutants(registry(), "amd", "amd/v1", chosen="generic.no-wait".__eq__)
    assert row.as_json() == {
        "id": "generic.no-wait",
        "vendor": "amd",
        "format": "amd/v1",
        "scenario": "one-page-in-2m",
        "features": {},
        "expected_rules": ["B1", "F1", "F2", "H1"],
        "rules": ["B1", "F1", "F2", "H1"],
        "caught": True,
        "twin_violations": [],
    }
    assert {each.rule for each in row.report.violations} == set(row.rules)


def test_a_mutant_runs_on_the_nearest_hardware_that_lets_it_happen():
    """The default SMMU has BBML 2, on which sizes never conflict: the row says that BBML 1 was taken."""
    (row,) = run_mutants(registry(), "arm_smmu", ARM, chosen="arm_smmu.bbml1-cut-without-nt".__eq__)
    assert row.features == {"bbml": 1}
    assert row.caught
    (row,) = run_mutants(registry(), "arm_smmu", ARM, {"bbml": 1}, chosen="arm_smmu.bbml1-cut-without-nt".__eq__)
    assert row.features == {}


def test_more_rules_than_expected_is_not_caught():
    """Exactly is meant: a mutant that breaks one rule more than it says is not caught."""
    record, nearby = nearby_of(registry(), "amd", "amd/v1", None)
    mutant = next(each for each in all_mutants(record) if each.id == "generic.no-wait")
    tried = try_nearby(evolve(mutant, expected=lambda _: {"H1"}), nearby)
    assert isinstance(tried, Tried)
    assert tried.expected == ("H1",)
    assert tried.report.rules != tried.expected


# -- what there is


def test_ids_are_unique_and_say_whose_they_are():
    """``generic.`` or the vendor's name, then words; a sentence, and mistakes that exist."""
    for vendor, page_format in FORMATS:
        record, _ = nearby_of(registry(), vendor, page_format, None)
        found = all_mutants(record)
        assert max(Counter(each.id for each in found).values()) == 1
        for each in found:
            assert re.fullmatch(rf"(generic|{vendor})\.[a-z0-9-]+", each.id), each.id
            assert each.sentence[-1] not in ".,;"
            assert set(each.mistakes) <= set(MISTAKES), each.id


def test_there_are_39_mistakes():
    """Numbered without a gap, each a sentence."""
    assert list(MISTAKES) == list(range(1, 40))
    assert all(text.endswith(".") and len(text.split()) > 3 for text in MISTAKES.values())


@pytest.mark.slow
@pytest.mark.parametrize(("vendor", "page_format"), FORMATS)
def test_every_mistake_has_a_mutant_or_a_reason(vendor, page_format):
    """No cell is empty; where a mutant stands there it really runs."""
    cells = cells_of(registry(), vendor, page_format)
    assert [cell.mistake for cell in cells] == list(MISTAKES)
    assert [cell.mistake for cell in cells if not cell.mutants and not cell.reasons] == []
    ran = {row.id for row in rows(vendor, page_format)}
    assert {each for cell in cells for each in cell.mutants} <= ran
    assert sum(bool(cell.mutants) for cell in cells) >= 24
    for cell in cells:
        assert all(len(reason.split()) > 3 for reason in cell.reasons)


@pytest.mark.slow
def test_the_document_is_what_the_mutants_say():
    """docs/mistakes.md is what ``python -m hitless.check.mutants amd arm_smmu intel`` writes."""
    expected = (ROOT / "docs" / "mistakes.md").read_text(encoding="utf-8")
    assert page(registry(), list(OWN)) == expected


# -- the hook


def forgotten_wait(page_format, features):
    """A stranger's mutant, harmless change and reason."""
    return [
        Mutant(
            "toy.forgets-to-wait",
            (4,),
            "no wait at all",
            situations.HIDE,
            lambda declared: LEFT | {"F1", "H1"},
            lambda subject: without(subject, lambda _, step: isinstance(step, Wait)),
        ),
        Harmless(
            "toy.nothing-moved", "nothing is changed", situations.HIDE, lambda s: changed(s, [*s.steps, s.steps[-1]])
        ),
        Reason(19, lambda vendor: "the toy drains whatever one asks (TOY-3)"),
    ]


def toy(monkeypatch, hook):
    """A registry with the toy IOMMU, whose plugin answers the hook as told."""
    spec = importlib.util.spec_from_file_location("hitless_toy", TOY)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    class WithMutants(module.ToyPlugin):
        mutants = hookimpl(lambda self, page_format, features: hook(page_format, features))

    return VendorRegistry([PluginSource("toy", "hitless-toy", "0.0.7", "hitless_toy:plugin", WithMutants())])


def test_a_strangers_mutants_come_through_the_hook(monkeypatch):
    """The toy's own mutant is run beside core's, and its reason stands in its matrix."""
    strangers = toy(monkeypatch, forgotten_wait)
    found = {row.id: row for row in run_mutants(strangers, "toy")}
    assert failures(found.values()) == []
    assert found["toy.forgets-to-wait"].rules == ("F1", "F2", "H1")
    assert len([each for each in found if each.startswith("generic.")]) >= 30
    cells = {cell.mistake: cell for cell in cells_of(strangers, "toy", "toy/flat")}
    assert "toy.forgets-to-wait" in cells[4].mutants
    assert cells[19].reasons == ("the toy drains whatever one asks (TOY-3)",)


def test_a_hook_that_fails_is_named(monkeypatch):
    """An error in the hook becomes one that says which vendor's it was; nothing else asks the hook."""

    def broken(page_format, features):
        raise ZeroDivisionError("no mutants today")

    strangers = toy(monkeypatch, broken)
    record = strangers.resolve("toy")
    with pytest.raises(PluginError, match="hook mutants failed") as raised:
        record.mutants()
    assert "no mutants today" in raised.value.why
    assert raised.value.who == "toy"


def test_a_vendor_without_the_hook_has_none():
    """The hook is optional."""
    spec = importlib.util.spec_from_file_location("hitless_toy", TOY)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    plain = VendorRegistry([PluginSource("toy", "hitless-toy", "0.0.7", "hitless_toy:plugin", module.plugin)])
    assert list(plain.resolve("toy").mutants()) == []


def test_an_extension_adds_its_own():
    """Answers of vendor and extension are joined, not replaced."""

    class Extension:
        api = 1

        @hookimpl
        def mutants(self, page_format, features):
            return [Reason(2, lambda _: "by the extension")]

    source = registry().vendors["amd"]
    both = VendorRegistry([source], [PluginSource("more", "more", "1.0", "more:plugin", Extension())])
    alone = registry().resolve("amd").mutants()
    joined = both.resolve("amd", extensions=["more"]).mutants()
    assert [each.id for each in joined if isinstance(each, Mutant)] == [
        each.id for each in alone if isinstance(each, Mutant)
    ]
    assert len(joined) == len(alone) + 1

"""vTOM: one table holds both halves of a guest's address space, and a conversion moves a page from one to the other."""

import pytest

from hitless.check import check
from hitless.check.scenarios import SCENARIOS
from hitless.check.stage import Setting, Stage, mutated
from hitless.check.suite import check_row
from hitless.config import check as check_config
from hitless.config import load_text, open_registry
from hitless.errors import ConfigurationError, HitlessError
from hitless.guest_memfd.guest import GUEST, HOST
from hitless.iommufd import Area, Domain, DomainSettings, Ioas
from hitless.plan import Own, Store
from stand import PAGE, G, M, registry

VTOM = 64 * G
FEATURES = {"vtom": 32768, "engine": "smash+unsmash"}
ADDRESS = 0x000F_FFFF_FFFF_F000
PRESENT = 1


def amd(**features):
    """The vendor with vTOM at 64G and the firmware engine."""
    return registry("amd").resolve("amd", "amd/v1", {**FEATURES, **features})


def word_at(memory, root, iova):
    """(Present, address, log2 of size) of what a v1 table of 4 levels maps there, read by hand: NextLevel in 11:9."""
    table, level = root, 4
    while True:
        shift = 12 + 9 * (level - 1)
        word = memory.load(table + 8 * (iova >> shift & 0x1FF))
        following = word >> 9 & 7
        if not word & PRESENT or following in (0, 7):
            return bool(word & PRESENT), (word & ADDRESS) + (iova & (1 << shift) - 1), shift
        table, level = word & ADDRESS, following


def halves(stage, gpa):
    """Where a page is mapped below vTOM and above it; None: it is not."""
    (domain,) = stage.domains
    found = [word_at(domain.memory, domain.planner.root_pa, iova) for iova in (gpa, VTOM + gpa)]
    return [pa if present else None for present, pa, _ in found]


@pytest.mark.parametrize("merge", ["never", "at_once"])
@pytest.mark.parametrize("backing", ["in-place", "separate"])
def test_a_page_is_mapped_in_the_half_of_its_owner_alone(backing, merge):
    """Below vTOM while it is the guest's, above it while it is the host's; its neighbours stay where they are."""
    with Stage.open(amd(), Setting(backing, trusted=True, merge=merge)) as stage:
        page, beside = G + 5 * PAGE, G + 6 * PAGE
        for start, end, owner in (
            (page, page + PAGE, HOST),
            (page, page + PAGE, GUEST),
            (G + M, G + 5 * M, HOST),
            (G + M, G + 5 * M, GUEST),
            (G, 2 * G, HOST),
            (page, page + PAGE, GUEST),
        ):
            for subject in stage.plans([(start, end)], owner):
                assert [each.what for each in check(subject).violations] == []
            stage.convert([(start, end)], owner)
            for gpa in (0, page, beside, start, end - PAGE, 2 * G - PAGE):
                pa = stage.guest.pa(gpa)
                expected = [pa, None] if stage.guest.owner(gpa) == GUEST else [None, pa]
                assert halves(stage, gpa) == expected, hex(gpa)


@pytest.mark.parametrize("owner", [HOST, GUEST])
def test_one_plan_moves_the_page_over(owner):
    """Unmapped in one half before the owner changes, mapped in the other after it, under one root."""
    with Stage.open(amd(), Setting("in-place", trusted=True)) as stage:
        ranges = [(G + 5 * PAGE, G + 6 * PAGE)]
        if owner == GUEST:
            stage.convert(ranges, HOST)
        (subject,) = stage.plans(ranges, owner)
        iovas = {"left": ranges[0][0], "joined": VTOM + ranges[0][0]}
        if owner == GUEST:
            iovas = {"left": iovas["joined"], "joined": iovas["left"]}
        steps = [step for _, step in subject.steps]
        wiped = [i for i, step in enumerate(steps) if isinstance(step, Store) and step.what.startswith("wipe")]
        mapped = [i for i, step in enumerate(steps) if isinstance(step, Store) and step.what.startswith("map")]
        (owned,) = [i for i, step in enumerate(steps) if isinstance(step, Own) and step.op == "RMPUPDATE"]
        assert max(wiped) < owned < min(mapped)
        assert {steps[i].iova for i in wiped} == {iovas["left"]}
        assert {steps[i].iova >> 39 for i in mapped} == {iovas["joined"] >> 39}


@pytest.mark.parametrize("owner", [HOST, GUEST])
def test_a_half_that_is_mapped_before_the_owner_changed_is_caught(owner):
    """The new alias, mapped while the page is still the old owner's, breaks C2; the old one, not unmapped, too."""
    with Stage.open(amd(), Setting("in-place", trusted=True)) as stage:
        ranges = [(G + 5 * PAGE, G + 6 * PAGE)]
        if owner == GUEST:
            stage.convert(ranges, HOST)
        (right,) = stage.plans(ranges, owner)
        refresh = [("isolate", step) for section, step in right.steps if section == "refresh"]
        rest = [each for each in right.steps if each[0] != "refresh"]
        at = next(i for i, (section, _) in enumerate(rest) if section == "own")
        assert "C2" in check(mutated(right, [*rest[:at], *refresh, *rest[at:]])).rules
        kept = [
            (section, step)
            for section, step in right.steps
            if not (isinstance(step, Store) and step.what.startswith("wipe"))
        ]
        assert "C2" in check(mutated(right, kept)).rules


@pytest.mark.parametrize("at", [VTOM, 0])
def test_a_page_left_in_the_wrong_half_is_caught(at):
    """A neighbour that both halves map breaks F1: its owner does not grant one of the two."""
    with Stage.open(amd(), Setting("in-place", trusted=True)) as stage:
        stage.convert([(0, G)], HOST)
        domain, gpa = stage.domains[0], G + 4 * M if at else 4 * M
        stage.convert([(gpa - PAGE, gpa)], GUEST if at == 0 else HOST)
        (right,) = stage.plans([(gpa - PAGE, gpa)], HOST if at == 0 else GUEST)
        assert not check(right).violations
        table, level = domain.planner.root_pa, 4
        while level > 1:  # to the table of 4K leaves that the converting page is in, in the half that loses it
            word = domain.memory.load(table + 8 * ((at + gpa - PAGE) >> 12 + 9 * (level - 1) & 0x1FF))
            table, level = word & ADDRESS, word >> 9 & 7
        slot = table + 8 * 510
        word = domain.memory.load(table + 8 * 511) - PAGE
        domain.memory.store(slot, word)
        assert "F1" in check(right).rules


@pytest.mark.parametrize("scenario", [each for each in SCENARIOS if each.id != "range-2m"], ids=lambda each: each.id)
def test_every_scenario_holds_with_both_halves(scenario):
    """No rule breaks in any scenario; what the engine can do is not refused."""
    row = check_row(registry("amd"), "amd", "amd/v1", FEATURES, scenario)
    assert row.outcome in ("ok", "not_applicable"), row


CONFIG = """
[guest]
memory = "4G"
[[domain]]
vendor = "amd"
trusted = true
"""
ALIAS = """ioas = "alias"
[[ioas]]
name = "alias"
area = [{ iova = 0, gpa = 0, size = "4G" }, { iova = "%s", gpa = 0, size = "4G" }]
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("features = { vtom = 32768 }\n" + ALIAS % "62G", "[0xf80000000, 0x1080000000) is both @ $.domain[0].ioas"),
        ("features = { vtom = 1024 }\n", "IOVAs below 0x80000000 are private, all others shared"),
        ("features = { vtom = 32768, snp = false }\n", "needs snp (AMD-DTE-25)"),
        ("features = { vtom = 0x80000000 }\n", "does not fit the 31 bits of its field (AMD-DTE-25)"),
        ("features = { vtom = -1 }\n", "does not fit the 31 bits of its field (AMD-DTE-25)"),
        ('features = { vtom = 32768 }\npolicy = "match"\n', "no policy 'match', it has wipe"),
        (
            'features = { vtom = 32768 }\nstage1 = { format = "amd/v2" }\n',
            "no guest's tables stand over a table that holds both halves @ $.domain[0].stage1",
        ),
    ],
)
def test_what_a_configuration_cannot_say(text, expected):
    """An area over vTOM, tables without a secure DTE, a policy that maps a page in both halves: faults with a path."""
    config = load_text(CONFIG + text)
    with pytest.raises(ConfigurationError) as caught:
        check_config(config, open_registry(config))
    assert any(expected in each for each in caught.value.faults), caught.value.faults


def test_a_domain_refuses_an_area_over_vtom():
    """Without a configuration, opening the domain says it."""
    with Stage.open(amd(), Setting("in-place", trusted=True)) as stage:
        unit = stage.domains[0].units[0]
        with pytest.raises(HitlessError, match="all others shared"):
            Domain.open(
                "over",
                amd(),
                stage.guest,
                stage.machine.arena,
                stage.machine.tables,
                [(unit, 9, [(0x99, False)])],
                DomainSettings(trusted=True),
                ioas=Ioas([Area(VTOM - M, 0, 2 * M)]),
            )


def test_the_secure_dte_holds_vtom_as_the_feature_says_it():
    """At byte 0x28 bit 0 enables it, bits 31:1 are vTOM in 2M: 64G is 0x8000 there."""
    layout = amd().structures.layouts["sdte"]
    words = layout.encode(V=1, IR=1, IW=1, VTomEn=1, vTOM=FEATURES["vtom"])
    assert words[0] == 0x6000_0000_0000_0001
    assert words[5] == 0x8000 << 1 | 1 == (VTOM >> 21) << 1 | 1
    assert layout.width == 8 * 64

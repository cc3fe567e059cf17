"""A realm's halves: what the RMM is asked for, in which order, and what becomes of it when it does not do it."""

import random

import pytest

from hitless.check import check
from hitless.check.stage import Setting, Stage
from hitless.errors import OwnerChangeRefused, Refused
from hitless.guest_memfd.backing import GUEST, HOST, make_backing
from hitless.guest_memfd.guest import GuestMemfd
from hitless.guest_memfd.slots import Slot, Slots
from hitless.hardware.dma import DmaEngine, Lane
from hitless.iommufd import Domain, DomainSettings, Ioas
from hitless.iommufd.ioas import Area
from hitless.machine import Machine
from hitless.ownership import FIRMWARE, OTHER_GUEST, OwnerTable
from hitless.plan import Barrier, Call, Invalidate, Own, Store, Wait
from hitless.refresh.executor import Answer
from stand import PAGE, G, M, Stand, registry

PAGE_IN = [(G + 5 * PAGE, G + 6 * PAGE)]
TOP = 1 << 47
"""The top bit of a 48-bit IPA: the unprotected half (ARM-GPT-8)."""
NS = 1 << 55


def realm(half, **features):
    """The vendor with one half of a realm."""
    return registry("arm_smmu").resolve("arm_smmu", "arm_smmu/stage2", {"half": half, **features})


def calls(subject):
    """(operation, kinds of effects) of each call and owner change, in order."""
    found = []
    for _, step in subject.steps:
        if isinstance(step, Call):
            found.append((step.op, [type(effect).__name__ for effect in step.effects]))
        elif isinstance(step, Own):
            found.append((step.op, step.owner))
    return found


# -- what is checked


@pytest.mark.parametrize(
    ("half", "owner", "trusted", "ok"),
    [
        ("protected", GUEST, True, True),
        ("protected", GUEST, False, False),
        ("protected", HOST, True, False),
        ("protected", OTHER_GUEST, True, True),
        ("protected", FIRMWARE, True, False),
        ("unprotected", HOST, False, True),
        ("unprotected", HOST, True, True),
        ("unprotected", GUEST, True, False),
        ("unprotected", FIRMWARE, True, False),
    ],
)
def test_a_half_makes_accesses_of_one_address_space(half, owner, trusted, ok):
    """A leaf of the protected half reaches Realm granules only, one with NS only the host's (ARM-GPT-3, ARM-GPT-17)."""
    table = OwnerTable()
    table.set(0x5000, 0x6000, owner, 12)
    verdict = realm(half).ownership.verdict(table, 0x5000, 21, trusted)
    assert (verdict.ok, verdict.size_lg2, verdict.outcome) == (ok, 12, "" if ok else "owner")


# -- what the RMM is asked for


def test_a_page_leaves_the_protected_half_before_its_granule_does():
    """Unfold, destroy, and only then the granule turns Non-secure; back: the granule first (ARM-GPT-20)."""
    with Stage.open(realm("protected", rmm_bbml2=True), Setting("in-place", memory=2 * G)) as stage:
        (subject,) = stage.plans(PAGE_IN, HOST)
        closed = ["Store", "Barrier", "Invalidate", "Wait"]
        assert calls(subject)[:2] == [("RMI_RTT_CREATE", closed), ("RMI_DATA_DESTROY", closed)]
        assert calls(subject)[2:] == [*[("GPT_SHATTER", GUEST)] * 3, ("GPT", HOST)]
        assert not check(subject).violations
        stage.convert(PAGE_IN, HOST)
        (subject,) = stage.plans(PAGE_IN, GUEST)
        owners, made = calls(subject)[:-1], calls(subject)[-1]
        assert owners[0] == ("GPT", GUEST)
        assert {op for op, _ in owners[1:]} == {"GPT_FUSE"}
        assert made == ("RMI_DATA_CREATE", ["Store", "Barrier"])
        assert not check(subject).violations


def test_the_unprotected_half_is_the_reverse():
    """A page that turns private is unmapped there first; what turns shared is mapped when its granule is the host's."""
    with Stage.open(realm("unprotected", rmm_bbml2=True), Setting("in-place", memory=2 * G)) as stage:
        stage.share_all()
        (subject,) = stage.plans(PAGE_IN, GUEST)
        assert [op for op, _ in calls(subject)][:2] == ["RMI_RTT_CREATE", "RMI_RTT_UNMAP_UNPROTECTED"]
        assert calls(subject)[-1] == ("GPT", GUEST)
        stage.convert(PAGE_IN, GUEST)
        (subject,) = stage.plans(PAGE_IN, HOST)
        assert [op for op, _ in calls(subject)][-1] == "RMI_RTT_MAP_UNPROTECTED"


@pytest.mark.parametrize("half", ["protected", "unprotected"])
def test_unfolding_breaks_before_it_makes(half):
    """Refused, with the ways out; when it is forced, 0 is stored, invalidated and waited for, then the pointer: N1."""
    with Stage.open(realm(half), Setting("in-place", memory=2 * G)) as stage:
        stage.share_all()
        before = stage.machine.tables.state()
        with pytest.raises(Refused) as caught:
            stage.plans(PAGE_IN, stage.turned(GUEST))
        assert caught.value.reason == "arm_smmu.rmm-unfold"
        assert stage.machine.tables.state() == before
    with Stage.open(realm(half), Setting("in-place", memory=2 * G, allow_break=True)) as stage:
        stage.share_all()
        (subject,) = stage.plans(PAGE_IN, stage.turned(GUEST))
        call = next(step for _, step in subject.steps if isinstance(step, Call))
        kinds = [Store, Barrier, Invalidate, Wait, Store, Barrier]
        assert [type(effect) for effect in call.effects] == kinds
        assert not call.held
        broken, made = call.effects[0], call.effects[4]
        assert (broken.new, made.expected) == (0, 0)
        assert made.new & 3 == 3
        assert {each.rule for each in check(subject).violations} == {"N1"}


def test_folding_breaks_before_it_makes():
    """The page is back, and all 512 entries are one again: refused as well, unless the RMM relies on BBML 2."""
    for features, reason in (({}, "arm_smmu.rmm-fold"), ({"rmm_bbml2": True}, "")):
        setting = Setting("in-place", memory=2 * G, merge="at_once")
        with Stage.open(realm("protected", **features), setting) as stage:
            stage.convert(PAGE_IN, HOST)
            if reason:
                with pytest.raises(Refused) as caught:
                    stage.plans(PAGE_IN, GUEST)
                assert caught.value.reason == reason
            else:
                (subject,) = stage.plans(PAGE_IN, GUEST)
                assert "RMI_RTT_FOLD" in dict(calls(subject))
                assert not check(subject).violations


def test_a_walker_that_does_not_snoop_is_cleaned_for():
    """Each store of the RMM is pushed out of the cache before its barrier."""
    with Stage.open(realm("protected", rmm_bbml2=True, coherent=False), Setting("in-place", memory=2 * G)) as stage:
        (subject,) = stage.plans(PAGE_IN, HOST)
        assert calls(subject)[0] == ("RMI_RTT_CREATE", ["Store", "Clean", "Barrier", "Invalidate", "Wait"])
        assert not check(subject).violations


def test_leaves_say_their_address_space():
    """Bit 55 of a leaf: 0 in the protected half, 1 in the unprotected one; all else is the same (ARM-GPT-17)."""
    words = {
        half: realm(half).page_format.leaf(21, 0x4000_0000, realm(half).page_format.default_attrs(3)) for half in HALVES
    }
    assert words["protected"] == 0x4000_0000 | 0x7FD
    assert words["unprotected"] == 0x4000_0000 | 0x7FD | NS


HALVES = ("protected", "unprotected")


@pytest.mark.parametrize(
    "features",
    [
        {"half": "protected", "gpc": False},
        {"half": "protected", "granule": "16K"},
        {"half": "unprotected", "contiguous": True},
        {"half": "unprotected", "httu": True},
        {"half": "protected", "rmm_bbml2": True, "bbml": 1},
        {"rmm_bbml2": True},
    ],
)
def test_what_a_realm_cannot_be(features):
    """Named with its fact."""
    vendor = registry("arm_smmu").resolve("arm_smmu").features
    assert "ARM-" in type(vendor)(**features).impossible()


# -- both halves together


class Realm:
    """One guest with a domain for each half of its realm; IOVAs of the unprotected one have the top bit set."""

    def __init__(self, backing, **features):
        slots = Slots([Slot(0, 0, 2 * G)])
        self.guest = GuestMemfd(slots, make_backing(backing, 1 << 41, slots.size, 30), 30)
        self.machine = Machine(0, table_bytes=1 << 26)
        self.domains, self.engines = {}, {}
        for tag, half in enumerate(HALVES, 1):
            vendor = realm(half, **features)
            unit = self.machine.add_unit(half, vendor)
            view = Ioas([Area(TOP if half == "unprotected" else 0, 0, 2 * G)])
            domain = Domain.open(
                half,
                vendor,
                self.guest,
                self.machine.arena,
                self.machine.tables,
                [(unit, tag, [(8, False)])],
                DomainSettings(merge="at_once"),
                ioas=view,
            )
            self.guest.notifiers.append(domain)
            engine = DmaEngine(
                self.guest,
                [Lane(unit, unit.attachments[8, None])],
                domain.default_attrs,
                random.Random(7),
                domain.policy.maps_private,
                24,
                view.points,
                maps_shared=domain.policy.maps_shared,
            )
            domain.executor.between = lambda step, engine=engine: engine.burst()
            unit.idle = engine.one
            self.domains[half], self.engines[half] = domain, engine
        self.guest.watchers.append(self)

    def begin(self, conversion):
        for engine in self.engines.values():
            engine.begin(conversion, [(a >> 21 << 21, (a >> 21 << 21) + 2 * M) for a, _ in conversion.ranges])

    def end(self, conversion):
        for engine in self.engines.values():
            engine.end(conversion)

    def leaf(self, half, gpa):
        """The words of the walk to a page, by the spec's indexes (4K granule, 48 bits); the last is the leaf's."""
        domain = self.domains[half]
        iova, table = gpa | (TOP if half == "unprotected" else 0), domain.planner.root_pa
        for lo in (39, 30, 21, 12):
            word = self.machine.arena.load(table + 8 * (iova >> lo & 511))
            if word & 3 != 3 or lo == 12:
                return word
            table = word & 0xFFFF_FFFF_F000
        raise AssertionError


@pytest.mark.parametrize("backing", ["in-place", "separate"])
def test_both_halves_follow_one_guest(backing):
    """A page is in one half only, at its own address there, and no DMA in either half notices a neighbour's way."""
    here = Realm(backing, rmm_bbml2=True)
    gpa = G + 5 * PAGE
    here.guest.convert([(G, G + 4 * M)], HOST)
    for owner in (GUEST, HOST, GUEST):
        here.guest.convert([(gpa, gpa + PAGE)], owner)
        pa = here.guest.pa(gpa)
        mapped = "protected" if owner == GUEST else "unprotected"
        for half in HALVES:
            word = here.leaf(half, gpa)
            assert bool(word & 1) == (half == mapped)
            if half == mapped:
                span = 0xFFF if word & 2 else 0x1F_FFFF
                assert (word & 0xFFFF_FFFF_F000 | gpa & span & ~0xFFF) == pa
                assert bool(word & NS) == (half == "unprotected")
    for engine in here.engines.values():
        assert (engine.counters.neighbour_faults, engine.counters.neighbour_misrouted) == (0, 0)
        assert engine.counters.neighbour > 500
    assert here.engines["unprotected"].counters.near > 50
    for domain in here.domains.values():
        assert domain.fenced == []


# -- what the RMM answers


def stand():
    """A realm's protected half with one device that does DMA at every moment."""
    return Stand("arm_smmu", "in-place", {"half": "protected", "rmm_bbml2": True}, 2 * G, settings={"merge": "at_once"})


def test_busy_is_asked_again():
    """A few busy answers cost calls, and nothing else."""
    here, asked = stand(), []

    def busy(call, done):
        asked.append(call.op)
        return Answer(0) if len(asked) < 5 else Answer(len(call.effects) - done)

    here.domain.executor.firmware = busy
    here.share(G + 5 * PAGE)
    assert asked[:5] == ["RMI_RTT_CREATE"] * 5
    assert here.engine.counters.neighbour_faults == 0
    assert here.guest.held == []


def test_a_call_that_does_a_part_is_asked_for_the_rest():
    """One effect each time: the call is not done before its invalidation has been waited for."""
    here = stand()
    here.domain.executor.firmware = lambda call, done: Answer(1)
    here.share(G + 5 * PAGE)
    assert here.guest.owner(G + 5 * PAGE) == HOST
    assert here.engine.counters.neighbour_faults == 0
    assert here.domain.fenced == []


def test_a_refused_unfold_changes_nothing_for_good():
    """The conversion fails; owners and translations are as before."""
    here = stand()
    here.domain.executor.firmware = lambda call, done: Answer(0, "RMI_ERROR_RTT")
    with pytest.raises(OwnerChangeRefused, match="RMI_ERROR_RTT"):
        here.share(G + 5 * PAGE)
    assert here.guest.owner(G + 5 * PAGE) == GUEST
    assert here.engine.counters.neighbour_faults == 0
    assert here.domain.fenced == []


def test_what_never_answers_is_fenced():
    """Its devices are blocked, and the old memory is never given back."""
    here = stand()
    here.domain.executor.firmware = lambda call, done: Answer(0)
    here.share(G + 5 * PAGE)
    assert here.domain.fenced == ["iommu0"]
    assert all(each.blocked for each in here.domain.units[0].attachments.values())
    assert here.guest.held

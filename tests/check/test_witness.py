"""Plans carried out on emulated units: what devices see before, during and after; mistakes that a witness notices."""

from collections.abc import Iterator

import attrs
import pytest

from hitless.check.scenarios import SCENARIOS
from hitless.check.stage import Setting
from hitless.check.suite import ground_of
from hitless.check.witness import NOT_SHOWN, Seen, WitnessStage, witness
from hitless.guest_memfd.guest import GUEST, HOST
from hitless.machine.qemu.errors import NoEmulator
from hitless.pagetable import translate
from hitless.plan import Invalidate, Store, Wait
from qemu_stand import FORMATS, emulated, vendors

K, M, G = 1 << 10, 1 << 20, 1 << 30
PAGE = 4 * K
IDS = [name for _, name in FORMATS]


@pytest.fixture(params=FORMATS, ids=IDS)
def stage(request) -> Iterator[WitnessStage]:
    """A guest of 2 GiB in hunks of 1 GiB, all shared."""
    yield from opened(*request.param, Setting("separate"))


@pytest.fixture(params=FORMATS, ids=IDS)
def small_stage(request) -> Iterator[WitnessStage]:
    """A guest of 64 MiB in hunks of 2 MiB, all shared."""
    yield from opened(*request.param, Setting("separate", memory=64 * M, hunk_lg2=21))


def opened(vendor: str, page_format: str, setting: Setting) -> Iterator[WitnessStage]:
    """A stage, or a skip where there is no QEMU that can."""
    try:
        with WitnessStage.open(emulated(vendor, page_format), setting) as stage:
            stage.share_all()
            yield stage
    except NoEmulator as error:
        pytest.skip(f"{error.what} ({error.why})" if error.why else error.what)


class Watch:
    """Looks at a page in conversion and at its neighbours before and after every step."""

    def __init__(self, stage: WitnessStage, page: int, neighbours: list[int], shared: int) -> None:
        self.domain = stage.domains[0]
        self.unit = self.domain.units[0]
        self.device = next(iter(self.unit.devices))
        self.page, self.neighbours, self.shared = page, neighbours, shared
        self.seen: list[int | None] = []
        self.stale = 0
        self.wrong: list[str] = []
        self.last = None
        self.domain.executor.between = self.between

    def at(self, iova: int) -> int | None:
        found = self.unit.look(self.device, iova, write=True)
        return found and found[0]

    def between(self, step) -> None:
        """Not between two commands of very many."""
        if not (isinstance(step, Invalidate) and isinstance(self.last, Invalidate)):
            self.look(step)
        self.last = step

    def look(self, step) -> None:
        seen = self.at(self.page)
        memory = translate(self.domain.memory, self.domain.vendor.page_format, self.domain.planner.root_pa, self.page)
        self.stale += seen != memory
        self.seen.append(seen)
        for iova in self.neighbours:
            if (found := self.at(iova)) != self.shared + iova:
                self.wrong.append(f"{iova:#x} went to {found and hex(found)} before {step}")


def check_refresh(stage: WitnessStage, start: int, end: int, neighbours: list[int]) -> None:
    """To private and back: old before; old, new, or nothing where this vendor breaks or wipes, during; new after."""
    policy, recipes = stage.domains[0].policy, stage.vendor.recipes
    pools = {owner: pa for pa, _, owner in stage.guest.backing.pools()}
    private, shared = pools[GUEST] + start, pools[HOST] + start
    hidden = private if policy.maps_private else None
    may_fault = not policy.maps_private or len(recipes.replace.rounds) > 1
    for owner, old, new in ((GUEST, shared, hidden), (HOST, hidden, shared)):
        watch = Watch(stage, start, neighbours, pools[HOST])
        watch.look(None)
        stage.guest.convert([(start, end)], owner)
        watch.look(None)
        assert watch.wrong == []
        assert watch.seen[0] == old
        assert watch.seen[-1] == new
        assert set(watch.seen) <= ({old, new} | ({None} if may_fault else set()))
        if old is not None:
            assert watch.stale, "nothing stale was seen: the witness would not have noticed a missing invalidation"


def test_a_page_of_a_1g_leaf(stage):
    """Cut 1G -> 2M -> 4K, then the page is replaced: all around it goes on."""
    page = G + 2 * M + 5 * PAGE
    check_refresh(stage, page, page + PAGE, [page - PAGE, page + PAGE, G, G + 4 * M, 2 * G - PAGE])


def test_a_whole_1g_leaf(stage):
    """A 1G leaf is replaced as one; the hunk below goes on."""
    check_refresh(stage, G, 2 * G, [G - PAGE, 0])


def test_a_page_of_a_2m_leaf(small_stage):
    """Cut 2M -> 4K, then the page is replaced."""
    page = 4 * M + 5 * PAGE
    check_refresh(small_stage, page, page + PAGE, [page - PAGE, page + PAGE, 4 * M, 6 * M - PAGE, 6 * M])


def test_a_whole_2m_leaf(small_stage):
    """A 2M leaf is replaced as one; its neighbours go on."""
    check_refresh(small_stage, 4 * M, 6 * M, [4 * M - PAGE, 6 * M, 6 * M + PAGE])


class Mistake:
    """Changes every plan once it is prepared."""

    def __init__(self, stage: WitnessStage, change) -> None:
        self.stage, self.change = stage, change

    def begin(self, conversion) -> None:
        plan = self.stage.domains[0].pending(conversion).plan
        plan.isolate[:] = filter(None, map(self.change, plan.isolate))
        plan.refresh[:] = filter(None, map(self.change, plan.refresh))

    def end(self, conversion) -> None:
        pass


def mistaken(stage: WitnessStage, change) -> Seen:
    """What devices see when a page goes there and back by plans with a mistake."""
    seen = Seen()
    stage.watch(seen)
    stage.guest.watchers.insert(0, Mistake(stage, change))
    for page in range(G + 2 * M, G + 18 * M, 2 * M):
        stage.convert([(page, page + 64 * K)], GUEST)
    stage.finish()
    return seen


def test_right_plans_break_nothing(stage):
    """The same conversions without a mistake."""
    seen = mistaken(stage, lambda step: step)
    dma = seen.dma
    assert (dma.neighbour_faults, dma.neighbour_misrouted, dma.converted_misrouted, dma.stale) == (0, 0, 0, 0)
    assert min(dma.near, dma.converted, seen.witnessed.by_dma) > 50


def test_a_missing_invalidation_is_seen(stage):
    """Stores without commands: after refresh a device still reaches the old memory (F1)."""
    assert mistaken(stage, lambda step: None if isinstance(step, Invalidate) else step).dma.stale


def test_a_cut_that_unmaps_is_seen(stage):
    """A cut whose store empties the entry, as unmap and remap would: neighbours fault (N1)."""
    emptied = mistaken(
        stage,
        lambda step: attrs.evolve(step, new=0, fold=[]) if isinstance(step, Store) and step.what == "cut" else step,
    )
    assert emptied.dma.neighbour_faults


def test_waits_are_real(stage):
    """Each wait of a plan is a command that QEMU has taken: the queue's head has passed it when it returns."""
    unit, waits = stage.domains[0].units[0], 0

    def between(step) -> None:
        nonlocal waits
        if isinstance(step, Wait):
            waits += 1
        unit.process()
        assert step is None or not isinstance(before[-1], Wait) or unit.head == unit.tail
        before.append(step)

    before = [None]
    stage.domains[0].executor.between = between
    stage.convert([(G, G + PAGE)], GUEST)
    assert waits


@pytest.mark.parametrize(("vendor", "page_format"), FORMATS, ids=IDS)
@pytest.mark.parametrize("name", ["one-page-in-2m", "two-tags", "two-spaces", "merge", "ats", "hung-unit"])
def test_scenarios(vendor, page_format, name):
    """Scenarios hold on every vendor's emulated unit; what it cannot show says why, and counts nothing."""
    features = dict(emulated(vendor, page_format).emulator.features)
    scenario = next(each for each in SCENARIOS if each.id == name)
    try:
        row = witness(ground_of(vendors(vendor), vendor, page_format, features), features, scenario)
    except NoEmulator as error:
        pytest.skip(f"{error.what} ({error.why})" if error.why else error.what)
    shown = name not in ("ats", "hung-unit")
    assert row.outcome == ("ok" if shown else "not_applicable")
    assert {row.rules[rule] for rule in ("N1", "N2", "C1", "F1")} == {0 if shown else None}
    assert row.rules["K1"] is None
    assert bool(row.seen.conversions) is shown
    assert bool(row.reason) is not shown


def test_a_missing_qemu_is_not_a_scenario_that_does_not_apply(monkeypatch, tmp_path):
    """Where QEMU is not installed, or fails, no scenario passes for one that has nothing to do here."""
    vendor, page_format = FORMATS[0]
    features = dict(emulated(vendor, page_format).emulator.features)
    ground = ground_of(vendors(vendor), vendor, page_format, features)
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("one-page-in-2m", "two-tags", "two-spaces"):
        with pytest.raises(NoEmulator, match="not installed"):
            witness(ground, features, next(each for each in SCENARIOS if each.id == name))


def test_what_cannot_be_shown_names_scenarios():
    """Every id in the list is one of a scenario's."""
    assert set(NOT_SHOWN) <= {each.id for each in SCENARIOS}

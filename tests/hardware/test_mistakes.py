"""Mistakes fail loudly: each one, put into a plan that is right, is seen by devices of the running model."""

import attrs
import pytest

from hitless.hardware.facts import Drops
from hitless.plan import Invalidate, Plan, Store, Wait
from hitless.refresh.recipes import Recipes, Round, Scope, new_word, one_store
from stand import PAGE, G, M, Stand

VENDORS = ("amd", "intel", "arm_smmu")


def recipes(stand: Stand, **changes):
    """Give the stand's domain other recipes than its vendor's."""
    assembler = stand.domain.planner.assembler
    changed: Recipes = attrs.evolve(assembler.recipes, **changes)
    stand.domain.planner.assembler = attrs.evolve(assembler, recipes=changed)


def replaced(plan: Plan, section: str, change):
    """Put every step of a section through ``change``; None leaves it out."""
    steps = getattr(plan, section)
    setattr(plan, section, [new for step in steps if (new := change(step)) is not None])


def no_waits(plan: Plan) -> None:
    """Leave every wait out."""
    for section in ("isolate", "refresh"):
        replaced(plan, section, lambda step: None if isinstance(step, Wait) else step)


def shared_2m(vendor: str, backing: str = "separate", **more) -> Stand:
    """A stand whose pages 0x40000000 to 4 MiB are shared 2M leaves that are in the caches."""
    stand = Stand(vendor, backing, **more)
    stand.share(0x40000000, 4 * M)
    stand.engine._near = [(0x40000000, 0x40400000)]
    stand.warm()
    assert stand.violations() == {}
    return stand


@pytest.mark.slow
@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("backing", ["in-place", "separate", "scattered"])
@pytest.mark.parametrize("ats", [False, True])
def test_the_right_plan_breaks_nothing(vendor, backing, ats):
    """Without a mistake no rule breaks: single pages, 2M ranges, both ways, with and without ATS, two units."""
    stand = Stand(vendor, backing, ats=ats, units=2, settings={"merge": "at_once"})
    for start, size in ((0x40000000, 4 * M), (0x80000000, PAGE), (0xBFFFF000, PAGE), (0x40200000, 2 * M)):
        stand.share(start, size)
    for start, size in ((0x40001000, PAGE), (0x401FF000, 2 * PAGE), (0x40200000, 2 * M), (0x80000000, PAGE)):
        stand.hide(start, size)
    stand.share(0x40001000)
    assert stand.violations() == {}
    assert stand.seen.neighbour > 500


def test_bbml1_breaks_nothing():
    """At BBML1 the cut goes through nT, and the model, which knows conflicts, sees none."""
    stand = shared_2m("arm_smmu", features={"bbml": 1})
    stand.hide(0x40005000)
    stand.warm()
    assert stand.violations() == {}
    assert stand.domain.cuts > 0


def test_amd_4k_invalidation_after_cutting_2m():
    """AMD: a 4K command leaves the cached 2M leaf, which still leads to the old page (AMD-INV-2)."""
    stand = shared_2m("amd")

    def small(step):
        if isinstance(step, Invalidate):
            return attrs.evolve(step, words=(step.words[0], 0x40005000))
        return step

    stand.mutate = lambda plan: (replaced(plan, "isolate", small), replaced(plan, "refresh", small))
    stand.hide(0x40005000)
    assert stand.violations().get("F1")


@pytest.mark.parametrize("vendor", ["intel", "amd"])
def test_a_merge_invalidated_as_a_leaf(vendor):
    """After table -> leaf with IH=1 or PDE=0 a walk cache leads into the freed table (INTEL-LIVE-2, AMD-LIVE-3)."""
    stand = shared_2m(vendor, settings={"merge": "at_once"})
    recipes(stand, merge=one_store(Scope.LEAF, "a mistake"))
    stand.hide(0x40005000)
    stand.engine._near = [(0x40000000, 0x40200000)]
    stand.warm()
    stand.share(0x40005000)
    stand.warm(200)
    assert stand.domain.merges
    assert stand.violations().get("R1")


class NewLevel:
    """An encoder that says the leaves were small already."""

    def __init__(self, encoder):
        self.encoder = encoder

    def __getattr__(self, name):
        return getattr(self.encoder, name)

    def invalidate(self, target, tag):
        return self.encoder.invalidate(target._replace(level=0), tag)


def test_arm_ttl_of_the_new_level():
    """Arm: a TTL that names the level after the cut spares the cached block (ARM-TLBI)."""
    found = {}
    for seed in range(4):
        stand = shared_2m("arm_smmu", seed=seed)
        assembler = stand.domain.planner.assembler
        units = tuple(attrs.evolve(unit, encoder=NewLevel(unit.encoder)) for unit in assembler.units)
        stand.domain.planner.assembler = attrs.evolve(assembler, units=units)
        stand.hide(0x40005000)
        found |= stand.violations()
    assert found.get("F1")


def test_bbml1_cut_without_nt():
    """BBML1: a cut in one store puts block and page into one TLB: F_TLB_CONFLICT at a neighbour (ARM-LIVE)."""
    found = {}
    for seed in range(4):
        stand = shared_2m("arm_smmu", features={"bbml": 1}, seed=seed)
        recipes(stand, cut=one_store(Scope.LEAF, "a mistake"))
        stand.hide(0x40005000)
        found |= stand.violations()
    assert found.get("N1")


def test_the_new_entry_before_the_wait_of_its_break():
    """The new address is stored before the break's wait: old and new stand in one cache (rule K1)."""
    stand = shared_2m("arm_smmu")
    stand.hide(0x40005000)
    stand.engine._near = [(0x40005000, 0x40006000)]

    def early(plan: Plan) -> None:
        stores = [step for step in plan.refresh if isinstance(step, Store)]
        rest = [step for step in plan.refresh if not isinstance(step, Store)]
        plan.refresh = [*stores, *rest]

    stand.mutate = early
    stand.rate = stand.engine.rate = 200
    stand.share(0x40005000)
    assert stand.violations().get("K1")


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_missing_wait(vendor):
    """Without waits a command may still lie in the queue, and a request in flight, when refresh has returned."""
    found = {}
    for seed in range(6):
        stand = shared_2m(vendor, seed=seed)
        stand.mutate = no_waits
        stand.hide(0x40005000)
        found |= stand.violations()
    assert found.get("F1") or found.get("C1")


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_second_unit_forgotten(vendor):
    """What only one unit was told, the other one does not know."""
    stand = shared_2m(vendor, units=2)

    def first_only(step):
        return None if isinstance(step, Invalidate | Wait) and step.unit == "iommu1" else step

    stand.mutate = lambda plan: (replaced(plan, "isolate", first_only), replaced(plan, "refresh", first_only))
    stand.hide(0x40005000)
    assert stand.violations().get("F1") or stand.violations().get("C1")


def test_in_place_amd_without_the_invalidation_after_the_owner_change():
    """AMD in place: no entry changes, but the RMP verdict is cached with the translation (AMD-RMP-6)."""
    stand = shared_2m("amd", "in-place")
    stand.hide(0x40006000)
    stand.share(0x40006000)
    stand.engine._near = [(0x40000000, 0x40200000)]
    stand.warm()
    stand.mutate = lambda plan: replaced(plan, "refresh", lambda step: None)
    stand.hide(0x40006000)
    assert stand.violations().get("F1")


def test_arm_gpt_changed_without_its_own_invalidation():
    """Arm in place: the GPT's verdict is cached; the change has to carry its invalidation by PA (ARM-GPT)."""
    stand = Stand("arm_smmu", "in-place")
    stand.share(0x40000000, 2 * M)
    stand.engine._near = [(0x40000000, 0x40200000)]
    stand.warm(200)
    stand.mutate = lambda plan: replaced(plan, "own", lambda step: attrs.evolve(step, drops="none"))
    stand.hide(0x40000000, 2 * M)
    assert stand.violations().get("F1")


def test_intel_shared_leaf_left_when_a_page_turns_private():
    """Intel: a stale shared leaf reaches private memory: a machine check, which is never safe (INTEL-TDX-5)."""
    stand = shared_2m("intel", "in-place")
    stand.mutate = lambda plan: replaced(plan, "isolate", lambda step: None)
    stand.hide(0x40005000)
    assert stand.violations().get("C1")


def test_break_before_make_of_a_block_while_neighbours_are_live():
    """A cut by break-before-make is what the planner refuses: the neighbours fault."""
    stand = Stand("arm_smmu", features={"bbml": 0}, settings={"allow_break": True})
    stand.share(0x40000000, 4 * M)
    stand.engine._near = [(0x40000000, 0x40400000)]
    stand.warm()
    stand.hide(0x40005000)
    assert stand.violations().get("N1")


@pytest.mark.parametrize("vendor", VENDORS)
def test_more_replaced_than_asked(vendor):
    """One page too many: a neighbour's own page is no longer where it was."""
    stand = shared_2m(vendor)
    stand.hide(0x40005000)
    stand.share(0x40005000)

    def one_more(plan: Plan) -> None:
        for section in (plan.isolate, plan.refresh):
            for step in list(section):
                if isinstance(step, Store) and step.level == 0 and step.iova == 0x40005000:
                    word = stand.machine.arena.load(step.pa + 8)
                    more = attrs.evolve(step, pa=step.pa + 8, expected=word, iova=step.iova + PAGE)
                    section.insert(section.index(step) + 1, more)
                    return

    stand.mutate = one_more
    stand.hide(0x40005000)
    stand.mutate = None
    stand.engine._near = [(0x40006000, 0x40008000)]
    stand.warm()
    assert stand.violations().get("N1") or stand.violations().get("N2")


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_leaf_only_invalidation_after_a_cut_is_enough(vendor):
    """After leaf -> table nothing below can be in a walk cache: no vendor's cut drops table pointers."""
    stand = shared_2m(vendor)
    plan = stand.plan(0x40005000, owner=1)
    commands = [step.words for step in plan.isolate if isinstance(step, Invalidate)]
    effects = [effect for words in commands for effect in stand.domain.vendor.commands.decode(words)]
    assert effects and all(isinstance(effect, Drops) and not effect.tables for effect in effects)
    stand.hide(0x40005000)
    stand.warm()
    assert stand.violations() == {}


def test_a_wider_invalidation_is_harmless():
    """A command for the whole tag in place of the exact one breaks nothing."""
    stand = shared_2m("amd")
    assembler = stand.domain.planner.assembler
    rules = attrs.evolve(assembler.rules, whole_tag_commands=0)
    stand.domain.planner.assembler = attrs.evolve(assembler, rules=rules)
    stand.hide(0x40005000)
    stand.warm()
    assert stand.violations() == {}


def test_the_model_uses_what_the_recipe_says():
    """A recipe whose round asks for nothing is seen: the old leaf stays in the cache."""
    stand = shared_2m("amd")
    quiet = Recipes(
        **{
            kind: attrs.evolve(getattr(stand.domain.vendor.recipes, kind), rounds=(Round(new_word, Scope.NONE, "new"),))
            for kind in ("cut", "merge", "replace", "wipe", "map", "prune")
        }
    )
    assembler = stand.domain.planner.assembler
    stand.domain.planner.assembler = attrs.evolve(assembler, recipes=quiet)
    stand.hide(0x40000000 + PAGE)
    assert stand.violations().get("F1")


def test_the_size_of_the_guest_does_not_matter_to_the_stand():
    """The stand's neighbours are real: DMA near the leaf happens."""
    stand = Stand("amd", memory=2 * G)
    stand.share(0x40000000, 2 * M)
    stand.hide(0x40001000)
    assert stand.seen.near > 0

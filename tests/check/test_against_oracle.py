"""The checker's engine against the plain enumeration of the same machine, on random plans."""

import random

import pytest

from check import mini
from check.mini import Case
from check.oracle import Seen, enumerate_plan, whole
from check.plans import Steps, draw
from check.shrink import shrink, tell
from hitless.check import CheckUnit, Observation, Subject, Truth, observe
from hitless.hardware.vendor import Vendor
from hitless.ownership import OwnerTable
from hitless.pagetable import READ, WRITE
from hitless.plan import Call, Invalidate, Wait
from hitless.refresh.recipes import SplitRules


def subject(case: Case, steps: int | None = None) -> Subject:
    """A case as the checker takes it; the first ``steps`` of its plan."""
    facts, fmt = case.facts, mini.MiniFormat(case.facts)
    ownership = mini.MiniOwnership(facts)
    rules = SplitRules(fmt.leaf_lg2s, "MINI-6")
    vendor = Vendor(
        "mini",
        "hitless",
        "0",
        fmt,
        None,
        rules,
        None,
        mini.MiniCommands(facts),
        None,
        mini.hardware(facts),
        ownership,
        {},
    )
    owners = OwnerTable()
    for page, (owner, size_lg2) in case.owners.items():
        owners.set(page, page + mini.PAGE, owner, size_lg2)
    return Subject(
        vendor,
        mini.TinyMemory(case.words),
        case.root,
        tuple(CheckUnit(name, tag, devices) for name, tag, devices in case.units),
        owners,
        Truth([], fmt.default_attrs(READ | WRITE)),
        ownership.policies["check"],
        case.trusted,
        case.steps[:steps],
    )


def differences(seen: Seen, found: Observation) -> dict[str, tuple[set, set]]:
    """By field: what only the oracle has, and what only the engine has."""
    names = ("results", "pairs", "freed", "flight")
    both = {name: (getattr(seen, name), getattr(found, name)) for name in names}
    return {name: (set(ours - theirs), set(theirs - ours)) for name, (ours, theirs) in both.items() if ours != theirs}


def _invalidates_while_held(steps: Steps) -> bool:
    """Whether a call does so during which no request is made."""
    calls = [step for _, step in steps if isinstance(step, Call) and step.held]
    return any(isinstance(effect, Invalidate | Wait) for call in calls for effect in call.effects)


def compare(case: Case, prefixes: list[int]) -> str:
    """What differs after some numbers of steps, in words; empty if nothing does."""
    moments = enumerate_plan(case)
    for steps in prefixes:
        found = differences(whole(moments[: steps + 1]), observe(subject(case, steps)))
        if _invalidates_while_held(case.steps[:steps]):  # too much, never less
            found = {name: (ours, theirs) for name, (ours, theirs) in found.items() if ours}
        if found:
            lines = [
                f"{name}: only the oracle {ours}; only the engine {theirs}" for name, (ours, theirs) in found.items()
            ]
            return "\n".join([f"after {steps} steps", *lines])
    return ""


def check_seeds(seeds: range, prefixes: int) -> None:
    """Compare the plans of some seeds, odd ones with mistakes, as wholes and as ``prefixes`` of them."""
    for seed in seeds:
        case = draw(seed, mutated=bool(seed & 1))
        length = len(case.steps)
        if compare(case, [*random.Random(seed).sample(range(length), min(prefixes, length)), length]):
            small = shrink(case, lambda each: bool(compare(each, list(range(len(each.steps) + 1)))))
            pytest.fail(f"seed {seed}\n{tell(small)}\n{compare(small, list(range(len(small.steps) + 1)))}")


def test_a_few_random_plans_give_what_the_oracle_gives():
    """Results, pairs, reads of freed tables and what is in flight are the same, after every step."""
    check_seeds(range(40), prefixes=100)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 1600, 100))
def test_random_plans_give_what_the_oracle_gives(first):
    """The same for many plans, half of them with mistakes, at the end and after a few steps of each."""
    check_seeds(range(first, first + 100), prefixes=4)


def test_random_plans_reach_what_they_are_for():
    """There are pairs, reads of freed tables and requests in flight in them: the comparison compares something."""
    ends = [whole(enumerate_plan(draw(seed, mutated=True))) for seed in range(100)]
    assert sum(bool(seen.pairs) for seen in ends) > 30
    assert sum(bool(seen.freed) for seen in ends) > 5
    assert sum(bool(seen.flight) for seen in ends) > 80

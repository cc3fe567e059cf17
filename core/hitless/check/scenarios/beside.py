"""Scenarios of true interleaving: two plans side by side, and a plan beside a map. Small, and every order."""

from collections.abc import Iterator, Sequence
from math import comb
from typing import TypeAlias

from hitless.check.recording import recording
from hitless.check.scenarios.base import Attempt, Case, G, Ground, M, Scenario, Trial, pages
from hitless.check.stage import Setting, Stage
from hitless.guest_memfd.guest import GUEST
from hitless.plan import Invalidate, Step, Wait
from hitless.units import PAGE

_BOTH = ("separate", "in-place")
_MOST_ORDERS = 100
Block: TypeAlias = list[Step]


def blocks(steps: Sequence[Step]) -> list[Block]:
    """A plan in pieces: commands and waits, which share a queue, stand alone; what lies between them is one."""
    found: list[Block] = []
    fresh = True
    for step in steps:
        alone = isinstance(step, Wait)
        joins = isinstance(step, Invalidate)
        if fresh or alone or (joins != isinstance(found[-1][-1], Invalidate)):
            found.append([])
        found[-1].append(step)
        fresh = alone
    return found


def side_by_side(one: Sequence[Step], other: Sequence[Step]) -> Iterator[list[Step]]:
    """Every order of two plans, in pieces that become larger where the orders would be too many to look at."""
    pieces = [blocks(one), blocks(other)]
    while comb(sum(map(len, pieces)), len(pieces[0])) > _MOST_ORDERS:
        longer = max(pieces, key=len)
        at = min(range(len(longer) - 1), key=lambda i: len(longer[i]) + len(longer[i + 1]))
        longer[at : at + 2] = [longer[at] + longer[at + 1]]
    yield from orders(*pieces)


def orders(one: Sequence[Block], other: Sequence[Block]) -> Iterator[list[Step]]:
    """Every order of two plans that keeps each in its own."""
    if not one or not other:
        yield [step for block in (*one, *other) for step in block]
        return
    for rest in orders(one[1:], other):
        yield [*one[0], *rest]
    for rest in orders(one, other[1:]):
        yield [*other[0], *rest]


def _two_plans(backing: str) -> Attempt:
    """Two conversions in different hunks: nothing orders them."""

    def attempt(ground: Ground) -> Iterator[Case | Trial]:
        with ground.open(Setting(backing)) as stage:
            _apart(stage, [PAGE, G + PAGE])
            domain = stage.domains[0]
            ranges = [stage.ranges(pages(at)) for at in (5 * PAGE, G + 8 * M)]
            conversions = [stage.guest.conversion(each, stage.turned(GUEST)) for each in ranges]
            both = [each for each in conversions if each is not None]
            plans = [[step for _, step in domain.prepare(each).plan.steps()] for each in both]
            truth = stage.truth(domain, [run for each in both for run in each.runs])
            for each in both:
                domain.cancel(each)
            for steps in side_by_side(*plans):
                subject = stage.subject(domain, truth, [("isolate", step) for step in steps])
                subject.together = True
                yield Case(subject, f"{backing}, side by side")

    return attempt


def _beside_map(backing: str) -> Attempt:
    """A conversion while another span is unmapped and mapped anew."""

    def attempt(ground: Ground) -> Iterator[Case | Trial]:
        with ground.open(Setting(backing, memory=3 * G)) as stage:
            _apart(stage, [G + PAGE, 2 * G + PAGE])
            domain = stage.domains[0]
            conversion = stage.guest.conversion(stage.ranges(pages(G + 8 * M)), stage.turned(GUEST))
            if conversion is None:
                return
            plan = [step for _, step in domain.prepare(conversion).plan.steps()]
            truth, owners = stage.truth(domain, conversion.runs), domain.owners.copy()
            gone = stage.range(2 * G + PAGE, 2 * G + 2 * PAGE)
            with recording(stage, domain) as taken:
                domain.revoke(*gone)
            domain.cancel(conversion)
            beside = [step for _, step in taken.steps]
            truth = truth.without(*gone)
            for steps in side_by_side(plan, beside):
                labelled = [("isolate", step) for step in steps]
                subject = stage.subject(domain, truth, labelled, memory=taken.before, owners=owners)  # type: ignore[arg-type]
                subject.together = True
                yield Case(subject, f"{backing}, beside an unmap")

    return attempt


def _apart(stage: Stage, pages_in: Sequence[int]) -> None:
    """All is shared and each hunk is cut: the plans then store to tables of their own, and nothing orders them."""
    stage.share_all()
    for at in pages_in:
        stage.hide(at)
        stage.share(at)


SCENARIOS = (
    Scenario("two-plans", "two conversions side by side, in every order", tuple(map(_two_plans, _BOTH))),
    Scenario("plan-beside-map", "a conversion beside an unmap, in every order", tuple(map(_beside_map, _BOTH))),
)

"""Scenarios of owner tables whose entries follow the leaves, and of the firmware that lets them."""

from collections.abc import Iterator, Sequence
from contextlib import suppress

import attrs

from hitless.check.recording import recording
from hitless.check.report import Report, Violation
from hitless.check.scenarios.base import Attempt, Case, G, Ground, M, Scenario, Trial, both_ways, pages
from hitless.check.stage import Setting, Stage, Unfit
from hitless.errors import OwnerChangeRefused, Refused
from hitless.guest_memfd.guest import GUEST, HOST
from hitless.plan import Call, Own, Section, Step, Store
from hitless.refresh.executor import Answer
from hitless.units import PAGE

_BOTH = ("separate", "in-place")
_PAGE = pages(G + 5 * PAGE)
_DO = "call again what is busy, fence what does not answer, and change no owner before all is done"


def _trusted(backing: str) -> Setting:
    return Setting(backing, trusted=True, merge="at_once")


def _there_and_back(backing: str) -> Attempt:
    """A page, and what reaches over the edges of three blocks of 2 MiB; all comes back, and joins as far as it can."""
    return both_ways(_trusted(backing), [*_PAGE, (G + 5 * M, G + 9 * M)], private=True)


def _block_of_pages(backing: str) -> Attempt:
    """A block of 2 MiB that was cut turns private as a whole: its owner entries are no larger than its leaves."""

    def cut(stage: Stage) -> None:
        stage.share(G, 2 * M)
        stage.hide(G + 5 * PAGE)
        stage.share(G + 5 * PAGE)

    setting = attrs.evolve(_trusted(backing), merge="never")
    return both_ways(setting, [(G, G + 2 * M)], private=True, before=cut, owners=(GUEST, HOST))


# -- firmware that refuses, or does not answer


def _no_calls(ground: Ground) -> str:
    """Why no firmware is asked for anything on a ground; empty: it is."""
    try:
        with ground.open(_trusted("in-place")) as stage:
            calls = _calls(stage)
    except (Refused, Unfit):
        calls = []
    return "" if calls else "no firmware is asked for anything here"


def _calls(stage: Stage) -> list[int]:
    """Of the calls that the plan of one page makes before the owner changes, the numbers of those that change anything.

    One that only invalidates has to be done: without it, what was replaced stays in use.
    """
    subjects = stage.plans(stage.ranges(_PAGE), HOST)
    calls = [step for each in subjects for at, step in each.steps if at == "isolate" and isinstance(step, Call)]
    return [i for i, call in enumerate(calls) if any(isinstance(effect, Store | Own) for effect in call.effects)]


def _refuses(backing: str) -> Attempt:
    """Each call before the owner change is refused in turn, so that the owner does not change."""

    def attempt(ground: Ground) -> Iterator[Case | Trial]:
        with ground.open(_trusted(backing)) as stage:
            domain, (start, end) = stage.domains[0], stage.ranges(_PAGE)[0]
            for refused in _calls(stage):
                conversion = stage.guest.conversion([(start, end)], HOST)
                truth = stage.truth(domain, conversion.runs if conversion else ()).kept(start, end)
                owners, made = domain.owners.copy(), list[Call]()

                def firmware(call: Call, done: int, made: list[Call] = made, refused: int = refused) -> Answer:
                    made.append(call)
                    return Answer(0, "refused") if len(made) - 1 == refused else Answer(len(call.effects) - done)

                domain.executor.firmware, agrees = firmware, domain.executor.firmware
                with recording(stage, domain) as taken, suppress(OwnerChangeRefused):
                    stage.guest.convert([(start, end)], HOST)
                domain.executor.firmware = agrees
                steps = _without_effects(taken.steps, made[refused : refused + 1])
                subject = stage.subject(domain, truth, steps, memory=taken.before, owners=owners)
                yield Case(subject, f"{backing}, call {refused + 1} is refused")

    return attempt


def _without_effects(steps: Sequence[tuple[Section, Step]], refused: list[Call]) -> list[tuple[Section, Step]]:
    """What was really done: a refused call has done nothing."""
    return [
        (section, attrs.evolve(step, effects=[]) if any(step is each for each in refused) else step)  # type: ignore[arg-type]
        for section, step in steps
    ]


def _never_answers(backing: str) -> Attempt:
    def attempt(ground: Ground) -> Iterator[Case | Trial]:
        with ground.open(_trusted(backing)) as stage:
            (start, end), domain = stage.ranges(_PAGE)[0], stage.domains[0]
            domain.executor.firmware = lambda _call, _done: Answer(0)
            stage.guest.convert([(start, end)], HOST)
            report = Report()
            for what in _not_fenced(stage):
                report.add(Violation("H1", 0, start, end, what, do=_DO))
            yield Trial(report, backing)

    return attempt


def _not_fenced(stage: Stage) -> Iterator[str]:
    for domain in stage.domains:
        for unit in domain.units:
            if unit.name not in domain.fenced:
                yield f"{unit.name} is not fenced, though nobody knows what firmware has done"
            if any(not each.blocked for each in unit.attachments.values()):
                yield f"a device behind {unit.name} is not blocked"
    if not stage.guest.held:
        yield "the old memory is given back while a device may still reach it"


SCENARIOS = (
    Scenario(
        "trusted-merge",
        "pages under a trusted device come back, and leaves join as far as the owner table can",
        tuple(map(_there_and_back, _BOTH)),
    ),
    Scenario(
        "trusted-pages", "a block that was cut turns private under a trusted device", tuple(map(_block_of_pages, _BOTH))
    ),
    Scenario("firmware-refuses", "firmware refuses each of its calls", tuple(map(_refuses, _BOTH)), _no_calls),
    Scenario("firmware-hangs", "firmware never answers", tuple(map(_never_answers, _BOTH)), _no_calls),
)

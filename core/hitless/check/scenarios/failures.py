"""Scenarios of what goes wrong: no memory, an owner change that refuses or stops, a unit that does not answer."""

from collections.abc import Iterator
from contextlib import suppress

from hitless.check.recording import recording
from hitless.check.report import Report, Violation
from hitless.check.scenarios.base import Attempt, Case, G, Ground, M, Scenario, Trial, pages
from hitless.check.stage import Setting, Stage
from hitless.errors import HitlessError, OutOfTableMemory, OwnerChangeRefused, Pinned
from hitless.guest_memfd.conversion import Conversion
from hitless.guest_memfd.guest import GUEST, HOST
from hitless.plan import Release, Wait, effects_of
from hitless.units import PAGE

_BOTH = ("separate", "in-place")
_MOST_ALLOCATIONS = 64


def _trial(rule: str, wrong: list[str], start: int, end: int, note: str, do: str) -> Trial:
    """What a run left behind, as a report."""
    report = Report()
    for what in wrong:
        report.add(Violation(rule, 0, start, end, what, do=do))
    return Trial(report, note)


# -- no memory for tables (A1)


def _allocation_failure(backing: str) -> Attempt:
    def attempt(ground: Ground) -> Iterator[Case | Trial]:
        with ground.open(Setting(backing, merge="at_once")) as stage:
            stage.share_all()
            ranges = stage.ranges([*pages(G + 5 * PAGE), *pages(G + 10 * M)])
            before = _state(stage)
            for number in range(1, _MOST_ALLOCATIONS):
                stage.machine.tables.fail_after(number)
                try:
                    stage.guest.plan(ranges, stage.turned(GUEST))
                    break
                except OutOfTableMemory:
                    wrong = [] if _state(stage) == before else ["memory, tables, allocator or owners differ afterwards"]
                    note = f"{backing}, allocation {number} fails"
                    yield _trial("A1", wrong, ranges[0][0], ranges[-1][1], note, "give back all that was allocated")
                finally:
                    stage.machine.tables.fail_after(None)

    return attempt


def _pinned(backing: str) -> Attempt:
    """The second of two address spaces holds a page, when the first has prepared."""

    def attempt(ground: Ground) -> Iterator[Case | Trial]:
        with ground.open(Setting(backing, spaces=2)) as stage:
            stage.share_all()
            ((start, end),) = stage.ranges([(G + 5 * PAGE, G + 9 * PAGE)])
            (held,) = stage.ranges(pages(G + 7 * PAGE))
            stage.domains[1].pinned.append(held)
            before, found = _state(stage), -1
            try:
                stage.guest.plan([(start, end)], stage.turned(GUEST))
            except Pinned as pinned:
                found = pinned.offset
            wrong = [] if found == held[0] else [f"the page at offset {held[0]:#x} is held, prepare names {found:#x}"]
            wrong += [] if _state(stage) == before else ["memory, tables, allocator or owners differ afterwards"]
            yield _trial("A1", wrong, start, end, f"{backing}, a page is held", "ask who holds pages in prepare")

    return attempt


def _state(stage: Stage) -> object:
    """Everything that a failed prepare must leave as it was."""
    used = stage.machine.tables.used_bytes + (1 << 20)
    words = stage.machine.arena.view(stage.machine.base_pa, used >> 3).tobytes()
    owners = [list(domain.owners.entries(0, 1 << 45)) for domain in stage.domains]
    return stage.machine.tables.state(), words, owners


# -- the owner change refuses, or stops half way


def _owner_stops(backing: str, done: float) -> Attempt:
    first, pages_done, last = G + 5 * PAGE, int(8 * done), G + 13 * PAGE

    def authority(conversion: Conversion) -> None:
        start, end = conversion.ranges[0]
        kept = start + (end - start) // 8 * pages_done
        raise OwnerChangeRefused("the owner change stopped", [(start, kept)] if pages_done else [])

    def attempt(ground: Ground) -> Iterator[Case | Trial]:
        with ground.open(Setting(backing)) as stage:
            start, end = stage.range(first, last)
            kept = start + (end - start) // 8 * pages_done
            stage.share_all()
            for taken_away in (True, False):
                owner = stage.turned(GUEST if taken_away else HOST)
                note = f"to {'shared' if owner == HOST else 'private'}"
                if not taken_away:
                    stage.hide(first, last - first)
                domain = stage.domains[0]
                conversion = stage.guest.conversion([(start, end)], owner)
                if conversion is None:
                    continue
                truth, owners = stage.truth(domain, conversion.runs), domain.owners.copy()
                agrees, stage.guest.authority = stage.guest.authority, authority
                with recording(stage, domain) as taken, suppress(OwnerChangeRefused):
                    stage.guest.convert([(start, end)], owner)
                stage.guest.authority = agrees
                truth = truth.kept(kept, end)
                subject = stage.subject(domain, truth, taken.steps, memory=taken.before, owners=owners)
                yield Case(subject, f"{backing}, {note}")

    return attempt


# -- a unit that does not answer (H1)


def _hung(backing: str) -> Attempt:
    def attempt(ground: Ground) -> Iterator[Case | Trial]:
        setting = Setting(backing, units=(((1, ()),), ((1, ()),)), merge="at_once")
        with ground.open(setting) as stage:
            stage.share_all()
            domain = stage.domains[0]
            domain.units[1].hung = True
            with recording(stage, domain) as taken, suppress(HitlessError):
                stage.hide(G + 5 * PAGE)
            if not any(
                isinstance(step, Wait) and step.unit == "iommu1" for step in effects_of(step for _, step in taken.steps)
            ):
                return  # nothing had to be waited for
            freed = [pa for _, step in taken.steps if isinstance(step, Release) for pa, _ in step.tables]
            freed = [pa for pa in freed if not stage.machine.tables.in_use(pa)]
            do = "fence what does not answer, and keep all that it may still reach"
            yield _trial("H1", list(_not_fenced(stage, freed)), G, 2 * G, backing, do)

    return attempt


def _not_fenced(stage: Stage, freed: list[int]) -> Iterator[str]:
    domain = stage.domains[0]
    if domain.fenced != ["iommu1"]:
        yield f"the unit that does not answer is not fenced, but {domain.fenced or 'none'}"
    if any(not each.blocked for each in domain.units[1].attachments.values()):
        yield "a device behind the fenced unit is not blocked"
    if not stage.guest.held:
        yield "the old memory is given back while a unit may still reach it"
    if freed:
        yield f"the table at {freed[0]:#x} is freed while a unit may still walk it"


SCENARIOS = (
    Scenario(
        "allocation-failure", "each allocation of a prepare fails in turn", tuple(map(_allocation_failure, _BOTH))
    ),
    Scenario("pinned", "a page in the range is held", tuple(map(_pinned, _BOTH))),
    Scenario("owner-refused", "the owner change refuses", tuple(_owner_stops(backing, 0) for backing in _BOTH)),
    Scenario(
        "owner-partial", "the owner change stops half way", tuple(_owner_stops(backing, 0.5) for backing in _BOTH)
    ),
    Scenario("hung-unit", "a unit does not answer", tuple(map(_hung, _BOTH))),
)

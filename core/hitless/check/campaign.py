"""A whole check: what is to be checked, cut into tasks that processes share."""

import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias

from attrs import field, frozen

from hitless.check.deletion import run_deletions
from hitless.check.findings import Deletion, Findings, Harmless, Mutant, Refused, Result, Told
from hitless.check.mutants.running import run_harmless, run_mutants
from hitless.check.report import Report, Violation
from hitless.check.scenarios import Case, Ground, Scenario
from hitless.check.stage import Unfit
from hitless.check.story import Story, tell, tell_plainly
from hitless.check.subject import Subject
from hitless.check.suite import Row, check_on, ground_of, scenario_named
from hitless.check.witness import compare_with, witness
from hitless.config import load_checked, open_registry
from hitless.errors import Refused as RefusedPlan
from hitless.explain.variants import feature_text
from hitless.plugin import VendorRegistry
from hitless.processes import side_by_side

Kind: TypeAlias = Literal["scenarios", "mutants", "deletions", "witness"]
_COMPARED = 2_000
Progress: TypeAlias = Callable[[str, int, int], None]
"""Is told a label, how many pieces of work under that label are done, and how many there are."""


@frozen
class Task:
    """One part of a check: one vendor, format and configuration.

    Args:
        kind: scenarios are checked, mutants (with harmless changes) are run, steps of scenarios' plans are left out, or
            scenarios are carried out on an emulated unit.
        features: those that differ from the defaults, or all.
        ids: of scenarios, or of mutants; no mutants named: all, and harmless changes too. A witness that is asked for
            no scenario walks random tables.
        config: the configuration that it comes from; empty: none.
        extensions, fixed: as that configuration's domain has them; see :class:`hitless.check.scenarios.Ground`.
        domain: that domain.
        stories: of mutants, too, what broke is told.
    """

    kind: Kind
    vendor: str
    format: str
    features: Mapping[str, Any] = field(factory=dict)
    ids: tuple[str, ...] = ()
    config: str = ""
    extensions: tuple[str, ...] = ()
    fixed: Mapping[str, Any] = field(factory=dict)
    domain: str = ""
    stories: bool = False

    @property
    def label(self) -> str:
        """What progress is counted under."""
        return f"{self.domain or self.format}, {self.kind}"

    @property
    def pieces(self) -> int:
        """How much work it is."""
        return len(self.ids) if self.kind == "scenarios" else 4 * max(len(self.ids), 1)

    def run(self, registry: VendorRegistry) -> Findings:
        """Do it."""
        kinds = {
            "scenarios": self._scenarios,
            "mutants": self._mutants,
            "deletions": self._deletions,
            "witness": self._witness,
        }
        return kinds[self.kind](registry)

    def run_alone(self) -> Findings:
        """Do it in a process that has nothing loaded yet."""
        if self.config:
            return self.run(load_checked(self.config)[1])
        return self.run(open_registry(None, [self.vendor]))

    # -- what is in it

    def _ground(self, registry: VendorRegistry) -> Ground:
        return ground_of(registry, self.vendor, self.format, self.features, self.extensions, self.fixed)

    def _chosen(self) -> Iterator[Scenario]:
        for each in map(scenario_named, self.ids):
            if each is not None:
                yield each

    def _scenarios(self, registry: VendorRegistry) -> Findings:
        ground, found = self._ground(registry), Findings()
        repeat = _Repeat(self, registry)
        for scenario in self._chosen():
            row = check_on(ground, self.features, scenario, repeat.teller(scenario.id))
            found.add(_findings(row, repeat.command("--scenario", scenario.id)))
        return found

    def _witness(self, registry: VendorRegistry) -> Findings:
        ground, found = self._ground(registry), Findings()
        if not self.ids:
            found.compared.append(compare_with(ground.vendor, self.features, _COMPARED))
        for scenario in self._chosen():
            found.witnessed.append(witness(ground, self.features, scenario))
        return found

    def _deletions(self, registry: VendorRegistry) -> Findings:
        ground, found = self._ground(registry), Findings()
        for scenario in self._chosen():
            for case in _cases(ground, scenario):
                found.plans += 1
                for each in run_deletions(case.subject):
                    found.steps += len(case.subject.steps)
                    place = self.vendor, ground.vendor.page_format.name, scenario.id, case.note
                    found.deletions.append(Deletion(*place, each.step, each.text, each.of, each.rules, each.outcome))
        return found

    def _mutants(self, registry: VendorRegistry) -> Findings:
        found = Findings()
        repeat = _Repeat(self, registry)

        def told(subject: Subject, report: Report) -> list[tuple[Violation, Story]]:
            violations = report.shortest if self.stories else []
            return [(each, tell(subject, each, vendor=repeat.vendor)) for each in violations]

        chosen = (lambda name: name in self.ids) if self.ids else (lambda _name: True)
        for row in run_mutants(registry, self.vendor, self.format, self.features, chosen=chosen, tell=told):
            again = repeat.command("--mutant", row.id, features={**self.features, **row.features})
            values = row.as_json() | {name: tuple(getattr(row, name)) for name in _RULES}
            found.mutants.append(Mutant(**values, again=again))
            found.plans += 1
            found.steps += row.report.steps
            found.facts += row.report.facts
            who, place = f"{row.format}, mutant {row.id}", (row.vendor, row.format, row.scenario, row.features)
            stories = row.told
            if stories is None and self.stories:  # it was run, not planned
                stories = [(each, tell_plainly(each, who=who)) for each in row.report.shortest]
            for each, story in stories or ():
                found.violations.append(Told(*place, each.rule, each.step, True, _named(story, who, again)))
        for change in () if self.ids else run_harmless(registry, self.vendor, self.format, self.features):
            found.harmless.append(Harmless(**change.as_json() | {"rules": change.rules}))
        return found


_RULES = ("expected_rules", "rules", "twin_violations")


def _named(story: Story, who: str, again: str) -> Story:
    return Story(who, story.what, story.at, story.lines, story.rule, story.why, story.do, again, story.program)


def _cases(ground: Ground, scenario: Scenario) -> Iterator[Case]:
    """The plans of a scenario that are not refused."""
    for attempt in () if scenario.without(ground) else scenario.attempts:
        try:
            yield from (case for case in attempt(ground) if isinstance(case, Case))
        except (RefusedPlan, Unfit):
            continue


def _findings(row: Row, again: str) -> Findings:
    """A row as findings."""
    place = row.vendor, row.format, row.scenario, row.features
    return Findings(
        row.plans,
        row.steps,
        row.facts,
        [Result(*place, row.plans, row.steps, row.outcome, row.reason, again)],
        [
            Told(*place, each.violation.rule, each.violation.step, each.forced, each.story)
            for each in row.broken
            if each.story is not None
        ],
        [Refused(*place, each.reason, each.forced_rule) for each in row.refusals],
    )


class _Repeat:
    """How a part of a task is repeated by itself: as a command, and as the vendor of a program."""

    def __init__(self, task: Task, registry: VendorRegistry) -> None:
        self._task = task
        self._defaults = {info.name: info.default for info in registry.features(task.vendor, task.extensions)}
        self.vendor = f"configured({task.config!r}, {task.domain!r})" if task.config else ""

    def command(self, *more: str, features: Mapping[str, Any] | None = None) -> str:
        """The command for a scenario, or a mutant."""
        task = self._task
        words = ["hitless", "check"]
        words += ["--config", task.config] if task.config else []
        words += ["--vendor", task.vendor]
        if not task.config:
            words += ["--format", task.format]
            for name, value in (task.features if features is None else features).items():
                if value != self._defaults.get(name):
                    words += ["--feature", f"{name}={feature_text(value)}"]
        return shlex.join([*words, *more])

    def teller(self, scenario: str) -> Callable[[Subject | None, Violation, str], Story | None]:
        """Tells what breaks in a scenario, the first of each rule."""
        task, again = self._task, self.command("--scenario", scenario)
        seen: set[str] = set()

        def told(subject: Subject | None, violation: Violation, note: str) -> Story | None:
            if violation.rule in seen:
                return None
            seen.add(violation.rule)
            title = f"{scenario} ({note})" if note else scenario
            if subject is None:
                return tell_plainly(violation, who=f"{task.format}, {title}", again=again)
            return tell(subject, violation, title=title, again=again, vendor=self.vendor)

        return told


# -- processes


def run_tasks(
    tasks: Sequence[Task], registry: VendorRegistry, *, jobs: int, progress: Progress = lambda _label, _done, _all: None
) -> Findings:
    """Run tasks, in this process or in several; what they find is in the order of the tasks.

    Args:
        tasks: what is to be done.
        registry: of this process; others open their own.
        jobs: so many processes at once; 1: this one.
        progress: see :data:`Progress`.
    """
    count = _Count(tasks, progress)
    if jobs == 1 or len(tasks) == 1:
        parts = [_done(task.run(registry), task, count) for task in tasks]
    else:
        parts = side_by_side([task.run_alone for task in tasks], jobs, lambda number, _: count(tasks[number]))
    found = Findings()
    for part in parts:
        found.add(part)
    return found


def _done(found: Findings, task: Task, count: "_Count") -> Findings:
    count(task)
    return found


class _Count:
    """Counts pieces of work by label."""

    def __init__(self, tasks: Iterable[Task], progress: Progress) -> None:
        self._progress = progress
        self._done: dict[str, int] = {}
        self._all: dict[str, int] = {}
        for task in tasks:
            self._all[task.label] = self._all.get(task.label, 0) + task.pieces
        for label, there_are in self._all.items():
            progress(label, 0, there_are)

    def __call__(self, task: Task) -> None:
        self._done[task.label] = self._done.get(task.label, 0) + task.pieces
        self._progress(task.label, self._done[task.label], self._all[task.label])

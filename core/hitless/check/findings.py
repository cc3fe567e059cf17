"""What a whole check came to: plain data that crosses processes, and the JSON of schema check/1."""

from collections.abc import Iterable, Mapping
from typing import Any

from attrs import asdict, define, field, fields, frozen

from hitless import __version__
from hitless.check.story import Story
from hitless.check.witness import ComparisonRow, WitnessRow

Features = Mapping[str, Any]


@frozen
class Result:
    """One scenario on one configuration; ``outcome``: ``ok``, ``violated``, ``refused`` or ``not_applicable``.

    ``again``: the command that repeats it.
    """

    vendor: str
    format: str
    scenario: str
    features: Features
    plans: int
    steps: int
    outcome: str
    reason: str
    again: str = ""


@frozen
class Told:
    """One violation, told; ``forced``: of a plan that is refused, or of a mutant."""

    vendor: str
    format: str
    scenario: str
    features: Features
    rule: str
    step: int
    forced: bool
    story: Story

    def as_json(self) -> dict[str, Any]:
        """With the timeline in place of the story."""
        found = {each.name: getattr(self, each.name) for each in fields(Told) if each.name != "story"}
        return {**found, "features": dict(self.features), "what": self.story.what, "timeline": list(self.story.lines)}


@frozen
class Refused:
    """A refusal, and the rule that breaks when it is done all the same; empty: none does."""

    vendor: str
    format: str
    scenario: str
    features: Features
    reason: str
    forced_rule: str


@frozen
class Mutant:
    """What became of one mutant; ``again``: the command that repeats it."""

    id: str
    vendor: str
    format: str
    scenario: str
    features: Features
    expected_rules: tuple[str, ...]
    rules: tuple[str, ...]
    caught: bool
    twin_violations: tuple[str, ...]
    again: str = ""

    @property
    def right(self) -> bool:
        """Caught under exactly its rules, by a checker that finds nothing wrong with the right plan."""
        return self.caught and not self.twin_violations


@frozen
class Harmless:
    """What became of one harmless change."""

    id: str
    vendor: str
    format: str
    scenario: str
    features: Features
    rules: tuple[str, ...]

    @property
    def right(self) -> bool:
        """Nothing broke, but that a command may be larger than needed."""
        return set(self.rules) <= {"E1"}


@frozen
class Deletion:
    """One step that was left out of a right plan; it stands for ``of`` steps of its kind."""

    vendor: str
    format: str
    scenario: str
    note: str
    step: int
    text: str
    of: int
    rules: tuple[str, ...]
    outcome: str


@define
class Findings:
    """Everything that a check, or a part of it, found.

    Args:
        plans, steps, facts: how much was looked at.
        violations: forced ones included.
        witnessed, compared: what was seen of emulated units.
    """

    plans: int = 0
    steps: int = 0
    facts: int = 0
    results: list[Result] = field(factory=list)
    violations: list[Told] = field(factory=list)
    refused: list[Refused] = field(factory=list)
    mutants: list[Mutant] = field(factory=list)
    harmless: list[Harmless] = field(factory=list)
    deletions: list[Deletion] = field(factory=list)
    witnessed: list[WitnessRow] = field(factory=list)
    compared: list[ComparisonRow] = field(factory=list)

    def add(self, more: "Findings") -> None:
        """Take what another part found."""
        for each in fields(Findings):
            setattr(self, each.name, getattr(self, each.name) + getattr(more, each.name))

    @property
    def broken(self) -> list[Told]:
        """Violations that nobody forced, those of the shortest stories first."""
        return _shortest(each for each in self.violations if not each.forced)

    @property
    def forced(self) -> list[Told]:
        """Violations of what is refused, those of the shortest stories first."""
        return _shortest(each for each in self.violations if each.forced)

    @property
    def violated(self) -> list[Result]:
        """Scenarios that did not hold."""
        return [each for each in self.results if each.outcome == "violated"]

    @property
    def wrong(self) -> bool:
        """A rule broke, a mutant was not caught as it must be, its right plan or a harmless change was."""
        return bool(
            self.broken
            or self.violated
            or any(not each.right for each in self.mutants)
            or any(not each.right for each in self.harmless)
            or any(each.outcome == "violated" for each in self.witnessed)
            or any(each.faults for each in self.compared)
        )

    def as_json(self) -> dict[str, Any]:
        """Schema check/1."""
        found: dict[str, Any] = {"hitless": __version__, "schema": "check/1"}
        found |= {"plans": self.plans, "steps": self.steps, "facts": self.facts}
        found["results"] = [_row(each) for each in self.results]
        found["violations"] = [each.as_json() for each in self.violations]
        for name in ("refused", "mutants", "harmless", "deletions"):
            found[name] = [_row(each) for each in getattr(self, name)]
        for name in ("witnessed", "compared"):
            found[name] = [each.as_json() for each in getattr(self, name)]
        return found


def _row(each: Any) -> dict[str, Any]:
    row = asdict(each)
    row.pop("again", None)
    return row


def _shortest(told: Iterable[Told]) -> list[Told]:
    return sorted(told, key=lambda each: len(each.story.lines))

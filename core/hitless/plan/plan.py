"""The plan of one notifier for one conversion: its steps by section."""

from collections.abc import Iterator
from typing import Literal, TypeAlias

from attrs import define, field

from hitless.plan.bulk import PlanStep, singles
from hitless.plan.steps import Step

Section: TypeAlias = Literal["prepare", "isolate", "own", "refresh"]
SECTIONS: tuple[Section, ...] = ("prepare", "isolate", "own", "refresh")


@define
class Plan:
    """The steps of one notifier for one conversion, by section."""

    notifier: str
    prepare: list[PlanStep] = field(factory=list)
    isolate: list[PlanStep] = field(factory=list)
    own: list[PlanStep] = field(factory=list)
    refresh: list[PlanStep] = field(factory=list)

    def section(self, name: Section) -> list[PlanStep]:
        """The steps of one section, in order; batches as they are."""
        steps: list[PlanStep] = getattr(self, name)
        return steps

    def all(self) -> list[PlanStep]:
        """The steps of all sections, in order; batches as they are."""
        return [step for name in SECTIONS for step in self.section(name)]

    def steps(self) -> Iterator[tuple[Section, Step]]:
        """All steps in order, one by one, with their section."""
        for name in SECTIONS:
            for step in singles(self.section(name)):
                yield name, step

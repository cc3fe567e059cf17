"""Mutants that show only while hardware marks pages: the plan is run, with a write at every moment of it."""

from collections.abc import Sequence
from typing import Any

from attrs import define

from hitless.check.mutants.mutant import Mutant
from hitless.check.racing import Race
from hitless.check.report import Report, Violation
from hitless.check.stage import Stage
from hitless.errors import Raced
from hitless.hardware.vendor import Vendor
from hitless.iommufd import Domain
from hitless.plan import SECTIONS, Section, Step
from hitless.refresh.planner import Planner, Prepared
from hitless.refresh.target import PlanRequest

_DO = "fold what hardware set meanwhile into what replaces the entry, before the retry and before a table is freed"


@define(eq=False)
class _Misplanner:
    """A domain's planner whose plans have a mistake."""

    planner: Planner
    mutant: Mutant
    stage: Stage
    domain: Domain

    def __getattr__(self, name: str) -> Any:
        return getattr(self.planner, name)

    def plan(self, name: str, request: PlanRequest) -> Prepared:
        prepared = self.planner.plan(name, request)
        subject = self.stage.subject(self.domain, self.stage.truth(self.domain), list(prepared.plan.steps()))
        changed = self.mutant.apply(subject)
        steps: Sequence[tuple[Section, Step]] = subject.steps if changed is None else changed.steps
        for section in SECTIONS:
            prepared.plan.section(section)[:] = [step for where, step in steps if where == section]
        return prepared


def raced(mutant: Mutant, vendor: Vendor, *, mutated: bool) -> Report:
    """What broke when devices wrote to two neighbours at each moment, one after the other, of a run of the plan."""
    report = Report()
    for holds in (False, True):
        moment, moments = 0, 1
        while moment < moments:
            moments = _race(mutant, vendor, moment, holds=holds, mutated=mutated, report=report)
            moment += 1
    return report


def _race(mutant: Mutant, vendor: Vendor, moment: int, *, holds: bool, mutated: bool, report: Report) -> int:
    """One run; how many moments it had."""
    with mutant.situation.opened(vendor) as (stage, sizes):
        domain = stage.domains[0]
        start = mutant.situation.ranges(sizes)[0][0]
        if mutated:
            domain.planner = _Misplanner(domain.planner, mutant, stage, domain)  # type: ignore[assignment]
        writes = [(moment, start + sizes.page), (moment + 1, start + 4 * sizes.page)]
        race = Race(stage, domain, writes, holds, mutant.raced or 0)
        try:
            race.run(lambda: mutant.situation.carry_out(stage, sizes))
        except Raced as error:
            report.add(Violation("A1", moment, start, start + sizes.page, error.what, do=error.do))
        for iova in race.forgotten():
            what = f"the write to {iova:#x} at moment {moment} is marked nowhere"
            report.add(Violation("D1", moment, iova, iova + sizes.page, what, do=_DO))
        return race.moments

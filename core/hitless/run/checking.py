"""Plans of a real log, checked at the moment when they are prepared."""

from typing import TYPE_CHECKING, Literal, TypeAlias

from attrs import define

from hitless.guest_memfd.conversion import Conversion
from hitless.iommufd import Domain
from hitless.plan import Plan
from hitless.run.result import Row

if TYPE_CHECKING:
    from hitless.check import Report, Truth

Check: TypeAlias = Literal["none", "sampled", "all"]
_FIRST, _EVERY = 50, 50


@define(eq=False)
class PlanChecker:
    """Checks plans of one domain, and counts what broke in the domain's row.

    Args:
        which: ``all`` plans, or ``sampled``: the first 50, then every 50th.
    """

    domain: Domain
    row: Row
    which: Check
    _number: int = 0

    def begin(self, conversion: Conversion) -> None:
        """A conversion is prepared, and about to be carried out."""
        number = self._number
        self._number += 1
        if self.which == "none" or (self.which == "sampled" and number >= _FIRST and number % _EVERY):
            return
        report, story = check_plan(
            self.domain, conversion, self.domain.pending(conversion).plan, first=not self.row.story
        )
        self.row.checked += 1
        self.row.check_violations.update(report.counts)
        self.row.story = self.row.story or story


def check_plan(
    domain: Domain, conversion: Conversion, plan: Plan, *, first: bool = True, truth: "Truth | None" = None
) -> "tuple[Report, str]":
    """Check a plan that has not been carried out; ``first`` asks for the story of the shortest violation.

    ``truth``: what shall hold; None: what the domain's guest says.
    """
    from hitless.check import Truth, check  # noqa: PLC0415 - heavy, and most runs check nothing
    from hitless.check.stage import subject_of  # noqa: PLC0415
    from hitless.check.story import tell  # noqa: PLC0415

    truth = truth or Truth.of(domain.guest, domain.default_attrs, conversion.runs)
    subject = subject_of(domain, truth, list(plan.steps()))
    report = check(subject)
    if not report.violations or not first:
        return report, ""
    ranges = ", ".join(f"[{start:#x}, {end:#x})" for start, end in conversion.ranges[:3])
    title = f"{ranges} to {'private' if conversion.owner else 'shared'}"
    return report, str(tell(subject, report.shortest[0], title=title))

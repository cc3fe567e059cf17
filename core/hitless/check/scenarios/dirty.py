"""Scenario of hardware that writes: accessed and dirty bits at every moment of a cut and a merge (rule D1)."""

from collections.abc import Iterator

from hitless.check.racing import Race
from hitless.check.report import Report, Violation
from hitless.check.scenarios.base import Attempt, Case, Ground, M, Scenario, Trial, pages
from hitless.check.stage import Setting
from hitless.guest_memfd.guest import GUEST, HOST
from hitless.units import PAGE

_PAGE, _NEIGHBOUR, _OTHER = 2 * M + 5 * PAGE, 2 * M + 6 * PAGE, 2 * M + 9 * PAGE
_DO = "fold what hardware set meanwhile: into the new table before the retry, and from a table before it is freed"


def _raced(backing: str, owner: int, *, holds: bool) -> Attempt:
    """One conversion, run once for each moment at which a device writes to its neighbours."""
    way = "given" if owner == HOST else "taken away"
    note = f"{backing}, {way}{', walker holds the old entries' if holds else ''}"

    def attempt(ground: Ground) -> Iterator[Case | Trial]:
        setting = Setting(backing, memory=4 * M, hunk_lg2=21, merge="at_once")
        with ground.open(setting) as stage:
            stage.share_all()
            report = Report()
            moment, moments = 0, 1
            while moment < moments:
                if owner == HOST:
                    stage.hide(_PAGE)
                (neighbour, _), (other, _) = stage.ranges([*pages(_NEIGHBOUR), *pages(_OTHER)])
                race = Race(stage, stage.domains[0], [(moment, neighbour), (moment + 1, other)], holds)
                race.run(lambda: stage.guest.convert(stage.ranges(pages(_PAGE)), stage.turned(owner)))
                for iova in race.forgotten():
                    what = f"the write to {iova:#x} at moment {moment} is marked nowhere"
                    report.add(Violation("D1", moment, iova, iova + PAGE, what, do=_DO))
                if owner == GUEST:
                    stage.share(_PAGE)
                moments = race.moments
                moment += 1
            yield Trial(report, note)

    return attempt


def _unmarked(ground: Ground) -> str:
    fmt = ground.vendor.page_format
    if any(fmt.hardware_set(size.level) for size in fmt.leaf_sizes):
        return ""
    return "hardware marks nothing in this configuration"


SCENARIOS = (
    Scenario(
        "raced-ad",
        "hardware marks pages accessed and dirty at every moment",
        tuple(
            _raced(backing, owner, holds=holds)
            for backing in ("separate", "in-place")
            for owner in (HOST, GUEST)
            for holds in (False, True)
        ),
        _unmarked,
    ),
)

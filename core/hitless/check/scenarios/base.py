"""What a scenario is: a way to set a stage up, and the plans, or trials, that it makes there."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, TypeAlias

import attrs
from attrs import field, frozen

from hitless.check.report import Report
from hitless.check.stage import Setting, Stage, Unfit
from hitless.check.subject import Subject
from hitless.guest_memfd.guest import GUEST, HOST
from hitless.hardware.vendor import Vendor
from hitless.pagetable import PageFormat
from hitless.units import PAGE

G, M = 1 << 30, 1 << 20


@frozen
class Ground:
    """A vendor, with a format and features.

    Args:
        forced: what is refused is done all the same.
        upper: gives the format of a guest's own tables over this one; None: there is none.
        fixed: what a configuration says of stages, in the words of :class:`Setting`; no scenario may want it otherwise.
        stage: opens a stage.
    """

    vendor: Vendor
    forced: bool = False
    upper: Callable[[], PageFormat | None] = lambda: None
    fixed: Mapping[str, Any] = field(factory=dict)
    stage: Callable[[Vendor, Setting, PageFormat | None], AbstractContextManager[Stage]] = Stage.open

    def open(self, setting: Setting) -> AbstractContextManager[Stage]:
        """A stage on this ground.

        Raises:
            Unfit: the scenario is about something that the configuration fixes otherwise.
        """
        for name, said in self.fixed.items():
            if getattr(setting, name) not in (said, getattr(Setting(), name)):
                raise Unfit(f"the configuration says {name} = {said!r}, this is about {getattr(setting, name)!r}")
        setting = attrs.evolve(setting, **self.fixed)
        setting = attrs.evolve(setting, allow_break=setting.allow_break or self.forced)
        return self.stage(self.vendor, setting, self.upper() if setting.nested else None)


@frozen
class Case:
    """One plan to be checked."""

    subject: Subject
    note: str = ""


@frozen
class Trial:
    """Something that was run, and judged by what it left behind."""

    report: Report
    note: str = ""


Attempt: TypeAlias = Callable[[Ground], Iterable[Case | Trial]]
"""Makes cases on one stage of its own; may raise Refused, which is then forced."""


def _always(ground: Ground) -> str:
    return ""


@frozen
class Scenario:
    """One situation.

    Args:
        id: stable.
        title: a sentence.
        attempts: each sets up a stage of its own.
        without: why it does not apply to a ground; empty: it does.
    """

    id: str
    title: str
    attempts: tuple[Attempt, ...]
    without: Callable[[Ground], str] = _always


def both_ways(
    setting: Setting,
    ranges: list[tuple[int, int]],
    *,
    private: bool = False,
    before: Callable[[Stage], None] | None = None,
    owners: tuple[int, int] | None = None,
) -> Attempt:
    """Ranges to private, and back to shared: two plans, the second on what the first left.

    All the guest's memory is shared first, so that devices reach what lies beside the ranges;
    with ``private``, and where devices reach private pages only, none is, and the ranges turn shared first, unless
    ``owners`` says otherwise.
    """

    def attempt(ground: Ground) -> Iterator[Case | Trial]:
        with ground.open(setting) as stage:
            if before is not None:
                before(stage)
            if not private:
                stage.share_all()
            for owner in owners or ((HOST, GUEST) if private or stage.private_half else (GUEST, HOST)):
                sized = stage.ranges(ranges)
                note = f"{setting.backing}, to {'shared' if owner == HOST else 'private'}"
                for subject in stage.plans(sized, owner):
                    yield Case(subject, note)
                stage.convert(sized, owner)

    return attempt


def everywhere(
    ranges: list[tuple[int, int]],
    backings: tuple[str, ...] = ("separate", "in-place"),
    *,
    private: bool = False,
    **setting: object,
) -> tuple[Attempt, ...]:
    """The same ranges, both ways, on every backing."""
    return tuple(both_ways(Setting(backing, **setting), ranges, private=private) for backing in backings)  # type: ignore[arg-type]


def pages(start: int, count: int = 1) -> list[tuple[int, int]]:
    """One range of pages."""
    return [(start, start + count * PAGE)]

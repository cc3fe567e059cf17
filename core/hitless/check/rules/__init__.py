"""The rules, each a small piece of its own. See docs/rules.md."""

from hitless.check.rules.base import OutcomeRule, Rule, Seen
from hitless.check.rules.leaving import DevicesLeave
from hitless.check.rules.leftovers import NothingLeft
from hitless.check.rules.outcomes import (
    ConvertedIsSafe,
    NeighbourFaults,
    NeighbourMisrouted,
    NothingStale,
    PresentOwner,
)
from hitless.check.rules.owners import Boundaries, SizesAgree
from hitless.check.rules.runs import RunsAgree
from hitless.check.rules.steps import (
    FreedTables,
    LegalWords,
    MergesEquals,
    NoConflict,
    NoWriterBeside,
    SmallestCommand,
    TablesAreHost,
    WaitsFirst,
)
from hitless.check.subject import Subject

__all__ = ["OutcomeRule", "Rule", "Seen", "all_rules"]


def all_rules(subject: Subject) -> list[Rule]:
    """A fresh object of every rule, with what the subject's vendor declares for it."""
    return [
        NeighbourFaults(),
        NeighbourMisrouted(),
        ConvertedIsSafe(),
        PresentOwner(),
        NothingStale(),
        DevicesLeave(),
        NothingLeft(),
        Boundaries(),
        SizesAgree(),
        NoConflict(),
        FreedTables(),
        LegalWords(),
        RunsAgree(),
        NoWriterBeside(),
        MergesEquals(),
        WaitsFirst(),
        SmallestCommand(),
        TablesAreHost(),
        *(make() for make in subject.vendor.rules()),
    ]

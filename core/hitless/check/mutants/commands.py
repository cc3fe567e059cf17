"""Generic mutants of commands to units: forgotten, too small, too early, or for somebody else."""

from collections.abc import Callable, Sequence
from typing import Any

from hitless.check.mutants import situations as at
from hitless.check.mutants.declared import LEFT, Declared, Rules, ranged, whole_tag_only
from hitless.check.mutants.edits import (
    Steps,
    changed,
    is_a,
    rounds,
    steps_of,
    without,
)
from hitless.check.mutants.mutant import Mutant
from hitless.check.mutants.planning import encoding
from hitless.check.subject import Subject
from hitless.hardware.facts import Match
from hitless.hardware.vendor import Vendor
from hitless.plan import Barrier, Invalidate, Wait
from hitless.refresh.commands import Target, Words

# -- in another order


def in_rounds(subject: Subject, order: Callable[[Steps], Steps]) -> Subject | None:
    """Each round with its steps in another order."""
    steps = steps_of(subject)
    for start, end in rounds(steps):
        steps[start:end] = order(steps[start:end])
    return changed(subject, steps)


def _barrier_last(steps: Steps) -> Steps:
    """Commands before the barrier that makes the stores visible; waits stay behind both."""
    commands = [each for each in steps if isinstance(each[1], Invalidate)]
    if not commands:
        return steps
    to = next(i for i, each in enumerate(steps) if isinstance(each[1], Barrier))
    waits = next(i for i, each in enumerate(steps) if isinstance(each[1], Wait))
    early = [each for each in steps[:waits] if isinstance(each[1], Invalidate)]
    made = [each for each in steps[:waits] if not isinstance(each[1], Invalidate | Barrier)]
    return [*made, *early, steps[to], *steps[waits:]]


def _commands_first(steps: Steps) -> Steps:
    """Commands before the stores."""
    waits = next((i for i, each in enumerate(steps) if isinstance(each[1], Wait)), len(steps))
    early = [each for each in steps[:waits] if isinstance(each[1], Invalidate)]
    return [*early, *(each for each in steps[:waits] if not isinstance(each[1], Invalidate)), *steps[waits:]]


# -- encoded otherwise


def shortened(vendor: Vendor, *, device: bool) -> Vendor:
    """Every range is cut short: to its first page."""
    page = (1 << vendor.split_rules.leaf_lg2s[0]) - 1

    def unit(commands: Any, target: Target, tag: int) -> Sequence[Words]:
        words: Sequence[Words] = commands.invalidate(target._replace(last=target.first + page), tag)
        return words

    def atc(commands: Any, target: Target, to: int) -> Sequence[Words]:
        words: Sequence[Words] = commands.invalidate_device(target._replace(last=target.first + page), to)
        return words

    return encoding(None if device else unit, atc if device else None)(vendor)


def _other_tag(commands: Any, target: Target, tag: int) -> Sequence[Words]:
    words: Sequence[Words] = commands.invalidate(target, tag + 1)
    return words


def _leaf_only(commands: Any, target: Target, tag: int) -> Sequence[Words]:
    words: Sequence[Words] = commands.invalidate(target._replace(tables=False), tag)
    return words


def _small(commands: Any, target: Target, tag: int) -> Sequence[Words]:
    """As if the leaf had been a page."""
    words: Sequence[Words] = commands.invalidate(target._replace(last=target.first + 0xFFF, leaf_lg2=12, level=0), tag)
    return words


def _pieces_left(declared: Declared) -> bool:
    """Whether a command for a part of a large leaf leaves something of it cached."""
    return declared.whole_pieces_only or declared.smallest_piece < declared.large_lg2


def short_rules(declared: Declared) -> Rules:
    """The second of two pages stays cached; and pieces of the large leaf do."""
    moves = declared.moves and declared.new_enters
    rules = LEFT | declared.late | ({"C2"} if declared.wiped_first else set()) | declared.conflict(address=moves)
    if declared.bounded and declared.whole_pieces_only:
        rules |= {"B1"}
    rules |= declared.swapped()
    return rules | (declared.conflict(size=True, address=moves) if _pieces_left(declared) else set())


def _overlapping(vendor: Vendor) -> str:
    drops = ranged(vendor, 1)
    if drops.leaf_match is Match.PIECE_INSIDE:
        return ""
    return f"a command drops every cached leaf that its range touches, of whatever size ({drops.source})"


def _whole_tag(vendor: Vendor) -> str:
    if whole_tag_only(vendor):
        return f"every command covers all of a tag ({ranged(vendor, 0).source})"
    return ""


def _pointers_too(vendor: Vendor) -> str:
    drops = ranged(vendor, 1)
    return f"every command drops cached pointers too ({drops.source})" if drops.tables else ""


def _nested_words(subject: Subject) -> set[Words]:
    """What has to follow stage 2's own commands where a guest's tables stand over it."""
    return {words for unit in subject.units for words in subject.vendor.commands.invalidate_nested(unit.tag)}


def _results_stay(subject: Subject) -> Subject | None:
    nested = _nested_words(subject)
    return without(subject, lambda _, step: isinstance(step, Invalidate) and step.words in nested)


def takes_both(vendor: Vendor) -> str:
    """Why no command has to follow that for stage 2; empty: one has to."""
    follows = getattr(vendor.commands, "invalidate_nested", None)  # a vendor may leave it out
    if vendor.page_format.stage != "2" or follows is None:
        return "no guest's own tables stand over these"
    return "" if follows(1) else "the command for stage 2 takes results of both stages, too"


COMMAND_MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "generic.no-invalidation",
        (),
        "no command is sent at all",
        at.HIDE,
        lambda d: d.old_stays(),
        lambda subject: without(subject, is_a(Invalidate)),
    ),
    Mutant(
        "generic.small-invalidation",
        (2,),
        "after a large leaf was cut, the command covers a page of it",
        at.HIDE,
        lambda d: d.old_stays(),
        planned_as=encoding(_small),
        why_not=_overlapping,
    ),
    Mutant(
        "generic.command-short",
        (29,),
        "commands stop short: they cover the first page of their range",
        at.HIDE_TWO,
        short_rules,
        planned_as=lambda vendor: shortened(vendor, device=False),
        why_not=_whole_tag,
    ),
    Mutant(
        "generic.wrong-tag",
        (26,),
        "commands name the next tag",
        at.HIDE,
        lambda d: d.old_stays() | ({"E1"} if whole_tag_only(d.vendor) else set()),
        planned_as=encoding(_other_tag),
    ),
    Mutant(
        "generic.leaf-only-after-merge",
        (3,),
        "a table became a leaf, and cached pointers to it are not invalidated",
        at.MERGE,
        lambda d: LEFT | {"R1"} | d.conflict(size=True),
        planned_as=encoding(_leaf_only),
        why_not=_pointers_too,
    ),
    Mutant(
        "generic.leaf-only-after-prune",
        (3, 37),
        "an empty table was unlinked, and cached pointers to it are not invalidated",
        at.PRUNE,
        lambda d: LEFT | d.late | {"C2", "R1"} | ({"C1"} if d.unsafe else set()),
        planned_as=encoding(_leaf_only),
        why_not=_pointers_too,
    ),
    Mutant(
        "generic.command-before-barrier",
        (28,),
        "commands are submitted before the stores are visible to walkers",
        at.HIDE,
        lambda d: d.old_stays(),
        lambda subject: in_rounds(subject, _barrier_last),
    ),
    Mutant(
        "generic.command-before-store",
        (28,),
        "commands are submitted before the stores are made",
        at.HIDE,
        lambda d: {"E1"} | d.old_stays(),
        lambda subject: in_rounds(subject, _commands_first),
    ),
    Mutant(
        "generic.nested-results-stay",
        (32,),
        "stage 2 is invalidated under a guest's own tables, and results of both stages stay",
        at.HIDE_NESTED,
        lambda declared: declared.old_stays(pointers=False),
        _results_stay,
        why_not=takes_both,
    ),
)
"""Mutants of commands to units."""

"""Generic mutants of commands and waits: what is forgotten, too small, too early, or for somebody else."""

from collections.abc import Callable, Sequence
from typing import Any

from hitless.check.mutants import situations as at
from hitless.check.mutants.declared import LEFT, Declared, Rules, own_drops, ranged, whole_tag_only
from hitless.check.mutants.edits import (
    Steps,
    changed,
    is_a,
    moved,
    rounds,
    steps_of,
    stores,
    to_device,
    without,
)
from hitless.check.mutants.mutant import Mutant
from hitless.check.mutants.planning import encoding
from hitless.check.subject import Subject
from hitless.hardware.facts import Match
from hitless.hardware.vendor import Vendor
from hitless.plan import Barrier, Invalidate, Release, Store, Wait
from hitless.refresh.commands import Target, Words

# -- left out


def _last_wait(subject: Subject) -> Subject | None:
    steps = steps_of(subject)
    last = max((i for i, (_, step) in enumerate(steps) if isinstance(step, Wait)), default=None)
    return None if last is None else changed(subject, steps[:last] + steps[last + 1 :])


def _waits_again(declared: Declared) -> bool:
    """Whether a wait follows the owner change anyway."""
    return any(isinstance(step, Wait) for section, step in declared.subject.steps if section == "refresh")


def _isolate_not_waited(declared: Declared) -> Rules:
    rules = declared.old_at_owner_change() | declared.conflict(size=True)
    rules |= {"H1", *swapped} if (swapped := declared.swapped()) else set()
    if _waits_again(declared):
        return rules
    if own_drops(declared.vendor):
        return rules | {"H1"}
    return LEFT | rules | {"H1"} | (set() if declared.unsafe else {"F1"})


def nothing_before(vendor: Vendor) -> str:
    """Why nothing has to stand before the owner change."""
    policy = vendor.ownership.policies[vendor.ownership.default_policy]
    if policy.maps_private and policy.boundary.value == "none":
        return f"policy {policy.name} leaves everything mapped, and the owner check is made page by page"
    return ""


# -- in another order


def _in_rounds(subject: Subject, order: Callable[[Steps], Steps]) -> Subject | None:
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


def _devices_first(subject: Subject) -> Subject | None:
    def order(steps: Steps) -> Steps:
        commands = [i for i, each in enumerate(steps) if isinstance(each[1], Invalidate)]
        if not commands:
            return steps
        a, b = commands[0], commands[-1] + 1
        return [*steps[:a], *sorted(steps[a:b], key=lambda each: not to_device(subject, each[1])), *steps[b:]]

    return _in_rounds(subject, order)


def _no_wait_between(subject: Subject) -> Subject | None:
    """No wait between the unit's commands and the device's."""
    steps = steps_of(subject)
    gone = {
        i for i, (_, step) in enumerate(steps[:-1]) if isinstance(step, Wait) and to_device(subject, steps[i + 1][1])
    }
    return changed(subject, [each for i, each in enumerate(steps) if i not in gone])


def _release_before(subject: Subject, *kinds: type) -> Subject | None:
    """Tables are freed before the first step of a kind in the round that unlinks them."""
    steps = steps_of(subject)
    merges = [i for i, _ in stores(subject, "merge")]
    for start, end in rounds(steps):
        if merges and start <= merges[0] < end:
            to = next(i for i in range(start, end) if isinstance(steps[i][1], kinds))
            return changed(subject, moved(steps, is_a(Release, section="refresh"), to))
    return None


# -- encoded otherwise


def _shortened(vendor: Vendor, *, device: bool) -> Vendor:
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


def _other_device(commands: Any, target: Target, device: int) -> Sequence[Words]:
    words: Sequence[Words] = commands.invalidate_device(target, device + 1)
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
    rules = LEFT | {"F1"} | ({"C2"} if declared.wiped_first else set()) | declared.conflict(address=moves)
    if declared.bounded and declared.whole_pieces_only:
        rules |= {"B1"}
    rules |= declared.swapped()
    return rules | (declared.conflict(size=True, address=moves) if _pieces_left(declared) else set())


def _short_device_rules(declared: Declared) -> Rules:
    """A device drops every translation that the range touches, whole."""
    moves = declared.moves and declared.new_enters
    rules = LEFT | {"F1"} | ({"C2"} if declared.wiped_first else set()) | declared.conflict(address=moves)
    left = declared.smallest_piece < declared.large_lg2
    return rules | (declared.conflict(size=True, address=moves) if left else set())


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


def _in_order(vendor: Vendor) -> str:
    if vendor.hardware.atc_in_order:
        return ""
    return "order in the queue does not matter here, a wait has to stand between (generic.atc-without-wait-between)"


def _out_of_order(vendor: Vendor) -> str:
    if not vendor.hardware.atc_in_order:
        return ""
    return f"a device's command follows the queue's earlier ones without a wait ({vendor.hardware.source})"


def command_mutants() -> Sequence[Mutant]:
    """Mutants of commands."""
    return (
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
            planned_as=lambda vendor: _shortened(vendor, device=False),
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
            "generic.wrong-device",
            (26,),
            "commands to a device name the next device",
            at.HIDE_ATS,
            lambda d: d.old_stays(pointers=False),
            planned_as=encoding(None, _other_device),
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
            lambda d: LEFT | {"C2", "F1", "R1"} | ({"C1"} if d.unsafe else set()),
            planned_as=encoding(_leaf_only),
            why_not=_pointers_too,
        ),
        Mutant(
            "generic.command-before-barrier",
            (28,),
            "commands are submitted before the stores are visible to walkers",
            at.HIDE,
            lambda d: d.old_stays(),
            lambda subject: _in_rounds(subject, _barrier_last),
        ),
        Mutant(
            "generic.command-before-store",
            (28,),
            "commands are submitted before the stores are made",
            at.HIDE,
            lambda d: {"E1"} | d.old_stays(),
            lambda subject: _in_rounds(subject, _commands_first),
        ),
        *_device_mutants(),
        *_forgotten(),
    )


def _device_mutants() -> Sequence[Mutant]:
    """Mutants of commands to devices."""
    return (
        Mutant(
            "generic.no-atc",
            (5,),
            "a device with ATS is sent no command",
            at.HIDE_ATS,
            lambda d: d.old_stays(pointers=False),
            lambda subject: without(subject, lambda _, step: to_device(subject, step)),
        ),
        Mutant(
            "generic.atc-before-iotlb",
            (5,),
            "the device's command stands before the unit's, so that the device refills from the unit",
            at.HIDE_ATS,
            lambda d: d.old_stays(pointers=False),
            _devices_first,
            why_not=_in_order,
        ),
        Mutant(
            "generic.atc-without-wait-between",
            (5,),
            "no wait stands between the unit's commands and the device's",
            at.HIDE_ATS,
            lambda d: d.old_stays(pointers=False),
            _no_wait_between,
            why_not=_out_of_order,
        ),
        Mutant(
            "generic.atc-range-short",
            (35,),
            "commands to a device cover the first page of their range",
            at.HIDE_TWO_ATS,
            _short_device_rules,
            planned_as=lambda vendor: _shortened(vendor, device=True),
        ),
    )


def _forgotten() -> Sequence[Mutant]:
    """Mutants that forget somebody who caches."""

    def units(subject: Subject) -> Subject | None:
        name = subject.units[-1].name
        return without(subject, lambda _, step: isinstance(step, Invalidate | Wait) and step.unit == name)

    def tags(subject: Subject) -> Subject | None:
        tag = subject.units[-1].tag
        return without(subject, lambda _, step: isinstance(step, Invalidate) and step.tag == tag)

    def functions(subject: Subject) -> Subject | None:
        device = subject.units[-1].devices[-1]
        return without(subject, lambda _, step: to_device(subject, step, device))

    def spaces(subject: Subject) -> Subject | None:
        return without(subject, lambda section, _: section != "own")

    rows = (
        ("unit", "the second of two units is forgotten", at.HIDE_TWO_UNITS, units, Declared.old_stays),
        ("tag", "the second of two tags of one unit is forgotten", at.HIDE_TWO_TAGS, tags, Declared.old_stays),
        (
            "function",
            "the second of two devices with ATS is forgotten",
            at.HIDE_TWO_FUNCTIONS,
            functions,
            lambda d: d.old_stays(pointers=False),
        ),
    )
    return (
        *(
            Mutant(f"generic.second-{who}-forgotten", (25,), sentence, situation, expected, apply)
            for who, sentence, situation, apply, expected in rows
        ),
        Mutant(
            "generic.second-space-forgotten",
            (25,),
            "the second of two address spaces that map the page is forgotten",
            at.HIDE_TWO_SPACES,
            lambda d: {"C2"} | ({"B1"} if d.bounded else set()),
            spaces,
        ),
    )


def wait_mutants() -> Sequence[Mutant]:
    """Mutants of waits, and of what has to stand behind one."""
    return (
        Mutant(
            "generic.no-wait",
            (4,),
            "no command is waited for",
            at.HIDE,
            lambda d: {"H1"} | d.old_stays(),
            lambda subject: without(subject, is_a(Wait)),
        ),
        Mutant(
            "generic.stale-status-word",
            (36,),
            "the last wait returns at once: its status word was that of an earlier one",
            at.HIDE,
            lambda d: (
                LEFT
                | {"F1", "H1"}
                | ({"C2"} if d.wiped_first else set())
                | d.conflict(address=d.moves and d.new_enters)
            ),
            _last_wait,
        ),
        Mutant(
            "generic.isolate-not-waited",
            (4,),
            "owners change before the commands of isolate are waited for",
            at.HIDE_IN_PLACE,
            _isolate_not_waited,
            lambda subject: without(subject, is_a(Wait, section="isolate")),
            why_not=nothing_before,
        ),
        Mutant(
            "generic.release-before-wait",
            (10,),
            "a table is freed before the wait behind its invalidation",
            at.MERGE,
            lambda _: {"H1", "R1"},
            lambda subject: _release_before(subject, Wait),
        ),
        Mutant(
            "generic.release-before-invalidation",
            (10,),
            "a table is freed before cached pointers to it are invalidated",
            at.MERGE,
            lambda _: {"R1"},
            lambda subject: _release_before(subject, Invalidate),
        ),
        Mutant(
            "generic.release-before-unlink",
            (10,),
            "a table is freed while memory still leads to it",
            at.MERGE,
            lambda _: {"R1"},
            lambda subject: _release_before(subject, Store),
        ),
    )

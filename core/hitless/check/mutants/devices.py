"""Generic mutants of commands to devices, and of somebody who caches and is forgotten."""

from collections.abc import Sequence
from typing import Any

from hitless.check.mutants import situations as at
from hitless.check.mutants.commands import in_rounds, shortened
from hitless.check.mutants.declared import LEFT, Declared, Rules
from hitless.check.mutants.edits import Steps, changed, steps_of, to_device, without
from hitless.check.mutants.mutant import Mutant
from hitless.check.mutants.planning import encoding
from hitless.check.subject import Subject
from hitless.hardware.vendor import Vendor
from hitless.plan import Invalidate, Wait
from hitless.refresh.commands import Target, Words


def _devices_first(subject: Subject) -> Subject | None:
    def order(steps: Steps) -> Steps:
        commands = [i for i, each in enumerate(steps) if isinstance(each[1], Invalidate)]
        if not commands:
            return steps
        a, b = commands[0], commands[-1] + 1
        return [*steps[:a], *sorted(steps[a:b], key=lambda each: not to_device(subject, each[1])), *steps[b:]]

    return in_rounds(subject, order)


def _no_wait_between(subject: Subject) -> Subject | None:
    """No wait between the unit's commands and the device's."""
    steps = steps_of(subject)
    gone = {
        i for i, (_, step) in enumerate(steps[:-1]) if isinstance(step, Wait) and to_device(subject, steps[i + 1][1])
    }
    return changed(subject, [each for i, each in enumerate(steps) if i not in gone])


def _other_device(commands: Any, target: Target, device: int) -> Sequence[Words]:
    words: Sequence[Words] = commands.invalidate_device(target, device + 1)
    return words


def _short_device_rules(declared: Declared) -> Rules:
    """A device drops every translation that the range touches, whole."""
    moves = declared.moves and declared.new_enters
    rules = LEFT | declared.late | ({"C2"} if declared.wiped_first else set()) | declared.conflict(address=moves)
    left = declared.smallest_piece < declared.large_lg2
    return rules | (declared.conflict(size=True, address=moves) if left else set())


def _in_order(vendor: Vendor) -> str:
    if vendor.hardware.atc_in_order:
        return ""
    return "order in the queue does not matter here, a wait has to stand between (generic.atc-without-wait-between)"


def _out_of_order(vendor: Vendor) -> str:
    if not vendor.hardware.atc_in_order:
        return ""
    return f"a device's command follows the queue's earlier ones without a wait ({vendor.hardware.source})"


DEVICE_MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "generic.wrong-device",
        (26,),
        "commands to a device name the next device",
        at.HIDE_ATS,
        lambda d: d.old_stays(pointers=False),
        planned_as=encoding(None, _other_device),
    ),
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
        planned_as=lambda vendor: shortened(vendor, device=True),
    ),
)
"""Mutants of commands to devices."""


def _without_unit(subject: Subject) -> Subject | None:
    name = subject.units[-1].name
    return without(subject, lambda _, step: isinstance(step, Invalidate | Wait) and step.unit == name)


def _without_tag(subject: Subject) -> Subject | None:
    tag = subject.units[-1].tag
    return without(subject, lambda _, step: isinstance(step, Invalidate) and step.tag == tag)


def _without_function(subject: Subject) -> Subject | None:
    device = subject.units[-1].devices[-1]
    return without(subject, lambda _, step: to_device(subject, step, device))


def _without_space(subject: Subject) -> Subject | None:
    return without(subject, lambda section, _: section != "own")


FORGETFUL_MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "generic.second-unit-forgotten",
        (25,),
        "the second of two units is forgotten",
        at.HIDE_TWO_UNITS,
        lambda d: d.old_stays(),
        _without_unit,
    ),
    Mutant(
        "generic.second-tag-forgotten",
        (25,),
        "the second of two tags of one unit is forgotten",
        at.HIDE_TWO_TAGS,
        lambda d: d.old_stays(),
        _without_tag,
    ),
    Mutant(
        "generic.second-function-forgotten",
        (25,),
        "the second of two devices with ATS is forgotten",
        at.HIDE_TWO_FUNCTIONS,
        lambda d: d.old_stays(pointers=False),
        _without_function,
    ),
    Mutant(
        "generic.second-space-forgotten",
        (25,),
        "the second of two address spaces that map the page is forgotten",
        at.HIDE_TWO_SPACES,
        lambda d: {"C2"} | ({"B1"} if d.bounded else set()) | ({"C1"} if d.unsafe else set()),
        _without_space,
    ),
)
"""Mutants that forget somebody who caches."""

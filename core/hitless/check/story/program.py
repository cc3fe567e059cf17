"""Writes a violation down as a small Python program that replays it."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pprint import pformat
from typing import Any

import attrs

from hitless import __version__
from hitless.check.replay.scene import Scene
from hitless.check.story.witness import Script
from hitless.hardware.vendor import Vendor
from hitless.plan import Section, Step, format_plan, format_step
from hitless.plugin import feature_infos

_PROGRAM = '''\
"""{head}

{origin}
Written by hitless {version}. It is run by the Python that hitless is installed in, and ends without an error if what
its last lines assert, and the rule forbids, happened.
"""

from hitless.check.replay import {names}

BEFORE = """\\
{before}"""

PLAN = """\\
{plan}"""

with Replay.open(
    {vendor},
    BEFORE,
    PLAN,
    root={root:#x},
    units={units},{levels}
    trusted={trusted},
    tell={tell},
) as replay:
{body}
print({last!r})
'''


def program(
    script: Script,
    steps: Sequence[tuple[Section, Step]],
    tell: Sequence[int],
    *,
    head: str,
    origin: str,
    vendor: str = "",
) -> str:
    """The program of a script.

    Args:
        script: what :func:`hitless.check.story.witness.find_script` gave, with its code.
        steps: the plan.
        tell: the numbers of the steps that are told.
        head: what is wrong, one line.
        origin: where it was found.
        vendor: the expression that makes the vendor; by default the installed one, with its features.
    """
    scene, body = script.scene, [f"    {line}" for line in _body(script, len(steps))]
    names = ["Outcome"] if any("Outcome(" in line for line in body) else []
    made_by = vendor or _vendor(scene.vendor)
    return _PROGRAM.format(
        head=head.replace('"""', "'''"),
        origin=origin.replace('"""', "'''"),
        version=__version__,
        names=", ".join([*names, "Replay", made_by.partition("(")[0]]),
        before=_escaped(format_plan(scene.before)),
        plan=_escaped("".join(_sections(steps))),
        vendor=made_by,
        root=scene.root_pa,
        units=_units(scene),
        levels=_levels(scene),
        trusted=scene.trusted,
        tell=pformat(list(tell), width=100, compact=True).replace("\n", "\n    "),
        body="\n".join(body),
        last=head,
    )


def _body(script: Script, count: int) -> Iterator[str]:
    """The steps, and between them the requests."""
    done = 0
    for look in script.looks:
        yield from _run(done, look.before, count)
        done = max(done, look.before)
        yield look.code()
    yield from _run(done, script.until, count)
    yield from script.code


def _run(done: int, until: int, count: int) -> Iterator[str]:
    if until > done:
        yield "replay.run()" if until == count else f"replay.run({until})"


def _sections(steps: Iterable[tuple[Section, Step]]) -> Iterator[str]:
    """Steps in the text form, in exactly their order: a section may come twice."""
    for section, group in groupby(steps, key=lambda each: each[0]):
        yield f"[{section}]\n"
        yield from (f"{format_step(step)}\n" for _, step in group)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')


def _vendor(vendor: Vendor) -> str:
    """The call that resolves an installed vendor: format, and the features that differ from the defaults."""
    defaults = {info.name: info.default for info in feature_infos(type(vendor.features))}
    chosen: dict[str, Any] = attrs.asdict(vendor.features)
    features = {name: value for name, value in chosen.items() if value != defaults.get(name)}
    told = f", {features!r}" if features else ""
    return f"resolve({vendor.name!r}, {vendor.page_format.name!r}{told})"


def _units(scene: Scene) -> str:
    told: list[tuple[Any, ...]] = []
    for unit in scene.units:
        if unit.requesters:
            told.append((unit.name, unit.tag, unit.devices, unit.pasid, unit.base, unit.requesters))
        elif unit.pasid is not None:
            told.append((unit.name, unit.tag, unit.devices, unit.pasid))
        else:
            told.append((unit.name, unit.tag, *([unit.devices] if unit.devices else [])))
    return repr(told)


def _levels(scene: Scene) -> str:
    """How many levels the root has, and grows to, where it may."""
    if scene.root_level < 0:
        return ""
    return f"\n    levels={(scene.root_level + 1, len(scene.vendor.page_format.levels))},"

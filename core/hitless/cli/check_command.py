"""``hitless check``: every scenario, over every interleaving; and the checker by mutants and deletions."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from hitless.check.campaign import Kind, Task, run_tasks
from hitless.check.findings import Findings
from hitless.check.mutants.running import all_mutants
from hitless.check.scenarios import SCENARIOS
from hitless.check.suite import feature_sets
from hitless.cli.check_config import config_tasks
from hitless.cli.check_qemu import witness_tasks
from hitless.cli.check_table import report_of, show_findings, show_refusals, tell_broken
from hitless.cli.main import STATUS, again
from hitless.cli.options import given_features
from hitless.cli.output import json_option, report_option, write_json, write_report
from hitless.cli.progress import progress_bars
from hitless.cli.text import plain
from hitless.config import open_registry
from hitless.errors import BadInput
from hitless.plugin import VendorRegistry

_AT_ONCE = 12
"""So many scenarios are one task."""
_SMALL = 60
"""So many pieces of work are not worth a second process."""


@click.command("check")
@click.option("--vendor", "vendors", multiple=True, metavar="NAME", help="Only this vendor; may be repeated.")
@click.option("--format", "formats", multiple=True, metavar="NAME", help="Only this page format; may be repeated.")
@click.option("--scenario", "scenarios", multiple=True, metavar="ID", help="Only this scenario; may be repeated.")
@click.option(
    "--feature",
    "features",
    multiple=True,
    metavar="NAME=VALUE",
    help="Only the configuration with this value, other features being default; may be repeated.",
)
@click.option("--all", "every", is_flag=True, help="Every legal combination of features, not every pair of values.")
@click.option("--config", "config_file", metavar="FILE", help="The domains of a configuration (TOML), as they are.")
@click.option("--mutants", is_flag=True, help="Put mistakes into right plans: each must be caught under its rules.")
@click.option("--mutant", "mutant", metavar="ID", help="One of these mistakes, told; status 1 when it is caught.")
@click.option("--deletion", is_flag=True, help="Leave out each step in turn: is it noticed?")
@click.option(
    "--machine",
    type=click.Choice(["memory", "qemu"]),
    default="memory",
    show_default=True,
    help="qemu: carry the scenarios out on QEMU's emulated units, and compare its walks with ours.",
)
@click.option("--jobs", type=click.IntRange(min=1), help="Processes at once.  [default: one a processor]")
@click.option("--replay", metavar="FILE.py", help="Write the first violation as a program that replays it.")
@click.option("--quiet", is_flag=True, help="No progress, no tables.")
@report_option
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    vendors: Sequence[str],
    formats: Sequence[str],
    scenarios: Sequence[str],
    features: Sequence[str],
    every: bool,
    config_file: str | None,
    mutants: bool,
    mutant: str | None,
    deletion: bool,
    machine: str,
    jobs: int | None,
    replay: str | None,
    quiet: bool,
    json_file: str | None,
    report_file: str | None,
) -> int:
    """Check plans over every interleaving of DMA, walks, caches and commands.

    Without options: every scenario on every page format of every vendor, in so many configurations that
    each pair of feature values occurs.

    \b
    hitless check --vendor amd --scenario one-page-in-2m
    hitless check --mutants --deletion
    hitless check --mutant generic.no-wait --vendor intel --replay no_wait.py --report no_wait.html
    hitless check --machine qemu --vendor amd
    """
    problems: list[str]
    kinds: list[Kind] = ["mutants"] if mutants or mutant else []
    kinds += ["deletions"] if deletion else []
    if machine == "qemu":
        if config_file is not None or kinds or every or replay:
            raise click.UsageError("--machine qemu goes with --vendor, --format, --scenario and --feature only")
        registry, problems = _plugins(vendors)
        tasks = list(
            witness_tasks(registry, _places(registry, formats), scenarios and _scenario_ids(scenarios), features)
        )
    elif config_file is not None:
        if formats or features or every or "mutants" in kinds:
            raise click.UsageError("--config says all of that; --format, --feature, --all and mutants go without it")
        registry, tasks = config_tasks(config_file, vendors, _scenario_ids(scenarios), kinds or ["scenarios"])
        problems = []
    else:
        registry, problems = _plugins(vendors)
        tasks = list(_tasks(registry, formats, _scenario_ids(scenarios), features, kinds, mutant, every=every))
    found = _run(tasks, registry, jobs, quiet=quiet)
    if mutant and not found.mutants:
        raise BadInput(f"there is no place for mutant {mutant}", do="choose another vendor, format or features")
    wrong = any(each.rules for each in found.mutants) if mutant else found.wrong
    status = 1 if wrong else 2 if problems else 0
    ctx.meta[STATUS] = status
    if report_file is not None:
        write_report(report_file, report_of(found))
    _report(found, problems, json_file, replay, quiet=quiet, told_mutant=mutant is not None)
    return status


def _report(
    found: Findings,
    problems: Sequence[str],
    json_file: str | None,
    replay: str | None,
    *,
    quiet: bool,
    told_mutant: bool,
) -> None:
    if replay is not None:
        _write_program(found, replay)
    if json_file not in (None, "-"):
        write_json(str(json_file), found.as_json())
    for problem in problems:
        click.echo(plain(problem), err=True)
    if problems:
        click.echo(f"  again: {again()}", err=True)
    tell_broken(found, forced=told_mutant)
    if json_file == "-":
        write_json("-", found.as_json())
    elif not quiet:
        show_refusals(found)
        show_findings(found)


def _write_program(found: Findings, path: str) -> None:
    """The program of the shortest violation; of a forced one, if there is no other.

    Raises:
        BadInput: it cannot be written.
    """
    programs = [each.story.program for each in (*found.broken, *found.forced) if each.story.program]
    if not programs:
        click.echo("nothing to replay", err=True)
        return
    try:
        Path(path).write_text(programs[0], encoding="utf-8")
    except (OSError, ValueError) as error:
        raise BadInput(f"cannot write {path!r}", why=getattr(error, "strerror", "") or str(error)) from error


def _run(tasks: Sequence[Task], registry: VendorRegistry, jobs: int | None, *, quiet: bool) -> Findings:
    small = sum(task.pieces for task in tasks) <= _SMALL
    processes = jobs or (1 if small else len(os.sched_getaffinity(0)))
    with progress_bars(quiet=quiet, what="checked") as progress:
        return run_tasks(tasks, registry, jobs=processes, progress=progress)


# -- what is asked for


def _plugins(vendors: Sequence[str]) -> tuple[VendorRegistry, list[str]]:
    """The vendors that are asked for; what does not load though nobody named it is a problem, and the others go on.

    Raises:
        PluginError: no such vendor, or none at all.
    """
    registry = open_registry(None, vendors or None)
    if not vendors:
        registry.set_aside_unusable()
    if registry.broken and (vendors or not registry.vendors):
        raise registry.broken[0].error()
    return registry, [str(each.error()) for each in registry.broken]


def _scenario_ids(asked: Sequence[str]) -> tuple[str, ...]:
    known = [each.id for each in SCENARIOS]
    for each in asked:
        if each not in known:
            raise BadInput(f"there is no scenario {each!r}", do=f"choose one of {', '.join(known)}")
    return tuple(dict.fromkeys(asked)) or tuple(known)


def _tasks(
    registry: VendorRegistry,
    formats: Sequence[str],
    scenarios: tuple[str, ...],
    features: Sequence[str],
    kinds: Sequence[Kind],
    mutant: str | None,
    *,
    every: bool,
) -> Iterator[Task]:
    """Tasks for every vendor and format that is asked for.

    Raises:
        BadInput: there is no such format, feature or mutant; names those that there are.
    """
    places = list(_places(registry, formats))
    if mutant:
        _known_mutant(registry, places, mutant)
    for vendor, name in places:
        given = given_features(registry, vendor, features) if features else None
        for kind in kinds:
            if kind == "mutants":
                yield Task("mutants", vendor, name, given or {}, (mutant,) if mutant else (), stories=bool(mutant))
            else:
                base = feature_sets(registry, vendor, name)[0] if given is None else given
                for ids in _parts(scenarios, _AT_ONCE // 3):
                    yield Task("deletions", vendor, name, base, ids)
        if not kinds:
            for chosen in [given] if given is not None else feature_sets(registry, vendor, name, every=every):
                for ids in _parts(scenarios, _AT_ONCE):
                    yield Task("scenarios", vendor, name, chosen, ids)


def _parts(ids: tuple[str, ...], size: int) -> Iterator[tuple[str, ...]]:
    for first in range(0, len(ids), size):
        yield ids[first : first + size]


def _places(registry: VendorRegistry, formats: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Vendors and formats."""
    known = [(vendor, name) for vendor in sorted(registry.vendors) for name in registry.format_names(vendor)]
    for asked in formats:
        if asked not in [name for _, name in known]:
            raise BadInput(f"there is no format {asked!r}", do=f"choose one of {', '.join(name for _, name in known)}")
    for vendor, name in known:
        if not formats or name in formats:
            yield vendor, name


def _known_mutant(registry: VendorRegistry, places: Sequence[tuple[str, str]], mutant: str) -> None:
    known: dict[str, None] = {}
    for vendor, name in places:
        known |= dict.fromkeys(each.id for each in all_mutants(registry.resolve(vendor, name)))
    if mutant not in known:
        raise BadInput(f"there is no mutant {mutant!r}", do=f"choose one of {', '.join(known)}")

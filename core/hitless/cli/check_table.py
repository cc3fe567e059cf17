"""What a check found, for people: stories, refusals, and tables with a line a format."""

from collections import Counter
from collections.abc import Sequence

import click

from hitless.check.findings import Findings, Refused, Told
from hitless.cli.output import console, table
from hitless.cli.text import plain
from hitless.report.build import StoryPicture, check_page
from hitless.report.page import Page

_MOST = 10


def tell_broken(found: Findings, *, forced: bool) -> None:
    """Violations as stories, one of each rule and format, on standard error; ``forced``: of a mutant, too."""
    told = _first_of_each(found.broken + (found.forced if forced else []))
    for each in told[:_MOST]:
        click.echo(plain(f"{each.story}\n"), err=True)
    if len(told) > _MOST:
        click.echo(f"... and {len(told) - _MOST} more of other rules or formats; --json has all of them\n", err=True)
    explained = {(each.format, each.scenario, repr(each.features)) for each in found.broken}
    for result in found.violated:
        if (result.format, result.scenario, repr(result.features)) not in explained:
            _line(f"{result.format}, {result.scenario}: {result.reason}", result.again)
    for mutant in found.mutants:
        if not mutant.right:
            twin = f"; the right plan breaks {', '.join(mutant.twin_violations)}" if mutant.twin_violations else ""
            rules = f"breaks {_rules(mutant.rules)}, expected {_rules(mutant.expected_rules)}"
            _line(f"{mutant.format}, mutant {mutant.id}: {rules}{twin}", mutant.again)
    _tell_witnessed(found)
    for change in found.harmless:
        if not change.right:
            _line(f"{change.format}, {change.id}: breaks {_rules(change.rules)}, though it is harmless", "")


def _tell_witnessed(found: Findings) -> None:
    for row in found.witnessed:
        if row.outcome == "violated":
            _line(f"{row.format}, {row.scenario}, seen by QEMU: {row.reason}", "")
    for compared in found.compared:
        for fault in compared.faults[:_MOST]:
            _line(f"{compared.format}, QEMU {compared.version}: {fault}", "")


def _line(text: str, again: str) -> None:
    click.echo(plain(text), err=True)
    if again:
        click.echo(plain(f"  again: {again}"), err=True)


def _rules(rules: Sequence[str]) -> str:
    return ", ".join(rules) or "nothing"


def _first_of_each(told: Sequence[Told]) -> list[Told]:
    """The first of each format and rule."""
    found: dict[tuple[str, str], Told] = {}
    for each in told:
        found.setdefault((each.format, each.rule), each)
    return list(found.values())


def show_refusals(found: Findings) -> None:
    """Each reason once, with the story of what happens when it is done all the same."""
    reasons: dict[tuple[str, str], list[Refused]] = {}
    for each in found.refused:
        reasons.setdefault((each.format, each.reason), []).append(each)
    for (name, reason), refused in sorted(reasons.items()):
        scenarios = ", ".join(dict.fromkeys(each.scenario for each in refused))
        broken = (
            f"done all the same, it breaks {refused[0].forced_rule}" if refused[0].forced_rule else "it is never done"
        )
        click.echo(plain(f"{name} refuses {reason}, {len(refused)} times ({scenarios}); {broken}:"))
        story = next((each.story for each in found.forced if _same(each, refused[0])), None)
        click.echo(plain(f"{story}\n" if story is not None else ""))


def _same(told: Told, refused: Refused) -> bool:
    return (told.format, told.scenario, told.features, told.rule) == (
        refused.format,
        refused.scenario,
        refused.features,
        refused.forced_rule,
    )


def show_findings(found: Findings) -> None:
    """Tables: scenarios, mutants, harmless changes, deletions; those that there are."""
    out = console()
    for _, columns, rows in tables_of(found):
        out.print(table(columns, rows, figures=True))
        out.print()


def report_of(found: Findings) -> Page:
    """Each told violation as a timeline, those of refused plans and of mutants too, and the tables."""
    told = _first_of_each([*found.broken, *found.forced])
    stories = [
        StoryPicture(f"{each.format}, {each.scenario}", each.rule, each.story.lines, str(each.story)) for each in told
    ]
    return check_page(tables_of(found), stories)


def tables_of(found: Findings) -> list[tuple[str, list[str], list[list[str]]]]:
    """The tables that have rows, each with its title."""
    made = {
        "Scenarios": _scenarios(found),
        "Mutants and harmless changes": _mutants(found),
        "Left-out steps": _deletions(found),
        "Carried out on QEMU": _witnessed(found),
        "Walks beside QEMU's": _compared(found),
    }
    return [(title, columns, rows) for title, (columns, rows) in made.items() if rows]


def _scenarios(found: Findings) -> tuple[list[str], list[list[str]]]:
    columns = ["format", "settings", "ok", "refused", "n/a", "violated", "plans", "steps"]
    rows = []
    for name in dict.fromkeys(each.format for each in found.results):
        results = [each for each in found.results if each.format == name]
        outcomes = Counter(each.outcome for each in results)
        figures = [
            len({repr(each.features) for each in results}),
            *(outcomes[outcome] for outcome in ("ok", "refused", "not_applicable", "violated")),
            sum(each.plans for each in results),
            sum(each.steps for each in results),
        ]
        rows.append([name, *(f"{figure:,}" for figure in figures)])
    return columns, rows


def _mutants(found: Findings) -> tuple[list[str], list[list[str]]]:
    columns = ["format", "mutants", "caught", "clean twins", "harmless", "stayed green"]
    rows = []
    for name in dict.fromkeys(each.format for each in found.mutants):
        mutants = [each for each in found.mutants if each.format == name]
        harmless = [each for each in found.harmless if each.format == name]
        figures = [
            len(mutants),
            sum(each.caught for each in mutants),
            sum(not each.twin_violations for each in mutants),
            len(harmless),
            sum(each.right for each in harmless),
        ]
        rows.append([name, *(f"{figure:,}" for figure in figures)])
    return columns, rows


def _deletions(found: Findings) -> tuple[list[str], list[list[str]]]:
    columns = ["format", "steps left out", "noticed", "superfluous"]
    rows = []
    for name in dict.fromkeys(each.format for each in found.deletions):
        outcomes = Counter(each.outcome for each in found.deletions if each.format == name)
        rows.append([name, f"{outcomes.total():,}", f"{outcomes['caught']:,}", f"{outcomes['superfluous']:,}"])
    return columns, rows


def _witnessed(found: Findings) -> tuple[list[str], list[list[str]]]:
    columns = ["format", "ok", "refused", "n/a", "broken", "plans", "by DMA", "by trace", "faults"]
    rows = []
    for name in dict.fromkeys(each.format for each in found.witnessed):
        results = [each for each in found.witnessed if each.format == name]
        outcomes = Counter(each.outcome for each in results)
        figures = [
            *(outcomes[outcome] for outcome in ("ok", "refused", "not_applicable", "violated")),
            sum(each.seen.conversions for each in results),
            sum(each.seen.witnessed.by_dma for each in results),
            sum(each.seen.witnessed.by_trace for each in results),
            sum(each.seen.witnessed.refused for each in results),
        ]
        rows.append([name, *(f"{figure:,}" for figure in figures)])
    return columns, rows


def _compared(found: Findings) -> tuple[list[str], list[list[str]]]:
    columns = ["format", "QEMU", "walks", "by DMA", "by trace", "faults", "excused", "wrong"]
    rows = []
    for each in found.compared:
        excused = sum(count for _, count, _ in each.excused)
        figures = [each.asked, each.by_dma, each.by_trace, each.refused, excused, len(each.faults)]
        rows.append([each.format, each.version, *(f"{figure:,}" for figure in figures)])
    return columns, rows

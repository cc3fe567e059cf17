"""``hitless plan``: what a conversion would do."""

from collections.abc import Iterator, Sequence
from typing import Any

import click

from hitless import __version__
from hitless.check import Report
from hitless.cli.main import again
from hitless.cli.options import configured, set_up
from hitless.cli.output import write_json
from hitless.cli.text import plain
from hitless.config import Backing
from hitless.errors import BadInput
from hitless.explain import explain_step
from hitless.plan import Section, Step, format_step
from hitless.refresh.levels import table_levels
from hitless.run import PlannedDomain, plan_conversions
from hitless.units import Range, parse_range

_MEMORY = 4 << 30


class _Conversion(click.ParamType[Any]):
    name = "RANGE:OWNER"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Range, str]:
        text, _, owner = str(value).rpartition(":")
        if owner not in ("shared", "private"):
            self.fail(f"{value!r} must end with :shared or :private", param, ctx)
        try:
            return parse_range(text), owner
        except BadInput as error:
            self.fail(f"{error.what}; {error.do}", param, ctx)
        except ValueError:  # more digits than Python reads
            self.fail("a number of too many digits", param, ctx)


@click.command("plan")
@click.option(
    "--convert",
    "conversions",
    type=_Conversion(),
    multiple=True,
    required=True,
    help="START-END or START+SIZE, and shared or private; may be repeated.",
)
@click.option("--check", is_flag=True, help="Check each plan over every interleaving of DMA, caches and commands.")
@configured
def command(
    conversions: Sequence[tuple[Range, str]],
    check: bool,
    config_file: str | None,
    vendors: Sequence[str],
    memory: int | None,
    backing: Backing | None,
    allow_break: bool,
    json_file: str | None,
) -> int:
    """Print the plan of a conversion on a fresh guest; nothing is changed.

    Several conversions to one owner are one plan; where the owner changes, the earlier ones are
    carried out first. Without --config and --memory the guest has 4 GiB.

    \b
    hitless plan --convert 0x40000000+4K:shared --vendor amd
    hitless plan --convert 0x40000000+2M:shared --convert 0x40001000+4K:private --backing separate
    """
    setup = set_up(config_file, vendors, memory, backing, allow_break, lambda: _MEMORY)
    planned = plan_conversions(setup.config, setup.registry, conversions, check=check)
    problems = setup.problems + [f"{each.domain}: {each.refusal}" for each in planned if each.refusal is not None]
    stories = [f"{each.domain}: {each.story}" for each in planned if each.story]
    for problem in [*problems, *stories]:
        click.echo(plain(problem), err=True)
    if problems or stories:
        click.echo(f"  again: {again()}", err=True)
    if json_file is not None:
        data = {"hitless": __version__, "schema": "plan/1", "plans": [_as_json(each) for each in planned]}
        write_json(json_file, data)
    if json_file != "-":
        for each in planned:
            _show(each)
    return 1 if stories else 2 if problems else 0


def _explained(planned: PlannedDomain) -> Iterator[tuple[Section, Step, list[str]]]:
    """Every step with its section and what it does."""
    if planned.plan is None:
        return
    levels = table_levels((step for _, step in planned.plan.steps()), planned.vendor.page_format)
    for section, step in planned.plan.steps():
        yield section, step, explain_step(step, planned.vendor, levels)


def _show(planned: PlannedDomain) -> None:
    """The plan's text form, with the explanation of each step in comments before it."""
    ranges = ", ".join(map(str, planned.ranges))
    click.echo(plain(f"# {planned.domain}: {planned.vendor.page_format.name}, {ranges} to {planned.owner}"))
    if planned.plan is None:
        click.echo("# refused" if planned.refusal else "# nothing changes: the pages have that owner already")
        click.echo()
        return
    click.echo(plain(f"plan {planned.plan.notifier}"))
    heading: Section | None = None
    for section, step, lines in _explained(planned):
        if section != heading:
            heading = section
            click.echo(f"[{section}]")
        for line in lines:
            click.echo(plain(f"# {line}"))
        click.echo(plain(format_step(step)))
    if planned.report is not None:
        click.echo(f"# {_checked(planned.report)}")
    click.echo()


def _checked(report: Report) -> str:
    """What a check found, on one line."""
    broken = ", ".join(f"{rule} {count:,}" for rule, count in sorted(report.counts.items()))
    verdict = f"broken: {broken}" if broken else "no rule breaks"
    return f"checked over every interleaving of {report.steps} steps: {verdict}"


def _as_json(planned: PlannedDomain) -> dict[str, Any]:
    return {
        "domain": planned.domain,
        "vendor": planned.vendor.name,
        "format": planned.vendor.page_format.name,
        "owner": planned.owner,
        "ranges": [[f"{each.start:#x}", f"{each.end:#x}"] for each in planned.ranges],
        "refused": planned.refusal.reason if planned.refusal else None,
        "checked": int(planned.report is not None),
        "check_violations": dict(sorted(planned.report.counts.items())) if planned.report is not None else {},
        "steps": [
            {"section": section, "step": format_step(step), "explained": lines}
            for section, step, lines in _explained(planned)
        ],
    }

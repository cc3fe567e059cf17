"""``hitless plan``: what a conversion would do."""

from collections.abc import Iterator, Sequence
from typing import Any

import click

from hitless import __version__
from hitless.check import Report
from hitless.cli.image_options import Where, asked, features_of, read_image, tables_of_image
from hitless.cli.main import again
from hitless.cli.options import configured, set_up
from hitless.cli.output import report_option, write_json, write_report
from hitless.cli.text import plain
from hitless.config import Backing, open_registry
from hitless.errors import BadInput
from hitless.explain import explain_step
from hitless.inspect.opening import open_spaces
from hitless.inspect.owners import Owners, read_owner_list
from hitless.inspect.wording import devices_text
from hitless.plan import Section, Step, format_step
from hitless.refresh.levels import table_levels
from hitless.report.build import PlanPicture, plan_page
from hitless.run.images import plan_on_image
from hitless.run.plans import PlannedDomain, plan_conversions
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
@click.option("--image", "image_file", metavar="IMAGE", help="Plan on the tables of this memory image, and check it.")
@click.option("--owners", metavar="FILE", help="Who owns physical memory, as `hitless audit` takes it; with --image.")
@report_option
@configured
@tables_of_image
def command(
    conversions: Sequence[tuple[Range, str]],
    check: bool,
    image_file: str | None,
    owners: str | None,
    where: Where,
    config_file: str | None,
    vendors: Sequence[str],
    memory: int | None,
    backing: Backing | None,
    allow_break: bool,
    json_file: str | None,
    report_file: str | None,
) -> int:
    """Print the plan of a conversion on a fresh guest, or on the tables of an image; nothing is changed.

    Several conversions to one owner are one plan; where the owner changes, the earlier ones are
    carried out first. Without --config and --memory the guest has 4 GiB.

    \b
    hitless plan --convert 0x40000000+4K:shared --vendor amd
    hitless plan --convert 0x40000000+2M:shared --convert 0x40001000+4K:private --backing separate
    hitless plan --convert 0x40000000+4K:shared --vendor amd --check --report plan.html
    hitless plan --image host.lime --format amd/v1 --root 0x100000 --convert 0x40001000+4K:shared

    With --image the ranges are IOVAs, each plan is for the tables as they stand, and memory stays where it is.
    """
    if image_file is not None:
        if config_file is not None or vendors or memory is not None or backing is not None:
            raise click.UsageError(
                "--image says what is mapped; --config, --vendor, --memory and --backing go without it"
            )
        planned, problems = _on_image(image_file, where, conversions, owners, allow_break=allow_break), list[str]()
    else:
        if owners is not None or where != Where.nothing():
            raise click.UsageError("--owners, and what names tables of an image, go with --image")
        setup = set_up(config_file, vendors, memory, backing, allow_break, lambda: _MEMORY)
        planned, problems = plan_conversions(setup.config, setup.registry, conversions, check=check), setup.problems
    problems += [f"{each.domain}: {each.refusal}" for each in planned if each.refusal is not None]
    stories = [f"{each.domain}: {each.story}" for each in planned if each.story]
    for problem in [*problems, *stories]:
        click.echo(plain(problem), err=True)
    if problems or stories:
        click.echo(f"  again: {again()}", err=True)
    if json_file is not None:
        data = {"hitless": __version__, "schema": "plan/1", "plans": [_as_json(each) for each in planned]}
        write_json(json_file, data)
    if report_file is not None:
        write_report(report_file, plan_page([_picture(each) for each in planned]))
    if json_file != "-":
        for each in planned:
            _show(each)
    return 1 if stories else 2 if problems else 0


def _on_image(
    image_file: str,
    where: Where,
    conversions: Sequence[tuple[Range, str]],
    owners: str | None,
    *,
    allow_break: bool,
) -> list[PlannedDomain]:
    """The plans on an image's one address space that the options name."""
    what = asked(where)
    image = read_image(image_file, where)
    opened = open_spaces(image, what)
    if len(opened.spaces) != 1:
        devices = "; ".join(devices_text(space.devices) for space in opened.spaces)
        raise BadInput(
            f"a plan is for one address space, not for {len(opened.spaces)}",
            why=devices,
            do="name a device of one of them with --device",
        )
    (space,) = opened.spaces
    name = what.vendor.name
    registry = open_registry(None, [name])
    vendor = registry.resolve(name, space.fmt.name, features_of(where, name), exact=space.fmt)
    told = Owners(read_owner_list(owners)) if owners is not None else None
    return plan_on_image(image, space, vendor, conversions, told, allow_break=allow_break)


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


def _picture(planned: PlannedDomain) -> PlanPicture:
    """What a report shows of a plan."""
    ranges = ", ".join(map(str, planned.ranges))
    title = f"{planned.domain}: {planned.vendor.page_format.name}, {ranges} to {planned.owner}"
    verdict = "not checked" if planned.report is None else _checked(planned.report)
    if planned.plan is None:
        verdict = f"refused: {planned.refusal}" if planned.refusal else "nothing changes"
    return PlanPicture(title, planned.plan, verdict, planned.story)


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

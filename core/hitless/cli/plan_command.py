"""``hitless plan``: what a conversion would do."""

from collections.abc import Sequence
from typing import Any

import click

from hitless import __version__
from hitless.cli.main import again
from hitless.cli.options import configured, make_config
from hitless.cli.output import plain, write_json
from hitless.errors import BadInput
from hitless.explain import explain_step
from hitless.plan import SECTIONS, format_step
from hitless.run import PlannedDomain, plan_conversions
from hitless.units import Range, parse_range


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


@click.command("plan")
@click.option(
    "--convert",
    "conversions",
    type=_Conversion(),
    multiple=True,
    required=True,
    help="START-END or START+SIZE, and shared or private; may be repeated.",
)
@configured
def command(
    conversions: Sequence[tuple[Range, str]],
    config_file: str | None,
    vendors: Sequence[str],
    memory: int | None,
    backing: str | None,
    allow_break: bool,
    json_file: str | None,
) -> int:
    """Print the plan of a conversion on a fresh guest; nothing is changed.

    Several conversions to one owner are one plan; where the owner changes, the earlier ones are
    carried out first. Without --memory the guest has what the ranges need, at least 4 GiB.

    \b
    hitless plan --convert 0x40000000+4K:shared --vendor amd
    hitless plan --convert 0x40000000+2M:shared --convert 0x40001000+4K:private --backing separate
    """
    highest = max(each.end for each, _ in conversions)
    config, registry = make_config(
        config_file, vendors, memory, backing, allow_break, lambda: max(-(-highest >> 30) << 30, 4 << 30)
    )
    planned = plan_conversions(config, registry, conversions)
    if json_file is not None:
        data = {"hitless": __version__, "schema": "plan/1", "plans": [_as_json(each) for each in planned]}
        write_json(json_file, data)
    if json_file != "-":
        for each in planned:
            _show(each)
    refused = [each for each in planned if each.refusal is not None]
    for each in refused:
        click.echo(f"{each.domain}: {each.refusal}", err=True)
    if refused:
        click.echo(f"  again: {again()}", err=True)
    return 2 if refused else 0


def _show(planned: PlannedDomain) -> None:
    ranges = ", ".join(map(str, planned.ranges))
    click.echo(f"# {planned.domain}: {planned.vendor.page_format.name}, {ranges} to {planned.owner}")
    if planned.plan is None:
        click.echo("# refused" if planned.refusal else "# nothing changes")
        return
    click.echo(f"plan {planned.plan.notifier}")
    for section in SECTIONS:
        steps = planned.plan.section(section)
        if steps:
            click.echo(f"[{section}]")
        for step in steps:
            for line in explain_step(step, planned.vendor):
                click.echo(plain(f"# {line}"))
            click.echo(plain(format_step(step)))


def _as_json(planned: PlannedDomain) -> dict[str, Any]:
    steps = [
        {"section": section, "step": format_step(step), "explained": explain_step(step, planned.vendor)}
        for section, step in (planned.plan.steps() if planned.plan else ())
    ]
    return {
        "domain": planned.domain,
        "vendor": planned.vendor.name,
        "format": planned.vendor.page_format.name,
        "owner": planned.owner,
        "ranges": [[f"{each.start:#x}", f"{each.end:#x}"] for each in planned.ranges],
        "refused": planned.refusal.reason if planned.refusal else None,
        "steps": steps,
    }

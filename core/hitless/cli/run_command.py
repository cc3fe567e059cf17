"""``hitless run``: a conversion log through every domain."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from hitless.cli.main import STATUS, again
from hitless.cli.options import configured, set_up
from hitless.cli.output import report_option, write_json, write_report
from hitless.cli.progress import progress_bars
from hitless.cli.run_table import show_result
from hitless.cli.text import plain
from hitless.config import Backing
from hitless.errors import BadInput
from hitless.guest_memfd.log import LogFile, highest_end, open_log
from hitless.run import Check, MachineName, Row, RunResult, run_log
from hitless.units import align_up

_GIB_LG2 = 30


class _Which(click.Choice[str]):
    """``sampled`` or ``all``; the log does not belong behind the option."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value not in self.choices:
            known = " or ".join(self.choices)
            self.fail(f"{value!r} is not {known}; put the log before --check, or write --check=sampled", param, ctx)
        return str(value)


@click.command("run")
@click.argument("log", metavar="LOG")
@configured
@click.option(
    "--strategy",
    "strategies",
    type=click.Choice(["refresh", "unmap-remap"]),
    multiple=True,
    help="refresh (default), or the baseline unmap-remap; both for a comparison.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Decides when everything happens.")
@click.option("--limit", type=click.IntRange(min=1), help="Stop after so many conversions of the log.")
@click.option(
    "--check",
    type=_Which(["sampled", "all"]),
    is_flag=False,
    flag_value="sampled",
    help="Check plans over every interleaving: sampled (default), the first 50 and every 50th; or all.",
)
@click.option(
    "--machine",
    type=click.Choice(["memory", "qemu"]),
    default="memory",
    show_default=True,
    help="Where: on units of the model, or on QEMU's emulated ones.",
)
@click.option("--quiet", is_flag=True, help="No progress, no tables.")
@report_option
@click.pass_context
def command(
    ctx: click.Context,
    log: str,
    config_file: str | None,
    vendors: Sequence[str],
    memory: int | None,
    backing: Backing | None,
    allow_break: bool,
    json_file: str | None,
    strategies: Sequence[str],
    seed: int,
    limit: int | None,
    check: Check | None,
    machine: MachineName,
    quiet: bool,
    report_file: str | None,
) -> int:
    """Run a conversion LOG (plain or gzip, - for standard input) with DMA in flight.

    Without --config and --memory the guest has one slot, from 0 to the log's highest converted
    address below 1 TiB, rounded up to 1 GiB.

    \b
    hitless run examples/short.log
    hitless run trace.log.gz --vendor amd --strategy refresh --strategy unmap-remap
    hitless run examples/short.log --vendor intel --machine qemu
    hitless run trace.log.gz --report run.html
    """
    with open_log(log) as opened:
        setup = set_up(config_file, vendors, memory, backing, allow_break, lambda: _memory_of(opened))
        with progress_bars(quiet=quiet) as progress:
            result = run_log(
                setup.config,
                setup.registry,
                opened if _is_stream(log) else log,
                strategies=tuple(dict.fromkeys(strategies)) or ("refresh",),
                seed=seed,
                limit=limit,
                check=check or "none",
                machine=machine,
                pictures=report_file is not None,
                progress=progress,
            )
    status = result.status or (2 if setup.problems else 0)
    ctx.meta[STATUS] = status
    if json_file not in (None, "-"):
        write_json(json_file, result.as_json())
    if report_file is not None:
        from hitless.report.build import run_page  # noqa: PLC0415 - only reports need it

        rows = [(_name(row, result), row.as_json(), row.picture) for row in result.rows]
        write_report(report_file, run_page(rows, Path(log).name))
    stories = [row.story for row in result.rows if row.strategy in result.deciding and row.story]
    for problem in [*setup.problems, *result.problems, *stories, *_broken_rules(result)]:
        click.echo(plain(problem), err=True)
    if status:
        click.echo(f"  again: {again()}", err=True)
    if json_file == "-":
        write_json("-", result.as_json())
    elif not quiet:
        show_result(result)
    return status


def _name(row: Row, result: RunResult) -> str:
    """A domain's name, with its strategy where there are several."""
    several = len({each.strategy for each in result.rows}) > 1
    return f"{row.domain} ({row.strategy})" if several else row.domain


def _is_stream(log: str) -> bool:
    """Whether it can be opened only once (a pipe): then it was copied when that happened."""
    return log == "-" or not Path(log).is_file()


def _memory_of(log: LogFile) -> int:
    """Memory up to the highest address that the log converts, below 1 TiB.

    Raises:
        BadInput: the log converts nothing there, or cannot be read.
    """
    highest = highest_end(log)
    if not highest:
        raise BadInput(
            "the log does not tell how much memory the guest has",
            where=log.name,
            why="it converts nothing below 1 TiB",
            do="say it with --memory SIZE, or in a configuration",
        )
    return align_up(highest, _GIB_LG2)


def _broken_rules(result: RunResult) -> list[str]:
    """The rules that broke under the strategies that decide."""
    return [
        f"{row.domain} ({row.strategy}): broken: " + ", ".join(f"{rule} {n:,}" for rule, n in row.violations.items())
        for row in result.rows
        if row.strategy in result.deciding and row.violations
    ]

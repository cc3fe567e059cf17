"""``hitless run``: a conversion log through every domain."""

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import click
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from hitless.cli.main import again
from hitless.cli.options import configured, make_config
from hitless.cli.output import console, plain, table, write_json
from hitless.guest_memfd.log import highest_end, open_log
from hitless.run import Row, RunResult, run_log
from hitless.units import align_up

_GIB_LG2 = 30
_SIDE_BY_SIDE = 4
_FIGURES = (
    "cuts",
    "merges",
    "stores",
    "invalidations",
    "invalidated_pages",
    "waits",
    "near_dma",
    "neighbour_dma",
    "neighbour_faults",
    "neighbour_misrouted",
    "converted_dma",
    "converted_misrouted",
    "machine_checks",
    "stale_after_refresh",
    "freed_table_reads",
    "tables",
    "tables_peak",
)


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
@click.option("--quiet", is_flag=True, help="No progress, no tables.")
def command(
    log: str,
    config_file: str | None,
    vendors: Sequence[str],
    memory: int | None,
    backing: str | None,
    allow_break: bool,
    json_file: str | None,
    strategies: Sequence[str],
    seed: int,
    limit: int | None,
    quiet: bool,
) -> int:
    """Run a conversion LOG (plain or gzip, - for standard input) with DMA in flight.

    \b
    hitless run examples/short.log
    hitless run trace.log.gz --vendor amd --strategy refresh --strategy unmap-remap
    """
    with open_log(log) as opened:
        config, registry = make_config(
            config_file,
            vendors,
            memory,
            backing,
            allow_break,
            lambda: max(align_up(highest_end(opened), _GIB_LG2), 1 << _GIB_LG2),
        )
        with _progress(quiet) as progress:
            result = run_log(
                config,
                registry,
                opened,
                strategies=tuple(dict.fromkeys(strategies)) or ("refresh",),
                seed=seed,
                limit=limit,
                progress=progress,
            )
    if json_file is not None:
        write_json(json_file, result.as_json())
    if json_file != "-" and not quiet:
        _show(result)
    for problem in result.problems:
        click.echo(plain(problem), err=True)
    if result.status:
        for row in result.rows:
            if row.strategy in result.deciding and row.violations:
                broken = ", ".join(f"{rule}: {count}" for rule, count in row.violations.items())
                click.echo(f"{row.domain} ({row.strategy}): broken: {broken}", err=True)
        click.echo(f"  again: {again()}", err=True)
    return result.status


def _show(result: RunResult) -> None:
    out = console()
    log = result.log
    out.print(
        f"{log.lines:,} lines: {log.conversions:,} conversions of {log.pages:,} pages, {log.unchanged:,} unchanged, "
        f"{log.outside:,} outside, {log.cut_lines} cut, {log.ignored_lines:,} ignored"
    )
    for first in range(0, len(result.rows), _SIDE_BY_SIDE):
        rows = result.rows[first : first + _SIDE_BY_SIDE]
        cells = [row.as_json() for row in rows]
        lines: list[list[object]] = [["strategy", *(row.strategy for row in rows)]]
        lines += [["backing", *(row.backing for row in rows)], ["policy", *(row.policy for row in rows)]]
        lines += [[name.replace("_", " "), *(f"{cell[name]:,}" for cell in cells)] for name in _FIGURES]
        lines.append(["leaves", *(_leaves(cell) for cell in cells)])
        lines.append(["refused", *(str(sum(row.refused.values())) for row in rows)])
        lines.append(["seconds", *(f"{row.seconds:.1f}" for row in rows)])
        out.print()
        out.print(table("", ["", *(_title(row) for row in rows)], lines))


def _title(row: Row) -> str:
    return row.domain


def _leaves(cell: dict[str, Any]) -> str:
    return " ".join(f"{count}x{size}" for size, count in cell["leaves"].items()) or "none"


def _progress(quiet: bool) -> Any:
    """A context that gives the progress callback: bars on a terminal, else nothing."""
    if quiet or not sys.stderr.isatty():
        return nullcontext(_no_progress)
    return _Bars()


def _no_progress(_label: str, _done: int, _total: int | None) -> None:
    """Nothing is shown."""


class _Bars:
    """One bar a world."""

    def __enter__(self) -> Any:
        columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
        self._bars = Progress(*columns, console=console(err=True), transient=True)
        self._tasks: dict[str, Any] = {}
        self._bars.start()
        return self._report

    def _report(self, label: str, done: int, total: int | None) -> None:
        if label not in self._tasks:
            self._tasks[label] = self._bars.add_task("", total=total)
        self._bars.update(self._tasks[label], completed=done, description=f"{plain(label)}: {done:,} conversions")

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

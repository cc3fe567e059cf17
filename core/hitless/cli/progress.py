"""Progress on standard error, if that is a terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from hitless.cli.text import plain

Report: TypeAlias = Callable[[str, int, int | None], None]


@contextmanager
def progress_bars(*, quiet: bool = False, what: str = "conversions") -> Iterator[Report]:
    """A callback (label, done, total or None) that moves one bar for each label; ``what`` is counted."""
    if quiet or sys.stderr is None or not sys.stderr.isatty():
        yield lambda _label, _done, _total: None
        return
    from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn  # noqa: PLC0415 - heavy

    from hitless.cli.output import console  # noqa: PLC0415

    columns = (TextColumn("{task.description}", markup=False), BarColumn(bar_width=24), TimeElapsedColumn())
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=console(err=True), transient=True) as bars:

        def report(label: str, done: int, total: int | None) -> None:
            if label not in tasks:
                tasks[label] = bars.add_task("", total=total)
            bars.update(tasks[label], completed=done, total=total, description=f"{plain(label)}: {done:,} {what}")

        yield report

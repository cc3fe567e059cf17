"""Printing: tables of plain text; JSON is written whole or not at all."""

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hitless.cli.text import plain
from hitless.errors import BadInput
from hitless.report.page import Page


class _Console(Console):
    """A console that lets its caller decide what a closed pipe means."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def console(*, err: bool = False) -> Console:
    """A console that interprets nothing."""
    return _Console(stderr=err, markup=False, highlight=False, emoji=False)


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, figures: bool = False) -> Table:
    """A table of plain text; with ``figures`` all columns but the first stand to the right."""
    made = Table(show_edge=False, pad_edge=False)
    for index, name in enumerate(columns):
        right = figures and index > 0
        made.add_column(Text(plain(name)), justify="right" if right else "left", overflow="fold", no_wrap=index == 0)
    for row in rows:
        made.add_row(*(Text(plain(cell)) for cell in row))
    return made


class JsonTarget(click.ParamType[Any]):
    """Where JSON goes: a file in a folder that is there, or ``-``. Known before the work begins."""

    name = "FILE|-"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        target = str(value)
        path = Path(target)
        if "\0" in target or path.is_dir():
            self.fail(f"{plain(target)!r} is no file", param, ctx)
        if target != "-" and not path.parent.is_dir():
            self.fail(f"there is no folder {plain(path.parent)!r}", param, ctx)
        return target


json_option = click.option(
    "--json",
    "json_file",
    type=JsonTarget(),
    metavar="FILE|-",
    help="Write JSON; with - standard output holds nothing else.",
)


class ReportTarget(JsonTarget):
    """Where a report goes: a page, or its first figure alone."""

    name = "FILE.html|FILE.svg"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        target = super().convert(value, param, ctx)
        if Path(target).suffix not in (".html", ".svg"):
            self.fail(f"{plain(target)!r} must end with .html (a page) or .svg (its first figure)", param, ctx)
        return target


report_option = click.option(
    "--report",
    "report_file",
    type=ReportTarget(),
    metavar="FILE.html|FILE.svg",
    help="Write pictures: one page that needs nothing else, or its first figure.",
)


def write_report(target: str, page: Page) -> None:
    """Write a page, or its first figure.

    Raises:
        BadInput: the file cannot be written, or there is no figure.
    """
    content = page.html() if target.endswith(".html") else page.figure()
    if content is None:
        raise BadInput(f"there is no figure for {target!r}", do="write a page: FILE.html")
    write_text(target, content)


def write_json(target: str, data: Mapping[str, Any]) -> None:
    """Write JSON to standard output (``-``), or to a file that is replaced as a whole.

    Raises:
        BadInput: the file cannot be written.
    """
    write_text(target, json.dumps(data, indent=2) + "\n")


def write_text(target: str, text: str) -> None:
    """Write a text to standard output (``-``), or to a file that is replaced as a whole.

    Raises:
        BadInput: the file cannot be written.
    """
    if target == "-":
        click.echo(text, nl=False)
        return
    with opened(target) as file:
        file.write(text)


@contextmanager
def opened(target: str) -> Iterator[TextIO]:
    """Standard output (``-``), or a file that is replaced as a whole when the block ends without an error.

    Raises:
        BadInput: the file cannot be written.
    """
    if target == "-":
        yield sys.stdout
        return
    path = Path(target).resolve()
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        if path.exists() and not path.is_file():  # a pipe or a device is not to be replaced
            with path.open("w", encoding="utf-8") as file:
                yield file
            return
        try:
            with part.open("w", encoding="utf-8") as file:
                yield file
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise BadInput(f"cannot write {target!r}", why=error.strerror or str(error)) from error

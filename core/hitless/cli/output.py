"""Printing: text from files and plugins is text, never markup; JSON is written whole or not at all."""

import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text


def plain(text: object) -> str:
    """Text with control characters escaped, so that it cannot move the cursor."""
    return "".join(c if c.isprintable() or c in "\n\t" else f"\\x{ord(c):02x}" for c in str(text))


def console(*, err: bool = False) -> Console:
    """A console that interprets nothing."""
    return Console(stderr=err, markup=False, highlight=False, emoji=False, soft_wrap=True)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    """A table of plain text; figures to the right."""
    made = Table(title=Text(title) if title else None, title_justify="left", show_edge=False, pad_edge=False)
    for index, name in enumerate(columns):
        figures = index > 0 and all(isinstance(row[index], int | float) for row in rows)
        made.add_column(Text(plain(name)), justify="right" if figures else "left", overflow="fold")
    for row in rows:
        made.add_row(*(Text(f"{cell:,}" if isinstance(cell, int) else plain(cell)) for cell in row))
    return made


def write_json(target: str, data: Mapping[str, Any]) -> None:
    """Write JSON to a file, whole or not at all, or to standard output (``-``)."""
    text = json.dumps(data, indent=2) + "\n"
    if target == "-":
        sys.stdout.write(text)
        return
    path = Path(target)
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            out.write(text)
        Path(name).replace(path)
    except OSError as error:
        raise click.ClickException(f"cannot write {target}: {error}") from error

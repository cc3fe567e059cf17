"""``hitless vectors``: replay recorded page tables, and make our own."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from hitless import __version__
from hitless.cli.output import console, json_option, table, write_json, write_text
from hitless.cli.text import plain
from hitless.config import open_registry
from hitless.errors import BadInput
from hitless.plugin import VendorRegistry
from hitless.vectors import FileResult, Flips, c_header, flip, formats_of, make, read_folder, verify

_SHOWN = 20


@click.group("vectors")
def command() -> None:
    """Recorded operations on page tables, with every word that they led to."""


@command.command("verify")
@click.argument("folder", metavar="DIR")
@click.option("--vendor", "vendors", multiple=True, metavar="NAME", help="Only this vendor's formats; may be repeated.")
@click.option(
    "--flip",
    "flips",
    type=click.IntRange(0),
    default=0,
    metavar="N",
    help="Change one bit of a recorded word, N times: each change must be told, but in bits that are ignored.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Which bits --flip changes.")
@json_option
def verify_command(folder: str, vendors: Sequence[str], flips: int, seed: int, json_file: str | None) -> int:
    """Replay the recordings DIR/*.json with our own map and unmap, and compare every word.

    Exit status 1 if a word differs that no section of a specification justifies, or a flipped bit is not told.

    \b
    hitless vectors verify vectors/
    hitless vectors verify vectors/ --vendor amd --flip 1000
    """
    recordings = read_folder(folder)
    registry = _registry(vendors)
    formats = formats_of(registry)
    results = [verify(each, formats, some=bool(vendors), keep=flips > 0) for each in recordings]
    flipped = flip(results, flips, seed) if flips else None
    if json_file is not None:
        data: dict[str, Any] = {
            "hitless": __version__,
            "schema": "vectors/1",
            "files": [each.as_json() for each in results],
        }
        if flipped is not None:
            data["flips"] = flipped.as_json()
        write_json(json_file, data)
    if json_file != "-":
        _show(results, flipped)
    return int(any(each.failed for each in results) or bool(flipped and flipped.missed))


@command.command("make")
@click.option("--format", "format_name", required=True, metavar="FORMAT", help="Such as amd/v1.")
@click.option("-o", "target", required=True, metavar="FILE", help="The JSON; a C header goes beside it, as FILE.h.")
def make_command(format_name: str, target: str) -> int:
    """Make vectors of a FORMAT of our own: operations, and every word of the tables after them.

    FILE becomes JSON in the form that `hitless vectors verify` reads; the same as a C header goes into a file of
    that name with the suffix .h.

    \b
    hitless vectors make --format amd/v1 -o amdv1.json
    """
    vendor, _, _ = format_name.partition("/")
    registry = open_registry(None, [vendor])
    formats = registry.format_names(vendor)
    if format_name not in formats:
        raise BadInput(f"there is no format {format_name!r}", who=vendor, do=f"choose one of {', '.join(formats)}")
    made = make(registry.resolve(vendor, format_name).page_format)
    path = Path(target)
    if path.suffix == ".h":
        path = path.with_suffix(".json")
    write_json(str(path), made)
    write_text(str(path.with_suffix(".h")), c_header(made))
    words = sum(run["n"] for case in made["cases"] for dump in case["dumps"] for run in dump["runs"])
    click.echo(
        plain(f"{path} and {path.with_suffix('.h')}: {len(made['cases'])} cases, {words} words of {format_name}")
    )
    return 0


def _registry(vendors: Sequence[str]) -> VendorRegistry:
    """All vendors that can be used, or those that are named."""
    registry = open_registry(None, vendors or None)
    if not vendors:
        registry.set_aside_unusable()
        for broken in registry.broken:
            click.echo(plain(broken.error()), err=True)
    return registry


def _show(results: Sequence[FileResult], flipped: Flips | None) -> None:
    columns = ["file", "format", "cases", "passed", "failed", "skipped", "entries"]
    rows = [
        [each.file, each.fmt, each.cases, each.passed, each.failed, len(each.skipped), each.entries] for each in results
    ]
    console().print(table(columns, rows))
    for result in results:
        for skipped in result.skipped[:_SHOWN]:
            click.echo(plain(f"{result.file} {skipped['case']}: skipped, {skipped['reason']}"))
        for each in result.differences[:_SHOWN]:
            click.echo(plain(f"{result.file} {_difference(each)}"))
    if flipped is not None:
        click.echo(
            f"{flipped.changed} bits flipped: {flipped.reported} told, {flipped.ignored} in ignored bits, "
            f"{len(flipped.missed)} missed"
        )
        for missed in flipped.missed[:_SHOWN]:
            click.echo(plain(f"  missed: {missed}"))


def _difference(each: dict[str, object]) -> str:
    justified = f" (justified: {each['justified']})" if each.get("justified") else ""
    where = f"{each['case']}" + (f" after {each['after_op']}" if "after_op" in each else "")
    if "what" in each:
        return f"{where}: {each['what']}{justified}"
    fields = ", ".join(map(str, each["fields"])) if isinstance(each["fields"], list) else ""
    words = f"recorded {each['recorded']}, ours {each['ours']}"
    return f"{where}, {each['level']} iova {each['iova']}: {words}; {fields} differ{justified}"

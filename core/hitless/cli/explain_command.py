"""``hitless explain``: decode words."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import click

from hitless import __version__
from hitless.cli.options import given_features
from hitless.cli.output import json_option, write_json
from hitless.cli.text import plain
from hitless.config import open_registry
from hitless.errors import BadInput
from hitless.explain import (
    explain_command,
    explain_entry_anywhere,
    explain_event,
    explain_fields,
    explain_structure,
    structure_layouts,
)
from hitless.plugin import Vendor
from hitless.refresh.commands import Words

QUEUES = ("command", "event")


@click.command("explain")
@click.argument("what", metavar="NAME")
@click.argument("words", metavar="WORD...", nargs=-1, required=True)
@click.option("--level", type=int, help="The table's level, in the vendor's own numbering; only for page formats.")
@click.option(
    "--feature",
    "features",
    multiple=True,
    metavar="NAME=VALUE",
    help="As hardware with this value has it, other features being default; may be repeated.",
)
@json_option
def command(what: str, words: Sequence[str], level: int | None, features: Sequence[str], json_file: str | None) -> int:
    """Decode WORDs of NAME: a page format (amd/v1), a structure (amd/dte), VENDOR/command or VENDOR/event.

    Without --level an entry is explained at every level where it is legal. Structures, commands
    and events are given with all their words, low word first.

    \b
    hitless explain amd/v1 0x6000000080000001 --level 2
    hitless explain arm_smmu/ste 0xd 0 0x040d359000001234 0x90000000 0 0 0 0
    hitless explain amd/command 0x3000000100000000 0x5ffff001
    """
    numbers = [_word(word) for word in words]
    name, _, kind = what.partition("/")
    registry = open_registry(None, [name])
    formats = registry.format_names(name)
    chosen = given_features(registry, name, features)
    vendor = registry.resolve(name, what if what in formats else "", chosen)
    known = [*formats, *(f"{name}/{each}" for each in (*QUEUES, *structure_layouts(vendor)))]
    if what not in known:
        raise BadInput(f"there is nothing called {what!r}", who=name, do=f"choose one of {', '.join(known)}")
    if what in formats:
        explained = [each for number in numbers for each in _entry(vendor, number, level)]
    else:
        if level is not None:
            raise click.UsageError(f"--level: only page formats have levels, {what} has not")
        explained = _wide(vendor, kind, numbers)
    if json_file is not None:
        write_json(json_file, {"hitless": __version__, "schema": "explain/1", "what": what, "words": explained})
    if json_file != "-":
        for each in explained:
            _show(each)
    return 0


def _word(text: str) -> int:
    try:
        word = int(text, 0)
    except ValueError:
        word = -1
    if not 0 <= word < 1 << 64:
        raise BadInput(f"{text!r} is not a 64-bit word", do="write it as 0x6000000080000001, or in decimal")
    return word


def _entry(vendor: Vendor, word: int, level: int | None) -> list[dict[str, Any]]:
    fmt = vendor.page_format
    if level is None:
        found = explain_entry_anywhere(fmt, word)
    else:
        try:
            found = [explain_fields(fmt, word, fmt.spec_level(level).number)]
        except KeyError as error:
            raise BadInput(str(error.args[0]), do="--level takes the vendor's own numbering") from error
    return [{"word": f"{word:#x}", **each} for each in found]


def _wide(vendor: Vendor, kind: str, numbers: Sequence[int]) -> list[dict[str, Any]]:
    """Structures, commands or events of several words, one after the other."""
    one, count, explain = _reader(vendor, kind)
    if len(numbers) % count:
        raise BadInput(
            f"{one} of {vendor.name} has {count} {'word' if count == 1 else 'words'} of 64 bits, "
            f"{len(numbers)} are given",
            do="give all of them, low word first",
        )
    entries = [tuple(numbers[first : first + count]) for first in range(0, len(numbers), count)]
    return [{"word": " ".join(f"{word:#x}" for word in words), **explain(words)} for words in entries]


def _reader(vendor: Vendor, kind: str) -> tuple[str, int, Callable[[Words], dict[str, Any]]]:
    """What one of a kind is called, how many words it has, and who explains them."""
    if kind == "command":
        return "a command", vendor.commands.words, partial(explain_command, vendor)
    if kind == "event":
        return "an event", vendor.events.words, partial(explain_event, vendor)
    layout = structure_layouts(vendor)[kind]
    return f"{kind} ({layout.name})", layout.width // 64, partial(explain_structure, layout)


def _show(each: dict[str, Any]) -> None:
    where = f" at {each['level']}" if "level" in each else ""
    click.echo(plain(f"{each['word']}{where}: {each['summary']}"))
    fields = each.get("fields", [])
    width = max((len(field["bits"]) for field in fields), default=0)
    for field in fields:
        meaning = f"  {field['meaning']}" if field["meaning"] else ""
        click.echo(plain(f"  {field['bits']:>{max(width, 6)}}  {field['name']} = {field['value']}{meaning}"))
    effects = each.get("effects", [])
    for effect in effects:
        click.echo(plain(f"  {effect}"))
    for fault in each.get("faults", []):
        if not any(fault in effect for effect in effects):
            click.echo(plain(f"  illegal: {fault}"))

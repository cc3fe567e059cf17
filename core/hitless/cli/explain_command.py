"""``hitless explain``: decode words."""

from collections.abc import Sequence
from typing import Any

import click

from hitless import __version__
from hitless.cli.output import json_option, write_json
from hitless.cli.text import plain
from hitless.config import open_registry
from hitless.errors import BadInput
from hitless.explain import explain_command, explain_entry_anywhere, explain_event, explain_fields
from hitless.plugin import Vendor, VendorRegistry


@click.command("explain")
@click.argument("what", metavar="FORMAT")
@click.argument("words", metavar="WORD...", nargs=-1, required=True)
@click.option("--level", type=int, help="The table's level, in the vendor's own numbering; only for page formats.")
@json_option
def command(what: str, words: Sequence[str], level: int | None, json_file: str | None) -> int:
    """Decode WORDs of a page FORMAT (such as amd/v1), or of VENDOR/command or VENDOR/event.

    Without --level an entry is explained at every level where it is legal. Commands and events are
    given with all their words, low word first.

    \b
    hitless explain amd/v1 0x6000000080000001 --level 2
    hitless explain amd/command 0x3000000100000000 0x5ffff001
    """
    numbers = [_word(word) for word in words]
    vendor_name, _, kind = what.partition("/")
    registry = open_registry(None, [vendor_name])
    vendor = _resolve(registry, vendor_name, what, kind)
    if kind in ("command", "event"):
        if level is not None:
            raise click.UsageError(f"--level: only page formats have levels, {what} has not")
        explained = _queue_words(vendor, kind, numbers)
    else:
        explained = [each for number in numbers for each in _entry(vendor, number, level)]
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


def _resolve(registry: VendorRegistry, name: str, what: str, kind: str) -> Vendor:
    """The vendor with the named format.

    Raises:
        BadInput: there is no such format; names all that this vendor has.
    """
    if kind in ("command", "event"):
        return registry.resolve(name)
    formats = registry.format_names(name)
    if what not in formats:
        known = [*formats, f"{name}/command", f"{name}/event"]
        raise BadInput(f"there is no format {what!r}", who=name, do=f"choose one of {', '.join(known)}")
    return registry.resolve(name, what)


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


def _queue_words(vendor: Vendor, kind: str, numbers: Sequence[int]) -> list[dict[str, Any]]:
    """Commands or events, one after the other."""
    count = vendor.commands.words if kind == "command" else vendor.events.words
    one = "a command" if kind == "command" else "an event"
    if len(numbers) % count:
        raise BadInput(
            f"{one} of {vendor.name} has {count} words of 64 bits, {len(numbers)} are given",
            do="give all of them, low word first",
        )
    explain = explain_command if kind == "command" else explain_event
    entries = [tuple(numbers[first : first + count]) for first in range(0, len(numbers), count)]
    return [{"word": " ".join(f"{word:#x}" for word in words), **explain(vendor, words)} for words in entries]


def _show(each: dict[str, Any]) -> None:
    where = f" at {each['level']}" if "level" in each else ""
    click.echo(plain(f"{each['word']}{where}: {each['summary']}"))
    for field in each.get("fields", []):
        meaning = f"  {field['meaning']}" if field["meaning"] else ""
        click.echo(plain(f"  {field['bits']:>6}  {field['name']} = {field['value']}{meaning}"))
    for effect in each.get("effects", []):
        click.echo(plain(f"  {effect}"))
    for fault in each.get("faults", []):
        click.echo(plain(f"  illegal: {fault}"))

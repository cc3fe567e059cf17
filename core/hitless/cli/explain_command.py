"""``hitless explain``: decode words."""

from collections.abc import Sequence
from typing import Any

import click

from hitless import __version__
from hitless.cli.output import plain, write_json
from hitless.config import open_registry
from hitless.errors import BadInput
from hitless.explain import explain_entry_anywhere, explain_fields
from hitless.plugin import Vendor


@click.command("explain")
@click.argument("what", metavar="FORMAT")
@click.argument("words", metavar="WORD...", nargs=-1, required=True)
@click.option("--level", type=int, help="The table's level, in the vendor's own numbering.")
@click.option("--json", "json_file", metavar="FILE|-", help="Write JSON; with - standard output holds nothing else.")
def command(what: str, words: Sequence[str], level: int | None, json_file: str | None) -> int:
    """Decode WORDs of a page FORMAT (such as amd/v1), or of VENDOR/command or VENDOR/event.

    \b
    hitless explain amd/v1 0x6000000080000001 --level 2
    hitless explain intel/command 0x100f2 0x40000052
    """
    vendor_name, _, kind = what.partition("/")
    registry = open_registry(None, [vendor_name])
    vendor = registry.resolve(vendor_name, "" if kind in ("command", "event") else what)
    numbers = [_word(word) for word in words]
    if kind == "command":
        explained: list[dict[str, Any]] = [_command(vendor, numbers)]
    elif kind == "event":
        explained = [_event(vendor, numbers)]
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
        raise BadInput(f"{text!r} is not a 64-bit word", do="write it as 0x6000000080000001")
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


def _exactly(numbers: Sequence[int], count: int, what: str) -> tuple[int, ...]:
    if len(numbers) != count:
        raise BadInput(
            f"{what} has {count} words of 64 bits, not {len(numbers)}", do="give all of them, low word first"
        )
    return tuple(numbers)


def _command(vendor: Vendor, numbers: Sequence[int]) -> dict[str, Any]:
    words = _exactly(numbers, vendor.commands.words, f"a {vendor.name} command")
    effects = [f"{type(effect).__name__}: {effect}" for effect in vendor.commands.decode(words)]
    return {
        "word": " ".join(f"{w:#x}" for w in words),
        "summary": vendor.commands.describe(words),
        "effects": effects,
    }


def _event(vendor: Vendor, numbers: Sequence[int]) -> dict[str, Any]:
    words = _exactly(numbers, vendor.events.words, f"a {vendor.name} event")
    decoded = vendor.events.decode(words)
    fields = [
        {"name": name, "bits": "", "value": f"{value:#x}", "meaning": ""}
        for name, value in decoded.items()
        if isinstance(value, int) and value
    ]
    return {"word": " ".join(f"{w:#x}" for w in words), "summary": str(decoded["event"]), "fields": fields}


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

"""``hitless inspect``: what tables in a memory image say."""

from typing import Any

import click

from hitless.cli.image_options import Where, Word, asked, read_image, tables_of_image
from hitless.cli.inspect_output import Rows, show_findings, show_space, show_translation, show_unit
from hitless.cli.inspect_pictures import Pictures
from hitless.cli.inspect_streams import CsvStream, JsonStream, Stream, each_range
from hitless.cli.main import STATUS
from hitless.cli.output import json_option, report_option
from hitless.inspect.opening import Opened, open_spaces
from hitless.inspect.space import Image
from hitless.inspect.translation import explain_translation

_SHOWN = 100


@click.command("inspect")
@click.argument("image_file", metavar="IMAGE")
@click.option("--iova", type=Word(), metavar="ADDR", help="Explain one translation step by step, and nothing else.")
@click.option("--csv", "as_csv", is_flag=True, help="Write ranges as CSV to standard output, and nothing else.")
@click.option("--limit", type=click.IntRange(0), default=_SHOWN, show_default=True, help="Show so many ranges a space.")
@click.option("--quiet", is_flag=True, help="Only the exit status, and what --json or --csv write.")
@report_option
@json_option
@tables_of_image
@click.pass_context
def command(
    ctx: click.Context,
    image_file: str,
    iova: int | None,
    as_csv: bool,
    limit: int,
    quiet: bool,
    json_file: str | None,
    report_file: str | None,
    where: Where,
) -> int:
    """Decode the address spaces in a memory IMAGE: raw, ELF core or LiME; gzip and zstd are unpacked.

    Start from a root table, or from the register that leads to a unit's structures. A raw image begins at
    address 0, unless --base or --segment say otherwise.

    Exit status: 0 decoded; 1 with findings; 2 not readable.

    \b
    hitless inspect vmcore --from intel/root-table@0x100010400
    hitless inspect ram.bin --segment 0+2G@0 --segment 4G@2G --from amd/device-table@0x1040001ff --device 00:04.0
    hitless inspect ram.gz --base 0x40000000 --from arm_smmu/stream-table@0x42000000 --set strtab_base_cfg=0x10210
    hitless inspect host.lime --format amd/v1 --root 0x100000 --set mode=3 --iova 0xfffff000
    hitless inspect host.lime --format amd/v1 --root 0x100000 --set mode=3 --report tables.html
    """
    if as_csv and json_file == "-":
        raise click.UsageError("--csv and --json -: only one of them can have standard output")
    what = asked(where)
    image = read_image(image_file, where)
    opened = open_spaces(image, what)
    if report_file is not None and iova is not None:
        raise click.UsageError("--report draws whole spaces, --iova explains one translation")
    if iova is not None:
        _translations(image, opened, iova, json_file, quiet=quiet)
    else:
        pictures = Pictures(image_file, report_file) if report_file is not None else None
        _ranges(opened, ctx, json_file, limit, pictures, as_csv=as_csv, quiet=quiet)
    return int(bool(len(opened.findings)))


def _ranges(
    opened: Opened,
    ctx: click.Context,
    json_file: str | None,
    limit: int,
    pictures: Pictures | None,
    *,
    as_csv: bool,
    quiet: bool,
) -> None:
    """Every range of every space, written as it is found."""
    text = not (quiet or as_csv or json_file == "-")
    rows = Rows(limit if text else 0)
    streams: list[Stream] = [rows, *([pictures] if pictures is not None else [])]
    if as_csv:
        streams.append(CsvStream("-"))
    if json_file is not None:
        streams.append(JsonStream(json_file))
    each_range(opened, streams)
    ctx.meta[STATUS] = int(bool(len(opened.findings)))
    if text:
        show_unit(opened)
        for number, space in enumerate(opened.spaces):
            show_space(number, space, rows)
        show_findings(opened.findings)


def _translations(image: Image, opened: Opened, iova: int, json_file: str | None, *, quiet: bool) -> None:
    """One translation for each address space, by its first device."""
    if opened.asked.root is not None:
        explained: list[dict[str, Any]] = [explain_translation(image, opened, opened.spaces[0], 0, iova)]
    else:
        device = opened.asked.device
        firsts = [space.devices[0] for space in opened.spaces] if device is None else [device]
        explained = [
            {"device": f"{first:#x}", **explain_translation(image, opened, None, first, iova)}
            for first in dict.fromkeys(firsts)
        ]
    if json_file is not None:
        JsonStream(json_file).write_translations(opened, explained)
    if not quiet and json_file != "-":
        for each in explained:
            show_translation(each)
        show_findings(opened.findings)

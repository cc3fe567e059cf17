"""``hitless diff``: what changed from one memory image to another."""

from collections.abc import Sequence
from itertools import islice
from typing import Any

import click

from hitless import __version__
from hitless.cli.image_options import Where, asked, read_image, tables_of_image
from hitless.cli.inspect_output import show_findings
from hitless.cli.output import console, json_option, table, write_json
from hitless.cli.text import plain
from hitless.inspect.difference import Change, Side, changes, counted
from hitless.inspect.findings import Findings
from hitless.inspect.opening import Opened, Space, open_spaces
from hitless.inspect.owners import Owners, read_owner_list
from hitless.inspect.wording import bytes_text, devices_text, rights_text
from hitless.units import lg2_text


@click.command("diff")
@click.argument("before", metavar="IMAGE1")
@click.argument("after", metavar="IMAGE2")
@click.option(
    "--owners",
    "owner_files",
    multiple=True,
    metavar="FILE",
    help="Who owned physical memory, and once more: who owns it now. Tells conversions in place.",
)
@click.option("--limit", type=click.IntRange(0), default=100, show_default=True, help="Show so many changes a space.")
@click.option("--quiet", is_flag=True, help="Only the exit status, and what --json writes.")
@json_option
@tables_of_image
def command(
    before: str,
    after: str,
    owner_files: Sequence[str],
    limit: int,
    quiet: bool,
    json_file: str | None,
    where: Where,
) -> int:
    """Tell what changed in address spaces from IMAGE1 to IMAGE2: cuts, merges, replaced leaves, conversions.

    Both are read from the same root, or register.

    Exit status: 0, changed or not; 1 if one of them has findings; 2 not readable.

    \b
    hitless diff before.lime after.lime --format amd/v1 --root 0x100000
    hitless diff before.lime after.lime --from intel/root-table@0x1000 --owners owners1.txt --owners owners2.txt
    """
    if len(owner_files) not in (0, 2):
        raise click.UsageError("--owners is given twice, for IMAGE1 and IMAGE2, or not at all")
    owners = None
    if owner_files:
        first, second = (Owners(read_owner_list(each)) for each in owner_files)
        owners = (first, second)
    what = asked(where)
    old, new = (open_spaces(read_image(each, where), what) for each in (before, after))
    found = [(a, b, list(changes(a, b, owners))) for a, b in _pairs(old, new)]
    if json_file is not None:
        write_json(json_file, _as_json(found, old, new))
    if not quiet and json_file != "-":
        for a, b, changed in found:
            _show(a, b, changed, limit)
        for name, opened in (("IMAGE1", old), ("IMAGE2", new)):
            if len(opened.findings):
                click.echo(f"\n{name}:")
                show_findings(opened.findings)
    return int(bool(len(old.findings) + len(new.findings)))


_Compared = list[tuple[Space | None, Space | None, list[Change]]]


def _pairs(old: Opened, new: Opened) -> list[tuple[Space | None, Space | None]]:
    """The spaces of the same devices; one that has no partner stands alone."""
    if old.view is None or new.view is None:
        return [(old.spaces[0], new.spaces[0])]
    left = list(new.spaces)
    pairs: list[tuple[Space | None, Space | None]] = []
    for space in old.spaces:
        same = (each for each in left if each.fmt.stage == space.fmt.stage and set(each.devices) & set(space.devices))
        partner = next(same, None)
        if partner is not None:
            left.remove(partner)
        pairs.append((space, partner))
    return [*pairs, *((None, each) for each in left)]


def _as_json(found: _Compared, old: Opened, new: Opened) -> dict[str, Any]:
    spaces = []
    for a, b, changed in found:
        of = b or a
        assert of is not None  # noqa: S101 - a pair has at least one
        spaces.append(
            {
                "devices": [f"{each:#x}" for each in of.devices],
                "format": of.fmt.name,
                "counts": counted(changed),
                "changes": [each.as_json(of.fmt) for each in changed],
            }
        )
    told: dict[str, Findings] = {"before": old.findings, "after": new.findings}
    findings = {name: [each.as_json() for each in these] for name, these in told.items()}
    return {"hitless": __version__, "schema": "diff/1", "spaces": spaces, "findings": findings}


def _show(a: Space | None, b: Space | None, changed: list[Change], limit: int) -> None:
    of = b or a
    assert of is not None  # noqa: S101 - a pair has at least one
    whose = f", devices {devices_text(of.devices)}" if of.devices else ""
    counts = ", ".join(f"{count:,} {what}" for what, count in counted(changed).items())
    click.echo(plain(f"{of.fmt.name}{whose}: {counts or 'nothing changed'}"))
    rows = [
        [each.what, f"{each.iova:#x}", bytes_text(each.size), _side(each.before), _side(each.after)]
        for each in islice(changed, limit)
    ]
    if rows:
        console().print(table(["change", "IOVA", "size", "before", "after"], rows))
    if len(changed) > limit:
        click.echo(f"... and {len(changed) - limit:,} more changes: --json has all of them, --limit shows more")


def _side(side: Side | None) -> str:
    if side is None:
        return "not mapped"
    return f"{side.pa:#x} {rights_text(side.kind.rights)} {lg2_text(side.kind.leaf_lg2)}"

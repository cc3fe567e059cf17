"""``hitless audit``: whether tables in a memory image obey the static rules."""

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import click

from hitless import __version__
from hitless.cli.image_options import Start, Where, Word, asked, features_of, read_image, tables_of_image
from hitless.cli.inspect_output import show_findings, show_unit
from hitless.cli.inspect_streams import totals
from hitless.cli.main import STATUS
from hitless.cli.output import json_option, write_json
from hitless.config import open_registry
from hitless.errors import BadInput, BusError
from hitless.hardware.structures import OwnerImage
from hitless.inspect.audit import Audit, AuditedSpace
from hitless.inspect.opening import open_spaces
from hitless.inspect.owners import Owners, read_owner_list
from hitless.inspect.space import Image
from hitless.inspect.wording import bytes_text

_RULES = ("W1", "B1", "C2", "T1", "I1", "I2", "I3", "I4")


@click.command("audit")
@click.argument("image_file", metavar="IMAGE")
@click.option(
    "--owners",
    metavar="FILE|TABLE@VALUE",
    help="Who owns memory: a list of ranges, or a table in the image such as amd/rmp@0x1000000 (with --set rmp_end=).",
)
@click.option(
    "--ignore", "ignored", multiple=True, type=click.Choice(_RULES), help="Leave out this rule; may be repeated."
)
@click.option("--quiet", is_flag=True, help="Only the exit status, and what --json writes.")
@json_option
@tables_of_image
@click.pass_context
def command(
    ctx: click.Context,
    image_file: str,
    owners: str | None,
    ignored: Sequence[str],
    quiet: bool,
    json_file: str | None,
    where: Where,
) -> int:
    """Hold the tables in a memory IMAGE against the static rules.

    Illegal entries, runs that disagree, tables that map nothing, leaves that could be one, tables that a device
    may write to; with --owners also leaves across a change of owner, tables that a guest owns, and guest memory
    that the policy does not map.

    Exit status: 0 nothing found; 1 with findings; 2 not readable.

    \b
    hitless audit ram.lime --from amd/device-table@0x1040001ff --owners owners.txt
    hitless audit vmcore --from amd/device-table@0x1040001ff --owners amd/rmp@0x7e000000 --set rmp_end=0x9effffff
    hitless audit ram.bin --format intel/second-stage --root 0x100000 --ignore I3
    """
    table, settings = _owner_table(owners, where.settings)
    where = attrs.evolve(where, settings=settings)
    what = asked(where, table[2].features if table else None)
    image = read_image(image_file, where)
    opened = open_spaces(image, what, AuditedSpace)
    features = features_of(where, what.vendor.name)
    demands = open_registry(None, [what.vendor.name]).resolve(what.vendor.name, what.vendor.page_format.name, features)
    pages = opened.view.pages if opened.view is not None else set()
    audit = Audit(opened, _owners(owners, table, image), demands, pages)
    audit.run()
    found = opened.findings.without(ignored)
    ctx.meta[STATUS] = int(bool(len(found)))
    if json_file is not None:
        data: dict[str, Any] = {"hitless": __version__, "schema": "audit/1"}
        sums = totals(opened)
        told = {"findings": [each.as_json() for each in found], "findings_by_rule": dict(sorted(found.counts.items()))}
        write_json(json_file, {**data, **sums, **told})
    if not quiet and json_file != "-":
        show_unit(opened)
        sums = totals(opened)
        mapped = f"{bytes_text(sums['bytes'])} mapped by {sums['tables']:,} tables"
        spaces = f"{len(opened.spaces)} address {'space' if len(opened.spaces) == 1 else 'spaces'}"
        click.echo(f"{spaces} audited: {mapped}" + ("" if len(found) else "; nothing found"))
        show_findings(found)
    return int(bool(len(found)))


_Table = tuple[int, Mapping[str, int], OwnerImage]


def _owner_table(owners: str | None, settings: Sequence[str]) -> tuple[_Table | None, list[str]]:
    """The owner table that an option names (None: a file), and the settings that are not its registers."""
    if owners is None or "@" not in owners:
        return None, list(settings)
    name, value = Start().convert(owners, None, None)
    vendor, _, short = name.partition("/")
    structures = open_registry(None, [vendor]).resolve(vendor).structures
    known: Mapping[str, OwnerImage] = getattr(structures, "owner_tables", {})
    if short not in known:
        raise BadInput(
            f"there is no owner table {name!r}",
            who=vendor,
            do=f"choose one of {', '.join(f'{vendor}/{each}' for each in known) or 'none'}, or give a list of ranges",
        )
    table, beside, others = known[short], dict[str, int](), []
    for each in settings:
        key, _, text = each.partition("=")
        if key in table.beside:
            beside[key] = Word().convert(text, None, None)
        else:
            others.append(each)
    for key, meaning in table.beside.items():
        if key not in beside:
            raise BadInput(
                f"{name} needs one more register: {key}", who=vendor, why=meaning, do=f"give --set {key}=0x..."
            )
    return (value, beside, table), others


def _owners(owners: str | None, table: _Table | None, image: Image) -> Owners | None:
    if owners is None:
        return None
    if table is None:
        return Owners(read_owner_list(owners))
    value, beside, owner_image = table
    try:
        return Owners(list(owner_image.read(value, beside, image.view)))
    except BusError as error:
        raise BadInput(
            f"the owner table {owners!r} is not in the image",
            why=f"{error.what}: {error.why}",
            do="check its registers",
        ) from error

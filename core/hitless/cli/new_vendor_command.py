"""``hitless new-vendor``: a vendor to begin with."""

from importlib.metadata import entry_points
from pathlib import Path

import click

from hitless.cli.text import plain
from hitless.conformance.new_vendor import write_vendor
from hitless.plugin.manager import VENDORS


@click.command("new-vendor")
@click.argument("name")
@click.argument("folder", metavar="[DIR]", required=False, type=click.Path(path_type=Path))
def command(name: str, folder: Path | None) -> int:
    """Write a small vendor NAME that passes the conformance kit into DIR.

    DIR is ./hitless-NAME if none is named; it must not exist, or be empty.
    """
    target = folder or Path(f"hitless-{name}")
    written = write_vendor(name, target, _installed())
    for path in written:
        click.echo(plain(str(path)))
    click.echo(plain(f"next: cd {target}, read README.md, then"))
    click.echo(plain(f"  pytest --pyargs hitless.conformance --iommu hitless_{name}:plugin --iommu-suite smoke"))
    return 0


def _installed() -> frozenset[str]:
    """Names of installed vendors, without importing one."""
    return frozenset(each.name for each in entry_points(group=VENDORS))

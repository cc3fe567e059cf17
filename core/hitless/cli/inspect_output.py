"""What an image says, for people."""

from collections.abc import Mapping
from typing import Any

import click
from attrs import define, field

from hitless.cli.output import console, table
from hitless.cli.text import plain
from hitless.inspect.findings import Findings
from hitless.inspect.opening import Opened, Space
from hitless.inspect.ranges import Leaves
from hitless.inspect.space import leaves_text
from hitless.inspect.wording import bytes_text, devices_text, kind_text

_COLUMNS = ["IOVA", "size", "output", "rights", "leaf", "attributes"]
_FINDINGS = 20


@define
class Rows:
    """A stream that keeps the first ranges of each space as rows, and counts all."""

    limit: int
    rows: dict[int, list[list[str]]] = field(factory=dict)
    counts: dict[int, int] = field(factory=dict)

    def begin(self, opened: Opened) -> None:
        """Nothing stands before the first range."""

    def take(self, number: int, space: Space, found: Leaves) -> None:
        rows = self.rows.setdefault(number, [])
        self.counts[number] = self.counts.get(number, 0) + found.iovas.size
        room = self.limit - len(rows)
        if room <= 0:
            return
        for iova, size, pa, kind in zip(*(each[:room].tolist() for each in found), strict=True):
            texts = kind_text(space.fmt, space.reader.entries.kinds[kind])
            rows.append([f"{iova:#x}", bytes_text(size), f"{pa:#x}", *texts])

    def end(self, opened: Opened) -> None:
        """Nothing stands behind the last range."""


def show_unit(opened: Opened) -> None:
    """How many devices there are, and what those have that are not translated."""
    view = opened.view
    if view is None:
        return
    spaces = len(opened.spaces)
    count = f"{spaces} address {'space' if spaces == 1 else 'spaces'}"
    looked_up = f"{view.looked_up:,} {'device' if view.looked_up == 1 else 'devices'}"
    click.echo(plain(f"{opened.asked.name}: {looked_up} looked up, {count}"))
    for mode, devices in view.others.items():
        click.echo(plain(f"  {mode}: {len(devices):,} devices ({devices_text(devices, 4)})"))
    if view.absent:
        click.echo(f"  no entry: {view.absent:,} devices")


def show_space(number: int, space: Space, rows: Rows) -> None:
    """A heading, the first ranges, and totals."""
    reader, key = space.reader, space.key
    if number or key is not None:
        click.echo()
    tag = f", tag {key.root.tag:#x}" if key is not None else ""
    tag += f" and {len(space.tags) - 1:,} more" if len(space.tags) > 1 else ""
    levels = len(space.fmt.levels)
    click.echo(plain(f"{space.fmt.name}, {levels} levels, root {reader.root_pa:#x}{tag}"))
    if space.devices:
        click.echo(f"  devices {devices_text(space.devices)}")
    if key is not None and key.under is not None:
        click.echo("  under a stage 2: outputs are guest physical")
    shown = rows.rows.get(number, [])
    if shown:
        out = console()
        columns = 6 if any(row[5] for row in shown) else 5
        out.print(table(_COLUMNS[:columns], [row[:columns] for row in shown]))
    left = rows.counts.get(number, 0) - len(shown)
    if left:
        click.echo(f"... and {left:,} more ranges: --csv and --json have all of them, --limit shows more")
    tables, count = reader.tables.total(), rows.counts.get(number, 0)
    click.echo(
        f"{bytes_text(reader.mapped)} mapped in {count:,} {'range' if count == 1 else 'ranges'}; "
        f"{tables:,} {'table' if tables == 1 else 'tables'} ({bytes_text(reader.table_bytes)})"
    )
    leaves = [f"{count:,} of {size}" for size, count in leaves_text(reader.leaves).items()]
    for first in range(0, len(leaves), 4):
        click.echo(f"  leaves: {', '.join(leaves[first : first + 4])}")


def show_findings(findings: Findings) -> None:
    """The first findings, each with place, words, rule, reason and what to do; and how many there are."""
    for number, each in enumerate(findings):
        if number == _FINDINGS:
            break
        click.echo(
            plain(f"\n{each.rule}: {each.why}\n  at     {each.where}\n  entry  {each.entry}\n  do     {each.do}")
        )
    if len(findings):
        counts = ", ".join(f"{rule} {count:,}" for rule, count in sorted(findings.counts.items()))
        click.echo(f"\n{len(findings):,} findings: {counts}")


def show_translation(explained: Mapping[str, Any]) -> None:
    """Every step of one translation, field by field."""
    whose = f" of device {explained['device']}" if "device" in explained else ""
    click.echo(plain(f"IOVA {explained['iova']}{whose}"))
    for number, step in enumerate(explained["steps"], 1):
        words = " ".join(step["words"])
        click.echo(plain(f"{number}. {step['what']} at {step['pa']}: {words}\n   {step['summary']}"))
        for each in step["fields"]:
            if each["value"] != "0x0":
                meaning = f"  {each['meaning']}" if each["meaning"] else ""
                click.echo(plain(f"     {each['bits']:>7} {each['name']} = {each['value']}{meaning}"))
    if explained["pa"] is None:
        why = f": {explained['why']}" if explained["why"] else ""
        click.echo(plain(f"=> {explained['outcome']}{why}"))
    else:
        click.echo(plain(f"=> {explained['pa']} {explained['rights']}, leaf {explained['leaf']}"))

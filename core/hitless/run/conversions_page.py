"""What a conversion takes, by vendor, policy and trust: a page with numbers and diagrams, made from plans.

``python -m hitless.run.conversions_page examples/conversions.toml docs/conversions.md`` writes it anew.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from hitless.check import Report
from hitless.config import Config, DomainConfig, load_checked
from hitless.errors import Refused
from hitless.guest_memfd.guest import GUEST, HOST
from hitless.iommufd import Domain
from hitless.pagetable import count_leaves
from hitless.plan import Call, Invalidate, Plan, Store, Wait, effects_of
from hitless.plugin import VendorRegistry
from hitless.run.checking import check_plan
from hitless.run.diagram import diagram
from hitless.run.world import World, open_world
from hitless.units import PAGE

_G = 1 << 30
_PAGES = {True: (_G + 5 * PAGE, _G + 6 * PAGE), False: (2 * _G + 5 * PAGE, 2 * _G + 6 * PAGE)}
"""The page that converts: in shared memory, and in private memory."""
_TURNS = {HOST: "turns shared", GUEST: "turns private"}
_COLUMNS = (
    "conversion",
    *("stores", "commands", "pages invalidated", "waits", "calls"),
    *("leaves of 1G, 2M, 4K afterwards", "tables", "rules broken"),
)

HEAD = """# What a conversion takes

One page of 4 KiB converts inside a gigabyte that is shared, or private, as a whole, and comes back; `backing` is
`{backing}`. The numbers are those of its plan, the diagrams show the plan itself, and every plan is
[checked](checker.md) over all interleavings. Nothing here is written by hand:
`python -m hitless.run.conversions_page {config} docs/conversions.md` makes this page from
[{config}](../{config}).

*Stores* are stores to entries that a walker can reach, made by the host or by a *call* to firmware. *Pages invalidated*
counts what commands cover. What the policies are for, and which one a vendor needs, says [ownership](ownership.md).
"""


class Turn(NamedTuple):
    """One conversion of a domain: what it is, its plan and report and what it leaves; or why it is refused."""

    title: str
    plan: Plan | None
    report: Report | None
    left: tuple[str, int] = ("", 0)
    refusal: str = ""


def conversions_page(config: Config, registry: VendorRegistry, path: str) -> str:
    """The whole page."""
    parts = [HEAD.format(backing=config.guest.backing, config=path)]
    tables: list[str] = []
    diagrams: list[str] = []
    for told in config.domains:
        world = open_world(config, (told,), registry, "refresh", 0)
        try:
            domain = world.stations[0].domain
            turns = list(_turns(world))
            tables.append(f"### {told.name}\n\n{_told(told, domain)}\n\n{_table(_COLUMNS, _rows(domain, turns))}")
            for turn in turns[::2]:
                diagrams += _diagram(told.name, turn, domain)
        finally:
            world.close()
    parts += ["## Numbers\n", *tables, "## Diagrams\n", *diagrams]
    return "\n".join(parts)


def _turns(world: World) -> Iterator[Turn]:
    """A page of shared memory turns private and comes back; the same the other way round."""
    world.guest.convert([(_G, 2 * _G)], HOST)
    for shared, owners in ((True, (GUEST, HOST)), (False, (HOST, GUEST))):
        page, where = _PAGES[shared], "shared" if shared else "private"
        for number, owner in enumerate(owners):
            title = f"a page of {where} memory {_TURNS[owner]}" + (", back again" if number else "")
            yield _turn(world, page, owner, title)


def _turn(world: World, page: tuple[int, int], owner: int, title: str) -> Turn:
    domain = world.stations[0].domain
    conversion = world.guest.conversion([page], owner)
    try:
        prepared = world.guest.plan([page], owner)
    except Refused as refused:
        return Turn(title, None, None, refusal=f"refused: `{refused.reason}`")
    if conversion is None:
        return Turn(title, None, None, refusal="nothing to do")
    plan = prepared[0].plan
    report, _ = check_plan(domain, conversion, plan)
    world.guest.convert([page], owner)
    return Turn(title, plan, report, _left(domain, world))


def _told(told: DomainConfig, domain: Domain) -> str:
    """A domain's configuration in a line."""
    said = [f"`{told.vendor}`", f"`{domain.vendor.page_format.name}`", f"policy `{domain.policy.name}`"]
    said.append("trusted devices" if told.trusted else "devices that are not trusted")
    said += [f"`{name} = {value}`" for name, value in told.features.items()]
    said.append(f"`merge = {told.merge}`")
    return ", ".join(said) + "."


def _rows(domain: Domain, turns: Sequence[Turn]) -> Iterator[tuple[object, ...]]:
    for title, plan, report, left, refusal in turns:
        if plan is None or report is None:
            yield (title, *("" for _ in _COLUMNS[2:]), refusal)
            continue
        steps = [step for _, step in plan.steps()]
        effects = list(effects_of(steps))
        commands = [step for step in effects if isinstance(step, Invalidate)]
        yield (
            title,
            sum(isinstance(step, Store) for step in effects),
            len(commands),
            f"{sum(domain.covers(step.unit, step.words) for step in commands):,}",
            sum(isinstance(step, Wait) for step in effects),
            sum(isinstance(step, Call) for step in steps),
            *left,
            ", ".join(sorted(report.rules)) or "none",
        )


def _left(domain: Domain, world: World) -> tuple[str, int]:
    """Leaves by size, and tables."""
    found = count_leaves(domain.memory, domain.vendor.page_format, domain.planner.root_pa)
    sizes = ", ".join(f"{found.get(lg2, 0):,}" for lg2 in (30, 21, 12))
    return sizes, world.stations[0].machine.tables.used_pages


def _diagram(name: str, turn: Turn, domain: Domain) -> Iterator[str]:
    yield f"### {name}: {turn.title}\n"
    if turn.plan is None:
        yield f"{turn.refusal.capitalize()}.\n"
    else:
        yield f"```mermaid\n{diagram(turn.plan, domain.vendor)}\n```\n"


def _table(columns: Sequence[str], rows: Iterator[tuple[object, ...]] | Sequence[tuple[object, ...]]) -> str:
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    lines += [f"| {' | '.join(map(str, row))} |" for row in rows]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    source, target = sys.argv[1:3]
    loaded, known = load_checked(source)
    Path(target).write_text(conversions_page(loaded, known, source), encoding="utf-8")


__all__ = ["conversions_page"]

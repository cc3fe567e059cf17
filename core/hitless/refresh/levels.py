"""At which level the tables of a plan stand: followed from the entries that link them."""

from collections.abc import Iterable

from hitless.pagetable import PageFormat
from hitless.plan import Fill, Step, Store, effects_of


def _around(fills: dict[int, Fill], pa: int) -> Fill | None:
    """The table that holds an address."""
    for size_lg2 in {fill.size_lg2 for fill in fills.values()}:
        fill = fills.get(pa >> size_lg2 << size_lg2)
        if fill is not None and fill.size_lg2 == size_lg2:
            return fill
    return None


def table_levels(steps: Iterable[Step], fmt: PageFormat) -> dict[int, int]:
    """The level of every table that a plan fills and links, by its address."""
    levels: dict[int, int] = {}
    steps = list(steps)
    links: list[tuple[int, int]] = []
    fills: dict[int, Fill] = {}
    for step in effects_of(steps):
        if isinstance(step, Store):
            links.append((step.new, step.level))
        elif isinstance(step, Fill):
            fills[step.pa] = step
    for step in steps:
        if isinstance(step, Store) and (fill := _around(fills, step.pa)) is not None and fill.pa not in levels:
            levels[fill.pa] = step.level  # a new root, which no store links
            links += [(override, step.level) for _, override in fill.overrides]
    while links:
        word, level = links.pop()
        if level == 0 or not fmt.present(word) or fmt.is_leaf(word, level):
            continue
        pa = int(fmt.table_pa(word))
        if pa in fills and pa not in levels:
            below = fmt.child_level(word, level)
            levels[pa] = below
            links += [(override, below) for _, override in fills[pa].overrides]
    return levels

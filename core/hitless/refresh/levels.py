"""At which level the tables of a plan stand: followed from the entries that link them."""

from collections.abc import Iterable

from hitless.pagetable import PageFormat
from hitless.plan import Fill, Step, Store, effects_of


def table_levels(steps: Iterable[Step], fmt: PageFormat) -> dict[int, int]:
    """The level of every table that a plan fills and links, by its address."""
    levels: dict[int, int] = {}
    links: list[tuple[int, int]] = []
    fills: dict[int, Fill] = {}
    for step in effects_of(steps):
        if isinstance(step, Store):
            links.append((step.new, step.level))
        elif isinstance(step, Fill):
            fills[step.pa] = step
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

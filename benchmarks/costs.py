"""What a refresh costs, vendor by vendor: counted from conversions that are carried out, with times of results.json.

``python -m benchmarks.costs`` writes docs/refresh-costs.md anew.
"""

import json
from pathlib import Path

from attrs import frozen

from benchmarks.guests import GIB, open_domain
from benchmarks.jobs import SIZES
from benchmarks.results import time_text
from benchmarks.stage import VENDORS, scattered
from hitless.guest_memfd.backing import GUEST, HOST

PAGE = Path(__file__).parents[1] / "docs" / "refresh-costs.md"
RESULTS = Path(__file__).with_name("results.json")
COLUMNS = ("conversion", "tables", "stores", "commands", "pages invalidated", "waits", "time", "tables in C")

HEAD = """# What a refresh costs

A page of 4 KiB converts inside memory that an IOMMU maps by large leaves. Its driver cuts leaves, replaces an
entry, sends commands and waits; this page counts that, for each vendor with its default policy. Nothing here is
written by hand: `python -m benchmarks.costs` carries the conversions out on the machine in memory, counts what it
was asked to do, and takes the times from [results.json](../benchmarks/results.json), which the
[benchmarks](benchmarks.md) write.

The guest's memory is shared at first, and shared pages lie in memory of their own (`backing` is `separate`), so
that each conversion changes an address. One unit, one device, no ATS: with ATS each device gets about as many
commands again, and Arm waits once more a round. With `in-place` backing no address changes, and [other
counts](conversions.md) hold.

| column | is |
|---|---|
| tables | of 4 KiB, that the conversion needs and keeps |
| stores | to entries that a walker can reach; what fills a new table is none |
| commands | invalidations, the waits not among them |
| pages invalidated | of 4 KiB, that commands cover: so much of what is cached goes, the neighbours' with it |
| waits | for all commands before them to be done: so often a conversion stands still for the hardware |
| time | what hitless takes for all of it: owner map, plan, tables, owner table, commands, a modelled unit |
| tables in C | the same tables and stores in plain C: the least that a driver's software needs |

Times are processor time on {machine}. What hardware takes to answer is in neither; it comes on top once a wait. Of
a batch, counts are for all of it and times for one conversion.
"""

TAIL = """## What can be read from it

- **A first page is dear, the next ones are cheap.** The cut of a leaf of 1G fills two tables, and takes the whole
  gigabyte out of the IOTLB. What is cut once stays cut until it is merged: from then on a conversion costs a store
  or two.
- **Waits are per round, not per page.** A batch of 100,000 pages waits as often as one page does. A guest that
  converts pages one by one pays 100,000 times.
- **Commands are bounded.** When they would be more than one for the whole tag is worth, that one is sent: which is
  why a batch of many pages sends fewer commands than a small one. What is cached of all of the guest's memory goes
  then; `pages invalidated` says *all*.
- **Intel wipes.** Shared leaves are emptied before a page turns private, so no address is replaced, and a page that
  comes back costs one store and nothing else: what was not present was not cached.
- **Arm breaks before it makes.** A new address is two stores at every level of BBML; the cut at BBML 2 is one.
"""


@frozen
class Case:
    """One row: what converts, and where its time stands in results.json.

    Args:
        pages: scattered pages of so many GiB; 1: one page.
        leaf: the size of the leaves that map the memory.
        before: pages beside it converted before, so that its leaf is cut.
        timed: job and case in results.json.
    """

    text: str
    gigabytes: int
    leaf: str
    pages: int
    timed: tuple
    before: bool = False
    owner: int = GUEST


CASES = (
    Case("one page in a leaf of 1G turns private", 2, "1G", 1, ("refresh-one", "1G")),
    Case("one page in a leaf of 2M turns private", 2, "2M", 1, ("refresh-one", "2M")),
    Case("one page in a leaf of 4K turns private", 2, "1G", 1, ("refresh-one", "split"), before=True),
    Case("the same page turns shared again", 2, "1G", 1, (), before=True, owner=HOST),
    Case("1,000 pages of 16 GiB in leaves of 1G turn private", 16, "1G", 1_000, ("refresh", "curve-1000")),
    Case("100,000 pages of 64 GiB in leaves of 1G turn private", 64, "1G", 100_000, ("refresh", "1G")),
    Case("100,000 pages of 64 GiB in leaves of 2M turn private", 64, "2M", 100_000, ("refresh", "2M")),
)


def counted(name, case):
    """Tables, stores, commands, pages invalidated and waits of a conversion that is carried out."""
    guest = open_domain(name, case.gigabytes, SIZES[case.leaf])
    (domain,) = guest.notifiers
    pages = [(GIB + 0x5000, GIB + 0x6000)] if case.pages == 1 else scattered(case.gigabytes, case.pages)
    if case.before:
        guest.convert([(GIB, GIB + 0x2000)], GUEST)
    if case.owner == HOST:
        guest.convert(pages, GUEST)
    counters, tables = domain.executor.counters, domain.tables.used_pages
    before = (counters.stores, counters.invalidations, counters.invalidated_pages, counters.waits)
    guest.convert(pages, case.owner)
    after = (counters.stores, counters.invalidations, counters.invalidated_pages, counters.waits)
    return domain.tables.used_pages - tables, *(b - a for a, b in zip(before, after, strict=True))


def page(document):
    """All of docs/refresh-costs.md."""
    host = document["machine"]
    machine = f"{host['cpu']}, {host['cores']} cores, Python {host['python']}"
    parts = [HEAD.format(machine=machine)]
    for page_format, name in VENDORS.items():
        times = {(row["job"], row["case"]): row for row in document["jobs"] if row["format"] == page_format}
        lines = [f"## {name}, `{page_format}`", "", _cells(COLUMNS), "|" + "---|" * len(COLUMNS)]
        lines += [_cells((case.text, *map(number, counted(name, case)), *_times(times, case))) for case in CASES]
        parts.append("\n".join(lines) + "\n")
    return "\n".join([*parts, TAIL])


def _cells(texts):
    return f"| {' | '.join(texts)} |"


def number(count):
    """A number; commands for a whole tag cover 2^52 pages each, which nobody wants to read."""
    tags, rest = divmod(count, 1 << 52)
    everything = ("", "all", "all, twice")[tags]
    return everything if tags and not rest else f"{everything}{', and ' if tags else ''}{rest:,}"


def _times(times, case):
    """Of one conversion: hitless, and C where it was measured on the same tables."""
    row = times.get(case.timed)
    if row is None:
        return "", ""
    in_c = "" if row["job"] == "refresh-one" else time_text(row["c_s"] / row["n"])
    return time_text(row["hitless_s"] / row["n"]), in_c


def main():
    """Write the page."""
    document = json.loads(RESULTS.read_text(encoding="utf-8"))
    PAGE.write_text(page(document), encoding="utf-8")


if __name__ == "__main__":
    main()

"""Who owns physical memory, as an image or a list says: sorted runs, looked up for many addresses at once."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from attrs import define, field

from hitless.bits import U64Array
from hitless.errors import BadInput
from hitless.hardware.structures import OwnerRun
from hitless.ownership import GUEST, HOST
from hitless.units import parse_range

_NAMES = {"shared": HOST, "host": HOST, "private": GUEST, "guest": GUEST}
_LINE = re.compile(r"(?P<range>\S+)\s+(?P<owner>[a-z]+)(?:\s+(?P<number>\d+))?")


@define
class Owners:
    """Runs of memory with one owner each; what lies in none is the host's.

    Args:
        runs: in any order; of two that overlap, the later one holds.
    """

    runs: Iterable[OwnerRun] = field(repr=False)
    starts: U64Array = field(init=False)
    owners: np.ndarray = field(init=False)

    def __attrs_post_init__(self) -> None:
        edges = _flattened(sorted(self.runs, key=lambda run: run.start))
        kept = [(0, HOST)]
        for start, owner in edges:
            if start == kept[-1][0]:
                kept[-1] = (start, owner)
            elif owner != kept[-1][1]:
                kept.append((start, owner))
        self.starts = np.array([start for start, _ in kept], np.uint64)
        self.owners = np.array([owner for _, owner in kept], np.int64)

    def index(self, pas: U64Array) -> np.ndarray:
        """The run of each address: two addresses have one owner throughout if they are in the same run."""
        return np.searchsorted(self.starts, pas, side="right") - 1

    def owner(self, pa: int) -> int:
        """Who owns an address."""
        return int(self.owners[self.index(np.array([pa], np.uint64))[0]])

    def differ(self, start: int, size: int) -> bool:
        """Whether a range has more than one owner."""
        return self.edge_after(start) < start + size

    def edge_after(self, pa: int) -> int:
        """Where the run of an address ends; 2**64 for the last."""
        at = int(self.index(np.array([pa], np.uint64))[0]) + 1
        return int(self.starts[at]) if at < len(self.starts) else 1 << 64


def _flattened(runs: list[OwnerRun]) -> Iterator[tuple[int, int]]:
    """Where owners change, ascending; gaps are the host's."""
    end = 0
    for run in runs:
        if run.start > end or end == 0:
            yield end, HOST
        if run.end <= end:
            continue
        yield max(run.start, end), run.owner
        end = run.end
    yield end, HOST


def read_owner_list(path: str) -> list[OwnerRun]:
    """Lines of ``START-END OWNER`` or ``START+SIZE OWNER``, an owner being ``shared``, ``private`` or ``guest N``.

    A # begins a comment.

    Raises:
        BadInput: the file cannot be read, or a line is not understood; names it.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise BadInput(f"cannot read {path!r}", why=getattr(error, "strerror", None) or str(error)) from error
    found = []
    for number, raw in enumerate(lines, 1):
        line = raw.partition("#")[0].strip()
        if not line:
            continue
        match = _LINE.fullmatch(line)
        if match is None or match["owner"] not in _NAMES:
            raise BadInput(
                f"{line[:100]!r} does not say who owns what",
                where=f"{path}, line {number}",
                do="write such as 0x40000000+2M private, or 0x0-0x1000 shared",
            )
        start, end = parse_range(match["range"])
        owner = int(match["number"] or _NAMES[match["owner"]]) if match["owner"] == "guest" else _NAMES[match["owner"]]
        found.append(OwnerRun(start, end, owner))
    return found

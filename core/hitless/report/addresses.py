"""An address space as a map: cells of one size in rows, each drawn by its smallest leaf; then cells by themselves."""

from collections.abc import Iterable, Sequence
from itertools import groupby, pairwise
from typing import NamedTuple

from attrs import define, field

from hitless.report.page import Figure
from hitless.report.svg import Drawing
from hitless.units import align_down, lg2_text

_CELLS_LG2, _ROW = 8, 32
_ZOOM_LG2 = 9
_ZOOMS = 24
_SIDE, _LEFT, _TOP = 26, 130, 34

CLASSES = ("up to 32K", "64K to 1M", "2M", "4M to 512M", "1G and more")


class Area(NamedTuple):
    """IOVAs that are mapped by leaves of one size; ``owner``: ``S`` shared, ``P`` private, empty: nobody says."""

    iova: int
    size: int
    leaf_lg2: int
    owner: str = ""


@define
class _Cell:
    """What lies in one cell: the smallest leaf, all owners, mapped bytes."""

    leaf_lg2: int = 64
    largest: int = 0
    owners: set[str] = field(factory=set)
    mapped: int = 0

    def take(self, size: int, leaf_lg2: int, owner: str) -> None:
        self.leaf_lg2 = min(self.leaf_lg2, leaf_lg2)
        self.largest = max(self.largest, leaf_lg2)
        self.mapped += size
        if owner:
            self.owners.add(owner)


def leaf_class(lg2: int) -> int:
    """The class of a leaf's size, by which it is drawn."""
    return 0 if lg2 < 16 else 1 if lg2 < 21 else 2 if lg2 == 21 else 3 if lg2 < 30 else 4


def maps(areas: Sequence[Area], name: str, prefix: str) -> list[Figure]:
    """The whole space, then each cell that holds smaller leaves than itself, up to a number; ``prefix`` of anchors."""
    if not areas:
        return []
    start, end = min(each.iova for each in areas), max(each.iova + each.size for each in areas)
    cell_lg2 = max((end - start - 1).bit_length() - _CELLS_LG2, 21)
    first = align_down(start, cell_lg2)
    cells = _cells(areas, cell_lg2)
    split = [at for at, cell in sorted(cells.items()) if cell.leaf_lg2 < cell_lg2]
    shown = {at: f"{prefix}-{number}" for number, at in enumerate(split[:_ZOOMS])}
    caption = f"{name}: every cell is {lg2_text(cell_lg2)} of IOVAs"
    caption += "; cells that are framed are drawn by themselves below" if shown else ""
    if len(split) > _ZOOMS:
        caption += f" (the first {_ZOOMS} of {len(split):,})"
    whole = Figure(_drawing(cells, first, end, cell_lg2, shown, name), caption)
    zooms = [_zoom(areas, at << cell_lg2, cell_lg2, anchor) for at, anchor in shown.items()]
    return [whole, *zooms]


def _zoom(areas: Sequence[Area], start: int, lg2: int, anchor: str) -> Figure:
    end, smaller = start + (1 << lg2), max(lg2 - _ZOOM_LG2, 12)
    inside = [each for each in areas if each.iova < end and start < each.iova + each.size]
    cells = _cells(_clipped(inside, start, end), smaller)
    caption = f"[{start:#x}, {end:#x}): every cell is {lg2_text(smaller)}"
    return Figure(_drawing(cells, start, end, smaller, {}, caption), caption, anchor)


def _clipped(areas: Iterable[Area], start: int, end: int) -> list[Area]:
    found = []
    for iova, size, leaf_lg2, owner in areas:
        a, b = max(iova, start), min(iova + size, end)
        found.append(Area(a, b - a, leaf_lg2, owner))
    return found


def _cells(areas: Iterable[Area], lg2: int) -> dict[int, _Cell]:
    """Cells that hold anything, by number."""
    found: dict[int, _Cell] = {}
    for iova, size, leaf_lg2, owner in areas:
        for at in range(iova >> lg2, (iova + size - 1 >> lg2) + 1):
            a, b = max(iova, at << lg2), min(iova + size, at + 1 << lg2)
            found.setdefault(at, _Cell()).take(b - a, leaf_lg2, owner)
    return found


def _drawing(cells: dict[int, _Cell], start: int, end: int, lg2: int, links: dict[int, str], title: str) -> Drawing:
    """Rows of cells, with the IOVA of each row's first; rows in which nothing is mapped are one dashed line."""
    first, last = start >> lg2, (end - 1 >> lg2) + 1
    rows = sorted({at // _ROW for at in cells})
    gaps = sum(b - a > 1 for a, b in pairwise(rows))
    drawing = Drawing(_LEFT + _ROW * _SIDE + 4, _TOP + len(rows) * (_SIDE + 3) + gaps * 12 + 6, title)
    _legend(drawing)
    y, before = float(_TOP), None
    for row in rows:
        if before is not None and row - before > 1:
            drawing.text(_LEFT, y + 8, f"{row - before - 1:,} rows with nothing mapped", "small")
            y += 12
        drawing.text(_LEFT - 6, y + 17, f"{row * _ROW << lg2:#x}", "mono", "end")
        numbers = [at for at in range(row * _ROW, (row + 1) * _ROW) if first <= at < last]
        for alike, group in groupby(numbers, lambda at: (cells.get(at), links.get(at, ""))):
            _box(drawing, y, list(group), lg2, *alike)
        y += _SIDE + 3
        before = row
    return drawing


def _box(drawing: Drawing, y: float, numbers: list[int], lg2: int, cell: _Cell | None, link: str) -> None:
    """Cells side by side that are alike, as one box."""
    x, iova = _LEFT + numbers[0] % _ROW * _SIDE, numbers[0] << lg2
    height, width = _SIDE - 2, len(numbers) * _SIDE - 2
    many = f"{len(numbers)} times " if len(numbers) > 1 else ""
    if cell is None:
        drawing.rect(x, y, width, height, "empty", f"{iova:#x} {many}{lg2_text(lg2)}: not mapped")
        return
    size = lg2_text(cell.leaf_lg2)
    largest = "" if cell.largest == cell.leaf_lg2 else f" to {lg2_text(cell.largest)}"
    names = {"S": "shared", "P": "private"}
    whose = ", " + " and ".join(names.get(each, each) for each in sorted(cell.owners)) if cell.owners else ""
    part = "" if cell.mapped >= 1 << lg2 else f", {100 * cell.mapped / (1 << lg2):.0f}% mapped"
    tip = f"{iova:#x} {many}{lg2_text(lg2)}: leaves of {size}{largest}{whose}{part}"
    drawing.rect(x, y, width, height, f"s{leaf_class(cell.leaf_lg2)} box", tip, link)
    if link:
        drawing.rect(x - 1, y - 1, width + 2, height + 2, "line")
    drawing.text(x + width / 2, y + 11, size, "label", "middle")
    drawing.text(x + width / 2, y + 21, "".join(sorted(cell.owners)), "label", "middle")


def _legend(drawing: Drawing) -> None:
    x = 0.0
    for number, name in enumerate(CLASSES):
        drawing.rect(x, 4, 16, 16, f"s{number} box")
        drawing.text(x + 21, 16, name)
        x += 112
    drawing.rect(x, 4, 16, 16, "empty")
    drawing.text(x + 21, 16, "not mapped")
    drawing.text(x + 110, 16, "S shared, P private")

"""Figures over time, and bars side by side."""

from collections.abc import Mapping, Sequence

from hitless.report.svg import Drawing

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 960, 220, 80, 34, 26
_DASHES = 4


def over_time(series: Mapping[str, Sequence[tuple[float, float]]], title: str, across: str) -> Drawing:
    """Lines through (x, y), each with a dash of its own and its name at its end; both axes begin at 0."""
    drawing = Drawing(_WIDTH, _HEIGHT, title)
    drawing.text(0, 14, title, "head")
    most_x = max((x for points in series.values() for x, _ in points), default=0) or 1
    most_y = max((y for points in series.values() for _, y in points), default=0) or 1
    right, bottom = _WIDTH - 170, _HEIGHT - _BOTTOM
    for part in range(5):
        y = bottom - (bottom - _TOP) * part / 4
        drawing.line(_LEFT, y, right, y, "thin")
        drawing.text(_LEFT - 6, y + 4, f"{most_y * part / 4:,.0f}", "small", "end")
    drawing.line(_LEFT, bottom, right, bottom)
    drawing.text(_LEFT, bottom + 16, "0", "small", "middle")
    drawing.text(right, bottom + 16, f"{most_x:,.0f}", "small", "middle")
    drawing.text((_LEFT + right) / 2, bottom + 28, across, "small", "middle")
    ends: list[float] = []
    for number, (name, points) in enumerate(series.items()):
        placed = [(_LEFT + (right - _LEFT) * x / most_x, bottom - (bottom - _TOP) * y / most_y) for x, y in points]
        if not placed:
            continue
        drawing.path(placed, f"series series{number % _DASHES}")
        y = placed[-1][1] + 4
        while any(abs(y - other) < 13 for other in ends):
            y -= 13
        ends.append(y)
        drawing.text(right + 6, y, name)
    return drawing


def bars(rows: Sequence[tuple[str, float]], title: str) -> Drawing:
    """One bar a row, with its name before and its figure behind it."""
    drawing = Drawing(_WIDTH, _TOP + 22 * len(rows) + 6, title)
    drawing.text(0, 14, title, "head")
    most = max((value for _, value in rows), default=0) or 1
    for number, (name, value) in enumerate(rows):
        y = _TOP + 22 * number
        drawing.text(214, y + 13, name, "", "end")
        width = 560 * value / most
        drawing.rect(222, y + 2, max(width, 0.5), 15, "bar")
        drawing.text(222 + width + 8, y + 14, f"{value:,.0f}")
    return drawing

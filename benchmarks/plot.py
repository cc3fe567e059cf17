"""The plot of a run as SVG: ratios to C by job, and what a conversion costs as guests and batches grow."""

import math
from xml.sax.saxutils import escape

from attrs import define, field

COLOURS = {"amd/v1": "#c2410c", "intel/second-stage": "#1d4ed8", "arm_smmu/stage2": "#047857"}
WIDTH, LEFT, RIGHT, TOP = 960, 170, 500, 56
ROW = 22


@define
class Drawing:
    """Elements of an SVG, in order."""

    height: int
    parts: list = field(factory=list)

    def line(self, x1, y1, x2, y2, colour="#d4d4d4", *, width=1.0, dash=""):
        """A straight line."""
        dashes = f' stroke-dasharray="{dash}"' if dash else ""
        self.parts.append(
            f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" '
            f'stroke-width="{width}"{dashes}/>'
        )

    def dot(self, x, y, colour, title, *, radius=4.0):
        """A dot that says what it is when it is pointed at."""
        self.parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{colour}"><title>{escape(title)}</title></circle>'
        )

    def text(self, x, y, words, *, anchor="start", size=12, colour="#262626", bold=False):
        """A line of text."""
        weight = ' font-weight="600"' if bold else ""
        self.parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{colour}"{weight}>'
            f"{escape(words)}</text>"
        )

    def path(self, points, colour, *, dash=""):
        """A line through points."""
        at = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        dashes = f' stroke-dasharray="{dash}"' if dash else ""
        self.parts.append(f'<polyline points="{at}" fill="none" stroke="{colour}" stroke-width="2"{dashes}/>')

    def svg(self, title):
        """All of it."""
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self.height}" role="img" '
            f'font-family="system-ui, sans-serif"><title>{escape(title)}</title>'
            f'<rect width="{WIDTH}" height="{self.height}" fill="#ffffff"/>' + "".join(self.parts) + "</svg>\n"
        )


@define
class Scale:
    """A logarithmic axis: values from ``low`` to ``high`` lie from ``first`` to ``last``."""

    low: float
    high: float
    first: float
    last: float

    def at(self, value):
        """Where a value lies."""
        part = math.log(value / self.low) / math.log(self.high / self.low)
        return self.first + part * (self.last - self.first)

    def powers(self):
        """The powers of ten on it."""
        first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
        return [10.0**power for power in range(first, last + 1)]


def drawn(document):
    """The SVG of a results.json."""
    rows = document["jobs"]
    ratios = _by_case([each for each in rows if each["ratio"] and not each["case"].startswith("curve-")])
    curves = [each for each in rows if each["case"].startswith("curve-")]
    drawing = Drawing(max(TOP + ROW * len(ratios) + 60, 380 if curves else 0))
    for i, (name, colour) in enumerate(COLOURS.items()):
        drawing.dot(LEFT + 130 * i, 14, colour, name)
        drawing.text(LEFT + 130 * i + 9, 18, name)
    _draw_ratios(drawing, ratios)
    if curves:
        _draw_curves(drawing, curves)
    return drawing.svg("hitless beside plain C: ratios by job, and the cost of a conversion")


def _by_case(rows):
    """Rows by job and case, in the order of their appearance."""
    found = {}
    for each in rows:
        found.setdefault((each["job"], each["case"]), []).append(each)
    return found


def _draw_ratios(drawing, cases):
    values = [each["ratio"] for rows in cases.values() for each in rows] or [1.0]
    scale = Scale(min(0.5, *values), max(10.0, *values) * 1.1, LEFT, RIGHT)
    bottom = TOP + ROW * len(cases)
    drawing.text(LEFT, TOP - 14, "time over that of C", bold=True, size=11)
    for value in [*scale.powers(), 2.0, 5.0]:
        x = scale.at(value)
        drawing.line(x, TOP - 6, x, bottom, "#737373" if value == 1 else "#e5e5e5")
        drawing.text(x, bottom + 16, f"{value:g}", anchor="middle", size=11)
    for i, ((job, case), rows) in enumerate(cases.items()):
        y = TOP + ROW * i + ROW / 2
        drawing.text(LEFT - 12, y + 4, f"{job} {case}", anchor="end")
        for j, each in enumerate(rows):
            at = y + (j - (len(rows) - 1) / 2) * 5
            drawing.dot(
                scale.at(each["ratio"]),
                at,
                COLOURS[each["format"]],
                f"{each['format']}: {each['ratio']:.2f}",
                radius=3.2,
            )
        targets = [each["target"] for each in rows if each.get("target")]
        if targets:
            x = scale.at(min(max(targets), scale.high))
            drawing.line(x, y - 8, x, y + 8, "#262626", width=1.6)
    drawing.text(LEFT, bottom + 36, "black bar: the largest ratio that is aimed at", size=11, colour="#525252")


def _draw_curves(drawing, rows):
    costs = [(each["n"], each[side] / each["n"] * 1e9) for each in rows for side in ("hitless_s", "c_s")]
    left, right, bottom = RIGHT + 70, WIDTH - 24, 300
    across = Scale(min(n for n, _ in costs), max(n for n, _ in costs) * 1.0001, left, right)
    up = Scale(min(cost for _, cost in costs) / 1.3, max(cost for _, cost in costs) * 1.3, bottom, TOP)
    drawing.text(left, TOP - 14, "ns a conversion, by conversions at once", bold=True, size=11)
    for n in across.powers():
        drawing.line(across.at(n), TOP - 6, across.at(n), bottom, "#e5e5e5")
        drawing.text(across.at(n), bottom + 16, f"{n:,.0f}", anchor="middle", size=11)
    for cost in up.powers():
        drawing.line(left, up.at(cost), right, up.at(cost), "#e5e5e5")
        drawing.text(left - 6, up.at(cost) + 4, f"{cost:,.0f}", anchor="end", size=11)
    for name, colour in COLOURS.items():
        for job, side, dash in (
            ("refresh", "hitless_s", ""),
            ("refresh-tables", "hitless_s", "6 3"),
            ("refresh-tables", "c_s", "1 3"),
        ):
            here = [each for each in rows if each["format"] == name and each["job"] == job]
            drawing.path(
                [(across.at(each["n"]), up.at(each[side] / each["n"] * 1e9)) for each in here], colour, dash=dash
            )
    for i, (dash, words) in enumerate((("", "refresh, complete"), ("6 3", "its tables alone"), ("1 3", "those in C"))):
        x = left + 135 * i
        drawing.line(x, bottom + 34, x + 26, bottom + 34, "#262626", width=2, dash=dash)
        drawing.text(x + 31, bottom + 38, words, size=11)

"""A drawing: rectangles, lines and texts in user units of one pixel; every text is escaped.

What is told by colour is told by a pattern, too, so that a page is readable in grey and on paper.
"""

from html import escape

from attrs import define, field

STYLE = """
text { font: 12px ui-sans-serif, system-ui, sans-serif; fill: #111; }
.mono { font-family: ui-monospace, monospace; font-size: 11px; }
.small { font-size: 10px; fill: #333; }
.head { font-weight: 600; }
.label { font-size: 10px; paint-order: stroke; stroke: #fff; stroke-width: 3px; stroke-linejoin: round; }
.on-bad { fill: #fff; }
.line { stroke: #555; stroke-width: 1; fill: none; }
.thin { stroke: #bbb; stroke-width: 0.5; fill: none; }
.box { stroke: #333; stroke-width: 0.75; }
.empty { fill: #fff; stroke: #999; stroke-width: 0.5; stroke-dasharray: 2 2; }
.s0 { fill: url(#p0); } .s1 { fill: url(#p1); } .s2 { fill: url(#p2); } .s3 { fill: url(#p3); } .s4 { fill: url(#p4); }
.bar { fill: #4a6fa5; } .bar2 { fill: #c9b27c; } .mark { fill: #222; } .held { fill: url(#p2); stroke: #333; }
.bad { fill: #b3261e; } .ok { fill: #2e6b3a; }
.series0 { stroke: #1f4e8c; } .series1 { stroke: #8c5a1f; stroke-dasharray: 6 3; }
.series2 { stroke: #2e6b3a; stroke-dasharray: 2 2; } .series3 { stroke: #6b2e5f; stroke-dasharray: 8 2 2 2; }
.series { stroke-width: 1.75; fill: none; }
""".strip()

PATTERNS = """
<pattern id="p0" width="4" height="4" patternUnits="userSpaceOnUse"><rect width="4" height="4" fill="#f2d3c4"/>
<path d="M0 0L4 4M4 0L0 4" stroke="#7a3b1e" stroke-width="0.8"/></pattern>
<pattern id="p1" width="5" height="5" patternUnits="userSpaceOnUse"><rect width="5" height="5" fill="#f4e3b5"/>
<path d="M0 5L5 0" stroke="#7a611e" stroke-width="0.9"/></pattern>
<pattern id="p2" width="6" height="6" patternUnits="userSpaceOnUse"><rect width="6" height="6" fill="#cfe3d4"/>
<path d="M0 3H6" stroke="#2e6b3a" stroke-width="1.6"/></pattern>
<pattern id="p3" width="8" height="8" patternUnits="userSpaceOnUse"><rect width="8" height="8" fill="#dce6f5"/>
<circle cx="4" cy="4" r="1" fill="#1f4e8c"/></pattern>
<pattern id="p4" width="8" height="8" patternUnits="userSpaceOnUse">
<rect width="8" height="8" fill="#e9e9ee"/></pattern>
""".strip()


@define
class Drawing:
    """Shapes on a ground of a width and height; ``title`` is read aloud and shown as a tip."""

    width: float
    height: float
    title: str = ""
    _shapes: list[str] = field(factory=list)

    def rect(self, x: float, y: float, width: float, height: float, style: str, tip: str = "", link: str = "") -> None:
        """A rectangle; with ``link``, one that leads to an anchor of the page."""
        inner = f"<title>{escape(tip)}</title>" if tip else ""
        shape = (
            f'<rect class="{style}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}">{inner}</rect>'
        )
        self._shapes.append(f'<a href="#{escape(link)}">{shape}</a>' if link else shape)

    def line(self, x1: float, y1: float, x2: float, y2: float, style: str = "line") -> None:
        self._shapes.append(f'<line class="{style}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>')

    def path(self, points: list[tuple[float, float]], style: str) -> None:
        """A line through points."""
        drawn = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        self._shapes.append(f'<path class="{style}" d="{drawn}"/>')

    def text(self, x: float, y: float, text: str, style: str = "", anchor: str = "start") -> None:
        self._shapes.append(
            f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
        )

    def svg(self, *, alone: bool = False) -> str:
        """The element; ``alone``: a file of its own, with its patterns and style."""
        own = f"<style>{STYLE}</style><defs>{PATTERNS}</defs>" if alone else ""
        label = f"<title>{escape(self.title)}</title>" if self.title else ""
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width:.0f} {self.height:.0f}" '
            f'width="{self.width:.0f}" height="{self.height:.0f}" role="img">{label}{own}{"".join(self._shapes)}</svg>'
        )

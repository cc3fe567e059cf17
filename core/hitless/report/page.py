"""One page of figures and tables that needs nothing but itself: no script, no network."""

from collections.abc import Sequence
from html import escape

from attrs import define, field

from hitless.report.svg import PATTERNS, STYLE, Drawing

_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.45 ui-sans-serif, system-ui, sans-serif; color: #111; background: #fff; margin: 0 auto;
  max-width: 1040px; padding: 0 16px 48px; }
h1 { font-size: 1.5em; } h2 { font-size: 1.2em; margin-top: 2em; border-bottom: 1px solid #999; }
h3 { font-size: 1em; margin: 1.2em 0 0.3em; }
table { border-collapse: collapse; margin: 0.6em 0; } th, td { border-bottom: 1px solid #ccc; padding: 2px 10px 2px 0;
  text-align: left; font-variant-numeric: tabular-nums; } td.n, th.n { text-align: right; }
svg { max-width: 100%; height: auto; display: block; } pre { white-space: pre-wrap; font-size: 12px; }
figure { margin: 0.8em 0; break-inside: avoid; } figcaption { color: #333; font-size: 0.9em; }
section:target, figure:target { outline: 3px solid #1f4e8c; outline-offset: 4px; }
nav a { margin-right: 1em; }
@media print { body { max-width: none; font-size: 11pt; } nav { display: none; } a { color: inherit; } }
""".strip()


@define
class Figure:
    """A drawing with its caption; ``anchor``: what links lead to."""

    drawing: Drawing
    caption: str
    anchor: str = ""

    def html(self) -> str:
        anchor = f' id="{escape(self.anchor)}"' if self.anchor else ""
        return f"<figure{anchor}>{self.drawing.svg()}<figcaption>{escape(self.caption)}</figcaption></figure>"


@define
class Section:
    """A heading, and what stands below it: figures and pieces of HTML."""

    title: str
    parts: list[Figure | str] = field(factory=list)


@define
class Page:
    """A whole report; ``lead``: one paragraph under the title."""

    title: str
    lead: str
    sections: list[Section] = field(factory=list)

    def html(self) -> str:
        """The document."""
        links = "".join(f'<a href="#s{i}">{escape(each.title)}</a>' for i, each in enumerate(self.sections))
        body = "".join(_section(i, each) for i, each in enumerate(self.sections))
        return (
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(self.title)}</title>'
            f'<meta name="viewport" content="width=device-width"><style>{_STYLE}{STYLE}</style></head><body>'
            f'<svg width="0" height="0" style="position:absolute" aria-hidden="true"><defs>{PATTERNS}</defs></svg>'
            f"<h1>{escape(self.title)}</h1><p>{escape(self.lead)}</p><nav>{links}</nav>{body}</body></html>\n"
        )

    def figure(self) -> str | None:
        """The first figure as an SVG file; None: there is none."""
        for section in self.sections:
            for part in section.parts:
                if isinstance(part, Figure):
                    return part.drawing.svg(alone=True) + "\n"
        return None


def _section(number: int, section: Section) -> str:
    parts = "".join(each.html() if isinstance(each, Figure) else each for each in section.parts)
    return f'<section id="s{number}"><h2>{escape(section.title)}</h2>{parts}</section>'


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table; whatever looks like a figure stands to the right."""
    head = "".join(f"<th{_right(rows, i)}>{escape(name)}</th>" for i, name in enumerate(columns))
    body = "".join(
        "<tr>" + "".join(f"<td{_right(rows, i)}>{escape(_shown(cell))}</td>" for i, cell in enumerate(row)) + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _right(rows: Sequence[Sequence[object]], column: int) -> str:
    return ' class="n"' if rows and all(isinstance(row[column], int | float) for row in rows) else ""


def _shown(cell: object) -> str:
    return f"{cell:,}" if isinstance(cell, int) else str(cell)


def text(content: str) -> str:
    """Text as it stands."""
    return f"<pre>{escape(content)}</pre>"


def paragraph(content: str) -> str:
    """A paragraph of text."""
    return f"<p>{escape(content)}</p>"

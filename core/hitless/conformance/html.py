"""The report as one HTML file that needs nothing else."""

from collections import Counter
from html import escape

from hitless import __version__
from hitless.conformance.report import Report
from hitless.conformance.rules import RULES
from hitless.conformance.terminal import cell_text

_STYLE = """
body { font: 14px/1.45 system-ui, sans-serif; margin: 2em; color: #1a1a1a }
table { border-collapse: collapse; margin: 1em 0 }
th, td { border: 1px solid #ccc; padding: .25em .55em; text-align: left; vertical-align: top }
td.n { text-align: right; font-variant-numeric: tabular-nums }
.passed { background: #e5f5e5 } .failed { background: #f9d6d5 } .xfailed { background: #fdf0cd }
.skipped { background: #eee } pre { white-space: pre-wrap; margin: 0 } small { color: #555 }
"""


def page(report: Report) -> str:
    """The whole document."""
    kit = report.kit
    data = report.as_json()
    counts = Counter(row.outcome for row in report.rows)
    told = ", ".join(f"{counts[name]} {name}" for name in ("passed", "failed", "skipped", "xfailed") if counts[name])
    parts = [
        "<!doctype html>",
        f'<html lang="en"><head><meta charset="utf-8"><title>conformance of {escape(kit.vendor)}</title>',
        f"<style>{_STYLE}</style></head><body>",
        f"<h1>Conformance of {escape(kit.vendor)}</h1>",
        f"<p>{escape(' '.join(filter(None, kit.distribution)))}; hitless {__version__}, suite {kit.suite}: {told}.",
        f" Mutants: {data['mutation']['caught']} of {data['mutation']['mutants']} caught.</p>",
        _list("Capabilities", [f"{c['name']}: {c['why']} ({c['clause']})" for c in data["capabilities"]]),
        _list("Known gaps", [f"{gap['rule']}: {gap['reason']}" for gap in data["gaps"]]),
        *(_list(f"Declared by {name}, and believed by the checker", lines) for name, lines in data["declared"].items()),
        _matrix(report),
        _rows(report),
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def _list(title: str, lines: list[str]) -> str:
    if not lines:
        return f"<h2>{escape(title)}</h2><p>none</p>"
    return f"<h2>{escape(title)}</h2><ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>"


def _matrix(report: Report) -> str:
    names, cells = report.configurations, report.cells()
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    lines = []
    for rule in report.rules:
        sentence = RULES[rule].sentence if rule in RULES else ""
        row = ""
        for name in names:
            count = cells.get((rule, name), Counter())
            worst = next((each for each in ("failed", "xfailed", "passed", "skipped") if count[each]), "")
            row += f'<td class="n {worst}">{escape(cell_text(count))}</td>'
        lines.append(f"<tr><th>{escape(rule)}</th>{row}<td><small>{escape(sentence)}</small></td></tr>")
    return f"<h2>Rules and configurations</h2><table><tr><th></th>{head}<th></th></tr>{''.join(lines)}</table>"


def _rows(report: Report) -> str:
    """What did not pass, with its reason."""
    lines = [
        f'<tr class="{row.outcome}"><td>{escape(row.rule)}</td><td>{escape(row.configuration)}</td>'
        f"<td>{escape(row.case)}</td><td>{row.outcome}</td><td><pre>{escape(row.reason)}</pre></td></tr>"
        for row in report.rows
        if row.outcome != "passed"
    ]
    if not lines:
        return "<h2>What did not pass</h2><p>nothing</p>"
    return f"<h2>What did not pass</h2><table>{''.join(lines)}</table>"

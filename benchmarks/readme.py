"""Writes the README's section about speed from results.json: ``python -m benchmarks.readme``."""

import json
from pathlib import Path

from benchmarks.costs import RESULTS
from benchmarks.results import time_text
from benchmarks.stage import VENDORS

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- speed: made by python -m benchmarks.readme -->\n", "<!-- end of speed -->\n"

WHAT = {
    ("refresh-tables", "1G"): "tables of {n} scattered conversions, in leaves of 1G",
    ("refresh-tables", "2M"): "the same in leaves of 2M",
    ("refresh", "1G"): "all of those conversions, over the tables in C; 1G",
    ("refresh", "2M"): "the same, 2M",
    ("refresh-one", "1G"): "one conversion in a leaf of 1G, over bare table work in Python",
    ("refresh-one", "split"): "the same in a leaf that is cut already",
    ("map", "4K"): "a map of {n} leaves of 4K",
    ("translate", "mixed"): "{n} IOVAs translated, leaves of all sizes",
    ("audit", "all"): "{n} leaves held against the owner map",
    ("merge", "all"): "{n} tables merged",
}
"""Rows of the table, by job and case."""

TEXT = """
{table}

Times over those of the same work in plain C (gcc -O2), in turn in one run, medians; in brackets what hitless takes.
*Aim* is the largest ratio that we aim at. Measured on {cpu}, {cores} cores, Python {python}, NumPy {numpy}; memory
takes tables at {ramp:.0f} GB/s.{void}

![Ratios to C by job, and what a conversion costs as batches grow](benchmarks/results.svg)

{memory}`make bench` measures it anew; [what each side does, and when a run is void](docs/benchmarks.md), has a page
of its own. So has [what a refresh costs on each vendor](docs/refresh-costs.md): stores, commands, pages invalidated
and waits.
"""


def section(document):
    """What stands between the marks."""
    host = document["machine"]
    return TEXT.format(
        table=_table(document["jobs"]),
        cpu=host["cpu"],
        cores=host["cores"],
        python=host["python"],
        numpy=host["numpy"],
        ramp=host["ramp_gb_s"] or 0.0,
        void="" if not document["void"] else " This run is void: C was slower than it has to be.",
        memory=_memory(document["memory"]),
    )


def _table(rows):
    found = {(row["job"], row["case"], row["format"]): row for row in rows}
    lines = [f"| | {' | '.join(f'`{name}`' for name in VENDORS)} | aim |", "|---|" + "---|" * (len(VENDORS) + 1)]
    for (job, case), text in WHAT.items():
        here = [found.get((job, case, name)) for name in VENDORS]
        measured = [row for row in here if row is not None]
        if measured:
            aims = [row["target"] for row in measured if row.get("target")]
            aim = f"{aims[0]:.3g}" if aims else ""
            cells = [_cell(row) for row in here]
            count = f"{measured[0]['n']:,}"
            lines.append(f"| {text.format(n=count)} | {' | '.join(cells)} | {aim} |")
    return "\n".join(lines)


def _cell(row):
    return "" if row is None else f"{row['ratio']:.2g} ({time_text(row['hitless_s'])})"


def _memory(rows):
    """Sentences about memory, of AMD."""
    found = {row["job"]: row for row in rows if row["format"] == "amd/v1"}
    sentences = []
    if "start" in found:
        start = found["start"]
        sentences.append(f"A guest of 16 TiB in leaves of 1G opens in {time_text(start['seconds'])}.")
    if "refresh" in found:
        row = found["refresh"]
        ours, theirs = row["hitless_bytes"] / (1 << 20), row["c_bytes"] / (1 << 20)
        sentences.append(
            f"{row['conversions']:,} conversions at once need {ours:,.0f} MiB at their peak, new tables included;"
            f" C needs {theirs:,.0f} MiB."
        )
    return f"{' '.join(sentences)} " if sentences else ""


def main():
    """Write the section."""
    document = json.loads(RESULTS.read_text(encoding="utf-8"))
    text = README.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    README.write_text(f"{before}{BEGIN}{section(document)}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()

"""The result of a run as tables: a column for each domain and strategy, a row for each figure."""

from collections.abc import Callable, Mapping

from hitless.cli.output import console, table
from hitless.run import Row, RunResult

_LABEL_WIDTH, _COLUMN_WIDTH, _GAPS = 19, 12, 3
_LONG = 10**11

_FIGURES: Mapping[str, Callable[[Row], int]] = {
    "cuts": lambda row: row.cuts,
    "merges": lambda row: row.merges,
    "stores": lambda row: row.done.stores,
    "commands": lambda row: row.done.invalidations,
    "pages invalidated": lambda row: row.done.invalidated_pages,
    "waits": lambda row: row.done.waits,
    "near DMA": lambda row: row.dma.near,
    "neighbour DMA": lambda row: row.dma.neighbour,
    "neighbour faults": lambda row: row.dma.neighbour_faults,
    "misrouted": lambda row: row.dma.neighbour_misrouted,
    "converted DMA": lambda row: row.dma.converted,
    "stale": lambda row: row.dma.stale,
}
_ONLY_IF_ANY: Mapping[str, Callable[[Row], int]] = {
    "converted misrouted": lambda row: row.dma.converted_misrouted,
    "machine checks": lambda row: row.dma.machine_checks,
    "freed table reads": lambda row: row.freed_table_reads,
    "fenced units": lambda row: len(row.fenced),
    "plans checked": lambda row: row.checked,
    "seen by DMA": lambda row: (row.witnessed or {}).get("by_dma", 0),
    "seen by trace": lambda row: (row.witnessed or {}).get("by_trace", 0),
}


def show_result(result: RunResult) -> None:
    """Print the log's counts, and tables of as many columns as fit side by side."""
    log, out = result.log, console()
    out.print(
        f"{log.lines:,} lines: {log.conversions:,} conversions of {log.pages:,} pages, {log.unchanged:,} unchanged, "
        f"{log.outside:,} outside, {log.cut_lines:,} cut, {log.ignored_lines:,} ignored"
    )
    label_width = max([_LABEL_WIDTH, *(len(_refused(reason)) for reason in _reasons(result))])
    side_by_side = max(1, (out.width - label_width) // (_COLUMN_WIDTH + _GAPS))
    for first in range(0, len(result.rows), side_by_side):
        rows = result.rows[first : first + side_by_side]
        out.print()
        out.print(table(["", *(row.domain for row in rows)], _lines(result, rows), figures=True))


def _lines(result: RunResult, rows: list[Row]) -> list[list[str]]:
    """One line a figure; some only where any row of the whole run has them."""
    lines = [
        ["strategy", *(row.strategy for row in rows)],
        ["backing", *(row.backing for row in rows)],
        ["policy", *(row.policy for row in rows)],
        ["conversions", *(_number(result.log.conversions - sum(row.refused.values())) for row in rows)],
    ]
    lines += [[_refused(reason), *(_number(row.refused[reason]) for row in rows)] for reason in _reasons(result)]
    lines += [[name, *(_number(figure(row)) for row in rows)] for name, figure in _FIGURES.items()]
    for name, figure in _ONLY_IF_ANY.items():
        if any(figure(row) for row in result.rows):
            lines.append([name, *(_number(figure(row)) for row in rows)])
    rules = sorted({rule for row in result.rows for rule in row.check_violations})
    lines += [[f"{rule} in checked", *(_number(row.check_violations[rule]) for row in rows)] for rule in rules]
    lines.append(["tables, peak", *(f"{row.tables:,}, {row.tables_peak:,}" for row in rows)])
    leaves = [row.as_json()["leaves"] for row in rows]
    lines += [[f"leaves of {size}", *(_number(each.get(size, 0)) for each in leaves)] for size in _sizes(result.rows)]
    lines.append(["seconds", *(f"{row.seconds:.1f}" for row in rows)])
    return lines


def _reasons(result: RunResult) -> list[str]:
    return sorted({reason for row in result.rows for reason in row.refused})


def _refused(reason: str) -> str:
    return f"refused {reason}"


def _sizes(rows: list[Row]) -> list[str]:
    """All sizes of leaves, largest first."""
    by_lg2 = {lg2: size for row in rows for lg2, size in zip(sorted(row.leaves), row.as_json()["leaves"], strict=True)}
    return [by_lg2[lg2] for lg2 in sorted(by_lg2, reverse=True)]


def _number(value: int) -> str:
    return f"{value:,}" if value < _LONG else f"{value:.3g}"

"""The report on a terminal: what is declared, the matrix, what failed."""

from collections import Counter

import pytest

from hitless.conformance.report import Report
from hitless.conformance.rules import RULES


def show(report: Report, to: pytest.TerminalReporter) -> None:
    """Print it."""
    kit = report.kit
    to.write_sep("=", f"conformance of {kit.vendor}")
    to.write_line(f"distribution  {' '.join(filter(None, kit.distribution))}")
    for each in kit.capabilities:
        to.write_line(f"capability    {each.name}: {each.why} ({each.clause})")
    for gap in report.gaps:
        to.write_line(f"known gap     {gap.rule}: {gap.reason}")
    for name, lines in report.declared().items():
        to.write_line(f"declared by {name}, and believed by the checker:")
        for line in lines:
            to.write_line(f"  {line}")
    mutation = report.mutation
    if mutation["mutants"]:
        to.write_line(f"mutants       {mutation['caught']} of {mutation['mutants']} caught")
    _matrix(report, to)
    for row in report.failed:
        if row.case in ("known gap", "every scenario"):
            to.write_line(f"FAILED {row.rule} {row.configuration}: {row.reason}", red=True)


def _matrix(report: Report, to: pytest.TerminalReporter) -> None:
    """A row a rule, a column a configuration."""
    names, cells = report.configurations, report.cells()
    to.write_line("")
    for number, name in enumerate(names, 1):
        to.write_line(f"  [{number}] {name}")
    head = "".join(f"{f'[{number}]':>7}" for number in range(1, len(names) + 1))
    to.write_line(f"{'rule':<8}{head}   (passed; F failed, s skipped, x known gap)")
    for rule in report.rules:
        counts = [cells.get((rule, name), Counter()) for name in names]
        bad = any(each["failed"] for each in counts)
        sentence = RULES[rule].sentence if rule in RULES else ""
        line = f"{rule:<8}" + "".join(f"{cell_text(each):>7}" for each in counts)
        to.write_line(f"{line}   {sentence}", red=bad)


def cell_text(count: "Counter[str]") -> str:
    """One cell: how many passed, and what did not."""
    parts = [str(count["passed"])] if count["passed"] else []
    parts += [
        f"{count[outcome]}{mark}"
        for outcome, mark in (("failed", "F"), ("skipped", "s"), ("xfailed", "x"))
        if count[outcome]
    ]
    return "+".join(parts) or "."

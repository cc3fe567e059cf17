"""``python -m hitless.conformance.matrix REPORT.json...``: several reports side by side, as a Markdown table."""

import json
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hitless.conformance.rules import CHECKER, RULES

_FAMILIES: Mapping[str, str] = {
    "HOOK": "hooks answer, and name their sources",
    "FMT": "page formats",
    "STR": "structures",
    "CMD": "commands",
    "EVT": "fault records",
    "MAP": "memory beside a dictionary",
    "OWN": "owners",
    "BAD": "bad input",
    "MUT": "mistakes are noticed",
    "EMU": "QEMU's emulation",
}


def group_of(rule: str) -> str:
    """A rule of the checker, or of a vendor's own, stands for itself, one of the kit for its family."""
    if rule not in RULES or RULES[rule].source == CHECKER:
        return rule
    return re.sub(r"\d+$", "", rule)


def table(reports: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A line a rule or family, a column a vendor: how many rows passed, and what did not."""
    counts = [Counter((group_of(row["rule"]), row["outcome"]) for row in each["results"]) for each in reports]
    groups = dict.fromkeys(group_of(rule) for rule in RULES)
    others = sorted({group for each in counts for group, _ in each} - groups.keys())
    yield f"| rule | {' | '.join(each['vendor'] for each in reports)} | |"
    yield "|---|" + "--:|" * len(reports) + "---|"
    for group in (*groups, *others):
        if not any(each[group, outcome] for each in counts for outcome in ("passed", "failed", "xfailed")):
            continue
        sentence = RULES[group].sentence if group in RULES else _FAMILIES.get(group, "rules of its own")
        cells = [_cell(each, group) for each in counts]
        yield f"| {group} | {' | '.join(cells)} | {sentence} |"
    mutation = [f"{each['mutation']['caught']} of {each['mutation']['mutants']}" for each in reports]
    yield f"| mutants | {' | '.join(mutation)} | caught |"
    yield f"| gaps | {' | '.join(str(len(each['gaps'])) for each in reports)} | |"


def _cell(counts: "Counter[tuple[str, str]]", group: str) -> str:
    bad = [f"{counts[group, outcome]} {outcome}" for outcome in ("failed", "xfailed") if counts[group, outcome]]
    return ", ".join([str(counts[group, "passed"] or "–"), *bad])


if __name__ == "__main__":
    found = [json.loads(Path(name).read_text(encoding="utf-8")) for name in sys.argv[1:]]
    sys.stdout.writelines(f"{line}\n" for line in table(found))

"""The report of one run: header, matrix of rules and configurations, mutation score; as JSON and HTML."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from attrs import define, field, frozen

from hitless import __version__
from hitless.conformance.claims import semantics
from hitless.conformance.gaps import Gap
from hitless.conformance.kit import Kit
from hitless.conformance.rules import OWED, RULES
from hitless.errors import HitlessError


@frozen
class Row:
    """One test: ``outcome`` is passed, failed, skipped or xfailed; ``case`` a level, size, scenario or mutant."""

    rule: str
    configuration: str
    case: str
    outcome: str
    reason: str = ""


@define(eq=False)
class Report:
    """All rows, and what stands above them."""

    kit: Kit
    gaps: tuple[Gap, ...]
    rows: list[Row] = field(factory=list)

    @property
    def failed(self) -> list[Row]:
        """Rows that failed."""
        return [row for row in self.rows if row.outcome == "failed"]

    def conclude(self) -> None:
        """Add what only all rows together tell: gaps that pass, and owed rules that were tested nowhere."""
        for gap in self.gaps:
            mine = [row for row in self.rows if gap.covers(row.rule, row.configuration)]
            if mine and not any(row.outcome == "xfailed" for row in mine):
                where = ", ".join(gap.configurations) or "all configurations"
                what = f"the known gap passes ({gap.reason}): take it out of [tool.hitless.gaps]"
                self.rows.append(Row(gap.rule, where, "known gap", "failed", what))
        if self.kit.broken is None and self.kit.configurations:
            self.rows += self._untested()

    def _untested(self) -> Iterator[Row]:
        """Rules that every vendor owes, for formats of which no row passed or failed."""
        tested: Mapping[str, set[str]] = defaultdict(set)
        for row in self.rows:
            if row.outcome in ("passed", "failed"):
                tested[row.configuration.partition(" ")[0]].add(row.rule)
        for name in dict.fromkeys(each.vendor.page_format.name for each in self.kit.configurations):
            for rule in OWED:
                if rule not in tested[name]:
                    what = f"{rule} was tested nowhere: every scenario was skipped"
                    yield Row(rule, name, "every scenario", "failed", what)

    @property
    def mutation(self) -> dict[str, int]:
        """How many mutants were run, and how many were caught."""
        rows = [row for row in self.rows if row.rule == "MUT1" and row.outcome != "skipped"]
        return {"mutants": len(rows), "caught": sum(row.outcome == "passed" for row in rows)}

    @property
    def configurations(self) -> list[str]:
        """Those that have rows, in the order in which they were run."""
        known = ["plugin", *(each.name for each in self.kit.configurations)]
        return [*(name for name in known if any(row.configuration == name for row in self.rows))]

    def cells(self) -> dict[tuple[str, str], Counter[str]]:
        """Outcomes by rule and configuration."""
        found: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        for row in self.rows:
            found[row.rule, row.configuration][row.outcome] += 1
        return found

    @property
    def rules(self) -> list[str]:
        """The rules that have rows: core's in their order, then others."""
        seen = {row.rule for row in self.rows}
        return [*(rule for rule in RULES if rule in seen), *sorted(seen - RULES.keys())]

    def as_json(self) -> dict[str, Any]:
        """Schema kit/1."""
        distribution, version = self.kit.distribution
        return {
            "hitless": __version__,
            "schema": "kit/1",
            "vendor": self.kit.vendor,
            "distribution": distribution,
            "version": version,
            "suite": self.kit.suite,
            "capabilities": [
                {"name": each.name, "clause": each.clause, "why": each.why, "rules": list(each.rules)}
                for each in self.kit.capabilities
            ],
            "gaps": [
                {"rule": each.rule, "reason": each.reason, "configurations": list(each.configurations)}
                for each in self.gaps
            ],
            "declared": self.declared(),
            "mutation": self.mutation,
            "results": [
                {
                    "rule": row.rule,
                    "configuration": row.configuration,
                    "case": row.case,
                    "outcome": row.outcome,
                    "reason": row.reason,
                }
                for row in self.rows
            ],
        }

    def declared(self) -> dict[str, list[str]]:
        """By format: what the checker believed about the hardware."""
        words = self.kit.words
        return {
            each.vendor.page_format.name: list(semantics(each.vendor, words))
            for each in self.kit.configurations
            if each.default
        }

    def write(self, path: Path) -> None:
        """Write it as the file's ending says."""
        if path.suffix == ".json":
            path.write_text(json.dumps(self.as_json(), indent=1) + "\n", encoding="utf-8")
        else:
            from hitless.conformance.html import page  # noqa: PLC0415 - only now is it needed

            path.write_text(page(self), encoding="utf-8")


def own_rules(kit: Kit) -> list[str]:
    """Ids of the vendor's own rules."""
    if kit.broken is not None:
        return []
    try:
        return [make().id for each in kit.configurations for make in each.vendor.rules()]
    except HitlessError:
        return []

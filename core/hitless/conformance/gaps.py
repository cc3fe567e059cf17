"""Known gaps: what an author knows to fail, from ``[tool.hitless.gaps]`` of the author's own pyproject.toml."""

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import tomli
from attrs import frozen

from hitless.conformance.rules import OWED, RULES
from hitless.errors import BadInput


@frozen
class Gap:
    """One rule that is known to fail.

    Args:
        rule: its id.
        reason: one sentence.
        configurations: patterns of the configurations in which it does; empty: in all.
    """

    rule: str
    reason: str
    configurations: tuple[str, ...] = ()

    def covers(self, rule: str, configuration: str) -> bool:
        """Whether a row belongs to it."""
        if rule != self.rule:
            return False
        return not self.configurations or any(fnmatchcase(configuration, each) for each in self.configurations)


def nearest_project(folder: Path) -> Path | None:
    """The pyproject.toml of the project that a folder belongs to."""
    for each in (folder, *folder.parents):
        if (each / "pyproject.toml").is_file():
            return each / "pyproject.toml"
    return None


def read_gaps(folder: Path, others: Iterable[str] = ()) -> tuple[Gap, ...]:
    """The gaps of the project that a folder belongs to; ``others``: ids of the vendor's own rules.

    Raises:
        BadInput: one names no rule, or one that every vendor owes, or gives no reason.
    """
    path = nearest_project(folder)
    if path is None:
        return ()
    try:
        found = tomli.loads(path.read_text(encoding="utf-8")).get("tool", {}).get("hitless", {}).get("gaps", {})
    except tomli.TOMLDecodeError as error:
        raise BadInput("the project's configuration cannot be read", where=str(path), why=str(error)) from error
    known = {*RULES, *others}
    return tuple(_gap(rule, said, path, known) for rule, said in found.items())


def _gap(rule: str, said: Any, path: Path, known: set[str]) -> Gap:
    where = f"{path}, tool.hitless.gaps.{rule}"
    if rule not in known:
        raise BadInput(f"gap {rule!r} names no rule", where=where, do=f"rules are {', '.join(sorted(known))}")
    if rule in OWED:
        raise BadInput(
            f"{rule} cannot be a known gap: {RULES[rule].sentence}",
            where=where,
            do=f"mend the plugin; every vendor owes {', '.join(OWED)}",
        )
    table: Mapping[str, Any] = said if isinstance(said, dict) else {"reason": said}
    reason, only = table.get("reason"), table.get("configurations", ())
    if not isinstance(reason, str) or not reason.strip() or table.keys() - {"reason", "configurations"}:
        raise BadInput(
            f"gap {rule} needs a reason",
            where=where,
            do='write RULE = "reason", or RULE = { reason = "...", configurations = ["pattern"] }',
        )
    return Gap(rule, reason, tuple(map(str, only)))

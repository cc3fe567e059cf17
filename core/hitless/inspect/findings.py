"""What is wrong with tables in memory: each finding says where, which entry, which rule, why, and what to do."""

from collections import Counter
from collections.abc import Collection, Iterator
from typing import NamedTuple

from attrs import define, field

KEPT = 200
"""So many findings of one rule are told; all are counted."""


class Finding(NamedTuple):
    """One thing that is wrong.

    Args:
        rule: its id in docs/rules.md.
        where: level, index and IOVA of an entry, or the structure; with the physical address.
        entry: the word, or words, as ``0x`` texts.
        why: what breaks the rule.
        do: what to do about it.
    """

    rule: str
    where: str
    entry: str
    why: str
    do: str

    def as_json(self) -> dict[str, str]:
        return self._asdict()


@define
class Findings:
    """Findings in the order in which they were met: the first of each rule, and how many there are in all."""

    _kept: list[Finding] = field(factory=list)
    counts: Counter[str] = field(factory=Counter)

    def add(self, finding: Finding) -> None:
        """Count a finding, and keep it if there are few of its rule."""
        self.counts[finding.rule] += 1
        if self.counts[finding.rule] <= KEPT:
            self._kept.append(finding)

    def more(self, rule: str, count: int) -> None:
        """Count findings that need not be told."""
        if count:
            self.counts[rule] += count

    def without(self, rules: Collection[str]) -> "Findings":
        """The same, but for those of some rules."""
        kept = [each for each in self._kept if each.rule not in rules]
        return Findings(kept, Counter({rule: count for rule, count in self.counts.items() if rule not in rules}))

    def room(self, rule: str) -> int:
        """How many more findings of a rule would be kept."""
        return max(KEPT - self.counts[rule], 0)

    def __iter__(self) -> Iterator[Finding]:
        return iter(self._kept)

    def __len__(self) -> int:
        return self.counts.total()

"""What a check found: violations, each with what was held where, and what was seen."""

from collections import Counter

from attrs import define, field, frozen

MANY = 4
"""So many violations of one rule are kept whole; the rest is counted."""


@frozen
class Violation:
    """One rule that broke.

    Args:
        rule: its id.
        step: the number of the step at which it broke; of the last one plus 1: after the plan.
        start, end: IOVAs (of R1, T1 and W1: physical addresses) that it concerns.
        what: one sentence.
        seen: what the device saw, or what was found, in a few words.
        where: ``memory``, ``cache``, ``flight``, or empty.
        held: the entry that was cached, in words; empty if memory itself is at fault.
        born: the step that took the entry out of memory; -1: none.
        until: the step before which a walk could last read it; -1: it always could, or nothing was cached.
        why: the declared fact behind it.
        do: what would mend the plan.
    """

    rule: str
    step: int
    start: int
    end: int
    what: str
    seen: str = ""
    where: str = ""
    held: str = ""
    born: int = -1
    until: int = -1
    why: str = ""
    do: str = ""


@define
class Report:
    """All that one check found.

    Args:
        steps, facts: how much was looked at: steps, and stale facts made.
        violations: the first few of each rule, in the order in which they broke.
        counts: all of them, by rule.
    """

    steps: int = 0
    facts: int = 0
    violations: list[Violation] = field(factory=list)
    counts: Counter[str] = field(factory=Counter)

    def add(self, violation: Violation) -> None:
        """Take one in."""
        self.counts[violation.rule] += 1
        if self.counts[violation.rule] <= MANY:
            self.violations.append(violation)

    @property
    def rules(self) -> tuple[str, ...]:
        """The ids of the rules that broke."""
        return tuple(sorted(self.counts))

    @property
    def shortest(self) -> list[Violation]:
        """The violations, those that need the fewest steps first, one a rule."""
        found: dict[str, Violation] = {}
        for each in sorted(self.violations, key=lambda each: (each.step - max(each.born, 0), each.step)):
            found.setdefault(each.rule, each)
        return list(found.values())

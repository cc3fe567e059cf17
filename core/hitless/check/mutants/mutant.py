"""What a mutant is: one mistake put into a plan that is right, and the rules that it has to break."""

from collections.abc import Callable, Mapping
from typing import Any

from attrs import field, frozen

from hitless.check.mutants.declared import Declared, Rules
from hitless.check.mutants.situations import Situation
from hitless.check.stage import Setting
from hitless.check.subject import Subject
from hitless.hardware.vendor import Vendor


def as_it_is(subject: Subject) -> Subject | None:
    """The plan without a change."""
    return subject


def truly(vendor: Vendor) -> Vendor:
    """The vendor as it is."""
    return vendor


def as_set(setting: Setting) -> Setting:
    """The setting as it is."""
    return setting


def always(vendor: Vendor) -> str:
    """Every vendor can make this mistake."""
    return ""


@frozen
class Mutant:
    """One mistake.

    Args:
        id: ``generic.no-wait``; a vendor's own begins with the vendor's name.
        mistakes: numbers of docs/mistakes.md that it stands for.
        sentence: what is wrong.
        situation: where it shows.
        expected: exactly the rules that break, from what vendor and setting declare.
        apply: the plan with the mistake; None: this plan has no place for it.
        planned_as: the vendor as a planner with the mistake takes it to be: other recipes, another encoder. It is
            asked for the plan only; what the hardware does is the true vendor's to say.
        staged_as: the setting with the mistake.
        why_not: why hardware cannot be harmed by it, from declared facts; empty: it can.
        features: what the vendor's own hardware has to have for it.
        raced: it shows only when hardware marks pages meanwhile: the plan is run, with a write at every moment. The
            number is the copy of a run that gets the mark; see :class:`hitless.check.racing.Race`. None: it is checked.
    """

    id: str
    mistakes: tuple[int, ...]
    sentence: str
    situation: Situation
    expected: Callable[[Declared], Rules]
    apply: Callable[[Subject], Subject | None] = as_it_is
    planned_as: Callable[[Vendor], Vendor] = truly
    staged_as: Callable[[Setting], Setting] = as_set
    why_not: Callable[[Vendor], str] = always
    features: Mapping[str, Any] = field(factory=dict)
    raced: int | None = None


@frozen
class Harmless:
    """A change of a plan that breaks nothing; at most it costs more than needed (rule E1).

    Args:
        id: ``harmless.extra-wait``; a vendor's own begins with the vendor's name.
        sentence: what is changed.
        situation, apply, planned_as, why_not, features: as of a mutant.
    """

    id: str
    sentence: str
    situation: Situation
    apply: Callable[[Subject], Subject | None] = as_it_is
    planned_as: Callable[[Vendor], Vendor] = truly
    why_not: Callable[[Vendor], str] = always
    features: Mapping[str, Any] = field(factory=dict)


@frozen
class Reason:
    """Why no mutant stands for a mistake.

    Args:
        mistake: its number.
        why: one sentence, for a vendor for which it holds; empty for the others.
    """

    mistake: int
    why: Callable[[Vendor], str]

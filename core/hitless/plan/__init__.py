"""Plans: everything that one conversion will do, as data, in order; and their text form."""

from hitless.plan.steps import (
    SECTIONS,
    Barrier,
    Call,
    Clean,
    Fill,
    FillRun,
    Fold,
    Invalidate,
    Own,
    Plan,
    Release,
    Section,
    Step,
    Store,
    Wait,
    effects_of,
)
from hitless.plan.text import format_plan, format_step, parse_plan

__all__ = [
    "SECTIONS",
    "Barrier",
    "Call",
    "Clean",
    "Fill",
    "FillRun",
    "Fold",
    "Invalidate",
    "Own",
    "Plan",
    "Release",
    "Section",
    "Step",
    "Store",
    "Wait",
    "effects_of",
    "format_plan",
    "format_step",
    "parse_plan",
]

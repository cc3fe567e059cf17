"""Plans: everything that one conversion will do, as data, in order; and their text form."""

from hitless.plan.steps import (
    SECTIONS,
    Barrier,
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
    StoreStructure,
    Wait,
)
from hitless.plan.text import format_plan, format_step, parse_plan

__all__ = [
    "SECTIONS",
    "Barrier",
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
    "StoreStructure",
    "Wait",
    "format_plan",
    "format_step",
    "parse_plan",
]

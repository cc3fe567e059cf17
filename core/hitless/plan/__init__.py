"""Plans: everything that one conversion will do, as data, in order; and their text form."""

from hitless.plan.bulk import Bulk, Cleans, Fills, Folds, Invalidates, Owns, PlanStep, Stores, singles
from hitless.plan.plan import SECTIONS, Plan, Section
from hitless.plan.steps import (
    Barrier,
    Call,
    Clean,
    Fill,
    FillRun,
    Fold,
    Invalidate,
    Own,
    Release,
    Step,
    Store,
    StoreStructure,
    Wait,
    effects_of,
)
from hitless.plan.text import format_plan, format_step, parse_plan

__all__ = [
    "SECTIONS",
    "Barrier",
    "Bulk",
    "Call",
    "Clean",
    "Cleans",
    "Fill",
    "FillRun",
    "Fills",
    "Fold",
    "Folds",
    "Invalidate",
    "Invalidates",
    "Own",
    "Owns",
    "Plan",
    "PlanStep",
    "Release",
    "Section",
    "Step",
    "Store",
    "StoreStructure",
    "Stores",
    "Wait",
    "effects_of",
    "format_plan",
    "format_step",
    "parse_plan",
    "singles",
]

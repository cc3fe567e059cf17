"""Mutants: mistakes put into plans that are right, which the checker has to catch. See docs/mistakes.md.

What a vendor's hook ``mutants`` needs stands here: :class:`Mutant`, :class:`Harmless`, :class:`Reason`, the
situations in :mod:`hitless.check.mutants.situations`, and the small changes that mutants are made of.
"""

from hitless.check.mutants.declared import LEFT, Declared, Rules
from hitless.check.mutants.edits import changed, neighbours, recoded, refilled, replaced, without
from hitless.check.mutants.mutant import Harmless, Mutant, Reason
from hitless.check.mutants.planning import encoding, with_recipe
from hitless.check.mutants.rows import HarmlessRow, MutantRow
from hitless.check.mutants.running import run_harmless, run_mutants

__all__ = [
    "LEFT",
    "Declared",
    "Harmless",
    "HarmlessRow",
    "Mutant",
    "MutantRow",
    "Reason",
    "Rules",
    "changed",
    "encoding",
    "neighbours",
    "recoded",
    "refilled",
    "replaced",
    "run_harmless",
    "run_mutants",
    "with_recipe",
    "without",
]

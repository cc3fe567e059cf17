"""Core's own mutants: they run on every vendor whose declarations make the mistake possible."""

from hitless.check.mutants.changes import OWNER_MUTANTS, RECIPE_MUTANTS
from hitless.check.mutants.commands import COMMAND_MUTANTS
from hitless.check.mutants.devices import DEVICE_MUTANTS, FORGETFUL_MUTANTS
from hitless.check.mutants.mutant import Mutant
from hitless.check.mutants.runs import RUN_MUTANTS
from hitless.check.mutants.tables import TABLE_MUTANTS
from hitless.check.mutants.waits import WAIT_MUTANTS

GENERIC_MUTANTS: tuple[Mutant, ...] = (
    *TABLE_MUTANTS,
    *COMMAND_MUTANTS,
    *DEVICE_MUTANTS,
    *FORGETFUL_MUTANTS,
    *WAIT_MUTANTS,
    *RECIPE_MUTANTS,
    *OWNER_MUTANTS,
    *RUN_MUTANTS,
)
"""All of them."""

"""Core's own mutants: they run on every vendor whose declarations make the mistake possible."""

from collections.abc import Sequence

from hitless.check.mutants.changes import change_mutants
from hitless.check.mutants.commands import command_mutants, wait_mutants
from hitless.check.mutants.mutant import Mutant
from hitless.check.mutants.runs import run_mutants_of_core
from hitless.check.mutants.tables import table_mutants


def generic_mutants() -> Sequence[Mutant]:
    """All of core's mutants."""
    return (*table_mutants(), *command_mutants(), *wait_mutants(), *change_mutants(), *run_mutants_of_core())

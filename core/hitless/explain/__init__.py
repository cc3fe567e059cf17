"""Words for people: entries, structures, commands, events and steps, explained from what vendors declare."""

from hitless.explain.queues import explain_command, explain_effect, explain_event
from hitless.explain.steps import explain_step
from hitless.explain.words import (
    explain_entry,
    explain_entry_anywhere,
    explain_field,
    explain_fields,
    explain_structure,
    explain_words,
    structure_layouts,
)

__all__ = [
    "explain_command",
    "explain_effect",
    "explain_entry",
    "explain_entry_anywhere",
    "explain_event",
    "explain_field",
    "explain_fields",
    "explain_step",
    "explain_structure",
    "explain_words",
    "structure_layouts",
]

"""Words for people: entries, commands, events and steps, explained from the declared layouts."""

from hitless.explain.words import explain_entry, explain_entry_anywhere, explain_fields, explain_step

__all__ = ["explain_entry", "explain_entry_anywhere", "explain_fields", "explain_step"]

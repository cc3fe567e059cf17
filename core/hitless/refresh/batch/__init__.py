"""Planning on columns: many ranges at once, level by level. It gives the plan that the survey gives entry by entry.

- :mod:`walk` finds the live entries that ranges touch.
- :mod:`leaves` says what becomes of each leaf, :mod:`tables` where new tables lie and what they hold.
- :mod:`cutting` and :mod:`mapping` do so for leaves that are cut, and for what was empty.
- :mod:`survey` puts them together into :class:`changes.BatchChanges`; :mod:`rounds` makes those the steps of a plan.

What it does not handle it says with :class:`NotBatched`; then the whole request goes entry by entry.
"""


class NotBatched(Exception):
    """The columns cannot say this: a run, a pointer that skips levels, or what the entry-by-entry path refuses."""


__all__ = ["NotBatched"]

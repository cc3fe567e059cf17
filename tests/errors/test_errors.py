"""Errors: the form that a person reads, and the way through another process."""

import pickle

import pytest

from hitless.errors import (
    BadInput,
    BusError,
    ConfigurationError,
    HitlessError,
    OwnerChangeRefused,
    Pinned,
    Refused,
    UnitTimeout,
)

ERRORS = [
    HitlessError("it broke", who="amd", where="here", rule="N1", why="because", do="mend it", again="hitless run"),
    BadInput("no"),
    BusError(0x1000, "outside"),
    ConfigurationError("file", ["a @ $", "b @ $.c"]),
    OwnerChangeRefused("busy", [(0, 4096)]),
    Pinned(0x2000),
    Refused("amd.x", "cannot"),
    UnitTimeout("iommu0", 7),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_errors_cross_processes_whole(error):
    """Type, text and fields survive pickling."""
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)


def test_an_error_reads_as_documented():
    """Who: what; then where, rule, why, do and the command that repeats it, each on its line."""
    assert str(ERRORS[0]).splitlines() == [
        "amd: it broke",
        "  at   here",
        "  rule N1",
        "  why  because",
        "  do   mend it",
        "  again: hitless run",
    ]

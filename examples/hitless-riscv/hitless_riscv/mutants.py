"""Mistakes."""

from collections.abc import Sequence
from typing import Any


def mutants(page_format: Any, features: Any) -> Sequence[Any]:
    """None yet."""
    return ()

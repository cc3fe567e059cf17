"""How a test of the kit fails: with words for the author of a plugin, and without a traceback of the kit."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import pytest

T = TypeVar("T")


def fail(what: str, *, why: str = "", do: str = "") -> NoReturn:
    """End the test: what is wrong, why it matters, what would mend it."""
    lines = [what, *(f"  {label} {text}" for label, text in (("why", why), ("do ", do)) if text)]
    pytest.fail("\n".join(lines), pytrace=False)


def require(holds: object, what: str, *, why: str = "", do: str = "") -> None:
    """Fail unless something holds."""
    if not holds:
        fail(what, why=why, do=do)


def asked(what: str, question: Callable[[], T]) -> T:
    """The answer of a plugin's function; an exception in it fails the test and names the function."""
    try:
        return question()
    except Exception as error:  # noqa: BLE001 - a stranger's function may raise anything
        fail(f"{what} raises {type(error).__name__}: {error}", do="answer for every value that the hook's text allows")


def lines_of(value: object, *names: str) -> str:
    """Where methods of an object are written: ``leaf() in page_format.py:62``, for those that have sources."""
    found = []
    for name in names:
        function = inspect.unwrap(getattr(type(value), name, None) or _nothing)
        code = getattr(function, "__code__", None)
        if code is not None and function is not _nothing:
            found.append(f"{name}() in {'/'.join(Path(code.co_filename).parts[-2:])}:{code.co_firstlineno}")
    return ", ".join(found) or f"the methods {', '.join(names)}"


def _nothing() -> None:
    """Stands for a method that there is not."""


def hexed(value: Any) -> str:
    """Words in hex, everything else as it is."""
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(hexed, value)) + "]"
    return f"{value:#x}" if isinstance(value, int) and not isinstance(value, bool) else repr(value)

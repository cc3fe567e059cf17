"""The environment switch ``HITLESS_TRACE``: every hook call on standard error, with who answers and what."""

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import pluggy

_MOST = 200


def trace_hooks(manager: pluggy.PluginManager) -> None:
    """Print the calls of a manager's hooks, if ``HITLESS_TRACE`` is set to anything but 0."""
    if os.environ.get("HITLESS_TRACE", "0") not in ("", "0"):
        manager.add_hookcall_monitoring(_before, _after)


def _before(hook: str, impls: Sequence[Any], arguments: Mapping[str, Any]) -> None:
    given = ", ".join(f"{name}={_short(value)}" for name, value in arguments.items())
    who = ", ".join(impl.plugin_name for impl in reversed(impls)) or "nobody"
    _print(f"{hook}({given}) asks {who}")


def _after(outcome: "pluggy.Result[Any]", hook: str, impls: Sequence[Any], arguments: Mapping[str, Any]) -> None:
    error = outcome.exception
    told = f"raises {type(error).__name__}: {error}" if error is not None else f"-> {_short(outcome.get_result())}"
    _print(f"{hook} {told}")


def _short(value: object) -> str:
    """A value on one line, and not longer than a line; objects that cannot show themselves by their type."""
    try:
        text = " ".join(repr(value).split())
    except Exception as error:  # noqa: BLE001 - a stranger's repr may raise anything
        text = f"<{type(value).__name__}, whose repr raises {type(error).__name__}>"
    return text if len(text) <= _MOST else f"{text[: _MOST - 3]}..."


def _print(text: str) -> None:
    sys.stderr.write(f"hitless trace: {text}\n")

"""QMP: one JSON object a line, each way."""

import json
from collections.abc import Callable
from typing import Any

from attrs import define

from hitless.machine.qemu.errors import EmulatorError
from hitless.machine.qemu.lines import Lines


@define(eq=False)
class Qmp:
    """One connection; events that arrive between answers are let go.

    Args:
        lines: of the connection.
        died: what QEMU said, for the error when it does not answer.
    """

    lines: Lines
    died: Callable[[str], EmulatorError]

    def greet(self) -> tuple[int, int]:
        """Take the greeting; the version that it tells."""
        try:
            version = self._object()["QMP"]["version"]["qemu"]
            found = int(version["major"]), int(version["minor"])
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise self.died(f"no QMP greeting: {error!r}") from error
        self.execute("qmp_capabilities")
        return found

    def execute(self, command: str, **arguments: Any) -> Any:
        """Do a command; what it returns."""
        asked = {"execute": command} | ({"arguments": arguments} if arguments else {})
        try:
            self.lines.send(json.dumps(asked))
            answer = self._object()
            while "event" in answer:
                answer = self._object()
        except (OSError, ValueError) as error:
            raise self.died(f"no answer to QMP command {command}: {error}") from error
        if "return" not in answer:
            raise self.died(f"QMP command {command} was refused: {answer.get('error', {}).get('desc', answer)}")
        return answer["return"]

    def _object(self) -> dict[str, Any]:
        found = json.loads(self.lines.receive())
        return found if isinstance(found, dict) else {}

"""QMP: one JSON object a line, each way."""

import json
import socket
from collections.abc import Callable
from typing import Any

from attrs import define, field

from hitless.machine.qemu.errors import EmulatorError

_LARGEST = 1 << 16


@define(eq=False)
class Qmp:
    """One connection; events that arrive between answers are let go.

    Args:
        link: a connected socket, with a timeout that bounds every wait.
        died: what QEMU said, for the error when it does not answer.
    """

    link: socket.socket
    died: Callable[[str], EmulatorError]
    _rest: bytearray = field(factory=bytearray)

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
            self.link.sendall(json.dumps(asked).encode() + b"\n")
            answer = self._object()
            while "event" in answer:
                answer = self._object()
        except (OSError, ValueError) as error:
            raise self.died(f"no answer to QMP command {command}: {error}") from error
        if "return" not in answer:
            raise self.died(f"QMP command {command} was refused: {answer.get('error', {}).get('desc', answer)}")
        return answer["return"]

    def _object(self) -> dict[str, Any]:
        while (end := self._rest.find(b"\n")) < 0:
            got = self.link.recv(_LARGEST)
            if not got:
                raise ConnectionResetError("the connection was closed")
            self._rest += got
        line = bytes(self._rest[:end])
        del self._rest[: end + 1]
        found = json.loads(line)
        return found if isinstance(found, dict) else {}

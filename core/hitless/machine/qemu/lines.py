"""Lines from a socket: what QMP and qtest both speak in."""

import socket

from attrs import define, field

_LARGEST = 1 << 16


@define(eq=False)
class Lines:
    """Both directions of one connection.

    Args:
        link: a connected socket, with a timeout that bounds every wait.
    """

    link: socket.socket
    _rest: bytearray = field(factory=bytearray)

    def send(self, line: str) -> None:
        """Send one line.

        Raises:
            OSError: the connection is gone, or takes nothing in time.
        """
        self.link.sendall(line.encode() + b"\n")

    def receive(self) -> bytes:
        """The next line, without its end.

        Raises:
            OSError: the connection is gone, or nothing came in time.
        """
        while (end := self._rest.find(b"\n")) < 0:
            got = self.link.recv(_LARGEST)
            if not got:
                raise ConnectionResetError("the connection was closed")
            self._rest += got
        line = bytes(self._rest[:end])
        del self._rest[: end + 1]
        return line

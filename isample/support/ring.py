"""A line from each process to the next, in a ring, by which each knows that its neighbours live.

It carries a beat twice a second, and notices that travel on to all others. It is apart from torch's
process group, whose waits nothing ends. Sockets alone do that: where one is shut down, a wait of
gloo's for it fails.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

CONNECTING = 30.0  # seconds for two processes that both are at it
LONGEST = 2**16  # bytes of a notice; beyond it is no neighbour of ours


@dataclass(frozen=True)
class Address:
    """Where a process listens, for a neighbour that knows its ``token``."""

    host: str
    port: int
    node: str
    token: str
    endpoints: tuple[tuple[str, str], ...]
    """Its TCP connections, (own end, other end)."""


class Listener:
    """Waits for the process before this one."""

    def __init__(self) -> None:
        self.socket: socket.socket = socket.create_server(("", 0))
        node, port = socket.gethostname(), self.socket.getsockname()[1]
        with suppress(OSError):
            host = socket.gethostbyname(node)
            self.address = Address(host, port, node, secrets.token_hex(16), own_endpoints())
            return
        self.address = Address("", port, node, secrets.token_hex(16), own_endpoints())

    def meet(self, after: Address) -> tuple[Line, Line]:
        """Lines from the process before this one, and to the one ``after`` it.

        Raises OSError where there is no way.
        """
        same = after.node == self.address.node
        host = "127.0.0.1" if same else after.host
        onward = socket.create_connection((host, after.port), CONNECTING)
        onward.sendall(after.token.encode())
        self.socket.settimeout(CONNECTING)
        with self.socket:
            while True:
                back, _ = self.socket.accept()
                back.settimeout(CONNECTING)
                if _token(back) == self.address.token:
                    return Line(back), Line(onward)
                back.close()


def _token(stranger: socket.socket) -> str:
    content = b""
    with suppress(OSError):
        while len(content) < 32 and (piece := stranger.recv(32 - len(content))):
            content += piece
    return content.decode("latin1")


class Line:
    """Notices to and from a neighbour; ``silent`` counts own beats since the last word of it."""

    def __init__(self, connected: socket.socket):
        self.socket: socket.socket = connected
        self.silent: int = 0
        self._rest = b""
        connected.settimeout(1.0)

    def send(self, notice: dict[str, Any] | None) -> bool:
        """A notice, or a beat; whether the neighbour could be reached."""
        text = b"" if notice is None else json.dumps(notice).encode()
        try:
            self.socket.sendall(text + b"\n")
        except OSError:
            return False
        return True

    def receive(self) -> list[dict[str, Any]] | None:
        """Notices that have come; None where the neighbour has hung up."""
        try:
            came = self.socket.recv(LONGEST)
        except TimeoutError:
            return []
        except OSError:
            return None
        *whole, self._rest = (self._rest + came).split(b"\n")
        if not came or len(self._rest) > LONGEST:
            return None
        self.silent = 0
        return [json.loads(text) for text in whole if text]


def own_endpoints() -> tuple[tuple[str, str], ...]:
    return tuple(ends for ends, _ in _connections())


def hang_up(addresses: list[Address]) -> None:
    """Shuts down every connection to the processes at ``addresses``, whoever opened it."""
    theirs = {ends for address in addresses for ends in address.endpoints}
    for (own, other), connection in _connections():
        if (other, own) in theirs:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def _connections() -> Iterator[tuple[tuple[str, str], socket.socket]]:
    """This process's TCP connections: (own end, other end), and a copy to be used at once."""
    for descriptor in os.listdir("/dev/fd") if os.path.isdir("/dev/fd") else ():
        try:
            connection = socket.socket(fileno=os.dup(int(descriptor)))
        except OSError:  # no socket
            continue
        with connection:
            try:
                ends = _end(connection.getsockname()), _end(connection.getpeername())
            except (OSError, IndexError, TypeError):  # not connected, or of another family
                continue
            yield ends, connection


def _end(name: Any) -> str:
    host, port = name[:2]
    return f"{host.removeprefix('::ffff:')} {int(port)}"

"""Listening sockets: those that systemd handed over, and those of the configuration."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterable, MutableMapping

from controller.config import Endpoint
from meshapi.errors import ConfigError

_FIRST_FD = 3  # sd_listen_fds(3)
_FIXES = {
    errno.EADDRINUSE: "stop what uses the port (see `ss -ltnp`), or configure another",
    errno.EACCES: "configure a port above 1023, or let systemd open it",
}


def inherited(environment: MutableMapping[str, str], pid: int) -> list[socket.socket]:
    """The sockets of systemd's socket activation; the variables are used up."""
    meant_for = environment.pop("LISTEN_PID", "")
    count = environment.pop("LISTEN_FDS", "0")
    environment.pop("LISTEN_FDNAMES", None)
    if meant_for != str(pid) or not count.isdigit():
        return []
    sockets = []
    for descriptor in range(_FIRST_FD, _FIRST_FD + int(count)):
        try:
            handed = socket.socket(fileno=descriptor)
            listening = handed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        except OSError as error:
            raise ConfigError(
                f"descriptor {descriptor} is not a socket: {error.strerror}", where="LISTEN_FDS"
            ) from error
        if not listening or handed.type != socket.SOCK_STREAM:
            raise ConfigError(
                f"descriptor {descriptor} is not a listening stream socket", where="LISTEN_FDS"
            )
        handed.setblocking(False)
        os.set_inheritable(descriptor, False)
        sockets.append(handed)
    return sockets


def opened(endpoints: Iterable[Endpoint]) -> list[socket.socket]:
    """Sockets that listen on every address of ``endpoints``, or a refusal and none."""
    sockets: list[socket.socket] = []
    try:
        for endpoint in endpoints:
            sockets += _open(endpoint)
    except OSError as error:
        for listening in sockets:
            listening.close()
        raise ConfigError(
            f"cannot listen: {error.strerror or error}",
            where=str(endpoint),
            fix=_FIXES.get(error.errno or 0, "configure an address of this machine"),
        ) from error
    return sockets


def name(listening: socket.socket) -> str:
    """``host:port`` of a socket."""
    host, port = listening.getsockname()[:2]
    return str(Endpoint(host, port))


def _open(endpoint: Endpoint) -> list[socket.socket]:
    found = socket.getaddrinfo(
        endpoint.host, endpoint.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    sockets = []
    for family, kind, protocol, _, address in dict.fromkeys(found):
        listening = socket.socket(family, kind, protocol)
        sockets.append(listening)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listening.bind(address)
            listening.listen(1024)
            listening.setblocking(False)
        except OSError:
            for one in sockets:
                one.close()
            raise
    return sockets

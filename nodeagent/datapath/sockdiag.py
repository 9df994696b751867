"""Lists the TCP connections of one network namespace, and ends some by cookie (sock_diag(7)).

When one is ended, the kernel resets it and the application gets ECONNABORTED. Needs CAP_NET_ADMIN
in the namespace and a kernel with INET_DIAG_DESTROY (4.5; Debian and Ubuntu build it). Only sockets
of the calling thread's namespace are seen.
"""

from __future__ import annotations

import errno
import socket
import struct
import sys
from collections.abc import Iterator
from typing import NamedTuple

from meshapi.errors import HopliteError
from nodeagent import netlink
from nodeagent.layout import MAPPED

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY, _SOCK_DESTROY = 20, 21
_WISH = struct.Struct("=BBBxI48s")  # inet_diag_req_v2; 48 bytes of inet_diag_sockid
_FOUND = struct.Struct("=BBxx48s16xI")  # inet_diag_msg: family, state, identity, inode
_IDENTITY = struct.Struct("=2s2s16s16s4xII")  # inet_diag_sockid; of the cookie the lower half first
_CGROUP_ID = 21  # INET_DIAG_CGROUP_ID, kernel 5.9

# include/net/tcp_states.h
ESTABLISHED, SYN_RECEIVED, LISTEN = 1, 3, 10
_TIME_WAIT, _CLOSE = 6, 7
_OPEN = sum(1 << state for state in range(1, 12) if state not in (_TIME_WAIT, _CLOSE, LISTEN))


class Connection(NamedTuple):
    """A TCP socket. Addresses are 16 bytes (IPv4 mapped), ports 2, in network order.

    ``held``: a process has it open. ``cgroup`` is the id of the cgroup that the socket was made in,
    0 before kernel 5.9.
    """

    cookie: int
    state: int
    local: bytes
    local_port: bytes
    remote: bytes
    remote_port: bytes
    held: bool
    cgroup: int
    identity: bytes

    @property
    def ends(self) -> frozenset[tuple[bytes, bytes]]:
        """Address and port of both ends: the same for the sockets at either end."""
        return frozenset(((self.local, self.local_port), (self.remote, self.remote_port)))


def sockets() -> list[Connection]:
    """Every TCP connection of this thread's namespace, and every listening socket."""
    with netlink.opened(_NETLINK_SOCK_DIAG) as diag:
        return [
            found
            for family in (socket.AF_INET, socket.AF_INET6)
            for found in _sockets(diag, family, _OPEN | 1 << LISTEN)
        ]


def destroy(cookies: set[int]) -> list[Connection]:
    """End the connections whose sockets have these cookies; those that were found."""
    with netlink.opened(_NETLINK_SOCK_DIAG) as diag:
        doomed = [
            (family, one)
            for family in (socket.AF_INET, socket.AF_INET6)
            for one in _sockets(diag, family, _OPEN)
            if one.cookie in cookies
        ]
        return [one for family, one in doomed if _end(diag, family, one.identity)]


def able() -> bool:
    """Whether this kernel can end connections: asked of one that does not exist."""
    nobody = b"\xc0\x00\x02\x01" + bytes(12)  # 192.0.2.1 (RFC 5737)
    identity = struct.pack(">HH16s16s", 1, 1, nobody, nobody) + bytes(12)
    try:
        with netlink.opened(_NETLINK_SOCK_DIAG) as diag:
            return not _end(diag, socket.AF_INET, identity)
    except (HopliteError, OSError):
        return False


def _sockets(diag: socket.socket, family: int, states: int) -> Iterator[Connection]:
    wish = _WISH.pack(family, socket.IPPROTO_TCP, 0, states, bytes(48))
    flags = netlink.REQUEST | netlink.DUMP
    for payload in netlink.exchange(diag, _SOCK_DIAG_BY_FAMILY, flags, wish):
        family, state, identity, inode = _FOUND.unpack_from(payload)
        local_port, remote_port, local, remote, low, high = _IDENTITY.unpack(identity)
        yield Connection(
            high << 32 | low,
            state,
            _address(family, local),
            local_port,
            _address(family, remote),
            remote_port,
            inode != 0,
            _cgroup(payload),
            identity,
        )


def _address(family: int, raw: bytes) -> bytes:
    return MAPPED + raw[:4] if family == socket.AF_INET else raw


def _cgroup(payload: bytes) -> int:
    found = netlink.attributes(payload, _FOUND.size).get(_CGROUP_ID, b"")
    return int.from_bytes(found, sys.byteorder)


def _end(diag: socket.socket, family: int, identity: bytes) -> bool:
    """Whether the connection was still there to be ended."""
    wish = _WISH.pack(family, socket.IPPROTO_TCP, 0, _OPEN, identity)
    flags = netlink.REQUEST | netlink.ACK
    try:
        for _ in netlink.exchange(diag, _SOCK_DESTROY, flags, wish):
            pass
    except OSError as error:
        if error.errno == errno.ENOENT:
            return False
        if error.errno == errno.EOPNOTSUPP:
            raise HopliteError(
                "this kernel cannot end connections",
                fix="use one that is built with CONFIG_INET_DIAG_DESTROY",
            ) from error
        raise
    return True

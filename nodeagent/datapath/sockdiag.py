"""Ends TCP connections of one network namespace by their sockets' cookies (sock_diag(7)).

The kernel resets the connection and the application gets ECONNABORTED. Needs CAP_NET_ADMIN in the
namespace and a kernel with INET_DIAG_DESTROY (4.5; Debian's and Ubuntu's have it). Only sockets of
the calling thread's namespace are seen.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator

from meshapi.errors import HopliteError

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY, _SOCK_DESTROY = 20, 21
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_REQUEST, _ACK, _DUMP = 0x1, 0x4, 0x300

_HEADER = struct.Struct("=IHHII")  # nlmsghdr
_WISH = struct.Struct("=BBBxI48s")  # inet_diag_req_v2; 48 bytes of inet_diag_sockid
_FOUND = struct.Struct("=BBBB48s")  # head of inet_diag_msg
_COOKIE_AT = 40  # in inet_diag_sockid: two words, the lower first
_ERROR = struct.Struct("=i")

# All states but TIME_WAIT, CLOSE and LISTEN (include/net/tcp_states.h).
_STATES = sum(1 << state for state in (1, 2, 3, 4, 5, 8, 9, 11))


def destroy(cookies: set[int]) -> set[int]:
    """End the connections whose sockets have these cookies; those that were found."""
    found = set()
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as netlink:
        netlink.bind((0, 0))
        for family in (socket.AF_INET, socket.AF_INET6):
            doomed = [(c, i) for c, i in _connections(netlink, family) if c in cookies]
            for cookie, identity in doomed:
                if cookie not in found and _end(netlink, family, identity):
                    found.add(cookie)
    return found


def able() -> bool:
    """Whether this kernel can end connections: asked of one that does not exist."""
    nobody = b"\xc0\x00\x02\x01" + bytes(12)  # 192.0.2.1 (RFC 5737)
    identity = struct.pack(">HH16s16s", 1, 1, nobody, nobody) + bytes(12)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as netlink:
            return not _end(netlink, socket.AF_INET, identity)
    except (HopliteError, OSError):
        return False


def _connections(netlink: socket.socket, family: int) -> Iterator[tuple[int, bytes]]:
    """Cookie and identity of every TCP connection of a family."""
    wish = _WISH.pack(family, socket.IPPROTO_TCP, 0, _STATES, bytes(48))
    _send(netlink, _SOCK_DIAG_BY_FAMILY, _REQUEST | _DUMP, wish)
    for payload in _answers(netlink):
        identity = _FOUND.unpack_from(payload)[4]
        low, high = struct.unpack_from("=II", identity, _COOKIE_AT)
        yield high << 32 | low, identity


def _end(netlink: socket.socket, family: int, identity: bytes) -> bool:
    """Whether the connection was still there to be ended."""
    wish = _WISH.pack(family, socket.IPPROTO_TCP, 0, _STATES, identity)
    _send(netlink, _SOCK_DESTROY, _REQUEST | _ACK, wish)
    try:
        for _ in _answers(netlink):
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


def _send(netlink: socket.socket, kind: int, flags: int, payload: bytes) -> None:
    length = _HEADER.size + len(payload)
    netlink.send(_HEADER.pack(length, kind, flags, 1, 0) + payload)


def _answers(netlink: socket.socket) -> Iterator[bytes]:
    """The payloads of an answer, up to its end; an error of the kernel is raised."""
    while True:
        data = netlink.recv(1 << 16)
        at = 0
        while at + _HEADER.size <= len(data):
            length, kind, _, _, _ = _HEADER.unpack_from(data, at)
            payload = data[at + _HEADER.size : at + length]
            if kind == _NLMSG_DONE:
                return
            if kind == _NLMSG_ERROR:
                number = -_ERROR.unpack_from(payload)[0]
                if number:
                    raise OSError(number, os.strerror(number))
                return
            yield payload
            at += (length + 3) & ~3

"""Netlink messages (netlink(7)), and the little of rtnetlink(7) that the agent asks every so often.

Without a library's memory. Everything is about the calling thread's network namespace. Numbers are
those of uapi/linux/netlink.h, rtnetlink.h, if_link.h and net_namespace.h.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

REQUEST, ACK, DUMP = 0x1, 0x4, 0x300
REPLACE, CREATE, EXCL = 0x100, 0x400, 0x200

_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_GETLINK, _GETNSID = 18, 90
_IFLA_IFNAME, _IFLA_LINK, _IFLA_LINKINFO, _IFLA_EXT_MASK, _IFLA_LINK_NETNSID = 3, 5, 18, 29, 37
_INFO_KIND = 1
_SKIP_STATISTICS = 1 << 3  # RTEXT_FILTER_SKIP_STATS
_NETNSA_NSID, _NETNSA_FD = 1, 3
_GROUPS = 0x1  # RTMGRP_LINK
_NESTED = 0x8000  # flag in an attribute's type

_HEADER = struct.Struct("=IHHII")  # nlmsghdr
_ATTRIBUTE = struct.Struct("=HH")  # rtattr
_LINK = struct.Struct("=BxHiII")  # ifinfomsg
_NAMESPACE = struct.Struct("=B3x")  # rtgenmsg
_NUMBER = struct.Struct("=i")


@dataclass(frozen=True)
class Link:
    """An interface; of a veth's other end ``peer`` is the index, ``netns`` the place (or -1)."""

    index: int
    name: str
    kind: str = ""
    peer: int = 0
    netns: int = -1


def links() -> list[Link]:
    """Every interface."""
    wish = _LINK.pack(0, 0, 0, 0, 0) + attribute(_IFLA_EXT_MASK, _number(_SKIP_STATISTICS))
    return [_link(payload) for payload in ask(_GETLINK, REQUEST | DUMP, wish)]


def namespace_number(fd: int) -> int:
    """The number that this namespace has given another one, -1 if none of its links lead there."""
    wish = _NAMESPACE.pack(0) + attribute(_NETNSA_FD, _number(fd))
    for payload in ask(_GETNSID, REQUEST, wish):
        raw = attributes(payload, _NAMESPACE.size).get(_NETNSA_NSID)
        if raw:
            number: int = _NUMBER.unpack(raw)[0]
            return number
    return -1


class Watch:
    """Hears that interfaces have changed; what exactly is then to be asked."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._socket.setblocking(False)
        self._socket.bind((0, _GROUPS))

    def fileno(self) -> int:
        return self._socket.fileno()

    def heard(self) -> bool:
        """Whether there was anything since the last time."""
        found = False
        while True:
            try:
                self._socket.recv(1 << 16)
            except BlockingIOError:
                return found
            except OSError:
                pass  # ENOBUFS: so many changes that some were not told
            found = True

    def close(self) -> None:
        self._socket.close()


def ask(kind: int, flags: int, payload: bytes) -> Iterator[bytes]:
    """The payloads of rtnetlink's answer."""
    with opened(socket.NETLINK_ROUTE) as netlink:
        yield from exchange(netlink, kind, flags, payload)


def opened(protocol: int) -> socket.socket:
    """A socket for asking one of the kernel's netlink protocols."""
    made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol)
    made.bind((0, 0))
    return made


def exchange(netlink: socket.socket, kind: int, flags: int, payload: bytes) -> Iterator[bytes]:
    """The payloads of an answer, up to its end; the kernel's error is raised as OSError."""
    netlink.send(_HEADER.pack(_HEADER.size + len(payload), kind, flags, 1, 0) + payload)
    yield from _answers(netlink, many=bool(flags & (DUMP | ACK)))


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded."""
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + bytes(-length % 4)


def nested(kind: int, *parts: bytes) -> bytes:
    """An attribute made of attributes."""
    return attribute(kind | _NESTED, b"".join(parts))


def attributes(data: bytes, at: int = 0) -> dict[int, bytes]:
    """The attributes of a message from ``at`` on, by type."""
    found = {}
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < _ATTRIBUTE.size:
            break
        found[kind & ~_NESTED] = data[at + _ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3
    return found


def _number(value: int) -> bytes:
    return _NUMBER.pack(value)


def _link(payload: bytes) -> Link:
    index: int = _LINK.unpack_from(payload)[2]
    parts = attributes(payload, _LINK.size)
    about = attributes(parts.get(_IFLA_LINKINFO, b""))
    return Link(
        index=index,
        name=_text(parts.get(_IFLA_IFNAME, b"")),
        kind=_text(about.get(_INFO_KIND, b"")),
        peer=_NUMBER.unpack(parts.get(_IFLA_LINK, bytes(4)))[0],
        netns=_NUMBER.unpack(parts.get(_IFLA_LINK_NETNSID, _number(-1)))[0],
    )


def _text(raw: bytes) -> str:
    return raw.rstrip(b"\0").decode(errors="replace")


def _answers(netlink: socket.socket, *, many: bool) -> Iterator[bytes]:
    while True:
        data = netlink.recv(1 << 16)
        at = 0
        while at + _HEADER.size <= len(data):
            length, kind, _, _, _ = _HEADER.unpack_from(data, at)
            payload = data[at + _HEADER.size : at + length]
            if kind == _NLMSG_DONE:
                return
            if kind == _NLMSG_ERROR:
                number = -_NUMBER.unpack_from(payload)[0]
                if number:
                    raise OSError(number, os.strerror(number))
                return
            yield payload
            at += (length + 3) & ~3
        if not many:
            return

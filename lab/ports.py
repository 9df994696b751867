"""Which ports are listened on, from the text of /proc/net/{tcp,udp}{,6} (proc(5)). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Port = tuple[int, Literal["TCP", "UDP"]]

# What the kernel calls a listener: TCP_LISTEN, and TCP_CLOSE for a UDP socket without a peer.
_PROTOCOLS: dict[str, tuple[Literal["TCP", "UDP"], str]] = {
    "tcp": ("TCP", "0A"),
    "tcp6": ("TCP", "0A"),
    "udp": ("UDP", "07"),
    "udp6": ("UDP", "07"),
}
TABLES = tuple(_PROTOCOLS)

_LOOPBACK = ("0100007F", "00000000000000000000000001000000")  # 127.0.0.1, ::1 as written there


def listening(tables: Mapping[str, str]) -> set[Port]:
    """The ports that other machines can reach: listeners on loopback alone do not count.

    ``tables`` holds the text of each of ``TABLES`` that is there.
    """
    ports: set[Port] = set()
    for name, table in tables.items():
        protocol, state = _PROTOCOLS[name]
        for line in table.splitlines()[1:]:
            fields = line.split()
            address, _, port = fields[1].partition(":")
            if fields[3] == state and address not in _LOOPBACK:
                ports.add((int(port, 16), protocol))
    return ports

"""The demo's UDP client: asks a DNS server for an IPv4 address (RFC 1035) and prints it.

Run as a script in a workload: ``python3 askdns.py SERVER NAME``. Standard library only.
"""

from __future__ import annotations

import secrets
import socket
import struct
import sys

_PORT = 53
_PATIENCE = 3.0
_HEADER = struct.Struct("!6H")  # id, flags, questions, answers, authorities, additionals
_RECURSION_DESIRED = 0x0100
_TYPE_A = _CLASS_IN = 1


def question(number: int, name: str) -> bytes:
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    header = _HEADER.pack(number, _RECURSION_DESIRED, 1, 0, 0, 0)
    return header + labels + b"\0" + struct.pack("!2H", _TYPE_A, _CLASS_IN)


def answer(number: int, asked: bytes, reply: bytes) -> str:
    """The address in a reply whose first answer is an A record; empty if it is not."""
    found, _, _, answers, _, _ = _HEADER.unpack_from(reply)
    if found != number or answers == 0 or len(reply) < len(asked) + 16:
        return ""
    return socket.inet_ntoa(reply[len(asked) + 12 : len(asked) + 16])


def main() -> int:
    server, name = sys.argv[1:]
    number = secrets.randbelow(1 << 16)
    asked = question(number, name)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(_PATIENCE)
        try:
            client.sendto(asked, (server, _PORT))
            reply, peer = client.recvfrom(512)
        except OSError as error:
            print(f"{server}: {error}", file=sys.stderr)
            return 1
    print(f"{name} is {answer(number, asked, reply)}, says {peer[0]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

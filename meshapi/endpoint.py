"""An IP address and a port as settings write them. Pure."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

_BRACKETED = re.compile(r"\[(?P<address>[^\[\]]+)\](:(?P<port>\d{1,5}))?")
_PLAIN = re.compile(r"(?P<address>[^:\[\]]+)(:(?P<port>\d{1,5}))?")


@dataclass(frozen=True, order=True)
class Endpoint:
    """Where somebody listens; the address is in its canonical form."""

    address: str
    port: int

    def __str__(self) -> str:
        return (
            f"[{self.address}]:{self.port}"
            if ":" in self.address
            else f"{self.address}:{self.port}"
        )


def parse(text: str, default_port: int) -> Endpoint:
    """``192.0.2.1``, ``192.0.2.1:53``, ``fd00::1`` or ``[fd00::1]:53``; ValueError for others."""
    match = _BRACKETED.fullmatch(text) or _PLAIN.fullmatch(text)
    address = ipaddress.ip_address(match["address"] if match else text)
    port = int(match["port"]) if match and match["port"] else default_port
    if not 1 <= port <= 65535:
        raise ValueError(f"{port} is not a port")
    return Endpoint(str(address), port)

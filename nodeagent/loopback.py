"""Puts the node proxy's addresses on the node's loopback device.

Runs as a short-lived child (``python -m nodeagent.loopback add|remove ADDRESS…``): netlink is
needed for a moment, its library's memory should not stay for ever. Whether an address is there is
asked by binding to it, which costs nothing, and by looking for a way to it: where no device has
ever been up, any address can be bound.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import subprocess
import sys

from meshapi.errors import HopliteError

_DISCARD = 9  # nothing is sent there


def ensure(addresses: tuple[str, ...]) -> None:
    """Have every address on ``lo``."""
    missing = [a for a in addresses if not _present(a)]
    if missing:
        _child("add", missing)


def remove(addresses: tuple[str, ...]) -> None:
    """Take the addresses off ``lo``; ones that are not there are fine."""
    present = [a for a in addresses if _present(a)]
    if present:
        _child("remove", present)


def _present(address: str) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
            probe.connect((address, _DISCARD))
        except OSError as error:
            if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.ENETUNREACH):
                return False
            raise
    return True


def _child(verb: str, addresses: list[str]) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "nodeagent.loopback", verb, *addresses],
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode != 0:
        lines = run.stderr.strip().splitlines()
        raise HopliteError(
            f"cannot {verb} {', '.join(addresses)} on lo: {lines[-1] if lines else run.returncode}",
            fix="check that the agent has CAP_NET_ADMIN in its network namespace",
        )


def main() -> int:
    from pyroute2 import IPRoute

    verb = {"add": "add", "remove": "del"}[sys.argv[1]]
    with IPRoute() as route:
        loopback = route.link_lookup(ifname="lo")[0]
        route.link("set", index=loopback, state="up")
        for address in sys.argv[2:]:
            length = ipaddress.ip_address(address).max_prefixlen
            route.addr(verb, index=loopback, address=address, prefixlen=length)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Addresses on lo, in network namespaces of their own."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.root

WORK = """
import socket, sys
from nodeagent import loopback
addresses = ("169.254.77.1", "fd6d:6573:6800:ffff::1")
loopback.ensure(addresses)
for address in addresses:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    socket.create_server((address, 53), family=family)
loopback.ensure(addresses)
loopback.remove(addresses)
loopback.remove(addresses)
print([loopback._present(address) for address in addresses])
"""


@pytest.mark.parametrize("before", ["true", "ip link set lo up"])
def test_addresses_come_and_go_also_where_no_device_was_ever_up(before: str) -> None:
    command = f'{before} && exec "$0" -c "$1"'
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", command, sys.executable, WORK],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("[False, False]\n", "")

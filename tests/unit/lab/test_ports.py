from __future__ import annotations

import socket
from pathlib import Path

from lab.ports import listening

TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0
   1: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2 1 0
   2: 0B01F40A:01BB 0101A8C0:1234 01 00000000:00000000 00:00000000 00000000     0        0 3 1 0
"""
TCP6 = """\
  sl  local_address                         remote_address                        st
   0: 00000000000000000000000001000000:1F91 00000000000000000000000000000000:0000 0A
   1: 00000000000000000000000000000000:18EB 00000000000000000000000000000000:0000 0A
"""


UDP = """\
   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout
 1066: 00000000:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0
 1067: 0B01F40A:C001 0101A8C0:0035 01 00000000:00000000 00:00000000 00000000     0        0
"""


def test_listeners_that_others_can_reach() -> None:
    tables = {"tcp": TCP, "tcp6": TCP6, "udp": UDP}
    assert listening(tables) == {(80, "TCP"), (6379, "TCP"), (53, "UDP")}


def test_nothing_listens_in_an_empty_table() -> None:
    assert listening({"tcp": "", "tcp6": TCP.splitlines()[0]}) == set()


def test_the_kernels_own_tables() -> None:
    with (
        socket.create_server(("0.0.0.0", 0)) as everywhere,
        socket.create_server(("127.0.0.1", 0)) as loopback,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
    ):
        datagrams.bind(("0.0.0.0", 0))
        tables = {name: Path("/proc/self/net", name).read_text() for name in ("tcp", "udp")}
        found = listening(tables)
        assert (everywhere.getsockname()[1], "TCP") in found
        assert (loopback.getsockname()[1], "TCP") not in found
        assert (datagrams.getsockname()[1], "UDP") in found

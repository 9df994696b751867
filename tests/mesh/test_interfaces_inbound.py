"""What comes to a pod that its socket hooks do not see; and that ordinary traffic is left alone."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from lab import api
from tests.mesh.asking import dial, eventually, flows, send, virtual_addresses
from tests.mesh.interfaces_world import (
    LAB,
    TCP,
    UDP,
    addresses,
    foreign,
    foreign_popen,
    frames,
    hearing,
    refusals,
)
from tests.mesh.programs import SERVER

pytestmark = pytest.mark.root

ECHO, VAULT, CAGED = "node1/shop/echo", "node1/shop/vault", "node1/shop/caged"
CLIENT, OUTSIDER = "node1/shop/client", "node1/dev/outsider"
FAR_ECHO, FAR_VAULT, SEALED = "node2/shop/far-echo", "node2/shop/far-vault", "node2/shop/sealed"
FAR_CLIENT, FAR_OUTSIDER = "node2/shop/far-client", "node2/dev/far-outsider"
ALLOWED_PORT, OTHER_PORT = 7100, 7200  # the vault's policy names the first

# Sends packets (Python text) from a node's own network; nothing is listened for.
FROM_NODE = """
import logging, sys
logging.getLogger("scapy").setLevel(logging.ERROR)
from scapy.all import *
conf.verb = 0
for packet in eval(sys.argv[1]):
    send(packet)
"""


@pytest.fixture(scope="module")
def lab(make_lab: Callable[[str], api.Lab]) -> api.Lab:
    return make_lab(LAB)


@contextmanager
def stranger(lab: api.Lab, target: str, port: int) -> Iterator[None]:
    """A server in a pod's network, but not in its cgroup, so that no hook knows its sockets."""
    env = {"WHO": "stranger", "PORT": str(port), "UDP_PORT": str(port)}
    server = foreign_popen(lab, target, [sys.executable, "-c", SERVER], env)
    node = target.partition("/")[0]
    address = addresses(lab, target)[0]
    try:
        eventually(lambda: dial(lab, node, address, port)["answers"] == {"stranger": 1})
        yield
    finally:
        server.kill()
        server.wait()


def from_node(lab: api.Lab, node: str, packets: str) -> None:
    """Send packets past every socket hook and interface program, as a node that polices nothing."""
    done = lab.exec(node, [sys.executable, "-c", FROM_NODE, packets])
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("caller", [CLIENT, FAR_CLIENT])
def test_a_strangers_server_is_reached_as_policy_says_of_the_pod(lab: api.Lab, caller: str) -> None:
    with stranger(lab, VAULT, ALLOWED_PORT), stranger(lab, VAULT, OTHER_PORT):
        for address in addresses(lab, VAULT):
            assert dial(lab, caller, address, ALLOWED_PORT)["answers"] == {"stranger": 1}
            assert dial(lab, caller, address, OTHER_PORT)["answers"] == {"EPERM": 1}
            assert send(lab, caller, address, OTHER_PORT)["answers"] == {"EPERM": 1}


def test_where_the_callers_node_says_nothing_the_pods_interface_refuses(lab: api.Lab) -> None:
    """Real sockets in a pod's network whose caller no hook knows, at a server that none knows."""
    own4, own6 = addresses(lab, FAR_OUTSIDER)
    to4, to6 = addresses(lab, VAULT)
    with stranger(lab, VAULT, OTHER_PORT), hearing(lab, VAULT) as heard:
        from_node(
            lab,
            "node2",
            f"[IP(src='{own4}', dst='{to4}')/TCP(sport=5, dport={OTHER_PORT}, flags='S')"
            "/Raw(b'<<past>>'),"
            f" IPv6(src='{own6}', dst='{to6}')/TCP(sport=5, dport={OTHER_PORT}, flags='S')"
            "/Raw(b'<<past>>'),"
            f" IP(src='{own4}', dst='{to4}')/UDP(sport=5, dport={OTHER_PORT})/Raw(b'<<past>>'),"
            f" IPv6(src='{own6}', dst='{to6}')/UDP(sport=5, dport={OTHER_PORT})/Raw(b'<<past>>'),"
            f" IP(src='{own4}', dst='{to4}')/ICMP()/Raw(b'<<past>>'),"
            f" IP(src='{own4}', dst='{to4}', proto=132)/Raw(b'<<past>>'),"
            f" IP(src='{own4}', dst='{to4}', proto=47)/Raw(b'<<past>>')]",
        )
    assert heard == []
    wanted = {
        (protocol, "far-outsider", "vault", "INGRESS_DENIED")
        for protocol in ("TCP", "UDP", "ICMP", "SCTP", "GRE")
    }
    eventually(lambda: refusals(lab, direction="inbound") >= wanted)
    found = [f for f in flows(lab, direction="inbound", verdict="DENY") if f.hook == "veth"]
    assert {f.policy for f in found} == {"shop/vault"}
    assert {f.node for f in found} == {"node1"}


def test_fragments_and_broken_packets_reach_no_closed_pod(lab: api.Lab) -> None:
    own4, own6 = addresses(lab, FAR_CLIENT)
    to4, to6 = addresses(lab, VAULT)
    other4, other6 = addresses(lab, FAR_OUTSIDER)
    with hearing(lab, VAULT) as heard:
        from_node(
            lab,
            "node2",
            f"[*fragment(IP(src='{other4}', dst='{to4}', id=5)/UDP(dport={UDP})"
            "/Raw(b'<<part>>' * 300), 1000)[1:],"
            f" *fragment6(IPv6(src='{other6}', dst='{to6}')/IPv6ExtHdrFragment(id=6)"
            f"/UDP(dport={UDP})/Raw(b'<<part>>' * 300), 1000)[1:],"
            f" IP(src='{own4}', dst='{to4}', proto=6, id=7, frag=1)/Raw(b'<<part>>'),"
            f" IP(src='{own4}', dst='{to4}', proto=17)/Raw(b'<<a>>'),"
            f" IP(src='{own4}', dst='{to4}', options=b'\\x94\\x04\\x00\\x00')/UDP(dport={UDP})"
            "/Raw(b'<<part>>'),"
            f" IPv6(src='{own6}', dst='{to6}')/IPv6ExtHdrRouting(segleft=1, addresses=['{to6}'])"
            f"/UDP(dport={UDP})/Raw(b'<<part>>')]",
        )
    assert heard == []
    eventually(lambda: {r[3] for r in refusals(lab, direction="inbound")} >= {"MALFORMED"})


def test_the_node_itself_reaches_every_pod(lab: api.Lab) -> None:
    """Probes: by TCP, UDP and ICMP, by either family."""
    for node, pods in (("node1", (ECHO, VAULT, CAGED)), ("node2", (FAR_VAULT, SEALED))):
        for pod in pods:
            name = pod.rpartition("/")[2]
            for address in addresses(lab, pod):
                assert dial(lab, node, address, TCP)["answers"] == {name: 1}
                assert send(lab, node, address, UDP)["answers"] == {name: 1}
                assert ping(lab, node, address)


def ping(lab: api.Lab, target: str, address: str) -> bool:
    program = (
        "import sys, logging; logging.getLogger('scapy').setLevel(logging.ERROR)\n"
        "import socket\n"
        "six = ':' in sys.argv[1]\n"
        "family, protocol = (socket.AF_INET6, 58) if six else (socket.AF_INET, 1)\n"
        "s = socket.socket(family, socket.SOCK_RAW, protocol)\n"
        "s.settimeout(2)\n"
        "import struct\n"
        "head = struct.pack('!BBHHH', 128 if six else 8, 0, 0, 77, 1)\n"
        "total = ~sum(struct.unpack('!4H', head)) & 0xffff\n"
        "if not six: head = head[:2] + struct.pack('!H', total) + head[4:]\n"
        "s.sendto(head, (sys.argv[1], 0))\n"
        "while True:\n"
        "    data = s.recv(99)\n"
        "    kind = data[0] if six else data[20]\n"
        "    if kind == (129 if six else 0): break\n"
    )
    return lab.exec(target, [sys.executable, "-c", program, address]).returncode == 0


def test_pings_are_policed_like_other_protocols(lab: api.Lab) -> None:
    """Of open pods nobody is refused; rules with ports do not let ICMP in."""
    for address in (*addresses(lab, ECHO), *addresses(lab, FAR_ECHO)):
        assert ping(lab, OUTSIDER, address)
        assert ping(lab, CAGED, address)
    for address in addresses(lab, FAR_CLIENT):
        assert not ping(lab, CAGED, address)
    for address in (*addresses(lab, VAULT), *addresses(lab, FAR_VAULT)):
        assert not ping(lab, OUTSIDER, address)
    assert ping(lab, "node1", addresses(lab, VAULT)[0])


RESOLVE = "import socket, sys; print(socket.gethostbyname(sys.argv[1]))"
TRANSFER = """
import socket, sys
for address in sys.argv[2:]:
    with socket.create_connection((address, int(sys.argv[1])), timeout=10) as c:
        c.recv(99)
        for _ in range(20):
            c.sendall(b"x" * 50000)
            left = 50000
            while left:
                left -= len(c.recv(left))
        c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\\1\\0\\0\\0\\0\\0\\0\\0")
    for closing in range(3):
        with socket.create_connection((address, int(sys.argv[1])), timeout=10) as c:
            c.shutdown(socket.SHUT_WR)
            while c.recv(99): pass
print("done")
"""


def test_ordinary_traffic_is_not_disturbed(lab: api.Lab) -> None:
    """TCP, UDP, names, services, resets, half-closed connections, refused ports; nothing is
    refused at an interface, in either direction.
    """
    before = interface_refusals(lab)
    everybody = [CLIENT, OUTSIDER, CAGED, FAR_CLIENT, FAR_OUTSIDER, SEALED]
    echoes = [*addresses(lab, ECHO), *addresses(lab, FAR_ECHO)]
    for caller in everybody:
        done = lab.exec(caller, [sys.executable, "-c", TRANSFER, str(TCP), *echoes])
        assert done.stdout == "done\n", (caller, done)
        for address in echoes:
            assert set(send(lab, caller, address, UDP, 3)["answers"]) <= {"echo", "far-echo"}
            how = send(lab, caller, address, UDP, 3, "same")["answers"]
            assert set(how) <= {"echo", "far-echo"}
            assert dial(lab, caller, address, 9)["answers"] == {"ECONNREFUSED": 1}
            assert send(lab, caller, address, 9, 1, "connected")["answers"] == {"ECONNREFUSED": 1}
        for vip in virtual_addresses(lab, "shop", "echo"):
            answers = dial(lab, caller, vip, 80, 3)["answers"]
            assert set(answers) <= {"echo", "far-echo"}, (caller, answers)
    for address in (*addresses(lab, VAULT), *addresses(lab, FAR_VAULT)):
        for caller in (CLIENT, FAR_CLIENT):
            assert set(dial(lab, caller, address, TCP)["answers"]) <= {"vault", "far-vault"}
            assert set(send(lab, caller, address, UDP)["answers"]) <= {"vault", "far-vault"}
    for caller in (CLIENT, OUTSIDER):
        found = lab.exec(caller, [sys.executable, "-c", RESOLVE, "echo.shop.svc.hoplite.local"])
        assert found.stdout.strip() == virtual_addresses(lab, "shop", "echo")[0], found
    assert interface_refusals(lab) == before


def interface_refusals(lab: api.Lab) -> int:
    return sum(f.hook in ("veth", "uplink") for f in flows(lab, verdict="DENY"))


def test_neighbours_are_found_through_the_programs(lab: api.Lab) -> None:
    """ARP and neighbour discovery between a closed pod and its node, asked by either."""
    for target in (VAULT, SEALED):
        own4, own6 = addresses(lab, target)
        node = target.partition("/")[0]
        asked = (
            f"[Ether(dst='ff:ff:ff:ff:ff:ff')/ARP(psrc='{own4}', pdst='{lab.node(node).address4}')]"
        )
        assert frames(lab, target, asked) == ["arp"]
        program = (
            "import sys, logging; logging.getLogger('scapy').setLevel(logging.ERROR)\n"
            "from scapy.all import *\n"
            "conf.verb = 0\n"
            "port = [i for i in get_if_list() if i.startswith('pod')]\n"
            "own4, own6 = sys.argv[1:]\n"
            "def ask(p): return any(srp1(Ether(dst='ff:ff:ff:ff:ff:ff')/p, iface=i, timeout=.3)"
            " for i in port)\n"
            "a = ask(ARP(pdst=own4, psrc='169.254.1.1'))\n"
            "d = '33:33:ff:' + '00:00:' + '%02x' % (int(own6.rpartition(':')[2], 16) & 255)\n"
            "b = any(srp1(Ether(dst=d)/IPv6(src='fe80::ecee:eeff:feee:eeee', dst=own6, hlim=255)"
            "/ICMPv6ND_NS(tgt=own6)/ICMPv6NDOptSrcLLAddr(lladdr='ee:ee:ee:ee:ee:ee'),"
            " iface=i, timeout=.3) for i in port)\n"
            "print(a, b)\n"
        )
        done = lab.exec(node, [sys.executable, "-c", program, own4, own6])
        assert done.stdout == "True True\n", done


def test_a_stranger_that_asks_out_is_answered(lab: api.Lab) -> None:
    """Answers come back to a process that the hooks do not know, in a closed pod too."""
    program = (
        "import socket, sys\n"
        "for to in sys.argv[2:]:\n"
        "    six = ':' in to\n"
        "    s = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM)\n"
        "    s.settimeout(3)\n"
        "    s.sendto(b'x', (to, int(sys.argv[1])))\n"
        "    print(s.recvfrom(99)[0].decode())\n"
    )
    command = [
        sys.executable,
        "-c",
        program,
        str(UDP),
        *addresses(lab, ECHO),
        *addresses(lab, FAR_ECHO),
    ]
    for pod in (VAULT, CAGED, SEALED):
        done = foreign(lab, pod, command)
        assert done.stdout.split() == ["echo:x", "echo:x", "far-echo:x", "far-echo:x"], (pod, done)

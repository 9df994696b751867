"""Block lists and quarantines at the nodes' own interfaces, with a host outside the mesh."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest
from pyroute2 import IPRoute

from lab import api, netns
from lab.plan import FABRIC4, FABRIC6
from tests.mesh.asking import apply, ask_agent, delete, dial, eventually, flows, send
from tests.mesh.holding import held, last_word
from tests.mesh.interfaces_world import LAB, TCP, UDP, addresses, frames, hearing, outside
from tests.mesh.programs import DIAL, SEND, SERVER
from tests.mesh.test_interfaces_inbound import from_node

pytestmark = pytest.mark.root

ECHO, FAR_ECHO = "node1/shop/echo", "node2/shop/far-echo"
CLIENT, FAR_CLIENT, OUTSIDER = "node1/shop/client", "node2/shop/far-client", "node1/dev/outsider"
WORLD = ("198.51.100.7", "2001:db8::7")

BLOCKED = """
apiVersion: mesh.hoplite.io/v1alpha1
kind: BlockList
metadata: {name: outside}
spec: {cidrs: [198.51.100.0/24, "2001:db8::7"], reason: tests}
"""

CLIENT_BLOCKED = """
apiVersion: mesh.hoplite.io/v1alpha1
kind: BlockList
metadata: {name: one-of-ours}
spec: {cidrs: [CIDRS]}
"""

QUARANTINED = """
apiVersion: mesh.hoplite.io/v1alpha1
kind: Quarantine
metadata: {name: far-echo, namespace: shop}
spec: {workload: far-echo, allowFrom: [{namespace: shop, workload: client}]}
"""


@pytest.fixture(scope="module")
def lab(make_lab: Callable[[str], api.Lab]) -> Iterator[api.Lab]:
    """The lab, and a server outside the mesh that answers on the node's side of the bridge."""
    made = make_lab(LAB)
    fabric = made.record.plan.fabric
    netns.within(fabric, lambda: _settle(made))
    for node in made.record.plan.nodes:
        netns.within(node.netns, _route_to_world)
    env = {**os.environ, "WHO": "world", "PORT": str(TCP), "UDP_PORT": str(UDP)}
    command = [sys.executable, "-c", SERVER]
    server = netns.within(fabric, lambda: subprocess.Popen(command, env=env))
    eventually(lambda: dial(made, "node1", WORLD[0], TCP)["answers"] == {"world": 1})
    yield made
    server.kill()
    server.wait()


def _settle(lab: api.Lab) -> None:
    with IPRoute() as ip:
        bridge = ip.link_lookup(ifname="br0")[0]
        ip.addr("add", index=bridge, address=WORLD[0], prefixlen=32)
        ip.addr("add", index=bridge, address=WORLD[1], prefixlen=128, flags=2)
        for node in lab.record.plan.nodes:
            ip.route("add", dst=node.pods4, gateway=node.address4, prefsrc=WORLD[0])
            ip.route("add", family=10, dst=node.pods6, gateway=node.address6, prefsrc=WORLD[1])


def _route_to_world() -> None:
    with IPRoute() as ip:
        ip.route("add", dst=f"{WORLD[0]}/32", gateway=FABRIC4)
        ip.route("add", family=10, dst=f"{WORLD[1]}/128", gateway=FABRIC6)


def from_world(lab: api.Lab, address: str) -> tuple[str, str]:
    """What a connection and a datagram from outside the mesh come to."""
    space = lab.record.plan.fabric
    tcp = outside(space, [sys.executable, "-c", DIAL, address, str(TCP), "1"])
    udp = outside(space, [sys.executable, "-c", SEND, address, str(UDP), "1", "fresh"])
    return tcp.stdout.strip(), udp.stdout.strip()


def told(lab: api.Lab, hook: str) -> set[tuple[str, str, str, str, str]]:
    """Node, direction, protocol, policy and reason of what was refused at a hook."""
    return {
        (f.node, f.direction, f.protocol, f.policy, f.reason)
        for f in flows(lab, verdict="DENY")
        if f.hook == hook
    }


def test_blocked_addresses_are_cut_off_in_both_directions(lab: api.Lab) -> None:
    def reachable() -> None:
        for place, address in enumerate(WORLD):
            assert dial(lab, CLIENT, address, TCP)["answers"] == {"world": 1}
            assert dial(lab, "node1", address, TCP)["answers"] == {"world": 1}
            assert send(lab, "node1", address, UDP)["answers"] == {"world": 1}
            assert all(
                '"far-echo": 1' in x for x in from_world(lab, addresses(lab, FAR_ECHO)[place])
            )

    reachable()
    apply(lab, BLOCKED)
    for place, address in enumerate(WORLD):
        assert dial(lab, CLIENT, address, TCP)["answers"] == {"EPERM": 1}
        assert send(lab, CLIENT, address, UDP)["answers"] == {"EPERM": 1}
        assert dial(lab, "node1", address, TCP)["answers"] == {"TimeoutError": 1}
        assert send(lab, "node1", address, UDP)["answers"] == {"TimeoutError": 1}
        own = addresses(lab, CLIENT)[place]
        ip = "IPv6" if ":" in own else "IP"
        syn = f"{ip}(src='{own}', dst='{address}')/TCP(sport=6, dport={TCP}, flags='S')"
        assert frames(lab, CLIENT, f"[{syn}]") == [None]
        said = from_world(lab, addresses(lab, FAR_ECHO)[place])
        assert all('"TimeoutError": 1' in x for x in said), said
    protocols = ("TCP", "UDP")
    wanted = {("node1", "outbound", p, "outside", "BLOCKED") for p in protocols}
    wanted |= {("node2", "inbound", p, "outside", "BLOCKED") for p in protocols}
    eventually(lambda: told(lab, "uplink") >= wanted)
    assert told(lab, "veth") == {("node1", "outbound", "TCP", "outside", "BLOCKED")}
    assert ("node1", "outbound", "TCP", "outside", "BLOCKED") in told(lab, "connect")
    delete(lab, "blocklist", "", "outside")
    eventually(lambda: dial(lab, "node1", WORLD[0], TCP)["answers"] == {"world": 1})
    reachable()


def test_open_connections_to_a_blocked_address_are_cut(lab: api.Lab) -> None:
    with ExitStack() as stack:
        connections = [stack.enter_context(held(lab, CLIENT, address, TCP)) for address in WORLD]
        apply(lab, BLOCKED)
        ends = {last_word(connection) for connection in connections}
    assert ends <= {"ECONNABORTED", "ECONNRESET"}
    eventually(
        lambda: (
            {f.policy for f in flows(lab, source="shop/client") if f.state == "cut"} == {"outside"}
        )
    )
    delete(lab, "blocklist", "", "outside")
    eventually(lambda: dial(lab, CLIENT, WORLD[0], TCP)["answers"] == {"world": 1})


def test_a_pod_whose_address_is_blocked_neither_sends_nor_hears(lab: api.Lab) -> None:
    own4, own6 = addresses(lab, CLIENT)
    to4, to6 = addresses(lab, FAR_ECHO)
    apply(lab, CLIENT_BLOCKED.replace("CIDRS", f'{own4}, "{own6}"'))
    with hearing_nothing(lab, FAR_ECHO):
        packets = (
            f"[IP(src='{own4}', dst='{to4}')/UDP(sport=6, dport={UDP})/Raw(b'<<blocked>>'),"
            f" IPv6(src='{own6}', dst='{to6}')/UDP(sport=6, dport={UDP})/Raw(b'<<blocked>>'),"
            f" IP(src='{own4}', dst='{to4}')/ICMP()/Raw(b'<<blocked>>')]"
        )
        assert frames(lab, CLIENT, packets) == [None] * 3
    for address in (to4, to6):
        assert dial(lab, CLIENT, address, TCP)["answers"] == {"EPERM": 1}
    delete(lab, "blocklist", "", "one-of-ours")
    eventually(lambda: dial(lab, CLIENT, to4, TCP)["answers"] == {"far-echo": 1})


@contextmanager
def hearing_nothing(lab: api.Lab, target: str) -> Iterator[None]:
    """Fails if any marker arrives at a pod while the block runs."""
    with hearing(lab, target) as heard:
        yield
    assert heard == []


def test_nothing_of_a_quarantined_workload_passes_but_answers_to_whom_it_lets_in(
    lab: api.Lab,
) -> None:
    apply(lab, QUARANTINED)
    own4, own6 = addresses(lab, FAR_ECHO)
    to4, to6 = addresses(lab, ECHO)
    for address in (own4, own6):
        assert dial(lab, CLIENT, address, TCP)["answers"] == {"far-echo": 1}
        assert send(lab, CLIENT, address, UDP)["answers"] == {"far-echo": 1}
        assert dial(lab, OUTSIDER, address, TCP)["answers"] == {"EPERM": 1}
    assert dial(lab, FAR_ECHO, to4, TCP)["answers"] == {"EPERM": 1}
    packets = (
        f"[IP(src='{own4}', dst='{to4}')/TCP(sport=6, dport={TCP}, flags='S'),"
        f" IPv6(src='{own6}', dst='{to6}')/TCP(sport=6, dport={TCP}, flags='S'),"
        f" IP(src='{own4}', dst='{to4}')/UDP(sport=6, dport={UDP})/Raw(b'<<out>>'),"
        f" IP(src='{own4}', dst='{to4}')/ICMP()/Raw(b'<<out>>')]"
    )
    with hearing_nothing(lab, ECHO):
        assert frames(lab, FAR_ECHO, packets) == [None] * 4
        from_node(lab, "node2", packets)  # as a node that does not police its pods
    wanted = {("node2", "outbound", p, "QUARANTINED") for p in ("TCP", "UDP", "ICMP")}
    eventually(lambda: {t[:3] + t[4:] for t in told(lab, "veth")} >= wanted)
    wanted = {("node1", "inbound", p, "QUARANTINED") for p in ("TCP", "UDP", "ICMP")}
    eventually(lambda: {t[:3] + t[4:] for t in told(lab, "uplink")} >= wanted)
    delete(lab, "quarantine", "shop", "far-echo")
    eventually(lambda: dial(lab, FAR_ECHO, to4, TCP)["answers"] == {"echo": 1})


# -- from outside, past the hooks of any node ------------------------------------------------------

# Sends packets (Python text) from a namespace, wherever its routes lead.
FROM_OUTSIDE = """
import logging, sys
logging.getLogger("scapy").setLevel(logging.ERROR)
from scapy.all import *
conf.verb = 0
for packet in eval(sys.argv[1]):
    send(packet)
"""

# The first half of a handshake from an address that nobody answers for; when told to, the other.
HANDSHAKE = """
import logging, sys
logging.getLogger("scapy").setLevel(logging.ERROR)
from scapy.all import *
conf.verb = 0
source, address, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
there = IP(src=source, dst=address)
answer = sr1(there / TCP(sport=4040, dport=port, flags="S", seq=100), timeout=5)
print(answer[TCP].flags, flush=True)
sys.stdin.readline()
send(there / TCP(sport=4040, dport=port, flags="A", seq=101, ack=answer[TCP].seq + 1))
"""

GHOST = "198.51.100.9"

CLOSED_TO_WORLD = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: far-echo, namespace: shop}
spec:
  podSelector: {matchLabels: {app: echo}}
  ingress: [{from: [{podSelector: {}}, {namespaceSelector: {}}]}]
"""


def test_a_handshake_that_ends_after_policy_has_changed_is_cut(lab: api.Lab) -> None:
    """It was let in at its SYN; nothing asks again when it is established."""
    node = next(n for n in lab.record.plan.nodes if n.name == "node2")
    netns.within(node.netns, _route_to_ghost)
    own = addresses(lab, FAR_ECHO)[0]
    command = [sys.executable, "-c", HANDSHAKE, GHOST, own, str(TCP)]
    caller = netns.within(
        lab.record.plan.fabric,
        lambda: subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True),
    )
    try:
        assert caller.stdout is not None
        assert caller.stdout.readline() == "SA\n"
        apply(lab, CLOSED_TO_WORLD)
        caller.communicate("go\n", timeout=20)
        eventually(
            lambda: (
                [
                    f.reason
                    for f in flows(lab, destination="shop/far-echo", direction="inbound")
                    if f.source.port == 4040 and f.state == "cut"
                ]
                == ["INGRESS_DENIED"]
            )
        )
    finally:
        caller.kill()
        caller.wait()
        delete(lab, "networkpolicy", "shop", "far-echo")


def _route_to_ghost() -> None:
    with IPRoute() as ip:
        ip.route("add", dst=f"{GHOST}/32", gateway=FABRIC4)


def test_nobody_outside_speaks_to_a_closed_pod_as_its_own_node(lab: api.Lab) -> None:
    """IPv6 lets such packets in, and policy lets in what comes from the node."""
    node = next(n for n in lab.record.plan.nodes if n.name == "node2").address6
    sealed = addresses(lab, "node2/shop/sealed")[1]
    packets = (
        f"[IPv6(src='{node}', dst='{sealed}')/UDP(sport=6, dport={UDP})/Raw(b'<<feigned>>'),"
        f" IPv6(src='{node}', dst='{sealed}')/TCP(sport=6, dport={TCP}, flags='S')"
        "/Raw(b'<<feigned>>')]"
    )
    with hearing_nothing(lab, "node2/shop/sealed"):
        done = outside(lab.record.plan.fabric, [sys.executable, "-c", FROM_OUTSIDE, packets])
        assert done.returncode == 0, done.stderr
    eventually(lambda: ("node2", "inbound", "UDP", "", "SOURCE_SPOOFED") in told(lab, "veth"))
    assert dial(lab, "node2", sealed, TCP)["answers"] == {"sealed": 1}


# A connected UDP socket that sends whenever it is told to and says what came of it.
KEEP_SENDING = """
import errno, socket, sys
one = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
one.settimeout(2)
one.connect((sys.argv[1], int(sys.argv[2])))
print("ready", flush=True)
while sys.stdin.readline():
    try:
        one.send(b"x")
        print(one.recv(99).decode().partition(":")[0], flush=True)
    except OSError as error:
        print(errno.errorcode.get(error.errno or 0, type(error).__name__), flush=True)
"""


@pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])
def test_a_datagram_socket_from_before_enrolment_is_held_to_policy(
    lab: api.Lab, family: int
) -> None:
    """Its destination is outside the mesh, so that no other node refuses for this one."""
    caged = "node1/shop/caged"
    cgroup = lab.cgroup("node1", lab.workload(caged).cgroup)
    resource = get(lab, "workload", "shop", "caged")
    delete(lab, "workload", "shop", "caged")
    eventually(lambda: cgroup.stat().st_ino not in enrolled(lab, "node1"))
    command = [sys.executable, "-c", KEEP_SENDING, WORLD[family], str(UDP)]
    early = lab.popen(caged, command, stdin=subprocess.PIPE)

    def say() -> str:
        assert early.stdin is not None
        assert early.stdout is not None
        early.stdin.write("go\n")
        early.stdin.flush()
        return early.stdout.readline().strip()

    try:
        assert early.stdout is not None
        assert early.stdout.readline() == "ready\n"
        assert say() == "world"
        apply(lab, resource)
        eventually(lambda: cgroup.stat().st_ino in enrolled(lab, "node1"))
        assert say() == "EPERM"
        eventually(
            lambda: any(
                f.reason == "EGRESS_DENIED" and f.destination.address == WORLD[family]
                for f in flows(lab, source="shop/caged", verdict="DENY")
            )
        )
    finally:
        early.kill()
        early.wait()


def get(lab: api.Lab, kind: str, namespace: str, name: str) -> str:
    """A stored object as a manifest that makes it anew."""
    words = ["get", kind, name, "-n", namespace, "-o", "yaml"]
    done = subprocess.run(
        [sys.executable, "-m", "hopctl", *words],
        env={**os.environ, **lab.env},
        capture_output=True,
        check=True,
        text=True,
    )
    own = ("resourceVersion:", "uid:")
    return "\n".join(x for x in done.stdout.splitlines() if not x.strip().startswith(own))


def enrolled(lab: api.Lab, node: str) -> set[int]:
    """The cgroups that a node's kernel knows."""
    return {entry["key"]["cgroup"] for entry in ask_agent(lab, node, "/maps/workloads")}

"""What leaves a pod past the socket hooks is policed at the host's end of its veth."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from lab import api
from tests.mesh.asking import ask_unix, dial, eventually, flows, virtual_addresses
from tests.mesh.interfaces_world import (
    LAB,
    TCP,
    UDP,
    addresses,
    behind,
    foreign,
    foreign_frames,
    frames,
    hearing,
    outside,
    refusals,
)
from tests.mesh.programs import DIAL, SEND

pytestmark = pytest.mark.root

ECHO, VAULT, CAGED = "node1/shop/echo", "node1/shop/vault", "node1/shop/caged"
CLIENT, OUTSIDER = "node1/shop/client", "node1/dev/outsider"
FAR_ECHO, FAR_VAULT, FAR_CLIENT = (
    "node2/shop/far-echo",
    "node2/shop/far-vault",
    "node2/shop/far-client",
)
WAYS = (frames, foreign_frames)  # by the pod's own packet socket, by a stranger's


@pytest.fixture(scope="module")
def lab(make_lab: Callable[[str], api.Lab]) -> api.Lab:
    return make_lab(LAB)


def begin(
    lab: api.Lab, source: str, destination: str, port: int, *, marker: str = "-", tcp: int = TCP
) -> str:
    """A SYN, a datagram and an echo request, by IPv4 and IPv6, as a list in Python text."""
    (from4, from6), (to4, to6) = addresses(lab, source), addresses(lab, destination)
    said = f"Raw(b'<<{marker}>>')"
    datagram = f"Raw(b'<<{marker}-udp>>')"
    return (
        f"[IP(src='{from4}', dst='{to4}')/TCP(sport={port}, dport={tcp}, seq={port}, flags='S'),"
        f" IPv6(src='{from6}', dst='{to6}')/TCP(sport={port}, dport={tcp}, seq={port}, flags='S'),"
        f" IP(src='{from4}', dst='{to4}')/UDP(sport={port}, dport={UDP})/{datagram},"
        f" IPv6(src='{from6}', dst='{to6}')/UDP(sport={port}, dport={UDP})/{datagram},"
        f" IP(src='{from4}', dst='{to4}')/ICMP(id={port})/{said},"
        f" IPv6(src='{from6}', dst='{to6}')/ICMPv6EchoRequest(id={port}, data=b'<<{marker}>>')]"
    )


ANSWERED = ["SA", "SA", "data", "data", "icmp", "icmp"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("to", [ECHO, FAR_ECHO])
def test_frames_that_policy_allows_are_answered(lab: api.Lab, way: Callable, to: str) -> None:
    """So that silence below means refusal and not a broken test."""
    assert way(lab, CAGED, begin(lab, CAGED, to, 41000 + WAYS.index(way))) == ANSWERED


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("to", [CLIENT, FAR_CLIENT])
def test_frames_that_egress_policy_refuses_do_not_leave(
    lab: api.Lab, way: Callable, to: str
) -> None:
    port = 42000 + WAYS.index(way)
    with hearing(lab, to) as heard:
        assert way(lab, CAGED, begin(lab, CAGED, to, port, marker="caged")) == [None] * 6
    assert heard == []
    name = to.rpartition("/")[2]
    wanted = {
        (protocol, "caged", name, "EGRESS_DENIED") for protocol in ("TCP", "UDP", "ICMP", "ICMP6")
    }
    eventually(lambda: refusals(lab, source="shop/caged") >= wanted)
    found = [f for f in flows(lab, source="shop/caged") if f.source.port == port]
    assert {(f.hook, f.policy, f.direction, f.node) for f in found} == {
        ("veth", "shop/caged", "outbound", "node1")
    }
    assert {f.protocol for f in found} == {"TCP", "UDP"}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("to", [VAULT, FAR_VAULT])
def test_frames_that_the_destinations_policy_refuses_get_nowhere(
    lab: api.Lab, way: Callable, to: str
) -> None:
    """A datagram may be an answer to something: the destination's own node refuses it."""
    port = 42100 + WAYS.index(way)
    with hearing(lab, to) as heard:
        assert way(lab, OUTSIDER, begin(lab, OUTSIDER, to, port, marker="in")) == [None] * 6
    assert set(heard) <= {"in-udp"}
    wanted = {("TCP", "veth"), ("UDP", "ingress")}
    eventually(
        lambda: (
            {
                (f.protocol, f.hook)
                for f in flows(lab, source="dev/outsider", verdict="DENY")
                if f.source.port == port
                and (f.policy, f.reason) == ("shop/vault", "INGRESS_DENIED")
            }
            == wanted
        )
    )


def test_a_process_of_another_cgroup_has_the_pods_rights(lab: api.Lab) -> None:
    """Real sockets, of a process that has entered the pod's network but is not its cgroup's."""
    for family in (0, 1):
        echo, client = addresses(lab, FAR_ECHO)[family], addresses(lab, FAR_CLIENT)[family]
        for program, port, more in ((DIAL, TCP, ()), (SEND, UDP, ("fresh",))):
            command = [sys.executable, "-c", program]
            allowed = foreign(lab, CAGED, [*command, echo, str(port), "2", *more])
            assert '"far-echo": 2' in allowed.stdout, allowed
            refused = foreign(lab, CAGED, [*command, client, str(port), "1", *more])
            assert '"TimeoutError": 1' in refused.stdout, refused


def test_a_process_of_no_cgroup_of_the_mesh_has_the_pods_rights(lab: api.Lab) -> None:
    """As ``ip netns exec`` from the machine."""
    command = [sys.executable, "-c", DIAL]
    space = lab.workload(CAGED).netns
    echo, client = addresses(lab, ECHO)[0], addresses(lab, FAR_CLIENT)[0]
    assert '"echo": 1' in outside(space, [*command, echo, str(TCP), "1"]).stdout
    assert '"TimeoutError": 1' in outside(space, [*command, client, str(TCP), "1"]).stdout


@pytest.mark.parametrize("way", WAYS)
def test_a_pod_sends_from_its_own_addresses_only(lab: api.Lab, way: Callable) -> None:
    (echo4, echo6), (far4, far6) = addresses(lab, ECHO), addresses(lab, FAR_ECHO)
    own4, _ = addresses(lab, CLIENT)
    node4 = lab.node("node1").address4
    spoofed = [f"IP(src='{s}', dst='{far4}')" for s in (echo4, node4, "203.0.113.9", "0.0.0.0")]
    spoofed += [f"IP(src='127.0.0.1', dst='{far4}')"]
    spoofed += [
        f"IPv6(src='{s}', dst='{far6}')"
        for s in (echo6, "2001:db8::9", "::", "fe80::1:2", f"::ffff:{own4}")
    ]
    with hearing(lab, FAR_ECHO) as heard:
        udp = [f"{ip}/UDP(sport=9, dport={UDP})/Raw(b'<<spoofed>>')" for ip in spoofed]
        tcp = [f"{ip}/TCP(sport=9, dport={TCP}, flags='S')" for ip in spoofed]
        packets = f"[{','.join([*udp, *tcp])}]"
        assert way(lab, CLIENT, packets, patience=0.05) == [None] * 20
    assert heard == []
    wanted = {(protocol, "client", "far-echo") for protocol in ("TCP", "UDP")}
    eventually(lambda: {r[:3] for r in refusals(lab) if r[3] == "SOURCE_SPOOFED"} >= wanted)
    claimed = {f.source.address for f in flows(lab, verdict="DENY") if f.reason == "SOURCE_SPOOFED"}
    assert {echo4, echo6} <= claimed, "the flow says which address was claimed"


def test_a_pod_speaks_for_its_own_addresses_only_in_arp_and_neighbour_discovery(
    lab: api.Lab,
) -> None:
    own4, own6 = addresses(lab, CLIENT)
    echo4, echo6 = addresses(lab, ECHO)
    before = refused(lab, "node1", "SOURCE_SPOOFED")
    sent = (
        f"[Ether(dst='ff:ff:ff:ff:ff:ff')/ARP(op=2, psrc='{echo4}', pdst='169.254.1.1'),"
        f" IPv6(src='{own6}', dst='fe80::1', hlim=255)/ICMPv6ND_NA(tgt='{echo6}', O=1),"
        f" IPv6(src='{own6}', dst='ff02::1', hlim=255)/ICMPv6ND_RA(),"
        f" IPv6(src='::', dst='ff02::1:ff00:1', hlim=255)/ICMPv6ND_NS(tgt='{echo6}')]"
    )
    assert frames(lab, CLIENT, sent, patience=0.1) == [None] * 4
    eventually(lambda: refused(lab, "node1", "SOURCE_SPOOFED") == before + 4)
    node4 = lab.node("node1").address4
    asked = (
        f"[Ether(dst='ff:ff:ff:ff:ff:ff')/ARP(op=1, psrc='{own4}', pdst='{node4}'),"
        f" IPv6(src='{own6}', dst='ff02::1', hlim=255)/ICMPv6ND_NA(tgt='{own6}', O=1),"
        f" IPv6(src='fe80::77', dst='ff02::2', hlim=255)/ICMPv6ND_RS()]"
    )
    assert frames(lab, CLIENT, asked, patience=0.3)[0] == "arp"
    assert refused(lab, "node1", "SOURCE_SPOOFED") == before + 4


def refused(lab: api.Lab, node: str, reason: str) -> int:
    """Packets that a node's agent counts as refused for a reason."""
    text = ask_unix(lab.agent_socket(node), "/metrics")
    lines = [
        x
        for x in text.splitlines()
        if x.startswith("hoplite_refused_packets_total") and f'reason="{reason}"' in x
    ]
    return int(sum(float(line.rpartition(" ")[2]) for line in lines))


def test_what_a_pod_forwards_is_policed_as_the_pods_own(lab: api.Lab) -> None:
    """By its own address a namespace behind the pod is nobody, by the pod's it is the pod."""
    own4 = addresses(lab, CAGED)[0]
    echo4, client4 = addresses(lab, ECHO)[0], addresses(lab, FAR_CLIENT)[0]
    with behind(lab, CAGED) as (send_from_behind, inner), hearing(lab, FAR_CLIENT) as heard:
        said = "Raw(b'<<behind>>')"
        send_from_behind(
            f"[IP(src='{inner}', dst='{client4}')/UDP(sport=8, dport={UDP})/{said},"
            f" IP(src='{inner}', dst='{echo4}')/UDP(sport=8, dport={UDP})/{said},"
            f" IP(src='{own4}', dst='{client4}')/UDP(sport=8, dport={UDP})/{said},"
            f" IP(src='{own4}', dst='{client4}')/TCP(sport=8, dport={TCP}, flags='S')]"
        )
    assert heard == []
    wanted = {
        ("UDP", "caged", "far-client", "SOURCE_SPOOFED"),
        ("UDP", "caged", "echo", "SOURCE_SPOOFED"),
        ("UDP", "caged", "far-client", "EGRESS_DENIED"),
        ("TCP", "caged", "far-client", "EGRESS_DENIED"),
    }
    eventually(lambda: refusals(lab) >= wanted)


def test_large_datagrams_arrive_whole(lab: api.Lab) -> None:
    """Fragments after a first one that was let through are let through."""
    program = (
        "import socket, sys\n"
        "for to in sys.argv[2:]:\n"
        "    family = socket.AF_INET6 if ':' in to else socket.AF_INET\n"
        "    s = socket.socket(family, socket.SOCK_DGRAM)\n"
        "    s.settimeout(5)\n"
        "    s.sendto(b'x' * 9000, (to, int(sys.argv[1])))\n"
        "    print(len(s.recvfrom(65536)[0]))\n"
    )
    command = [
        sys.executable,
        "-c",
        program,
        str(UDP),
        *addresses(lab, ECHO),
        *addresses(lab, FAR_ECHO),
    ]
    for answer in (lab.exec(CAGED, command), foreign(lab, CAGED, command)):
        sizes = [9000 + len(n) + 1 for n in ("echo", "echo", "far-echo", "far-echo")]
        assert answer.stdout.split() == [str(n) for n in sizes], answer


def test_fragments_hide_nothing(lab: api.Lab) -> None:
    own4, own6 = addresses(lab, CAGED)
    to4, to6 = addresses(lab, FAR_CLIENT)
    data = "Raw(b'<<part>>' * 300)"
    four = f"fragment(IP(src='{own4}', dst='{to4}', id=77)/UDP(sport=7, dport={UDP})/{data}, 1000)"
    six = (
        f"fragment6(IPv6(src='{own6}', dst='{to6}')/IPv6ExtHdrFragment(id=78)/"
        f"UDP(sport=7, dport={UDP})/{data}, 1000)"
    )
    syn = f"TCP(sport=7, dport={TCP}, flags='S')"
    tiny = (
        f"[IP(src='{own4}', dst='{to4}', id=79, flags='MF')/Raw(bytes({syn})[:8]),"
        f" IP(src='{own4}', dst='{to4}', id=79, frag=1, proto=6)/Raw(bytes({syn})[8:]+b'<<part>>')]"
    )
    with hearing(lab, FAR_CLIENT) as heard:
        for packets in (four, six, f"{four}[1:]", f"{six}[1:]", tiny):
            assert set(foreign_frames(lab, CAGED, packets, patience=0.05)) == {None}
    assert heard == []
    eventually(lambda: {"EGRESS_DENIED", "MALFORMED"} <= {r[3] for r in refusals(lab)})


def test_a_fragment_that_would_rewrite_ports_is_refused_where_the_first_one_may_pass(
    lab: api.Lab,
) -> None:
    """To a permitted destination, but the second fragment starts within the TCP header."""
    own4, echo4 = addresses(lab, CAGED)[0], addresses(lab, FAR_ECHO)[0]
    with hearing(lab, FAR_ECHO) as heard:
        packets = f"[IP(src='{own4}', dst='{echo4}', id=80, frag=2, proto=6)/Raw(b'<<rewrite>>')]"
        frames(lab, CAGED, packets, patience=0.05)
    assert heard == []


MALFORMED = (
    "Raw(bytes(IP(src=S4, dst=D4, proto=6))[:20] + b'\\x1b')",  # a TCP header of one byte
    "IP(src=S4, dst=D4, proto=17)/Raw(b'abc')",  # a UDP header of three
    "IP(src=S4, dst=D4, proto=6)/Raw(b'0123456789')",
    "IP(src=S4, dst=D4, ihl=15)/UDP(dport=7001)",  # options that are not there
    "IP(src=S4, dst=D4, version=5)/UDP(dport=7001)/Raw(b'<<bad>>')",
    "IP(src=S4, dst=D4, options=IPOption_LSRR(routers=[E4]))/UDP(dport=7001)/Raw(b'<<bad>>')",
    "IP(src=S4, dst=D4, options=b'\\x83\\xff\\x04\\x01')/UDP(dport=7001)/Raw(b'<<bad>>')",
    "IPv6(src=S6, dst=D6, nh=6)/Raw(b'x')",
    "IPv6(src=S6, dst=D6, nh=0)/Raw(b'\\x11\\xff')",  # an extension that ends nowhere
    "IPv6(src=S6, dst=D6)/IPv6ExtHdrRouting(addresses=[E6])/UDP(dport=7001)/Raw(b'<<bad>>')",
    "IPv6(src=S6, dst=D6)" + "/IPv6ExtHdrDestOpt()" * 8 + "/UDP(dport=7001)/Raw(b'<<bad>>')",
    "IPv6(src=S6, dst='::ffff:10.244.2.10')/UDP(dport=7001)/Raw(b'<<bad>>')",
    "Dot1Q(vlan=7)/IP(src=S4, dst=D4)/UDP(dport=7001)/Raw(b'<<bad>>')",
)


def test_what_cannot_be_understood_does_not_leave_a_closed_pod(lab: api.Lab) -> None:
    """Not even towards somebody it may talk to."""
    own4, own6 = addresses(lab, CAGED)
    to4, to6 = addresses(lab, FAR_ECHO)
    names = f"S4, S6, D4, D6, E4, E6 = {[own4, own6, to4, to6, *addresses(lab, FAR_CLIENT)]!r}"
    ether = "Ether(src=get_if_hwaddr('eth0'), dst='ee:ee:ee:ee:ee:ee', type={})/"
    made = [
        (ether.format("0x8100" if "Dot1Q" in p else "0x86dd" if "IPv6" in p else "0x800") + p)
        for p in MALFORMED
    ]
    before = refused(lab, "node1", "MALFORMED")
    with hearing(lab, FAR_ECHO) as heard, hearing(lab, FAR_CLIENT) as also_heard:
        packets = f"(exec({names!r}, globals()), [{', '.join(made)}])[1]"
        assert set(frames(lab, CAGED, packets, patience=0.05)) == {None}
    assert heard == also_heard == []
    eventually(lambda: refused(lab, "node1", "MALFORMED") - before >= len(MALFORMED) - 1)


def test_a_virtual_address_is_nothing_to_packets(lab: api.Lab) -> None:
    vip4, vip6 = virtual_addresses(lab, "shop", "echo")
    own4, own6 = addresses(lab, CLIENT)
    packets = (
        f"[IP(src='{own4}', dst='{vip4}')/TCP(sport=43000, dport=80, flags='S'),"
        f" IPv6(src='{own6}', dst='{vip6}')/TCP(sport=43000, dport=80, flags='S')]"
    )
    assert frames(lab, CLIENT, packets) == [None, None]
    eventually(
        lambda: (
            [(f.hook, f.reason) for f in flows(lab, verdict="DENY") if f.source.port == 43000]
            == [("veth", "UNTRANSLATED")] * 2
        )
    )
    assert dial(lab, CLIENT, vip4, 80)["answers"] in ({"echo": 1}, {"far-echo": 1})


def test_the_node_proxy_is_not_reached_by_packets(lab: api.Lab) -> None:
    own4 = addresses(lab, CLIENT)[0]
    packets = f"[IP(src='{own4}', dst='169.254.77.1')/TCP(sport=43100, dport=15001, flags='S')]"
    assert frames(lab, CLIENT, packets) == [None]
    eventually(
        lambda: (
            [(f.hook, f.reason) for f in flows(lab, verdict="DENY") if f.source.port == 43100]
            == [("veth", "PROXY_DIRECT")]
        )
    )

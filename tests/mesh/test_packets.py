"""Packets that no connect() hook has seen, made with scapy: the server's own node decides."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import pytest

from lab import api
from tests.mesh.asking import ask_unix, eventually, flows, send
from tests.mesh.test_datapath import LAB as DATAPATH_LAB
from tests.mesh.test_datapath import TCP, UDP

pytestmark = pytest.mark.root

# A node's address stands for its host-network workloads; here none of them may reach the vault.
LAB = DATAPATH_LAB.replace(
    "serviceAccount: host, network: host,\n        labels: {app: client}}",
    "serviceAccount: host, network: host,\n        labels: {app: other}}",
)
assert LAB != DATAPATH_LAB

# Sends each packet of a list given as Python text and prints the answers: flags of a TCP answer,
# "icmp" or "data" of another, None for silence. Runs in the node's own network namespace.
SCAPY = """
import json, logging, sys
logging.getLogger("scapy").setLevel(logging.ERROR)
from scapy.all import IP, IPv6, TCP, UDP, ICMP, Raw, conf, sr, IPv6ExtHdrDestOpt, IPv6ExtHdrHopByHop
conf.verb = 0
packets = eval(sys.argv[1])
found = [None] * len(packets)
answered, _ = sr(packets, timeout=1.5, retry=0)
for sent, got in answered:
    index = next(i for i, p in enumerate(packets) if p is sent or bytes(p) == bytes(sent))
    found[index] = str(got[TCP].flags) if TCP in got else "icmp" if ICMP in got else "data"
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def lab(make_lab: Callable[[str], api.Lab]) -> api.Lab:
    return make_lab(LAB)


def raw(lab: api.Lab, node: str, packets: str) -> list[Any]:
    """Send packets from a node's own namespace, past every socket hook."""
    done = lab.exec(node, [sys.executable, "-c", SCAPY, packets])
    assert done.returncode == 0, done.stderr
    found: list[Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_an_open_workload_answers_a_raw_syn(lab: api.Lab) -> None:
    """So that silence below means refusal and not a broken test."""
    own4, own6 = lab.workload("node2/shop/echo").addresses
    packets = (
        f"[IP(dst='{own4}')/TCP(sport=40001, dport={TCP}, flags='S'),"
        f" IPv6(dst='{own6}')/TCP(sport=40002, dport={TCP}, flags='S'),"
        f" IP(dst='{own4}')/UDP(sport=40003, dport={UDP})/Raw(b'x')]"
    )
    assert raw(lab, "node1", packets) == ["SA", "SA", "data"]


def test_a_closed_workload_is_silent_to_raw_packets(lab: api.Lab) -> None:
    own4, own6 = lab.workload("node2/shop/vault").addresses
    packets = (
        f"[IP(dst='{own4}')/TCP(sport=40011, dport={TCP}, flags='S', seq=7),"
        f" IPv6(dst='{own6}')/TCP(sport=40012, dport={TCP}, flags='S', seq=7),"
        f" IP(dst='{own4}')/UDP(sport=40013, dport={UDP})/Raw(b'x'),"
        f" IPv6(dst='{own6}')/UDP(sport=40014, dport={UDP})/Raw(b'x')]"
    )
    assert raw(lab, "node1", packets) == [None] * 4
    eventually(
        lambda: (
            {f.source.port for f in flows(lab, destination="shop/vault", verdict="DENY")}
            >= {40011, 40012, 40013, 40014}
        )
    )
    found = [f for f in flows(lab, destination="shop/vault") if f.source.port == 40011]
    assert [(f.direction, f.hook, f.reason, f.source.kind, f.source.node) for f in found] == [
        ("inbound", "ingress", "INGRESS_DENIED", "node", "node1")
    ]


def test_retransmissions_of_a_syn_are_one_refusal_and_every_packet_counts(lab: api.Lab) -> None:
    own = lab.workload("node2/shop/vault").addresses[0]
    before = refused_packets(lab)
    syn = f"IP(dst='{own}')/TCP(sport=40021, dport={TCP}, flags='S', seq=99)"
    for _ in range(3):
        assert raw(lab, "node1", f"[{syn}]") == [None]
    eventually(lambda: refused_packets(lab) == before + 3)
    found = [f for f in flows(lab, destination="shop/vault") if f.source.port == 40021]
    assert len(found) == 1


def test_options_and_extension_headers_hide_nothing(lab: api.Lab) -> None:
    own4, own6 = lab.workload("node2/shop/vault").addresses
    options = "[('MSS', 1460), ('NOP', None), ('WScale', 7), ('Timestamp', (1, 0))]"
    syn = f"TCP(sport=40031, dport={TCP}, flags='S'"
    packets = (
        f"[IP(dst='{own4}', options=b'\\x01\\x01\\x01\\x00')/{syn}),"
        f" IP(dst='{own4}')/{syn}, options={options}),"
        f" IP(dst='{own4}')/TCP(sport=40032, dport={TCP}, flags='SEC'),"
        f" IPv6(dst='{own6}')/IPv6ExtHdrDestOpt()/{syn}),"
        f" IPv6(dst='{own6}')/IPv6ExtHdrHopByHop()/IPv6ExtHdrDestOpt()/{syn})]"
    )
    assert raw(lab, "node1", packets) == [None] * 5


def test_a_spoofed_neighbour_is_still_held_to_its_policy(lab: api.Lab) -> None:
    """The source address decides here: one that policy does not let in stays out."""
    own = lab.workload("node2/shop/vault").addresses[0]
    outsider = lab.workload("node1/dev/outsider").addresses[0]
    packets = f"[IP(src='{outsider}', dst='{own}')/TCP(sport=40041, dport={TCP}, flags='S')]"
    assert raw(lab, "node1", packets) == [None]
    eventually(
        lambda: any(
            f.source.port == 40041 and f.source.name == "outsider"
            for f in flows(lab, destination="shop/vault", verdict="DENY")
        )
    )


def test_nobody_outside_speaks_as_the_servers_own_node(lab: api.Lab) -> None:
    """IPv6 lets such packets in, and policy lets in what comes from the node."""
    node = next(n for n in lab.record.plan.nodes if n.name == "node2").address6
    packets = (
        f"[IPv6(src='{node}', dst='{node}')/UDP(sport=40051, dport=7101)/Raw(b'x'),"
        f" IPv6(src='{node}', dst='{node}')/TCP(sport=40052, dport=7100, flags='S')]"
    )
    assert raw(lab, "node1", packets) == [None] * 2
    eventually(
        lambda: (
            {
                (f.source.port, f.verdict, f.reason)
                for f in flows(lab, destination="shop/host-echo", direction="inbound")
                if f.source.port in {40051, 40052}
            }
            == {(40051, "DENY", "SOURCE_SPOOFED"), (40052, "DENY", "SOURCE_SPOOFED")}
        )
    )
    assert send(lab, "node2", node, 7101)["answers"] == {"host": 1}


def refused_packets(lab: api.Lab) -> int:
    """What node2's agent says that it has dropped, over all pairs."""
    text = ask_unix(lab.agent_socket("node2"), "/metrics")
    lines = [x for x in text.splitlines() if x.startswith("hoplite_refused_packets_total")]
    return int(sum(float(line.rpartition(" ")[2]) for line in lines))

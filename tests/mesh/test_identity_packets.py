"""SYNs that no kernel of the mesh has made: forged, mangled, replayed, stripped of their tags.

The attacker sits in node1's own network namespace and has node1's keys: a stolen node. node3 stands
for anybody else.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from lab import api
from nodeagent.layout import NODE_KEY
from tests.mesh.asking import ask_agent, delete, dial, eventually, flows
from tests.mesh.programs import TCP, UDP, answering
from tests.mesh.tags import node_keys, option, sending_key, standing, wait_until_tagged
from tests.mesh.test_packets import raw

pytestmark = pytest.mark.root

LAB = f"""
apiVersion: lab.hoplite.io/v1alpha1
kind: Lab
spec:
  nodes:
  - name: node1
    workloads:
    - {{name: client, namespace: shop, labels: {{app: client}}}}
    - {{name: backup, namespace: shop, network: host, labels: {{app: client}}}}
    - {{name: browser, namespace: shop, network: host, labels: {{app: browser}}}}
  - name: node2
    workloads:
    - {{name: echo, namespace: shop, labels: {{app: echo}},
        ports: [{{name: tcp, port: 7000}}], {answering("echo")}}}
    - {{name: vault, namespace: shop, labels: {{app: vault}},
        ports: [{{name: tcp, port: 7000}}], {answering("vault")}}}
    - {{name: safe, namespace: shop, labels: {{app: safe}},
        ports: [{{name: tcp, port: 7000}}], {answering("safe")}}}
    - {{name: near, namespace: shop, labels: {{app: client}}}}
  - name: node3
    workloads:
    - {{name: far, namespace: shop, labels: {{app: client}}}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: vault, namespace: shop}}
spec:
  podSelector: {{matchLabels: {{app: vault}}}}
  ingress: [{{from: [{{podSelector: {{matchLabels: {{app: client}}}}}}]}}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: safe, namespace: shop, annotations: {{mesh.hoplite.io/identity: strict}}}}
spec:
  podSelector: {{matchLabels: {{app: safe}}}}
  ingress: [{{from: [{{podSelector: {{matchLabels: {{app: client}}}}}}]}}]
"""

BACKUP, BROWSER, CLIENT = ("shop", "backup"), ("shop", "browser"), ("shop", "client")
FAMILIES = pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])
PORTS = iter(range(20000, 60000))


@pytest.fixture(scope="module")
def lab(make_lab: Callable[[str], api.Lab]) -> api.Lab:
    made = make_lab(LAB)
    wait_until_tagged(made)
    return made


@dataclass(frozen=True)
class Syn:
    """A SYN from node1 (or with another source address), and what its tag is about."""

    lab: api.Lab
    to: str
    family: int = 0
    who: tuple[str, str] = BACKUP
    source: str = ""
    port: int = 0
    sequence: int = 1000
    key: tuple[bytes, int] | None = None

    @property
    def ends(self) -> tuple[tuple[str, int], tuple[str, int]]:
        node = self.lab.node("node1")
        source = self.source or (node.address4, node.address6)[self.family]
        address = self.lab.workload(f"node2/shop/{self.to}").addresses[self.family]
        return (source, self.port), (address, TCP)

    @property
    def option(self) -> bytes:
        """The option as a kernel that has the key would write it."""
        key = self.key or sending_key(self.lab, "node1", "node2")
        source, destination = self.ends
        return option(key, source, destination, self.sequence, self.who)

    def packet(
        self, options: bytes | None = None, words: int | None = None, data: bytes = b""
    ) -> str:
        """As scapy's text. ``options`` are padded to ``words`` of 4 bytes in the header."""
        (source, port), (destination, to) = self.ends
        body = self.option if options is None else options
        count = len(body) // 4 if words is None else words
        ip = ("IP", "IPv6")[self.family]
        header = f"sport={port}, dport={to}, flags='S', seq={self.sequence}, dataofs={5 + count}"
        return f"{ip}(src={source!r}, dst={destination!r})/TCP({header})/Raw({body + data!r})"


def syn(lab: api.Lab, to: str, **changes: object) -> Syn:
    return dataclasses.replace(Syn(lab, to, port=next(PORTS)), **changes)


def answers(lab: api.Lab, *packets: str, sender: str = "node1") -> list[str | None]:
    return raw(lab, sender, f"[{', '.join(packets)}]")


def reason(lab: api.Lab, of: Syn) -> str:
    """Why node2 refused it; waits until it says so."""

    def found() -> list[str]:
        return [
            f.reason
            for f in flows(lab, destination=f"shop/{of.to}", verdict="DENY", direction="inbound")
            if f.source.port == of.port
        ]

    eventually(lambda: bool(found()))
    return found()[-1]


# -- what a node may say ---------------------------------------------------------------------------


@FAMILIES
def test_what_a_kernel_would_write_is_believed(lab: api.Lab, family: int) -> None:
    """So that silence below means refusal and not a broken test."""
    good = [syn(lab, to, family=family).packet() for to in ("echo", "vault", "safe")]
    assert answers(lab, *good) == ["SA"] * 3


def test_a_stolen_node_can_speak_as_its_own_workloads_and_policy_holds_for_each(
    lab: api.Lab,
) -> None:
    browser = syn(lab, "vault", who=BROWSER)
    assert answers(lab, browser.packet()) == [None]
    assert reason(lab, browser) == "INGRESS_DENIED"
    eventually(
        lambda: any(
            f.source.name == "browser" and f.authenticated and f.source.port == browser.port
            for f in flows(lab, destination="shop/vault", verdict="DENY", direction="inbound")
        )
    )
    pod = lab.workload("node1/shop/client").addresses[0]
    sources = ("", pod)  # its own address or another one of its node
    packets = [syn(lab, "safe", who=CLIENT, source=source).packet() for source in sources]
    assert answers(lab, *packets) == ["SA"] * 2


@FAMILIES
def test_a_stolen_node_cannot_speak_as_anybody_elses_workload(lab: api.Lab, family: int) -> None:
    """Of the server's node, of a third one, of nobody; whether policy is open, closed or strict."""
    others = (
        ("shop", "near"),
        ("shop", "far"),
        ("shop", "safe"),
        ("shop", "nobody"),
        ("dev", "client"),
    )
    foreign = [
        syn(lab, to, family=family, who=who) for to in ("echo", "vault", "safe") for who in others
    ]
    assert answers(lab, *(one.packet() for one in foreign)) == [None] * len(foreign)
    assert {reason(lab, one) for one in foreign} == {"IDENTITY_FORGED"}


@FAMILIES
@pytest.mark.parametrize("to", ["vault", "safe"])
def test_a_stolen_node_cannot_speak_from_another_nodes_address(
    lab: api.Lab, to: str, family: int
) -> None:
    node3 = lab.node("node3")
    sources = (
        (node3.address4, node3.address6)[family],
        lab.workload("node3/shop/far").addresses[family],
        lab.workload("node2/shop/near").addresses[family],
        ("192.0.2.7", "2001:db8::7")[family],
    )
    claimed = (BACKUP, ("shop", "far"), ("shop", "near"))
    spoofed = [syn(lab, to, family=family, source=s, who=who) for s in sources for who in claimed]
    assert answers(lab, *(one.packet() for one in spoofed)) == [None] * len(spoofed)
    assert {reason(lab, one) for one in spoofed} == {"IDENTITY_FORGED"}


# -- what is not authentic -------------------------------------------------------------------------


@FAMILIES
def test_one_wrong_bit_anywhere_is_refused(lab: api.Lab, family: int) -> None:
    wrong = []
    for bit in (32, 63, 64, 100, 127):  # claim and tag
        one = syn(lab, "echo", family=family)
        number = int.from_bytes(one.option, "big") ^ 1 << (127 - bit)
        wrong.append((one, one.packet(number.to_bytes(16, "big"))))
    assert answers(lab, *(text for _, text in wrong)) == [None] * len(wrong)
    assert {reason(lab, one) for one, _ in wrong} == {"IDENTITY_FORGED"}


@FAMILIES
def test_a_tag_is_good_for_its_own_connection_only(lab: api.Lab, family: int) -> None:
    """Taken from one SYN and put into others: another port, sequence number, address, server."""
    real = syn(lab, "echo", family=family)
    others = (
        dataclasses.replace(real, port=next(PORTS)),
        dataclasses.replace(real, sequence=real.sequence + 1),
        dataclasses.replace(real, source=lab.workload("node1/shop/client").addresses[family]),
        dataclasses.replace(real, to="vault"),
    )
    packets = [other.packet(real.option) for other in others]
    assert answers(lab, *packets) == [None] * 4
    eventually(
        lambda: (
            len(
                [
                    f
                    for f in flows(lab, verdict="DENY", direction="inbound")
                    if f.reason == "IDENTITY_FORGED"
                    and f.source.port in (real.port, others[0].port)
                ]
            )
            >= 4
        )
    )


@FAMILIES
def test_the_same_syn_again_is_the_same_connection_again(lab: api.Lab, family: int) -> None:
    """A replay opens nothing that the first did not; its answer goes to whom the SYN names."""
    real = syn(lab, "safe", family=family).packet()
    assert answers(lab, real) == ["SA"]
    assert answers(lab, real) == ["SA"]


@FAMILIES
def test_a_syn_replayed_from_elsewhere_is_answered_to_its_real_source(
    lab: api.Lab, family: int
) -> None:
    real = syn(lab, "safe", family=family)
    assert answers(lab, real.packet(), sender="node3") == [None]
    node3 = lab.node("node3")
    mine = dataclasses.replace(real, source=(node3.address4, node3.address6)[family])
    assert answers(lab, mine.packet(real.option), sender="node3") == [None]
    assert reason(lab, mine) == "IDENTITY_FORGED"


@FAMILIES
def test_data_in_a_syn_are_nobodys(lab: api.Lab, family: int) -> None:
    """No tag speaks of them: a recorded SYN could be sent again with others (fast open)."""
    pod = lab.workload("node1/shop/client").addresses[family]
    strict = syn(lab, "safe", family=family, source=pod, who=CLIENT)
    by_address = syn(lab, "vault", family=family, source=pod, who=CLIENT)
    shared = syn(lab, "vault", family=family)
    packets = [one.packet(data=b"x") for one in (strict, by_address, shared)]
    assert answers(lab, *packets) == [None, "SA", None]
    assert reason(lab, strict) == "IDENTITY_REQUIRED"
    assert reason(lab, shared) == "INGRESS_DENIED", "its address stands for the browser too"


@FAMILIES
def test_a_key_that_is_shared_with_another_node_is_of_no_use(lab: api.Lab, family: int) -> None:
    pairs = (("node1", "node3"), ("node3", "node2"), ("node2", "node1"))
    others = [syn(lab, "echo", family=family, key=sending_key(lab, *pair)) for pair in pairs]
    assert answers(lab, *(other.packet() for other in others)) == [None] * 3
    assert {reason(lab, other) for other in others} == {"IDENTITY_FORGED"}


def test_an_epoch_that_is_not_kept_is_refused(lab: api.Lab) -> None:
    secret, epochs = sending_key(lab, "node1", "node2")
    old = [syn(lab, "echo", key=(secret, other)) for other in {*range(16)} - {epochs}]
    assert answers(lab, *(one.packet() for one in old)) == [None] * 15
    assert {reason(lab, one) for one in old} == {"IDENTITY_FORGED"}


def test_a_retransmitted_forgery_is_one_refusal(lab: api.Lab) -> None:
    forged = syn(lab, "echo", who=("shop", "far"))
    assert answers(lab, forged.packet()) == answers(lab, forged.packet()) == [None]
    eventually(lambda: reason(lab, forged) == "IDENTITY_FORGED")
    found = [
        f
        for f in flows(lab, destination="shop/echo", verdict="DENY")
        if f.source.port == forged.port
    ]
    assert len(found) == 1


# -- no tag ----------------------------------------------------------------------------------------


@FAMILIES
def test_without_a_tag_the_address_decides_unless_policy_is_strict(
    lab: api.Lab, family: int
) -> None:
    pod = lab.workload("node1/shop/client").addresses[family]
    stripped = syn(lab, "vault", family=family, source=pod)
    shared = syn(lab, "vault", family=family)
    strict = syn(lab, "safe", family=family, source=pod)
    packets = [one.packet(b"") for one in (stripped, shared, strict)]
    assert answers(lab, *packets) == ["SA", None, None]
    assert reason(lab, shared) == "INGRESS_DENIED", "not all workloads of the address may"
    assert reason(lab, strict) == "IDENTITY_REQUIRED"


@FAMILIES
def test_a_source_of_the_servers_own_node_is_not_enough_for_a_strict_policy(
    lab: api.Lab, family: int
) -> None:
    """Nobody on node2 has dialled this."""
    near = lab.workload("node2/shop/near").addresses[family]
    spoofed = syn(lab, "safe", family=family, source=near)
    assert answers(lab, spoofed.packet(b"")) == [None]
    assert reason(lab, spoofed) == "IDENTITY_REQUIRED"


MANGLED: dict[str, Callable[[bytes], tuple[bytes, int]]] = {
    "another kind": lambda o: (b"\xfe" + o[1:], 4),
    "too short": lambda o: (o[:1] + b"\x0f" + o[2:], 4),
    "too long": lambda o: (o[:1] + b"\x12" + o[2:] + b"\1\1\1\1", 5),
    "longer than the header": lambda o: (o[:1] + b"\xff" + o[2:], 4),
    "no length": lambda o: (o[:1] + b"\0" + o[2:], 4),
    "another experiment": lambda o: (o[:2] + b"\xf9\x89" + o[4:], 4),
    "cut off by the header's end": lambda o: (o[:12], 3),
    "cut off in its head": lambda o: (b"\1\1" + o[:2], 1),
    "followed by no-operations": lambda o: (o + b"\1\1\1\1", 5),
    "followed by the end": lambda o: (o + b"\0\0\0\0", 5),
    "twice, the second cut off": lambda o: (o + o[:12], 7),
    "after a length beyond the header": lambda o: (b"\x02\xff\x05\xb4" + o[:-4] + bytes(4), 5),
    "all no-operations": lambda _: (b"\1" * 40, 10),
    "all ends": lambda _: (b"\0" * 40, 10),
    "a header longer than the packet": lambda o: (o, 10),
    "a header shorter than a header": lambda o: (o, -2),
}


@FAMILIES
@pytest.mark.parametrize("to", ["vault", "safe"])
def test_a_mangled_option_lets_nobody_in(lab: api.Lab, to: str, family: int) -> None:
    """Whatever it is taken for: no tag or a false one. The address stands for the browser too."""
    packets = {
        f"{how}, {who}": bad.packet(*mangle(bad.option))
        for how, mangle in MANGLED.items()
        for who in (BACKUP, ("shop", "far"))
        for bad in (syn(lab, to, family=family, who=who),)
    }
    found = dict(zip(packets, answers(lab, *packets.values()), strict=True))
    assert found == dict.fromkeys(packets)
    address = lab.workload(f"node2/shop/{to}").addresses[family]
    assert dial(lab, "node1/shop/client", address, TCP)["answers"] == {to: 1}


@FAMILIES
def test_the_last_option_counts_whatever_stands_before_it(lab: api.Lab, family: int) -> None:
    """The end of the list, no-operations, a segment size, and one of its kind."""
    before = (
        b"\0\0\0\0",
        b"\1\1\1\1",
        b"\x02\x04\x05\xb4",
        struct.pack("!BBHI", 253, 8, 0x4850, 7),
    )
    good = [(b, syn(lab, "safe", family=family)) for b in before]
    assert answers(lab, *(o.packet(b + o.option) for b, o in good)) == ["SA"] * len(good)
    bad = [(b, syn(lab, "safe", family=family, who=("shop", "far"))) for b in before]
    assert answers(lab, *(o.packet(b + o.option) for b, o in bad)) == [None] * len(bad)


# -- datagrams -------------------------------------------------------------------------------------


def datagram(lab: api.Lab, to: str, source: str, port: int) -> str:
    family = int(":" in source)
    address = lab.workload(f"node2/shop/{to}").addresses[family]
    ip = ("IP", "IPv6")[family]
    return f"{ip}(src={source!r}, dst={address!r})/UDP(sport={port}, dport={UDP})/Raw(b'x')"


def refusal(lab: api.Lab, port: int) -> str:
    """Why node2 refused what came from a port."""
    found: list[str] = []

    def told() -> bool:
        refused = flows(lab, verdict="DENY", direction="inbound")
        found.extend(f.reason for f in refused if f.source.port == port)
        return bool(found)

    eventually(told)
    return found[-1]


@FAMILIES
def test_a_datagram_is_known_by_its_address_and_strict_policies_refuse_it(
    lab: api.Lab, family: int
) -> None:
    """One address that is a workload's, one that several share, one of the server's own node."""
    node = lab.node("node1")
    pod = lab.workload("node1/shop/client").addresses[family]
    near = lab.workload("node2/shop/near").addresses[family]
    shared = (node.address4, node.address6)[family]
    by_address, ambiguous = next(PORTS), next(PORTS)
    packets = [datagram(lab, "vault", pod, by_address), datagram(lab, "vault", shared, ambiguous)]
    assert answers(lab, *packets) == ["data", None]
    assert refusal(lab, ambiguous) == "INGRESS_DENIED"
    ports = {source: next(PORTS) for source in (pod, shared, near)}
    packets = [datagram(lab, "safe", source, port) for source, port in ports.items()]
    assert answers(lab, *packets) == [None] * 3
    assert refusal(lab, ports[pod]) == "IDENTITY_REQUIRED"
    assert refusal(lab, ports[shared]) == "INGRESS_DENIED"
    assert refusal(lab, ports[near]) == "IDENTITY_REQUIRED"


def test_what_comes_from_outside_with_the_receivers_own_address_is_policed(lab: api.Lab) -> None:
    """IPv4 stacks drop it; to IPv6 it is a packet like others."""
    own = lab.workload("node2/shop/safe").addresses[1]
    port = next(PORTS)
    spoofed = syn(lab, "safe", family=1, source=own)
    assert answers(lab, datagram(lab, "safe", own, port), spoofed.packet(b"")) == [None] * 2
    assert refusal(lab, port) == "INGRESS_DENIED"
    assert reason(lab, spoofed) == "INGRESS_DENIED"


# -- a node that is deleted ------------------------------------------------------------------------


def test_a_deleted_node_is_believed_no_more(lab: api.Lab) -> None:
    """It still has its keys and tags as before: nobody else does."""
    far, shared = "node3/shop/far", sending_key(lab, "node3", "node2")
    for to in ("vault", "safe"):
        for address in lab.workload(f"node2/shop/{to}").addresses:
            assert dial(lab, far, address, TCP)["answers"] == {to: 1}
    delete(lab, "node", "", "node3")
    eventually(lambda: standing(lab, "node2")["peers"] == ["node1"])
    assert not {NODE_KEY.unpack(key)[0] for key in node_keys(lab, "node2").values()} & {shared[0]}
    sources = lab.workload(far).addresses
    stolen = [
        syn(lab, to, family=family, source=sources[family], who=("shop", "far"), key=shared)
        for to in ("echo", "vault", "safe")
        for family in (0, 1)
    ]
    packets = [one.packet() for one in stolen]
    assert answers(lab, *packets, sender="node3") == [None] * len(stolen)
    assert {reason(lab, one) for one in stolen} == {"IDENTITY_FORGED"}
    for address in lab.workload("node2/shop/safe").addresses:
        assert dial(lab, far, address, TCP)["answers"] != {"safe": 1}


def test_nothing_of_this_has_upset_anybody(lab: api.Lab) -> None:
    for to in ("echo", "vault", "safe"):
        for address in lab.workload(f"node2/shop/{to}").addresses:
            assert dial(lab, "node1/shop/client", address, TCP)["answers"] == {to: 1}
    assert ask_agent(lab, "node2", "/config_dump")["inForce"]["problems"] == []

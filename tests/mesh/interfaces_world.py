"""A lab whose pods have raw sockets, and ways to send past every socket hook and to hear it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute

from lab import api, netns
from lab.plan import SYSTEM_CGROUP
from lab.processes import launcher, place_in, workload_env
from meshapi.flow import FlowEndpoint
from tests.mesh.asking import flows
from tests.mesh.programs import TCP, UDP, serving

GATEWAY_MAC = "ee:ee:ee:ee:ee:ee"  # lab/topology.py: the node's end of every pod's veth

# echo is open; vault is closed to all but the client; caged may reach echo only; sealed is both.
LAB = f"""
apiVersion: lab.hoplite.io/v1alpha1
kind: Lab
spec:
  nodes:
  - name: node1
    workloads:
    - {{name: echo, namespace: shop, serviceAccount: echo, labels: {{app: echo}},
        {serving("echo")}}}
    - {{name: vault, namespace: shop, serviceAccount: echo, labels: {{app: vault}},
        {serving("vault")}}}
    - {{name: caged, namespace: shop, serviceAccount: echo, labels: {{app: caged}},
        {serving("caged")}}}
    - {{name: client, namespace: shop, serviceAccount: client, labels: {{app: client}}}}
    - {{name: outsider, namespace: dev, serviceAccount: outsider, labels: {{app: outsider}}}}
  - name: node2
    workloads:
    - {{name: far-echo, namespace: shop, serviceAccount: echo, labels: {{app: echo}},
        {serving("far-echo")}}}
    - {{name: far-vault, namespace: shop, serviceAccount: echo, labels: {{app: vault}},
        {serving("far-vault")}}}
    - {{name: sealed, namespace: shop, serviceAccount: echo, labels: {{app: sealed}},
        {serving("sealed")}}}
    - {{name: far-client, namespace: shop, serviceAccount: client, labels: {{app: client}}}}
    - {{name: far-outsider, namespace: dev, serviceAccount: outsider, labels: {{app: outsider}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: echo, namespace: shop}}
spec: {{selector: {{app: echo}}, ports: [{{name: tcp, port: 80, targetPort: tcp}}]}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: vault, namespace: shop}}
spec:
  podSelector: {{matchLabels: {{app: vault}}}}
  policyTypes: [Ingress]
  ingress:
  - from: [{{podSelector: {{matchLabels: {{app: client}}}}}}]
    ports: [{{port: {TCP}}}, {{port: {UDP}, protocol: UDP}}, {{port: 7100}}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: caged, namespace: shop}}
spec:
  podSelector: {{matchLabels: {{app: caged}}}}
  policyTypes: [Egress]
  egress: [{{to: [{{podSelector: {{matchLabels: {{app: echo}}}}}}]}}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: sealed, namespace: shop}}
spec:
  podSelector: {{matchLabels: {{app: sealed}}}}
  policyTypes: [Ingress, Egress]
  ingress: [{{from: [{{podSelector: {{matchLabels: {{app: client}}}}}}]}}]
  egress: [{{to: [{{podSelector: {{matchLabels: {{app: echo}}}}}}]}}]
"""

# Sends each packet of a list (Python text) as a frame to the node and prints the answers: flags of
# a TCP answer, "icmp", "data" or "arp" of another, None for silence.
FRAMES = f"""
import json, logging, sys
logging.getLogger("scapy").setLevel(logging.ERROR)
from scapy.all import *
conf.verb = 0
ether = Ether(src=get_if_hwaddr("eth0"), dst="{GATEWAY_MAC}")
packets = [p if Ether in p else ether / p for p in eval(sys.argv[1])]
def name(got):
    if got is None:
        return None
    if TCP in got:
        return str(got[TCP].flags)
    if ARP in got:
        return "arp"
    return "icmp" if ICMP in got or "ICMPv6" in got.lastlayer().name or (
        ICMPv6EchoReply in got or ICMPv6ND_NA in got) else "data"
timeout = float(sys.argv[2])  # each alone, so that none is taken for another's answer
print(json.dumps([name(srp1(p, iface="eth0", timeout=timeout, retry=0)) for p in packets]))
"""

# Prints "ready", then collects the markers <<...>> in frames that arrive (or leave), until <<end>>.
HEAR = """
import json, re, socket
ear = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
ear.bind(("eth0", 0))
ear.settimeout(30)
print("ready", flush=True)
heard = []
while "end" not in heard:
    frame, about = ear.recvfrom(70000)
    if about[2] != 4:  # PACKET_OUTGOING
        heard += [m.decode() for m in re.findall(rb"<<([a-z0-9-]+)>>", frame)]
print(json.dumps(sorted(set(heard) - {"end"})))
"""

# Sends packets (Python text) as frames to a hardware address and listens to nothing.
TRANSMIT = """
import logging, sys
logging.getLogger("scapy").setLevel(logging.ERROR)
from scapy.all import *
conf.verb = 0
for packet in eval(sys.argv[2]):
    sendp(Ether(src=get_if_hwaddr("eth0"), dst=sys.argv[1]) / packet, iface="eth0")
"""

SEND_END = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
socket.socket(family, socket.SOCK_DGRAM).sendto(b"<<end>>", (sys.argv[1], 9))
"""


def frames(lab: api.Lab, target: str, packets: str, *, patience: float = 0.4) -> list[Any]:
    """Send frames from a pod's own packet socket; the answers."""
    return _answers(lab.exec(target, _frames(packets, patience)))


def foreign_frames(lab: api.Lab, target: str, packets: str, *, patience: float = 0.4) -> list[Any]:
    """The same from a process that is in the pod's network but not in its cgroup."""
    return _answers(foreign(lab, target, _frames(packets, patience)))


def foreign(lab: api.Lab, target: str, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a command in a pod's network, from its node's own cgroup."""
    return subprocess.run(
        _foreign_launcher(lab, target, command),
        env=workload_env({}, lab.record.names.home(target)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def foreign_popen(
    lab: api.Lab, target: str, command: Sequence[str], env: dict[str, str] | None = None
) -> subprocess.Popen[str]:
    """Start one there."""
    return subprocess.Popen(
        _foreign_launcher(lab, target, command),
        env=workload_env(env or {}, lab.record.names.home(target)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def outside(name: str, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a command in a network namespace as ``ip netns exec`` does: in nobody's cgroup."""
    return netns.within(
        name,
        lambda: subprocess.run(command, capture_output=True, text=True, timeout=60, check=False),
    )


@contextmanager
def hearing(lab: api.Lab, target: str) -> Iterator[list[str]]:
    """What comes to a pod's interface while the block runs; complete when it is left.

    A datagram of the node itself, which may reach every pod, ends it: what was sent before has
    arrived by then or never will.
    """
    heard: list[str] = []
    ear = foreign_popen(lab, target, [sys.executable, "-c", HEAR])
    try:
        assert ear.stdout is not None
        assert ear.stdout.readline() == "ready\n"
        yield heard
        node = target.partition("/")[0]
        address = lab.workload(target).addresses[0]
        done = lab.exec(node, [sys.executable, "-c", SEND_END, address])
        assert done.returncode == 0, done.stderr
        said, _ = ear.communicate(timeout=30)
        assert ear.returncode == 0, said
        heard += json.loads(said)
    finally:
        ear.kill()
        ear.wait()


@contextmanager
def behind(lab: api.Lab, target: str) -> Iterator[tuple[Callable[[str], None], str]]:
    """A namespace behind a pod that forwards: how to send packets from there, and its address."""
    pod = lab.workload(target).netns
    inner = f"{pod}-inner"
    netns.create(inner)
    try:
        mac = netns.within(pod, lambda: _plug_behind(inner))

        def transmit(packets: str) -> None:
            done = outside(inner, [sys.executable, "-c", TRANSMIT, mac, packets])
            assert done.returncode == 0, done.stderr

        yield transmit, "10.99.0.2"
    finally:
        netns.within(pod, _unplug_behind)
        netns.remove(inner)


def _plug_behind(inner: str) -> str:
    """Join a namespace to this one, which forwards from now on; this end's hardware address."""
    for key in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
        Path("/proc/sys/net", key).write_text("1")
    for key in ("ipv4/conf/all/rp_filter", "ipv4/conf/default/rp_filter"):
        Path("/proc/sys/net", key).write_text("0")
    Path("/proc/sys/net/ipv4/conf/all/accept_local").write_text("1")
    with IPRoute() as ip, netns.path(inner).open("rb") as space:
        peer = {"ifname": "eth0", "net_ns_fd": space.fileno()}
        ip.link("add", ifname="inner0", kind="veth", peer=peer)
        index = ip.link_lookup(ifname="inner0")[0]
        ip.link("set", index=index, state="up")
        ip.addr("add", index=index, address="10.99.0.1", prefixlen=24)
        mac: str = ip.get_links(index)[0].get_attr("IFLA_ADDRESS")
    netns.within(inner, _raise_inner)
    return mac


def _raise_inner() -> None:
    with IPRoute() as ip:
        ip.link("set", index=ip.link_lookup(ifname="eth0")[0], state="up")


def _unplug_behind() -> None:
    with IPRoute() as ip:
        ip.link("del", ifname="inner0")
    for key in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
        Path("/proc/sys/net", key).write_text("0")


def addresses(lab: api.Lab, target: str) -> tuple[str, str]:
    four, six = lab.workload(target).addresses
    return four, six


def _frames(packets: str, patience: float) -> list[str]:
    return [sys.executable, "-c", FRAMES, packets, str(patience)]


def _answers(done: subprocess.CompletedProcess[str]) -> list[Any]:
    assert done.returncode == 0, done.stderr
    found: list[Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _foreign_launcher(lab: api.Lab, target: str, command: Sequence[str]) -> list[str]:
    workload = lab.workload(target)
    cgroup = lab.cgroup(workload.node, SYSTEM_CGROUP)
    return launcher(place_in(cgroup, workload.netns), command)


def refusals(lab: api.Lab, hook: str = "veth", **query: Any) -> set[tuple[str, str, str, str]]:
    """Protocol, source, destination and reason of what was refused at a hook.

    A workload is its name, another end its address.
    """
    return {
        (f.protocol, _called(f.source), _called(f.destination), f.reason)
        for f in flows(lab, verdict="DENY", **query)
        if f.hook == hook
    }


def _called(end: FlowEndpoint) -> str:
    return end.name if end.kind == "workload" else end.address

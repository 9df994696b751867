"""A lab for load balancing: one server and clients on each of three nodes in two zones."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from typing import Any, Self

from msgspec.structs import replace

from lab import api
from meshapi.resources import MeshNode, Resource, Workload, by_word
from tests.mesh.asking import ask_agent, eventually, revisions
from tests.mesh.programs import serving

ZONE = "topology.kubernetes.io/zone"
PODS = [f"node1/shop/pod{i}" for i in range(1, 4)]
HOSTS = ["node1/shop/host1", "node1/shop/host2"]
SERVERS = {"one": "node1", "two": "node2", "three": "node3"}


def _client(name: str, network: str = "pod") -> str:
    return (
        f"    - {{name: {name}, namespace: shop, serviceAccount: {name}, network: {network}, "
        f"labels: {{app: {name}}}}}\n"
    )


def _node(number: int, zone: str, who: str, more: str) -> str:
    return f"""  - name: node{number}
    labels: {{{ZONE}: {zone}}}
    workloads:
    - {{name: web{number}, namespace: shop, serviceAccount: web, labels: {{app: web}},
        {serving(who)}}}
{more}"""


def service(name: str, **spec: Any) -> str:
    """The servers of all three nodes, on TCP 80 and UDP 53."""
    more = "".join(f"\n  {key}: {json.dumps(value)}" for key, value in spec.items())
    return f"""
---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: shop}}
spec:
  selector: {{app: web}}
  ports: [{{name: tcp, port: 80, targetPort: tcp}},
          {{name: udp, port: 53, protocol: UDP, targetPort: udp}}]{more}
"""


def policy(name: str, target: str, **spec: Any) -> str:
    """A TrafficPolicy for one service."""
    refs = [{"kind": "Service", "name": target}]
    return json.dumps(
        {
            "apiVersion": "mesh.hoplite.io/v1alpha1",
            "kind": "TrafficPolicy",
            "metadata": {"name": name, "namespace": "shop"},
            "spec": {"targetRefs": refs, **spec},
        }
    )


LAB = (
    "apiVersion: lab.hoplite.io/v1alpha1\nkind: Lab\nspec:\n  nodes:\n"
    + _node(
        1,
        "east",
        "one",
        "".join(_client(t.rpartition("/")[2]) for t in PODS)
        + "".join(_client(t.rpartition("/")[2], "host") for t in HOSTS),
    )
    + _node(2, "east", "two", _client("far"))
    + _node(3, "west", "three", _client("west"))
    + service("web")
)


def change(lab: api.Lab, kind: str, name: str, edit: Any) -> None:
    """Change one object of namespace shop (or none) and wait until every node has it in force."""

    async def send() -> int:
        async with lab.endpoint.client() as client:
            namespace = "" if kind == "meshnode" else "shop"
            found = await client.get(by_word(kind), namespace, name)
            return (await client.apply([edit(found)])).revision

    enforced(lab, asyncio.run(send()))


def enforced(lab: api.Lab, revision: int) -> None:
    eventually(lambda: all(r >= revision for r in revisions(lab).values()))


def get(lab: api.Lab, kind: str, name: str) -> Resource:
    async def ask() -> Resource:
        async with lab.endpoint.client() as client:
            return await client.get(by_word(kind), "" if kind == "meshnode" else "shop", name)

    return asyncio.run(ask())


def make_again(lab: api.Lab, workload: Workload) -> None:
    """Create a Workload that was deleted and wait until it takes connections."""
    meta = replace(workload.metadata, resource_version="", uid="")
    fresh = replace(workload, metadata=meta)

    async def send() -> int:
        async with lab.endpoint.client() as client:
            return (await client.apply([fresh])).revision

    enforced(lab, asyncio.run(send()))
    eventually(lambda: get_workload(lab, meta.name).status.ready)


def get_workload(lab: api.Lab, name: str) -> Workload:
    found = get(lab, "workload", name)
    assert isinstance(found, Workload)
    return found


def weigh(lab: api.Lab, name: str, weight: int) -> None:
    def edit(found: Resource) -> Resource:
        assert isinstance(found, Workload)
        return replace(found, spec=replace(found.spec, weight=weight))

    change(lab, "workload", name, edit)


def label(lab: api.Lab, kind: str, name: str, **labels: str) -> None:
    def edit(found: Resource) -> Resource:
        assert isinstance(found, Workload | MeshNode)
        meta = replace(found.metadata, labels={**found.metadata.labels, **labels})
        return replace(found, metadata=meta)

    change(lab, kind, name, edit)


def workload_name(lab: api.Lab, who: str) -> str:
    """The name of the Workload whose server answers ``who``."""
    node = SERVERS[who]
    number = node.removeprefix("node")
    return lab.workload(f"{node}/shop/web{number}").resource


def in_kernel(lab: api.Lab, node: str, name: str) -> list[dict[str, Any]]:
    """The entries of one of a node's kernel maps."""
    found: list[dict[str, Any]] = ask_agent(lab, node, f"/maps/{name}")
    return found


# Holds TCP connections, connected UDP sockets and unconnected ones open, speaks on each of them all
# the time, and says at the end (SIGTERM) what went wrong. "moved": somebody else answers.
KEEP = """
import errno, json, signal, socket, sys, time
address, tcp, udp, each = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
family = socket.AF_INET6 if ":" in address else socket.AF_INET
ends, found = [], {"exchanged": 0, "errors": {}, "wrong": 0, "moved": 0, "backends": {}}
stop = False

def terminate(*_):
    global stop
    stop = True

signal.signal(signal.SIGTERM, terminate)

def note(error):
    name = errno.errorcode.get(error.errno or 0, type(error).__name__)
    found["errors"][name] = found["errors"].get(name, 0) + 1

def exact(end, size):
    data = b""
    while len(data) < size:
        part = end.recv(size - len(data))
        if not part:
            raise ConnectionResetError(errno.ECONNRESET, "closed")
        data += part
    return data

for kind in ("tcp", "connected", "unconnected"):
    for _ in range(each):
        if kind == "tcp":
            end = socket.create_connection((address, tcp), timeout=5)
            who = end.recv(99).decode()
        else:
            end = socket.socket(family, socket.SOCK_DGRAM)
            end.settimeout(5)
            who = ""
            if kind == "connected":
                end.connect((address, udp))
        ends.append([kind, end, who])
print("ready", flush=True)
round = 0
while not stop:
    round += 1
    text = b"%d" % round
    for entry in ends:
        kind, end, who = entry
        try:
            if kind == "tcp":
                end.sendall(text)
                if exact(end, len(text)) != text:
                    found["wrong"] += 1
            else:
                if kind == "connected":
                    end.send(text)
                else:
                    end.sendto(text, (address, udp))
                data, peer = end.recvfrom(99)
                answer, _, echoed = data.decode().partition(":")
                if echoed.encode() != text or peer[0] != address or peer[1] != udp:
                    found["wrong"] += 1
                if who and answer != who:
                    found["moved"] += 1
                entry[2] = answer
            found["exchanged"] += 1
        except OSError as error:
            note(error)
    time.sleep(0.002)
for kind, _, who in ends:
    found["backends"].setdefault(kind, {}).setdefault(who, 0)
    found["backends"][kind][who] += 1
print(json.dumps(found))
"""


class Keeper:
    """Connections that are open and in use for as long as the ``with`` lasts; then ``found``."""

    def __init__(self, lab: api.Lab, target: str, address: str, each: int = 6) -> None:
        command = [sys.executable, "-c", KEEP, address, "80", "53", str(each)]
        self._child: subprocess.Popen[str] = lab.popen(target, command)
        self.found: dict[str, Any] = {}

    def __enter__(self) -> Self:
        assert self._child.stdout is not None
        assert self._child.stdout.readline() == "ready\n", self._child.communicate()
        return self

    def __exit__(self, *_: object) -> None:
        self._child.send_signal(signal.SIGTERM)
        out, _ = self._child.communicate(timeout=60)
        self.found = json.loads(out)

    def assert_unharmed(self) -> None:
        assert self.found["exchanged"] > 0
        assert (self.found["errors"], self.found["wrong"]) == ({}, 0)

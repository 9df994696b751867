"""A mesh to resolve names of, and sockets on the loopback device to ask over."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from typing import Any, TypeVar

import dns.message
import dns.rcode
import dns.rrset
import msgspec
import pytest
import uvloop

from meshapi.endpoint import Endpoint
from meshapi.manifests import parse
from meshapi.resources import Service, key_of
from meshapi.watch import Snapshot
from nodeagent.dns.zone import Zone, labels
from nodeagent.state import NodeState, build

T = TypeVar("T")
Run = Callable[[Coroutine[Any, Any, T]], T]

MESH = """
{apiVersion: v1, kind: Namespace, metadata: {name: shop}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: empty}}
---
{apiVersion: mesh.hoplite.io/v1alpha1, kind: MeshNode, metadata: {name: n1},
 spec: {addresses: [172.30.0.11, "fd00:30::11"], proxyAddresses: [10.244.1.254]}}
---
{apiVersion: mesh.hoplite.io/v1alpha1, kind: MeshNode, metadata: {name: n2},
 spec: {addresses: [172.30.0.12]}}
---
apiVersion: mesh.hoplite.io/v1alpha1
kind: Workload
metadata: {name: frontend, namespace: shop}
spec: {nodeName: n1, cgroup: pods/frontend, addresses: [10.244.1.11, "FD00:244:1:0::11"]}
status: {ready: true}
---
apiVersion: mesh.hoplite.io/v1alpha1
kind: Workload
metadata: {name: db-0, namespace: shop, labels: {app: db}}
spec:
  nodeName: n2
  cgroup: pods/db-0
  addresses: [10.244.2.11, "fd00:244:2::11"]
  ports: [{name: sql, port: 5432}]
status: {ready: true}
---
apiVersion: mesh.hoplite.io/v1alpha1
kind: Workload
metadata: {name: b.db-1, namespace: shop, labels: {app: db}}
spec:
  nodeName: n2
  cgroup: pods/db-1
  addresses: [10.244.2.12]
  ports: [{name: sql, port: 15432}]
status: {ready: true}
---
apiVersion: mesh.hoplite.io/v1alpha1
kind: Workload
metadata: {name: db-2, namespace: shop, labels: {app: db}}
spec: {nodeName: n2, cgroup: pods/db-2, addresses: [10.244.2.13]}
---
apiVersion: mesh.hoplite.io/v1alpha1
kind: Workload
metadata: {name: db-3, namespace: shop, labels: {app: db}}
spec: {nodeName: n2, cgroup: host/db-3, network: host, ports: [{name: sql, port: 25432}]}
status: {ready: true}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  selector: {app: web}
  clusterIPs: [10.96.0.5, "fd00:96::5"]
  ports: [{name: http, port: 80}, {name: dns, port: 53, protocol: UDP}]
---
apiVersion: v1
kind: Service
metadata: {name: four, namespace: shop}
spec: {selector: {app: four}, clusterIPs: [10.96.0.6], ports: [{port: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {selector: {app: db}, ports: [{name: sql, port: 5432, targetPort: sql}]}
---
apiVersion: v1
kind: Service
metadata: {name: nobody, namespace: shop}
spec: {selector: {app: nobody}, ports: [{name: sql, port: 5432}]}
"""


def state_of(text: str, node: str = "n1", revision: int = 7) -> NodeState:
    objects = [m.resource for m in parse(text, "mesh")]
    return build(node, Snapshot(revision, {key_of(o): o for o in objects}))


@pytest.fixture(scope="session")
def state() -> NodeState:
    return state_of(MESH)


@pytest.fixture(scope="session")
def zone(state: NodeState) -> Zone:
    return Zone(state, labels("hoplite.local"))


@pytest.fixture
def run() -> Run[Any]:
    """Runs a coroutine on the event loop that the agent has."""

    def on_uvloop(work: Coroutine[Any, Any, T]) -> T:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(work)

    return on_uvloop


def headless(service: Service) -> Service:
    """As Kubernetes writes it."""
    spec = msgspec.structs.replace(service.spec, cluster_ip="None", cluster_ips=("None",))
    return msgspec.structs.replace(service, spec=spec)


def free_endpoint(address: str = "127.0.0.1") -> Endpoint:
    """A port that is free for UDP and TCP."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    while True:
        with socket.socket(family, socket.SOCK_DGRAM) as datagrams:
            datagrams.bind((address, 0))
            port = datagrams.getsockname()[1]
            try:
                socket.create_server((address, port), family=family).close()
            except OSError:
                continue
            return Endpoint(address, port)


class Upstream:
    """A resolver of somebody else, on a thread: ``behave`` says what it sends for a query."""

    def __init__(self, behave: Callable[[bytes], list[bytes]], *, tcp: bool = False) -> None:
        self.endpoint = free_endpoint()
        self.heard: list[bytes] = []
        self._behave = behave
        place = (self.endpoint.address, self.endpoint.port)
        if tcp:
            self._socket = socket.create_server(place)
        else:
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._socket.bind(place)
        work = self._streams if tcp else self._datagrams
        self._thread = threading.Thread(target=work, daemon=True)
        self._thread.start()

    def _datagrams(self) -> None:
        while True:
            try:
                wire, peer = self._socket.recvfrom(4096)
                if not wire:
                    return  # closed
                self.heard.append(wire)
                for datagram in self._behave(wire):
                    self._socket.sendto(datagram, peer)
            except OSError:
                return

    def _streams(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
                with connection:
                    size = int.from_bytes(connection.recv(2), "big")
                    self.heard.append(connection.recv(size))
                    for message in self._behave(self.heard[-1]):
                        connection.sendall(message)
            except OSError:
                return

    def close(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(5)


@pytest.fixture
def upstream() -> Iterator[Callable[..., Upstream]]:
    """Makes resolvers; they end with the test."""
    made: list[Upstream] = []

    def make(behave: Callable[[bytes], list[bytes]], **more: bool) -> Upstream:
        made.append(Upstream(behave, **more))
        return made[-1]

    yield make
    for one in made:
        one.close()


def honest(address: str = "192.0.2.1") -> Callable[[bytes], list[bytes]]:
    """Answers every A query with ``address``."""

    def behave(wire: bytes) -> list[bytes]:
        query = dns.message.from_wire(wire)
        reply = dns.message.make_response(query)
        name = query.question[0].name
        reply.answer.append(dns.rrset.from_text(name, 60, "IN", "A", address))
        return [reply.to_wire()]

    return behave


def saying(rcode: dns.rcode.Rcode) -> Callable[[bytes], list[bytes]]:
    def behave(wire: bytes) -> list[bytes]:
        reply = dns.message.make_response(dns.message.from_wire(wire))
        reply.set_rcode(rcode)
        return [reply.to_wire()]

    return behave


def silent(_: bytes) -> list[bytes]:
    return []

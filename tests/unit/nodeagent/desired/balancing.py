"""A mesh of three nodes in two zones with one service, for tests of load balancing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from meshapi.codec import decode
from meshapi.resources import Key, Resource, key_of
from meshapi.watch import Snapshot
from nodeagent import layout
from nodeagent.desired.compiler import Compiler
from nodeagent.desired.units import Facts
from nodeagent.layout import End, address_bytes, address_text, port_bytes
from nodeagent.state import Changes, advance, build, difference

ZONE = "topology.kubernetes.io/zone"
SERVICE, PORT = "10.96.0.1", 80
ZONES = {"n1": "east", "n2": "east", "n3": "west"}


def workload(
    name: str,
    node: str,
    address: str,
    *,
    weight: int = 1,
    ready: bool = True,
    unhealthy: tuple[int, ...] = (),
    labels: dict[str, str] | None = None,
) -> Resource:
    return decode(
        {
            "apiVersion": "mesh.hoplite.io/v1alpha1",
            "kind": "Workload",
            "metadata": {"name": name, "namespace": "shop", "labels": labels or {"app": "web"}},
            "spec": {
                "nodeName": node,
                "cgroup": f"pods/{name}",
                "addresses": [address, f"fd00:244::{address.replace('.', ':')}"],
                "ports": [{"name": "http", "port": 8080}],
                "weight": weight,
            },
            "status": {"identity": 300, "ready": ready, "unhealthyPorts": list(unhealthy)},
        }
    )


def service(**spec: Any) -> Resource:
    return decode(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {
                "selector": {"app": "web"},
                "clusterIPs": [SERVICE, "fd00:96::1"],
                "ports": [
                    {"name": "http", "port": PORT, "targetPort": "http"},
                    {"name": "udp", "port": 53, "protocol": "UDP", "targetPort": 8080},
                ],
                **spec,
            },
        }
    )


def policy(name: str = "web", targets: tuple[str, ...] = ("web",), **spec: Any) -> Resource:
    refs = [{"kind": "Service", "name": target} for target in targets]
    return decode(
        {
            "apiVersion": "mesh.hoplite.io/v1alpha1",
            "kind": "TrafficPolicy",
            "metadata": {"name": name, "namespace": "shop"},
            "spec": {"targetRefs": refs, **spec},
        }
    )


def cut_off(name: str) -> Resource:
    """A Quarantine of a workload."""
    return decode(
        {
            "apiVersion": "mesh.hoplite.io/v1alpha1",
            "kind": "Quarantine",
            "metadata": {"name": name, "namespace": "shop"},
            "spec": {"workload": name},
        }
    )


def node(name: str, zone: str) -> Resource:
    return decode(
        {
            "apiVersion": "mesh.hoplite.io/v1alpha1",
            "kind": "MeshNode",
            "metadata": {"name": name, "labels": {ZONE: zone} if zone else {}},
            "spec": {"addresses": [f"172.30.0.{name[1:]}"]},
        }
    )


@dataclass
class Node:
    """What the agent of n1 compiles, change by change."""

    objects: dict[Key, Resource] = field(default_factory=dict)
    facts: Facts = field(default_factory=Facts)
    compiler: Compiler = field(default_factory=lambda: Compiler("n1"))

    def tell(self, *resources: Resource, gone: tuple[Key, ...] = (), **facts: Any) -> None:
        objects = {k: o for k, o in self.objects.items() if k not in gone}
        objects |= {key_of(o): o for o in resources}
        snapshot = Snapshot(self.compiler.state.revision + 1, objects)
        changes = difference(self.objects, snapshot)
        self.facts = Facts(**{"cgroups": self.facts.cgroups, **facts})
        state = advance(self.compiler.state, snapshot, changes)
        self.compiler.update(state, changes, self.facts)
        self.objects = objects
        assert self.compiler.tables == self._alone().tables

    def _alone(self) -> Compiler:
        compiler = Compiler("n1")
        snapshot = Snapshot(1, self.objects)
        compiler.update(build("n1", snapshot), Changes({}, self.objects), self.facts)
        return compiler

    def entry(self, port: int = PORT, protocol: str = "TCP") -> layout.Service:
        """The service's entry at its IPv4 address."""
        number = layout.PROTOCOLS[protocol]
        key = layout.ENDPOINT.pack(address_bytes(SERVICE), port_bytes(port), number)
        return layout.Service(*layout.SERVICE.unpack(self.compiler.tables["services"][key]))

    def drawn(self) -> set[str]:
        """The addresses that new connections to the service's TCP port may get."""
        entry, tables = self.entry(), self.compiler.tables
        found = set()
        for index in range(entry.slots):
            key = layout.SLOT_KEY.pack(entry.id, entry.epoch, index)
            first, second, threshold = layout.SLOT.unpack(tables["slots"][key])
            found |= {first} | ({second} if threshold < 0xFFFFFFFF else set())
        raw = (tables["backends"][layout.BACKEND_KEY.pack(number)] for number in found)
        return {address_text(layout.BACKEND.unpack(value)[0]) for value in raw}

    def kept(self) -> set[str]:
        """The addresses that are somebody's backend but get nothing new."""
        found = (layout.BACKEND.unpack(v) for v in self.compiler.tables["backends"].values())
        return {address_text(b[0]) for b in found if b[2] & End.RESTS and layout.is4(b[0])}

    def belonging(self) -> set[str]:
        """The addresses that belong to the service."""
        found = (layout.BACKEND.unpack(v) for v in self.compiler.tables["backends"].values())
        return {address_text(b[0]) for b in found if layout.is4(b[0])}


HERE, EAST, WEST = "10.244.1.1", "10.244.2.1", "10.244.3.1"


def mesh(*more: Resource, **spec: Any) -> Node:
    """One backend on each node: HERE, in the same zone (EAST) and in another one (WEST)."""
    made = Node()
    made.tell(
        *(node(name, zone) for name, zone in ZONES.items()),
        service(**spec),
        workload("here", "n1", HERE),
        workload("east", "n2", EAST),
        workload("west", "n3", WEST),
        *more,
    )
    return made

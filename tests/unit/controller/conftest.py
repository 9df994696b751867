"""Short forms of resources and states for the unit tests of the controller."""

from __future__ import annotations

import ipaddress
import itertools
from typing import Any

import pytest

from controller.admission import Plan, Rules, admit
from controller.state import State
from meshapi import codec
from meshapi.resources import Resource, key_of
from meshapi.wire import NodeReport

_VERSIONS = {
    "Namespace": "v1",
    "Service": "v1",
    "HTTPRoute": "gateway.networking.k8s.io/v1",
    "NetworkPolicy": "networking.k8s.io/v1",
}
_UIDS = itertools.count()


class Make:
    """Everything lives in namespace ``shop`` unless told otherwise."""

    rules = Rules(
        trust_domain="test.local",
        ranges=(ipaddress.ip_network("10.96.0.0/16"), ipaddress.ip_network("fd00:96::/112")),
        now=lambda: "2026-01-01T00:00:00Z",
        new_uid=lambda: f"uid-{next(_UIDS)}",
    )

    @staticmethod
    def resource(kind: str, name: str, spec: dict[str, Any], **metadata: Any) -> Any:
        spaced = {} if kind in ("Namespace", "MeshNode") else {"namespace": "shop"}
        return codec.decode(
            {
                "apiVersion": _VERSIONS.get(kind, "mesh.hoplite.io/v1alpha1"),
                "kind": kind,
                "metadata": {"name": name, **spaced, **metadata},
                "spec": spec,
            }
        )

    def namespace(self, name: str = "shop") -> Any:
        return self.resource("Namespace", name, {})

    def node(self, name: str, *addresses: str) -> Any:
        return self.resource("MeshNode", name, {"addresses": list(addresses)})

    def service(self, name: str = "web", namespace: str = "shop", **spec: Any) -> Any:
        given = {"selector": {"app": name}, "ports": [{"port": 80}], **spec}
        return self.resource("Service", name, given, namespace=namespace)

    def workload(self, name: str, node: str = "n1", address: str = "", **more: Any) -> Any:
        network = {"addresses": [address]} if address else {"network": "host"}
        spec = {"nodeName": node, "cgroup": f"pods/{name}", **network, **more.pop("spec", {})}
        metadata = {"labels": {"app": name.partition("-")[0]}, **more}
        return self.resource("Workload", name, spec, **metadata)

    def route(self, name: str, parent: str = "web", *backends: str, port: int = 80) -> Any:
        refs = [{"name": b, "port": port} for b in backends]
        spec = {
            "parentRefs": [{"kind": "Service", "name": parent}],
            "rules": [{"backendRefs": refs}],
        }
        return self.resource("HTTPRoute", name, spec)

    def policy(self, name: str, **labels: str) -> Any:
        return self.resource("NetworkPolicy", name, {"podSelector": {"matchLabels": labels}})

    def plan(self, state: State, *wanted: Resource) -> Plan:
        return admit(state, wanted, self.rules)

    def state(self, *wanted: Resource, base: State | None = None) -> State:
        """The state after ``wanted`` was admitted into ``base``; namespace ``shop`` is there."""
        before = base or self.applied(State(), self.plan(State(), self.namespace()))
        return self.applied(before, self.plan(before, *wanted))

    @staticmethod
    def applied(state: State, plan: Plan) -> State:
        """What the ledger makes of a plan, without a store."""
        changes: dict[Any, Any] = {}
        revision = state.revision
        for write in plan.writes:
            revision += 1
            new: Any = write.new
            if new is not None:
                value = codec.encode(new)
                value["metadata"]["resourceVersion"] = str(revision)
                new = codec.decode(value)
            changes[write.key] = new
        return state.with_changes(changes, revision=revision, identities=plan.identities)

    @staticmethod
    def deleted(state: State, *resources: Resource) -> State:
        changes = {key_of(r): None for r in resources}
        return state.with_changes(changes, revision=state.revision + len(changes))

    @staticmethod
    def report(revision: int, component: str = "agent", **more: Any) -> NodeReport:
        given = {"component": component, "revision": revision, "version": "t", "ready": True}
        return NodeReport(**{**given, **more})


@pytest.fixture(scope="session")
def make() -> Make:
    return Make()

"""Short forms of resources and states for the unit tests of the controller."""

from __future__ import annotations

import ipaddress
import itertools
from typing import Any

import pytest

from controller.admission import Plan, Rules, admit
from controller.state import State
from meshapi import codec
from meshapi.resources import KINDS, Resource, key_of
from meshapi.wire import NodeReport

_KINDS = {kind.name: kind for kind in KINDS}
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
        spaced = {"namespace": "shop"} if _KINDS[kind].namespaced else {}
        return codec.decode(
            {
                "apiVersion": _KINDS[kind].api_version,
                "kind": kind,
                "metadata": {"name": name, **spaced, **metadata},
                "spec": spec,
            }
        )

    def namespace(self, name: str = "shop", **labels: str) -> Any:
        return self.resource("Namespace", name, {}, labels=labels)

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

    def cluster_policy(self, name: str, subject: dict[str, Any], **spec: Any) -> Any:
        given = {"tier": "Admin", "priority": 1, "subject": subject, **spec}
        return self.resource("ClusterNetworkPolicy", name, given)

    def authorization(self, name: str, namespace: str = "shop", **labels: str) -> Any:
        spec = {"selector": {"matchLabels": labels}} if labels else {}
        return self.resource("AuthorizationPolicy", name, spec, namespace=namespace)

    def traffic(self, name: str, *services: str, namespace: str = "shop") -> Any:
        refs = [{"kind": "Service", "name": s} for s in services or (name,)]
        spec = {"targetRefs": refs, "outlierDetection": {}}
        return self.resource("TrafficPolicy", name, spec, namespace=namespace)

    def quarantine(self, name: str, workload: str = "", **spec: Any) -> Any:
        return self.resource("Quarantine", name, {"workload": workload or name, **spec})

    def blocks(self, name: str, *cidrs: str) -> Any:
        return self.resource("BlockList", name, {"cidrs": list(cidrs)})

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

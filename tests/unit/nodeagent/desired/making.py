"""Small meshes, object by object."""

from __future__ import annotations

from typing import Any

from meshapi.codec import decode
from meshapi.resources import Key, Resource, key_of
from meshapi.watch import Snapshot
from nodeagent.state import NodeState, build

MESH = "mesh.hoplite.io/v1alpha1"


def made(version: str, kind: str, name: str, namespace: str = "", **more: Any) -> Resource:
    meta = {"name": name, "labels": more.pop("labels", {})}
    meta |= {"namespace": namespace} if namespace else {}
    spec = {"spec": more} if more else {}
    return decode({"apiVersion": version, "kind": kind, "metadata": meta, **spec})


def node(name: str, *addresses: str, labels: dict[str, str] | None = None) -> Resource:
    return made(MESH, "MeshNode", name, labels=labels or {}, addresses=list(addresses))


def pod(name: str, where: str, *addresses: str, namespace: str = "shop", **more: Any) -> Resource:
    """A ready workload with addresses of its own; with none, of its node's network."""
    network = {} if addresses else {"network": "host"}
    labels, ready = more.pop("labels", {}), more.pop("ready", True)
    spec = {"nodeName": where, "cgroup": name, "addresses": list(addresses), **network, **more}
    return decode(
        {
            "apiVersion": MESH,
            "kind": "Workload",
            "metadata": {"name": name, "namespace": namespace, "labels": labels},
            "spec": spec,
            "status": {"identity": 300, "ready": ready},
        }
    )


def service(name: str, address: str, namespace: str = "shop", **selector: str) -> Resource:
    ports = [{"port": 80, "targetPort": 8080}]
    return made(
        "v1", "Service", name, namespace, selector=selector, clusterIPs=[address], ports=ports
    )


def route(name: str, parent: str, *backends: str, namespace: str = "shop") -> Resource:
    return made(
        "gateway.networking.k8s.io/v1",
        "HTTPRoute",
        name,
        namespace,
        parentRefs=[{"kind": "Service", "name": parent}],
        rules=[{"backendRefs": [{"name": b, "port": 80} for b in backends]}],
    )


def quarantine(name: str, workload: str, *guests: dict[str, str]) -> Resource:
    return made(MESH, "Quarantine", name, "shop", workload=workload, allowFrom=list(guests))


def keyed(*objects: Resource) -> dict[Key, Resource]:
    return {key_of(o): o for o in objects}


def state(*objects: Resource, on: str = "n1") -> NodeState:
    return build(on, Snapshot(1, keyed(*objects)))

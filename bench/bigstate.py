"""A mesh of 10,000 services with 10 backends each, as a node of it hears of it."""

from __future__ import annotations

from collections.abc import Iterator

from meshapi.resources import (
    IngressRule,
    Key,
    LabelSelector,
    MeshNode,
    MeshNodeSpec,
    Namespace,
    NetworkPolicy,
    NetworkPolicySpec,
    ObjectMeta,
    PolicyPeer,
    PolicyPort,
    Resource,
    Service,
    ServicePort,
    ServiceSpec,
    Workload,
    WorkloadPort,
    WorkloadSpec,
    WorkloadStatus,
    key_of,
)

NODE = "node-0"
SERVICES, BACKENDS = 10_000, 10
NODES, NAMESPACES = 1_000, 100
POLICIES = NODES // BACKENDS  # each closes one of the applications that run on NODE
CALLERS = 100  # applications that each policy lets in: 10,000 entries
_PORT = 8080


def objects() -> dict[Key, Resource]:
    """Everything that the node hears of."""
    made: dict[Key, Resource] = {}
    for part in (_nodes(), _namespaces(), _services(), _workloads(), _policies()):
        made |= {key_of(resource): resource for resource in part}
    return made


def workload(number: int, *, ready: bool = True) -> Workload:
    """A backend of the service ``number`` // 10. Each thousandth runs on NODE."""
    service = number // BACKENDS
    return Workload(
        api_version="mesh.hoplite.io/v1alpha1",
        kind="Workload",
        metadata=ObjectMeta(
            name=f"w{number}",
            namespace=f"ns{service % NAMESPACES}",
            labels={"app": f"s{service}", "tier": "back"},
        ),
        spec=WorkloadSpec(
            node_name=f"node-{number % NODES}",
            cgroup=f"pods/w{number}",
            service_account=f"s{service}",
            addresses=(_address(16, number),),
            ports=(WorkloadPort(name="http", port=_PORT),),
        ),
        status=WorkloadStatus(identity=256 + service, ready=ready),
    )


def service(number: int) -> Service:
    return Service(
        api_version="v1",
        kind="Service",
        metadata=ObjectMeta(name=f"s{number}", namespace=f"ns{number % NAMESPACES}"),
        spec=ServiceSpec(
            selector={"app": f"s{number}"},
            cluster_ips=(_address(112, number),),
            ports=(ServicePort(port=80, target_port=_PORT),),
        ),
    )


def policy(number: int, port: int = _PORT) -> NetworkPolicy:
    """Lets a hundred applications, wherever they are, reach one that runs on NODE."""
    target = number * NODES // BACKENDS
    callers = tuple(
        PolicyPeer(
            namespace_selector=LabelSelector(),
            pod_selector=LabelSelector({"app": f"s{(target + k) % SERVICES}"}),
        )
        for k in range(1, CALLERS + 1)
    )
    return NetworkPolicy(
        api_version="networking.k8s.io/v1",
        kind="NetworkPolicy",
        metadata=ObjectMeta(name=f"p{number}", namespace=f"ns{target % NAMESPACES}"),
        spec=NetworkPolicySpec(
            pod_selector=LabelSelector({"app": f"s{target}"}),
            ingress=(IngressRule(from_=callers, ports=(PolicyPort(port=port),)),),
        ),
    )


def _nodes() -> Iterator[Resource]:
    for number in range(NODES):
        yield MeshNode(
            api_version="mesh.hoplite.io/v1alpha1",
            kind="MeshNode",
            metadata=ObjectMeta(name=f"node-{number}"),
            spec=MeshNodeSpec(
                addresses=(_address(128, number),), proxy_addresses=(_address(144, number),)
            ),
        )


def _namespaces() -> Iterator[Resource]:
    for number in range(NAMESPACES):
        yield Namespace(api_version="v1", kind="Namespace", metadata=ObjectMeta(name=f"ns{number}"))


def _services() -> Iterator[Resource]:
    return map(service, range(SERVICES))


def _workloads() -> Iterator[Resource]:
    return map(workload, range(SERVICES * BACKENDS))


def _policies() -> Iterator[Resource]:
    return map(policy, range(POLICIES))


def _address(first: int, number: int) -> str:
    """The ``number``-th address of a block that begins with ``first`` (of 10.0.0.0/8's size)."""
    return f"10.{first + number // 65536}.{number // 256 % 256}.{number % 256}"

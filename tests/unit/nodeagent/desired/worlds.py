"""Random small meshes of every kind of object, as Hypothesis strategies over manifests."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from meshapi.codec import decode
from meshapi.resources import Key, Resource, key_of

NAMESPACES = ("shop", "dev", "hoplite-system")
NODES = ("n1", "n2")
Manifest = dict[str, Any]

_labels = st.dictionaries(st.sampled_from(("app", "tier")), st.sampled_from("ab"), max_size=2)
_selectors = st.one_of(
    st.just({}),
    st.builds(lambda v: {"matchLabels": {"app": v}}, st.sampled_from("ab")),
    st.builds(
        lambda k, o: {"matchExpressions": [{"key": k, "operator": o}]},
        st.sampled_from(("app", "tier")),
        st.sampled_from(("Exists", "DoesNotExist")),
    ),
    st.just({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["a"]}]}),
)
_cidrs = st.sampled_from(
    ("10.244.0.0/16", "10.244.1.0/24", "172.30.0.0/24", "0.0.0.0/0", "192.0.2.0/24", "fd00::/8")
)
_options = st.sampled_from(
    ({}, {}, {}, {"mesh.hoplite.io/mode": "audit"}, {"mesh.hoplite.io/identity": "strict"})
)


def _meta(name: str, namespace: str = "", **more: object) -> Manifest:
    meta: Manifest = {"name": name, **more}
    return {**meta, "namespace": namespace} if namespace else meta


def namespaces() -> st.SearchStrategy[Manifest]:
    return st.builds(
        lambda name, labels: {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": _meta(name, labels=labels),
        },
        st.sampled_from(NAMESPACES),
        _labels,
    )


def nodes() -> st.SearchStrategy[Manifest]:
    def make(index: int, labels: Manifest) -> Manifest:
        addresses = [f"172.30.0.{index}", f"fd00:30::{index}"]
        return {
            "apiVersion": "mesh.hoplite.io/v1alpha1",
            "kind": "MeshNode",
            "metadata": _meta(f"n{index}", labels=labels),
            "spec": {"addresses": addresses, "proxyAddresses": [f"10.244.{index}.254"]},
        }

    return st.builds(make, st.sampled_from((1, 2)), _labels)


def workloads() -> st.SearchStrategy[Manifest]:
    def make(
        index: int, namespace: str, labels: Manifest, account: str, host: bool, ready: bool
    ) -> Manifest:
        node = index % 2 + 1
        spec: Manifest = {
            "nodeName": f"n{node}",
            "cgroup": f"pods/w{index}",
            "serviceAccount": account,
            "ports": [
                {"name": "http", "port": 8080},
                {"name": "dns", "port": 53, "protocol": "UDP"},
            ],
        }
        if host:
            spec["network"] = "host"
        else:
            spec["addresses"] = [f"10.244.{node}.{index}", f"fd00:244:{node}::{index}"]
        return {
            "apiVersion": "mesh.hoplite.io/v1alpha1",
            "kind": "Workload",
            "metadata": _meta(f"w{index}", namespace, labels=labels),
            "spec": spec,
            "status": {"identity": 300 + len(namespace) * 10 + len(account), "ready": ready},
        }

    return st.builds(
        make,
        st.integers(1, 5),
        st.sampled_from(NAMESPACES[:2]),
        _labels,
        st.sampled_from(("web", "admin")),
        st.booleans(),
        st.booleans(),
    )


def services() -> st.SearchStrategy[Manifest]:
    def make(index: int, namespace: str, selector: Manifest) -> Manifest:
        return {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": _meta(f"s{index}", namespace),
            "spec": {
                "selector": selector,
                "clusterIPs": [
                    f"10.96.{len(namespace)}.{index}",
                    f"fd00:96::{len(namespace)}:{index}",
                ],
                "ports": [
                    {"name": "http", "port": 80, "targetPort": "http"},
                    {"name": "dns", "port": 53, "protocol": "UDP"},
                ],
            },
        }

    return st.builds(make, st.integers(1, 2), st.sampled_from(NAMESPACES[:2]), _labels)


def routes() -> st.SearchStrategy[Manifest]:
    return st.builds(
        lambda namespace, parent, backend: {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": _meta("r", namespace),
            "spec": {
                "parentRefs": [{"kind": "Service", "name": f"s{parent}"}],
                "rules": [{"backendRefs": [{"name": f"s{backend}", "port": 80}]}],
            },
        },
        st.sampled_from(NAMESPACES[:2]),
        st.integers(1, 2),
        st.integers(1, 2),
    )


_np_ports = st.lists(
    st.sampled_from(
        (
            {"port": 8080},
            {"port": "http"},
            {"port": 53, "protocol": "UDP"},
            {"port": "dns", "protocol": "UDP"},
            {"port": 8000, "endPort": 9000},
            {"protocol": "TCP"},
        )
    ),
    max_size=2,
)
_np_peers = st.lists(
    st.one_of(
        st.builds(lambda s: {"podSelector": s}, _selectors),
        st.builds(lambda s: {"namespaceSelector": s}, _selectors),
        st.builds(lambda n, p: {"namespaceSelector": n, "podSelector": p}, _selectors, _selectors),
        st.builds(lambda c: {"ipBlock": {"cidr": c}}, _cidrs),
        st.just({"ipBlock": {"cidr": "10.244.0.0/16", "except": ["10.244.1.0/24"]}}),
    ),
    max_size=2,
)


def network_policies() -> st.SearchStrategy[Manifest]:
    def make(
        name: str,
        namespace: str,
        subject: Manifest,
        types: list[str],
        rules: Any,
        options: Manifest,
    ) -> Manifest:
        ingress, egress = rules
        return {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": _meta(name, namespace, annotations=options),
            "spec": {
                "podSelector": subject,
                "policyTypes": types,
                "ingress": [{"from": p, "ports": q} for p, q in ingress],
                "egress": [{"to": p, "ports": q} for p, q in egress],
            },
        }

    rules = st.lists(st.tuples(_np_peers, _np_ports), max_size=2)
    return st.builds(
        make,
        st.sampled_from(("np1", "np2")),
        st.sampled_from(NAMESPACES[:2]),
        _selectors,
        st.lists(st.sampled_from(("Ingress", "Egress")), min_size=1, max_size=2, unique=True),
        st.tuples(rules, rules),
        _options,
    )


_pods = st.builds(
    lambda n, p: {"pods": {"namespaceSelector": n, "podSelector": p}}, _selectors, _selectors
)
_namespaced = st.one_of(_pods, st.builds(lambda n: {"namespaces": n}, _selectors))
_cluster_egress = st.one_of(
    _namespaced,
    st.builds(lambda n: {"nodes": n}, _selectors),
    st.builds(lambda c: {"networks": [c]}, _cidrs),
)
_protocols = st.lists(
    st.sampled_from(
        (
            {"tcp": {"destinationPort": {"number": 8080}}},
            {"udp": {"destinationPort": {"number": 53}}},
            {"tcp": {"destinationPort": {"range": {"start": 8000, "end": 9000}}}},
        )
    ),
    max_size=2,
)


def cluster_policies() -> st.SearchStrategy[Manifest]:
    def rule(action: str, side: str, peers: list[Manifest], protocols: list[Manifest]) -> Manifest:
        made: Manifest = {"action": action, side: peers}
        return {**made, "protocols": protocols} if protocols else made

    actions = st.sampled_from(("Accept", "Deny", "Pass"))

    def rules(side: str, peers: st.SearchStrategy[Manifest]) -> st.SearchStrategy[list[Manifest]]:
        peer_lists = st.lists(peers, min_size=1, max_size=2)
        return st.lists(st.builds(rule, actions, st.just(side), peer_lists, _protocols), max_size=2)

    return st.builds(
        lambda name, tier, priority, subject, ingress, egress, options: {
            "apiVersion": "policy.networking.k8s.io/v1alpha2",
            "kind": "ClusterNetworkPolicy",
            "metadata": _meta(name, annotations=options),
            "spec": {
                "tier": tier,
                "priority": priority,
                "subject": subject,
                "ingress": ingress,
                "egress": egress,
            },
        },
        st.sampled_from(("cnp1", "cnp2", "cnp3")),
        st.sampled_from(("Admin", "Baseline")),
        st.integers(0, 3),
        _namespaced,
        rules("from", _namespaced),
        rules("to", _cluster_egress),
        _options,
    )


_sources = st.one_of(
    st.builds(
        lambda field, value: {field: [value]},
        st.sampled_from(("principals", "notPrincipals")),
        st.sampled_from(
            (
                "cluster.local/ns/shop/sa/web",
                "hoplite.local/ns/dev/sa/admin",
                "hoplite.local/ns/shop/*",
                "*/sa/admin",
                "*",
            )
        ),
    ),
    st.builds(
        lambda field, value: {field: [value]},
        st.sampled_from(("namespaces", "notNamespaces")),
        st.sampled_from(("shop", "dev", "d*", "*op")),
    ),
    st.builds(
        lambda field, value: {field: [value]},
        st.sampled_from(("serviceAccounts", "notServiceAccounts")),
        st.sampled_from(("shop/web", "admin")),
    ),
    st.builds(
        lambda field, value: {field: [value]},
        st.sampled_from(("ipBlocks", "notIpBlocks")),
        st.sampled_from(("10.244.1.0/24", "10.244.2.2", "0.0.0.0/0", "fd00:244::/32")),
    ),
)
_operations = st.sampled_from(
    (
        {"ports": ["8080"]},
        {"notPorts": ["8080"]},
        {"ports": ["53", "80"]},
        {"methods": ["GET"]},
        {"ports": ["8080"], "paths": ["/x"]},
    )
)
_whens = st.sampled_from(
    (
        {"key": "source.namespace", "values": ["shop"]},
        {"key": "source.principal", "notValues": ["cluster.local/ns/shop/sa/web"]},
        {"key": "destination.port", "values": ["8080"]},
        {"key": "destination.port", "notValues": ["53"]},
        {"key": "source.ip", "values": ["10.244.0.0/16"]},
        {"key": "destination.ip", "values": ["10.244.1.0/24"]},
        {"key": "request.headers[x]", "values": ["y"]},
    )
)


def authorization_policies() -> st.SearchStrategy[Manifest]:
    def rule(
        sources: list[Manifest], operations: list[Manifest], whens: list[Manifest]
    ) -> Manifest:
        made: Manifest = {}
        if sources:
            made["from"] = [{"source": s} for s in sources]
        if operations:
            made["to"] = [{"operation": o} for o in operations]
        if whens:
            made["when"] = whens
        return made

    rules = st.lists(
        st.builds(
            rule,
            st.lists(_sources, max_size=2),
            st.lists(_operations, max_size=2),
            st.lists(_whens, max_size=1),
        ),
        max_size=2,
    )
    return st.builds(
        lambda name, namespace, labels, action, made, options: {
            "apiVersion": "security.istio.io/v1",
            "kind": "AuthorizationPolicy",
            "metadata": _meta(name, namespace, annotations=options),
            "spec": {
                "selector": {"matchLabels": labels},
                "action": action if made else "ALLOW",  # a DENY without rules is refused
                "rules": made,
            },
        },
        st.sampled_from(("ap1", "ap2")),
        st.sampled_from(NAMESPACES),
        st.one_of(st.just({}), _labels),
        st.sampled_from(("ALLOW", "DENY")),
        rules,
        _options,
    )


def quarantines() -> st.SearchStrategy[Manifest]:
    guests = st.lists(
        st.sampled_from(
            (
                {"namespace": "shop", "workload": "w1"},
                {"cidr": "10.244.2.0/24"},
                {"cidr": "192.0.2.9/32"},
            )
        ),
        max_size=2,
        unique_by=str,
    )
    return st.builds(
        lambda namespace, workload, guests_: {
            "apiVersion": "mesh.hoplite.io/v1alpha1",
            "kind": "Quarantine",
            "metadata": _meta("q", namespace),
            "spec": {"workload": f"w{workload}", "allowFrom": guests_},
        },
        st.sampled_from(NAMESPACES[:2]),
        st.integers(1, 5),
        guests,
    )


def block_lists() -> st.SearchStrategy[Manifest]:
    cidrs = st.sampled_from(
        ("10.244.1.0/24", "10.244.2.2", "192.0.2.0/24", "fd00:244:1::/48", "172.30.0.2", "::/0")
    )
    return st.builds(
        lambda name, found: {
            "apiVersion": "mesh.hoplite.io/v1alpha1",
            "kind": "BlockList",
            "metadata": _meta(name),
            "spec": {"cidrs": found},
        },
        st.sampled_from(("bl1", "bl2")),
        st.lists(cidrs, min_size=1, max_size=3, unique=True),
    )


def anything() -> st.SearchStrategy[Manifest]:
    return st.one_of(
        namespaces(),
        nodes(),
        workloads(),
        services(),
        routes(),
        network_policies(),
        cluster_policies(),
        authorization_policies(),
        quarantines(),
        block_lists(),
    )


def resource(manifest: Manifest) -> Resource:
    return decode(manifest)


def keyed(manifests: list[Manifest]) -> dict[Key, Resource]:
    """The objects by key; of several with one key the last."""
    objects = (decode(manifest) for manifest in manifests)
    return {key_of(o): o for o in objects}

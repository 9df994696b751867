"""Random small meshes of every kind of object, as Hypothesis strategies over manifests.

The alphabet is small on purpose: few labels, names and addresses, so that policies meet workloads
and each other. Whatever is drawn would be admitted.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hypothesis import strategies as st

from meshapi.codec import decode
from meshapi.resources import Key, Resource, key_of

NAMESPACES = ("shop", "dev", "hoplite-system")
NODES = ("n1", "n2")
ZONE = "topology.kubernetes.io/zone"
SLOTS = tuple((namespace, index) for namespace in NAMESPACES for index in (1, 2, 3))  # workloads
Manifest = dict[str, Any]
Strategy = st.SearchStrategy[Manifest]
Manifests = st.SearchStrategy[list[Manifest]]

_labels = st.dictionaries(st.sampled_from(("app", "tier")), st.sampled_from("ab"), max_size=2)


def _expression(key: str, operator: str, *values: str) -> Manifest:
    made: Manifest = {"key": key, "operator": operator}
    return {**made, "values": list(values)} if values else made


_selectors = st.sampled_from(
    (
        {},
        {"matchLabels": {"app": "a"}},
        {"matchLabels": {"app": "b"}},
        {"matchLabels": {"app": "a", "tier": "b"}},
        {"matchExpressions": [_expression("app", "Exists")]},
        {"matchExpressions": [_expression("tier", "DoesNotExist")]},
        {"matchExpressions": [_expression("app", "In", "a", "b")]},
        {"matchExpressions": [_expression("app", "NotIn", "a")]},
        {
            "matchLabels": {"tier": "a"},
            "matchExpressions": [_expression("app", "In", "b"), _expression("tier", "Exists")],
        },
    )
)
_namespace_selectors = st.one_of(
    _selectors,
    st.sampled_from(
        (
            {"matchLabels": {"kubernetes.io/metadata.name": "shop"}},
            {
                "matchExpressions": [
                    _expression("kubernetes.io/metadata.name", "NotIn", "dev", "hoplite-system")
                ]
            },
        )
    ),
)
_cidrs = st.sampled_from(
    (
        "10.244.0.0/16",
        "10.244.1.0/24",
        "10.244.1.16/29",
        "10.244.1.3/31",  # bits behind the prefix, which do not count
        "172.30.0.0/24",
        "172.30.0.2/32",
        "0.0.0.0/0",
        "192.0.2.0/24",
        "fd00::/8",
        "fd00:244:1::/48",
        "::/0",
    )
)
_blocks = st.one_of(
    st.builds(lambda cidr: {"cidr": cidr}, _cidrs),
    st.sampled_from(
        (
            {"cidr": "10.244.0.0/16", "except": ["10.244.1.0/24"]},
            {"cidr": "0.0.0.0/0", "except": ["10.244.2.0/24", "192.0.2.8/29"]},
            {"cidr": "fd00::/8", "except": ["fd00:244:1::/48", "fd00:30::2/128"]},
            {"cidr": "10.244.1.0/24", "except": ["10.244.1.16/28", "10.244.1.16/32"]},
        )
    ),
)
_options = st.sampled_from(
    (
        {},
        {},
        {},
        {"mesh.hoplite.io/mode": "audit"},
        {"mesh.hoplite.io/identity": "strict"},
        {"mesh.hoplite.io/identity": "strict"},
        {"mesh.hoplite.io/mode": "audit", "mesh.hoplite.io/identity": "strict"},
    )
)
_authorization_options = st.one_of(_options, st.just({"istio.io/dry-run": "true"}))


def _some(strategy: st.SearchStrategy[Any], least: int = 0, most: int = 2) -> st.SearchStrategy:
    return st.lists(strategy, min_size=least, max_size=most)


def _meta(name: str, namespace: str = "", **more: object) -> Manifest:
    meta: Manifest = {"name": name, **more}
    return {**meta, "namespace": namespace} if namespace else meta


def namespaces() -> Strategy:
    return st.builds(
        lambda name, labels: {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": _meta(name, labels=labels),
        },
        st.sampled_from(NAMESPACES),
        _labels,
    )


def node(index: int, labels: Manifest) -> Manifest:
    return {
        "apiVersion": "mesh.hoplite.io/v1alpha1",
        "kind": "MeshNode",
        "metadata": _meta(f"n{index}", labels=labels),
        "spec": {
            "addresses": [f"172.30.0.{index}", f"fd00:30::{index}"],
            "proxyAddresses": [f"10.244.{index}.254"],
        },
    }


def nodes() -> Strategy:
    return st.builds(node, st.sampled_from((1, 2)), _labels)


_HTTP = {"name": "http", "port": 8080}
_DNS = {"name": "dns", "port": 53, "protocol": "UDP"}
_ports = st.sampled_from(
    ([_HTTP, _DNS], [_HTTP], [{"name": "http", "port": 8081}], [_DNS, {"port": 9000}], [])
)
_families = st.sampled_from(("4", "4", "46", "46", "446"))


def addresses(namespace: str, index: int, number: int, families: str) -> list[str]:
    """A pod's addresses: nobody else has them, whatever namespace, slot and node are."""
    host = 8 * (NAMESPACES.index(namespace) + 1) + index
    four = [f"10.244.{number}.{host}", f"10.244.{number}.{100 + host}"][: families.count("4")]
    return four + [f"fd00:244:{number}::{host}"] * families.count("6")


def workloads() -> Strategy:
    def make(
        slot: tuple[str, int],
        number: int,
        labels: Manifest,
        account: str,
        host: bool,
        ready: bool,
        ports: list[Manifest],
        families: str,
    ) -> Manifest:
        namespace, index = slot
        spec: Manifest = {
            "nodeName": f"n{number}",
            "cgroup": f"pods/{namespace}-w{index}",
            "serviceAccount": account,
            "ports": ports,
        }
        if host:
            spec["network"] = "host"
        else:
            spec["addresses"] = addresses(namespace, index, number, families)
        return {
            "apiVersion": "mesh.hoplite.io/v1alpha1",
            "kind": "Workload",
            "metadata": _meta(f"w{index}", namespace, labels=labels),
            "spec": spec,
            "status": {"identity": 300 + len(namespace) * 10 + len(account), "ready": ready},
        }

    return st.builds(
        make,
        st.sampled_from(SLOTS),
        st.sampled_from((1, 2)),
        _labels,
        st.sampled_from(("web", "admin")),
        st.sampled_from((False, False, True)),
        st.sampled_from((True, True, False)),
        _ports,
        _families,
    )


def services() -> Strategy:
    def make(index: int, namespace: str, selector: Manifest, named: bool) -> Manifest:
        return {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": _meta(f"s{index}", namespace),
            "spec": {
                "selector": selector,
                "clusterIPs": virtual(namespace, index),
                "ports": [
                    {"name": "http", "port": 80, "targetPort": "http" if named else 8080},
                    {"name": "dns", "port": 53, "protocol": "UDP"},
                ],
            },
        }

    return st.builds(
        make, st.integers(1, 2), st.sampled_from(NAMESPACES[:2]), _labels, st.booleans()
    )


def virtual(namespace: str, index: int) -> list[str]:
    """A service's addresses."""
    return [f"10.96.{len(namespace)}.{index}", f"fd00:96::{len(namespace)}:{index}"]


def routes() -> Strategy:
    return st.builds(
        lambda namespace, parent, backends: {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": _meta("r", namespace),
            "spec": {
                "parentRefs": [{"kind": "Service", "name": f"s{parent}"}],
                "rules": [{"backendRefs": [{"name": f"s{b}", "port": 80} for b in backends]}],
            },
        },
        st.sampled_from(NAMESPACES[:2]),
        st.integers(1, 2),
        _some(st.integers(1, 2), least=1),
    )


_np_ports = _some(
    st.sampled_from(
        (
            {"port": 8080},
            {"port": "http"},
            {"port": "http", "protocol": "UDP"},
            {"port": 53, "protocol": "UDP"},
            {"port": "dns", "protocol": "UDP"},
            {"port": 8000, "endPort": 9000},
            {"port": 1, "endPort": 65535},
            {"port": 65535},
            {"protocol": "TCP"},
            {"protocol": "UDP"},
        )
    )
)
_np_peers = _some(
    st.one_of(
        st.builds(lambda s: {"podSelector": s}, _selectors),
        st.builds(lambda s: {"namespaceSelector": s}, _namespace_selectors),
        st.builds(
            lambda n, p: {"namespaceSelector": n, "podSelector": p},
            _namespace_selectors,
            _selectors,
        ),
        st.builds(lambda b: {"ipBlock": b}, _blocks),
    )
)


def network_policies() -> Strategy:
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

    rules = _some(st.tuples(_np_peers, _np_ports))
    return st.builds(
        make,
        st.sampled_from(("np1", "np2")),
        st.sampled_from(NAMESPACES[:2]),
        _selectors,
        st.sampled_from(([], ["Ingress"], ["Egress"], ["Ingress", "Egress"])),
        st.tuples(rules, rules),
        _options,
    )


_namespaced = st.one_of(
    st.builds(
        lambda n, p: {"pods": {"namespaceSelector": n, "podSelector": p}},
        _namespace_selectors,
        _selectors,
    ),
    st.builds(lambda n: {"namespaces": n}, _namespace_selectors),
)
_elsewhere = st.one_of(
    st.builds(lambda n: {"nodes": n}, _selectors),
    st.builds(lambda c: {"networks": c}, st.lists(_cidrs, min_size=1, max_size=2, unique=True)),
)
_protocols = _some(
    st.sampled_from(
        (
            {"tcp": {"destinationPort": {"number": 8080}}},
            {"udp": {"destinationPort": {"number": 53}}},
            {"tcp": {"destinationPort": {"range": {"start": 8000, "end": 9000}}}},
            {"udp": {"destinationPort": {"range": {"start": 1, "end": 65535}}}},
            {"destinationNamedPort": "http"},
            {"destinationNamedPort": "dns"},
        )
    )
)


@st.composite
def _cluster_rules(draw: Any, side: str) -> list[Manifest]:
    made = []
    for _ in range(draw(st.integers(0, 3))):
        action = draw(st.sampled_from(("Accept", "Deny", "Pass")))
        peers = draw(_some(_namespaced, least=1))
        protocols = draw(_protocols)
        if side == "to" and draw(st.booleans()):
            # Only workloads have named ports, and only Accept has domain names.
            protocols = [p for p in protocols if "destinationNamedPort" not in p]
            names = [{"domainNames": ["*.example.org"]}] if action == "Accept" else []
            peers = [*draw(_some(_elsewhere, least=1)), *draw(_some(_namespaced, most=1)), *names]
        rule: Manifest = {"action": action, side: peers}
        made.append({**rule, "protocols": protocols} if protocols else rule)
    return made


def cluster_policies() -> Strategy:
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
        st.sampled_from((0, 1, 1, 1000)),
        _namespaced,
        _cluster_rules("from"),
        _cluster_rules("to"),
        _options,
    )


def _field(name: str, values: tuple[str, ...]) -> Strategy:
    """A field of a source or an operation, or its negation."""
    negated = "not" + name[0].upper() + name[1:]
    return st.builds(
        lambda field, chosen: {field: chosen},
        st.sampled_from((name, negated)),
        st.lists(st.sampled_from(values), min_size=1, max_size=2, unique=True),
    )


_PRINCIPALS = (
    "cluster.local/ns/shop/sa/web",
    "hoplite.local/ns/dev/sa/admin",
    "hoplite.local/ns/shop/*",
    "cluster*",
    "*/sa/admin",
    "*",
)
_SOURCE_BLOCKS = ("10.244.1.0/24", "10.244.2.10", "0.0.0.0/0", "fd00:244::/32", "172.30.0.0/24")
_addressed = _field("ipBlocks", _SOURCE_BLOCKS)
_identified = st.one_of(
    _field("principals", _PRINCIPALS),
    _field("namespaces", ("shop", "dev", "d*", "*op", "*")),
    _field("serviceAccounts", ("shop/web", "admin", "dev/admin")),
)
_http_sources = st.sampled_from(({"requestPrincipals": ["*"]}, {"notRemoteIpBlocks": ["10.0.0.1"]}))


def _merged(parts: Iterable[Manifest]) -> Manifest:
    return {key: value for part in parts for key, value in part.items()}


_sources = st.one_of(
    _identified,
    _addressed,
    st.tuples(_identified, _addressed).map(_merged),
    st.tuples(_field("principals", _PRINCIPALS), _field("namespaces", ("shop", "dev", "*"))).map(
        _merged
    ),
    st.tuples(_identified, _http_sources).map(_merged),
    _http_sources,
)
_operations = st.one_of(
    _field("ports", ("8080", "53", "80", "65535")),
    st.sampled_from(
        (
            {"methods": ["GET"]},
            {"ports": ["8080"], "paths": ["/x"]},
            {"ports": ["8080", "53"], "notPorts": ["53"]},
            {"notPorts": ["8080"], "notHosts": ["a"]},
        )
    ),
)


def _when(key: str, values: tuple[str, ...]) -> Strategy:
    def make(own: list[str], others: list[str], which: str) -> Manifest:
        made: Manifest = {"key": key}
        if "v" in which:
            made["values"] = own
        if "n" in which:
            made["notValues"] = others
        return made

    some = st.lists(st.sampled_from(values), min_size=1, max_size=2, unique=True)
    return st.builds(make, some, some, st.sampled_from(("v", "n", "vn")))


_whens = st.one_of(
    _when("source.ip", _SOURCE_BLOCKS),
    _when("source.namespace", ("shop", "d*")),
    _when("source.principal", _PRINCIPALS),
    _when("source.serviceAccount", ("shop/web", "admin")),
    _when("destination.ip", ("10.244.1.0/24", "172.30.0.1", "fd00::/8")),
    _when("destination.port", ("8080", "53", "9000")),
    _when("request.headers[x]", ("y",)),
)


def authorization_policies() -> Strategy:
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

    rules = _some(st.builds(rule, _some(_sources), _some(_operations), _some(_whens)))
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
        _authorization_options,
    )


def quarantines() -> Strategy:
    """At most one for each workload, as admission has it."""
    guests = st.lists(
        st.sampled_from(
            (
                {"namespace": "shop", "workload": "w1"},
                {"namespace": "dev", "workload": "w2"},
                {"cidr": "10.244.2.0/24"},
                {"cidr": "192.0.2.9/32"},
                {"cidr": "172.30.0.0/16"},
                {"cidr": "fd00:244:2::/48"},
            )
        ),
        max_size=2,
        unique_by=str,
    )
    return st.builds(
        lambda slot, guests_: {
            "apiVersion": "mesh.hoplite.io/v1alpha1",
            "kind": "Quarantine",
            "metadata": _meta(f"q{slot[1]}", slot[0]),
            "spec": {"workload": f"w{slot[1]}", "allowFrom": guests_},
        },
        st.sampled_from(SLOTS),
        guests,
    )


def block_lists() -> Strategy:
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


def policies() -> Strategy:
    return st.one_of(network_policies(), cluster_policies(), authorization_policies())


def anything() -> Strategy:
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


def traffic_policies() -> Strategy:
    parts = st.sampled_from(
        (
            {"loadBalancing": {"affinity": {"type": "ClientIP", "timeoutSeconds": 60}}},
            {"loadBalancing": {"locality": {"prefer": "Zone"}}},
            {"loadBalancing": {"locality": {"prefer": "Node"}}},
            {"loadBalancing": {"locality": {"prefer": "None"}}},
            {"healthCheck": {"protocol": "HTTP"}},
            {"outlierDetection": {"consecutiveConnectFailures": 0}},
            {"outlierDetection": {"baseEjectionSeconds": 3, "maxEjectionPercent": 10}},
            {"connectionLimits": {"perIdentity": {"connectionsPerSecond": 5, "burst": 9}}},
            {"connectionLimits": {"perIdentity": {"concurrentConnections": 7}}},
        )
    )
    return st.builds(
        lambda namespace, target, part: {
            "apiVersion": "mesh.hoplite.io/v1alpha1",
            "kind": "TrafficPolicy",
            "metadata": _meta(f"tp{target}", namespace),
            "spec": {"targetRefs": [{"kind": "Service", "name": f"s{target}"}], **part},
        },
        st.sampled_from(NAMESPACES[:2]),
        st.integers(1, 2),
        parts,
    )


def balancing() -> Strategy:
    """Only what load balancing goes by, and all of it about the same few services."""

    def zoned(index: int, labels: Manifest, zone: str) -> Manifest:
        return node(index, {**labels, ZONE: zone} if zone else labels)

    def weighted(workload: Manifest, number: int, weight: int, status: Manifest) -> Manifest:
        metadata = {**workload["metadata"], "namespace": "shop", "labels": {"app": "a"}}
        spec = {**workload["spec"], "nodeName": f"n{number}", "weight": weight}
        status = {**workload["status"], **status}
        return {**workload, "metadata": metadata, "spec": spec, "status": status}

    def wishing(service: Manifest, wishes: Manifest) -> Manifest:
        metadata = {**service["metadata"], "namespace": "shop"}
        spec = {**service["spec"], "selector": {"app": "a"}, **wishes}
        return {**service, "metadata": metadata, "spec": spec}

    def in_shop(manifest: Manifest) -> Manifest:
        return {**manifest, "metadata": {**manifest["metadata"], "namespace": "shop"}}

    numbers = st.sampled_from((1, 2, 3))
    statuses = st.sampled_from(
        (
            {"ready": True},
            {"ready": True},
            {"ready": False},
            {"ready": True, "unhealthyPorts": [8080]},
            {"ready": True, "unhealthyPorts": [53, 80, 8080]},
        )
    )
    wishes = st.sampled_from(
        (
            {},
            {},
            {"sessionAffinity": "ClientIP"},
            {"trafficDistribution": "PreferSameZone"},
            {"trafficDistribution": "PreferSameNode"},
            {"internalTrafficPolicy": "Local"},
        )
    )
    return st.one_of(
        st.builds(zoned, numbers, _labels, st.sampled_from(("", "a", "b"))),
        st.builds(weighted, workloads(), numbers, st.sampled_from((0, 1, 1, 3, 65_535)), statuses),
        st.builds(wishing, services(), wishes),
        traffic_policies().map(in_shop),
    )


def meshes() -> Manifests:
    """Objects of which two nodes, some workloads and some policies are always part."""
    return st.builds(
        lambda *parts: [manifest for part in parts for manifest in part],
        st.tuples(st.builds(node, st.just(1), _labels), st.builds(node, st.just(2), _labels)),
        _some(namespaces()),
        _some(workloads(), least=2, most=6),
        _some(services()),
        _some(routes(), most=1),
        _some(policies(), least=1, most=5),
        st.one_of(st.just([]), st.just([]), _some(quarantines())),
        st.one_of(st.just([]), st.just([]), _some(block_lists())),
    )


def resource(manifest: Manifest) -> Resource:
    return decode(manifest)


def keyed(manifests: list[Manifest]) -> dict[Key, Resource]:
    """The objects by key; of several with one key the last."""
    objects = (decode(manifest) for manifest in manifests)
    return {key_of(o): o for o in objects}

"""What a resource's types cannot say: names, ranges, references within one object.

Pure and about one object alone; checks that need other objects are admission's.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator
from typing import Any

from meshapi.errors import Problem
from meshapi.resources.core import Namespace, Service
from meshapi.resources.gateway import BackendRef, HTTPRoute
from meshapi.resources.mesh import MeshNode, Workload
from meshapi.resources.meta import LabelSelector, ObjectMeta
from meshapi.resources.networking import NetworkPolicy, PolicyPeer, PolicyPort
from meshapi.resources.registry import Resource, kind_of

# All of these are for fullmatch: with match, `$` would let a trailing newline through.
_DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_DNS_SUBDOMAIN = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*"
)
_PORT_NAME = re.compile(r"(?=.*[a-z])[a-z0-9]([a-z0-9-]{0,13}[a-z0-9])?")
_LABEL_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_HTTP_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")

_LABEL_FIX = "use lower-case letters, digits and '-', at most 63, starting and ending alphanumeric"

Problems = Iterator[Problem]


def check(resource: Resource) -> list[Problem]:
    """Every problem of one resource, in the order of its fields."""
    problems = list(_metadata(resource))
    problems += _CHECKS[type(resource)](resource)
    return problems


def _metadata(resource: Resource) -> Problems:
    meta: ObjectMeta = resource.metadata
    namespaced = kind_of(resource).namespaced
    strict_name = isinstance(resource, (Namespace, Service))
    pattern = _DNS_LABEL if strict_name else _DNS_SUBDOMAIN
    if not pattern.fullmatch(meta.name):
        yield Problem("$.metadata.name", f"{meta.name!r} is not a valid name", _LABEL_FIX)
    if namespaced and not _DNS_LABEL.fullmatch(meta.namespace):
        yield Problem(
            "$.metadata.namespace", f"{meta.namespace!r} is not a namespace's name", _LABEL_FIX
        )
    if not namespaced and meta.namespace:
        yield Problem(
            "$.metadata.namespace", f"a {resource.kind} belongs to no namespace", "remove it"
        )
    yield from _labels("$.metadata.labels", meta.labels)


def _labels(path: str, labels: dict[str, str]) -> Problems:
    for key, value in labels.items():
        prefix, slash, name = key.rpartition("/")
        if not _LABEL_NAME.fullmatch(name) or (slash and not _DNS_SUBDOMAIN.fullmatch(prefix)):
            yield Problem(f"{path}[{key!r}]", "not a valid label name", "write [prefix/]name")
        if value and not _LABEL_NAME.fullmatch(value):
            yield Problem(
                f"{path}[{key!r}]",
                f"{value!r} is not a valid label value",
                "at most 63 letters, digits, '-', '_' and '.'",
            )


def _namespace(_: Namespace) -> Problems:
    return iter(())


def _service(service: Service) -> Problems:
    spec = service.spec
    if not spec.ports:
        yield Problem("$.spec.ports", "empty", "give at least one port")
    seen_ports: dict[tuple[int, str], int] = {}
    seen_names: dict[str, int] = {}
    for i, port in enumerate(spec.ports):
        at = f"$.spec.ports[{i}]"
        first = seen_ports.setdefault((port.port, port.protocol), i)
        if first != i:
            yield Problem(
                f"{at}.port",
                f"{port.port}/{port.protocol} stands in $.spec.ports[{first}] already",
                "give each port once",
            )
        yield from _port_name(f"{at}.name", port.name, seen_names, i)
        if len(spec.ports) > 1 and not port.name:
            yield Problem(f"{at}.name", "missing", "a service with several ports names each")
        yield from _target_port(f"{at}.targetPort", port.target_port)
    yield from _labels("$.spec.selector", spec.selector)
    for path, address in _cluster_ips(service):
        yield from _ip(path, address)


def _cluster_ips(service: Service) -> Iterator[tuple[str, str]]:
    if service.spec.cluster_ip:
        yield "$.spec.clusterIP", service.spec.cluster_ip
    for i, address in enumerate(service.spec.cluster_ips):
        yield f"$.spec.clusterIPs[{i}]", address


def _port_name(path: str, name: str | None, seen: dict[str, int], index: int) -> Problems:
    if name is None:
        return
    if not _PORT_NAME.fullmatch(name):
        yield Problem(path, f"{name!r} is not a port name", "at most 15 of a-z, 0-9 and '-'")
    first = seen.setdefault(name, index)
    if first != index:
        yield Problem(path, f"{name!r} names the port at index {first} already", "rename one")


def _target_port(path: str, target: int | str | None) -> Problems:
    if isinstance(target, int) and not 1 <= target <= 65535:
        yield Problem(path, f"{target} is not a port", "give 1 to 65535 or a port's name")
    if isinstance(target, str) and not _PORT_NAME.fullmatch(target):
        yield Problem(path, f"{target!r} is not a port name", "give a number or a port's name")


def _httproute(route: HTTPRoute) -> Problems:
    spec = route.spec
    if not spec.parent_refs:
        yield Problem("$.spec.parentRefs", "empty", "name the Service that this route is for")
    if not spec.rules:
        yield Problem("$.spec.rules", "empty", "give at least one rule with backendRefs")
    seen: set[tuple[str, str, int | None]] = set()
    for i, parent in enumerate(spec.parent_refs):
        ref = (parent.namespace or route.metadata.namespace, parent.name, parent.port)
        if ref in seen:
            yield Problem(f"$.spec.parentRefs[{i}]", "stands there twice", "remove one")
        seen.add(ref)
        if parent.namespace and parent.namespace != route.metadata.namespace:
            yield Problem(
                f"$.spec.parentRefs[{i}].namespace",
                "routes of a consumer's namespace are not supported yet",
                f"put the route into namespace {parent.namespace}",
            )
    for i, rule in enumerate(spec.rules):
        at = f"$.spec.rules[{i}]"
        for j, backend in enumerate(rule.backend_refs):
            yield from _backend_ref(f"{at}.backendRefs[{j}]", backend, route.metadata.namespace)
        for j, match in enumerate(rule.matches):
            yield from _route_match(f"{at}.matches[{j}]", match)


def _backend_ref(at: str, backend: BackendRef, namespace: str) -> Problems:
    if backend.port is None:
        yield Problem(f"{at}.port", "missing", "a Service as backend needs its port")
    if backend.namespace and backend.namespace != namespace:
        yield Problem(
            f"{at}.namespace",
            "a backend in another namespace needs a ReferenceGrant, which is not supported yet",
            f"use a Service of namespace {namespace}",
        )


def _route_match(at: str, match: Any) -> Problems:
    if match.path is not None:
        path = match.path
        if path.type == "RegularExpression":
            yield from _regex(f"{at}.path.value", path.value)
        elif not path.value.startswith("/"):
            yield Problem(f"{at}.path.value", f"{path.value!r} is not a path", "start with '/'")
    for part in ("headers", "query_params"):
        wire = "queryParams" if part == "query_params" else part
        seen: set[str] = set()
        for k, item in enumerate(getattr(match, part)):
            name = item.name.lower() if part == "headers" else item.name
            if not _HTTP_TOKEN.fullmatch(item.name):
                yield Problem(f"{at}.{wire}[{k}].name", f"{item.name!r} is not a name", "fix it")
            if name in seen:
                yield Problem(f"{at}.{wire}[{k}].name", f"{item.name!r} twice", "keep one")
            seen.add(name)
            if item.type == "RegularExpression":
                yield from _regex(f"{at}.{wire}[{k}].value", item.value)


def _regex(path: str, value: str) -> Problems:
    try:
        re.compile(value)
    except re.error as error:
        yield Problem(path, f"not a regular expression: {error}", "correct the pattern")


def _networkpolicy(policy: NetworkPolicy) -> Problems:
    spec = policy.spec
    yield from _selector("$.spec.podSelector", spec.pod_selector)
    if len(set(spec.policy_types)) != len(spec.policy_types):
        yield Problem("$.spec.policyTypes", "a type stands there twice", "keep one")
    for i, ingress in enumerate(spec.ingress):
        for j, peer in enumerate(ingress.from_):
            yield from _peer(f"$.spec.ingress[{i}].from[{j}]", peer)
        for j, port in enumerate(ingress.ports):
            yield from _policy_port(f"$.spec.ingress[{i}].ports[{j}]", port)
    for i, egress in enumerate(spec.egress):
        for j, peer in enumerate(egress.to):
            yield from _peer(f"$.spec.egress[{i}].to[{j}]", peer)
        for j, port in enumerate(egress.ports):
            yield from _policy_port(f"$.spec.egress[{i}].ports[{j}]", port)


def _selector(path: str, selector: LabelSelector) -> Problems:
    yield from _labels(f"{path}.matchLabels", selector.match_labels)
    for i, expression in enumerate(selector.match_expressions):
        at = f"{path}.matchExpressions[{i}].values"
        wants_values = expression.operator in ("In", "NotIn")
        if wants_values and not expression.values:
            yield Problem(at, "empty", f"operator {expression.operator} needs values")
        if not wants_values and expression.values:
            yield Problem(at, "not empty", f"operator {expression.operator} takes no values")


def _peer(at: str, peer: PolicyPeer) -> Problems:
    by_labels = peer.pod_selector is not None or peer.namespace_selector is not None
    if peer.ip_block is None:
        if not by_labels:
            yield Problem(at, "empty", "give podSelector, namespaceSelector or ipBlock")
    elif by_labels:
        yield Problem(f"{at}.ipBlock", "stands beside a selector", "use a peer of its own for it")
    if peer.pod_selector is not None:
        yield from _selector(f"{at}.podSelector", peer.pod_selector)
    if peer.namespace_selector is not None:
        yield from _selector(f"{at}.namespaceSelector", peer.namespace_selector)
    if peer.ip_block is not None:
        yield from _ip_block(f"{at}.ipBlock", peer.ip_block.cidr, peer.ip_block.except_)


def _ip_block(at: str, cidr: str, excepts: tuple[str, ...]) -> Problems:
    block = parse_network(cidr)
    if block is None:
        yield Problem(f"{at}.cidr", f"{cidr!r} is not an address block", "write e.g. 10.0.0.0/8")
    for i, text in enumerate(excepts):
        part = parse_network(text)
        if part is None:
            yield Problem(f"{at}.except[{i}]", f"{text!r} is not an address block", "fix it")
        elif block is not None and not (
            part.version == block.version
            and part.prefixlen > block.prefixlen
            and part.subnet_of(block)  # type: ignore[arg-type]
        ):
            yield Problem(f"{at}.except[{i}]", f"{text} is not inside {cidr}", "narrow it")


def _policy_port(at: str, port: PolicyPort) -> Problems:
    if port.end_port is not None:
        if not isinstance(port.port, int):
            yield Problem(f"{at}.endPort", "needs a numeric port beside it", "give port")
        elif port.end_port < port.port:
            yield Problem(f"{at}.endPort", f"{port.end_port} is below port", "swap the two")
    if isinstance(port.port, str) and not _PORT_NAME.fullmatch(port.port):
        yield Problem(f"{at}.port", f"{port.port!r} is not a port name", "number or port name")


def _workload(workload: Workload) -> Problems:
    spec = workload.spec
    if not _DNS_SUBDOMAIN.fullmatch(spec.node_name):
        yield Problem("$.spec.nodeName", f"{spec.node_name!r} is not a node's name", _LABEL_FIX)
    if not _DNS_SUBDOMAIN.fullmatch(spec.service_account):
        yield Problem(
            "$.spec.serviceAccount", f"{spec.service_account!r} is not a valid name", _LABEL_FIX
        )
    parts = spec.cgroup.split("/")
    if any(p in ("", ".", "..") for p in parts) or not spec.cgroup.isprintable():
        yield Problem(
            "$.spec.cgroup",
            f"{spec.cgroup!r} is not a path below the node's cgroup root",
            "write e.g. system.slice/nginx.service",
        )
    if spec.network == "pod" and not spec.addresses:
        yield Problem("$.spec.addresses", "empty", "network: pod needs the workload's addresses")
    if spec.network == "host" and spec.addresses:
        yield Problem("$.spec.addresses", "not empty", "network: host uses its node's addresses")
    for i, address in enumerate(spec.addresses):
        yield from _ip(f"$.spec.addresses[{i}]", address)
    names: dict[str, int] = {}
    ports: dict[tuple[int, str], int] = {}
    for i, port in enumerate(spec.ports):
        yield from _port_name(f"$.spec.ports[{i}].name", port.name, names, i)
        if ports.setdefault((port.port, port.protocol), i) != i:
            yield Problem(f"$.spec.ports[{i}].port", f"{port.port} stands there twice", "keep one")


def _meshnode(node: MeshNode) -> Problems:
    for field, values in (
        ("addresses", node.spec.addresses),
        ("proxyAddresses", node.spec.proxy_addresses),
    ):
        for i, address in enumerate(values):
            yield from _ip(f"$.spec.{field}[{i}]", address)


def _ip(path: str, text: str) -> Problems:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        yield Problem(path, f"{text!r} is not an IP address", "write an IPv4 or IPv6 address")
        return
    if address.is_unspecified or address.is_multicast:
        yield Problem(path, f"{text} is nobody's address", "write a unicast address")
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            yield Problem(path, f"{text!r} names an interface", "leave out the part from '%' on")
        if address.ipv4_mapped is not None:
            yield Problem(path, f"{text} is an IPv4 address", f"write {address.ipv4_mapped}")


def parse_network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    """The address block that ``text`` names, host bits ignored as Kubernetes does, or None."""
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


_CHECKS: dict[type[Resource], Callable[[Any], Problems]] = {
    Namespace: _namespace,
    Service: _service,
    HTTPRoute: _httproute,
    NetworkPolicy: _networkpolicy,
    Workload: _workload,
    MeshNode: _meshnode,
}

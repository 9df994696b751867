"""Columns of what traffic goes by: Namespace, Service, HTTPRoute, TrafficPolicy. Pure."""

from __future__ import annotations

from hopctl.columns.cells import Columns, Context, age, condition, messages, pairs, text
from hopctl.output import Cell, Tone
from meshapi.backends import takes_connections
from meshapi.resources import Condition, HTTPRoute, Namespace, Service, TrafficPolicy
from meshapi.resources.traffic import affinity_seconds, locality
from meshapi.selectors import contains


def _namespace(namespace: Namespace, context: Context) -> list[Cell]:
    return [text(pairs(namespace.metadata.labels)), age(namespace, context)]


def _service(service: Service, context: Context) -> list[Cell]:
    spec, meta = service.spec, service.metadata
    backends = [
        w
        for w in context.workloads
        if spec.selector
        and w.metadata.namespace == meta.namespace
        and contains(w.metadata.labels, spec.selector)
    ]
    ready = sum(takes_connections(w, service) for w in backends)
    tone: Tone = "good" if backends and ready == len(backends) else ("warn" if ready else "bad")
    routes = [
        r.metadata.name
        for r in context.routes
        if r.metadata.namespace == meta.namespace
        and any(p.name == meta.name for p in r.spec.parent_refs)
    ]
    ports = ",".join(f"{p.port}/{p.protocol}" for p in spec.ports)
    return [
        text(",".join(spec.cluster_ips)),
        Cell(ports),
        Cell(f"{ready}/{len(backends)}", tone),
        text(",".join(routes)),
    ]


def _service_wide(service: Service, context: Context) -> list[Cell]:
    spec = service.spec
    policy = _policy(service, context)
    seconds, nearby = affinity_seconds(service, policy), locality(service, policy)
    wishes = [
        f"affinity {seconds}s" if seconds else "",
        f"prefer {nearby}" if nearby != "None" else "",
        "local only" if spec.internal_traffic_policy == "Local" else "",
    ]
    return [
        text(pairs(spec.selector)),
        text(", ".join(filter(None, wishes))),
        _ejected(service, context),
        age(service, context),
    ]


def _policy(service: Service, context: Context) -> TrafficPolicy | None:
    """The TrafficPolicy of a service; it has one at most."""
    meta = service.metadata
    for policy in context.policies:
        if policy.metadata.namespace == meta.namespace and any(
            ref.name == meta.name for ref in policy.spec.target_refs
        ):
            return policy
    return None


def _ejected(service: Service, context: Context) -> Cell:
    """The backends that nodes leave out at present, and which nodes."""
    by_backend: dict[str, list[str]] = {}
    for node in context.nodes:
        for one in node.status.ejections:
            if (one.namespace, one.service) == (service.metadata.namespace, service.metadata.name):
                by_backend.setdefault(one.workload or one.address, []).append(node.metadata.name)
    parts = [f"{w} by {','.join(sorted(set(n)))}" for w, n in sorted(by_backend.items())]
    return Cell("; ".join(parts), "warn") if parts else text("")


def _httproute(route: HTTPRoute, _context: Context) -> list[Cell]:
    parents = [f"{p.name}:{p.port}" if p.port else p.name for p in route.spec.parent_refs]
    rules = " | ".join(
        ",".join(f"{b.name}:{b.port}={b.weight}" for b in rule.backend_refs) or "-"
        for rule in route.spec.rules
    )
    return [
        Cell(",".join(parents)),
        Cell(rules),
        *(_worst(route, name) for name in ("Accepted", "ResolvedRefs", "Programmed")),
    ]


def _httproute_wide(route: HTTPRoute, context: Context) -> list[Cell]:
    said = {c.message for c in _route_conditions(route) if c.status != "True" and c.message}
    return [text("; ".join(sorted(said))), age(route, context)]


def _route_conditions(route: HTTPRoute) -> list[Condition]:
    return [c for parent in route.status.parents for c in parent.conditions]


def _worst(route: HTTPRoute, name: str) -> Cell:
    """A condition that holds only if it holds for every parent."""
    found = [c for c in _route_conditions(route) if c.type == name]
    bad = [c for c in found if c.status != "True"]
    return condition(bad or found, name)


def _trafficpolicy(policy: TrafficPolicy, _context: Context) -> list[Cell]:
    spec, said = policy.spec, policy.status.conditions
    return [
        Cell(",".join(ref.name for ref in spec.target_refs)),
        text(", ".join(_parts(policy))),
        condition(said, "ResolvedRefs"),
        condition(said, "Programmed"),
    ]


def _parts(policy: TrafficPolicy) -> list[str]:
    """What a TrafficPolicy does, in a few words each."""
    spec, parts = policy.spec, []
    if spec.load_balancing and spec.load_balancing.affinity:
        parts.append(f"affinity {spec.load_balancing.affinity.timeout_seconds}s")
    if spec.load_balancing and spec.load_balancing.locality:
        parts.append(f"prefer {spec.load_balancing.locality.prefer}")
    if spec.health_check:
        parts.append(f"{spec.health_check.protocol} check {spec.health_check.interval_seconds}s")
    if spec.outlier_detection:
        failures = spec.outlier_detection.consecutive_connect_failures
        parts.append(f"eject after {failures}" if failures else "no ejection")
    if spec.connection_limits:
        limit = spec.connection_limits.per_identity
        if limit.connections_per_second:
            parts.append(f"limit {limit.connections_per_second}/s")
        if limit.concurrent_connections:
            parts.append(f"limit {limit.concurrent_connections} open")
    return parts


def _trafficpolicy_wide(policy: TrafficPolicy, context: Context) -> list[Cell]:
    return [messages(policy.status.conditions), age(policy, context)]


NAMESPACE = Columns(("LABELS", "AGE"), _namespace)
SERVICE = Columns(
    ("CLUSTER-IPS", "PORTS", "BACKENDS", "L7"),
    _service,
    ("SELECTOR", "BALANCING", "EJECTED", "AGE"),
    _service_wide,
)
HTTPROUTE = Columns(
    ("PARENTS", "RULES", "ACCEPTED", "RESOLVEDREFS", "PROGRAMMED"),
    _httproute,
    ("MESSAGE", "AGE"),
    _httproute_wide,
)
TRAFFICPOLICY = Columns(
    ("TARGETS", "DOES", "RESOLVEDREFS", "PROGRAMMED"),
    _trafficpolicy,
    ("MESSAGE", "AGE"),
    _trafficpolicy_wide,
)

"""What the policies of a mesh say, read from their documentation and nothing else.

A second evaluator, as plain and slow as the texts that it follows: the Kubernetes API reference
(NetworkPolicy v1), the comments of ClusterNetworkPolicy v1alpha2 (network-policy-api), Istio's
AuthorizationPolicy and what it says of TCP, and docs/policy.md. It shares no code with
nodeagent/policy; the two are compared by tests.

``decide`` is about two known ends. ``connect``, ``connect_unenrolled`` and ``accept`` are about
what the hooks of one node know of them.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from meshapi.resources import (
    AuthorizationPolicy,
    BlockList,
    ClusterNetworkPolicy,
    HTTPRoute,
    Key,
    MeshNode,
    Namespace,
    NetworkPolicy,
    Quarantine,
    Resource,
    Service,
    Workload,
)
from meshapi.selectors import matches as selects
from meshapi.verdict import Reason, Verdict
from meshapi.wire import MeshSettings

Protocol = Literal["TCP", "UDP", "OTHER"]
Direction = Literal["ingress", "egress"]
Policy = NetworkPolicy | ClusterNetworkPolicy | AuthorizationPolicy

MODE, IDENTITY = "mesh.hoplite.io/mode", "mesh.hoplite.io/identity"
DRY_RUN = "istio.io/dry-run"
NAMESPACE_NAME = "kubernetes.io/metadata.name"  # a label that every namespace has


@dataclass(frozen=True)
class World:
    """The objects of a mesh."""

    objects: dict[Key, Resource]
    mesh: MeshSettings = field(default_factory=MeshSettings)

    def every(self, kind: type[Any]) -> Iterator[Any]:
        return (o for o in self.objects.values() if isinstance(o, kind))

    def namespace_labels(self, name: str) -> dict[str, str]:
        found = (n for n in self.every(Namespace) if n.metadata.name == name)
        return {**next((n.metadata.labels for n in found), {}), NAMESPACE_NAME: name}

    def node_of(self, workload: Workload) -> MeshNode | None:
        named = workload.spec.node_name
        return next((n for n in self.every(MeshNode) if n.metadata.name == named), None)

    def addresses(self, workload: Workload) -> tuple[str, ...]:
        if workload.spec.network == "pod":
            return workload.spec.addresses
        node = self.node_of(workload)
        return node.spec.addresses if node else ()

    def quarantines_of(self, workload: Workload) -> list[Quarantine]:
        return [
            q
            for q in self.every(Quarantine)
            if (q.metadata.namespace, q.spec.workload) == name(workload)
        ]


class End(NamedTuple):
    """Who is at one end: a workload, an address of a node, or any other address.

    ``addresses`` are those that it may be known by in this connection (of one IP version).
    """

    addresses: tuple[str, ...]
    workload: Workload | None = None
    node: MeshNode | None = None


class Flow(NamedTuple):
    """A connection, or an exchange of packets; the port is the destination's."""

    source: End
    destination: End
    protocol: Protocol
    port: int


class Refusal(NamedTuple):
    """A reason to refuse, and where it is written: any of the rules, each with its policies.

    A rule is ``ingress[0]``, ``rules[1]`` or the like, or what follows when none matches.
    """

    reason: Reason
    rules: frozenset[tuple[str, frozenset[str], str]]  # kind, policies, rule


def refusal(reason: Reason, policies: Iterable[Resource], rule: str) -> Refusal:
    found = list(policies)
    names = frozenset(full_name(p) for p in found)
    return Refusal(reason, frozenset({(found[0].kind, names, rule)}))


class Decision(NamedTuple):
    """``strict``: only for a caller whose identity is authenticated."""

    verdict: Verdict
    strict: bool = False
    refusals: tuple[Refusal, ...] = ()  # why it is refused or, with AUDIT, would be


def name(resource: Resource) -> tuple[str, str]:
    return resource.metadata.namespace, resource.metadata.name


def full_name(resource: Resource) -> str:
    return "/".join(part for part in name(resource) if part)


# -- two known ends --------------------------------------------------------------------------------


def decide(world: World, source: End, destination: End, protocol: Protocol, port: int) -> Decision:
    """What all policies together say."""
    flow = Flow(source, destination, protocol, port)
    policies = [*world.every(NetworkPolicy), *world.every(ClusterNetworkPolicy)]
    policies += world.every(AuthorizationPolicy)
    # Those in audit mode are as if they were not there; what they would change is told.
    refusals, strict = _judged(world, [p for p in policies if not _audits(p)], flow)
    refusals = (*_blocked(world, flow), *_quarantined(world, flow), *refusals)
    if refusals:
        return Decision(Verdict.DENY, refusals=refusals)
    refusals, _ = _judged(world, policies, flow)
    return Decision(Verdict.AUDIT if refusals else Verdict.ALLOW, strict, refusals)


def _judged(world: World, policies: list[Policy], flow: Flow) -> tuple[tuple[Refusal, ...], bool]:
    """Egress of the source, ingress of the destination and its authorization: all must consent."""
    refusals: list[Refusal] = []
    strict = False
    for refused, only_strict in (
        _direction(world, policies, "egress", flow),
        _direction(world, policies, "ingress", flow),
        _authorization(world, policies, flow),
    ):
        refusals += [refused] if refused else []
        strict = strict or only_strict
    return tuple(refusals), strict


def _audits(policy: Policy) -> bool:
    notes = policy.metadata.annotations
    dry = isinstance(policy, AuthorizationPolicy) and notes.get(DRY_RUN) == "true"
    return dry or notes.get(MODE) == "audit"


def _is_strict(policy: Policy, direction: Direction = "ingress") -> bool:
    """Whom it lets in must be authenticated; who goes out is its own workload."""
    return direction == "ingress" and policy.metadata.annotations.get(IDENTITY) == "strict"


# -- BlockList, Quarantine -------------------------------------------------------------------------


def _blocked(world: World, flow: Flow) -> Iterator[Refusal]:
    for end in (flow.source, flow.destination):
        for listed in world.every(BlockList):
            if any(_inside(end, cidr) for cidr in listed.spec.cidrs):
                yield refusal(Reason.BLOCKED, [listed], "cidrs")


def _quarantined(world: World, flow: Flow) -> Iterator[Refusal]:
    """Nothing from a quarantined workload; to it, only from those that it lets in."""
    source, destination = flow.source, flow.destination
    if source.workload:
        for quarantine in world.quarantines_of(source.workload):
            yield refusal(Reason.QUARANTINED, [quarantine], "egress default")
    if destination.workload:
        for quarantine in world.quarantines_of(destination.workload):
            if not any(_is_guest(world, peer, source) for peer in quarantine.spec.allow_from):
                yield refusal(Reason.QUARANTINED, [quarantine], "ingress default")


def _is_guest(world: World, peer: Any, source: End) -> bool:
    """A node proxy forwards what others send, so its address is nobody's to let in."""
    if peer.cidr:
        proxies = {a for n in world.every(MeshNode) for a in n.spec.proxy_addresses}
        return _inside(source, peer.cidr) and not proxies.intersection(source.addresses)
    return source.workload is not None and name(source.workload) == (peer.namespace, peer.workload)


# -- tiers: Admin, NetworkPolicy, Baseline ---------------------------------------------------------

# The refusal if there is one; otherwise whether it is allowed to authenticated callers only.
_Consent = tuple[Refusal | None, bool]
_OPEN: _Consent = (None, False)


def _direction(world: World, policies: list[Policy], direction: Direction, flow: Flow) -> _Consent:
    """The first tier that makes a final decision makes it; if none does, it is allowed."""
    subject = flow.source if direction == "egress" else flow.destination
    if subject.workload is None:
        return _OPEN
    for decided in (
        _cluster_tier(world, policies, "Admin", direction, flow),
        _network_policies(world, policies, direction, flow),
        _cluster_tier(world, policies, "Baseline", direction, flow),
    ):
        if decided is not None:
            return decided
    return _OPEN


def _cluster_tier(
    world: World, policies: list[Policy], tier: str, direction: Direction, flow: Flow
) -> _Consent | None:
    """The first rule that matches, by priority and then by place; None: nothing, or Pass."""
    own = flow.source if direction == "egress" else flow.destination
    peer = flow.destination if direction == "egress" else flow.source
    of_tier = [p for p in policies if isinstance(p, ClusterNetworkPolicy) and p.spec.tier == tier]
    # Of two with the same priority either may go first; here it is the first by name.
    for policy in sorted(of_tier, key=lambda p: (p.spec.priority, p.metadata.name)):
        subject = policy.spec.subject
        if not _cluster_selects(world, subject, own):
            continue
        rules = policy.spec.egress if direction == "egress" else policy.spec.ingress
        for index, rule in enumerate(rules):
            peers = rule.to if direction == "egress" else rule.from_
            if not any(_cluster_peer(world, p, peer) for p in peers):
                continue
            if rule.protocols and not any(_cluster_port(m, flow) for m in rule.protocols):
                continue
            if rule.action == "Pass":
                return None
            if rule.action == "Accept":
                return None, _is_strict(policy, direction)
            reason = Reason.ADMIN_DENIED if tier == "Admin" else Reason.BASELINE_DENIED
            return refusal(reason, [policy], f"{direction}[{index}]"), False
    return None


def _cluster_selects(world: World, choice: Any, end: End) -> bool:
    """``namespaces`` or ``pods``, of a subject or a peer; never workloads in a host's network."""
    workload = end.workload
    if workload is None or workload.spec.network == "host":
        return False
    labels = world.namespace_labels(workload.metadata.namespace)
    if choice.namespaces is not None:
        return selects(choice.namespaces, labels)
    if choice.pods is not None:
        return selects(choice.pods.namespace_selector, labels) and selects(
            choice.pods.pod_selector, workload.metadata.labels
        )
    return False


def _cluster_peer(world: World, peer: Any, end: End) -> bool:
    if _cluster_selects(world, peer, end):
        return True
    nodes = getattr(peer, "nodes", None)
    if nodes is not None and end.node is not None:
        return selects(nodes, end.node.metadata.labels)
    return any(_inside(end, network) for network in getattr(peer, "networks", ()))


def _cluster_port(match: Any, flow: Flow) -> bool:
    if match.destination_named_port is not None:
        return (flow.protocol, flow.port) in _named(flow.destination, match.destination_named_port)
    for protocol, transport in (("TCP", match.tcp), ("UDP", match.udp)):
        if transport is not None and flow.protocol == protocol:
            wanted = transport.destination_port
            if wanted.range is not None:
                return wanted.range.start <= flow.port <= wanted.range.end
            return flow.port == wanted.number
    return False


def _network_policies(
    world: World, policies: list[Policy], direction: Direction, flow: Flow
) -> _Consent | None:
    """Those that select the workload for the direction allow what any rule of theirs allows."""
    own = flow.source if direction == "egress" else flow.destination
    peer = flow.destination if direction == "egress" else flow.source
    selecting = [
        policy
        for policy in policies
        if isinstance(policy, NetworkPolicy)
        and direction in _types(policy)
        and own.workload is not None
        and policy.metadata.namespace == own.workload.metadata.namespace
        and selects(policy.spec.pod_selector, own.workload.metadata.labels)
    ]
    if not selecting:
        return None
    allowing = [
        policy
        for policy in selecting
        for rule in (policy.spec.egress if direction == "egress" else policy.spec.ingress)
        if _rule_allows(world, policy, rule, peer, flow)
    ]
    if allowing:
        return None, all(_is_strict(policy, direction) for policy in allowing)
    reason = Reason.EGRESS_DENIED if direction == "egress" else Reason.INGRESS_DENIED
    return refusal(reason, selecting, f"{direction} default"), False


def _types(policy: NetworkPolicy) -> set[str]:
    """Not given, it is Ingress, and Egress as well if there are egress rules."""
    if policy.spec.policy_types:
        return {t.lower() for t in policy.spec.policy_types}
    return {"ingress", "egress"} if policy.spec.egress else {"ingress"}


def _rule_allows(world: World, policy: NetworkPolicy, rule: Any, peer: End, flow: Flow) -> bool:
    peers = rule.to if hasattr(rule, "to") else rule.from_
    return (not peers or any(_np_peer(world, policy, p, peer) for p in peers)) and (
        not rule.ports or any(_np_port(p, flow) for p in rule.ports)
    )


def _np_peer(world: World, policy: NetworkPolicy, peer: Any, end: End) -> bool:
    if peer.ip_block is not None:
        return _inside(end, peer.ip_block.cidr, peer.ip_block.except_)
    if end.workload is None:
        return False
    namespace = end.workload.metadata.namespace
    if peer.namespace_selector is None:
        there = namespace == policy.metadata.namespace
    else:
        there = selects(peer.namespace_selector, world.namespace_labels(namespace))
    return there and (
        peer.pod_selector is None or selects(peer.pod_selector, end.workload.metadata.labels)
    )


def _np_port(port: Any, flow: Flow) -> bool:
    if flow.protocol != port.protocol:
        return False
    if port.port is None:
        return True
    if isinstance(port.port, str):
        return (flow.protocol, flow.port) in _named(flow.destination, port.port)
    return port.port <= flow.port <= (port.end_port or port.port)


def _named(end: End, port: str) -> set[tuple[str, int]]:
    """The ports of that name which the workload at an end has."""
    ports = end.workload.spec.ports if end.workload else ()
    return {(p.protocol, p.port) for p in ports if p.name == port}


# -- AuthorizationPolicy ---------------------------------------------------------------------------


def _authorization(world: World, policies: list[Policy], flow: Flow) -> _Consent:
    """DENY first; then, if there are ALLOW policies for the workload, one of them must match."""
    selecting = [
        p for p in policies if isinstance(p, AuthorizationPolicy) and _authorizes(world, p, flow)
    ]
    denying = [
        (policy, f"rules[{index}]")
        for policy in selecting
        if policy.spec.action == "DENY"
        for index, rule in enumerate(policy.spec.rules)
        if _rule_matches(world, policy, rule, flow)
    ]
    reason = Reason.AUTHORIZATION_DENIED
    if denying:
        rules = [rule for p, text in denying for rule in refusal(reason, [p], text).rules]
        return Refusal(reason, frozenset(rules)), False
    allows = [p for p in selecting if p.spec.action == "ALLOW"]
    if not allows:
        return _OPEN
    matching = [p for p in allows if any(_rule_matches(world, p, r, flow) for r in p.spec.rules)]
    if matching:
        return None, all(_is_strict(p) for p in matching)
    return refusal(reason, allows, "no rule allows it"), False


def _authorizes(world: World, policy: AuthorizationPolicy, flow: Flow) -> bool:
    """Policies of the root namespace are for the workloads of all namespaces."""
    workload = flow.destination.workload
    if workload is None:
        return False
    own, labels = policy.metadata.namespace, workload.metadata.labels
    wanted = policy.spec.selector.match_labels
    return own in (workload.metadata.namespace, world.mesh.root_namespace) and all(
        labels.get(key) == value for key, value in wanted.items()
    )


def _rule_matches(world: World, policy: AuthorizationPolicy, rule: Any, flow: Flow) -> bool:
    """A source, an operation and all conditions.

    What only HTTP requests have is missing here: an ALLOW rule that asks for it does not match, for
    a DENY rule what is missing counts as matching.
    """
    asked = [f"source.{f}" for s in rule.from_ for f in _fields(s.source)]
    asked += [f"operation.{f}" for t in rule.to for f in _fields(t.operation)]
    asked += [w.key for w in rule.when]
    if policy.spec.action == "ALLOW" and any(_http_only(attribute) for attribute in asked):
        return False
    return (
        (not rule.from_ or any(_source(world, policy, f.source, flow) for f in rule.from_))
        and (not rule.to or any(_operation(t.operation, flow) for t in rule.to))
        and all(_condition(world, policy, w, flow) for w in rule.when)
    )


def _fields(part: Any) -> list[str]:
    """The fields that are given, without their not."""
    return [f.removeprefix("not_") for f in part.__struct_fields__ if getattr(part, f)]


def _http_only(attribute: str) -> bool:
    return attribute in (
        "source.request_principals",
        "source.remote_ip_blocks",
        "operation.hosts",
        "operation.methods",
        "operation.paths",
        "remote.ip",
        "connection.sni",
    ) or attribute.startswith("request.")


def _source(world: World, policy: AuthorizationPolicy, asked: Any, flow: Flow) -> bool:
    caller = flow.source
    return (
        _one_of(asked.principals, asked.not_principals, lambda v: _principal(world, v, caller))
        and _one_of(asked.namespaces, asked.not_namespaces, lambda v: _namespace(v, caller))
        and _one_of(
            asked.service_accounts,
            asked.not_service_accounts,
            lambda v: _service_account(policy, v, caller),
        )
        and _one_of(asked.ip_blocks, asked.not_ip_blocks, lambda v: _inside(caller, v))
    )


def _operation(asked: Any, flow: Flow) -> bool:
    return _one_of(asked.ports, asked.not_ports, lambda v: _port(v, flow))


def _condition(world: World, policy: AuthorizationPolicy, asked: Any, flow: Flow) -> bool:
    match: dict[str, Callable[[str], bool]] = {
        "source.ip": lambda v: _inside(flow.source, v),
        "source.namespace": lambda v: _namespace(v, flow.source),
        "source.principal": lambda v: _principal(world, v, flow.source),
        "source.serviceAccount": lambda v: _service_account(policy, v, flow.source),
        "destination.ip": lambda v: _inside(flow.destination, v),
        "destination.port": lambda v: _port(v, flow),
    }
    if _http_only(asked.key):
        return True
    return _one_of(asked.values, asked.not_values, match[asked.key])


def _one_of(
    values: tuple[str, ...], not_values: tuple[str, ...], holds: Callable[[str], bool]
) -> bool:
    """Any of the values, if some are given, and none of the others."""
    return (not values or any(map(holds, values))) and not any(map(holds, not_values))


def _principal(world: World, value: str, caller: End) -> bool:
    """``cluster.local`` stands for the mesh's own trust domain, whatever that is called."""
    if caller.workload is None:
        return False
    path = f"ns/{caller.workload.metadata.namespace}/sa/{caller.workload.spec.service_account}"
    domains = (world.mesh.trust_domain, "cluster.local")
    return any(_text(value, f"{domain}/{path}") for domain in domains)


def _namespace(value: str, caller: End) -> bool:
    return caller.workload is not None and _text(value, caller.workload.metadata.namespace)


def _service_account(policy: AuthorizationPolicy, value: str, caller: End) -> bool:
    if caller.workload is None:
        return False
    namespace, slash, account = value.rpartition("/")
    wanted = (namespace if slash else policy.metadata.namespace, account)
    return wanted == (caller.workload.metadata.namespace, caller.workload.spec.service_account)


def _text(value: str, text: str) -> bool:
    """Exact, prefix, suffix and presence."""
    if value == "*":
        return text != ""
    if value.startswith("*"):
        return text.endswith(value[1:])
    if value.endswith("*"):
        return text.startswith(value[:-1])
    return text == value


def _port(value: str, flow: Flow) -> bool:
    """Only TCP and UDP have ports."""
    return flow.protocol != "OTHER" and flow.port == int(value)


# -- addresses -------------------------------------------------------------------------------------


def _inside(end: End, cidr: str, excepts: tuple[str, ...] = ()) -> bool:
    """Whether an end has an address in a block; bits behind the block's prefix do not count.

    A workload may use any of its addresses, so it is wherever one of them is.
    """
    block, *outside = (ipaddress.ip_network(text, strict=False) for text in (cidr, *excepts))
    return any(
        address in block and not any(address in hole for hole in outside)
        for address in map(ipaddress.ip_address, end.addresses)
    )


def _version(address: str) -> int:
    return ipaddress.ip_address(address).version


def workload_end(world: World, workload: Workload, version: int) -> End:
    """A workload that speaks, or is spoken to in, an IP version; in the host's network it is at an
    address of its node.
    """
    found = tuple(a for a in world.addresses(workload) if _version(a) == version)
    node = world.node_of(workload) if workload.spec.network == "host" else None
    return End(found, workload, node)


def ends_at(world: World, address: str, dialled: tuple[Protocol, int] | None = None) -> list[End]:
    """Who may be at an address: its pod; of a node's address, the workloads in the host's network
    (that which has the dialled port, if one has it), or the node itself if there is none.
    """
    for workload in world.every(Workload):
        if workload.spec.network == "pod" and address in workload.spec.addresses:
            return [workload_end(world, workload, _version(address))]
    for node in world.every(MeshNode):
        if address in node.spec.addresses:
            return list(_on_node(world, node, address, dialled))
        if address in node.spec.proxy_addresses:
            return [End((address,), None, node)]
    return [End((address,))]


def _on_node(
    world: World, node: MeshNode, address: str, dialled: tuple[Protocol, int] | None
) -> Iterator[End]:
    host = [w for w in world.every(Workload) if w.spec.network == "host"]
    there = [w for w in host if w.spec.node_name == node.metadata.name]
    listening = [w for w in there if dialled in {(p.protocol, p.port) for p in w.spec.ports}]
    for workload in listening or there:
        yield workload_end(world, workload, _version(address))
    if not there:
        yield End((address,), None, node)


# -- what the hooks of one node know ---------------------------------------------------------------


class Outcome(NamedTuple):
    """``to`` is the address and port actually dialled, "proxy", or "" when refused."""

    verdict: Verdict
    strict: bool = False
    to: str = ""
    refusals: tuple[Refusal, ...] = ()


REFUSED = Outcome(Verdict.DENY)  # not by policy


def connect(
    world: World,
    redirected: frozenset[tuple[str, str, int]],
    source: Workload,
    address: str,
    protocol: Protocol,
    port: int,
) -> list[Outcome]:
    """Every outcome of a connect() of a workload on its own node: one for each backend.

    None, if it goes to the node proxy and nobody is behind that: then nothing can be reached.
    """
    caller = workload_end(world, source, _version(address))
    for service in world.every(Service):
        if address in service.spec.addresses:
            found = [p for p in service.spec.ports if (p.protocol, p.port) == (protocol, port)]
            if not found:
                return [REFUSED]
            if protocol == "TCP" and (*name(service), port) in redirected:
                behind = [(caller, end, p) for end, p in _behind(world, service, found[0])]
                return [_all_of(behind, protocol, world, "proxy")] if behind else []
            backends = list(_backends(world, service, found[0], _version(address)))
            return [
                _all_of([(caller, end, to)], protocol, world, f"{at}:{to}")
                for end, at, to in backends
            ] or [REFUSED]
    ends = ends_at(world, address, (protocol, port))
    if _is_own(world, source.spec.node_name, address) and not any(
        (protocol, port) in {(p.protocol, p.port) for p in e.workload.spec.ports}
        for e in ends
        if e.workload
    ):
        ends = [End((address,))] if world.quarantines_of(source) else []
    return [_all_of([(caller, end, port) for end in ends], protocol, world, f"{address}:{port}")]


def accept(
    world: World, destination: Workload, remote: str, protocol: Protocol, port: int
) -> Outcome:
    """What becomes of a SYN or datagram for a workload on its own node."""
    quarantined = bool(world.quarantines_of(destination))
    proxies = {a for n in world.every(MeshNode) for a in n.spec.proxy_addresses}
    own = _is_own(world, destination.spec.node_name, remote)
    if (own or remote in proxies) and not quarantined:
        return Outcome(Verdict.ALLOW)
    called = workload_end(world, destination, _version(remote))
    return _all_of([(end, called, port) for end in ends_at(world, remote)], protocol, world)


def connect_unenrolled(
    world: World, node: MeshNode, address: str, protocol: Protocol, port: int
) -> Outcome:
    """A process of a node that belongs to no workload; other nodes know it by its address only."""
    own = next((a for a in node.spec.addresses if _version(a) == _version(address)), None)
    caller = End((own,), None, node) if own else End(())
    services = {a for s in world.every(Service) for a in s.spec.addresses}
    ends = ends_at(world, address)
    here = {e.workload.spec.node_name for e in ends if e.workload} == {node.metadata.name}
    if address in services or here or _is_own(world, node.metadata.name, address):
        return Outcome(Verdict.ALLOW)
    return _all_of([(caller, end, port) for end in ends], protocol, world)


def _is_own(world: World, node: str, address: str) -> bool:
    return any(
        n.metadata.name == node and address in n.spec.addresses for n in world.every(MeshNode)
    )


def _all_of(
    flows: list[tuple[End, End, int]], protocol: Protocol, world: World, to: str = ""
) -> Outcome:
    """Who cannot be told apart: all of them must be allowed."""
    decided = [decide(world, source, end, protocol, port) for source, end, port in flows]
    refusals = tuple(r for d in decided for r in d.refusals)
    verdicts = {d.verdict for d in decided}
    if Verdict.DENY in verdicts:
        refusing = tuple(r for d in decided if d.verdict is Verdict.DENY for r in d.refusals)
        return Outcome(Verdict.DENY, refusals=refusing)
    verdict = Verdict.AUDIT if Verdict.AUDIT in verdicts else Verdict.ALLOW
    return Outcome(verdict, any(d.strict for d in decided), to, refusals)


def _backends(
    world: World, service: Service, port: Any, version: int
) -> Iterator[tuple[End, str, int]]:
    """Ready, not cut off, with the target port and an address of the IP version."""
    wanted = service.spec.selector
    for workload in world.every(Workload):
        labels = workload.metadata.labels
        if (
            not wanted
            or workload.metadata.namespace != service.metadata.namespace
            or any(labels.get(k) != v for k, v in wanted.items())
            or not workload.status.ready
            or world.quarantines_of(workload)
        ):
            continue
        target = port.port if port.target_port is None else port.target_port
        if isinstance(target, str):
            named = (p for p in workload.spec.ports if p.name == target)
            target = next((p.port for p in named if p.protocol == port.protocol), 0)
        end = workload_end(world, workload, version)
        if target and end.addresses:
            yield end, end.addresses[0], target


def _behind(world: World, service: Service, port: Any) -> Iterator[tuple[End, int]]:
    """Everything that the node proxy may send requests for a service's port to."""
    routes = [
        route
        for route in world.every(HTTPRoute)
        if any(
            (p.namespace or route.metadata.namespace, p.name) == name(service)
            and p.port in (None, port.port)
            for p in route.spec.parent_refs
        )
    ]
    targets = [(service, port)] if not routes else []
    for route in routes:
        for ref in (ref for rule in route.spec.rules for ref in rule.backend_refs):
            wanted = (ref.namespace or route.metadata.namespace, ref.name)
            targets += [
                (found, p)
                for found in world.every(Service)
                if name(found) == wanted
                for p in found.spec.ports
                if p.port == ref.port and p.protocol == "TCP"
            ]
    for owner, owned in targets:
        for version in (4, 6):
            for end, _, to in _backends(world, owner, owned, version):
                yield end, to

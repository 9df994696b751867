"""All policies of one revision: which chains of rules an end is under."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from meshapi.resources import AuthorizationPolicy, ClusterNetworkPolicy, NetworkPolicy, Quarantine
from meshapi.verdict import Reason
from meshapi.wire import MeshSettings
from nodeagent.policy import authorization, clusternetworkpolicy, networkpolicy
from nodeagent.policy.blocks import Blocks, network_of
from nodeagent.policy.clauses import Action, Chain, Clause, Stage, answer
from nodeagent.policy.conditions import (
    EVERYBODY,
    AllOf,
    AnyOf,
    Guest,
    InBlock,
    NodeProxy,
    NoneOf,
    Workloads,
)
from nodeagent.policy.decisions import ALWAYS_OPEN, Answer, Direction, Rule, both
from nodeagent.policy.members import Member

Policy = NetworkPolicy | ClusterNetworkPolicy | AuthorizationPolicy


class Chains:
    """What one direction of one end is under; every chain must consent."""

    def __init__(self, subject: Member, direction: Direction, chains: tuple[Chain, ...]) -> None:
        self.direction = direction
        self._subject = subject
        self._chains = chains
        self._names = frozenset(name for c in self.clauses() for name in c.ports.names)
        self._known: dict[object, Answer] = {}

    def answer(self, peer: Member) -> Answer:
        """What may pass between the subject and ``peer``, in this direction.

        Peers that the same clauses match, and that have the same ports by the names that clauses
        use, get the same answer.
        """
        destination = peer if self.direction == "egress" else self._subject
        matched = tuple(clause.peers.matches(peer) for clause in self.clauses())
        ports = [p for p in destination.ports if p[0] in self._names] if self._names else ()
        key = (matched, frozenset(ports))
        found = self._known.get(key)
        if found is None:
            found = ALWAYS_OPEN
            for chain in self._chains:
                found = both(found, answer(chain, peer, destination))
            self._known[key] = found
        return found

    def and_also(self, other: Chains) -> Chains:
        """Both must consent."""
        return Chains(self._subject, self.direction, (*self._chains, *other._chains))

    def clauses(self) -> Iterator[Clause]:
        for chain in self._chains:
            for stage in chain:
                yield from stage


@dataclass(frozen=True)
class PolicySet:
    """Policies by what they are looked up by; ``chains`` is the whole meaning of them all."""

    network: dict[str, tuple[NetworkPolicy, ...]] = field(default_factory=dict)  # by namespace
    cluster: tuple[ClusterNetworkPolicy, ...] = ()
    authorization: dict[str, tuple[AuthorizationPolicy, ...]] = field(default_factory=dict)
    quarantines: dict[str, Quarantine] = field(default_factory=dict)  # by namespace/name
    mesh: MeshSettings = field(default_factory=MeshSettings)

    def chains(self, subject: Member, direction: Direction) -> Chains | None:
        """None if the direction is open."""
        found = [self._network_chain(subject, direction)]
        if direction == "ingress":
            found.append(self._authorization_chain(subject))
        closing = tuple(chain for chain in found if chain)
        return Chains(subject, direction, closing) if closing else None

    def subject(self, policy: Policy) -> Workloads:
        """Whom a policy may have a say on."""
        match policy:
            case NetworkPolicy():
                return networkpolicy.subject(policy)
            case ClusterNetworkPolicy():
                return clusternetworkpolicy.subject(policy.spec.subject)
            case AuthorizationPolicy():
                return authorization.subject(policy, self.mesh.root_namespace)

    def _network_chain(self, subject: Member, direction: Direction) -> Chain:
        cluster = [p for p in self.cluster if clusternetworkpolicy.selects(p, subject, direction)]
        network = [
            p
            for p in self.network.get(subject.namespace, ())
            if networkpolicy.selects(p, subject, direction)
        ]
        stages = (
            self._quarantine(subject, direction) if subject.quarantined else (),
            clusternetworkpolicy.stage(cluster, "Admin", direction),
            networkpolicy.stage(network, direction),
            clusternetworkpolicy.stage(cluster, "Baseline", direction),
        )
        return tuple(stage for stage in stages if stage)

    def _authorization_chain(self, subject: Member) -> Chain:
        root = self.mesh.root_namespace
        namespaces = dict.fromkeys((root, subject.namespace))
        found = [
            p
            for namespace in namespaces
            for p in self.authorization.get(namespace, ())
            if authorization.selects(p, subject, root)
        ]
        stage = authorization.stage(found, subject, self.mesh)
        return (stage,) if stage else ()

    def _quarantine(self, subject: Member, direction: Direction) -> Stage:
        """Above every policy: what it refuses is refused, what it lets in they are asked about."""
        name = subject.quarantined
        refusal = Clause(
            rule=Rule("Quarantine", name, f"{direction} default"),
            action=Action.DENY,
            reason=Reason.QUARANTINED,
            peers=EVERYBODY,
        )
        if direction == "egress":
            return (refusal,)
        known = self.quarantines.get(name)  # just lifted: closed until the subject is another
        blocks = tuple(InBlock(block) for block in guest_blocks(known)) if known else ()
        itself = AllOf((AnyOf(blocks), NoneOf((NodeProxy(),))))  # and not for others
        guests = Clause(
            rule=Rule("Quarantine", name, "allowFrom"),
            action=Action.PASS,  # to what other policies say
            reason=Reason.POLICY_ALLOW,
            peers=AnyOf((Guest(name), itself)),
        )
        return guests, refusal


@dataclass(frozen=True)
class BothHold:
    """Two revisions' policies at once: what one of them refuses is refused."""

    former: PolicySet
    latter: PolicySet

    def chains(self, subject: Member, direction: Direction) -> Chains | None:
        former = self.former.chains(subject, direction)
        latter = self.latter.chains(subject, direction)
        if former is None or latter is None:
            return former or latter
        return former.and_also(latter)


DIRECTIONS: tuple[Direction, ...] = ("egress", "ingress")


def policy_set(
    policies: Iterable[Policy],
    quarantines: Iterable[Quarantine],
    mesh: MeshSettings,
) -> PolicySet:
    """Policies in any order, sorted and indexed."""
    network: dict[str, list[NetworkPolicy]] = defaultdict(list)
    authorizing: dict[str, list[AuthorizationPolicy]] = defaultdict(list)
    cluster = []
    for policy in sorted(policies, key=lambda p: (p.metadata.namespace, p.metadata.name)):
        match policy:
            case NetworkPolicy():
                network[policy.metadata.namespace].append(policy)
            case AuthorizationPolicy():
                authorizing[policy.metadata.namespace].append(policy)
            case ClusterNetworkPolicy():
                cluster.append(policy)
    return PolicySet(
        network={k: tuple(v) for k, v in network.items()},
        cluster=tuple(cluster),
        authorization={k: tuple(v) for k, v in authorizing.items()},
        quarantines={f"{q.metadata.namespace}/{q.metadata.name}": q for q in quarantines},
        mesh=mesh,
    )


def guest_blocks(quarantine: Quarantine) -> tuple[str, ...]:
    """The address blocks that a quarantine lets in."""
    return tuple(str(network_of(peer.cidr)) for peer in quarantine.spec.allow_from if peer.cidr)


def mentioned_blocks(policies: Iterable[Policy], quarantines: Iterable[Quarantine]) -> Blocks:
    """Every address block that policies tell apart."""
    found: list[tuple[str, tuple[str, ...]]] = []
    for policy in policies:
        match policy:
            case NetworkPolicy():
                peers = [p for rule in policy.spec.ingress for p in rule.from_]
                peers += [p for rule in policy.spec.egress for p in rule.to]
                found += [(p.ip_block.cidr, p.ip_block.except_) for p in peers if p.ip_block]
            case ClusterNetworkPolicy():
                found += [
                    (cidr, ()) for r in policy.spec.egress for p in r.to for cidr in p.networks
                ]
            case AuthorizationPolicy():
                found += [
                    (str(network_of(text)), ()) for text in authorization.address_blocks(policy)
                ]
    found += [(block, ()) for quarantine in quarantines for block in guest_blocks(quarantine)]
    return Blocks(found)


def mentioned_domains(policies: Iterable[Policy]) -> frozenset[str]:
    """Every domain name pattern that policies tell apart."""
    return frozenset(
        clusternetworkpolicy.domain_pattern(name)
        for policy in policies
        if isinstance(policy, ClusterNetworkPolicy)
        for rule in policy.spec.egress
        for peer in rule.to
        for name in peer.domain_names
    )

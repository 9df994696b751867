"""What rules ask of a member: atoms, and their combinations.

``needs`` of an atom are traits that everybody has for whom it is true, the rarest first as far as
can be told; with them the compiler knows whom an atom may single out without asking everybody.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

from meshapi.resources import LabelSelector
from meshapi.resources.authorization import value_matches
from meshapi.selectors import matches
from nodeagent.policy.members import Labels, Member, Trait, traits


@dataclass(frozen=True)
class Selector:
    """A label selector that can be a key; equal if it is written the same way."""

    labels: Labels
    expressions: tuple[tuple[str, str, tuple[str, ...]], ...]
    wanted: LabelSelector = field(compare=False)

    def selects(self, labels: Labels) -> bool:
        if not self.expressions:
            return self.labels <= labels
        return matches(self.wanted, _as_dict(labels))


def selector(wanted: LabelSelector) -> Selector:
    """A resource's selector as a key."""
    return Selector(
        frozenset(wanted.match_labels.items()),
        tuple((e.key, e.operator, e.values) for e in wanted.match_expressions),
        wanted,
    )


@dataclass(frozen=True)
class Workloads:
    """Workloads by their own and their namespace's labels.

    ``namespace`` or ``namespaces`` says where, ``host`` whether those of the host's network count.
    """

    namespace: str | None = None
    namespaces: Selector | None = None
    pods: Selector | None = None
    host: bool = True

    @property
    def needs(self) -> tuple[Trait, ...]:
        pods = self.pods.labels if self.pods is not None else ()
        namespaces = self.namespaces.labels if self.namespaces is not None else ()
        return (
            *(("label", *label) for label in sorted(pods)),
            *([("namespace", self.namespace)] if self.namespace is not None else ()),
            *(("namespace label", *label) for label in sorted(namespaces)),
        )

    def matches(self, member: Member) -> bool:
        if not member.namespace or (member.host and not self.host):
            return False
        if self.namespace is not None and member.namespace != self.namespace:
            return False
        if self.namespaces is not None and not self.namespaces.selects(member.namespace_labels):
            return False
        return self.pods is None or self.pods.selects(member.labels)


@dataclass(frozen=True)
class InBlock:
    """Addresses inside a block (by its name; see blocks.block_name)."""

    block: str

    @property
    def needs(self) -> tuple[Trait, ...]:
        return (("block", self.block),)

    def matches(self, member: Member) -> bool:
        return self.block in member.blocks


@dataclass(frozen=True)
class ResolvedFrom:
    """Addresses that a DNS answer gave for a name of this pattern."""

    pattern: str

    @property
    def needs(self) -> tuple[Trait, ...]:
        return (("domain", self.pattern),)

    def matches(self, member: Member) -> bool:
        return self.pattern in member.domains


@dataclass(frozen=True)
class NodeAddresses:
    """The addresses of nodes, by the nodes' labels."""

    nodes: Selector
    needs: tuple[Trait, ...] = (("node",),)

    def matches(self, member: Member) -> bool:
        return member.node_labels is not None and self.nodes.selects(member.node_labels)


@dataclass(frozen=True)
class NodeProxy:
    """The addresses from which node proxies forward what others send."""

    needs: tuple[Trait, ...] = (("proxy",),)

    def matches(self, member: Member) -> bool:
        return member.proxy


@dataclass(frozen=True)
class Guest:
    """Those whom a Quarantine lets in."""

    quarantine: str

    @property
    def needs(self) -> tuple[Trait, ...]:
        return (("guest", self.quarantine),)

    def matches(self, member: Member) -> bool:
        return self.quarantine in member.guest_of


@dataclass(frozen=True)
class InNamespace:
    """Workloads whose namespace fits one of Istio's patterns (exact, ``x*``, ``*x``, ``*``)."""

    pattern: str

    @property
    def needs(self) -> tuple[Trait, ...]:
        return () if "*" in self.pattern else (("namespace", self.pattern),)

    def matches(self, member: Member) -> bool:
        return bool(member.namespace) and value_matches(self.pattern, member.namespace)


@dataclass(frozen=True)
class Principal:
    """Workloads whose ``<trust domain>/ns/<namespace>/sa/<service account>`` fits a pattern.

    ``trust_domain`` is the mesh's own; ``cluster.local`` in a pattern stands for it.
    """

    pattern: str
    trust_domain: str

    @property
    def needs(self) -> tuple[Trait, ...]:
        parts = self.pattern.split("/")
        whole = len(parts) == 5 and parts[1] == "ns" and "*" not in "".join(parts[:3])
        return (("namespace", parts[2]),) if whole else ()

    def matches(self, member: Member) -> bool:
        if not member.namespace:
            return False
        tail = f"/ns/{member.namespace}/sa/{member.service_account}"
        return any(
            value_matches(self.pattern, domain + tail) for domain in (self.trust_domain, _ALIAS)
        )


@dataclass(frozen=True)
class ServiceAccount:
    """Workloads of one service account."""

    namespace: str
    name: str

    @property
    def needs(self) -> tuple[Trait, ...]:
        return (("namespace", self.namespace),)

    def matches(self, member: Member) -> bool:
        return (member.namespace, member.service_account) == (self.namespace, self.name)


@dataclass(frozen=True)
class Never:
    """What layer 4 cannot see."""

    needs: tuple[Trait, ...] = ()

    def matches(self, member: Member) -> bool:  # noqa: ARG002 - nobody
        return False


Atom = (
    Workloads
    | InBlock
    | ResolvedFrom
    | NodeAddresses
    | NodeProxy
    | Guest
    | InNamespace
    | Principal
    | ServiceAccount
    | Never
)


@dataclass(frozen=True)
class AnyOf:
    """True if a part is; empty: false. Of many parts only those are asked that may be true."""

    parts: tuple[Condition, ...]

    def matches(self, member: Member) -> bool:
        if len(self.parts) <= _FEW:
            return any(part.matches(member) for part in self.parts)
        return any(
            part.matches(member)
            for trait in (*traits(member), None)
            for part in self._by_trait.get(trait, ())
        )

    @cached_property
    def _by_trait(self) -> dict[Trait | None, list[Condition]]:
        """Parts by one of the traits that they need; None: those that need none."""
        found: dict[Trait | None, list[Condition]] = defaultdict(list)
        for part in self.parts:
            needs = () if isinstance(part, AnyOf | AllOf | NoneOf) else part.needs
            found[needs[0] if needs else None].append(part)
        return found


@dataclass(frozen=True)
class AllOf:
    """True if every part is; empty: true."""

    parts: tuple[Condition, ...] = ()

    def matches(self, member: Member) -> bool:
        return all(part.matches(member) for part in self.parts)


@dataclass(frozen=True)
class NoneOf:
    """True if no part is."""

    parts: tuple[Condition, ...]

    def matches(self, member: Member) -> bool:
        return not any(part.matches(member) for part in self.parts)


Condition = Atom | AnyOf | AllOf | NoneOf

EVERYBODY = AllOf()
NOBODY = AnyOf(())

_ALIAS = "cluster.local"
_FEW = 8  # parts, which are asked one after the other


def atoms(condition: Condition) -> Iterator[Atom]:
    """Every atom of a condition."""
    if isinstance(condition, AnyOf | AllOf | NoneOf):
        for part in condition.parts:
            yield from atoms(part)
    else:
        yield condition


@lru_cache(maxsize=65536)
def _as_dict(labels: Labels) -> dict[str, str]:
    return dict(labels)

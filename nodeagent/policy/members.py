"""The ends of connections as policies see them."""

from __future__ import annotations

from dataclasses import dataclass, field

Labels = frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Member:
    """One end: a workload has a namespace and a service account, an outside address has neither.

    Ends that no policy could tell apart are equal. ``blocks`` are the address blocks of policies
    that hold its address, ``domains`` the domain name patterns of policies that it was resolved
    from. ``node_labels`` are there for the addresses of nodes, ``proxy`` for those from which node
    proxies forward what others send. ``quarantined`` names the Quarantine that it is under,
    ``guest_of`` those that let it in.
    """

    namespace: str = ""
    namespace_labels: Labels = frozenset()
    labels: Labels = frozenset()
    service_account: str = ""
    ports: frozenset[tuple[str, str, int]] = frozenset()  # name, protocol, number
    blocks: frozenset[str] = frozenset()
    domains: frozenset[str] = frozenset()
    node_labels: Labels | None = None
    host: bool = False
    proxy: bool = False
    quarantined: str = ""
    guest_of: frozenset[str] = frozenset()
    _hash: int = field(init=False, repr=False, compare=False, default=0)

    def __post_init__(self) -> None:
        """Members are looked up far more often than made: their hash is computed once."""
        content = (
            self.namespace,
            self.labels,
            self.service_account,
            self.ports,
            self.blocks,
            self.domains,
            self.host,
            self.proxy,
            self.quarantined,
        )
        object.__setattr__(self, "_hash", hash(content))

    def __hash__(self) -> int:
        return self._hash


@dataclass(frozen=True)
class Shared:
    """An address or virtual address behind which several members stand: all must be allowed.

    ``members`` pairs each with the port that it would be reached on, or None for the one dialled.
    """

    members: frozenset[tuple[Member, int | None]]


PolicyClass = Member | Shared

Trait = tuple[str, ...]


def traits(member: Member) -> set[Trait]:
    """By what members can be found, without asking everybody."""
    found: set[Trait] = {("label", *label) for label in member.labels}
    found |= {("namespace label", *label) for label in member.namespace_labels}
    found |= {("block", block) for block in member.blocks}
    found |= {("domain", pattern) for pattern in member.domains}
    found |= {("guest", name) for name in member.guest_of}
    if member.namespace:
        found.add(("namespace", member.namespace))
    if member.quarantined:
        found.add(("quarantined", member.quarantined))
    if member.node_labels is not None:
        found.add(("node",))
    if member.proxy:
        found.add(("proxy",))
    return found


WORLD = Member()

# Stands for every workload that no rule singles out: nothing that a policy can name fits it.
ANYBODY = Member(namespace="\0", service_account="\0")


def members(end: PolicyClass) -> list[tuple[Member, int | None]]:
    """The members of a class, each with the port it is reached on, in a stable order."""
    if isinstance(end, Shared):
        return sorted(end.members, key=lambda m: (repr(canonical(m[0])), m[1] or 0))
    return [(end, None)]


def canonical(what: PolicyClass) -> tuple[object, ...]:
    """Content in a stable order, to take a number from."""
    if isinstance(what, Shared):
        return tuple(sorted((repr(canonical(m)), port or 0) for m, port in what.members))
    return (
        what.namespace,
        sorted(what.namespace_labels),
        sorted(what.labels),
        what.service_account,
        sorted(what.ports),
        sorted(what.blocks),
        sorted(what.domains),
        None if what.node_labels is None else sorted(what.node_labels),
        what.host,
        what.proxy,
        what.quarantined,
        sorted(what.guest_of),
    )

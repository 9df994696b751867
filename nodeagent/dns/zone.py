"""Which names the mesh has and what they resolve to. Pure: a view of one revision's ``NodeState``.

A name is a tuple of labels such as ``("web", "shop", "svc", "hoplite", "local")``. The records are
those of Kubernetes' DNS-based service discovery 1.1.0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from ipaddress import ip_address

import dns.reversename
from dns.exception import DNSException

from meshapi.backends import target_port
from meshapi.resources import Service, ServicePort, Workload
from nodeagent.dns.names import Labels, name_of
from nodeagent.state import NodeState

ALIAS: Labels = ("cluster", "local")  # accepted for the mesh's own domain

_SVC = "svc"
_FAMILIES = ("A", "AAAA")


@dataclass(frozen=True)
class Target:
    """What an SRV or PTR record points to; PTR has no port."""

    name: Labels
    port: int = 0


@dataclass(frozen=True)
class Answer:
    """What the zone that begins at ``apex`` says to one question.

    ``addresses`` answer A and AAAA, ``targets`` SRV and PTR; ``additional`` are the addresses of
    targets. A name that exists may have no record of the kind that was asked for.
    """

    apex: Labels
    exists: bool = True
    addresses: tuple[str, ...] = ()
    targets: tuple[Target, ...] = ()
    additional: tuple[tuple[Labels, str], ...] = ()


@dataclass(frozen=True)
class Zone:
    """Every name of the mesh, and who may have other names looked up here."""

    state: NodeState
    domain: Labels

    def look_up(self, name: Labels, kind: str) -> Answer | None:
        """The answer for a name and a record type's mnemonic; None for a name of somebody else."""
        for apex in self._apexes:
            if name[-len(apex) :] == apex:
                return self._inside(apex, apex, name[: -len(apex)], kind)
        if name[-1:] == (_SVC,):  # web.shop.svc
            return self._inside((_SVC,), self.domain, name, kind)
        if name[-2:][::-1] in self.state.services:  # web.shop
            return self._inside(name[-2:], self.domain, (*name, _SVC), kind)
        if len(name) == 1 and kind in _FAMILIES:  # a slip, or a search that found nothing
            return Answer((), exists=False)
        return self._reverse(name, kind)

    @cached_property
    def callers(self) -> frozenset[str]:
        """Addresses of this node and of its workloads, in canonical form."""
        state = self.state
        found = [a for workload in state.local for a in workload.spec.addresses]
        if node := state.nodes.get(state.node):
            found += [*node.spec.addresses, *node.spec.proxy_addresses]
        return frozenset(_canonical(address) for address in found)

    @cached_property
    def _apexes(self) -> tuple[Labels, ...]:
        """The longest first: one may lie inside the other."""
        return tuple(sorted({self.domain, ALIAS}, key=len, reverse=True))

    @cached_property
    def _namespaces(self) -> frozenset[str]:
        return frozenset(self.state.namespaces) | {ns for ns, _ in self.state.services}

    def _inside(self, apex: Labels, domain: Labels, name: Labels, kind: str) -> Answer:
        """``name`` is what stands before ``domain``, in which targets are named."""
        if not self._known(name):
            return Answer(apex, exists=False)
        if len(name) < 3:
            return Answer(apex)
        service = self.state.services[name[-2], name[-3]]
        before, full = name[:-3], (*name[-3:], *domain)
        if not before:
            return self._service(apex, full, service, kind)
        if before[-1].startswith("_"):
            return self._ports(apex, full, service, before, kind)
        return self._workload(apex, service, before, kind)

    def _known(self, name: Labels) -> bool:
        """Whether a name is above all services, or a service's, or below one."""
        if len(name) < 2:
            return name in ((), (_SVC,))
        if name[-1] != _SVC:
            return False
        if len(name) == 2:
            return name[0] in self._namespaces
        return (name[-2], name[-3]) in self.state.services

    # -- services ------------------------------------------------------------------------------

    def _service(self, apex: Labels, full: Labels, service: Service, kind: str) -> Answer:
        if kind == "SRV":
            return self._located(apex, full, service, service.spec.ports)
        addresses = service.spec.addresses
        if not addresses:
            addresses = tuple(a for w in self.state.backends(service) for a in self._reached(w))
        return Answer(apex, addresses=_of_kind(addresses, kind))

    def _ports(
        self, apex: Labels, full: Labels, service: Service, before: Labels, kind: str
    ) -> Answer:
        """``_http._tcp`` and the ``_tcp`` above it."""
        ports = [p for p in service.spec.ports if p.name and f"_{p.protocol.lower()}" == before[-1]]
        if len(before) == 1:
            return Answer(apex, exists=bool(ports))
        ports = [p for p in ports if (f"_{p.name}",) == before[:-1]]
        if not ports or kind != "SRV":
            return Answer(apex, exists=bool(ports))
        return self._located(apex, full, service, ports)

    def _located(
        self, apex: Labels, full: Labels, service: Service, ports: Sequence[ServicePort]
    ) -> Answer:
        """Where ports of a service are: at its own name or, headless, at each backend's."""
        if addresses := service.spec.addresses:
            targets = [Target(full, port.port) for port in ports]
            named = {full: addresses}
        else:
            targets, named = [], {}
            for workload in self.state.backends(service):
                name = (*workload.metadata.name.split("."), *full)
                for port in ports:
                    number = target_port(workload, port)
                    if number:
                        targets.append(Target(name, number))
                        named[name] = self._reached(workload)
        return Answer(
            apex,
            targets=tuple(targets),
            additional=tuple((name, a) for name, found in named.items() for a in found),
        )

    def _workload(self, apex: Labels, service: Service, before: Labels, kind: str) -> Answer:
        """A headless service's backends have names of their own."""
        if service.spec.addresses:
            return Answer(apex, exists=False)
        asked, between = ".".join(before), False
        for workload in self.state.backends(service):
            if workload.metadata.name == asked:
                return Answer(apex, addresses=_of_kind(self._reached(workload), kind))
            between = between or workload.metadata.name.endswith(f".{asked}")
        return Answer(apex, exists=between)

    def _reached(self, workload: Workload) -> tuple[str, ...]:
        """Where a backend is reached: its first address of each family."""
        first: dict[bool, str] = {}
        for address in self.state.addresses(workload):
            first.setdefault(":" in address, address)
        return tuple(first.values())

    # -- addresses -----------------------------------------------------------------------------

    def _reverse(self, name: Labels, kind: str) -> Answer | None:
        address = reverse_address(name)
        index = self.state.index
        if address is None or (address not in index.virtual and address not in index.at_address):
            return None
        target = self._pointer(address) if kind == "PTR" else None
        if target is None:
            return Answer(name)
        return Answer(name, targets=(Target((*target, *self.domain)),))

    def _pointer(self, address: str) -> Labels | None:
        """Whose an address is; None for a workload's that no headless service names."""
        state = self.state
        for namespace, name in state.index.virtual.get(address, ()):
            return (name, namespace, _SVC)
        workload = state.workloads[state.index.at_address[address][-1]]
        if state.serves(workload):
            for namespace, name in state.services_of(workload):
                if not state.services[namespace, name].spec.addresses:
                    return (*workload.metadata.name.split("."), name, namespace, _SVC)
        return None


def labels(domain: str) -> Labels:
    """``Hoplite.local.`` → ``("hoplite", "local")``."""
    return tuple(domain.lower().rstrip(".").split("."))


def reverse_address(name: Labels) -> str | None:
    """The address that a name below in-addr.arpa or ip6.arpa stands for, in canonical form."""
    if name[-1:] != ("arpa",):
        return None
    try:
        return _canonical(dns.reversename.to_address(name_of(name)))
    except DNSException:
        return None


def _of_kind(addresses: tuple[str, ...], kind: str) -> tuple[str, ...]:
    if kind not in _FAMILIES:
        return ()
    return tuple(dict.fromkeys(a for a in addresses if (":" in a) == (kind == "AAAA")))


def _canonical(address: str) -> str:
    return str(ip_address(address))

"""Workloads: nobody's address, cgroup or host port twice, and an identity for each."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable
from typing import TypeVar

from msgspec.structs import replace

from controller.config import Network
from meshapi.errors import Problem
from meshapi.identity import WorkloadIdentity
from meshapi.resources import Workload, key_of

K = TypeVar("K")

_Holders = dict[K, list[Workload]]
_Port = tuple[str, int, str]  # node, number, protocol


def canonical(workload: Workload) -> Workload:
    """The workload with its addresses in their one canonical text."""
    addresses = tuple(str(ipaddress.ip_address(a)) for a in workload.spec.addresses)
    return replace(workload, spec=replace(workload.spec, addresses=addresses))


def identity_of(workload: Workload, trust_domain: str) -> WorkloadIdentity:
    return WorkloadIdentity(
        trust_domain, workload.metadata.namespace, workload.spec.service_account
    )


def stamp(old: Workload | None, new: Workload, identity: WorkloadIdentity, number: int) -> Workload:
    """``new`` with its identity; what its node said of it holds while it runs at the same place."""
    moved = old is None or (old.spec.node_name, old.spec.cgroup) != (
        new.spec.node_name,
        new.spec.cgroup,
    )
    status = replace(new.status, identity=number, spiffe_id=identity.uri)
    if moved:
        status = replace(status, ready=False, message="", unhealthy_ports=())
    return replace(new, status=status)


class Occupancy:
    """Which workloads hold the addresses, cgroups and host ports that ``asking`` ones want.

    Built once for many checks; of what nobody asks for nothing is kept.
    """

    def __init__(
        self,
        workloads: Iterable[Workload],
        asking: Collection[Workload],
        ranges: tuple[Network, ...],
    ) -> None:
        self._ranges = ranges
        self._addresses: _Holders[str] = {a: [] for w in asking for a in w.spec.addresses}
        self._cgroups: _Holders[tuple[str, str]] = {_place(w): [] for w in asking}
        self._ports: _Holders[_Port] = {p: [] for w in asking for p in _host_ports(w)}
        for workload in workloads:
            for address in workload.spec.addresses:
                if address in self._addresses:
                    self._addresses[address].append(workload)
            place = _place(workload)
            if place in self._cgroups:
                self._cgroups[place].append(workload)
            for port in _host_ports(workload) if self._ports else ():
                if port in self._ports:
                    self._ports[port].append(workload)

    def problems(self, workload: Workload) -> list[Problem]:
        """Where ``workload`` takes what is another's."""
        found = []
        for i, address in enumerate(workload.spec.addresses):
            path = f"$.spec.addresses[{i}]"
            other = _other(workload, self._addresses[address])
            if other:
                found.append(
                    Problem(path, f"{address} is {other}'s", "every pod address has one workload")
                )
            if any(ipaddress.ip_address(address) in r for r in self._ranges):
                found.append(
                    Problem(path, f"{address} lies in the service range", "give it another")
                )
        spec = workload.spec
        other = _other(workload, self._cgroups[_place(workload)])
        if other:
            found.append(
                Problem(
                    "$.spec.cgroup",
                    f"{spec.cgroup} on {spec.node_name} is {other}'s",
                    "every workload runs in a cgroup of its own",
                )
            )
        for i, port in enumerate(_host_ports(workload)):
            other = _other(workload, self._ports[port])
            if other:
                found.append(
                    Problem(
                        f"$.spec.ports[{i}].port",
                        f"{port[1]}/{port[2]} in the network of {port[0]} is {other}'s",
                        "choose another port, or network: pod",
                    )
                )
        return found


def _place(workload: Workload) -> tuple[str, str]:
    return workload.spec.node_name, workload.spec.cgroup


def _host_ports(workload: Workload) -> list[_Port]:
    if workload.spec.network != "host":
        return []
    return [(workload.spec.node_name, p.port, p.protocol) for p in workload.spec.ports]


def _other(workload: Workload, holders: list[Workload]) -> str:
    own = key_of(workload)
    return next((str(key_of(h)) for h in holders if key_of(h) != own), "")

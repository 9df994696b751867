"""Service addresses: one per family, explicit ones checked, the rest chosen.

Semantics are Kubernetes' dual-stack Services, with one difference: without ``ipFamilies`` and
``ipFamilyPolicy`` a service gets an address of every configured family.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Literal

from msgspec.structs import replace

from controller.config import Network
from meshapi.errors import Problem
from meshapi.resources import Key, Service, ServiceSpec, key_of
from meshapi.resources.core import HEADLESS

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Family = Literal["IPv4", "IPv6"]
Policy = Literal["SingleStack", "PreferDualStack", "RequireDualStack"]


@dataclass(frozen=True)
class Request:
    """What a service asks for: families in order, and the addresses it fixes (a prefix of them).

    A headless one has families, for its names, but gets no address.
    """

    families: tuple[Family, ...]
    policy: Policy
    addresses: tuple[Address, ...]
    headless: bool = False


def family_of(of: Address | Network) -> Family:
    return "IPv4" if of.version == 4 else "IPv6"


def request(
    service: Service, old: Service | None, ranges: tuple[Network, ...]
) -> Request | list[Problem]:
    """Read a service's wishes; where it says nothing, what it has is kept."""
    spec = service.spec
    before = old.spec if old else None
    switched = _switched(spec, before)
    if switched:
        return [switched]
    headless = spec.headless or (before is not None and before.headless)
    if headless:
        spec, before = _bare(spec), before and _bare(before)
    given, problems = _given(spec, before)
    configured = [family_of(r) for r in ranges]
    policy = spec.ip_family_policy or _policy(spec, before, configured)
    wanted = spec.ip_families or tuple(family_of(a) for a in given)
    if not wanted and before:
        wanted = before.ip_families
    if not spec.cluster_ips and not spec.cluster_ip:
        if policy == "SingleStack" and not spec.ip_families:
            wanted = wanted[:1]
        given = given[: len(wanted)]
    problems += _immutable(wanted, given, before)
    if not problems:
        known = {*configured, *(before.ip_families if before else ())}
        problems += _families(spec, wanted, given, policy, known)
    if problems:
        return problems
    count = 1 if policy == "SingleStack" else len(configured)
    rest = [f for f in configured if f not in wanted]
    return Request((*wanted, *rest)[: max(count, len(wanted))], policy, given, headless)


def claim(
    service: Service,
    old: Service | None,
    asked: Request,
    ranges: tuple[Network, ...],
    used: Mapping[str, Key],
) -> list[Problem]:
    """What forbids the addresses that a service fixes: out of range, or somebody else's."""
    kept = set(old.spec.cluster_ips) if old else set()
    problems = []
    for i, address in enumerate(asked.addresses):
        path = _path(i)
        owner = used.get(str(address))
        if owner is not None and owner != key_of(service):
            problems.append(Problem(path, f"{address} is {owner}'s", "choose another or none"))
        elif str(address) not in kept and not any(address in r for r in ranges):
            listed = " and ".join(str(r) for r in ranges)
            problems.append(
                Problem(
                    path,
                    f"{address} is outside the service range",
                    f"choose one in {listed}, or leave it out",
                )
            )
    return problems


def fill(
    service: Service, asked: Request, ranges: tuple[Network, ...], used: MutableMapping[str, Key]
) -> Service | Problem:
    """The service with an address of every family it asks for; ``used`` learns the new ones."""
    key = key_of(service)
    addresses = [HEADLESS] if asked.headless else [str(a) for a in asked.addresses]
    for family in () if asked.headless else asked.families[len(addresses) :]:
        network = next(r for r in ranges if family_of(r) == family)
        address = choose(network, used, f"{key.namespace}/{key.name}")
        if address is None:
            return Problem(
                "$.spec.clusterIPs",
                f"every address of {network} is in use",
                "delete services, or widen the controller's serviceCIDRs",
            )
        used[address] = key
        addresses.append(address)
    spec = replace(
        service.spec,
        cluster_ip=addresses[0],
        cluster_ips=tuple(addresses),
        ip_families=asked.families,
        ip_family_policy=asked.policy,
    )
    return replace(service, spec=spec)


def choose(network: Network, used: Mapping[str, Key], name: str) -> str | None:
    """A free address of ``network``, or None.

    The search starts at a place that depends on the name: a service that is deleted and made
    again gets its address back, and an address just freed is not the next one given away.
    """
    reserved = 1 if network.num_addresses > 2 else 0  # network, or IPv6's subnet-router anycast
    top = 1 if reserved and network.version == 4 else 0  # broadcast
    count = network.num_addresses - reserved - top
    start = int.from_bytes(hashlib.sha256(name.encode()).digest()[:16]) % count
    for i in range(count):
        address = str(network[reserved + (start + i) % count])
        if address not in used:
            return address
    return None


def _switched(spec: ServiceSpec, before: ServiceSpec | None) -> Problem | None:
    """Whether a service would get its first address, or lose the one it has."""
    named = spec.cluster_ip or "".join(spec.cluster_ips[:1])
    if before is None or not named or spec.headless == before.headless:
        return None
    fix = "delete the service and create it again"
    return Problem(_path(0), f"cannot become {named} ({before.cluster_ip} now)", fix)


def _bare(spec: ServiceSpec) -> ServiceSpec:
    return replace(spec, cluster_ip="", cluster_ips=())


def _given(
    spec: ServiceSpec, before: ServiceSpec | None
) -> tuple[tuple[Address, ...], list[Problem]]:
    """The addresses a service fixes; one that names none, or only its first, keeps what it has."""
    texts = spec.cluster_ips or ((spec.cluster_ip,) if spec.cluster_ip else ())
    given = tuple(ipaddress.ip_address(t) for t in texts)
    kept = tuple(ipaddress.ip_address(t) for t in before.cluster_ips) if before else ()
    if spec.cluster_ip and ipaddress.ip_address(spec.cluster_ip) != given[0]:
        return given, [
            Problem("$.spec.clusterIP", f"{spec.cluster_ip} is not clusterIPs[0]", "remove one")
        ]
    if not given or (not spec.cluster_ips and given == kept[:1]):
        given = kept
    return given, []


def _policy(spec: ServiceSpec, before: ServiceSpec | None, configured: list[Family]) -> Policy:
    if len(spec.ip_families) == 1:
        return "SingleStack"
    if before and before.ip_family_policy and not spec.ip_families:
        return before.ip_family_policy
    return "PreferDualStack" if len(configured) > 1 else "SingleStack"


def _families(
    spec: ServiceSpec,
    wanted: tuple[Family, ...],
    given: tuple[Address, ...],
    policy: Policy,
    known: set[Family],
) -> list[Problem]:
    at = "$.spec.ipFamilies" if spec.ip_families else "$.spec.clusterIPs"
    problems = []
    if len(set(wanted)) != len(wanted):
        problems.append(Problem(at, "the same family twice", "give each family once"))
    problems += [
        Problem(at, f"this mesh has no {family} service range", "add one to serviceCIDRs")
        for family in sorted(set(wanted) - known)
    ]
    if policy == "SingleStack" and len(wanted) > 1:
        problems.append(Problem(at, "two families with SingleStack", "use PreferDualStack"))
    if policy == "RequireDualStack" and len(known) < 2:
        only = ", ".join(known)
        problems.append(
            Problem(
                "$.spec.ipFamilyPolicy",
                f"this mesh has {only} service addresses only",
                "use PreferDualStack",
            )
        )
    if tuple(family_of(a) for a in given) != wanted[: len(given)]:
        problems.append(
            Problem(at, "families and addresses do not match", "give them in the same order")
        )
    return problems


def _immutable(
    wanted: tuple[Family, ...], given: tuple[Address, ...], before: ServiceSpec | None
) -> list[Problem]:
    if before is None:
        return []
    fix = "delete the service and create it again"
    if wanted[:1] != before.ip_families[:1]:
        return [Problem("$.spec.ipFamilies", "the first family cannot change", fix)]
    return [
        Problem(_path(i), f"cannot change ({kept} now)", fix)
        for i, (address, kept) in enumerate(zip(given, before.cluster_ips, strict=False))
        if str(address) != kept
    ]


def _path(index: int) -> str:
    return "$.spec.clusterIP" if index == 0 else f"$.spec.clusterIPs[{index}]"

"""Checks of ClusterNetworkPolicy."""

from __future__ import annotations

import re
from collections.abc import Sequence

from meshapi.errors import Problem
from meshapi.resources.checks.common import PORT_NAME, Problems, network, one_of, selector
from meshapi.resources.policyapi import (
    ClusterNetworkPolicy,
    DestinationPort,
    EgressPeer,
    IngressPeer,
    NamespacedPods,
    ProtocolMatch,
    Subject,
)

_DOMAIN_LABEL = r"[a-zA-Z0-9]([-a-zA-Z0-9_]*[a-zA-Z0-9])?"
_DOMAIN = re.compile(rf"(?=.{{1,253}}\Z)(\*\.)?({_DOMAIN_LABEL}\.)+{_DOMAIN_LABEL}\.?")


def clusternetworkpolicy(policy: ClusterNetworkPolicy) -> Problems:
    spec = policy.spec
    yield from _subject(spec.subject)
    for i, ingress in enumerate(spec.ingress):
        at = f"$.spec.ingress[{i}]"
        for j, source in enumerate(ingress.from_):
            yield from _peer(f"{at}.from[{j}]", source, ("namespaces", "pods"))
        yield from _protocols(f"{at}.protocols", ingress.protocols)
    for i, egress in enumerate(spec.egress):
        at = f"$.spec.egress[{i}]"
        for j, peer in enumerate(egress.to):
            yield from _egress_peer(f"{at}.to[{j}]", peer, egress.action)
        yield from _protocols(f"{at}.protocols", egress.protocols)
        if any(p.nodes is not None or p.networks or p.domain_names for p in egress.to):
            yield from _no_named_ports(f"{at}.protocols", egress.protocols)


def _subject(subject: Subject) -> Problems:
    yield from _peer("$.spec.subject", subject, ("namespaces", "pods"))


def _peer(at: str, peer: Subject | IngressPeer | EgressPeer, known: tuple[str, ...]) -> Problems:
    chosen = {"namespaces": peer.namespaces, "pods": peer.pods}
    given = [name for name, value in chosen.items() if value is not None]
    if isinstance(peer, EgressPeer):
        given += ["nodes"] if peer.nodes is not None else []
        given += ["networks"] if peer.networks else []
        given += ["domainNames"] if peer.domain_names else []
    yield from one_of(at, given, known)
    if peer.namespaces is not None:
        yield from selector(f"{at}.namespaces", peer.namespaces)
    if peer.pods is not None:
        yield from _pods(f"{at}.pods", peer.pods)


def _pods(at: str, pods: NamespacedPods) -> Problems:
    yield from selector(f"{at}.namespaceSelector", pods.namespace_selector)
    yield from selector(f"{at}.podSelector", pods.pod_selector)


def _egress_peer(at: str, peer: EgressPeer, action: str) -> Problems:
    yield from _peer(at, peer, ("namespaces", "pods", "nodes", "networks", "domainNames"))
    if peer.nodes is not None:
        yield from selector(f"{at}.nodes", peer.nodes)
    for k, text in enumerate(peer.networks):
        path = f"{at}.networks[{k}]"
        if "/" not in text:
            yield Problem(path, f"{text!r} is not an address block", "write e.g. 10.0.0.0/8")
        else:
            yield from network(path, text)
    for k, name in enumerate(peer.domain_names):
        if not _DOMAIN.fullmatch(name):
            yield Problem(
                f"{at}.domainNames[{k}]",
                f"{name!r} is not a domain name",
                "write e.g. www.example.org, or *.example.org for all below it",
            )
    if peer.domain_names and action != "Accept":
        yield Problem(
            f"{at}.domainNames", f"in a rule with action {action}", "names go with Accept only"
        )
    for field, values in (("networks", peer.networks), ("domainNames", peer.domain_names)):
        for k, value in enumerate(values):
            if value in values[:k]:
                yield Problem(f"{at}.{field}[{k}]", f"{value!r} twice", "keep one")


def _protocols(at: str, protocols: Sequence[ProtocolMatch]) -> Problems:
    for i, match in enumerate(protocols):
        path = f"{at}[{i}]"
        chosen = {
            "tcp": match.tcp,
            "udp": match.udp,
            "sctp": match.sctp,
            "destinationNamedPort": match.destination_named_port,
        }
        given = [name for name, value in chosen.items() if value is not None]
        yield from one_of(path, given, ("tcp", "udp", "destinationNamedPort"))
        for name, transport in (("tcp", match.tcp), ("udp", match.udp)):
            if transport is not None:
                yield from _port(f"{path}.{name}.destinationPort", transport.destination_port)
        if match.sctp is not None:
            yield Problem(f"{path}.sctp", "Hoplite tells no SCTP ports apart", "remove the entry")
        named = match.destination_named_port
        if named is not None and not PORT_NAME.fullmatch(named):
            yield Problem(
                f"{path}.destinationNamedPort", f"{named!r} is not a port name", "correct it"
            )


def _port(at: str, port: DestinationPort) -> Problems:
    chosen = {"number": port.number, "range": port.range}
    given = [name for name, value in chosen.items() if value is not None]
    yield from one_of(at, given, tuple(chosen))
    if port.range is not None and port.range.end <= port.range.start:
        yield Problem(
            f"{at}.range.end",
            f"{port.range.end} is not above start",
            "swap the two, or give a number",
        )


def _no_named_ports(at: str, protocols: Sequence[ProtocolMatch]) -> Problems:
    for i, match in enumerate(protocols):
        if match.destination_named_port is not None:
            yield Problem(
                f"{at}[{i}].destinationNamedPort",
                "nodes, networks and domain names have no named ports",
                "give a number, or a rule of its own",
            )

"""Checks of NetworkPolicy."""

from __future__ import annotations

from meshapi.errors import Problem
from meshapi.resources.checks.common import PORT_NAME, Problems, network, parse_network, selector
from meshapi.resources.networking import NetworkPolicy, PolicyPeer, PolicyPort


def networkpolicy(policy: NetworkPolicy) -> Problems:
    spec = policy.spec
    yield from selector("$.spec.podSelector", spec.pod_selector)
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


def _peer(at: str, peer: PolicyPeer) -> Problems:
    by_labels = peer.pod_selector is not None or peer.namespace_selector is not None
    if peer.ip_block is None:
        if not by_labels:
            yield Problem(at, "empty", "give podSelector, namespaceSelector or ipBlock")
    elif by_labels:
        yield Problem(f"{at}.ipBlock", "stands beside a selector", "use a peer of its own for it")
    if peer.pod_selector is not None:
        yield from selector(f"{at}.podSelector", peer.pod_selector)
    if peer.namespace_selector is not None:
        yield from selector(f"{at}.namespaceSelector", peer.namespace_selector)
    if peer.ip_block is not None:
        yield from _ip_block(f"{at}.ipBlock", peer.ip_block.cidr, peer.ip_block.except_)


def _ip_block(at: str, cidr: str, excepts: tuple[str, ...]) -> Problems:
    block = parse_network(cidr)
    yield from network(f"{at}.cidr", cidr)
    for i, text in enumerate(excepts):
        part = parse_network(text)
        yield from network(f"{at}.except[{i}]", text)
        if (block is not None and part is not None) and not (
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
    if isinstance(port.port, str) and not PORT_NAME.fullmatch(port.port):
        yield Problem(f"{at}.port", f"{port.port!r} is not a port name", "number or port name")

"""Checks of Quarantine and BlockList."""

from __future__ import annotations

from meshapi.errors import Problem
from meshapi.resources.checks.common import (
    DNS_LABEL,
    DNS_SUBDOMAIN,
    LABEL_FIX,
    Problems,
    network,
)
from meshapi.resources.containment import AllowedPeer, BlockList, Quarantine


def quarantine(wanted: Quarantine) -> Problems:
    spec = wanted.spec
    if not DNS_SUBDOMAIN.fullmatch(spec.workload):
        yield Problem("$.spec.workload", f"{spec.workload!r} is not a workload's name", LABEL_FIX)
    for i, peer in enumerate(spec.allow_from):
        yield from _peer(f"$.spec.allowFrom[{i}]", peer)
        if peer in spec.allow_from[:i]:
            yield Problem(f"$.spec.allowFrom[{i}]", "stands there twice", "keep one")


def _peer(at: str, peer: AllowedPeer) -> Problems:
    if peer.cidr:
        if peer.namespace or peer.workload:
            yield Problem(f"{at}.cidr", "stands beside a workload", "use a peer of its own for it")
        yield from network(f"{at}.cidr", peer.cidr, exact=True)
        return
    if not peer.namespace and not peer.workload:
        yield Problem(at, "empty", "give namespace and workload, or cidr")
        return
    if not DNS_LABEL.fullmatch(peer.namespace):
        what = f"{peer.namespace!r} is not a namespace's name"
        yield Problem(f"{at}.namespace", what if peer.namespace else "missing", LABEL_FIX)
    if not DNS_SUBDOMAIN.fullmatch(peer.workload):
        what = f"{peer.workload!r} is not a workload's name"
        yield Problem(f"{at}.workload", what if peer.workload else "missing", LABEL_FIX)


def blocklist(wanted: BlockList) -> Problems:
    first: dict[str, int] = {}
    for i, text in enumerate(wanted.spec.cidrs):
        yield from network(f"$.spec.cidrs[{i}]", text, exact=True)
        if first.setdefault(text, i) != i:
            yield Problem(f"$.spec.cidrs[{i}]", f"{text!r} twice", "keep one")

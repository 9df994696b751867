"""What node N needs, as one revision. Pure.

A node without workloads needs only its own MeshNode. A node with workloads needs: Namespaces,
Services, MeshNodes, its own Workloads whole, the others' without what only their own node uses,
HTTPRoutes whose parent Service exists, TrafficPolicies with a Service that exists, policies that
select some workload, and every Quarantine and BlockList.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import msgspec
from msgspec.structs import replace

from controller.selection import selects_some
from controller.state import State
from meshapi import codec
from meshapi.resources import (
    AuthorizationPolicy,
    ClusterNetworkPolicy,
    HTTPRoute,
    Key,
    NetworkPolicy,
    Resource,
    TrafficPolicy,
    Workload,
    key_of,
)
from meshapi.wire import FeedFrame

ELSEWHERE = "-"  # stands for the cgroup of a workload that runs on another node


@dataclass(frozen=True)
class Frame:
    """An object as it goes over the wire; rendered once, however many nodes get it."""

    source: Resource
    trimmed: bool = False

    @cached_property
    def line(self) -> bytes:
        shown = _trimmed(self.source) if self.trimmed else self.source
        return b'{"type":"PUT","object":%b}\n' % codec.encode_json(shown)


Frames = Mapping[Key, Frame]

# What the shared frames of a kind are made from, in the order in which they are sent; LABELS is
# what selectors see of workloads.
LABELS = "labels of workloads"
_SOURCES = {
    "Namespace": ("Namespace",),
    "MeshNode": ("MeshNode",),
    "Service": ("Service",),
    "Workload": ("Workload",),
    "BlockList": ("BlockList",),
    "Quarantine": ("Quarantine",),
    "HTTPRoute": ("HTTPRoute", "Service"),
    "TrafficPolicy": ("TrafficPolicy", "Service"),
    "NetworkPolicy": ("NetworkPolicy", LABELS),
    "ClusterNetworkPolicy": ("ClusterNetworkPolicy", "Namespace", LABELS),
    "AuthorizationPolicy": ("AuthorizationPolicy", LABELS),
}


@dataclass(frozen=True)
class Scopes:
    """Every node's scope in one state: what all share, by kind, and what each has for itself.

    Mappings whose sources did not change are the very same objects in the next ``Scopes``.
    """

    state: State = field(default_factory=State)
    shared: Mapping[str, Frames] = field(default_factory=dict)
    own: Mapping[str, Frames] = field(default_factory=dict)

    def get(self, node: str, key: Key) -> Frame | None:
        own = self.own.get(node)
        if own is None and key != _node_key(node):
            return None
        return (own and own.get(key)) or self.shared.get(key.kind, {}).get(key)

    def keys(self, node: str) -> Iterator[Key]:
        """The keys of a node's scope."""
        if node in self.own:
            for frames in self.shared.values():
                yield from frames
        elif self.has(node):
            yield _node_key(node)

    def has(self, node: str) -> bool:
        """Whether the node belongs to the mesh."""
        return self.state.node(node) is not None


def scopes(state: State, before: Scopes) -> Scopes:
    """The scopes of ``state``; whatever has not changed since ``before`` is taken from it."""

    def same(kind: str) -> bool:
        sources = _SOURCES[kind]
        known = before.shared.keys()
        return bool(known) and all(_source(state, k) is _source(before.state, k) for k in sources)

    shared = {
        kind: before.shared[kind]
        if same(kind)
        else _frames(_common(state, kind), before.shared.get(kind, {}), trimmed=kind == "Workload")
        for kind in _SOURCES
    }
    own = before.own if same("Workload") else _own(state, before)
    return Scopes(state, shared, own)


def scope(state: State, node: str) -> dict[Key, Resource]:
    """One node's scope in plain words; what ``Scopes`` computes faster must equal it."""
    if node not in state.workloads.by_node:
        member = state.node(node)
        return {_node_key(node): member} if member else {}
    return {
        key: _trimmed(r) if isinstance(r, Workload) and r.spec.node_name != node else r
        for kind in _SOURCES
        for key, r in _common(state, kind)
    }


def changed(old: Scopes, new: Scopes) -> list[Key]:
    """The keys of the shared part whose frames differ, those that left it included."""
    keys: list[Key] = []
    for kind, frames in new.shared.items():
        former = old.shared.get(kind, {})
        if frames is not former:
            keys += [key for key, frame in frames.items() if former.get(key) is not frame]
            keys += [key for key in former if key not in frames]
    return keys


def delta(old: Scopes, new: Scopes, node: str, shared: list[Key]) -> Iterator[bytes]:
    """The lines that take a node's scope from ``old`` to ``new``; ``shared`` is ``changed``."""
    mine, former = new.own.get(node), old.own.get(node)
    if (mine is None) != (former is None):
        candidates = [*new.keys(node), *(k for k in old.keys(node) if new.get(node, k) is None)]
    elif mine is former:
        candidates = shared
    else:
        candidates = list(dict.fromkeys([*shared, *(mine or ()), *(former or ())]))
    for key in candidates:
        frame, was = new.get(node, key), old.get(node, key)
        if frame is None and was is not None:
            yield _delete(key)
        elif frame is not None and frame is not was:
            yield frame.line


def _source(state: State, name: str) -> object:
    return state.workloads.labelling if name == LABELS else state.kinds.get(name)


def _common(state: State, kind: str) -> Iterator[tuple[Key, Resource]]:
    """Those objects of a kind that concern nodes with workloads."""
    for key, resource in state.kinds.get(kind, {}).items():
        meta = resource.metadata
        wanted = True
        match resource:
            case HTTPRoute():
                parents = resource.spec.parent_refs
                wanted = any(state.service(meta.namespace, p.name) for p in parents)
            case TrafficPolicy():
                targets = resource.spec.target_refs
                wanted = any(state.service(meta.namespace, t.name) for t in targets)
            case NetworkPolicy() | ClusterNetworkPolicy() | AuthorizationPolicy():
                wanted = selects_some(state, resource)
        if wanted:
            yield key, resource


def _own(state: State, before: Scopes) -> dict[str, Frames]:
    own: dict[str, Frames] = {}
    formerly = before.state.workloads.by_node
    for node, workloads in state.workloads.by_node.items():
        former = before.own.get(node)
        if former is not None and workloads is formerly.get(node):
            own[node] = former
        else:
            own[node] = _frames(((key_of(w), w) for w in workloads), former or {})
    return own


def _frames(
    resources: Iterable[tuple[Key, Resource]], before: Frames, *, trimmed: bool = False
) -> Frames:
    """A frame for each; that of an object which has not changed is the one it had.

    If none has changed, the very mapping of before is given back.
    """
    frames: dict[Key, Frame] = {}
    for key, resource in resources:
        former = before.get(key)
        same = former is not None and former.source is resource
        frames[key] = former if former is not None and same else Frame(resource, trimmed)
    unchanged = len(frames) == len(before) and all(before.get(k) is f for k, f in frames.items())
    return before if unchanged else frames


def _trimmed(resource: Resource) -> Resource:
    """A workload as other nodes need it: where to reach it and who it is."""
    if not isinstance(resource, Workload):
        return resource
    return replace(
        resource,
        metadata=replace(resource.metadata, annotations={}),
        spec=replace(resource.spec, cgroup=ELSEWHERE),
        status=replace(resource.status, message=""),
    )


def _delete(key: Key) -> bytes:
    frame = FeedFrame(type="DELETE", kind=key.kind, namespace=key.namespace, name=key.name)
    return msgspec.json.encode(frame) + b"\n"


def _node_key(node: str) -> Key:
    return Key("MeshNode", "", node)

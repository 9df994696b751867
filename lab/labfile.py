"""The file that ``hoplite-lab up`` takes: a Lab and mesh resources, read and checked. Pure.

It is checked whole before anything is made; every refusal names file, line and JSON path.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from lab.labkind import API_VERSION, MAX_NODES, MAX_PODS, WORKLOAD_LABEL, Lab, LabNode, LabWorkload
from lab.names import NODE_NAME_LENGTH, RESERVED_NODES
from meshapi import endpoint, manifests, yamldocs
from meshapi.codec import convert
from meshapi.errors import HopliteError, InvalidError, Problem
from meshapi.manifests import Manifest
from meshapi.nodecontract import DNS_PORT
from meshapi.resources import Key, MeshNode, ObjectMeta, Workload, WorkloadSpec, key_of
from meshapi.resources.checks import check

_LABEL = re.compile(r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")
_VARIABLE = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")
_LABEL_FIX = "use lower-case letters, digits and '-'"


@dataclass(frozen=True)
class LabFile:
    """A whole file that has been checked; ``manifests`` are the mesh resources in it.

    ``places`` says where (``file:line``) the Workloads come from that the lab makes.
    """

    nodes: tuple[LabNode, ...]
    manifests: tuple[Manifest, ...]
    places: dict[Key, str]
    dns_upstreams: tuple[str, ...] = ()

    def where(self, key: Key, path: str = "$") -> str:
        """``file:line`` of a JSON path in a resource, empty for one that the file lacks."""
        for manifest in self.manifests:
            if key_of(manifest.resource) == key:
                return manifest.where(path)
        return self.places.get(key, "")


def parse(text: str, source: str) -> LabFile:
    """Read and check a whole file; ``source`` is its name in refusals."""
    documents = yamldocs.load(text, source)
    labs = [d for d in documents if isinstance(d.value, dict) and d.value.get("kind") == "Lab"]
    if not labs:
        raise HopliteError(
            "no Lab in it", where=source, fix=f"add apiVersion: {API_VERSION}, kind: Lab"
        )
    if len(labs) > 1:
        raise HopliteError(
            f"a second Lab (the first is at {labs[0].where()})",
            where=labs[1].where(),
            fix="keep one of the two",
        )
    spec = _lab(labs[0]).spec
    nodes = spec.nodes
    resources = manifests.decode_documents([d for d in documents if d is not labs[0]])
    places = _check_nodes(labs[0], nodes)
    _check_upstreams(labs[0], spec.dns.upstreams)
    _check_resources(resources, nodes, places)
    return LabFile(nodes, tuple(resources), places, spec.dns.upstreams)


def resource_names(nodes: tuple[LabNode, ...]) -> dict[tuple[int, int], str]:
    """The Workload resource's name of workload ``j`` of node ``i``.

    It is the workload's own, with the node's appended where several nodes run it.
    """
    count = Counter((w.namespace, w.name) for node in nodes for w in node.workloads)
    return {
        (i, j): w.name if count[w.namespace, w.name] == 1 else f"{w.name}-{node.name}"
        for i, node in enumerate(nodes)
        for j, w in enumerate(node.workloads)
    }


def _lab(document: yamldocs.Document) -> Lab:
    if document.value.get("apiVersion") != API_VERSION:
        raise _refusal(
            document,
            Problem("$.apiVersion", f"a Lab is of {API_VERSION}", f"write {API_VERSION}"),
        )
    try:
        return convert(document.value, Lab, "Lab")
    except InvalidError as error:
        problem = error.problems[0]
        fix = problem.fix or ("put it in quotes" if "expected `str`" in problem.what else "")
        raise _refusal(document, Problem(problem.path, problem.what, fix)) from error


def _check_nodes(document: yamldocs.Document, nodes: tuple[LabNode, ...]) -> dict[Key, str]:
    """Refuse what the types let through; returns where each Workload resource comes from."""
    for problem in _node_problems(document, nodes):
        raise _refusal(document, problem)
    places: dict[Key, str] = {}
    for (i, j), name in resource_names(nodes).items():
        path = f"$.spec.nodes[{i}].workloads[{j}].name"
        workload = nodes[i].workloads[j]
        first = places.setdefault(Key("Workload", workload.namespace, name), path)
        if first != path:
            what = f"its Workload would be named {name}, as that of {_at(document, first)} is"
            raise _refusal(document, Problem(path, what, "rename one of the two"))
    return {key: document.where(path) for key, path in places.items()}


def _check_upstreams(document: yamldocs.Document, upstreams: tuple[str, ...]) -> None:
    for i, text in enumerate(upstreams):
        try:
            endpoint.parse(text, DNS_PORT)
        except ValueError:
            what = f"{text!r} is not an IP address, with or without a port"
            problem = Problem(f"$.spec.dns.upstreams[{i}]", what, "write e.g. 10.244.1.11")
            raise _refusal(document, problem) from None


def _node_problems(document: yamldocs.Document, nodes: tuple[LabNode, ...]) -> Iterator[Problem]:
    if not nodes:
        yield Problem("$.spec.nodes", "empty", "a lab has at least one node")
    if len(nodes) > MAX_NODES:
        yield Problem("$.spec.nodes", f"{len(nodes)} nodes", f"a lab has at most {MAX_NODES}")
    seen: dict[str, str] = {}
    for i, node in enumerate(nodes):
        at = f"$.spec.nodes[{i}]"
        if not _LABEL.match(node.name) or len(node.name) > NODE_NAME_LENGTH:
            fix = f"{_LABEL_FIX}, at most {NODE_NAME_LENGTH}"
            yield Problem(f"{at}.name", f"{node.name!r} is not a node's name", fix)
        if node.name in RESERVED_NODES:
            yield Problem(f"{at}.name", f"{node.name!r} is a part of every lab", "rename the node")
        first = seen.setdefault(node.name, at)
        if first != at:
            what = f"node {node.name!r} stands in {_at(document, first)} already"
            yield Problem(f"{at}.name", what, "rename one of the two")
        for problem in check(_draft_node(node)):
            if problem.path.startswith("$.metadata.labels"):
                inner = problem.path.removeprefix("$.metadata")
                yield Problem(at + inner, problem.what, problem.fix)
        if sum(w.network == "pod" for w in node.workloads) > MAX_PODS:
            yield Problem(f"{at}.workloads", f"more than {MAX_PODS} pods", "use more nodes")
        yield from _workloads_problems(document, f"{at}.workloads", node)


def _workloads_problems(document: yamldocs.Document, at: str, node: LabNode) -> Iterator[Problem]:
    seen: dict[tuple[str, str], str] = {}
    host_ports: dict[tuple[int, str], str] = {}
    for j, workload in enumerate(node.workloads):
        path = f"{at}[{j}]"
        yield from _workload_problems(path, node.name, workload)
        first = seen.setdefault((workload.namespace, workload.name), path)
        if first != path:
            there = _at(document, first)
            what = f"{workload.namespace}/{workload.name} stands in {there} already"
            yield Problem(f"{path}.name", what, "rename one, or put it on another node")
        if workload.network == "pod":
            continue
        for k, port in enumerate(workload.ports):
            place = f"{path}.ports[{k}].port"
            taken = host_ports.setdefault((port.port, port.protocol), place)
            if taken != place:
                other = _at(document, taken)
                what = f"{port.port}/{port.protocol} of the node's network is taken by {other}"
                yield Problem(place, what, "use another port, or network: pod")


def _workload_problems(at: str, node: str, workload: LabWorkload) -> Iterator[Problem]:
    if not _LABEL.match(workload.name):
        fix = f"{_LABEL_FIX}, at most 63"
        yield Problem(f"{at}.name", f"{workload.name!r} is not a workload's name", fix)
    if WORKLOAD_LABEL in workload.labels:
        path = f"{at}.labels[{WORKLOAD_LABEL!r}]"
        yield Problem(path, "this label is the lab's own", "remove it")
    for k, word in enumerate(workload.command):
        if "\0" in word or (k == 0 and not word):
            yield Problem(f"{at}.command[{k}]", f"{word!r} cannot be run", "correct it")
    for name, value in workload.env.items():
        path = f"{at}.env[{name!r}]"
        if not _VARIABLE.match(name):
            yield Problem(path, f"{name!r} is not a variable's name", "use A-Z, 0-9 and '_'")
        if "\0" in value:
            yield Problem(path, "its value holds a NUL character", "remove it")
    for problem in check(_draft(node, workload)):
        inner = problem.path.removeprefix("$.metadata").removeprefix("$.spec")
        yield Problem(at + inner, problem.what, problem.fix)


def _draft(node: str, workload: LabWorkload) -> Workload:
    """The workload as a resource, its address a stand-in, to have the shared checks run on it."""
    return Workload(
        api_version="mesh.hoplite.io/v1alpha1",
        kind="Workload",
        metadata=ObjectMeta(
            name=workload.name, namespace=workload.namespace, labels=workload.labels
        ),
        spec=WorkloadSpec(
            node_name=node,
            cgroup="draft",
            service_account=workload.service_account,
            network=workload.network,
            addresses=("10.244.0.1",) if workload.network == "pod" else (),
            ports=workload.ports,
        ),
    )


def _draft_node(node: LabNode) -> MeshNode:
    return MeshNode(
        api_version="mesh.hoplite.io/v1alpha1",
        kind="MeshNode",
        metadata=ObjectMeta(name=node.name, labels=node.labels),
    )


def _check_resources(
    resources: list[Manifest], nodes: tuple[LabNode, ...], places: dict[Key, str]
) -> None:
    """Refuse resources that contradict the Lab."""
    names = {node.name for node in nodes}
    for manifest in resources:
        resource, where = manifest.resource, manifest.where("$")
        key = key_of(resource)
        if key in places:
            raise HopliteError(
                f"{key} is made for the workload at {places[key]}",
                where=where,
                fix="remove it, or rename one of the two",
            )
        if isinstance(resource, MeshNode) and resource.metadata.name in names:
            raise HopliteError(
                f"{key} is made when the lab's node joins", where=where, fix="remove it"
            )
        if isinstance(resource, Workload) and resource.spec.node_name not in names:
            raise HopliteError(
                f"{key}: $.spec.nodeName: the lab has no node {resource.spec.node_name!r}",
                where=manifest.where("$.spec.nodeName"),
                fix=f"its nodes are {', '.join(sorted(names))}",
            )


def _at(document: yamldocs.Document, path: str) -> str:
    return f"{path} ({document.where(path)})"


def _refusal(document: yamldocs.Document, problem: Problem) -> HopliteError:
    what = f"{problem.path}: {problem.what}"
    return HopliteError(what, where=document.where(problem.path), fix=problem.fix)

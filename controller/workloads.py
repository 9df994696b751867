"""The workloads of one state, and ways to find them. Pure.

A node's report changes one workload of a hundred thousand: what was built for the state before is
taken over but for the groups that the change touches.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from meshapi.resources import Key, LabelSelector, Workload
from meshapi.selectors import contains, matches

_FEW = 32  # changes; more than these are cheaper to build anew

Groups = dict[Any, list[Workload]]
Change = tuple[Workload | None, Workload | None]  # before and after

_GROUPED_BY: dict[str, Callable[[Workload], Iterable[Hashable]]] = {
    "by_namespace": lambda w: (w.metadata.namespace,),
    "by_node": lambda w: (w.spec.node_name,),
    "by_label": lambda w: ((w.metadata.namespace, *label) for label in w.metadata.labels.items()),
}


@dataclass(frozen=True)
class Workloads:
    """All workloads; the groups are built when first asked for.

    ``labelling`` is the same object in two states whose workloads differ in nothing that a
    selector can see. A group is the same list in two states if none of its workloads differs.
    """

    all: Mapping[Key, Workload] = field(default_factory=dict)
    labelling: object = field(default_factory=object, compare=False)

    @cached_property
    def by_namespace(self) -> Mapping[str, list[Workload]]:
        return _grouped(self.all.values(), _GROUPED_BY["by_namespace"])

    @cached_property
    def by_node(self) -> Mapping[str, list[Workload]]:
        return _grouped(self.all.values(), _GROUPED_BY["by_node"])

    @cached_property
    def by_label(self) -> Mapping[tuple[str, str, str], list[Workload]]:
        """By namespace, label and value."""
        return _grouped(self.all.values(), _GROUPED_BY["by_label"])

    @cached_property
    def pod_namespaces(self) -> frozenset[str]:
        """The namespaces in which some workload has a network of its own."""
        return frozenset(
            namespace
            for namespace, workloads in self.by_namespace.items()
            if any(w.spec.network == "pod" for w in workloads)
        )

    def labelled(self, namespace: str, wanted: Mapping[str, str]) -> list[Workload]:
        """Those of a namespace that carry every label of ``wanted``, which is not empty."""
        return [
            w for w in self._candidates(namespace, wanted) if contains(w.metadata.labels, wanted)
        ]

    def selected(self, namespace: str, selector: LabelSelector, *, pods: bool = False) -> bool:
        """Whether a selector selects any workload of a namespace; with ``pods`` only those that
        are not in their host's network count.
        """
        return any(
            matches(selector, w.metadata.labels)
            for w in self._candidates(namespace, selector.match_labels)
            if not pods or w.spec.network == "pod"
        )

    def after(self, changed: Mapping[Key, Workload], keys: Iterable[Key]) -> Workloads:
        """The workloads ``changed``, which differ from these under ``keys`` at most."""
        changes = [(self.all.get(key), changed.get(key)) for key in keys]
        changes = [(old, new) for old, new in changes if old is not new]
        if len(changes) > _FEW:
            return Workloads(changed)
        seen = any(_looks(old) != _looks(new) for old, new in changes)
        result = Workloads(changed) if seen else Workloads(changed, self.labelling)
        for name, names in _GROUPED_BY.items():
            if name in self.__dict__:  # has been built
                result.__dict__[name] = _regrouped(self.__dict__[name], changes, names)
        return result

    def _candidates(self, namespace: str, wanted: Mapping[str, str]) -> list[Workload]:
        """The few workloads of a namespace among which are all that carry ``wanted``."""
        if not wanted:
            return self.by_namespace.get(namespace, [])
        return min(
            (self.by_label.get((namespace, *label), []) for label in wanted.items()), key=len
        )


def _looks(workload: Workload | None) -> tuple[object, ...]:
    """What a selector can see of a workload."""
    return (workload.metadata.labels, workload.spec.network) if workload else ()


def _grouped(
    workloads: Iterable[Workload], names: Callable[[Workload], Iterable[Hashable]]
) -> Groups:
    groups: Groups = defaultdict(list)
    for workload in workloads:
        for name in names(workload):
            groups[name].append(workload)
    return dict(groups)


def _regrouped(
    before: Groups, changes: Sequence[Change], names: Callable[[Workload], Iterable[Hashable]]
) -> Groups:
    groups = dict(before)
    for old, new in changes:
        left = set(names(old)) if old else set()
        entered = set(names(new)) if new else set()
        for name in left - entered:
            rest = [w for w in groups.pop(name) if w is not old]
            if rest:
                groups[name] = rest
        for name in left & entered:
            groups[name] = [new if new and w is old else w for w in groups[name]]
        for name in entered - left:
            groups[name] = [*groups.get(name, []), *([new] if new else [])]
    return groups

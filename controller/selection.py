"""Whether a policy concerns anybody: what it selects, over all namespaces. Pure."""

from __future__ import annotations

from controller.state import State
from meshapi.resources import AuthorizationPolicy, ClusterNetworkPolicy, LabelSelector
from meshapi.resources.options import Policy
from meshapi.selectors import matches

_EVERYTHING = LabelSelector()


def selects_some(state: State, policy: Policy) -> bool:
    """Whether a policy selects any workload."""
    if isinstance(policy, ClusterNetworkPolicy):
        return _subject(state, policy)
    namespace = policy.metadata.namespace
    if not isinstance(policy, AuthorizationPolicy):
        return state.workloads.selected(namespace, policy.spec.pod_selector)
    chosen = LabelSelector(match_labels=policy.spec.selector.match_labels)
    everywhere = namespace == state.root_namespace
    namespaces = state.workloads.by_namespace if everywhere else (namespace,)
    return any(state.workloads.selected(n, chosen) for n in namespaces)


def _subject(state: State, policy: ClusterNetworkPolicy) -> bool:
    """A subject never selects workloads in their host's network."""
    subject = policy.spec.subject
    pods = subject.pods
    of_namespaces = pods.namespace_selector if pods else subject.namespaces or _EVERYTHING
    of_pods = pods.pod_selector if pods else _EVERYTHING
    return any(
        state.workloads.selected(name, of_pods, pods=True)
        for name in state.workloads.pod_namespaces
        if matches(of_namespaces, _labels(state, name))
    )


def _labels(state: State, namespace: str) -> dict[str, str]:
    found = state.namespace(namespace)
    return found.metadata.labels if found else {}

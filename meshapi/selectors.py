"""Label selectors (Kubernetes meta/v1 semantics), pure."""

from __future__ import annotations

from collections.abc import Mapping

from meshapi.resources.meta import LabelSelector, LabelSelectorRequirement

NAMESPACE_NAME_LABEL = "kubernetes.io/metadata.name"  # every Namespace carries it


def matches(selector: LabelSelector, labels: Mapping[str, str]) -> bool:
    """Whether ``labels`` meet every requirement; an empty selector matches everything."""
    return contains(labels, selector.match_labels) and all(
        _holds(requirement, labels) for requirement in selector.match_expressions
    )


def contains(labels: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    """Whether ``labels`` hold every pair of ``wanted``."""
    return all(labels.get(key) == value for key, value in wanted.items())


def _holds(requirement: LabelSelectorRequirement, labels: Mapping[str, str]) -> bool:
    value = labels.get(requirement.key)
    match requirement.operator:
        case "In":
            return value in requirement.values
        case "NotIn":
            return value not in requirement.values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None

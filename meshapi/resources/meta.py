"""Parts that every resource shares: metadata, selectors, conditions.

Fields and meaning are Kubernetes' (meta/v1). Unknown fields are refused, never ignored.
"""

from __future__ import annotations

from typing import Literal

import msgspec


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """A piece of a resource: immutable, strict, camelCase on the wire."""


class SparsePart(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    rename="camel",
    omit_defaults=True,
):
    """A part whose defaults mean "not there" and so are left out when written."""


class ObjectMeta(SparsePart, frozen=True):
    """Name and bookkeeping of a resource. ``resource_version`` is the store's revision."""

    name: str
    namespace: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str = ""


class LabelSelectorRequirement(SparsePart, frozen=True):
    key: str
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: tuple[str, ...] = ()


class LabelSelector(SparsePart, frozen=True):
    """Selects by labels; all parts must hold, an empty selector selects everything."""

    match_labels: dict[str, str] = {}
    match_expressions: tuple[LabelSelectorRequirement, ...] = ()


class Condition(SparsePart, frozen=True):
    """One observed aspect of a resource's state (meta/v1 Condition)."""

    type: str
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str = ""
    observed_generation: int = 0
    last_transition_time: str = ""

"""security.istio.io/v1: AuthorizationPolicy, and what of it can be decided at layer 4.

Fields and meaning are Istio's. A connection that is no HTTP request has no method, path, host or
token: there an ALLOW rule that asks for one never matches, and a DENY rule matches without it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import msgspec
from msgspec.structs import replace

from meshapi.resources.meta import Condition, ObjectMeta, SparsePart

GROUP = "security.istio.io"

AuthorizationAction = Literal["ALLOW", "DENY"]

# A list that is given holds something: an empty one would read like "none" and act like "all".
Values = Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]

_SOME = msgspec.Meta(min_length=1)


class WorkloadSelector(SparsePart, frozen=True):
    """The workloads that carry all these labels; none selects every workload."""

    match_labels: dict[str, str] = {}


class Source(SparsePart, frozen=True):
    """Who connects. All fields that are given must hold, each by any one of its values.

    Principals are SPIFFE IDs without ``spiffe://``; service accounts are ``namespace/name`` or,
    in the policy's own namespace, ``name``.
    """

    principals: Values = ()
    not_principals: Values = ()
    request_principals: Values = ()
    not_request_principals: Values = ()
    namespaces: Values = ()
    not_namespaces: Values = ()
    service_accounts: Values = ()
    not_service_accounts: Values = ()
    ip_blocks: Values = ()
    not_ip_blocks: Values = ()
    remote_ip_blocks: Values = ()
    not_remote_ip_blocks: Values = ()


class From(SparsePart, frozen=True):
    source: Source


class Operation(SparsePart, frozen=True):
    """What is asked for. All fields that are given must hold, each by any one of its values."""

    hosts: Values = ()
    not_hosts: Values = ()
    ports: Values = ()
    not_ports: Values = ()
    methods: Values = ()
    not_methods: Values = ()
    paths: Values = ()
    not_paths: Values = ()


class To(SparsePart, frozen=True):
    operation: Operation


class When(SparsePart, frozen=True):
    """A condition more: the attribute ``key`` is one of ``values`` and none of ``not_values``."""

    key: str
    values: Values = ()
    not_values: Values = ()


class AuthorizationRule(SparsePart, frozen=True):
    """Matches if any source, any operation and all conditions do; an empty rule always does."""

    from_: Annotated[tuple[From, ...], _SOME] = msgspec.field(default=(), name="from")
    to: Annotated[tuple[To, ...], _SOME] = ()
    when: Annotated[tuple[When, ...], _SOME] = ()


class AuthorizationPolicySpec(SparsePart, frozen=True):
    """``action`` is kept as text, and the last two fields are known, only to be refused clearly."""

    selector: WorkloadSelector = WorkloadSelector()
    action: str = "ALLOW"
    rules: tuple[AuthorizationRule, ...] = ()
    provider: Any = None
    target_ref: Any = None
    target_refs: Any = None


class AuthorizationPolicyStatus(SparsePart, frozen=True):
    conditions: tuple[Condition, ...] = ()
    connections_cut: int = 0


class AuthorizationPolicy(SparsePart, frozen=True):
    """Who may connect to the selected workloads, by identity, address and port.

    DENY rules are tried first. A workload that some ALLOW policy selects refuses what no rule of
    those allows. In the root namespace the policy holds for the workloads of all namespaces.
    """

    api_version: Literal["security.istio.io/v1"]
    kind: Literal["AuthorizationPolicy"]
    metadata: ObjectMeta
    spec: AuthorizationPolicySpec = AuthorizationPolicySpec()
    status: AuthorizationPolicyStatus = AuthorizationPolicyStatus()


# Keys of ``when``. Those that end in "[" take a name in brackets.
LAYER4_KEYS = (
    "source.ip",
    "source.namespace",
    "source.principal",
    "source.serviceAccount",
    "destination.ip",
    "destination.port",
)
HTTP_KEYS = (
    "remote.ip",
    "connection.sni",
    "request.headers[",
    "request.auth.principal",
    "request.auth.audiences",
    "request.auth.presenter",
    "request.auth.claims[",
)

_HTTP_SOURCE = (
    "request_principals",
    "not_request_principals",
    "remote_ip_blocks",
    "not_remote_ip_blocks",
)
_HTTP_OPERATION = ("hosts", "not_hosts", "methods", "not_methods", "paths", "not_paths")


def http_only(rule: AuthorizationRule) -> tuple[str, ...]:
    """The JSON paths, from the rule on, of what only an HTTP request can be asked for."""
    return tuple(_http_only(rule))


def layer4_rule(action: str, rule: AuthorizationRule) -> AuthorizationRule | None:
    """The rule as connections meet it; None if none of them can match it.

    An ALLOW rule with an HTTP-only field matches no connection; a DENY rule loses these fields and
    matches by the rest.
    """
    if not http_only(rule):
        return rule
    if action == "ALLOW":
        return None
    return replace(
        rule,
        from_=tuple(From(source=_without(f.source, _HTTP_SOURCE)) for f in rule.from_),
        to=tuple(To(operation=_without(t.operation, _HTTP_OPERATION)) for t in rule.to),
        when=tuple(w for w in rule.when if not is_http_key(w.key)),
    )


def unconditional(rule: AuthorizationRule) -> bool:
    """Whether the rule matches whatever comes."""
    return (
        not rule.when
        and (not rule.from_ or any(f.source == Source() for f in rule.from_))
        and (not rule.to or any(t.operation == Operation() for t in rule.to))
    )


def is_http_key(key: str) -> bool:
    """Whether a condition's key is an attribute that only an HTTP request has."""
    return any(key.startswith(k) if k.endswith("[") else key == k for k in HTTP_KEYS)


def value_matches(pattern: str, value: str) -> bool:
    """Istio's match of texts: ``abc`` exactly, ``abc*`` begins, ``*abc`` ends, ``*`` is not empty.

    For names and principals; addresses and ports are compared as what they are.
    """
    if pattern == "*":
        return bool(value)
    if pattern.startswith("*"):
        return value.endswith(pattern[1:])
    if pattern.endswith("*"):
        return value.startswith(pattern[:-1])
    return value == pattern


def _http_only(rule: AuthorizationRule) -> Iterator[str]:
    for i, sender in enumerate(rule.from_):
        for name in _given(sender.source, _HTTP_SOURCE):
            yield f"from[{i}].source.{name}"
    for i, target in enumerate(rule.to):
        for name in _given(target.operation, _HTTP_OPERATION):
            yield f"to[{i}].operation.{name}"
    for i, condition in enumerate(rule.when):
        if is_http_key(condition.key):
            yield f"when[{i}].key"


def _given(part: msgspec.Struct, names: tuple[str, ...]) -> Iterator[str]:
    """Those of the fields that are set, by their names on the wire."""
    for field in msgspec.structs.fields(part):
        if field.name in names and getattr(part, field.name):
            yield field.encode_name


def _without(part: Any, names: tuple[str, ...]) -> Any:
    return replace(part, **dict.fromkeys(names, ()))

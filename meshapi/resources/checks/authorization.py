"""Checks of AuthorizationPolicy."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from meshapi.errors import Problem
from meshapi.resources.authorization import (
    HTTP_KEYS,
    LAYER4_KEYS,
    AuthorizationPolicy,
    AuthorizationRule,
    Operation,
    Source,
    When,
    is_http_key,
)
from meshapi.resources.checks.common import DNS_LABEL, DNS_SUBDOMAIN, Problems, labels, network

_BRACKETED = re.compile(r"[^\[\]]+(\[[^\[\]]+\])+")

Value = Callable[[str, str], Problems]  # (path, text) -> what is wrong with the text


def authorizationpolicy(policy: AuthorizationPolicy) -> Problems:
    spec = policy.spec
    yield from labels("$.spec.selector.matchLabels", spec.selector.match_labels)
    if spec.action in ("AUDIT", "CUSTOM"):
        yield Problem("$.spec.action", f"{spec.action} is not supported yet", "use ALLOW or DENY")
    elif spec.action not in ("ALLOW", "DENY"):
        yield Problem("$.spec.action", f"{spec.action!r} is not an action", "use ALLOW or DENY")
    for name, value in (
        ("provider", spec.provider),
        ("targetRef", spec.target_ref),
        ("targetRefs", spec.target_refs),
    ):
        if value is not None:
            fix = "remove it" if name == "provider" else "use selector"
            yield Problem(f"$.spec.{name}", "not supported yet", fix)
    if spec.action == "DENY" and not spec.rules:
        yield Problem("$.spec.rules", "empty", "a DENY policy without a rule refuses nothing")
    for i, rule in enumerate(spec.rules):
        yield from _rule(f"$.spec.rules[{i}]", rule)


def _rule(at: str, rule: AuthorizationRule) -> Problems:
    for i, sender in enumerate(rule.from_):
        yield from _source(f"{at}.from[{i}].source", sender.source)
    for i, target in enumerate(rule.to):
        yield from _operation(f"{at}.to[{i}].operation", target.operation)
    for i, condition in enumerate(rule.when):
        yield from _when(f"{at}.when[{i}]", condition)


def _source(at: str, source: Source) -> Problems:
    if source == Source():
        yield Problem(at, "empty", "give at least one field, or leave from out for any source")
    for values, path, value in (
        (source.principals, "principals", _principal),
        (source.not_principals, "notPrincipals", _principal),
        (source.request_principals, "requestPrincipals", _text),
        (source.not_request_principals, "notRequestPrincipals", _text),
        (source.namespaces, "namespaces", _text),
        (source.not_namespaces, "notNamespaces", _text),
        (source.service_accounts, "serviceAccounts", _service_account),
        (source.not_service_accounts, "notServiceAccounts", _service_account),
        (source.ip_blocks, "ipBlocks", network),
        (source.not_ip_blocks, "notIpBlocks", network),
        (source.remote_ip_blocks, "remoteIpBlocks", network),
        (source.not_remote_ip_blocks, "notRemoteIpBlocks", network),
    ):
        yield from _each(f"{at}.{path}", values, value)
    for name, accounts in (
        ("serviceAccounts", source.service_accounts),
        ("notServiceAccounts", source.not_service_accounts),
    ):
        others = (
            source.principals,
            source.not_principals,
            source.namespaces,
            source.not_namespaces,
        )
        if accounts and any(others):
            yield Problem(
                f"{at}.{name}", "stands beside principals or namespaces", "use one of the two"
            )


def _operation(at: str, operation: Operation) -> Problems:
    if operation == Operation():
        yield Problem(at, "empty", "give at least one field, or leave to out for any operation")
    for values, path, value in (
        (operation.hosts, "hosts", _text),
        (operation.not_hosts, "notHosts", _text),
        (operation.ports, "ports", _port),
        (operation.not_ports, "notPorts", _port),
        (operation.methods, "methods", _text),
        (operation.not_methods, "notMethods", _text),
        (operation.paths, "paths", _path),
        (operation.not_paths, "notPaths", _path),
    ):
        yield from _each(f"{at}.{path}", values, value)


def _when(at: str, condition: When) -> Problems:
    key = condition.key
    value = _VALUES.get(key) or (_text if is_http_key(key) else None)
    if value is None:
        yield from _unknown_key(f"{at}.key", key)
        return
    if "[" in key and not _BRACKETED.fullmatch(key):
        yield Problem(f"{at}.key", f"{key!r} is not complete", "write name[name]")
    if not condition.values and not condition.not_values:
        yield Problem(at, "no values", "give values or notValues")
    yield from _each(f"{at}.values", condition.values, value)
    yield from _each(f"{at}.notValues", condition.not_values, value)


def _unknown_key(at: str, key: str) -> Problems:
    if key.startswith("experimental."):
        yield Problem(at, f"{key!r} is not supported", "remove the condition")
        return
    known = [*LAYER4_KEYS, *(k + "name]" if k.endswith("[") else k for k in HTTP_KEYS)]
    yield Problem(at, f"{key!r} is not a known attribute", f"known are {', '.join(known)}")


def _each(at: str, values: tuple[str, ...], value: Value) -> Iterator[Problem]:
    for i, text in enumerate(values):
        yield from value(f"{at}[{i}]", text)


def _text(path: str, text: str) -> Problems:
    """``abc``, ``abc*``, ``*abc`` or ``*``."""
    if not text:
        yield Problem(path, "empty", "write a value, or * for any that is there")
    elif "*" in text[1:-1] or (len(text) > 1 and text[0] == text[-1] == "*"):
        yield Problem(path, f"{text!r}: a * inside, or two", "one * at the start or at the end")


def _path(path: str, text: str) -> Problems:
    if "{*}" in text or "{**}" in text:
        yield Problem(path, f"{text!r}: path templates are not supported yet", "use a prefix: /a/*")
    else:
        yield from _text(path, text)


def _principal(path: str, text: str) -> Problems:
    if text.startswith("spiffe://"):
        fix = f"write {text.removeprefix('spiffe://')}"
        yield Problem(path, f"{text!r}: principals stand without spiffe://", fix)
    else:
        yield from _text(path, text)


def _service_account(path: str, text: str) -> Problems:
    namespace, slash, name = text.rpartition("/")
    if (slash and not DNS_LABEL.fullmatch(namespace)) or not DNS_SUBDOMAIN.fullmatch(name):
        yield Problem(
            path,
            f"{text!r} is not a service account",
            "write namespace/name or, in the policy's own namespace, name",
        )


def _port(path: str, text: str) -> Problems:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 65535):
        yield Problem(path, f"{text!r} is not a port", "write 1 to 65535, in quotes")


_VALUES: dict[str, Value] = {
    "source.ip": network,
    "source.namespace": _text,
    "source.principal": _principal,
    "source.serviceAccount": _service_account,
    "destination.ip": network,
    "destination.port": _port,
    "remote.ip": network,
}

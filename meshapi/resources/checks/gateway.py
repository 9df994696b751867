"""Checks of HTTPRoute."""

from __future__ import annotations

import re
from typing import Any

from meshapi.errors import Problem
from meshapi.resources.checks.common import HTTP_TOKEN, Problems
from meshapi.resources.gateway import BackendRef, HTTPRoute


def httproute(route: HTTPRoute) -> Problems:
    spec = route.spec
    if not spec.parent_refs:
        yield Problem("$.spec.parentRefs", "empty", "name the Service that this route is for")
    if not spec.rules:
        yield Problem("$.spec.rules", "empty", "give at least one rule with backendRefs")
    seen: set[tuple[str, str, int | None]] = set()
    for i, parent in enumerate(spec.parent_refs):
        ref = (parent.namespace or route.metadata.namespace, parent.name, parent.port)
        if ref in seen:
            yield Problem(f"$.spec.parentRefs[{i}]", "stands there twice", "remove one")
        seen.add(ref)
        if parent.namespace and parent.namespace != route.metadata.namespace:
            yield Problem(
                f"$.spec.parentRefs[{i}].namespace",
                "routes of a consumer's namespace are not supported yet",
                f"put the route into namespace {parent.namespace!r}",
            )
    for i, rule in enumerate(spec.rules):
        at = f"$.spec.rules[{i}]"
        for j, backend in enumerate(rule.backend_refs):
            yield from _backend_ref(f"{at}.backendRefs[{j}]", backend, route.metadata.namespace)
        for j, match in enumerate(rule.matches):
            yield from _route_match(f"{at}.matches[{j}]", match)


def _backend_ref(at: str, backend: BackendRef, namespace: str) -> Problems:
    if backend.port is None:
        yield Problem(f"{at}.port", "missing", "a Service as backend needs its port")
    if backend.namespace and backend.namespace != namespace:
        yield Problem(
            f"{at}.namespace",
            "a backend in another namespace needs a ReferenceGrant, which is not supported yet",
            f"use a Service of namespace {namespace}",
        )


def _route_match(at: str, match: Any) -> Problems:
    if match.path is not None:
        path = match.path
        if path.type == "RegularExpression":
            yield from _regex(f"{at}.path.value", path.value)
        elif not path.value.startswith("/"):
            yield Problem(f"{at}.path.value", f"{path.value!r} is not a path", "start with '/'")
    for part in ("headers", "query_params"):
        wire = "queryParams" if part == "query_params" else part
        seen: set[str] = set()
        for k, item in enumerate(getattr(match, part)):
            name = item.name.lower() if part == "headers" else item.name
            if not HTTP_TOKEN.fullmatch(item.name):
                yield Problem(f"{at}.{wire}[{k}].name", f"{item.name!r} is not a name", "fix it")
            if name in seen:
                yield Problem(f"{at}.{wire}[{k}].name", f"{item.name!r} twice", "keep one")
            seen.add(name)
            if item.type == "RegularExpression":
                yield from _regex(f"{at}.{wire}[{k}].value", item.value)


def _regex(path: str, value: str) -> Problems:
    try:
        re.compile(value)
    except re.error as error:
        yield Problem(path, f"not a regular expression: {error}", "correct the pattern")

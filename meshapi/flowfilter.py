"""Which flows a query means; pure, so that agent, controller and tests agree."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from meshapi.codec import convert
from meshapi.errors import HopliteError
from meshapi.flow import PROTOCOLS, Flow, FlowEndpoint, FlowQuery, FlowService

_CHOICES = {
    "verdict": ("PASS", "ALLOW", "DENY", "REDIRECT", "AUDIT"),
    "direction": ("outbound", "inbound"),
    "protocol": tuple(PROTOCOLS.values()),
    "path": ("direct", "proxy"),
}


def query_from(parameters: Mapping[str, str]) -> FlowQuery:
    """A flow query from URL parameters; unknown ones and wrong values are refused."""
    value: dict[str, Any] = dict(parameters)
    for field, kind in (("since", float), ("until", float), ("last", int)):
        if field in value:
            try:
                value[field] = kind(value[field])
            except ValueError as error:
                raise HopliteError(f"{value[field]!r} is not a number", where=field) from error
    known = {f.encode_name for f in msgspec.structs.fields(FlowQuery)}
    for field in value:
        if field not in known:
            raise HopliteError(
                f"{field!r} is not a filter", fix=f"known are {', '.join(sorted(known))}"
            )
    query = convert(value, FlowQuery, "query")
    check(query)
    return query


def check(query: FlowQuery) -> None:
    """Refuse a query that can match nothing because a word in it is wrong."""
    for field, choices in _CHOICES.items():
        value = getattr(query, field)
        if value and value not in choices:
            raise HopliteError(
                f"{value!r} is not a {field}", where=field, fix=f"use one of {', '.join(choices)}"
            )
    for field in ("source", "destination"):
        value = getattr(query, field)
        if value and (value.count("/") != 1 or value.startswith("/")):
            raise HopliteError(
                f"{value!r} does not name a workload or service",
                where=field,
                fix="write NAMESPACE/NAME, or NAMESPACE/ for all of a namespace",
            )
    if query.since is not None and query.until is not None and query.since > query.until:
        raise HopliteError("since is later than until", where="since", fix="swap the two")
    if query.last is not None and query.last < 1:
        raise HopliteError(f"{query.last} flows", where="last", fix="ask for at least 1")


def matches(query: FlowQuery, flow: Flow) -> bool:
    """Whether ``flow`` meets every part of ``query`` but the time range and ``last``."""
    for field in _CHOICES:
        wanted = getattr(query, field)
        if wanted and getattr(flow, field) != wanted:
            return False
    if query.source and not _names(query.source, flow.source, None):
        return False
    return not query.destination or _names(query.destination, flow.destination, flow.service)


def _names(wanted: str, end: FlowEndpoint, service: FlowService | None) -> bool:
    namespace, _, name = wanted.partition("/")
    if end.namespace == namespace and (not name or name in (end.name, end.app)):
        return True
    return (
        service is not None
        and service.namespace == namespace
        and (not name or name == service.name)
    )

"""HTTPRoutes as an Envoy route configuration (RDS), in the Gateway API's order of precedence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from l7proxy.resources.names import Json, any_of, port_name, rule_name
from l7proxy.state import ProxiedPort
from meshapi.resources import BackendRef, HTTPRoute, HTTPRouteRule, RouteMatch
from meshapi.resources.gateway import HeaderMatch, PathMatch, QueryParamMatch
from meshapi.wire import ServicePortRef

_PATH_RANK = {"Exact": 0, "RegularExpression": 1, "PathPrefix": 2}

# Only what cannot have reached an application: nothing was sent, or it said that it took nothing.
_RETRY: Json = {
    "retry_on": "connect-failure,refused-stream,reset-before-request",
    "num_retries": 2,
    "host_selection_retry_max_attempts": 3,
    "retry_host_predicate": [
        {
            "name": "envoy.retry_host_predicates.previous_hosts",
            "typed_config": any_of(
                "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
            ),
        }
    ],
}


@dataclass(frozen=True, slots=True)
class _Entry:
    """One match of one rule of one route."""

    route: HTTPRoute
    rule_index: int
    rule: HTTPRouteRule
    match: RouteMatch

    @property
    def precedence(self) -> tuple[Any, ...]:
        """Sort key, smallest first: HTTPRouteRule.matches of the Gateway API.

        Where the specification leaves regular expressions open, they come after exact paths and
        before prefixes, the longer pattern first. RFC 3339 times in UTC sort as text.
        """
        path, meta = self.match.path or PathMatch(), self.route.metadata
        return (
            _PATH_RANK[path.type],
            -len(_trimmed(path)),
            self.match.method is None,
            -len(self.match.headers),
            -len(self.match.query_params),
            meta.creation_timestamp,
            f"{meta.namespace}/{meta.name}",
            self.rule_index,
        )


def route_configuration(port: ProxiedPort) -> Json:
    """All routes of one service port merged; a request that matches none of them gets 404.

    Requests are matched by the address that was dialled, so any Host header will do.
    """
    entries = [
        _Entry(route, i, rule, match)
        for route in port.routes
        for i, rule in enumerate(route.spec.rules)
        for match in rule.matches or (RouteMatch(),)
    ]
    entries.sort(key=lambda entry: entry.precedence)
    name = port_name(port.ref)
    host: Json = {
        "name": name,
        "domains": ["*"],
        "routes": [_route(entry) for entry in entries],
        "retry_policy": _RETRY,
    }
    return {"name": name, "virtual_hosts": [host]}


def _route(entry: _Entry) -> Json:
    return {
        "name": rule_name(entry.route, entry.rule_index),
        "match": _match(entry.match),
        **_action(entry.rule, entry.route.metadata.namespace),
    }


def _action(rule: HTTPRouteRule, namespace: str) -> Json:
    """Where a rule sends requests; the share of a backend that does not exist gets 500."""
    weighted = [(_cluster(b, namespace), b.weight) for b in rule.backend_refs if b.weight]
    if not weighted:
        return {"direct_response": {"status": 500}}
    action: Json = {"timeout": "0s", "cluster_not_found_response_code": "INTERNAL_SERVER_ERROR"}
    if len(weighted) == 1:
        action["cluster"] = weighted[0][0]
    else:
        action["weighted_clusters"] = {
            "clusters": [{"name": name, "weight": weight} for name, weight in weighted]
        }
    return {"route": action}


def _cluster(backend: BackendRef, namespace: str) -> str:
    ref = ServicePortRef(
        namespace=backend.namespace or namespace, name=backend.name, port=backend.port or 0
    )
    return port_name(ref)


def _match(match: RouteMatch) -> Json:
    value = _path(match.path or PathMatch())
    headers = [{"name": h.name, "string_match": _string(h)} for h in match.headers]
    if match.method:
        headers.insert(0, {"name": ":method", "string_match": {"exact": match.method}})
    if headers:
        value["headers"] = headers
    if match.query_params:
        value["query_parameters"] = [
            {"name": q.name, "string_match": _string(q)} for q in match.query_params
        ]
    return value


def _path(path: PathMatch) -> Json:
    match path.type:
        case "Exact":
            return {"path": path.value}
        case "RegularExpression":
            return {"safe_regex": {"regex": path.value}}
        case "PathPrefix":
            trimmed = _trimmed(path)
            return {"path_separated_prefix": trimmed} if trimmed != "/" else {"prefix": "/"}


def _trimmed(path: PathMatch) -> str:
    """A prefix is matched by segments, so that a slash at its end means nothing."""
    return path.value.rstrip("/") or "/" if path.type == "PathPrefix" else path.value


def _string(match: HeaderMatch | QueryParamMatch) -> Json:
    if match.type == "RegularExpression":
        return {"safe_regex": {"regex": match.value}}
    return {"exact": match.value}

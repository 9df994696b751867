"""The endpoints of a backend (EDS)."""

from __future__ import annotations

from l7proxy.resources.names import Json, port_name
from l7proxy.state import Backend, Endpoint


def load_assignment(backend: Backend) -> Json:
    """Every workload of ``backend`` that takes connections; none means that Envoy answers 503."""
    return {
        "cluster_name": port_name(backend.ref),
        "endpoints": [{"lb_endpoints": [_lb_endpoint(e) for e in backend.endpoints]}],
    }


def _lb_endpoint(endpoint: Endpoint) -> Json:
    """One workload is one endpoint; its further families are tried when the first fails."""
    first, *others = [_socket_address(a, endpoint.port) for a in endpoint.addresses]
    value: Json = {"address": first}
    if others:
        value["additional_addresses"] = [{"address": other} for other in others]
    if endpoint.weight == 1:  # what Envoy takes for granted
        return {"endpoint": value}
    return {"endpoint": value, "load_balancing_weight": endpoint.weight}


def _socket_address(address: str, port: int) -> Json:
    return {"socket_address": {"address": address, "port_value": port}}

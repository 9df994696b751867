"""References from one object to another, which may be missing. Pure."""

from __future__ import annotations

from controller.state import State


def missing(state: State, namespace: str, name: str, port: int | None) -> str:
    """What is not there of a Service that is referred to, or nothing."""
    service = state.service(namespace, name)
    if service is None:
        return f"Service {namespace}/{name} does not exist"
    if port is not None and all(p.port != port for p in service.spec.ports):
        return f"Service {namespace}/{name} has no port {port}"
    return ""

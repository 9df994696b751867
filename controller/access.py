"""Who calls, and what they may do. Pure.

Admins prove themselves by a bearer token, node components by a client certificate of the mesh's CA
whose URI name says component and node. A component may use its own node's endpoints, nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from meshapi.errors import ForbiddenError, UnauthorizedError
from meshapi.identity import parse_component_uri


@dataclass(frozen=True)
class Caller:
    """Whoever made a request; ``node`` and ``component`` belong to role ``node``."""

    role: Literal["anonymous", "admin", "node"]
    node: str = ""
    component: str = ""

    def __str__(self) -> str:
        return f"{self.component} of node {self.node}" if self.role == "node" else self.role


Access = Callable[[Caller, str], None]  # (caller, node in the path) -> None or a refusal

ANONYMOUS = Caller("anonymous")


def identify(
    authorization: str | None,
    certificate: Mapping[str, Any] | None,
    admin_hashes: Collection[bytes],
    trust_domain: str,
) -> Caller:
    """The caller behind a request; a token that is not good is refused wherever it is shown.

    ``certificate`` is what ``ssl.SSLSocket.getpeercert()`` returned, verified by the handshake.
    """
    if authorization is not None:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or hash_token(token.strip()) not in admin_hashes:
            raise UnauthorizedError(
                "the bearer token is not known here",
                where="Authorization",
                fix="use the token that the controller keeps in admin.token",
            )
        return Caller("admin")
    for kind, name in (certificate or {}).get("subjectAltName", ()):
        component = parse_component_uri(name) if kind == "URI" else None
        if component and component[0] == trust_domain:
            return Caller("node", node=component[2], component=component[1])
    return ANONYMOUS


def hash_token(token: str) -> bytes:
    """What is kept of an admin's token: 256 random bits need no salt."""
    return hashlib.sha256(token.encode()).digest()


def anyone(_caller: Caller, _node: str) -> None:
    """Open to all."""


def admin(caller: Caller, _node: str) -> None:
    """Admins only."""
    _require_known(caller)
    if caller.role != "admin":
        raise ForbiddenError(
            f"{caller} may use its own node's endpoints only", fix="use an admin's token"
        )


def agent(caller: Caller, node: str) -> None:
    """The agent of the node in the path."""
    component(caller, node)
    if caller.component != "agent":
        raise ForbiddenError(f"{caller} may not do this", fix="ask the node's agent for it")


def component(caller: Caller, node: str) -> None:
    """Any component of the node in the path."""
    _require_known(caller)
    if caller.role != "node":
        raise ForbiddenError(
            f"this belongs to the components of node {node}", fix="use their certificate"
        )
    if caller.node != node:
        raise ForbiddenError(f"{caller} may not act for node {node}")


def _require_known(caller: Caller) -> None:
    if caller.role == "anonymous":
        raise UnauthorizedError(
            "the caller is not known",
            fix="send an admin's bearer token or a node component's certificate",
        )

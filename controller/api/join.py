"""How a node becomes a member: an admin makes a token, the node spends it with its first CSR."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Iterator

import msgspec
from aiohttp import web
from msgspec.structs import replace

from controller import access, admission
from controller.admission import Plan, Rules
from controller.api.body import answer, parameters, read
from controller.api.server import Route
from controller.ca.authority import read_csr
from controller.ca.issuer import Issuer
from controller.ledger import Ledger
from controller.state import State
from meshapi.errors import InvalidError, Problem
from meshapi.resources import MeshNode, MeshNodeSpec, ObjectMeta, key_of
from meshapi.resources.checks import check
from meshapi.wire import CA_PATH, JOIN_PATH, JOIN_TOKENS_PATH, JoinRequest, JoinTokenRequest

JOIN_LABELS = "mesh.hoplite.io/join-labels"  # the labels that a node came with, as JSON
_MAX_TTL = 30 * 24 * 3600  # seconds

_log = logging.getLogger(__name__)


class Join:
    """Tokens, joining, and the CA for whoever wants to check it."""

    def __init__(self, ledger: Ledger, rules: Rules, issuer: Issuer) -> None:
        self._ledger = ledger
        self._rules = rules
        self._issuer = issuer

    def routes(self) -> Iterator[Route]:
        yield Route("GET", CA_PATH, self._ca, access.anyone, "get", "ca")
        yield Route("POST", JOIN_PATH, self._join, access.anyone, "create", "join")
        yield Route("POST", JOIN_TOKENS_PATH, self._token, access.admin, "create", "jointoken")

    async def _ca(self, _request: web.Request) -> web.Response:
        return web.Response(text=self._issuer.ca, content_type="application/x-pem-file")

    async def _token(self, request: web.Request) -> web.Response:
        parameters(request)
        message = await read(request, JoinTokenRequest)
        _member(message.node, MeshNodeSpec(), {})
        if not 1 <= message.ttl_seconds <= _MAX_TTL:
            problem = Problem("$.ttlSeconds", f"{message.ttl_seconds} s", f"give 1 to {_MAX_TTL}")
            raise InvalidError("JoinTokenRequest", [problem])
        ttl = dt.timedelta(seconds=message.ttl_seconds)
        return answer(await self._issuer.make_token(message.node, ttl), 201)

    async def _join(self, request: web.Request) -> web.Response:
        parameters(request)
        message = await read(request, JoinRequest)
        csr = read_csr(message.csr)
        wanted = _member(message.node, message.spec, message.labels)
        spending = self._issuer.spending(message.token, message.node)

        def decide(state: State) -> Plan:
            node = joined(state.node(message.node), wanted)
            return admission.admit(state, [node], self._rules)

        outcome = await self._ledger.write(decide, spend=spending)
        has = outcome.objects[0].metadata.labels
        others = sorted(k for k, v in message.labels.items() if has.get(k) != v)
        _log.info("node joined", extra={"node": message.node, "labels_of_admin_kept": others})
        return answer(self._issuer.sign("agent", message.node, csr), 201)


def joined(known: MeshNode | None, wanted: MeshNode) -> MeshNode:
    """A member that joins again: what an admin has set or changed of its labels stays.

    Those of its last join stand in an annotation, so that they can be told from an admin's: where
    they are as they were, they become those of this join, or go.
    """
    if known is None:
        return wanted
    last, labels = _labels_of_last_join(known), dict(known.metadata.labels)
    given = wanted.metadata.labels
    for name in {**last, **given}:
        if labels.get(name) != last.get(name):
            continue  # an admin's
        if name in given:
            labels[name] = given[name]
        else:
            labels.pop(name, None)
    kept = {k: v for k, v in known.metadata.annotations.items() if k != JOIN_LABELS}
    annotations = {**kept, **wanted.metadata.annotations}
    meta = replace(known.metadata, labels=labels, annotations=annotations)
    return replace(known, metadata=meta, spec=wanted.spec)


def _labels_of_last_join(node: MeshNode) -> dict[str, str]:
    text = node.metadata.annotations.get(JOIN_LABELS, "{}")
    try:
        return msgspec.json.decode(text, type=dict[str, str])
    except msgspec.DecodeError:  # somebody has edited it: then every label is an admin's
        return {}


def _member(name: str, spec: MeshNodeSpec, labels: dict[str, str]) -> MeshNode:
    """A node's resource, checked like any other."""
    text = msgspec.json.encode(labels, order="sorted").decode()
    node = MeshNode(
        api_version="mesh.hoplite.io/v1alpha1",
        kind="MeshNode",
        metadata=ObjectMeta(
            name=name,
            labels=labels,
            annotations={JOIN_LABELS: text} if labels else {},
        ),
        spec=spec,
    )
    problems = check(node)
    if problems:
        raise InvalidError(str(key_of(node)), problems)
    return node

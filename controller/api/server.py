"""Routes, access, refusals and request metrics in one place; the handlers know none of these."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass

from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage
from aiohttp.typedefs import Handler, Middleware

from controller.access import Access, Caller, identify
from controller.api.body import MAX_BODY, answer_status
from controller.api.problems import failure, status_of
from controller.ledger import Ledger
from controller.metrics import Metrics
from meshapi.errors import ForbiddenError, HopliteError

_log = logging.getLogger(__name__)

_CALLER = "caller"


@dataclass(frozen=True)
class Route:
    """One endpoint: who may use it, and under which names it is counted."""

    method: str
    path: str
    handler: Handler
    access: Access
    verb: str
    kind: str


class Server:
    """The aiohttp application behind the API's port."""

    def __init__(
        self, ledger: Ledger, metrics: Metrics, trust_domain: str, admin_hashes: frozenset[bytes]
    ) -> None:
        self._ledger = ledger
        self._metrics = metrics
        self._trust_domain = trust_domain
        self._admin_hashes = admin_hashes
        self._routes: dict[tuple[str, str], Route] = {}

    def application(self, routes: Iterable[Route]) -> web.Application:
        application = web.Application(client_max_size=MAX_BODY, middlewares=[self._middleware()])
        application.on_response_prepare.append(_sign)
        for route in routes:
            added = application.router.add_route(route.method, route.path, route.handler)
            self._routes[added.method, added.resource.canonical if added.resource else ""] = route
        return application

    def _middleware(self) -> Middleware:
        @web.middleware
        async def answered(request: web.Request, handler: Handler) -> web.StreamResponse:
            started = time.perf_counter()
            route = self._route(request)
            response = await self._answer(request, route, handler)
            verb, kind = (route.verb, route.kind) if route else ("unknown", "unknown")
            self._metrics.requests.labels(verb, kind, str(response.status)).inc()
            if isinstance(response, web.Response):
                taken = time.perf_counter() - started
                self._metrics.request_seconds.labels(verb, kind).observe(taken)
            return response

        return answered

    def _route(self, request: web.Request) -> Route | None:
        resource = request.match_info.route.resource
        return self._routes.get((request.method, resource.canonical)) if resource else None

    async def _answer(
        self, request: web.Request, route: Route | None, handler: Handler
    ) -> web.StreamResponse:
        try:
            if route:
                self._admit(request, route)
            return await handler(request)
        except HopliteError as error:
            status = status_of(error)
            if status.code >= 500:
                _log.error("request refused", extra={"path": request.path, "why": str(error)})
            return answer_status(status)
        except web.HTTPException as error:
            return answer_status(failure(error.status, _words(request, error)))
        except Exception:  # noqa: BLE001  (the last resort: log it, keep serving)
            _log.exception("request failed", extra={"path": request.path})
            message = "the controller made a mistake; its log says more"
            return answer_status(failure(500, message))

    def _admit(self, request: web.Request, route: Route) -> None:
        caller = request[_CALLER] = self._caller(request)
        route.access(caller, request.match_info.get("node", ""))
        if caller.role == "node" and self._ledger.state.node(caller.node) is None:
            raise ForbiddenError(
                f"node {caller.node} has been removed from the mesh",
                fix="let it join again with a new token",
            )

    def _caller(self, request: web.Request) -> Caller:
        transport = request.transport
        certificate = transport.get_extra_info("peercert") if transport else None
        return identify(
            request.headers.get("Authorization"),
            certificate,
            self._admin_hashes,
            self._trust_domain,
        )


def quiet(record: logging.LogRecord) -> bool:
    """A log filter for aiohttp: what strangers send that is not HTTP is answered, not logged."""
    return not (record.exc_info and isinstance(record.exc_info[1], BadHttpMessage))


async def _sign(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers["Server"] = "hoplite-controller"


def caller_of(request: web.Request) -> Caller:
    """Who made a request that has been let in."""
    caller: Caller = request[_CALLER]
    return caller


def _words(request: web.Request, error: web.HTTPException) -> str:
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        return f"{request.method} is not possible at {request.path}; use {allowed}"
    if isinstance(error, web.HTTPNotFound):
        return f"there is nothing at {request.path}; GET /apis lists what there is"
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return f"the body is larger than {MAX_BODY} bytes; split it"
    return error.text or error.reason

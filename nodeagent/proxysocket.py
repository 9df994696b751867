"""What the agent offers to l7proxy, on a unix socket that only l7proxy's user can open."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import web

from meshapi.codec import convert, encode, parse_json
from meshapi.errors import HopliteError, UnavailableError
from meshapi.wire import CertificateReply, CertificateRequest, ProxyReady
from nodeagent.desired.units import PortName

_log = logging.getLogger(__name__)

Sign = Callable[[CertificateRequest], Awaitable[CertificateReply]]
Redirect = Callable[[frozenset[PortName]], None]


def application(sign: Sign, redirect: Redirect) -> web.Application:
    """``POST /v1/certificates`` has a CSR signed; ``PUT /v1/ready`` says what may be redirected."""

    async def certificates(request: web.Request) -> web.Response:
        wanted = convert(parse_json(await request.read()), CertificateRequest, "certificates")
        if wanted.component != "l7proxy":
            raise HopliteError(f"no certificate for {wanted.component} over this socket")
        return _json(await sign(wanted))

    async def ready(request: web.Request) -> web.Response:
        told = convert(parse_json(await request.read()), ProxyReady, "ready")
        redirect(frozenset((s.namespace, s.name, s.port) for s in told.services))
        _log.info("node proxy ready", extra={"services": len(told.services)})
        return web.json_response({})

    app = web.Application(middlewares=[_refusals])
    app.router.add_post("/v1/certificates", certificates)
    app.router.add_put("/v1/ready", ready)
    return app


@web.middleware
async def _refusals(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except UnavailableError as error:
        return web.json_response({"error": str(error)}, status=503)
    except HopliteError as error:
        return web.json_response({"error": str(error)}, status=422)


def _json(reply: msgspec.Struct) -> web.Response:
    return web.json_response(encode(reply))

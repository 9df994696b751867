"""The agent's local admin API: a unix socket for root, and metrics on a port."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import msgspec
from aiohttp import web

from meshapi import __version__
from meshapi.codec import encode
from meshapi.errors import HopliteError, InvalidError
from meshapi.flowfilter import query_from
from nodeagent import layout
from nodeagent.datapath.libbpf import KernelMap
from nodeagent.desired.plan import MAPS
from nodeagent.keys.keeper import Standing
from nodeagent.policy.members import canonical
from nodeagent.reconcile import Reconciler
from nodeagent.telemetry.collect import Collector
from nodeagent.telemetry.metrics import AgentMetrics

OpenMap = Callable[[str], KernelMap]


class Admin:
    """Handlers over the live parts of the agent; they read and never change anything."""

    def __init__(
        self,
        reconciler: Reconciler,
        collector: Collector,
        metrics: AgentMetrics,
        open_map: OpenMap,
        pending: Callable[[], list[str]],
        *,
        names: Callable[[], dict[str, Any]],
        backends: Callable[[], Iterable[dict[str, object]]],
        standing: Callable[[], Standing | None],
    ) -> None:
        self._reconciler = reconciler
        self._collector = collector
        self._metrics = metrics
        self._open_map = open_map
        self._pending = pending
        self._names = names
        self._listed_backends = backends
        self._standing = standing

    def application(self) -> web.Application:
        app = web.Application(middlewares=[_refusals])
        app.router.add_get("/healthz", self._health)
        app.router.add_get("/readyz", self._ready)
        app.router.add_get("/version", self._version)
        app.router.add_get("/config_dump", self._config_dump)
        app.router.add_get("/maps", self._maps)
        app.router.add_get("/maps/{name}", self._map)
        app.router.add_get("/backends", self._backends)
        app.router.add_get("/flows", self._flows)
        app.router.add_get("/dns", self._dns)
        app.router.add_get("/metrics", self._render_metrics)
        return app

    def metrics_application(self) -> web.Application:
        """What may be served beyond the admin socket."""
        app = web.Application()
        app.router.add_get("/metrics", self._render_metrics)
        return app

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _ready(self, _: web.Request) -> web.Response:
        pending = self._pending()
        if pending:
            return web.Response(status=503, text=f"waiting for {', '.join(pending)}\n")
        return web.Response(text="ready\n")

    async def _version(self, _: web.Request) -> web.Response:
        return _json({"version": __version__})

    async def _config_dump(self, _: web.Request) -> web.Response:
        """The objects in this node's scope and what has become of them, sorted."""
        state = self._reconciler.state
        compiler = self._reconciler.compiler
        dump: dict[str, Any] = {
            "node": state.node,
            "revision": state.revision,
            "inForce": msgspec.to_builtins(self._reconciler.in_force),
            "objects": sorted(
                (encode(o) for o in state.objects()),
                key=lambda o: (
                    o["kind"],
                    o["metadata"].get("namespace", ""),
                    o["metadata"]["name"],
                ),
            ),
        }
        dump["services"] = {
            str(number): "/".join(map(str, name))
            for number, name in sorted(compiler.services.items())
        }
        dump["rules"] = {
            str(number): f"{rule.kind} {rule.policy} {rule.text}"
            for number, rule in sorted(compiler.rules.items())
        }
        dump["classes"] = {
            str(number): canonical(what) for number, what in sorted(compiler.classes.items())
        }
        dump["identityKeys"] = msgspec.to_builtins(self._standing())
        return _json(dump)

    async def _maps(self, _: web.Request) -> web.Response:
        return _json({name: len(list(self._open_map(name).items())) for name in MAPS})

    async def _map(self, request: web.Request) -> web.Response:
        """One map's entries as the kernel holds them now."""
        name = request.match_info["name"]
        if name not in layout.MAP_FIELDS:
            raise HopliteError(
                f"{name!r} is not a map", fix=f"known are {', '.join(sorted(layout.MAP_FIELDS))}"
            )
        entries = [
            {"key": layout.describe(name, "key", key), "value": layout.describe(name, "value", v)}
            for key, v in self._open_map(name).items()
        ]
        return _json(sorted(entries, key=lambda e: str(e["key"])))

    async def _backends(self, _: web.Request) -> web.Response:
        """Every backend of every service: what it gets, and whether it is ejected."""
        return _json(list(self._listed_backends()))

    async def _flows(self, request: web.Request) -> web.Response:
        """Flows of this node, one JSON object per line; parameters as in the controller's API."""
        self._collector.drain()
        query = query_from(dict(request.query))
        lines = [msgspec.json.encode(flow) for flow in self._collector.history.select(query)]
        return web.Response(
            body=b"".join(line + b"\n" for line in lines), content_type="application/x-ndjson"
        )

    async def _dns(self, _: web.Request) -> web.Response:
        """Which names are answered, who is asked about others, and how often."""
        return _json(self._names())

    async def _render_metrics(self, _: web.Request) -> web.Response:
        return web.Response(
            body=self._metrics.render(),
            headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
        )


def _json(value: Any, status: int = 200) -> web.Response:
    return web.Response(
        status=status,
        body=msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n",
        content_type="application/json",
    )


@web.middleware
async def _refusals(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except InvalidError as error:
        return _json({"error": str(error)}, status=422)
    except HopliteError as error:
        return _json({"error": str(error)}, status=400)

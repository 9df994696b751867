"""The local admin API on ``l7proxy.sock``, and ``/metrics`` on a TCP port as well."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
from aiohttp import web

from l7proxy.envoy.admin import EnvoyAdmin
from l7proxy.metrics import Metrics
from l7proxy.resources.names import Json
from l7proxy.status import Status
from meshapi.errors import ConfigError, UnavailableError

_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


class AdminApi:
    """``/ready``, ``/snapshot``, ``/config_dump`` and ``/metrics``."""

    def __init__(
        self,
        status: Callable[[], Status],
        snapshot: Callable[[], Json],
        metrics: Metrics,
        envoy: EnvoyAdmin,
    ) -> None:
        self._status = status
        self._snapshot = snapshot
        self._metrics = metrics
        self._envoy = envoy
        self._runners: list[web.AppRunner] = []

    async def start(self, socket: Path, metrics_address: tuple[str, int] | None) -> None:
        """Listen; a metrics port that is taken is a refusal."""
        socket.unlink(missing_ok=True)  # noqa: ASYNC240 - before anything runs
        local = await self._runner(
            web.get("/ready", self._get_ready),
            web.get("/snapshot", self._get_snapshot),
            web.get("/config_dump", self._get_config_dump),
            web.get("/metrics", self._get_metrics),
        )
        await web.UnixSite(local, str(socket)).start()
        if metrics_address is None:
            return
        public = await self._runner(web.get("/metrics", self._get_metrics))
        host, port = metrics_address
        try:
            await web.TCPSite(public, host, port).start()
        except OSError as error:
            raise ConfigError(
                f"cannot listen on {host}:{port}: {error.strerror or error}",
                where="metricsListen",
                fix="free the port or choose another; leave it empty for none",
            ) from error

    async def stop(self) -> None:
        for runner in self._runners:
            await runner.cleanup()

    async def _runner(self, *routes: web.RouteDef) -> web.AppRunner:
        application = web.Application()
        application.add_routes(routes)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        self._runners.append(runner)
        return runner

    async def _get_ready(self, _: web.Request) -> web.Response:
        status = self._status()
        return _json(msgspec.to_builtins(status), 200 if status.ready else 503)

    async def _get_snapshot(self, _: web.Request) -> web.Response:
        return _json(self._snapshot())

    async def _get_config_dump(self, _: web.Request) -> web.Response:
        try:
            return web.Response(
                body=await self._envoy.config_dump(), content_type="application/json"
            )
        except UnavailableError as error:
            return _json({"message": str(error)}, 503)

    async def _get_metrics(self, _: web.Request) -> web.Response:
        """Ours, then Envoy's if it runs."""
        text = self._metrics.text()
        try:
            text += await self._envoy.prometheus()
        except UnavailableError:
            text += b"# no Envoy runs\n"
        return web.Response(body=text, headers={"Content-Type": _PROMETHEUS})


def _json(value: object, status: int = 200) -> web.Response:
    body = msgspec.json.format(msgspec.json.encode(value), indent=2)
    return web.Response(body=body + b"\n", status=status, content_type="application/json")

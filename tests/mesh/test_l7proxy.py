"""One node proxy from the first route to the last: real Envoy, real requests, real redirection."""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest

from tests.mesh.l7proxy_world import (
    SOURCES,
    World,
    in_own_network,
    mesh_node,
    prefix,
    route,
    service,
    to,
    workload,
)

pytestmark = [pytest.mark.root, pytest.mark.envoy]

Scenario = Callable[[World], Awaitable[None]]


def play(directory: Path, scenario: Scenario, **settings: object) -> None:
    """Run ``scenario`` in a world with two versions of a web service and a client's workload."""

    async def run() -> None:
        async with World(directory, sourceAddresses=SOURCES, **settings) as world:
            await world.backend("v1", "10.244.1.1")
            await world.backend("v2", "10.244.1.2")
            world.controller.apply(
                mesh_node(),
                service("web", "10.96.0.10", "fd00:96::10"),
                service("web-v1", "10.96.0.11", version="v1"),
                service("web-v2", "10.96.0.12", version="v2"),
                workload("v1", "10.244.1.1", app="web", version="v1"),
                workload("v2", "10.244.1.2", app="web", version="v2"),
            )
            world.start_l7proxy()
            await scenario(world)

    in_own_network(run)


async def serve(world: World, *rules: dict[str, object]) -> None:
    """Give the service ``web`` these rules and wait until they are in force."""
    revision = world.controller.apply(route("web", "web", *rules))
    await world.agent.ready_when("web:80")
    await world.controller.report_when(lambda r: r.revision == revision)


def test_no_envoy_runs_until_a_route_needs_it_and_none_after(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        report = await world.controller.report_when(lambda r: r.state == "idle")
        assert report.ready
        assert world.envoy is None
        await serve(world, to(("web-v1", 1)))
        assert (await world.get("http://10.96.0.10/")).backend == "v1"
        assert world.controller.reports[-1].state == "serving 1 service"
        world.controller.delete("HTTPRoute", "web")
        await world.agent.ready_when()
        assert world.envoy is not None  # the grace
        while world.envoy is not None:
            await asyncio.sleep(0.05)
        await world.controller.report_when(lambda r: r.state == "idle" and r.revision == 3)

    play(tmp_path, scenario)


def test_a_node_without_workloads_of_its_own_runs_no_envoy(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        world.controller.apply(
            workload("v1", "10.244.1.1", node="node2", app="web", version="v1"),
            workload("v2", "10.244.1.2", node="node2", app="web", version="v2"),
        )
        revision = world.controller.apply(route("web", "web", to(("web-v1", 1))))
        await world.controller.report_when(lambda r: r.revision == revision)
        assert world.envoy is None

    play(tmp_path, scenario)


def test_weights_hold_statistically_over_both_families(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await serve(world, to(("web-v1", 90), ("web-v2", 10)))
        seen: collections.Counter[str] = collections.Counter()
        async with aiohttp.ClientSession() as session:
            for i in range(2000):
                host = "10.96.0.10" if i % 2 else "[fd00:96::10]"
                async with session.get(f"http://{host}/") as response:
                    seen[(await response.json())["backend"]] += 1
        assert 1740 <= seen["v1"] <= 1860  # 1800 ± 4.5 standard deviations

    play(tmp_path, scenario)


def test_answers_where_there_is_nothing_to_send_to(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        world.controller.apply(
            service("nobody", "10.96.0.13", app="nobody"),
            workload("asleep", "10.244.1.3", ready=False, app="nobody"),
        )
        await serve(
            world,
            {"matches": [prefix("/none")]},
            to(("missing", 1), **prefix("/missing")),
            to(("nobody", 1), **prefix("/nobody")),
            to(("web-v1", 0), **prefix("/zero")),
            to(("web-v1", 1), ("missing", 1), **prefix("/half")),
        )
        for path, status in {
            "/none": 500,
            "/missing": 500,
            "/zero": 500,
            "/nobody": 503,
            "/other": 404,
        }.items():
            assert (await world.get(f"http://10.96.0.10{path}")).status == status, path
        halves = [(await world.get("http://10.96.0.10/half")).status for _ in range(200)]
        assert set(halves) == {200, 500}
        assert 65 <= halves.count(500) <= 135

    play(tmp_path, scenario)


def test_requests_are_matched_by_path_header_query_and_method(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        exact = {"type": "Exact"}
        await serve(
            world,
            to(("web-v1", 1)),
            to(("web-v2", 1), path={"type": "Exact", "value": "/exact"}),
            to(("web-v2", 1), **prefix("/segment/")),
            to(("web-v2", 1), path={"type": "RegularExpression", "value": "/r[0-9]+"}),
            to(("web-v2", 1), headers=[{"name": "X-Canary", "value": "yes", **exact}]),
            to(("web-v2", 1), headers=[{"name": "Host", "value": "beta.example"}]),
            to(("web-v2", 1), queryParams=[{"name": "v", "value": "2"}]),
            to(("web-v2", 1), method="DELETE"),
        )
        base = "http://10.96.0.10"
        for path, options, backend in (
            ("/", {}, "v1"),
            ("/exact", {}, "v2"),
            ("/exact/", {}, "v1"),
            ("/segment", {}, "v2"),
            ("/segment/x", {}, "v2"),
            ("/segments", {}, "v1"),
            ("//segment", {}, "v2"),
            ("/x/../segment", {}, "v2"),
            ("/r12", {}, "v2"),
            ("/r12/x", {}, "v1"),
            ("/", {"headers": {"x-canary": "yes"}}, "v2"),
            ("/", {"headers": {"x-canary": "no"}}, "v1"),
            ("/", {"headers": {"host": "beta.example"}}, "v2"),
            ("/?v=2", {}, "v2"),
            ("/?v=22", {}, "v1"),
        ):
            answer = await world.get(base + path, **options)
            assert answer.backend == backend, (path, options)
        async with aiohttp.ClientSession() as session, session.delete(base) as response:
            assert (await response.json())["backend"] == "v2"

    play(tmp_path, scenario)


def test_the_application_sees_its_own_headers_and_no_identity(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await serve(world, to(("web-v1", 1)))
        mine = {
            "x-forwarded-for": "10.9.9.9",
            "x-forwarded-proto": "https",
            "x-request-id": "my-own",
            "x-under_score": "kept",
            "x-envoy-internal": "true",
        }
        seen = (await world.get("http://10.96.0.10/a%2Fb?q=1", headers=mine)).json
        assert seen["path"] == "/a%2Fb?q=1"
        assert seen["peer"] == SOURCES[0]
        for name in ("x-forwarded-for", "x-forwarded-proto", "x-request-id", "x-under_score"):
            assert seen["headers"][name] == mine[name]
        assert not [name for name in seen["headers"] if name.startswith("x-envoy")]
        answer = await world.get("http://10.96.0.10/")
        assert "aiohttp" in answer.headers["Server"]
        assert not [name for name in answer.headers if name.lower().startswith("x-envoy")]

    play(tmp_path, scenario)


def test_the_access_log_tells_who_asked_what_and_who_answered(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await serve(world, to(("web-v2", 1), **prefix("/v2")))
        await world.get("http://10.96.0.10/v2?x=1", headers={"user-agent": "test"})
        await world.get("http://[fd00:96::10]/nowhere")
        first, second = await world.access_log(2)
        assert first["service"] == "shop/web:80"
        assert first["route"] == "shop/web[0]"
        assert first["original_destination"] == "10.96.0.10:80"
        assert (first["method"], first["path"]) == ("GET", "/v2?x=1")
        assert (first["protocol"], first["response_code"]) == ("HTTP/1.1", 200)
        assert first["upstream_cluster"] == "shop/web-v2:80"
        assert first["upstream_host"] == "10.244.1.2:8080"
        assert first["upstream_local_address"].startswith(f"{SOURCES[0]}:")
        assert first["user_agent"] == "test"
        assert first["caller"] == "10.244.1.1"  # what the kernel says the peer is
        assert second["original_destination"] == "[fd00:96::10]:80"
        assert (second["response_code"], second["route"]) == (404, None)
        assert second["response_code_details"] == "route_not_found"

    play(tmp_path, scenario)


def test_metrics_count_by_service_and_backend(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await serve(world, to(("web-v1", 1)))
        for _ in range(3):
            await world.get("http://10.96.0.10/")
        for text in (
            (await world.admin("/metrics"))[1].decode(),
            (await world.get("http://127.0.0.1:15090/metrics")).body.decode(),
        ):
            lines = text.splitlines()
            assert "hoplite_l7proxy_services_ready 1.0" in lines
            labels = 'port="80",envoy_response_code_class="2"'
            assert f'envoy_http_downstream_rq_xx{{{labels},service="shop/web"}} 3' in lines
            assert f'envoy_cluster_upstream_rq_xx{{{labels},backend="shop/web-v1"}} 3' in lines

    play(tmp_path, scenario)


def test_websockets_and_old_http_pass(tmp_path: Path) -> None:
    async def echo(request: aiohttp.web.Request) -> aiohttp.web.WebSocketResponse:
        socket = aiohttp.web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data)
        return socket

    async def scenario(world: World) -> None:
        application = aiohttp.web.Application()
        application.router.add_get("/", echo)
        runner = aiohttp.web.AppRunner(application)
        await runner.setup()
        await aiohttp.web.TCPSite(runner, "10.244.1.4", 8080).start()
        world.controller.apply(
            service("echo", "10.96.0.14"), workload("echo", "10.244.1.4", app="echo")
        )
        await serve(world, to(("echo", 1)), to(("web-v1", 1), **prefix("/old")))
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect("http://10.96.0.10/") as socket,
        ):
            await socket.send_str("hello")
            assert (await socket.receive_str()) == "hello"
        reader, writer = await asyncio.open_connection("10.96.0.10", 80)
        writer.write(b"GET /old HTTP/1.0\r\n\r\n")
        answer = await reader.read()
        writer.close()
        assert b" 200 OK" in answer
        assert b'"backend": "v1"' in answer
        await runner.cleanup()

    play(tmp_path, scenario)


def test_each_port_of_a_service_has_its_own_routes(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        two = service("two", "10.96.0.20", app="web")
        two["spec"]["ports"] = [
            {"name": "a", "port": 80, "targetPort": "http"},
            {"name": "b", "port": 81, "targetPort": 8080},
            {"name": "c", "port": 82, "protocol": "UDP"},
        ]
        world.controller.apply(
            two,
            route("a", "two", to(("web-v1", 1)), port=80),
            route("both", "two", to(("web-v2", 1), **prefix("/both"))),
        )
        await world.agent.ready_when("two:80", "two:81")
        assert (await world.get("http://10.96.0.20/")).backend == "v1"
        assert (await world.get("http://10.96.0.20/both")).backend == "v2"
        assert (await world.get("http://10.96.0.20:81/")).status == 404
        assert (await world.get("http://10.96.0.20:81/both")).backend == "v2"

    play(tmp_path, scenario)


def test_what_was_not_redirected_is_closed(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await serve(world, to(("web-v1", 1)))
        with pytest.raises(aiohttp.ClientError):
            await world.get("http://127.0.0.1:15001/")

    play(tmp_path, scenario)

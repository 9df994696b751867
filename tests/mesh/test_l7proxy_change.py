"""Changes while requests run: none is lost, and what Envoy refuses leaves the rest as it was."""

from __future__ import annotations

import asyncio
import collections
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.mesh.l7proxy_world import (
    SOURCES,
    World,
    in_own_network,
    mesh_node,
    prefix,
    quarantine,
    route,
    service,
    to,
    workload,
)

pytestmark = [pytest.mark.root, pytest.mark.envoy]

LOOK_AHEAD = "/(?!private).*"  # Python has it, RE2 does not


def play(directory: Path, scenario: Callable[[World], Awaitable[None]], **settings: Any) -> None:
    """Run ``scenario`` in a world whose service ``web`` is served by version 1."""

    async def run() -> None:
        async with World(directory, sourceAddresses=SOURCES, **settings) as world:
            for number in (1, 2, 3):
                await world.backend(f"v{number}", f"10.244.1.{number}")
            world.controller.apply(
                mesh_node(),
                service("web", "10.96.0.10"),
                service("other", "10.96.0.30"),
                *(service(f"web-v{n}", f"10.96.0.1{n}", version=f"v{n}") for n in (1, 2, 3)),
                *(workload(f"v{n}", f"10.244.1.{n}", version=f"v{n}") for n in (1, 2, 3)),
                route("web", "web", to(("web-v1", 1))),
            )
            world.start_l7proxy()
            await world.agent.ready_when("web:80")
            await scenario(world)

    in_own_network(run)


@contextlib.asynccontextmanager
async def load(
    world: World, url: str = "http://10.96.0.10/"
) -> AsyncIterator[collections.Counter[str]]:
    """Requests all the time, on kept and new connections; counts answers by status or failure."""
    seen: collections.Counter[str] = collections.Counter()

    async def ask(connector: aiohttp.TCPConnector) -> None:
        async with aiohttp.ClientSession(connector=connector) as session:
            while True:
                try:
                    async with session.get(url) as response:
                        await response.read()
                        seen[str(response.status)] += 1
                except aiohttp.ClientError as error:
                    seen[repr(error)] += 1
                await asyncio.sleep(0.001)

    asking = [
        asyncio.create_task(ask(aiohttp.TCPConnector(force_close=new)), name="load")
        for new in (False, False, True)
    ]
    try:
        yield seen
    finally:
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)


async def in_force(world: World, revision: int) -> None:
    await world.controller.report_when(lambda r: r.revision == revision)


async def answered_by(world: World, url: str = "http://10.96.0.10/") -> str:
    return (await world.get(url)).backend


def test_a_hundred_changes_of_weights_backends_and_endpoints_lose_no_request(
    tmp_path: Path,
) -> None:
    async def scenario(world: World) -> None:
        async with load(world) as seen:
            for i in range(100):
                pair = (f"web-v{i % 3 + 1}", i % 7 + 1), (f"web-v{(i + 1) % 3 + 1}", 1)
                changes = [route("web", "web", to(*pair))]
                if i % 5 == 0:
                    spare = 3 if i % 10 else 2
                    changes.append(workload("spare", f"10.244.1.{spare}", version="v1"))
                await in_force(world, world.controller.apply(*changes))
                await asyncio.sleep(0.03)
        assert seen.total() > 1000
        assert set(seen) == {"200"}

    play(tmp_path, scenario)


def test_services_come_and_go_beside_one_that_is_busy(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        async with load(world) as seen:
            for _ in range(10):
                world.controller.apply(route("other", "other", to(("web-v2", 1))))
                await world.agent.ready_when("web:80", "other:80")
                assert await answered_by(world, "http://10.96.0.30/") == "v2"
                world.controller.delete("HTTPRoute", "other")
                await world.agent.ready_when("web:80")
                await asyncio.sleep(0.05)
        assert seen.total() > 100
        assert set(seen) == {"200"}

    play(tmp_path, scenario)


def test_a_backend_that_changes_its_protocol_stays_reachable(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        async with load(world) as seen:
            for protocol in ("http", "kubernetes.io/ws") * 5:
                changed = service("web-v1", "10.96.0.11", version="v1")
                changed["spec"]["ports"][0]["appProtocol"] = protocol
                await in_force(world, world.controller.apply(changed))
            changed["spec"]["ports"][0]["targetPort"] = "http"
        assert set(seen) == {"200"}
        changed["spec"]["ports"][0]["appProtocol"] = "kubernetes.io/h2c"
        await asyncio.wait_for(in_force(world, world.controller.apply(changed)), 3)
        assert (await world.get("http://10.96.0.10/")).status in (502, 503)  # it speaks no HTTP/2

    play(tmp_path, scenario)


def test_endpoints_follow_readiness(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        revision = world.controller.apply(workload("v1", "10.244.1.1", ready=False, version="v1"))
        await in_force(world, revision)
        assert (await world.get("http://10.96.0.10/")).status == 503
        revision = world.controller.apply(workload("v1", "10.244.1.2", version="v1"))
        await in_force(world, revision)
        assert await answered_by(world) == "v2"

    play(tmp_path, scenario)


def test_requests_follow_weight_and_health_of_workloads(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        first = workload("v1", "10.244.1.1", version="v1")
        second = workload("also-v1", "10.244.1.2", version="v1")
        second["spec"]["weight"] = 9
        await in_force(world, world.controller.apply(first, second))
        seen = collections.Counter([await answered_by(world) for _ in range(200)])
        assert set(seen) == {"v1", "v2"}
        assert seen["v2"] > 3 * seen["v1"]
        second["status"]["unhealthyPorts"] = [8080]
        await in_force(world, world.controller.apply(second))
        assert {await answered_by(world) for _ in range(20)} == {"v1"}
        first["spec"]["weight"] = 0
        await in_force(world, world.controller.apply(first))
        assert await answered_by(world) == "v2"  # better an unhealthy one than none
        second["status"]["unhealthyPorts"] = [9090]
        await in_force(world, world.controller.apply(second))
        assert await answered_by(world) == "v2"
        second["spec"]["weight"] = 0
        await in_force(world, world.controller.apply(second))
        assert (await world.get("http://10.96.0.10/")).status == 503

    play(tmp_path, scenario)


def test_a_quarantined_workload_gets_no_request(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        second = workload("also-v1", "10.244.1.2", version="v1")
        await in_force(world, world.controller.apply(second))
        assert {await answered_by(world) for _ in range(30)} == {"v1", "v2"}
        await in_force(world, world.controller.apply(quarantine("also-v1")))
        assert {await answered_by(world) for _ in range(20)} == {"v1"}
        await in_force(world, world.controller.apply(quarantine("v1")))
        assert (await world.get("http://10.96.0.10/")).status == 503

    play(tmp_path, scenario)


def test_a_headless_service_is_not_redirected(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        headless = service("web", "None")
        headless["spec"]["clusterIP"] = "None"
        world.controller.apply(headless, route("other", "other", to(("web-v3", 1))))
        await world.agent.ready_when("other:80")
        assert await answered_by(world, "http://10.96.0.30/") == "v3"

    play(tmp_path, scenario)


def test_a_route_that_envoy_refuses_keeps_its_former_one_and_hurts_no_other(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        good = world.controller.revision
        await in_force(world, good)
        bad = to(("web-v2", 1), path={"type": "RegularExpression", "value": LOOK_AHEAD})
        world.controller.apply(route("web", "web", bad), route("other", "other", to(("web-v3", 1))))
        await world.agent.ready_when("web:80", "other:80")
        assert await answered_by(world) == "v1"
        assert await answered_by(world, "http://10.96.0.30/") == "v3"
        report = await world.controller.report_when(lambda r: bool(r.problems))
        (problem,) = report.problems
        assert (problem.kind, problem.namespace, problem.name) == ("HTTPRoute", "shop", "web")
        assert "invalid perl operator: (?!" in problem.message
        assert report.revision == good
        healed = world.controller.apply(route("web", "web", to(("web-v2", 1))))
        report = await world.controller.report_when(lambda r: r.revision == healed)
        assert not report.problems
        assert await answered_by(world) == "v2"

    play(tmp_path, scenario)


def test_a_route_that_was_never_good_is_not_redirected_until_it_is(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        bad = to(("web-v2", 1), path={"type": "RegularExpression", "value": LOOK_AHEAD})
        world.controller.apply(route("other", "other", bad))
        report = await world.controller.report_when(lambda r: bool(r.problems))
        assert report.problems[0].name == "other"
        assert world.agent.ready == {"web:80"}
        assert await answered_by(world) == "v1"
        world.controller.apply(route("third", "other", to(("web-v3", 1), **prefix("/3"))))
        world.controller.delete("HTTPRoute", "other")
        await world.agent.ready_when("web:80", "other:80")
        assert await answered_by(world, "http://10.96.0.30/3") == "v3"
        await in_force(world, world.controller.revision)

    play(tmp_path, scenario)


def test_only_the_route_that_was_changed_is_blamed(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        bad = to(("web-v2", 1), path={"type": "RegularExpression", "value": LOOK_AHEAD})
        world.controller.apply(route("second", "web", bad))
        report = await world.controller.report_when(lambda r: bool(r.problems))
        assert [p.name for p in report.problems] == ["second"]

    play(tmp_path, scenario)


def test_a_chain_goes_only_after_the_agent_has_confirmed(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        world.controller.apply(route("other", "other", to(("web-v2", 1))))
        await world.agent.ready_when("web:80", "other:80")
        world.agent.answering.clear()
        world.controller.delete("HTTPRoute", "other")
        await asyncio.sleep(0.5)
        assert await answered_by(world, "http://10.96.0.30/") == "v2"
        world.agent.answering.set()
        await world.agent.ready_when("web:80")
        await in_force(world, world.controller.revision)
        with pytest.raises(aiohttp.ClientError):
            await world.get("http://10.96.0.30/")

    play(tmp_path, scenario)


def test_connections_of_before_go_on_after_their_service_left_layer_7(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        async with aiohttp.ClientSession() as session:

            async def ask() -> str:
                async with session.get("http://10.96.0.10/") as response:
                    return str((await response.json())["backend"])

            assert await ask() == "v1"
            world.controller.delete("HTTPRoute", "web")
            await world.agent.ready_when()
            await in_force(world, world.controller.revision)
            world.controller.apply(
                workload("v1", "10.244.1.1", ready=False, version="v1"),
                workload("v1b", "10.244.1.2", version="v1"),
            )
            await in_force(world, world.controller.revision)
            assert await ask() == "v2"  # kept connection, fresh endpoints

    play(tmp_path, scenario, drainSeconds=30)


def test_everything_is_told_again_when_the_agent_comes_back(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await world.agent.stop()
        world.agent.heard.clear()
        world.controller.apply(route("other", "other", to(("web-v2", 1))))
        await asyncio.sleep(0.3)
        await world.agent.start()
        await world.agent.ready_when("web:80", "other:80")

    play(tmp_path, scenario)

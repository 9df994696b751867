"""Processes that die, stop, come back or stay away."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from l7proxy import unixhttp
from tests.mesh.l7proxy_world import (
    ROOT,
    SOURCES,
    World,
    in_own_network,
    mesh_node,
    route,
    service,
    shared_memory,
    to,
    workload,
)
from tests.mesh.test_l7proxy_change import answered_by, in_force, load

pytestmark = [pytest.mark.root, pytest.mark.envoy]


def play(directory: Path, scenario: Callable[[World], Awaitable[None]], **settings: Any) -> None:
    """Run ``scenario`` in a world whose service ``web`` goes to version 1; nothing is started."""

    async def run() -> None:
        async with World(directory, sourceAddresses=SOURCES, **settings) as world:
            for number in (1, 2):
                await world.backend(f"v{number}", f"10.244.1.{number}")
            world.controller.apply(
                mesh_node(),
                service("web", "10.96.0.10"),
                service("other", "10.96.0.30"),
                *(service(f"web-v{n}", f"10.96.0.1{n}", version=f"v{n}") for n in (1, 2)),
                *(workload(f"v{n}", f"10.244.1.{n}", version=f"v{n}") for n in (1, 2)),
                route("web", "web", to(("web-v1", 1))),
            )
            await scenario(world)

    in_own_network(run)


async def started(world: World, **settings: Any) -> int:
    """Start l7proxy, wait until it serves, and return Envoy's process id."""
    world.start_l7proxy(**settings)
    await world.agent.ready_when("web:80")
    await in_force(world, world.controller.revision)
    assert world.envoy
    return world.envoy


def test_envoy_serves_on_and_is_adopted_after_kill_9(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        envoy = await started(world)
        async with load(world) as seen:
            await world.stop_l7proxy(signal.SIGKILL)
            assert await answered_by(world) == "v1"
            await started(world)
            assert world.envoy == envoy
            assert all(heard.services for heard in world.agent.heard)  # it never said "none"
            await in_force(world, world.controller.apply(route("web", "web", to(("web-v2", 1)))))
            assert await answered_by(world) == "v2"
        assert set(seen) == {"200"}
        assert await world.stop_l7proxy() == 0
        assert world.envoy is None

    play(tmp_path, scenario)


def test_what_changed_while_l7proxy_was_away_is_made_up_for_in_order(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        world.controller.apply(route("other", "other", to(("web-v1", 1))))
        world.start_l7proxy()
        await world.agent.ready_when("web:80", "other:80")
        envoy = world.envoy
        await world.stop_l7proxy(signal.SIGKILL)
        world.controller.delete("HTTPRoute", "other")
        world.controller.apply(route("web", "web", to(("web-v2", 1))))
        world.agent.answering.clear()
        world.start_l7proxy()
        while await answered_by(world) != "v2":
            await asyncio.sleep(0.02)
        # the agent may still redirect the other service, and so its chain stands
        assert await answered_by(world, "http://10.96.0.30/") == "v1"
        world.agent.answering.set()
        await world.agent.ready_when("web:80")
        await in_force(world, world.controller.revision)
        assert world.envoy == envoy

    play(tmp_path, scenario)


def test_an_envoy_left_with_another_bootstrap_is_replaced_by_hot_restart(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        envoy = await started(world)
        async with load(world) as seen:
            await world.stop_l7proxy(signal.SIGKILL)
            successor = await started(world, concurrency=2)
            await asyncio.sleep(1)
        assert successor != envoy
        assert set(seen) == {"200"}
        while Path(f"/proc/{envoy}").exists() and not _is_zombie(envoy):
            await asyncio.sleep(0.1)
        assert await answered_by(world) == "v1"
        assert await world.stop_l7proxy() == 0

    play(tmp_path, scenario, drainSeconds=1)


def _is_zombie(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def test_an_envoy_that_dies_is_started_again_at_once(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        envoy = await started(world)
        os.kill(envoy, signal.SIGKILL)
        report = await world.controller.report_when(lambda r: not r.ready)
        assert report.state.startswith("Envoy ended") or report.state == "starting Envoy"
        await world.controller.report_when(lambda r: r.ready)
        assert world.envoy not in (None, envoy)
        assert await answered_by(world) == "v1"
        assert world.agent.ready == {"web:80"}

    play(tmp_path, scenario)


def test_an_envoy_that_keeps_dying_is_named_in_the_report(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        world.start_l7proxy(envoyBinary="/bin/false")
        report = await world.controller.report_when(lambda r: r.state.startswith("Envoy ended"))
        assert not report.ready
        world.controller.delete("HTTPRoute", "web")
        await world.controller.report_when(lambda r: r.state == "idle" and r.ready)

    play(tmp_path, scenario)


def test_a_taken_proxy_port_is_reported_and_heals(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        with socket.socket() as squatter:
            squatter.bind(("127.0.0.1", 15001))
            squatter.listen()
            world.start_l7proxy()
            report = await world.controller.report_when(lambda r: bool(r.problems))
        assert report.problems[0].kind == "MeshNode"
        assert "Address already in use" in report.problems[0].message
        assert not world.agent.ready
        world.controller.apply(route("other", "other", to(("web-v1", 1))))
        await world.agent.ready_when("web:80", "other:80")

    play(tmp_path, scenario)


def test_the_saved_feed_serves_while_the_controller_is_away(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await started(world)
        await asyncio.sleep(0.1)
        assert await world.stop_l7proxy() == 0
        await world.controller.stop()
        world.start_l7proxy()
        await world.agent.ready_when("web:80")
        assert await answered_by(world) == "v1"
        await world.controller.start()
        revision = world.controller.apply(route("web", "web", to(("web-v2", 1))))
        await in_force(world, revision)
        assert await answered_by(world) == "v2"

    play(tmp_path, scenario)


def test_a_torn_saved_feed_is_put_aside(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        state = tmp_path / "state"
        state.mkdir()
        (state / "feed.jsonl").write_text('{"type":"RESET"}\n{"type":"PUT","obj')
        await started(world)

    play(tmp_path, scenario)


def test_the_controller_goes_and_comes_back_without_anybody_noticing(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await started(world)
        async with load(world) as seen:
            await world.controller.stop()
            await asyncio.sleep(0.5)
            await world.controller.start()
            revision = world.controller.apply(route("web", "web", to(("web-v2", 1))))
            await in_force(world, revision)
        assert set(seen) == {"200"}

    play(tmp_path, scenario)


def test_leave_envoy_on_stop(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        envoy = await started(world, leaveEnvoyOnStop=True)
        assert await world.stop_l7proxy() == 0
        assert world.agent.ready == {"web:80"}
        assert world.envoy == envoy
        assert await answered_by(world) == "v1"
        await started(world, leaveEnvoyOnStop=False)
        assert world.envoy == envoy
        assert await world.stop_l7proxy() == 0
        assert world.agent.ready == set()
        assert world.envoy is None

    play(tmp_path, scenario)


def test_a_stop_leaves_nothing_behind(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        memory = shared_memory(await started(world))
        assert await world.stop_l7proxy() == 0
        left = {p.name for p in world.run_dir.iterdir()}
        assert left <= {"l7proxy.lock", "envoy.log", "access.jsonl"}
        assert len(memory) == 1
        assert not any(path.exists() for path in memory)

    play(tmp_path, scenario)


def test_no_privilege_is_needed() -> None:
    """As user 65534, which has no capability, in directories of its own."""

    async def scenario(world: World) -> None:
        envoy = await started(world)
        status = Path(f"/proc/{envoy}/status").read_text()
        assert "CapEff:\t0000000000000000" in status
        assert await answered_by(world) == "v1"

    with tempfile.TemporaryDirectory(prefix="l7proxy-") as directory:
        os.chown(directory, 65534, 65534)
        play(Path(directory), scenario, user=65534)


def test_the_certificate_is_renewed_at_half_its_life_and_the_key_stays(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        world.agent.certificate_seconds = 3
        world.start_l7proxy()
        await world.agent.ready_when("web:80")
        key = (tmp_path / "state" / "key.pem").read_bytes()
        while world.agent.signed < 3:
            await asyncio.sleep(0.05)
        assert (tmp_path / "state" / "key.pem").read_bytes() == key
        assert (tmp_path / "state" / "key.pem").stat().st_mode & 0o777 == 0o600
        await world.controller.stop()
        await world.controller.start()
        revision = world.controller.apply(route("web", "web", to(("web-v2", 1))))
        await in_force(world, revision)

    play(tmp_path, scenario)


def test_two_cannot_share_a_run_directory(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await started(world)
        command = [sys.executable, "-m", "l7proxy", "--config", str(world.configure())]
        second = subprocess.run(
            command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=20
        )
        assert second.returncode == 1
        assert second.stderr.splitlines()[-1].startswith(
            f"hoplite-l7proxy: {world.run_dir}: another hoplite-l7proxy (process "
        )
        assert await answered_by(world) == "v1"

    play(tmp_path, scenario)


def test_a_taken_metrics_port_is_one_clear_line(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        with socket.socket() as squatter:
            squatter.bind(("127.0.0.1", 15090))
            squatter.listen()
            command = [sys.executable, "-m", "l7proxy", "--config", str(world.configure())]
            ended = subprocess.run(
                command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=20
            )
        assert ended.returncode == 1
        (line,) = [x for x in ended.stderr.splitlines() if not x.startswith("{")]
        assert line.startswith("hoplite-l7proxy: metricsListen: cannot listen on 127.0.0.1:15090")

    play(tmp_path, scenario)


def test_logs_are_rotated_when_they_have_grown(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await started(world, accessLogMaxBytes=65536)
        async with load(world):
            while not (world.run_dir / "access.jsonl.1").exists():
                await asyncio.sleep(0.1)
        assert await answered_by(world) == "v1"
        while not (world.run_dir / "access.jsonl").exists():
            await asyncio.sleep(0.1)

    play(tmp_path, scenario)


def test_the_admin_socket_shows_what_is_wanted_and_what_envoy_has(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await started(world)
        socket_path = world.run_dir / "l7proxy.sock"
        status, body = await unixhttp.call(socket_path, "GET", "/ready")
        assert status == 200
        assert json.loads(body)["state"] == "serving 1 service"
        snapshot = json.loads((await world.admin("/snapshot"))[1])
        assert snapshot["revision"] == world.controller.revision
        assert [c["name"] for c in snapshot["clusters"]] == ["shop/web-v1:80"]
        dump = (await world.admin("/config_dump"))[1].decode()
        assert "shop/web-v1:80" in dump

    play(tmp_path, scenario)

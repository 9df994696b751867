"""The controller as a process: starting, refusing to start, stopping, dying, coming back."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from meshapi.client import ApiClient, server_tls
from meshapi.errors import HopliteError, UnauthorizedError, UnavailableError
from meshapi.resources import Key, Service, Workload, by_word, key_of

ROOT = Path(__file__).parents[3]


def run(config: Path, *flags: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "controller", "--config", str(config), *flags],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **environment},
        timeout=30,
        check=False,
    )


def refused(settings: dict[str, object], tmp_path: Path, **environment: str) -> str:
    """The one line with which it does not start."""
    config = tmp_path / "config.yaml"
    config.write_bytes(msgspec.json.encode({"stateDir": str(tmp_path / "s"), **settings}))
    finished = run(config, **environment)
    assert finished.returncode == 1
    assert finished.stdout == ""
    lines = finished.stderr.splitlines()
    assert len(lines) == 1, finished.stderr
    assert lines[0].startswith("hoplite-controller: ")
    return lines[0]


def test_check_only_checks(tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text(f"stateDir: {tmp_path}/s\n")
    checked = run(config, "--check")
    assert (checked.returncode, checked.stdout) == (0, "the configuration is valid\n")
    assert not (tmp_path / "s").exists()
    config.write_text("listn: []\n")
    checked = run(config, "--check")
    assert checked.returncode == 1
    assert f"{config}:1: $.listn: unknown field; known settings are" in checked.stderr


def test_a_taken_port(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = refused({"listen": [f"127.0.0.1:{port}"]}, tmp_path)
    assert f"127.0.0.1:{port}: cannot listen: Address already in use; stop what uses" in line


def test_a_missing_file(tmp_path):
    finished = run(tmp_path / "nix.yaml")
    assert finished.returncode == 1
    assert "nix.yaml: cannot be read: No such file or directory" in finished.stderr


def test_a_state_directory_that_is_a_file(tmp_path):
    (tmp_path / "s").write_text("")
    assert "the state directory cannot be used" in refused({}, tmp_path)


def test_a_state_directory_that_is_in_use(controller, tmp_path):
    line = refused({"stateDir": str(controller.state), "listen": ["127.0.0.1:0"]}, tmp_path)
    assert "another hoplite-controller uses this state directory" in line


def test_a_damaged_store(start, tmp_path):
    controller = start()
    controller.stop()
    (controller.state / "store.db").write_bytes(b"junk" * 5000)
    for rest in ("store.db-wal", "store.db-shm"):
        (controller.state / rest).unlink(missing_ok=True)
    line = refused({"stateDir": str(controller.state), "listen": ["127.0.0.1:0"]}, tmp_path)
    assert "store.db: the store is damaged or not a store" in line


def test_nothing_to_listen_on(tmp_path):
    assert "nothing to listen on" in refused({"listen": []}, tmp_path)


def test_descriptors_that_are_no_sockets(tmp_path):
    config = tmp_path / "c.yaml"
    config.write_bytes(msgspec.json.encode({"listen": [], "stateDir": str(tmp_path / "s")}))
    shell = 'export LISTEN_PID=$$ LISTEN_FDS=1; exec "$0" -m controller --config "$1" 3</dev/null'
    finished = subprocess.run(
        ["sh", "-c", shell, sys.executable, str(config)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=30,
        check=False,
    )
    assert finished.returncode == 1
    assert "LISTEN_FDS: descriptor 3 is not a socket" in finished.stderr


def test_sockets_of_a_supervisor_are_served(start, tmp_path):
    """Two sockets handed over as systemd does, and no address of our own."""
    controller = start()
    controller.stop()
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as two,
    ):
        config = tmp_path / "c.yaml"
        config.write_bytes(msgspec.json.encode({"listen": [], "stateDir": str(controller.state)}))
        script = (
            "import os,sys;a,b=map(int,sys.argv[1:3]);"
            "os.dup2(a,53);os.dup2(b,54);os.dup2(53,3);os.dup2(54,4);"
            "os.environ.update(LISTEN_PID=str(os.getpid()),LISTEN_FDS='2');"
            "os.execv(sys.executable,[sys.executable,'-m','controller','--config',sys.argv[3]])"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", script, str(one.fileno()), str(two.fileno()), str(config)],
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            pass_fds=(one.fileno(), two.fileno()),
        )
        try:
            assert process.stderr is not None
            assert '"message":"ready"' in process.stderr.readline()

            async def scenario(port):
                url = f"https://127.0.0.1:{port}"
                async with ApiClient(url, server_tls(controller.ca), token=controller.token) as c:
                    return await c.list_all(by_word("ns"))

            for handed in (one, two):
                assert len(asyncio.run(scenario(handed.getsockname()[1]))) == 2
        finally:
            process.terminate()
            process.communicate(timeout=20)
    assert process.returncode == 0


def test_sigterm_is_a_clean_stop_even_with_open_streams(controller):
    async def scenario():
        n1 = await controller.node("n1")
        async with controller.admin() as admin, n1.feed() as lines:
            await anext(lines)
            stream = aiter(admin.watch(by_word("ns")))
            await anext(stream)
            stopping = asyncio.create_task(asyncio.to_thread(controller.stop), name="stop")
            with pytest.raises(HopliteError):
                async with asyncio.timeout(10):
                    async for _ in lines:
                        pass
            return await stopping

    assert asyncio.run(scenario()) == 0
    assert '"message":"stopping"' in controller.log
    assert "exception" not in controller.log


def test_a_restart_keeps_everything(start, make):
    controller = start()

    async def fill():
        await controller.node("n1", "192.0.2.1")
        async with controller.admin() as admin:
            await admin.apply(
                [make.namespace(), make.service("web"), make.workload("web-1", "n1", "10.0.0.1")]
            )
            return {k.name: await admin.list_all(k) for k in map(by_word, ("ns", "wl", "netpol"))}

    before = asyncio.run(fill())
    ca, token = controller.ca, controller.token
    assert controller.stop() == 0
    controller.start()
    assert (controller.ca, controller.token) == (ca, token)

    async def look():
        async with controller.admin() as admin:
            found = {k.name: await admin.list_all(k) for k in map(by_word, ("ns", "wl", "netpol"))}
            again = await admin.apply([make.workload("web-2", "n1", "10.0.0.2")])
            workload = await admin.get(by_word("wl"), "shop", "web-2")
            return found, again, workload

    found, again, workload = asyncio.run(look())
    assert found == before
    assert again.results[0].action == "created"
    assert isinstance(workload, Workload)
    assert workload.status.identity == 256


def test_kill_9_during_a_write_storm_loses_no_acknowledged_write(start, make):
    controller = start()
    acknowledged: dict[Key, str] = {}

    async def write(admin, worker):
        for i in range(10_000):
            wanted = make.service(f"s{worker}-{i % 40}", ports=[{"port": 1 + i}])
            try:
                reply = await admin.apply([wanted])
            except UnavailableError:
                return
            acknowledged[key_of(wanted)] = f"{1 + i}@{reply.revision}"

    async def storm():
        async with controller.admin() as admin:
            await admin.apply([make.namespace()])
            async with asyncio.TaskGroup() as group:
                for worker in range(8):
                    group.create_task(write(admin, worker), name=f"writer-{worker}")
                await asyncio.sleep(1.5)
                await asyncio.to_thread(controller.stop, signal.SIGKILL)

    asyncio.run(storm())
    assert len(acknowledged) > 50
    controller.start()

    async def read():
        async with controller.admin() as admin:
            return {key_of(s): s for s in await admin.list_all(by_word("svc"))}

    found = asyncio.run(read())
    for key, written in acknowledged.items():
        port, revision = written.split("@")
        service = found[key]
        assert isinstance(service, Service)
        if int(service.metadata.resource_version) == int(revision):
            assert service.spec.ports[0].port == int(port)
        else:  # a later write reached the disk, but not its answer
            assert int(service.metadata.resource_version) > int(revision)
            assert service.spec.ports[0].port > int(port)


def test_metrics_are_served_in_plain_http_too(start, make):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    controller = start(metricsListen=f"127.0.0.1:{port}")

    async def scenario():
        await controller.node("n1")
        async with controller.admin() as admin:
            await admin.apply([make.namespace()])
        import aiohttp

        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{port}/metrics") as response,
        ):
            return await response.text()

    page = asyncio.run(scenario())
    for line in (
        'hoplite_controller_objects{kind="Namespace"} 3.0',
        'hoplite_controller_node_ready{node="n1"} 0.0',
        'hoplite_controller_node_revision_lag{node="n1"} 4.0',
        'hoplite_controller_certificates_issued_total{component="agent"} 1.0',
        'hoplite_controller_requests_total{code="200",kind="all",verb="apply"} 1.0',
        "hoplite_controller_revision 4.0",
    ):
        assert line in page, page
    assert "hoplite_controller_store_commit_duration_seconds_count" in page


def test_only_tls_1_3_with_our_ca(controller, tmp_path):
    old = server_tls(controller.ca)
    old.minimum_version = ssl.TLSVersion.TLSv1_2
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        socket.create_connection(("127.0.0.1", controller.port)) as raw,
        pytest.raises(ssl.SSLError),
    ):
        old.wrap_socket(raw, server_hostname="127.0.0.1")
    assert controller.process.poll() is None


def test_a_certificate_of_another_ca_is_nobody(start):
    ours, theirs = start(), start()

    async def scenario():
        n1 = await theirs.node("n1")
        await ours.node("n1")
        foreign = n1.tls
        foreign.load_verify_locations(cadata=ours.ca)
        async with ApiClient(ours.url, foreign) as impostor:
            with pytest.raises((UnavailableError, UnauthorizedError)):
                await anext(aiter(impostor.feed("n1", "agent")))

    asyncio.run(scenario())


def test_an_admin_changes_the_token_by_writing_another(start):
    controller = start()
    controller.stop()
    old = controller.token
    (controller.state / "admin.token").write_text("n" * 40 + "\n")
    controller.start()

    async def scenario():
        async with controller.admin() as admin:
            await admin.list_all(by_word("ns"))
        async with ApiClient(controller.url, server_tls(controller.ca), token=old) as former:
            with pytest.raises(UnauthorizedError):
                await former.list_all(by_word("ns"))

    asyncio.run(scenario())
    controller.stop()
    (controller.state / "admin.token").unlink()
    controller.start()
    status, _ = asyncio.run(
        controller.request("GET", "/api", headers={"Authorization": "Bearer " + "n" * 40})
    )
    assert status == 200

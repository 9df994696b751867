"""Asking a lab's controller and agents, for tests: services' addresses, flows, maps, metrics."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lab import api
from lab.patience import stretched
from meshapi.flow import Flow, FlowQuery
from meshapi.manifests import parse
from meshapi.resources import Resource, Service, by_word
from tests.mesh.programs import DIAL, SEND

PATIENCE = 10.0


def virtual_addresses(lab: api.Lab, namespace: str, name: str) -> tuple[str, ...]:
    """A service's virtual addresses, IPv4 first."""

    async def get() -> tuple[str, ...]:
        async with lab.endpoint.client() as client:
            service = await client.get(by_word("service"), namespace, name)
            assert isinstance(service, Service)
            return service.spec.cluster_ips

    return asyncio.run(get())


def apply(lab: api.Lab, text: str) -> None:
    """Apply manifests and wait until every node has them in force."""
    resources: list[Resource] = [m.resource for m in parse(text, "test")]

    async def send() -> int:
        async with lab.endpoint.client() as client:
            return (await client.apply(resources)).revision

    revision = asyncio.run(send())
    eventually(lambda: all(r >= revision for r in revisions(lab).values()))


def delete(lab: api.Lab, kind: str, namespace: str, name: str) -> None:
    async def send() -> None:
        async with lab.endpoint.client() as client:
            await client.delete(by_word(kind), namespace, name)

    asyncio.run(send())


def revisions(lab: api.Lab) -> dict[str, int]:
    """The revision that each node's agent enforces, by its own word."""
    return {
        node.name: ask_agent(lab, node.name, "/config_dump")["inForce"]["revision"]
        for node in lab.record.plan.nodes
    }


def flows(lab: api.Lab, **query: Any) -> list[Flow]:
    """Flows of all nodes, through the controller."""

    async def ask() -> list[Flow]:
        async with lab.endpoint.client() as client:
            replies = [reply async for reply in client.flows(FlowQuery(**query))]
            return [reply.flow for reply in replies if reply.flow is not None]

    return asyncio.run(ask())


def ask_agent(lab: api.Lab, node: str, path: str) -> Any:
    """A JSON answer of an agent's admin API."""
    return json.loads(ask_unix(lab.agent_socket(node), path))


def ask_unix(path: Path, url: str) -> str:
    connection = http.client.HTTPConnection("localhost", timeout=5)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(path))
    try:
        connection.request("GET", url)
        response = connection.getresponse()
        text = response.read().decode()
    finally:
        connection.close()
    assert response.status == 200, text
    return text


def dial(lab: api.Lab, target: str, address: str, port: int, count: int = 1) -> dict[str, Any]:
    """``answers`` (who or which errno, how often) and ``peers`` of TCP connections."""
    return _python(lab, target, DIAL, address, str(port), str(count))


def send(
    lab: api.Lab, target: str, address: str, port: int, count: int = 1, how: str = "fresh"
) -> dict[str, Any]:
    """The same for datagrams."""
    return _python(lab, target, SEND, address, str(port), str(count), how)


def _python(lab: api.Lab, target: str, program: str, *words: str) -> dict[str, Any]:
    done = lab.exec(target, [sys.executable, "-c", program, *words])
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def eventually(condition: Callable[[], bool], patience: float = PATIENCE) -> None:
    """Wait until ``condition`` holds; fail when it does not in time."""
    deadline = time.monotonic() + stretched(patience)
    while not condition():
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.05)

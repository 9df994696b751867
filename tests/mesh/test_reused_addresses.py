"""Addresses that pass from one workload to another: nobody has the rights of the former owner."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from lab import api
from lab.api import Target
from lab.processes import launcher
from lab.succession import paused, succeed
from tests.mesh.asking import eventually
from tests.mesh.callers import WAYS, Callers, callers
from tests.mesh.programs import SERVER
from tests.mesh.test_datapath import CLIENT, FAR_CLIENT, LAB, OUTSIDER, TCP, UDP

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def lab(make_lab: Callable[[str], api.Lab]) -> api.Lab:
    return make_lab(LAB)


def all_by_all_ways(asking: Callers, addresses: tuple[str, ...], word: str) -> bool:
    heard = asking.asked(addresses, TCP, UDP)
    return all(ways == dict.fromkeys(WAYS, word) for ways in heard.values())


def test_a_client_at_an_allowed_ones_address_is_refused(lab: api.Lab) -> None:
    """Also while the server's node takes it for the former one."""
    vault = lab.workload("node2/shop/vault").addresses
    with callers(client=lab.target(CLIENT)) as former:
        assert all_by_all_ways(former, vault, "vault")
    with paused(lab, "node2"):
        place = succeed(lab, CLIENT, "heir", {"app": "outsider"})
        with callers(heir=Target(place, lab.target(CLIENT).env)) as heir:
            assert all_by_all_ways(heir, vault, "EPERM")
    with callers(heir=Target(place, lab.target(CLIENT).env)) as heir:
        assert all_by_all_ways(heir, vault, "EPERM")


def test_a_server_at_an_open_ones_address_stays_closed(lab: api.Lab) -> None:
    """Also while the clients' node takes it for the former one."""
    own = lab.workload("node2/shop/echo").addresses
    with callers(near=lab.target(OUTSIDER)) as outsider, callers(far=lab.target(FAR_CLIENT)) as may:
        assert all_by_all_ways(outsider, own, "two")
        with paused(lab, "node1"):
            place = succeed(lab, "node2/shop/echo", "strongroom", {"app": "vault"})
            with serving(Target(place, lab.target("node2/shop/echo").env)):
                eventually(lambda: all_by_all_ways(may, own, "heir"))
                assert all_by_all_ways(outsider, own, "TimeoutError")
        eventually(lambda: all_by_all_ways(outsider, own, "EPERM"))


@contextmanager
def serving(where: Target) -> Iterator[None]:
    env = where.env | {"WHO": "heir", "PORT": str(TCP), "UDP_PORT": str(UDP)}
    server = subprocess.Popen(launcher(where.place, [sys.executable, "-c", SERVER]), env=env)
    try:
        yield
    finally:
        server.kill()
        server.wait()

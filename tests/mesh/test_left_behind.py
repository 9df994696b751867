"""What is left of those that are gone, old exchanges and addresses, gives and takes no rights."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from lab import api
from lab.api import Target
from lab.processes import launcher
from lab.restart import kill, start_agent
from lab.succession import paused, succeed
from tests.mesh.asking import apply, ask_unix, delete, dial, eventually, send
from tests.mesh.callers import WAYS, Callers, callers
from tests.mesh.holding import held, last_word
from tests.mesh.programs import SERVER
from tests.mesh.test_datapath import (
    CLIENT,
    FAR_CLIENT,
    FAR_OUTSIDER,
    HOST_CLIENT,
    LAB,
    OUTSIDER,
    TCP,
    UDP,
)

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def lab(make_lab: Callable[[str], api.Lab]) -> api.Lab:
    return make_lab(LAB)


ONLY_ASKS = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: only-asks, namespace: shop}
spec: {podSelector: {matchLabels: {app: client}}, policyTypes: [Ingress, Egress], ingress: [],
       egress: %s}
"""


def test_datagrams_go_on_when_nobody_forgets_old_ones(lab: api.Lab) -> None:
    """An agent that is away for long: the table of exchanges fills up with what is long over."""
    apply(lab, ONLY_ASKS % "[{}]")
    kill(lab, "node1", "hoplite-agent")
    config = lab.agent_socket("node1").parent.parent / "config.yaml"
    config.write_text(config.read_text() + "\nmapSizes: {datagrams: 64}\n")
    start_agent(lab, "node1")
    kill(lab, "node1", "hoplite-agent")
    one, two = (lab.workload(f"node{n}/shop/echo").addresses for n in (1, 2))
    assert send(lab, FAR_OUTSIDER, one[0], UDP, 100)["answers"] == {"one": 100}
    for family in (0, 1):
        for how in ("fresh", "connected", "same"):
            for target in (CLIENT, HOST_CLIENT):
                assert send(lab, target, two[family], UDP, 5, how)["answers"] == {"two": 5}
    assert dial(lab, FAR_OUTSIDER, lab.workload(CLIENT).addresses[0], TCP)["answers"] == {
        "EPERM": 1
    }
    with ExitStack() as stack:
        asking = [
            stack.enter_context(held(lab, CLIENT, two[family], UDP, how))
            for family in (0, 1)
            for how in ("UDP", "UDP-unconnected")
        ]
        start_agent(lab, "node1")
        assert 'hoplite_agent_lost_total{kind="flow"} 0.0' not in ask_unix(
            lab.agent_socket("node1"), "/metrics"
        )
        apply(lab, ONLY_ASKS % "[]")
        assert [last_word(process) for process in asking] == ["EPERM"] * 4
    delete(lab, "networkpolicy", "shop", "only-asks")
    eventually(lambda: dial(lab, CLIENT, two[0], TCP)["answers"] == {"two": 1})


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

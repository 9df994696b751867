"""Keys for identities in SYNs in a running mesh: renewed under traffic, secret, done without."""

from __future__ import annotations

import asyncio
import base64
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest
from msgspec.structs import replace

from lab import api
from lab.names import LabNames
from lab.processes import launcher
from lab.restart import kill, start_agent
from meshapi.resources import MeshNode, by_word
from nodeagent.layout import NODE_KEY
from tests.mesh.asking import apply, ask_agent, ask_unix, dial, eventually, flows
from tests.mesh.tags import node_keys, standing, wait_until_tagged
from tests.mesh.test_identity import BROWSER, CLIENT, LAB, NEAR, SAFE, TCP, VAULT

pytestmark = pytest.mark.root

BACK_IS_STRICT = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: back, namespace: shop, annotations: {mesh.hoplite.io/identity: strict}}
spec:
  podSelector: {matchLabels: {app: back}}
  ingress: [{from: [{podSelector: {matchLabels: {app: client}}}]}]
"""

# Opens connections one after the other until told to stop; how many, and what failed. One more is
# open all the while and talks.
ASK = """
import json, select, socket, sys
address, port = sys.argv[1], int(sys.argv[2])
count, failed = 0, []
print("asking", flush=True)
with socket.create_connection((address, port), timeout=5) as held:
    greeting = held.recv(99)
    while not select.select([sys.stdin], [], [], 0.02)[0]:
        try:
            with socket.create_connection((address, port), timeout=0.8) as connection:
                connection.recv(99)
            count += 1
            held.sendall(b"x")
            assert held.recv(1) == b"x"
        except OSError as error:
            failed.append(str(error))
print(json.dumps([count, failed]))
"""


@pytest.fixture(scope="module")
def lab(make_lab: Callable[[str], api.Lab]) -> api.Lab:
    made = make_lab(LAB)
    wait_until_tagged(made)
    return made


@pytest.fixture
def with_settings(lab: api.Lab) -> Iterator[Callable[..., None]]:
    """Restarts agents with other settings; at the end with their own."""
    changed: list[str] = []

    def restart(*nodes: str, **settings: str) -> None:
        for node in nodes:
            kill(lab, node, "hoplite-agent", how=signal.SIGTERM)
            start_agent(lab, node, **{f"HOPLITE_AGENT_{k}": v for k, v in settings.items()})
            changed.append(node)

    yield restart
    for node in set(changed):
        kill(lab, node, "hoplite-agent", how=signal.SIGTERM)
        start_agent(lab, node)
    wait_until_tagged(lab)


def epoch(lab: api.Lab, node: str) -> int:
    sending = standing(lab, node).get("sending", 0)
    assert isinstance(sending, int)
    return sending


def test_keys_change_under_traffic_and_no_connection_is_lost(
    lab: api.Lab, with_settings: Callable[..., None]
) -> None:
    """Three keys of each node, connections to strict workloads in both directions all the while."""
    apply(lab, BACK_IS_STRICT)
    with_settings("node1", "node2", IDENTITY_KEY_SECONDS="8")
    before = {node: epoch(lab, node) for node in ("node1", "node2")}
    callers = [
        _asking(lab, caller, address)
        for caller, server in ((CLIENT, SAFE), (NEAR, "node1/shop/back"))
        for address in lab.workload(server).addresses
    ]
    eventually(lambda: all(epoch(lab, node) >= before[node] + 3 for node in before), patience=75)
    for caller in callers:
        out, _ = caller.communicate("stop", timeout=20)
        count, failed = json.loads(out)
        assert failed == []
        assert count > 100
    assert all(len(standing(lab, node)["epochs"]) <= 3 for node in before)
    inbound = flows(lab, source="shop/client", destination="shop/safe", direction="inbound")
    assert all(flow.authenticated for flow in inbound)


def _asking(lab: api.Lab, caller: str, address: str) -> subprocess.Popen[str]:
    there = lab.target(caller)
    asking = subprocess.Popen(
        launcher(there.place, [sys.executable, "-c", ASK, address, str(TCP)]),
        env=there.env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert asking.stdout is not None
    assert asking.stdout.readline() == "asking\n"
    return asking


def test_keys_appear_nowhere(lab: api.Lab) -> None:
    secrets = set()
    for node in ("node1", "node2"):
        state = LabNames(lab.name).node(node) / "agent" / "state"
        stored = json.loads((state / "identity.keys").read_text())
        assert (state / "identity.keys").stat().st_mode & 0o777 == 0o600
        secrets |= {base64.b64decode(key["private"]) for key in stored}
        secrets |= {NODE_KEY.unpack(value)[0] for value in node_keys(lab, node).values()}
    assert len(secrets) >= 4
    shown = ""
    for node in ("node1", "node2"):
        maps = ask_agent(lab, node, "/maps")
        assert "node_keys" not in maps
        with pytest.raises(AssertionError, match="is not a map"):
            ask_unix(lab.agent_socket(node), "/maps/node_keys")
        pages = ("/config_dump", "/metrics", "/flows", *(f"/maps/{name}" for name in maps))
        shown += "".join(ask_unix(lab.agent_socket(node), page) for page in pages)
        shown += lab.log(f"{node}/agent")
        stored_feed = LabNames(lab.name).node(node) / "agent" / "state" / "feed.jsonl"
        shown += stored_feed.read_text()
    shown += lab.log("controller")
    for secret in secrets:
        words = (secret.hex(), base64.b64encode(secret).decode(), repr(secret)[2:-1])
        assert not any(word in shown for word in words)


def test_the_public_halves_are_for_admins_to_see(lab: api.Lab) -> None:
    node = _node(lab, "node1")
    keys = node.status.identity_keys
    assert [key.epoch for key in keys] == list(standing(lab, "node1")["epochs"])
    assert all(len(base64.b64decode(key.public_key)) == 32 for key in keys)


def test_an_agent_that_is_away_changes_nothing_and_its_successor_finds_all_right(
    lab: api.Lab,
) -> None:
    held = node_keys(lab, "node1")
    kill(lab, "node1", "hoplite-agent")
    own = lab.workload(SAFE).addresses[0]
    assert dial(lab, CLIENT, own, TCP)["answers"] == {"safe": 1}
    start_agent(lab, "node1")
    eventually(lambda: epoch(lab, "node1") > 0)
    assert node_keys(lab, "node1") == held
    assert dial(lab, CLIENT, own, TCP)["answers"] == {"safe": 1}


def test_without_tags_the_address_decides_and_strict_policies_refuse(
    lab: api.Lab, with_settings: Callable[..., None]
) -> None:
    """Also how a node is treated that has no keys: one of an older release, or a new one."""
    with_settings("node1", IDENTITY_TAGS="false")
    eventually(lambda: not node_keys(lab, "node1") and not node_keys(lab, "node2"))
    assert _node(lab, "node1").status.identity_keys == ()
    _only_by_address(lab)


def test_behind_nat_it_is_the_same(lab: api.Lab) -> None:
    _behind_nat(lab, "node1", True)
    eventually(lambda: not node_keys(lab, "node1") and not node_keys(lab, "node2"))
    _only_by_address(lab)
    _behind_nat(lab, "node1", False)
    wait_until_tagged(lab)
    assert dial(lab, CLIENT, lab.workload(SAFE).addresses[0], TCP)["answers"] == {"safe": 1}


def test_a_node_that_lost_its_keys_makes_others_and_is_believed_again(
    lab: api.Lab,
) -> None:
    before = epoch(lab, "node1")
    kill(lab, "node1", "hoplite-agent")
    (LabNames(lab.name).node("node1") / "agent" / "state" / "identity.keys").unlink()
    start_agent(lab, "node1")
    eventually(lambda: epoch(lab, "node1") > before, patience=30)
    eventually(
        lambda: dial(lab, CLIENT, lab.workload(SAFE).addresses[0], TCP)["answers"] == {"safe": 1}
    )
    assert dial(lab, NEAR, lab.workload("node1/shop/back").addresses[0], TCP)["answers"] == {
        "back": 1
    }


def test_while_the_controller_is_away_no_key_is_changed_and_none_is_missed(
    lab: api.Lab, with_settings: Callable[..., None]
) -> None:
    """For several times as long as a key lives, and with an agent that starts meanwhile."""
    apply(lab, BACK_IS_STRICT)
    with_settings("node1", "node2", IDENTITY_KEY_SECONDS="8")
    wait_until_tagged(lab)
    kill(lab, "controller")
    held = {node: epoch(lab, node) for node in ("node1", "node2")}
    time.sleep(20)
    kill(lab, "node1", "hoplite-agent")
    start_agent(lab, "node1", HOPLITE_AGENT_IDENTITY_KEY_SECONDS="8")
    wait_until_tagged(lab)
    assert {node: epoch(lab, node) for node in held} == held
    for family in (0, 1):
        there, back = (lab.workload(w).addresses[family] for w in (SAFE, "node1/shop/back"))
        assert dial(lab, CLIENT, there, TCP)["answers"] == {"safe": 1}
        assert dial(lab, NEAR, back, TCP)["answers"] == {"back": 1}


def _only_by_address(lab: api.Lab) -> None:
    vault, safe = lab.workload(VAULT).addresses, lab.workload(SAFE).addresses
    for family in (0, 1):
        assert dial(lab, CLIENT, vault[family], TCP)["answers"] == {"vault": 1}
        assert dial(lab, CLIENT, safe[family], TCP)["answers"] == {"EPERM": 1}
        assert dial(lab, NEAR, safe[family], TCP)["answers"] == {"safe": 1}
        assert dial(lab, BROWSER, vault[family], TCP)["answers"] == {"EPERM": 1}

    def told() -> bool:
        found = flows(lab, source="shop/client", destination="shop/vault", direction="inbound")
        return bool(found) and not found[-1].authenticated

    eventually(told)
    refused = flows(lab, source="shop/client", destination="shop/safe", verdict="DENY", last=1)
    assert (refused[0].reason, refused[0].hook) == ("IDENTITY_REQUIRED", "connect")


def _node(lab: api.Lab, name: str) -> MeshNode:
    async def get() -> MeshNode:
        async with lab.endpoint.client() as client:
            found = await client.get(by_word("node"), "", name)
            assert isinstance(found, MeshNode)
            return found

    return asyncio.run(get())


def _behind_nat(lab: api.Lab, name: str, behind: bool) -> None:
    async def change() -> None:
        async with lab.endpoint.client() as client:
            node = await client.get(by_word("node"), "", name)
            assert isinstance(node, MeshNode)
            await client.replace(replace(node, spec=replace(node.spec, behind_nat=behind)))

    asyncio.run(change())

"""Connection limits between real programs: how fast, how many, by whom, and nothing leaks."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from lab import api
from lab.names import LabNames
from lab.restart import kill, start_agent
from nodeagent import layout
from nodeagent.config import DEFAULT_SIZES
from nodeagent.datapath.libbpf import KernelMap
from tests.mesh.asking import (
    apply,
    ask_agent,
    delete,
    eventually,
    flows,
    send,
    virtual_addresses,
)
from tests.mesh.balancing_world import get_workload
from tests.mesh.programs import TCP, serving
from tests.mesh.ways_of_connecting import PROGRAM

pytestmark = pytest.mark.root

# Those that may be told apart by a limit; the others dial two servers, or a device.
TCP_WAYS = ("non-blocking", "fastopen-sendto", "fastopen-connect", "mptcp", "io_uring", "passed-on")

LAB = f"""
apiVersion: lab.hoplite.io/v1alpha1
kind: Lab
spec:
  nodes:
  - name: node1
    workloads:
    - {{name: web1, namespace: shop, serviceAccount: web, labels: {{app: web}}, {serving("one")}}}
    - {{name: near, namespace: shop, serviceAccount: near, labels: {{app: near}}}}
    - {{name: host, namespace: shop, serviceAccount: host, network: host, labels: {{app: host}}}}
  - name: node2
    workloads:
    - {{name: alone, namespace: shop, serviceAccount: alone, labels: {{app: alone}}}}
    - {{name: twin1, namespace: shop, serviceAccount: twin, labels: {{app: twin}}}}
    - {{name: twin2, namespace: shop, serviceAccount: twin, labels: {{app: twin}}}}
"""

SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: NAME, namespace: shop}
spec:
  selector: {app: web}
  ports: [{name: tcp, port: 80, targetPort: tcp},
          {name: closed, port: 81, targetPort: 9},
          {name: udp, port: 53, protocol: UDP, targetPort: udp}]
"""

NEAR, HOST, ALONE = "node1/shop/near", "node1/shop/host", "node2/shop/alone"
TWINS = "node2/shop/twin1", "node2/shop/twin2"

# Opens connections as fast as it can and keeps them; says how many, what failed, and how long it
# took (s). Ends on SIGTERM.
HOLD = """
import collections, errno, json, resource, signal, socket, sys, time
address, port, count, source = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
resource.setrlimit(resource.RLIMIT_NOFILE, (8192, 8192))
held, errors, started = [], collections.Counter(), time.monotonic()
for _ in range(count):
    try:
        end = socket.create_connection(
            (address, port), timeout=1, source_address=(source, 0) if source else None
        )
        end.recv(99)
        held.append(end)
    except OSError as error:
        errors[errno.errorcode.get(error.errno or 0, type(error).__name__)] += 1
seconds = time.monotonic() - started
print(json.dumps({"open": len(held), "errors": errors, "seconds": seconds}), flush=True)
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
signal.pause()
"""

# Many short connections from several threads at once; some are reset instead of closed. What counts
# is how many were open at the same time, by the program's own count, which lags behind at most.
STORM = """
import collections, errno, json, random, socket, struct, sys, threading
address, threads, each, resets = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
counts, lock, most, now = collections.Counter(), threading.Lock(), 0, 0

def work(seed):
    global most, now
    draw = random.Random(seed)
    for _ in range(each):
        end = socket.socket()
        end.settimeout(5)
        try:
            end.connect((address, 80))
        except OSError as error:
            with lock:
                counts[errno.errorcode.get(error.errno or 0, type(error).__name__)] += 1
            end.close()
            continue
        with lock:
            now += 1
            most = max(most, now)
            counts["ok"] += 1
        if draw.random() < resets:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if draw.random() < 0.3:
            end.recv(99)
        with lock:
            now -= 1
        end.close()

workers = [threading.Thread(target=work, args=(seed,)) for seed in range(threads)]
[w.start() for w in workers]
[w.join() for w in workers]
print(json.dumps({"counts": counts, "most": most}))
"""

# All the ways in which a connection may not come about, and sockets that connect more than once.
CLUMSY = """
import errno, json, socket, sys
address, port, closed, times = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])

def quietly(work):
    try:
        work()
    except OSError:
        pass

for _ in range(times):
    end = socket.socket()                            # refused, and the same socket again
    quietly(lambda: end.connect((address, closed)))
    quietly(lambda: end.connect((address, closed)))
    end.close()
    end = socket.socket()                            # given up at once
    end.setblocking(False)
    quietly(lambda: end.connect((address, port)))
    end.close()
    end = socket.socket()                            # no way to go from here
    end.bind(("127.0.0.1", 0))
    quietly(lambda: end.connect((address, port)))
    quietly(lambda: end.connect((address, port)))
    end.close()
    end = socket.socket()                            # dissolved, then elsewhere
    end.settimeout(2)
    quietly(lambda: end.connect((address, port)))
    quietly(lambda: end.connect(("", 0)))
    quietly(lambda: end.connect((address, port)))
    end.close()
    end = socket.socket()                            # half-closed by us, then reset
    end.settimeout(2)
    quietly(lambda: end.connect((address, port)))
    quietly(lambda: end.shutdown(socket.SHUT_WR))
    end.close()
print("done")
"""


@pytest.fixture(scope="module")
def lab(make_lab: Callable[[str], api.Lab]) -> api.Lab:
    made = make_lab(LAB)
    for name in ("alone", "twin1", "near", "host"):
        assert get_workload(made, name).status.identity >= 256
    return made


class Service:
    """A service of a test's own, so that its callers have used up nothing yet."""

    def __init__(self, lab: api.Lab, name: str) -> None:
        self._lab = lab
        self.name = name
        apply(lab, SERVICE.replace("NAME", name))

    @property
    def policy(self) -> str:
        return f"shop/{self.name}"

    def address(self, family: int = 0) -> str:
        return virtual_addresses(self._lab, "shop", self.name)[family]

    def limit(self, **limits: int) -> None:
        spec = {
            "targetRefs": [{"kind": "Service", "name": self.name}],
            "connectionLimits": {"perIdentity": limits},
            "outlierDetection": {"consecutiveConnectFailures": 0},
        }
        manifest = {
            "apiVersion": "mesh.hoplite.io/v1alpha1",
            "kind": "TrafficPolicy",
            "metadata": {"name": self.name, "namespace": "shop"},
            "spec": spec,
        }
        apply(self._lab, json.dumps(manifest))

    def lift(self) -> None:
        """Take the limit away, and wait until no node has any."""
        delete(self._lab, "trafficpolicy", "shop", self.name)
        nodes = [node.name for node in self._lab.record.plan.nodes]
        maps = [f"/maps/{name}" for name in ("limits", "guards")]
        eventually(lambda: not any(ask_agent(self._lab, n, m) for n in nodes for m in maps))


_NUMBERS = itertools.count(1)


@pytest.fixture
def web(lab: api.Lab) -> Iterator[Service]:
    """A service; after every test no caller holds a place any more, on either node."""
    made = Service(lab, f"web{next(_NUMBERS)}")
    made.limit(concurrentConnections=1_000_000)
    yield made
    eventually(lambda: held(lab, "node1") == held(lab, "node2") == {}, patience=20)
    made.lift()
    delete(lab, "service", "shop", made.name)


class Holder:
    """Connections that stay open for as long as the ``with`` lasts."""

    def __init__(
        self, lab: api.Lab, target: str, address: str, count: int, port: int = 80, source: str = ""
    ) -> None:
        command = [sys.executable, "-c", HOLD, address, str(port), str(count), source]
        if target == "outside":
            netns = ["ip", "netns", "exec", lab.record.plan.fabric]
            self.child = subprocess.Popen(
                [*netns, *command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        else:
            self.child = lab.popen(target, command)
        self._said: dict[str, Any] = {}

    @property
    def said(self) -> dict[str, Any]:
        if not self._said:
            assert self.child.stdout is not None
            line = self.child.stdout.readline()
            assert line.startswith("{"), line + self.child.communicate()[0]
            self._said = json.loads(line)
        return self._said

    @property
    def open(self) -> int:
        return int(self.said["open"])

    @property
    def errors(self) -> dict[str, int]:
        found: dict[str, int] = self.said["errors"]
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end(signal.SIGTERM)

    def end(self, how: signal.Signals) -> None:
        if self.child.poll() is None:
            self.child.send_signal(how)
        self.child.communicate(timeout=30)


def ways(lab: api.Lab, node: str) -> Iterator[tuple[int, str, int, int]]:
    """``(identity, "outbound" or "inbound", open, handshakes)`` of every caller that is known."""
    spec = next(s for s in layout.map_specs(DEFAULT_SIZES) if s.name == "allowances")
    path = Path(LabNames(lab.name).pins, node, "maps", f"allowances@{spec.version}")
    table = KernelMap(path, spec.key, spec.value)
    try:
        for value in dict(table.items()).values():
            for way in map(layout.Allowance._make, layout.ALLOWANCE.iter_unpack(value[8:])):
                if way.limit:
                    passed = (time.monotonic_ns() >> 35) - way.window
                    fresh = way.handshakes * (passed < 2) + way.handshakes_before * (not passed)
                    yield way.who >> 1, ("outbound", "inbound")[way.who & 1], way.open, fresh
    finally:
        table.close()


def held(lab: api.Lab, node: str) -> dict[tuple[int, str], int]:
    """Open places by caller, where there are any."""
    return {(who, where): n for who, where, n, _ in ways(lab, node) if n}


def identity(lab: api.Lab, target: str) -> int:
    return get_workload(lab, lab.workload(target).resource).status.identity


# -- how fast --------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("target", [NEAR, ALONE, HOST])
def test_a_burst_and_then_so_many_a_second(
    lab: api.Lab, web: Service, target: str, family: int
) -> None:
    web.limit(connectionsPerSecond=5, burst=20 + family)
    with Holder(lab, target, web.address(family), 300) as holder:
        allowed = 20 + family + 5 * holder.said["seconds"]
        assert 20 + family <= holder.open <= allowed + 1
        assert holder.errors == {"ECONNREFUSED": 300 - holder.open}
    name = target.rpartition("/")[2]
    found = flows(lab, source=f"shop/{name}", verdict="DENY", last=1)[0]
    assert (found.reason, found.policy, found.policy_kind) == (
        "RATE_LIMITED",
        web.policy,
        "TrafficPolicy",
    )


def test_identities_share_and_others_have_their_own(lab: api.Lab, web: Service) -> None:
    web.limit(connectionsPerSecond=1, burst=31)
    with (
        Holder(lab, TWINS[0], web.address(), 20) as first,
        Holder(lab, TWINS[1], web.address(), 20) as second,
    ):
        both = first.open + second.open
        assert 31 <= both <= 31 + first.said["seconds"] + second.said["seconds"] + 1
    with Holder(lab, ALONE, web.address(), 20) as other:
        assert other.open == 20


def test_datagrams_of_a_new_exchange_count(lab: api.Lab, web: Service) -> None:
    web.limit(connectionsPerSecond=1, burst=12)
    for how in ("fresh", "connected"):
        target = ALONE if how == "fresh" else NEAR
        answers = send(lab, target, web.address(), 53, 60, how)["answers"]
        assert answers.keys() == {"one", "ECONNREFUSED"}
        assert 12 <= answers["one"] <= 12 + 6
    assert send(lab, TWINS[0], web.address(), 53, 60, "same")["answers"] == {"one": 60}


# -- how many --------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("target", [NEAR, ALONE, HOST])
def test_so_many_open_and_no_more(lab: api.Lab, web: Service, target: str, family: int) -> None:
    web.limit(concurrentConnections=10)
    with Holder(lab, target, web.address(family), 25) as holder:
        assert (holder.open, holder.errors) == (10, {"ECONNREFUSED": 15})
        with Holder(lab, target, web.address(family), 3) as more:
            assert more.open == 0
    name = target.rpartition("/")[2]
    found = flows(lab, source=f"shop/{name}", verdict="DENY", last=1)[0]
    assert (found.reason, found.policy) == ("CONCURRENCY_LIMITED", web.policy)


def test_what_is_given_back_can_be_had_again(lab: api.Lab, web: Service) -> None:
    web.limit(concurrentConnections=7)
    for _ in range(5):
        with Holder(lab, ALONE, web.address(), 9) as holder:
            assert holder.open == 7
        eventually(lambda: held(lab, "node2") == {})


def test_a_crash_gives_everything_back(lab: api.Lab, web: Service) -> None:
    web.limit(concurrentConnections=30)
    with Holder(lab, ALONE, web.address(), 30) as holder:
        assert holder.open == 30
        assert held(lab, "node2") == {(identity(lab, ALONE), "outbound"): 30}
        assert held(lab, "node1") == {(identity(lab, ALONE), "inbound"): 30}
        holder.end(signal.SIGKILL)
    eventually(lambda: held(lab, "node1") == held(lab, "node2") == {})
    with Holder(lab, ALONE, web.address(), 31) as again:
        assert again.open == 30


def test_a_new_agent_knows_what_is_open(lab: api.Lab, web: Service) -> None:
    web.limit(concurrentConnections=8)
    with Holder(lab, ALONE, web.address(), 5) as first:
        assert first.open == 5
        for node in ("node1", "node2"):
            kill(lab, node, "hoplite-agent")
        with Holder(lab, ALONE, web.address(), 5) as second:
            assert second.open == 3
            for node in ("node1", "node2"):
                start_agent(lab, node)
            with Holder(lab, ALONE, web.address(), 5) as third:
                assert third.open == 0


def test_a_smaller_number_cuts_nobody_and_a_larger_one_holds_at_once(
    lab: api.Lab, web: Service
) -> None:
    web.limit(concurrentConnections=6)
    with Holder(lab, ALONE, web.address(), 6) as first:
        assert first.open == 6
        web.limit(concurrentConnections=2)
        with Holder(lab, ALONE, web.address(), 2) as second:
            assert second.open == 0
        web.limit(concurrentConnections=9)
        with Holder(lab, ALONE, web.address(), 9) as third:
            assert third.open == 3


def test_a_limit_that_is_lifted_and_set_again_counts_right(lab: api.Lab, web: Service) -> None:
    web.limit(concurrentConnections=6)
    with Holder(lab, ALONE, web.address(), 4) as first:
        assert first.open == 4
        web.lift()
        with Holder(lab, ALONE, web.address(), 20) as free:
            assert free.open == 20
            web.limit(concurrentConnections=6)
            with Holder(lab, ALONE, web.address(), 20) as second:
                assert second.open == 2  # what was opened without a limit holds no place
    eventually(lambda: held(lab, "node2") == {})


@pytest.mark.parametrize("target", [NEAR, ALONE])
def test_a_storm_never_exceeds_the_number_and_leaves_nothing(
    lab: api.Lab, web: Service, target: str
) -> None:
    """Eight threads, opening, closing and resetting; the server's node counts as well."""
    web.limit(concurrentConnections=5)
    found = storm(lab, target, web.address(), threads=8, each=400, resets=0.5)
    assert found["counts"].keys() <= {"ok", "ECONNREFUSED", "TimeoutError"}
    assert found["counts"]["ok"] >= 50
    assert 1 < found["most"] <= 5
    eventually(lambda: held(lab, "node1") == held(lab, "node2") == {}, patience=20)
    with Holder(lab, target, web.address(), 8) as holder:
        assert holder.open == 5


def test_a_storm_within_the_number_is_never_refused(lab: api.Lab, web: Service) -> None:
    """As many threads as places, each place given back by a reset before it is wanted again."""
    web.limit(concurrentConnections=4)
    found = storm(lab, HOST, web.address(), threads=4, each=1000, resets=1)
    assert found == {"counts": {"ok": 4000}, "most": found["most"]}
    assert 1 < found["most"] <= 4


def storm(
    lab: api.Lab, target: str, address: str, *, threads: int, each: int, resets: float
) -> dict[str, Any]:
    command = [sys.executable, "-c", STORM, address, str(threads), str(each), str(resets)]
    done = lab.exec(target, command, timeout=100)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_connections_that_never_come_about_hold_no_place(lab: api.Lab, web: Service) -> None:
    web.limit(concurrentConnections=20)
    for target in (NEAR, ALONE):
        done = lab.exec(target, [sys.executable, "-c", CLUMSY, web.address(), "80", "81", "30"])
        assert done.stdout == "done\n", done.stderr
    eventually(lambda: held(lab, "node1") == held(lab, "node2") == {}, patience=20)
    with Holder(lab, ALONE, web.address(), 22) as holder:
        assert holder.open == 20


# Sockets bound to a backend's own port that dial its service: they reach themselves, so that
# both ends of the connection dial.
BY_ITSELF = """
import socket, struct, sys
for _ in range(12):
    with socket.socket() as end:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        end.bind((sys.argv[1], 7300))
        end.connect((sys.argv[2], 80))
        end.sendall(b"myself")
        assert end.recv(9) == b"myself"
print("done")
"""

TO_ITSELF = """
apiVersion: v1
kind: Service
metadata: {name: itself, namespace: shop}
spec: {selector: {app: host}, ports: [{name: tcp, port: 80, targetPort: 7300}]}
---
apiVersion: mesh.hoplite.io/v1alpha1
kind: TrafficPolicy
metadata: {name: itself, namespace: shop}
spec:
  targetRefs: [{kind: Service, name: itself}]
  connectionLimits: {perIdentity: {concurrentConnections: 4}}
  outlierDetection: {consecutiveConnectFailures: 0}
"""


def test_a_connection_that_both_ends_dial_gives_its_place_back(lab: api.Lab) -> None:
    apply(lab, TO_ITSELF)
    node, service = lab.node("node1").address4, virtual_addresses(lab, "shop", "itself")[0]
    done = lab.exec(HOST, [sys.executable, "-c", BY_ITSELF, node, service])
    assert done.stdout == "done\n", done.stdout + done.stderr
    eventually(lambda: held(lab, "node1") == {})
    delete(lab, "trafficpolicy", "shop", "itself")
    delete(lab, "service", "shop", "itself")


@pytest.mark.parametrize("way", TCP_WAYS)
def test_no_way_of_connecting_passes_a_limit(lab: api.Lab, web: Service, way: str) -> None:
    """One place, held by another process of the caller; and one that is given back can be had."""
    web.limit(concurrentConnections=1)
    own = lab.workload(ALONE).addresses
    program = f"import os; os.environ.update(OWN4={own[0]!r}, OWN6={own[1]!r})\n{PROGRAM}"
    for family in (0, 1):
        command = [sys.executable, "-c", program, way, web.address(family), "80"]
        with Holder(lab, ALONE, web.address(family), 1) as holder:
            assert holder.open == 1
            assert lab.exec(ALONE, command).stdout == "ECONNREFUSED\n"
            assert held(lab, "node2") == {(identity(lab, ALONE), "outbound"): 1}
        eventually(lambda: held(lab, "node1") == held(lab, "node2") == {}, patience=20)
        assert lab.exec(ALONE, command).stdout == "one\n"
        eventually(lambda: held(lab, "node1") == held(lab, "node2") == {}, patience=20)


# -- through the node proxy ------------------------------------------------------------------------

ROUTE = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: NAME, namespace: shop}
spec:
  parentRefs: [{kind: Service, group: "", name: NAME, port: 80}]
  rules: [{backendRefs: [{name: NAME, port: 80}]}]
"""

ONLY_CONNECT = """
import collections, errno, socket, sys
held, counts = [], collections.Counter()
for _ in range(int(sys.argv[2])):
    end = socket.socket()
    try:
        end.connect((sys.argv[1], 80))
        counts["ok"] += 1
    except OSError as error:
        counts[errno.errorcode[error.errno]] += 1
    held.append(end)
print(sorted(counts.items()))
"""


@pytest.mark.envoy
def test_a_redirected_service_is_limited_before_the_proxy(lab: api.Lab, web: Service) -> None:
    web.limit(concurrentConnections=5)
    apply(lab, ROUTE.replace("NAME", web.name))

    def redirected() -> bool:
        services = ask_agent(lab, "node2", "/maps/services")
        return any(s["value"]["action"] == layout.SERVICE_REDIRECT for s in services)

    eventually(redirected, patience=30)
    for _ in range(3):
        done = lab.exec(ALONE, [sys.executable, "-c", ONLY_CONNECT, web.address(), "8"])
        assert done.stdout == "[('ECONNREFUSED', 3), ('ok', 5)]\n", done.stderr
        eventually(lambda: held(lab, "node2") == {})
    delete(lab, "httproute", "shop", web.name)


# -- who has no agent ------------------------------------------------------------------------------


Outside = tuple[list[str], list[str]]


@pytest.fixture(scope="module")
def outside(lab: api.Lab) -> Outside:
    """Addresses outside the mesh from which pods can be reached, by family."""
    node, ip = lab.node("node1"), ["ip", "-n", lab.record.plan.fabric]
    found = ["172.30.0.201", "172.30.0.202"], ["fd00:30::201", "fd00:30::202"]
    for family, length in zip(found, (24, 64), strict=True):
        for address in family:
            more = ["nodad"] if length == 64 else []
            add = [*ip, "addr", "add", f"{address}/{length}", "dev", "br0", *more]
            subprocess.run(add, check=True)
    for pods, via in ((node.pods4, node.address4), (node.pods6, node.address6)):
        subprocess.run([*ip, "route", "add", pods, "via", via], check=True)
    return found


def own(lab: api.Lab, family: int = 0) -> str:
    return lab.workload("node1/shop/web1").addresses[family]


FAMILIES = pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])


@FAMILIES
def test_addresses_outside_are_callers_of_their_own(
    lab: api.Lab, web: Service, outside: Outside, family: int
) -> None:
    server, (one, other) = own(lab, family), outside[family]
    web.limit(concurrentConnections=6)
    with Holder(lab, "outside", server, 8, TCP, one) as first:
        assert (first.open, first.errors) == (6, {"TimeoutError": 2})
        with Holder(lab, "outside", server, 3, TCP, other) as second:
            assert second.open == 3
            assert _outside(lab) == [3, 6]
    denied = flows(lab, destination="shop/web1", verdict="DENY", last=1)[0]
    assert (denied.reason, denied.policy, denied.hook) == (
        "CONCURRENCY_LIMITED",
        web.policy,
        "ingress",
    )
    assert denied.source.address == one


def _outside(lab: api.Lab) -> list[int]:
    return sorted(n for who, where, n, _ in ways(lab, "node1") if n and who < 256)


def test_one_that_waits_gets_the_place_that_becomes_free(
    lab: api.Lab, web: Service, outside: Outside
) -> None:
    """A SYN that was dropped is sent again: a limit at the server makes its caller wait."""
    web.limit(concurrentConnections=2)
    with Holder(lab, "outside", own(lab), 2, TCP, outside[0][0]) as first:
        assert first.open == 2
        with Holder(lab, "outside", own(lab), 1, TCP, outside[0][0]) as second:
            assert second.open == 0
    code = (
        "import socket; "
        f"s = socket.create_connection(({own(lab)!r}, {TCP}), 10, ({outside[0][0]!r}, 0)); "
        "print(s.recv(9).decode())"
    )
    netns = ["ip", "netns", "exec", lab.record.plan.fabric]
    with Holder(lab, "outside", own(lab), 2, TCP, outside[0][0]) as first:
        assert first.open == 2
        waiting = subprocess.Popen(
            [*netns, sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
        )
        eventually(lambda: bool(flows(lab, destination="shop/web1", verdict="DENY", last=1)))
    assert waiting.communicate(timeout=30)[0] == "one\n"


@FAMILIES
def test_rates_outside_are_held_to_by_waiting(
    lab: api.Lab, web: Service, outside: Outside, family: int
) -> None:
    web.limit(connectionsPerSecond=3, burst=6)
    with Holder(lab, "outside", own(lab, family), 12, TCP, outside[family][1]) as holder:
        allowed = 6 + 3 * holder.said["seconds"]
        assert 6 <= holder.open <= allowed + 1
        assert holder.open < 12 or holder.said["seconds"] > 1.5


@FAMILIES
def test_many_at_once_from_outside_are_counted_before_they_are_established(
    lab: api.Lab, web: Service, outside: Outside, family: int
) -> None:
    web.limit(concurrentConnections=4)
    code = """
import errno, select, socket, sys, time
address, source = sys.argv[1], sys.argv[2]
ends = []
for _ in range(64):
    end = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    end.setblocking(False)
    end.bind((source, 0))
    end.connect_ex((address, 7000))
    ends.append(end)
time.sleep(0.5)
print(sum(1 for end in ends if select.select([end], [], [], 0)[0]))
"""
    netns = ["ip", "netns", "exec", lab.record.plan.fabric]
    done = subprocess.run(
        [*netns, sys.executable, "-c", code, own(lab, family), outside[family][0]],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) == 4


def test_handshakes_that_nobody_finishes_hold_their_places_for_a_while(
    lab: api.Lab, web: Service, outside: Outside
) -> None:
    """And only their own address's."""
    web.limit(concurrentConnections=5)
    code = """
import sys
from scapy.all import IP, TCP, conf, send
conf.verb = 0
address, source = sys.argv[1], sys.argv[2]
for port in range(20000, 20005):
    for _ in range(3):                               # with retransmissions
        send(IP(src=source, dst=address) / TCP(sport=port, dport=7000, seq=port, flags="S"))
"""
    netns = ["ip", "netns", "exec", lab.record.plan.fabric]
    subprocess.run(
        [*netns, sys.executable, "-c", code, own(lab), "172.30.0.203"],
        check=True,
        capture_output=True,
        timeout=60,
    )
    shakes = [n for who, _, _, n in ways(lab, "node1") if who < 256 and n]
    assert sum(shakes) == 5
    with Holder(lab, "outside", own(lab), 5, TCP, outside[0][0]) as holder:
        assert holder.open == 5

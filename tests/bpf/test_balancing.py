"""The kernel's choices with real connections: many backends, weights, affinity, ejection, limits.

In a bottle and not in a lab, so that it runs on every kernel.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from ipaddress import IPv6Address
from pathlib import Path

import pytest
from msgspec.structs import replace

from meshapi.codec import decode
from meshapi.resources import Resource, key_of
from meshapi.resources.meta import ObjectMeta
from meshapi.watch import Snapshot
from nodeagent import layout
from nodeagent.config import DEFAULT_SIZES
from nodeagent.datapath.attach import Datapath
from nodeagent.desired.compiler import Compiler
from nodeagent.desired.units import Facts
from nodeagent.state import Changes, build
from tests.bpf.bottle import Bottle, bottled
from tests.bpf.test_programs import cgroup2
from tests.unit.nodeagent.desired.balancing import SERVICE, policy, service, workload

pytestmark = pytest.mark.root

PORT, CLOSED = 8080, 9
SERVICE6 = "fd00:96::1"


@pytest.fixture(scope="module")
def datapath(pins: Path) -> Iterator[Datapath]:
    """With tables of the usual sizes: there are many backends here."""
    made = Datapath(pins, layout.map_specs(DEFAULT_SIZES))
    made.load()
    yield made
    made.remove()


@pytest.fixture(scope="module")
def bottle(datapath: Datapath) -> Iterator[Bottle]:
    with bottled(datapath, cgroup2(), PORT) as made:
        yield made


@pytest.fixture(autouse=True)
def _nothing_is_remembered(datapath: Datapath) -> None:
    for name in ("affinities", "outliers", "ejections"):
        table = datapath.open_map(name)
        for key in dict(table.items()):
            table.delete(key)


def client() -> Resource:
    return workload("client", "n1", "10.244.255.1", labels={"app": "client"})


def address(index: int, family: int = 4) -> str:
    four = f"10.244.{index // 200}.{index % 200 + 1}"
    return four if family == 4 else str(IPv6Address(f"fd00:244::{four.replace('.', ':')}"))


def backends(*weights: int) -> list[Resource]:
    return [workload(f"w{i}", "n2", address(i), weight=w) for i, w in enumerate(weights)]


def dead(index: int) -> Resource:
    """A backend whose port nobody listens on."""
    return decode(
        {
            "apiVersion": "mesh.hoplite.io/v1alpha1",
            "kind": "Workload",
            "metadata": {"name": f"w{index}", "namespace": "shop", "labels": {"app": "web"}},
            "spec": {
                "nodeName": "n2",
                "cgroup": "x",
                "addresses": [address(index)],
                "ports": [{"name": "http", "port": CLOSED}],
            },
            "status": {"identity": 300, "ready": True},
        }
    )


# -- weights ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "virtual"), [(4, SERVICE), (6, SERVICE6)])
def test_five_thousand_backends_get_their_shares(bottle: Bottle, family: int, virtual: str) -> None:
    """4,999 of weight 1 and one of 5,000: half of all connections, and the rest evenly."""
    weights = [1] * 4999 + [5000]
    bottle.hold(client(), service(), *backends(*weights))
    tries = 15_000
    found = bottle.dial(virtual, 80, tries)
    assert found["errors"] == {}
    reached = found["reached"]
    half = tries * 5000 / 9999
    assert abs(reached.pop(address(4999, family)) - half) < 6 * (half / 2) ** 0.5
    mean = tries / 9999
    others = [reached.get(address(i, family), 0) for i in range(4999)]
    assert sum(others) == sum(reached.values())
    chi = sum((n - mean) ** 2 / mean for n in others)
    assert abs(chi - len(others)) < 6 * (2 * len(others)) ** 0.5


def test_ninety_nine_to_one(bottle: Bottle) -> None:
    bottle.hold(client(), service(), *backends(99, 1))
    reached = bottle.dial(SERVICE, 80, 5000)["reached"]
    assert sum(reached.values()) == 5000
    assert 15 <= reached[address(1)] <= 93  # 50, but for one chance in ten million


def test_the_largest_weights(bottle: Bottle) -> None:
    draw = random.Random(3)  # noqa: S311 - a test's
    weights = [65_535, 0, 65_535, 1]
    draw.shuffle(weights)
    bottle.hold(client(), service(), *backends(*weights))
    reached = bottle.dial(SERVICE, 80, 2000)["reached"]
    heavy = [reached[address(i)] for i, w in enumerate(weights) if w == 65_535]
    assert min(heavy) > 860  # 1000 each
    assert address(weights.index(0)) not in reached


def test_ipv6_has_its_own_backends(bottle: Bottle) -> None:
    bottle.hold(client(), service(sessionAffinity="ClientIP"), *backends(1, 1, 1))
    four = bottle.dial(SERVICE, 80, 20)["reached"]
    six = bottle.dial(SERVICE6, 80, 20)["reached"]
    assert list(four.values()) == list(six.values()) == [20]
    assert all(":" in a for a in six) and not any(":" in a for a in four)


# -- affinity --------------------------------------------------------------------------------------


def test_affinity_lasts_so_long_after_the_last_connection(
    bottle: Bottle, datapath: Datapath
) -> None:
    brief = policy(loadBalancing={"affinity": {"type": "ClientIP", "timeoutSeconds": 10}})
    bottle.hold(client(), service(), brief, *backends(*[1] * 50))
    (first,) = bottle.dial(SERVICE, 80, 5)["reached"]
    for _ in range(3):
        age(datapath, 5)
        assert list(bottle.dial(SERVICE, 80, 2)["reached"]) == [first]
    others = set()
    for _ in range(3):
        age(datapath, 11)
        (now,) = bottle.dial(SERVICE, 80, 2)["reached"]
        others.add(now)
    assert others != {first}  # the same three times: 1 in 125,000


def age(datapath: Datapath, seconds: int) -> None:
    """Have so much time pass for affinities, all at once."""
    table = datapath.open_map("affinities")
    for key, value in dict(table.items()).items():
        used, backend = layout.AFFINITY.unpack(value)
        table.put(key, layout.AFFINITY.pack(used - seconds * 1_000_000_000, backend))


def test_affinity_follows_the_backends(bottle: Bottle) -> None:
    sticky = service(sessionAffinity="ClientIP")
    many = backends(*[1] * 20)
    bottle.hold(client(), sticky, *many)
    (first,) = bottle.dial(SERVICE, 80, 5)["reached"]
    index = [address(i) for i in range(20)].index(first)
    bottle.hold(client(), sticky, *many[:index], *many[index + 1 :])
    (second,) = bottle.dial(SERVICE, 80, 5)["reached"]
    assert second != first
    bottle.hold(client(), sticky, *many)
    assert list(bottle.dial(SERVICE, 80, 5)["reached"]) == [second]
    resting = [address(i) for i in range(20)].index(second)
    weights = [0 if i == resting else 1 for i in range(20)]
    bottle.hold(client(), sticky, *backends(*weights))
    (third,) = bottle.dial(SERVICE, 80, 5)["reached"]
    assert third != second


# -- ejection --------------------------------------------------------------------------------------


def test_a_dead_backend_costs_five_connections(bottle: Bottle) -> None:
    bottle.hold(client(), service(), *backends(1, 1, 1), dead(3))
    found = bottle.dial(SERVICE, 80, 400)
    assert found["errors"] == {"ECONNREFUSED": 5}
    assert min(found["reached"].values()) > 80


def test_a_heavy_one_that_is_out_is_not_found_by_luck(bottle: Bottle) -> None:
    """It has all but a ten-thousandth of the draws, and still nobody meets it any more."""
    heavy = dead(4)
    spec = {"weight": 65_535, "nodeName": "n2", "cgroup": "x", "addresses": [address(4)]}
    heavy = decode(
        {
            "apiVersion": "mesh.hoplite.io/v1alpha1",
            "kind": "Workload",
            "metadata": {"name": "w4", "namespace": "shop", "labels": {"app": "web"}},
            "spec": {**spec, "ports": [{"name": "http", "port": CLOSED}]},
            "status": {"identity": 300, "ready": True},
        }
    )
    bottle.hold(client(), service(), *backends(1, 1, 1, 1), heavy)
    found = bottle.dial(SERVICE, 80, 400)
    assert found["errors"] == {"ECONNREFUSED": 5}
    assert set(found["reached"]) == {address(i) for i in range(4)}


def test_half_of_many_dead_ones(bottle: Bottle) -> None:
    alive, gone = backends(*[1] * 10), [dead(i) for i in range(100, 110)]
    quick = policy(outlierDetection={"consecutiveConnectFailures": 1, "maxEjectionPercent": 50})
    bottle.hold(client(), service(), quick, *alive, *gone)
    assert bottle.dial(SERVICE, 80, 1000)["errors"] == {"ECONNREFUSED": 10}
    assert bottle.dial(SERVICE, 80, 1000)["errors"] == {}


def test_when_all_are_out_they_are_used_anyway(bottle: Bottle) -> None:
    every = policy(outlierDetection={"consecutiveConnectFailures": 1, "maxEjectionPercent": 100})
    bottle.hold(client(), service(), every, dead(200), dead(201), dead(202))
    assert bottle.dial(SERVICE, 80, 50)["errors"] == {"ECONNREFUSED": 50}


# -- limits ----------------------------------------------------------------------------------------


def limited(**limits: int) -> Resource:
    return policy(connectionLimits={"perIdentity": limits})


def test_open_connections(bottle: Bottle) -> None:
    bottle.hold(client(), service(), limited(concurrentConnections=300), *backends(1, 1))
    for _ in range(4):
        found = bottle.dial(SERVICE, 80, 310, hold=True)
        assert sum(found["reached"].values()) == 300
        assert sum(found["errors"].values()) == 10
        bottle.release()
        time.sleep(0.2)


def test_a_burst(bottle: Bottle) -> None:
    bottle.hold(client(), service(), limited(connectionsPerSecond=1, burst=50), *backends(1, 1))
    started = time.monotonic()
    found = bottle.dial(SERVICE, 80, 400)
    passed = time.monotonic() - started
    assert 50 <= sum(found["reached"].values()) <= 51 + passed


# -- memory ----------------------------------------------------------------------------------------


TABLES = (
    *("services", "slots", "backends", "limits", "guards", "affinities", "outliers"),
    *("ejections", "alerts", "allowances", "reserved"),
)


def test_ten_thousand_services_of_ten_backends_fit_into_64_mib(datapath: Datapath) -> None:
    """All tables that load balancing has, IPv4; elements of about 100 bytes each are the most."""
    compiler = Compiler("n1")
    resources: list[Resource] = []
    one, its = service(ports=[{"port": 80, "targetPort": 8080}]), workload("w", "n2", "10.64.0.1")
    for number in range(10_000):
        labels = {"app": f"a{number}"}
        virtual = (f"10.96.{number // 250}.{number % 250 + 1}",)
        spec = replace(one.spec, selector=labels, cluster_ips=virtual)
        resources.append(replace(one, metadata=_named(one, f"s{number}"), spec=spec))
        for at in range(number * 10, number * 10 + 10):
            place = f"10.{64 + at // 62_500}.{at // 250 % 250}.{at % 250 + 1}"
            meta = replace(_named(its, f"w{at}"), labels=labels)
            resources.append(
                replace(its, metadata=meta, spec=replace(its.spec, addresses=(place,)))
            )
    objects = {key_of(o): o for o in resources}
    compiler.update(build("n1", Snapshot(1, objects)), Changes({}, objects), Facts())
    used = 0
    for name in TABLES:
        table = datapath.open_map(name)
        for key in list(dict(table.items())) if name in compiler.tables else ():
            table.delete(key)
        table.put_many(list(compiler.tables.get(name, {}).items()))
        used += _memory(table.fd)
    assert len(compiler.tables["slots"]) == len(compiler.tables["backends"]) == 100_000
    for name in ("services", "slots", "backends"):
        for key in compiler.tables[name]:
            datapath.open_map(name).delete(key)
    if used < 20 << 20:
        pytest.skip("this kernel does not tell what the elements of a map take (Linux 6.4)")
    assert used <= 64 << 20, f"{used >> 20} MiB"


def _named(resource: Resource, name: str) -> ObjectMeta:
    return replace(resource.metadata, name=name)


def _memory(fd: int) -> int:
    """Bytes that a map takes, by the kernel's word."""
    lines = Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("memlock"))

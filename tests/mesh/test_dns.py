"""Names in workloads: what real clients resolve, over both families, in pods and on hosts."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dns.message
import dns.query
import dns.rcode
import pytest
from pyroute2 import IPRoute

from lab import api, netns
from lab.restart import kill, programs, start_agent
from meshapi.nodecontract import PROXY_ADDRESS4, PROXY_ADDRESS6
from tests.mesh.asking import (
    apply,
    ask_agent,
    ask_unix,
    delete,
    eventually,
    virtual_addresses,
)

pytestmark = pytest.mark.root

LAB = """
apiVersion: lab.hoplite.io/v1alpha1
kind: Lab
spec:
  dns: {upstreams: [10.244.2.11]}
  nodes:
  - name: node1
    workloads:
    - name: web
      namespace: shop
      serviceAccount: web
      labels: {app: web}
      ports: [{name: http, port: 8080}]
      command: [python3, -m, http.server, "8080", --bind, "::"]
    - {name: client, namespace: shop, labels: {app: client}}
    - {name: host, namespace: shop, network: host, labels: {app: host}}
    - {name: closed, namespace: shop, labels: {app: closed}}
    - {name: tester, namespace: dev}
  - name: node2
    workloads:
    - name: upstream
      namespace: infra
      ports: [{name: dns, port: 53, protocol: UDP}, {name: dns-tcp, port: 53}]
      command:
      - sh
      - -c
      - |
        i=0; while [ $((i += 1)) -le 150 ]; do echo "192.0.2.$i many.example"; done >hosts
        exec dnsmasq --keep-in-foreground --conf-file=/dev/null --pid-file="$HOME/pid" \\
          --user=root --no-resolv --no-hosts --addn-hosts="$HOME/hosts" --local=/example/ \\
          --log-queries --log-facility=- --address=/example.org/192.0.2.53 \\
          --address=/example.org/2001:db8::53
    - {name: far, namespace: shop}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: http}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: closed, namespace: shop}
spec:
  podSelector: {matchLabels: {app: closed}}
  policyTypes: [Egress]
  egress: [{to: [{podSelector: {matchLabels: {app: web}}}]}]
"""

ALONE = """
apiVersion: lab.hoplite.io/v1alpha1
kind: Lab
spec:
  nodes:
  - name: node1
    workloads: [{name: client, namespace: shop}]
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, ports: [{port: 80}]}
"""

CLIENT, HOST, FAR = "node1/shop/client", "node1/shop/host", "node2/shop/far"
TESTER, CLOSED, UPSTREAM = "node1/dev/tester", "node1/shop/closed", "node2/infra/upstream"

# What getaddrinfo() says of names, as JSON: their addresses, or the name of its error.
RESOLVE = """
import json, socket, sys
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = sorted({x[4][0] for x in socket.getaddrinfo(name, 80)})
    except socket.gaierror as error:
        found[name] = [n for n in dir(socket) if n.startswith("EAI_")
                       and getattr(socket, n) == error.errno][0]
print(json.dumps(found))
"""

# One query to a server, with a whole DNS client: how it was answered, and the records.
QUERY = """
import json, sys
import dns.message, dns.query, dns.rcode
server, name, kind, how = sys.argv[1:]
query = dns.message.make_query(name, kind)
reply = (dns.query.tcp if how == "tcp" else dns.query.udp)(query, server, 5)
print(json.dumps([dns.rcode.to_text(reply.rcode()), [
    record.to_text() for rrset in reply.answer for record in rrset]]))
"""


@pytest.fixture(scope="module")
def lab(make_lab: Callable[[str], api.Lab]) -> api.Lab:
    return make_lab(LAB)


@pytest.fixture
def alone(make_lab: Callable[[str], api.Lab]) -> api.Lab:
    """A lab of its own, with no upstreams, for a test that breaks it."""
    return make_lab(ALONE)


def python(lab: api.Lab, target: str, program: str, *words: str) -> Any:
    done = lab.exec(target, [sys.executable, "-c", program, *words])
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def resolve(lab: api.Lab, target: str, *names: str) -> dict[str, Any]:
    found: dict[str, Any] = python(lab, target, RESOLVE, *names)
    return found


def query(
    lab: api.Lab,
    name: str,
    kind: str,
    *,
    server: str = PROXY_ADDRESS4,
    how: str = "udp",
    target: str = CLIENT,
) -> Any:
    return python(lab, target, QUERY, server, name, kind, how)


def addresses(lab: api.Lab) -> list[str]:
    return sorted(virtual_addresses(lab, "shop", "web"))


# -- names of services -----------------------------------------------------------------------------


@pytest.mark.parametrize("target", [CLIENT, HOST, FAR])
def test_a_service_of_the_own_namespace_has_its_addresses_under_every_name(
    lab: api.Lab, target: str
) -> None:
    names = (
        "web",
        "WEB",
        "web.shop",
        "web.shop.svc",
        "web.shop.svc.hoplite.local",
        "web.shop.svc.hoplite.local.",
        "web.shop.svc.cluster.local",
        "web.shop.svc.cluster.local.",
    )
    assert resolve(lab, target, *names) == dict.fromkeys(names, addresses(lab))


@pytest.mark.parametrize("target", [TESTER, "node1", "node2"])
def test_elsewhere_a_service_is_named_with_its_namespace(lab: api.Lab, target: str) -> None:
    found = resolve(lab, target, "web", "web.shop", "web.shop.svc", "web.shop.svc.cluster.local")
    assert found.pop("web") == "EAI_NONAME"
    assert set(map(tuple, found.values())) == {tuple(addresses(lab))}


def test_what_does_not_exist_is_said_not_to(lab: api.Lab) -> None:
    names = ("nosuch", "nosuch.shop.svc", "nosuch.hoplite.local", "web.shop.cluster.local")
    assert resolve(lab, CLIENT, *names) == dict.fromkeys(names, "EAI_NONAME")


@pytest.mark.parametrize("target", [CLIENT, HOST, FAR])
@pytest.mark.parametrize("family", ["-4", "-6"])
def test_a_service_is_reached_by_its_name(lab: api.Lab, target: str, family: str) -> None:
    command = ["curl", family, "-sS", "-o", "/dev/null", "-w", "%{http_code}", "http://web/"]
    assert lab.exec(target, command).stdout == "200"


@pytest.mark.parametrize("server", [PROXY_ADDRESS4, PROXY_ADDRESS6])
@pytest.mark.parametrize("how", ["udp", "tcp"])
def test_srv_and_ptr(lab: api.Lab, server: str, how: str) -> None:
    web = "web.shop.svc.hoplite.local"
    for name in (f"_http._tcp.{web}", web):
        found = query(lab, name, "SRV", server=server, how=how)
        assert found == ["NOERROR", [f"0 100 80 {web}."]]
    for address in addresses(lab):
        assert lab.exec(CLIENT, ["getent", "hosts", address]).stdout.split() == [address, web]
    assert query(lab, "hoplite.local", "AXFR", server=server, how="udp")[0] == "REFUSED"


def test_a_service_is_named_when_it_is_in_force_and_no_longer_when_it_is_gone(lab: api.Lab) -> None:
    text = """
apiVersion: v1
kind: Service
metadata: {name: later, namespace: shop}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: http}]}
"""
    assert resolve(lab, CLIENT, "later") == {"later": "EAI_NONAME"}
    apply(lab, text)
    found = resolve(lab, CLIENT, "later")["later"]
    assert found == sorted(virtual_addresses(lab, "shop", "later"))
    delete(lab, "service", "shop", "later")
    eventually(lambda: resolve(lab, CLIENT, "later") == {"later": "EAI_NONAME"})


def test_a_headless_service_is_its_backends(lab: api.Lab) -> None:
    text = """
apiVersion: v1
kind: Service
metadata: {name: each, namespace: shop}
spec: {clusterIP: None, selector: {app: web}, ports: [{name: http, port: 80, targetPort: http}]}
"""
    apply(lab, text)
    own = sorted(lab.workload("node1/shop/web").addresses)
    assert resolve(lab, CLIENT, "each", "web.each") == {"each": own, "web.each": own}
    found = query(lab, "_http._tcp.each.shop.svc.hoplite.local", "SRV")
    assert found == ["NOERROR", ["0 100 8080 web.each.shop.svc.hoplite.local."]]


def test_names_are_answered_whatever_the_egress_policy(lab: api.Lab) -> None:
    assert resolve(lab, CLOSED, "web") == {"web": addresses(lab)}


# -- names of others -------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [CLIENT, HOST, FAR, "node1"])
def test_other_names_are_asked_of_the_upstream(lab: api.Lab, target: str) -> None:
    assert resolve(lab, target, "example.org") == {"example.org": ["192.0.2.53", "2001:db8::53"]}
    assert resolve(lab, target, "nosuch.example") == {"nosuch.example": "EAI_NONAME"}


@pytest.mark.parametrize("target", [CLIENT, HOST])
def test_what_is_too_long_for_a_datagram_is_asked_over_tcp(lab: api.Lab, target: str) -> None:
    found = resolve(lab, target, "many.example")["many.example"]
    assert len(found) == 150
    assert len(query(lab, "many.example", "A", how="tcp", target=target)[1]) == 150


def test_names_of_the_mesh_are_told_to_nobody(lab: api.Lab) -> None:
    resolve(lab, CLIENT, "web", "nosuch", "nosuch.shop.svc", "web.shop.cluster.local", "b.example")
    for address in addresses(lab):
        lab.exec(CLIENT, ["getent", "hosts", address])
    log = lab.log(UPSTREAM)
    assert "b.example from 172.30.0.11" in log
    for name in ("hoplite.local", "cluster.local", "svc", "web", "nosuch from", "arpa"):
        assert name not in log


def test_the_nodes_own_addresses_answer_nobody(lab: api.Lab) -> None:
    for own in (lab.node("node1").address4, lab.node("node1").address6):
        done = lab.exec(FAR, [sys.executable, "-c", QUERY, own, "web.shop", "A", "tcp"])
        assert "ConnectionRefusedError" in done.stderr


def test_a_stranger_on_the_wire_has_no_names_looked_up(lab: api.Lab) -> None:
    """Who makes a route to a node's link-local address reaches it, and cannot use it."""

    def ask() -> list[str]:
        way = {"dst": f"{PROXY_ADDRESS4}/32", "gateway": lab.node("node1").address4}
        with IPRoute() as ip:
            ip.route("add", **way)
            try:
                found = [
                    dns.query.udp(dns.message.make_query(name, "A"), PROXY_ADDRESS4, 5)
                    for name in ("example.org", "nosuch.example")
                ]
            finally:
                ip.route("del", **way)
        return [dns.rcode.to_text(reply.rcode()) for reply in found]

    assert netns.within(lab.record.plan.fabric, ask) == ["REFUSED", "REFUSED"]


# -- what operators and workloads see --------------------------------------------------------------


def test_workloads_have_a_resolv_conf_of_their_own_and_the_machine_keeps_its(lab: api.Lab) -> None:
    def text(namespace: str) -> str:
        search = f"{namespace}svc.hoplite.local hoplite.local"
        return (
            f"nameserver {PROXY_ADDRESS4}\nnameserver {PROXY_ADDRESS6}\n"
            f"search {search}\noptions ndots:5\n"
        )

    for target, namespace in (
        (CLIENT, "shop.svc.hoplite.local "),
        (HOST, "shop.svc.hoplite.local "),
        (TESTER, "dev.svc.hoplite.local "),
        ("node1", ""),
    ):
        assert lab.exec(target, ["cat", "/etc/resolv.conf"]).stdout == text(namespace)
    upstream = lab.workload(UPSTREAM)
    (pid,) = programs(lab, upstream.node, upstream.cgroup)
    seen = Path(f"/proc/{pid}/root/etc/resolv.conf").read_text()
    assert seen == text("infra.svc.hoplite.local ")
    agent = lab.cgroup("node1", "hoplite-agent", "cgroup.procs").read_text().split()[0]
    machines = Path("/etc/resolv.conf").read_text()
    assert PROXY_ADDRESS4 not in machines
    assert Path(f"/proc/{agent}/root/etc/resolv.conf").read_text() == machines


def test_the_admin_api_and_the_metrics_tell(lab: api.Lab) -> None:
    before = ask_agent(lab, "node1", "/dns")
    query(lab, "web.shop", "A")
    query(lab, "example.org", "A")
    query(lab, "web.shop", "ANY")
    after = ask_agent(lab, "node1", "/dns")
    counted = {k: after["queries"][k] - before["queries"][k] for k in after["queries"]}
    assert counted == {"zone": 1, "forwarded": 1, "refused": 1, "failed": 0}
    assert after["domain"] == "hoplite.local"
    assert after["listen"] == [f"{PROXY_ADDRESS4}:53", f"[{PROXY_ADDRESS6}]:53"]
    assert after["upstreams"] == ["10.244.2.11:53"]
    text = ask_unix(lab.agent_socket("node1"), "/metrics")
    assert f'hoplite_dns_queries_total{{answer="zone"}} {after["queries"]["zone"]}.0' in text
    assert "hoplite_dns_forward_seconds_count" in text


# -- when others are away --------------------------------------------------------------------------


def test_names_outlive_the_controller_and_the_agents_restart(alone: api.Lab) -> None:
    expected = {"web": addresses(alone)}
    kill(alone, "controller")
    assert resolve(alone, CLIENT, "web") == expected
    kill(alone, "node1", "hoplite-agent")
    assert resolve(alone, CLIENT, "web") == {"web": "EAI_AGAIN"}
    start_agent(alone, "node1")
    assert resolve(alone, CLIENT, "web", "nosuch") == {**expected, "nosuch": "EAI_NONAME"}


def test_without_upstreams_other_names_fail(alone: api.Lab) -> None:
    assert resolve(alone, CLIENT, "example.org") == {"example.org": "EAI_AGAIN"}
    assert query(alone, "example.org", "A")[0] == "SERVFAIL"
    curl = alone.exec(CLIENT, ["curl", "-sS", "http://example.org/"])
    assert "Could not resolve host: example.org" in curl.stderr


def test_a_stopped_upstream_does_not_keep_names_of_the_mesh(lab: api.Lab) -> None:
    """The last test of this lab: it ends the upstream."""
    upstream = lab.workload(UPSTREAM)
    kill(lab, upstream.node, upstream.cgroup)
    assert query(lab, "example.org", "A")[0] == "SERVFAIL"
    assert resolve(lab, CLIENT, "web") == {"web": addresses(lab)}

"""Egress rules by domain name: learnt from DNS answers, in force before the answer arrives."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator

import pytest
from pyroute2 import IPRoute

from lab import api, netns
from lab.restart import kill, start_agent
from tests.mesh.asking import apply, ask_agent, delete, eventually, flows

pytestmark = pytest.mark.root

# Outside the mesh, and reachable: addresses that only a program on node2 knows to be there.
OUTSIDE4, OUTSIDE6, PORT = "203.0.113.5", "2001:db8:5::5", 7443

LAB = f"""
apiVersion: lab.hoplite.io/v1alpha1
kind: Lab
spec:
  dns: {{upstreams: [10.244.1.11]}}
  nodes:
  - name: node1
    workloads:
    - name: upstream
      namespace: infra
      ports: [{{name: dns, port: 53, protocol: UDP}}]
      command:
      - sh
      - -c
      - |
        exec dnsmasq --keep-in-foreground --conf-file=/dev/null --pid-file="$HOME/pid" \\
          --user=root --no-resolv --no-hosts --local=/test/ \\
          --host-record=api.example.test,{OUTSIDE4},{OUTSIDE6},1 \\
          --host-record=deep.sub.example.test,{OUTSIDE4},{OUTSIDE6},1 \\
          --host-record=example.test,{OUTSIDE4},{OUTSIDE6},1 \\
          --host-record=other.test,{OUTSIDE4},{OUTSIDE6},1 \\
          --cname=alias.example.test,deep.sub.example.test
    - {{name: client, namespace: shop, labels: {{app: client}}}}
    - {{name: free, namespace: shop, labels: {{app: free}}}}
  - {{name: node2}}
"""

POLICY = """
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {{name: by-name}}
spec:
  tier: Admin
  priority: 10
  subject: {{pods: {{podSelector: {{matchLabels: {{app: client}}}}}}}}
  egress:
  - action: Accept
    to: [{{domainNames: [{names}]}}]
    protocols: [{{tcp: {{destinationPort: {{number: {port}}}}}}}]
  - {{action: Deny, to: [{{networks: [0.0.0.0/0, "::/0"]}}]}}
"""

CLIENT, FREE = "node1/shop/client", "node1/shop/free"

# For each name: resolve it and connect to the first address of the family at once.
GO = """
import errno, json, socket, sys
family = socket.AF_INET6 if sys.argv[1] == "6" else socket.AF_INET
said = {}
for name in sys.argv[3:]:
    try:
        address = socket.getaddrinfo(name, int(sys.argv[2]), family, socket.SOCK_STREAM)[0][4]
        with socket.create_connection(address[:2], timeout=3):
            said[name] = "connected"
    except socket.gaierror as error:
        said[name] = "no such name"
    except OSError as error:
        said[name] = errno.errorcode.get(error.errno or 0, type(error).__name__)
print(json.dumps(said))
"""


SERVE = f"""
import socket, threading
def serve(listener):
    while True:
        listener.accept()[0].close()
for family, address in ((socket.AF_INET, {OUTSIDE4!r}), (socket.AF_INET6, {OUTSIDE6!r})):
    listener = socket.create_server((address, {PORT}), family=family)
    threading.Thread(target=serve, args=(listener,)).start()
print("up", flush=True)
"""


@pytest.fixture(scope="module")
def lab(make_lab: Callable[[str], api.Lab]) -> Iterator[api.Lab]:
    lab = make_lab(LAB)
    node1, node2 = lab.node("node1"), lab.node("node2")

    def settle() -> None:
        with IPRoute() as ip:
            for address, length in ((OUTSIDE4, 32), (OUTSIDE6, 128)):
                ip.addr("add", index=1, address=address, prefixlen=length)

    def lead() -> None:
        with IPRoute() as ip:
            ip.route("add", dst=f"{OUTSIDE4}/32", gateway=node2.address4)
            ip.route("add", dst=f"{OUTSIDE6}/128", gateway=node2.address6)

    netns.within(node2.netns, settle)
    netns.within(node1.netns, lead)
    server = lab.popen("node2", [sys.executable, "-c", SERVE])
    assert server.stdout is not None
    assert server.stdout.readline() == "up\n"
    yield lab
    server.kill()
    server.wait()


@pytest.fixture
def by_name(lab: api.Lab) -> Iterator[Callable[..., None]]:
    """Lets the client reach these names only; gone after the test, and nothing is learnt."""

    def allow(*names: str) -> None:
        quoted = ", ".join(f'"{name}"' for name in names)
        apply(lab, POLICY.format(names=quoted, port=PORT))

    yield allow
    delete(lab, "clusternetworkpolicy", "", "by-name")
    eventually(lambda: not ask_agent(lab, "node1", "/maps/domains"))


def go(lab: api.Lab, target: str, *names: str, family: int = 4, port: int = PORT) -> dict[str, str]:
    done = lab.exec(target, [sys.executable, "-c", GO, str(family), str(port), *names])
    assert done.returncode == 0, done.stderr
    said: dict[str, str] = json.loads(done.stdout)
    return said


@pytest.mark.parametrize("family", [4, 6])
def test_a_name_is_reached_at_the_first_try_and_others_are_not(
    lab: api.Lab, by_name: Callable[..., None], family: int
) -> None:
    by_name("api.example.test")
    said = go(lab, CLIENT, "other.test", "api.example.test", family=family)
    assert said == {"other.test": "EPERM", "api.example.test": "connected"}
    address = OUTSIDE6 if family == 6 else OUTSIDE4
    assert go(lab, CLIENT, address, family=family) == {address: "connected"}, "learnt by now"
    assert go(lab, CLIENT, address, family=family, port=9) == {address: "EPERM"}, "another port"
    found = flows(lab, source="shop/client", verdict="DENY", last=1)[0]
    assert (found.reason, found.policy) == ("ADMIN_DENIED", "by-name")


def test_who_is_not_selected_goes_where_he_likes(
    lab: api.Lab, by_name: Callable[..., None]
) -> None:
    by_name("api.example.test")
    assert go(lab, FREE, "other.test") == {"other.test": "connected"}


def test_a_wildcard_means_every_name_below_and_not_the_name_itself(
    lab: api.Lab, by_name: Callable[..., None]
) -> None:
    by_name("*.Example.test")
    assert go(lab, CLIENT, "example.test") == {"example.test": "EPERM"}
    assert go(lab, CLIENT, "DEEP.sub.EXAMPLE.test") == {"DEEP.sub.EXAMPLE.test": "connected"}


def test_an_alias_leads_to_the_addresses_of_the_name_that_was_asked_for(
    lab: api.Lab, by_name: Callable[..., None]
) -> None:
    by_name("alias.example.test")
    assert go(lab, CLIENT, "deep.sub.example.test") == {"deep.sub.example.test": "EPERM"}
    assert go(lab, CLIENT, "alias.example.test") == {"alias.example.test": "connected"}


def test_it_is_learnt_while_the_agent_is_down(lab: api.Lab, by_name: Callable[..., None]) -> None:
    by_name("api.example.test")
    resolver = "10.244.1.11"  # the agent's own DNS is down with it
    kill(lab, "node1")
    try:
        asking = (
            "import dns.message, dns.query;"
            f"dns.query.udp(dns.message.make_query('api.example.test', 'A'), {resolver!r}, 3)"
        )
        done = lab.exec(FREE, [sys.executable, "-c", asking])
        assert done.returncode == 0, done.stderr
        assert go(lab, CLIENT, OUTSIDE4) == {OUTSIDE4: "connected"}
    finally:
        start_agent(lab, "node1")


def test_answers_of_strangers_are_not_believed(lab: api.Lab, by_name: Callable[..., None]) -> None:
    """A workload that plays the resolver opens nothing."""
    by_name("api.example.test")
    own = lab.workload(FREE).addresses[0]
    serve = f"""
import dns.flags, dns.message, dns.rrset, socket
listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
listener.bind(({own!r}, 53))
print("up", flush=True)
data, peer = listener.recvfrom(512)
reply = dns.message.make_response(dns.message.from_wire(data))
reply.answer.append(dns.rrset.from_text("api.example.test.", 60, "IN", "A", "192.0.2.66"))
listener.sendto(reply.to_wire(), peer)
"""
    server = lab.popen(FREE, [sys.executable, "-c", serve])
    assert server.stdout is not None
    assert server.stdout.readline() == "up\n"
    asking = (
        "import dns.message, dns.query;"
        f"dns.query.udp(dns.message.make_query('api.example.test', 'A'), {own!r}, 3)"
    )
    assert lab.exec("node1/shop/free", [sys.executable, "-c", asking]).returncode == 0
    server.wait()
    learnt = ask_agent(lab, "node1", "/maps/learnt")
    assert "192.0.2.66" not in {entry["key"]["address"] for entry in learnt}

"""Layer 7 on every kernel: pods and host processes are redirected to Envoy and known there."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Callable

import pytest

from lab import api
from tests.mesh.asking import ask_agent, ask_unix, eventually, flows, virtual_addresses

pytestmark = [pytest.mark.root, pytest.mark.envoy]

PORT = 8000
REDIRECT = 1  # SERVICE_REDIRECT of bpf/types.h
# A web server that says its name and which address it was asked by, over both families.
WEB = """
import http.server, os, socket

class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6

class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        text = os.environ["WHO"].encode()
        self.send_response(200)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

Server(("::", 8000), Answer).serve_forever()
"""
INDENTED = textwrap.indent(WEB.strip(), " " * 8)

LAB = f"""
apiVersion: lab.hoplite.io/v1alpha1
kind: Lab
spec:
  nodes:
  - name: node1
    workloads:
    - &web
      name: web
      namespace: shop
      serviceAccount: web
      labels: {{app: web, version: v1}}
      ports: [{{name: http, port: {PORT}}}]
      env: {{WHO: v1}}
      command:
      - python3
      - -c
      - |
{INDENTED}
    - <<: *web
      name: canary
      labels: {{app: web, version: v2}}
      env: {{WHO: v2}}
    - {{name: pod, namespace: shop, serviceAccount: pod, labels: {{app: client}}}}
    - {{name: host, namespace: shop, serviceAccount: host, network: host,
        labels: {{app: client}}}}
    - {{name: outsider, namespace: dev, serviceAccount: outsider, network: host,
        labels: {{app: outsider}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: web, namespace: shop}}
spec:
  selector: {{app: web}}
  ports: [{{name: http, port: 80, targetPort: http, appProtocol: http}}]
---
apiVersion: v1
kind: Service
metadata: {{name: canary, namespace: shop}}
spec:
  selector: {{app: web, version: v2}}
  ports: [{{name: http, port: 80, targetPort: http, appProtocol: http}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: web, namespace: shop}}
spec:
  parentRefs: [{{kind: Service, name: web}}]
  rules: [{{backendRefs: [{{name: canary, port: 80}}]}}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: web, namespace: shop}}
spec:
  podSelector: {{matchLabels: {{app: web}}}}
  ingress: [{{from: [{{podSelector: {{matchLabels: {{app: client}}}}}}]}}]
"""

# Asks every address for / on a connection of its own; prints status and body, or the errno.
GET = """
import errno, http.client, json, sys
found = []
for address in sys.argv[1:]:
    connection = http.client.HTTPConnection(address, 80, timeout=20)
    try:
        connection.request("GET", "/")
        response = connection.getresponse()
        found.append([response.status, response.read().decode()])
    except OSError as error:
        found.append(errno.errorcode.get(error.errno or 0, type(error).__name__))
print(json.dumps(found))
"""


# Connects to itself on loopback again and again, always from port SOURCE, until told to stop.
NOISE = """
import socket, struct, sys, threading
source, reset = int(sys.argv[1]), struct.pack("ii", 1, 0)
listener = socket.create_server(("127.0.0.1", 9999), backlog=1024)
def accept():
    while True:
        listener.accept()[0].close()
threading.Thread(target=accept, daemon=True).start()
print("begun", flush=True)
while True:
    with socket.socket() as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        peer.bind(("127.0.0.1", source))
        try:
            peer.connect(("127.0.0.1", 9999))
        except OSError:
            pass
"""

# Asks for / COUNT times, always from port SOURCE; prints how often that was answered with 200.
GET_FROM = """
import socket, struct, sys
address, source, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
answered = 0
for _ in range(count):
    with socket.socket() as peer:
        peer.settimeout(20)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.bind(("0.0.0.0", source))
        try:
            peer.connect((address, 80))
            peer.sendall(b"GET / HTTP/1.1\\r\\nhost: web\\r\\n\\r\\n")
            answered += peer.recv(4096).startswith(b"HTTP/1.1 200")
        except OSError:
            pass
print(answered)
"""


@pytest.fixture(scope="module")
def lab(make_lab: Callable[[str], api.Lab]) -> api.Lab:
    lab = make_lab(LAB)

    def redirected() -> bool:
        entries = ask_agent(lab, "node1", "/maps/services")
        return any(entry["value"]["action"] == REDIRECT for entry in entries)

    eventually(redirected, patience=30)
    return lab


def get(lab: api.Lab, target: str, addresses: list[str]) -> list[object]:
    done = lab.exec(target, [sys.executable, "-c", GET, *addresses], timeout=300)
    assert done.returncode == 0, done.stderr
    found: list[object] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("client", ["pod", "host"])
def test_a_request_takes_its_route_and_its_caller_is_known(lab: api.Lab, client: str) -> None:
    addresses = list(virtual_addresses(lab, "shop", "web"))
    assert get(lab, f"node1/shop/{client}", addresses * 3) == [[200, "v2"]] * 6

    def recorded() -> bool:
        found = flows(lab, source=f"shop/{client}", direction="outbound")
        return sum(f.path == "proxy" for f in found) >= 6

    eventually(recorded, patience=20)
    assert nothing_lost(lab)


def test_whom_the_policy_does_not_name_does_not_get_to_envoy(lab: api.Lab) -> None:
    addresses = list(virtual_addresses(lab, "shop", "web"))
    assert get(lab, "node1/dev/outsider", addresses) == ["EPERM", "EPERM"]


@pytest.mark.parametrize("other", ["node1/shop/pod", "node1/dev/outsider"])
def test_who_uses_the_same_port_takes_no_origin_away(lab: api.Lab, other: str) -> None:
    """127.0.0.1 and the same port at the same time, in another network namespace or in this one."""
    address, source = virtual_addresses(lab, "shop", "web")[0], "40123"
    noise = lab.popen(other, [sys.executable, "-c", NOISE, source])
    try:
        assert noise.stdout is not None
        assert noise.stdout.readline() == "begun\n"
        words = [sys.executable, "-c", GET_FROM, address, source, "60"]
        done = lab.exec("node1/shop/host", words, timeout=300)
    finally:
        noise.kill()
        noise.wait()
    assert (done.stdout, done.stderr) == ("60\n", "")
    assert nothing_lost(lab)


def nothing_lost(lab: api.Lab) -> bool:
    """Whether every redirected connection so far was known to the proxy's side."""
    metrics = ask_unix(lab.agent_socket("node1"), "/metrics")
    return 'hoplite_agent_lost_total{kind="origin"} 0.0' in metrics

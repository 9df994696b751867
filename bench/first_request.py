"""From applying a node's first HTTPRoute to its first proxied request, Envoy's start included.

The route sends everything to another backend than the plain service does, so the first answer from
that one has come through the node proxy. A fresh lab for every sample: Envoy never ran before.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time

from bench.labs import NGINX, script, virtual_address
from bench.table import Row
from lab import api
from meshapi.codec import decode
from meshapi.errors import HopliteError

NAME = "bench-first"
SAMPLES = 7

LAB = f"""
apiVersion: lab.hoplite.io/v1alpha1
kind: Lab
spec:
  nodes:
  - name: node1
    workloads:
    - {{name: client, namespace: bench, labels: {{app: client}}}}
    - &server
      name: plain
      namespace: bench
      labels: {{app: plain}}
      ports: [{{name: http, port: 80}}]
      env: {{PORT: "80", ANSWER: plain}}
      command:
      - sh
      - -c
      - |
{script(NGINX, 8)}
    - {{<<: *server, name: routed, labels: {{app: routed}}, env: {{PORT: "80", ANSWER: routed}}}}
"""

MESH = """
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: bench}
spec: {selector: {app: plain}, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: routed, namespace: bench}
spec: {selector: {app: routed}, ports: [{name: http, port: 80}]}
"""

ROUTE = {
    "apiVersion": "gateway.networking.k8s.io/v1",
    "kind": "HTTPRoute",
    "metadata": {"name": "first", "namespace": "bench"},
    "spec": {
        "parentRefs": [{"kind": "Service", "name": "web"}],
        "rules": [{"backendRefs": [{"name": "routed", "port": 80}]}],
    },
}

# Asks without pause and says when (CLOCK_MONOTONIC) the first answer came through the route, and
# whether anything but an answer was seen on the way.
CLIENT = """
import http.client, sys, time
failed = 0
print("asking", flush=True)
while True:
    try:
        connection = http.client.HTTPConnection(sys.argv[1], timeout=5)
        connection.request("GET", "/")
        if connection.getresponse().read() == b"routed":
            break
        connection.close()
    except OSError:
        failed += 1
print(time.monotonic(), failed)
"""


def run() -> tuple[str, list[Row]]:
    """One lab per sample."""
    samples, failed = [], 0
    for _ in range(SAMPLES):
        lab = api.start(LAB + MESH, name=NAME, source="bench")
        try:
            address = virtual_address(lab, "bench", "web")
            seconds, refused = asyncio.run(_sample(lab, address))
        finally:
            api.stop(NAME)
        samples.append(seconds * 1000)
        failed += refused
    middle = statistics.median(samples)
    detail = f"{min(samples):.0f} to {max(samples):.0f} ms, {SAMPLES} labs"
    return "First layer-7 policy", [
        Row(
            "applied to first proxied request, p50",
            f"{middle:.0f} ms",
            "≤ 300 ms",
            middle <= 300,
            detail,
        ),
        Row("requests that failed meanwhile", str(failed), "0", failed == 0),
    ]


async def _sample(lab: api.Lab, address: str) -> tuple[float, int]:
    client = lab.popen("node1/bench/client", [sys.executable, "-c", CLIENT, address])
    try:
        if client.stdout is None or client.stdout.readline().strip() != "asking":
            raise HopliteError("the client does not start")
        await asyncio.sleep(0.2)
        async with lab.endpoint.client() as api_client:
            started = time.monotonic()
            await api_client.apply([decode(ROUTE)])
        out, _ = await asyncio.to_thread(client.communicate, timeout=20)
    finally:
        client.kill()
        client.wait()
    moment, failed = out.split()
    return float(moment) - started, int(failed)

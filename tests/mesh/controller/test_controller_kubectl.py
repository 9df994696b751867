"""Stock kubectl against a real controller, with no Kubernetes behind it."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess

import pytest

KUBECTL = shutil.which("kubectl")
pytestmark = pytest.mark.skipif(KUBECTL is None, reason="kubectl is not installed")

MESH = """\
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  selector: {app: web}
  ports: [{port: 80, name: http}, {port: 81, name: admin}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: shop}
spec:
  parentRefs: [{kind: Service, name: web}]
  rules: [{backendRefs: [{name: web, port: 80, weight: 90}]}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: guard, namespace: shop}
spec: {podSelector: {matchLabels: {app: web}}}
"""


@pytest.fixture
def kubectl(controller, tmp_path):
    def run(*arguments, stdin=""):
        return subprocess.run(
            [
                KUBECTL,
                f"--cache-dir={tmp_path}/cache",
                "--kubeconfig=/dev/null",
                f"--server={controller.url}",
                f"--certificate-authority={controller.state}/ca/ca.pem",
                f"--token={controller.token}",
                *arguments,
            ],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        )

    return run


def test_apply_changes_only_what_changed(kubectl):
    first = kubectl("apply", "--validate=false", "-f", "-", stdin=MESH)
    assert first.returncode == 0, first.stderr
    assert first.stdout.splitlines() == [
        "namespace/shop created",
        "service/web created",
        "httproute.gateway.networking.k8s.io/web created",
        "networkpolicy.networking.k8s.io/guard created",
    ]
    assert "Warning: Service shop/web: no workload matches its selector" in first.stderr
    changed = MESH.replace("{port: 81, name: admin}", "{port: 82, name: admin}").replace("90", "70")
    second = kubectl("apply", "--validate=false", "-f", "-", stdin=changed)
    assert [line.split()[1] for line in second.stdout.splitlines()] == [
        "unchanged",
        "configured",
        "configured",
        "unchanged",
    ]
    web = json.loads(kubectl("get", "svc", "web", "-n", "shop", "-o", "json").stdout)
    assert [p["port"] for p in web["spec"]["ports"]] == [80, 82]
    assert web["spec"]["clusterIP"].startswith("10.96.")


def test_the_other_verbs(kubectl, controller):
    asyncio.run(controller.node("n1"))
    kubectl("apply", "--validate=false", "-f", "-", stdin=MESH)
    assert "httproutes" in kubectl("api-resources").stdout
    assert "n1" in kubectl("get", "meshnodes").stdout
    assert kubectl("label", "svc", "web", "-n", "shop", "a=b").returncode == 0
    assert kubectl("get", "svc", "-A", "-l", "a=b", "-o", "name").stdout == "service/web\n"
    patch = '{"spec":{"selector":{"app":"other"}}}'
    assert kubectl("patch", "svc", "web", "-n", "shop", "--type=merge", "-p", patch).returncode == 0
    described = kubectl("describe", "httproute", "web", "-n", "shop").stdout
    assert "Reason:               Accepted" in described
    refused = kubectl("delete", "ns", "shop")
    assert refused.returncode == 1
    assert "Namespace shop is not empty" in refused.stderr
    cleared = kubectl("delete", "svc,httproute,netpol", "-n", "shop", "--all")
    assert cleared.returncode == 0, cleared.stderr
    assert kubectl("delete", "ns", "shop").returncode == 0


POLICIES = """\
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: guard}
spec:
  tier: Baseline
  priority: 1
  subject: {namespaces: {}}
  egress: [{action: Deny, to: [{networks: [203.0.113.0/24]}]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: guard, namespace: shop}
spec: {action: DENY, rules: [{from: [{source: {namespaces: [dev]}}]}]}
---
apiVersion: mesh.hoplite.io/v1alpha1
kind: TrafficPolicy
metadata: {name: web, namespace: shop}
spec: {targetRefs: [{kind: Service, name: web}], outlierDetection: {}}
---
apiVersion: mesh.hoplite.io/v1alpha1
kind: Quarantine
metadata: {name: web-1, namespace: shop}
spec: {workload: web-1}
---
apiVersion: mesh.hoplite.io/v1alpha1
kind: BlockList
metadata: {name: bad}
spec: {cidrs: [203.0.113.0/24]}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {clusterIP: None, selector: {app: db}, ports: [{port: 5432}]}
"""


def test_the_policy_kinds_by_their_short_names(kubectl):
    kubectl("apply", "--validate=false", "-f", "-", stdin=MESH)
    applied = kubectl("apply", "--validate=false", "-f", "-", stdin=POLICIES)
    assert applied.returncode == 0, applied.stderr
    assert "Workload shop/web-1 does not exist" in applied.stderr
    for short, name in (
        ("cnp", "clusternetworkpolicy.policy.networking.k8s.io/guard"),
        ("ap", "authorizationpolicy.security.istio.io/guard"),
        ("tp", "trafficpolicy.mesh.hoplite.io/web"),
        ("qt", "quarantine.mesh.hoplite.io/web-1"),
        ("bl", "blocklist.mesh.hoplite.io/bad"),
    ):
        assert kubectl("get", short, "-A", "-o", "name").stdout == f"{name}\n"
    again = kubectl("apply", "--validate=false", "-f", "-", stdin=POLICIES)
    assert [line.split()[1] for line in again.stdout.splitlines()] == ["unchanged"] * 6
    db = json.loads(kubectl("get", "svc", "db", "-n", "shop", "-o", "json").stdout)
    assert (db["spec"]["clusterIP"], db["spec"]["clusterIPs"]) == ("None", ["None"])
    mode = ("annotate", "cnp", "guard", "mesh.hoplite.io/mod=audit")
    refused = kubectl(*mode)
    assert refused.returncode == 1
    assert "did you mean mesh.hoplite.io/mode?" in refused.stderr


def test_refusals_arrive_whole(kubectl):
    wrong = MESH.replace("selector:", "selectr:")
    refused = kubectl("apply", "--validate=false", "-f", "-", stdin=wrong)
    assert refused.returncode == 1
    assert "$.spec.selectr: unknown field" in refused.stderr

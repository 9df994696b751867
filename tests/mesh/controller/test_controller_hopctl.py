"""hopctl as a process against a real controller."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading

import msgspec
import pytest
import yaml

from meshapi import jointoken
from meshapi.resources import KINDS, NodeProblem, by_word

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
  ports: [{port: 80}]
---
apiVersion: mesh.hoplite.io/v1alpha1
kind: Workload
metadata: {name: web-1, namespace: shop, labels: {app: web}}
spec: {nodeName: n1, cgroup: pods/web-1, addresses: [10.0.0.1]}
"""


@pytest.fixture
def mesh(controller):
    """A controller with one node and the objects of MESH."""
    asyncio.run(controller.node("n1", "192.0.2.1"))
    applied = controller.hopctl("apply", "-f", "-", stdin=MESH)
    assert applied.returncode == 0, applied.stderr
    return controller


def test_apply_says_what_it_did(controller):
    asyncio.run(controller.node("n1"))
    preview = controller.hopctl("apply", "-f", "-", "--dry-run", stdin=MESH)
    first = controller.hopctl("apply", "-f", "-", stdin=MESH)
    again = controller.hopctl("apply", "-f", "-", stdin=MESH.replace("port: 80", "port: 81"))
    assert preview.stdout.splitlines()[1] == "service/web created (shop) (dry run)"
    assert first.stdout == (
        "namespace/shop created\nservice/web created (shop)\nworkload/web-1 created (shop)\n"
    )
    assert again.stdout.splitlines()[1:] == [
        "service/web configured (shop)",
        "workload/web-1 unchanged (shop)",
    ]
    assert (first.stderr, first.returncode) == ("", 0)


def test_a_refusal_names_file_and_line_and_applies_nothing(controller, tmp_path):
    good, bad = tmp_path / "a.yaml", tmp_path / "b.yaml"
    good.write_text(MESH)
    bad.write_text(
        "kind: List\nitems:\n- apiVersion: v1\n  kind: Service\n"
        "  metadata: {name: x, namespace: shop}\n  spec:\n"
        "    ports: [{port: 80}]\n    clusterIP: 1.2.3.4\n"
    )
    refused = controller.hopctl("apply", "-f", str(tmp_path))
    assert refused.returncode == 1
    assert refused.stderr.startswith(
        f"hopctl: {bad}:8: $.spec.clusterIP: Service shop/x: 1.2.3.4 is outside the service range"
    )
    assert "shop" not in controller.hopctl("get", "ns").stdout
    bad.write_text("apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec:\n  prts: []\n")
    refused = controller.hopctl("apply", "-f", str(good), "-f", str(bad))
    assert refused.stderr.startswith(f"hopctl: {bad}:5: Service default/x: $.spec.prts: unknown")
    bad.write_text(MESH)
    refused = controller.hopctl("apply", "-f", str(tmp_path))
    assert f"{bad}:1: Namespace shop stands there twice (first at {good}:1)" in refused.stderr


def test_strict_refuses_warnings_before_anything_is_applied(controller):
    text = MESH.replace("app: web}\n  ports", "app: other}\n  ports")
    refused = controller.hopctl("apply", "-f", "-", "--strict", stdin=text)
    assert refused.returncode == 1
    assert "no workload matches its selector" in refused.stderr
    assert "shop" not in controller.hopctl("get", "ns").stdout
    allowed = controller.hopctl("apply", "-f", "-", stdin=text)
    assert allowed.returncode == 0
    assert "warning: Service shop/web: no workload matches its selector" in allowed.stderr


def test_wait_waits_for_every_node_that_is_heard_of(controller):
    async def scenario():
        n1, n2 = await controller.node("n1"), await controller.node("n2")
        await controller.node("n3")
        await n1.report(1)
        await n2.report(1, ready=False, state="starting")  # not ready, but there
        applying = asyncio.create_task(
            asyncio.to_thread(controller.hopctl, "apply", "-f", "-", "--wait=20", stdin=MESH),
            name="apply",
        )
        async with controller.admin() as admin:
            async for event in admin.watch(by_word("workload")):
                revision = int(event.object.metadata.resource_version)
                break
        await n1.report(revision)
        await asyncio.sleep(0.3)
        assert not applying.done()
        await n2.report(revision)
        done = await asyncio.wait_for(applying, 10)
        nack = NodeProblem(kind="Service", namespace="shop", name="web", message="table is full")
        await n2.report(revision, problems=(nack,))
        late = await asyncio.to_thread(
            controller.hopctl, "apply", "-f", "-", "--wait=0.3",
            stdin=MESH.replace("port: 80", "port: 81"),
        )  # fmt: skip
        return done, late

    done, late = asyncio.run(scenario())
    assert done.returncode == 0, done.stderr
    assert "2 of 2 nodes enforce revision" in done.stdout
    assert "warning: not heard of and not waited for: n3" in done.stderr
    assert late.returncode == 1
    assert "0 of 2 nodes enforce" in late.stdout
    assert "hopctl: n2: Service shop/web: table is full" in late.stderr
    assert "after 0.3 s still behind: n1, n2" in late.stderr


def test_get_in_every_form(mesh):
    asyncio.run(report(mesh))
    table = mesh.hopctl("get", "services").stdout.splitlines()
    assert table[0].split() == ["NAMESPACE", "NAME", "CLUSTER-IPS", "PORTS", "BACKENDS", "L7"]
    assert table[1].split()[3:] == ["80/TCP", "1/1", "-"]
    one = json.loads(mesh.hopctl("get", "service", "web", "-o", "json").stdout)
    assert (one["kind"], one["metadata"]["name"]) == ("Service", "web")
    many = json.loads(mesh.hopctl("get", "svc", "-n", "shop", "-o", "json").stdout)
    assert (many["apiVersion"], many["kind"], len(many["items"])) == ("v1", "List", 1)
    assert yaml.safe_load(mesh.hopctl("get", "svc", "shop/web", "-o", "yaml").stdout) == one
    assert mesh.hopctl("get", "wl", "-o", "name").stdout == "workload/web-1\n"
    node = mesh.hopctl("get", "nodes").stdout.splitlines()[1].split()
    assert node[:2] == ["n1", "True"]
    wide = mesh.hopctl("get", "nodes", "-o", "wide").stdout.splitlines()
    assert "FEATURES" in wide[0]
    assert "missing: sk_destroy" in wide[1]
    assert mesh.hopctl("get", "wl", "-l", "app=nix").stdout == ""
    assert "web-1" in mesh.hopctl("get", "wl", "-A", "-l", "app in (web)", "-o", "wide").stdout
    for kind in KINDS:
        assert mesh.hopctl("get", kind.plural, "-o", "wide").returncode == 0


FEATURES = {"tcx": "yes", "sk_destroy": "no (needs Linux 6.5): connections stay"}


async def report(controller):
    async with controller.admin() as admin:
        revision = int((await admin.listing(by_word("ns"))).version)
    node = await controller.node("n1", "192.0.2.1")
    await node.report(revision, workloads=("shop/web-1",), features=FEATURES)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["get", "service", "nix"], 1, "Service nix does not exist in any namespace"),
        (["get", "service", "shop/nix"], 1, "Service shop/nix does not exist"),
        (["get", "servic"], 2, "did you mean services?"),
        (["get", "ns", "a/b"], 2, "belongs to no namespace"),
        (["get", "ns", "-n", "a"], 2, "belongs to no namespace"),
        (["get", "svc", "-A", "-n", "a"], 2, "-A and -n together"),
        (["get", "svc", "-l", "=("], 1, "labelSelector: cannot read"),
        (["delete", "svc"], 2, "no NAME after svc"),
        (["delete"], 2, "give KIND and NAME, or -f FILE"),
        (["delete", "svc", "nix", "-n", "shop"], 1, "Service shop/nix does not exist"),
        (["delete", "ns", "shop"], 1, "is not empty: it holds Service shop/web, Workload shop/web"),
        (["apply", "-f", "/nix.yaml"], 2, "/nix.yaml: cannot be read"),
        (["apply"], 2, "required: -f"),
        (["flows", "--since", "yesterday"], 2, "--since: 'yesterday' is not a time"),
        (["flows", "--from", "web"], 2, "--from: 'web' does not name"),
        (["flows", "--verdict", "maybe"], 2, "--verdict: 'MAYBE' is not a verdict"),
        (["flows", "--last", "0"], 2, "--last: 0 flows"),
        (["token", "create", "--node", "A B"], 1, "'A B' is not a valid name"),
        (["token", "create", "--node", "a", "--ttl", "x"], 2, "--ttl: 'x' is not a duration"),
        (["token", "create", "--node", "a", "--ttl", "400d"], 1, "$.ttlSeconds"),
        (["quarantine", "nix/web-1"], 1, "namespace 'nix' does not exist"),
        (["quarantine", "web-1"], 2, "names no workload"),
        (["flows", "--verdict", "audits"], 2, "--verdict: 'AUDITS' is not a verdict"),
        (["explain", "NIX"], 1, "'NIX' is not a reason"),
        (["bogus"], 2, "invalid choice"),
        ([], 2, "required: VERB"),
    ],
)
def test_refusals_have_their_exit_codes(shared, arguments, code, words):
    refused = shared.hopctl(*arguments)
    assert refused.returncode == code, refused.stderr
    assert words in refused.stderr
    assert refused.stdout == ""
    assert "Traceback" not in refused.stderr


@pytest.fixture(scope="module")
def shared(start_shared):
    controller = start_shared()
    assert controller.hopctl("apply", "-f", "-", stdin=MESH).returncode == 0
    return controller


POLICIES = """\
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: guard, annotations: {mesh.hoplite.io/mode: audit}}
spec:
  tier: Admin
  priority: 1
  subject: {namespaces: {}}
  ingress: [{action: Deny, from: [{namespaces: {matchLabels: {team: red}}}]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: guard, namespace: shop}
spec:
  rules:
  - to: [{operation: {ports: ["80"], methods: [GET]}}]
---
apiVersion: mesh.hoplite.io/v1alpha1
kind: TrafficPolicy
metadata: {name: web, namespace: shop}
spec:
  targetRefs: [{kind: Service, name: web}]
  healthCheck: {protocol: HTTP, path: /healthz}
"""


def test_policies_of_every_kind_are_applied_and_shown(mesh):
    applied = mesh.hopctl("apply", "-f", "-", stdin=POLICIES)
    assert applied.returncode == 0, applied.stderr
    assert applied.stdout == (
        "clusternetworkpolicy/guard created\n"
        "authorizationpolicy/guard created (shop)\n"
        "trafficpolicy/web created (shop)\n"
    )
    assert applied.stderr == (
        "warning: AuthorizationPolicy shop/guard: $.spec.rules[0].to[0].operation.methods: only "
        "HTTP requests have this; at layer 4 this ALLOW rule never matches\n"
    )
    asyncio.run(report(mesh))
    row = mesh.hopctl("get", "cnp").stdout.splitlines()[1].split()
    assert row == ["guard", "Admin", "1", "(all)", "1", "in,", "0", "out", "audit", "True"]
    assert mesh.hopctl("get", "tp").stdout.splitlines()[1].split()[-2:] == ["True", "True"]
    assert "ALLOW" in mesh.hopctl("get", "ap", "-o", "wide").stdout


def test_a_typo_in_an_option_names_its_line(mesh, tmp_path):
    file = tmp_path / "p.yaml"
    file.write_text(POLICIES.replace("mesh.hoplite.io/mode", "mesh.hoplite.io/mod"))
    refused = mesh.hopctl("apply", "-f", str(file))
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"hopctl: {file}:3: ClusterNetworkPolicy guard: ")
    assert "did you mean mesh.hoplite.io/mode?" in refused.stderr


def test_a_quarantine_is_made_changed_and_lifted(mesh):
    def quarantine(*arguments):
        done = mesh.hopctl("quarantine", "shop/web-1", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    nothing = "nothing goes to it or from it\n"
    assert quarantine("--reason", "odd traffic") == f"shop/web-1 is quarantined: {nothing}"
    assert quarantine() == f"shop/web-1 is quarantined already: {nothing}"
    assert "True QUARANTINED" not in mesh.hopctl("get", "wl").stdout
    assert "False QUARANTINED" in mesh.hopctl("get", "wl").stdout
    assert quarantine("--allow-from", "ops/probe", "--allow-from", "10.0.0.0/8") == (
        "shop/web-1 is quarantined: only ops/probe, 10.0.0.0/8 may connect to it\n"
        "warning: Quarantine shop/web-1: $.spec.allowFrom[0]: Workload ops/probe does not exist; "
        "it is let in from the moment it does\n"
    )
    stored = json.loads(mesh.hopctl("get", "qt", "shop/web-1", "-o", "json").stdout)
    assert stored["spec"] == {
        "workload": "web-1",
        "allowFrom": [{"namespace": "ops", "workload": "probe"}, {"cidr": "10.0.0.0/8"}],
        "reason": "odd traffic",
    }
    assert quarantine("--lift") == "shop/web-1 is not quarantined any more\n"
    assert quarantine("--lift") == "shop/web-1 is not quarantined\n"
    assert mesh.hopctl("get", "qt").stderr == "no quarantines\n"


def test_a_quarantine_of_another_name_is_found(mesh):
    text = (
        "apiVersion: mesh.hoplite.io/v1alpha1\nkind: Quarantine\n"
        "metadata: {name: incident-7, namespace: shop}\nspec: {workload: web-1}\n"
    )
    assert mesh.hopctl("apply", "-f", "-", stdin=text).returncode == 0
    again = mesh.hopctl("quarantine", "shop/web-1", "--allow-from", "10.0.0.0/8")
    assert again.returncode == 0, again.stderr
    assert mesh.hopctl("get", "qt", "-o", "name").stdout == "quarantine/incident-7\n"
    refused = mesh.hopctl("apply", "-f", "-", stdin=text.replace("incident-7", "incident-8"))
    assert refused.returncode == 1
    assert "Workload shop/web-1 has Quarantine shop/incident-7 already" in refused.stderr
    assert mesh.hopctl("quarantine", "shop/web-1", "--lift").returncode == 0
    assert mesh.hopctl("get", "qt", "-o", "name").stdout == ""


def test_a_quarantine_may_come_before_its_workload_and_waits_for_the_nodes(mesh):
    async def scenario():
        node = await mesh.node("n1", "192.0.2.1")
        await node.report(1)
        waiting = asyncio.create_task(
            asyncio.to_thread(mesh.hopctl, "quarantine", "shop/later", "--wait", "20"),
            name="quarantine",
        )
        async with mesh.admin() as admin:
            async for event in admin.watch(by_word("quarantine")):
                revision = int(event.object.metadata.resource_version)
                break
        await asyncio.sleep(0.3)
        assert not waiting.done()
        await node.report(revision)
        done = await asyncio.wait_for(waiting, 10)
        await node.report(revision + 1)
        lifted = await asyncio.to_thread(
            mesh.hopctl, "quarantine", "shop/later", "--lift", "--wait"
        )
        return done, lifted

    done, lifted = asyncio.run(scenario())
    assert done.returncode == 0, done.stderr
    assert "1 of 1 nodes enforce revision" in done.stdout
    assert "Workload shop/later does not exist; it will be quarantined" in done.stderr
    assert lifted.returncode == 0, lifted.stderr
    assert "1 of 1 nodes enforce revision" in lifted.stdout


def test_delete_by_file_goes_backwards(mesh, tmp_path):
    (tmp_path / "mesh.yaml").write_text(MESH)
    deleted = mesh.hopctl("delete", "-f", str(tmp_path / "mesh.yaml"))
    assert deleted.stdout == (
        "workload/web-1 deleted (shop)\nservice/web deleted (shop)\nnamespace/shop deleted\n"
    )
    again = mesh.hopctl("delete", "-f", str(tmp_path / "mesh.yaml"))
    assert again.returncode == 1
    assert again.stderr.count("does not exist") == 3


def test_a_name_in_several_namespaces_must_be_told(mesh):
    text = MESH.replace("shop", "dev").replace("10.0.0.1", "10.0.0.2").replace("pods/", "dev/")
    assert mesh.hopctl("apply", "-f", "-", stdin=text).returncode == 0
    ambiguous = mesh.hopctl("get", "svc", "web")
    assert ambiguous.returncode == 2
    assert "several of that name: dev/web, shop/web" in ambiguous.stderr
    assert mesh.hopctl("delete", "svc", "web", "-n", "dev").stdout == "service/web deleted (dev)\n"


def test_a_token_lets_one_node_in(controller):
    created = controller.hopctl("token", "create", "--node", "n9", "--ttl", "90s")
    token = jointoken.parse(created.stdout)
    assert created.stdout == f"{token}\n"
    jointoken.check_ca(token, controller.ca)


def watching(controller, *arguments):
    """``hopctl get --watch`` by flags alone, running."""
    flags = {
        "--server": controller.url,
        "--ca-file": str(controller.state / "ca" / "ca.pem"),
        "--token-file": str(controller.state / "admin.token"),
    }
    given = [part for flag in flags.items() for part in flag]
    return subprocess.Popen(
        [sys.executable, "-m", "hopctl", "get", "--watch", *arguments, *given],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_watch_follows(mesh):
    process = watching(mesh, "svc")
    timer = threading.Timer(20, process.kill)
    timer.start()
    try:
        assert process.stdout is not None
        assert process.stdout.readline().split()[:3] == ["EVENT", "NAMESPACE", "NAME"]
        assert process.stdout.readline().split()[:3] == ["ADDED", "shop", "web"]
        mesh.hopctl("delete", "svc", "web")
        assert process.stdout.readline().split()[:3] == ["DELETED", "shop", "web"]
    finally:
        process.send_signal(2)
        _, errors = process.communicate(timeout=10)
        timer.cancel()
    assert errors == ""
    assert process.returncode == 130


def test_an_unreachable_controller_is_one_line(mesh):
    mesh.stop()
    for arguments in (["get", "ns"], ["flows"], ["apply", "-f", "-"], ["version", "--server"]):
        refused = mesh.hopctl(*arguments, stdin=MESH)
        assert refused.returncode == 1
        lines = refused.stderr.splitlines()
        assert len(lines) == 1
        assert lines[0].startswith(f"hopctl: {mesh.url}: the controller does not answer")


def test_the_version_of_both(controller):
    import meshapi

    shown = controller.hopctl("version", "--server")
    assert shown.stdout == (
        f"hopctl {meshapi.__version__}\n"
        f"hoplite-controller {meshapi.__version__} at {controller.url}\n"
    )


def test_json_lines_of_a_watch(mesh):
    process = watching(mesh, "ns", "-o", "json")
    try:
        assert process.stdout is not None
        assert msgspec.json.decode(process.stdout.readline())["kind"] == "Namespace"
    finally:
        process.terminate()
        process.communicate(timeout=10)

import datetime as dt

import pytest

from hopctl import columns
from hopctl.columns import Context
from meshapi import codec
from meshapi.resources import KINDS, by_word

NOW = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
BORN = "2026-01-01T00:00:00Z"


def decode(kind, name, spec, api="mesh.hoplite.io/v1alpha1", status=None, **metadata):
    cluster_wide = ("MeshNode", "Namespace", "ClusterNetworkPolicy", "BlockList")
    spaced = {} if kind in cluster_wide else {"namespace": "shop"}
    return codec.decode(
        {
            "apiVersion": api,
            "kind": kind,
            "metadata": {"name": name, "creationTimestamp": BORN, **spaced, **metadata},
            "spec": spec,
            "status": status or {},
        }
    )


def workload(name, *, ready=True, app="web"):
    spec = {"nodeName": "n1", "cgroup": "pods/x", "addresses": ["10.0.0.1"]}
    status = {"identity": 256, "spiffeID": "spiffe://t/ns/shop/sa/x", "ready": ready}
    return decode("Workload", name, spec, status=status, labels={"app": app})


def conditions(**statuses):
    return [
        {"type": t, "status": s, "reason": "Because", "message": f"{t} says {s}"}
        for t, s in statuses.items()
    ]


ROUTE = decode(
    "HTTPRoute",
    "split",
    {
        "parentRefs": [
            {"kind": "Service", "name": "web"},
            {"kind": "Service", "name": "x", "port": 81},
        ],
        "rules": [
            {"backendRefs": [{"name": "v1", "port": 80, "weight": 90}, {"name": "v2", "port": 80}]},
            {},
        ],
    },
    "gateway.networking.k8s.io/v1",
    status={
        "parents": [
            {
                "parentRef": {"kind": "Service", "name": "web"},
                "controllerName": "x",
                "conditions": conditions(Accepted="True", Programmed="True"),
            },
            {
                "parentRef": {"kind": "Service", "name": "x"},
                "controllerName": "x",
                "conditions": conditions(Accepted="False", Programmed="Unknown"),
            },
        ]
    },
)


def shown(word, resource, *, wide=False, **context):
    kind = by_word(word)
    cells = columns.row(kind, resource, Context(50, NOW, **context), wide=wide)
    header = columns.header(kind, wide=wide)
    assert len(header) == len(cells)
    return dict(zip(header, cells, strict=True))


def test_a_service_counts_its_backends_and_names_its_routes():
    spec = {
        "ports": [{"port": 80}],
        "selector": {"app": "web"},
        "clusterIPs": ["10.96.0.1", "fd00::1"],
    }
    web = decode("Service", "web", spec, "v1")
    found = shown(
        "svc",
        web,
        workloads=[workload("a"), workload("b", ready=False), workload("c", app="other")],
        routes=[ROUTE],
    )
    assert {k: c.text for k, c in found.items()} == {
        "NAMESPACE": "shop",
        "NAME": "web",
        "CLUSTER-IPS": "10.96.0.1,fd00::1",
        "PORTS": "80/TCP",
        "BACKENDS": "1/2",
        "L7": "split",
    }
    assert found["BACKENDS"].tone == "warn"
    assert shown("svc", web)["BACKENDS"].tone == "bad"
    assert shown("svc", web, wide=True)["AGE"].text == "1d"


def test_a_route_shows_the_worst_of_its_parents():
    found = shown("route", ROUTE, wide=True)
    assert found["PARENTS"].text == "web,x:81"
    assert found["RULES"].text == "v1:80=90,v2:80=1 | -"
    assert found["ACCEPTED"].text == "False (Because)"
    assert found["PROGRAMMED"].text == "Unknown (Because)"
    assert found["RESOLVEDREFS"].text == "-"
    assert found["MESSAGE"].text == "Accepted says False; Programmed says Unknown"


def test_a_node_shows_how_far_it_is():
    status = {
        "ready": True,
        "appliedRevision": 48,
        "kernelVersion": "6.18",
        "features": {"tcx": "yes"},
        "agent": {
            "version": "0.1",
            "problems": [{"kind": "NetworkPolicy", "namespace": "a", "name": "b", "message": "no"}],
        },
        "l7proxy": {"state": "serving 3 services"},
    }
    node = decode("MeshNode", "n1", {"addresses": ["192.0.2.1"]}, status=status)
    found = shown("nodes", node, wide=True)
    assert [found[k].text for k in ("NAME", "READY", "REVISION", "AGENT", "PROXY", "KERNEL")] == [
        "n1", "True", "48 (2 behind)", "0.1", "serving 3 services", "6.18",
    ]  # fmt: skip
    assert (found["FEATURES"].text, found["FEATURES"].tone) == ("all", "good")
    assert found["ZONE"].text == found["QUARANTINED"].text == "-"
    assert found["PROBLEMS"].text == "NetworkPolicy a/b: no"
    cut_off = {"workloads": [workload("a"), workload("b")], "quarantined": [("shop", "b")]}
    assert shown("nodes", node, wide=True, **cut_off)["QUARANTINED"].text == "shop/b"
    fresh = shown("nodes", decode("MeshNode", "n2", {}))
    assert [fresh[k].text for k in ("READY", "REVISION", "AGENT", "PROXY")] == [
        "False", "0 (50 behind)", "-", "-",
    ]  # fmt: skip


def test_a_node_names_the_features_that_it_lacks():
    features = {
        "tcx": "no (needs Linux 6.6): x",
        "bpf_set_retval": "yes",
        "destroy": "no (needs Linux 6.5): y",
    }
    labels = {"topology.kubernetes.io/zone": "a"}
    node = decode("MeshNode", "n1", {}, status={"features": features}, labels=labels)
    found = shown("nodes", node, wide=True)
    assert found["FEATURES"].text == "missing: destroy, tcx"
    assert found["FEATURES"].tone == "warn"
    assert found["ZONE"].text == "a"


@pytest.mark.parametrize(
    ("spec", "status", "words", "tone"),
    [
        ({}, {"ready": True}, "True", "good"),
        ({}, {}, "False", "bad"),
        ({"weight": 5}, {"ready": True}, "True (weight 5)", "good"),
        ({"weight": 0}, {"ready": True}, "True (weight 0)", "warn"),
        (
            {"weight": 2},
            {"ready": True, "unhealthyPorts": [80, 443]},
            "True (unhealthy: 80,443, weight 2)",
            "warn",
        ),
        ({}, {"ready": False, "unhealthyPorts": [80]}, "False (unhealthy: 80)", "bad"),
    ],
)
def test_a_workload_shows_what_keeps_connections_away(spec, status, words, tone):
    whole = {"nodeName": "n1", "cgroup": "x", "network": "host", **spec}
    found = shown("workloads", decode("Workload", "w", whole, status=status))
    assert (found["READY"].text, found["READY"].tone) == (words, tone)


def test_a_quarantined_workload_is_marked():
    w = workload("w")
    found = shown("wl", w, quarantined={("shop", "w")})["READY"]
    assert (found.text, found.tone) == ("True QUARANTINED", "bad")
    assert shown("wl", w, quarantined={("ops", "w")})["READY"].text == "True"


def test_a_service_leaves_out_backends_that_take_no_connections():
    spec = {"ports": [{"port": 80}], "selector": {"app": "web"}}
    idle = {"nodeName": "n1", "cgroup": "x", "network": "host", "weight": 0}
    drained = decode("Workload", "d", idle, status={"ready": True}, labels={"app": "web"})
    spec["sessionAffinity"], spec["trafficDistribution"] = "ClientIP", "PreferClose"
    found = shown(
        "svc", decode("Service", "web", spec, "v1"), wide=True, workloads=[workload("a"), drained]
    )
    assert found["BACKENDS"].text == "1/2"
    assert found["BALANCING"].text == "affinity 10800s, prefer Zone"


def test_a_service_shows_the_balancing_that_holds():
    """A TrafficPolicy's word goes before the service's own; another service's does not count."""
    spec = {"ports": [{"port": 80}], "internalTrafficPolicy": "Local"}
    spec["sessionAffinity"], spec["trafficDistribution"] = "ClientIP", "PreferSameZone"
    web = decode("Service", "web", spec, "v1")
    affinity = {"affinity": {"type": "ClientIP", "timeoutSeconds": 60}}
    policies = [
        traffic_policy("other", {"locality": {"prefer": "Node"}}),
        traffic_policy("web", affinity),
    ]
    found = shown("svc", web, wide=True, policies=policies)
    assert found["BALANCING"].text == "affinity 60s, prefer Zone, local only"
    found = shown("svc", web, wide=True, policies=policies[:1])
    assert found["BALANCING"].text == "affinity 10800s, prefer Zone, local only"


def traffic_policy(service, balancing):
    target = {"kind": "Service", "name": service}
    return decode("TrafficPolicy", service, {"targetRefs": [target], "loadBalancing": balancing})


POLICY_API = "policy.networking.k8s.io/v1alpha2"
PROGRAMMED = {"conditions": conditions(Programmed="True", ResolvedRefs="False")}


def test_policies_show_whom_they_are_about_and_how_they_are_enforced():
    spec = {
        "tier": "Admin",
        "priority": 7,
        "subject": {
            "pods": {
                "namespaceSelector": {"matchLabels": {"team": "blue"}},
                "podSelector": {},
            }
        },
        "ingress": [{"action": "Deny", "from": [{"namespaces": {}}]}],
    }
    annotations = {"mesh.hoplite.io/mode": "audit", "mesh.hoplite.io/established": "drain 30"}
    policy = decode(
        "ClusterNetworkPolicy", "c", spec, POLICY_API, PROGRAMMED, annotations=annotations
    )
    found = shown("cnp", policy, wide=True)
    assert {k: c.text for k, c in found.items()} == {
        "NAME": "c",
        "TIER": "Admin",
        "PRIORITY": "7",
        "SUBJECT": "team=blue / (all)",
        "RULES": "1 in, 0 out",
        "MODE": "audit,drain 30s",
        "PROGRAMMED": "True",
        "CUT": "0",
        "MESSAGE": "Programmed says True; ResolvedRefs says False",
        "AGE": "1d",
    }
    assert found["MODE"].tone == "warn"
    everybody = decode(
        "ClusterNetworkPolicy", "c", {**spec, "subject": {"namespaces": {}}}, POLICY_API
    )
    assert shown("cnp", everybody)["SUBJECT"].text == "(all)"


def test_an_authorization_policy_shows_action_and_selector():
    spec = {"action": "DENY", "selector": {"matchLabels": {"app": "web"}}, "rules": [{}, {}]}
    annotations = {
        "mesh.hoplite.io/identity": "strict",
        "mesh.hoplite.io/established": "keep",
        "istio.io/dry-run": "false",
    }
    policy = decode(
        "AuthorizationPolicy", "a", spec, "security.istio.io/v1", annotations=annotations
    )
    found = shown("ap", policy)
    assert [found[k].text for k in ("ACTION", "SELECTOR", "RULES", "MODE", "PROGRAMMED")] == [
        "DENY", "app=web", "2", "enforce,strict,keep", "-",
    ]  # fmt: skip


def test_a_traffic_policy_says_what_it_does():
    spec = {
        "targetRefs": [{"kind": "Service", "name": "web"}, {"kind": "Service", "name": "api"}],
        "loadBalancing": {"affinity": {"type": "ClientIP"}, "locality": {"prefer": "Zone"}},
        "healthCheck": {"protocol": "HTTP"},
        "outlierDetection": {},
        "connectionLimits": {
            "perIdentity": {"connectionsPerSecond": 10, "concurrentConnections": 5}
        },
    }
    found = shown("tp", decode("TrafficPolicy", "t", spec, status=PROGRAMMED))
    assert found["TARGETS"].text == "web,api"
    assert found["DOES"].text == (
        "affinity 10800s, prefer Zone, HTTP check 5s, eject after 5, limit 10/s, limit 5 open"
    )
    assert found["RESOLVEDREFS"].text == "False (Because)"
    off = {
        "targetRefs": [{"kind": "Service", "name": "web"}],
        "outlierDetection": {"consecutiveConnectFailures": 0},
    }
    assert shown("tp", decode("TrafficPolicy", "t", off))["DOES"].text == "no ejection"


def test_quarantines_and_block_lists_say_whom_and_why():
    peers = [{"namespace": "ops", "workload": "probe"}, {"cidr": "10.0.0.0/8"}]
    spec = {"workload": "w", "allowFrom": peers, "reason": "odd traffic"}
    found = shown("qt", decode("Quarantine", "w", spec, status=PROGRAMMED))
    assert found["ALLOW-FROM"].text == "ops/probe,10.0.0.0/8"
    assert found["REASON"].text == "odd traffic"
    cidrs = [f"203.0.113.{i}" for i in range(7)]
    blocks = decode("BlockList", "b", {"cidrs": cidrs})
    assert shown("bl", blocks)["CIDRS"].text == f"{','.join(cidrs[:5])} and 2 more"


def test_a_workload_shows_who_it_is():
    found = shown("wl", workload("a"), wide=True)
    assert found["IDENTITY"].text == "256"
    assert found["SPIFFE-ID"].text == "spiffe://t/ns/shop/sa/x"
    assert (found["READY"].text, found["READY"].tone) == ("True", "good")


@pytest.mark.parametrize(
    ("selector", "text"),
    [
        ({}, "(all)"),
        ({"matchLabels": {"b": "1", "a": "2"}}, "a=2,b=1"),
        (
            {
                "matchLabels": {"a": "1"},
                "matchExpressions": [
                    {"key": "k", "operator": "In", "values": ["x", "y"]},
                    {"key": "m", "operator": "Exists"},
                ],
            },
            "a=1,k In (x,y),m Exists",
        ),
    ],
)
def test_a_policy_shows_whom_it_selects(selector, text):
    spec = {"podSelector": selector, "ingress": [{}], "policyTypes": ["Ingress"]}
    found = shown("netpol", decode("NetworkPolicy", "p", spec, "networking.k8s.io/v1"))
    assert found["SELECTOR"].text == text
    assert found["RULES"].text == "1 in, 0 out"


def test_every_kind_has_columns():
    for kind in KINDS:
        assert len(columns.header(kind, wide=True)) >= len(columns.header(kind, wide=False)) > 1

"""What a resource's own checks refuse, by the path they name."""

import pytest

from tests.unit.meshapi.resources.asking import paths


@pytest.mark.parametrize(
    "name", ["A", "-a", "a-", "a_b", "", "a\n", "a" * 64, "ä", "a.b", " a", "a/b", ".."]
)
def test_names_of_namespaces_and_services_are_labels(name):
    assert paths("Namespace", {}, name=name) == ["metadata.name"]
    ports = {"ports": [{"port": 1}]}
    assert paths("Service", ports, name=name) == ["metadata.name"]
    assert paths("Service", ports, namespace=name) == ["metadata.namespace"]


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("a.b-c.d", True),
        ("a" * 253, True),
        ("a" * 254, False),
        ("a..b", False),
        ("a.-b", False),
        (".a", False),
        ("a\n", False),
    ],
)
def test_other_names_are_subdomains(name, good):
    assert paths("MeshNode", {}, name=name) == ([] if good else ["metadata.name"])


@pytest.mark.parametrize(
    ("labels", "path"),
    [
        ({"app": "web"}, None),
        ({"example.org/app": ""}, None),
        ({"-x": "y"}, "metadata.labels['-x']"),
        ({"/x": "y"}, "metadata.labels['/x']"),
        ({"x": "a b"}, "metadata.labels['x']"),
        ({"x": "y\n"}, "metadata.labels['x']"),
        ({"x": "y" * 64}, "metadata.labels['x']"),
    ],
)
def test_labels(labels, path):
    assert paths("Namespace", {}, labels=labels) == ([path] if path else [])


def test_a_namespaced_thing_needs_a_namespace_and_others_have_none():
    assert paths("MeshNode", {}, namespace="a") == ["metadata.namespace"]


TIMEOUT = "spec.sessionAffinityConfig.clientIP.timeoutSeconds"


def service(**spec):
    return {"ports": [{"port": 80}], **spec}


def affinity(seconds):
    return {"sessionAffinityConfig": {"clientIP": {"timeoutSeconds": seconds}}}


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        ({"ports": [{"port": 80}]}, []),
        ({"ports": []}, ["spec.ports"]),
        ({"ports": [{"port": 80, "name": "a"}, {"port": 80, "protocol": "UDP", "name": "b"}]}, []),
        ({"ports": [{"port": 80, "name": "a"}, {"port": 80, "name": "b"}]}, ["spec.ports[1].port"]),
        ({"ports": [{"port": 80, "name": "a"}, {"port": 81, "name": "a"}]}, ["spec.ports[1].name"]),
        ({"ports": [{"port": 80, "name": "A"}]}, ["spec.ports[0].name"]),
        ({"ports": [{"port": 80, "name": "123"}]}, ["spec.ports[0].name"]),
        ({"ports": [{"port": 80, "targetPort": 0}]}, ["spec.ports[0].targetPort"]),
        ({"ports": [{"port": 80, "targetPort": "Http"}]}, ["spec.ports[0].targetPort"]),
        (service(clusterIP="None"), []),
        (service(clusterIPs=["None"]), []),
        (service(clusterIP="None", clusterIPs=["None"]), []),
        (service(clusterIP="none"), ["spec.clusterIP"]),
        (service(clusterIP="None", clusterIPs=["10.0.0.1"]), ["spec.clusterIPs[0]"]),
        (service(clusterIP="10.0.0.1", clusterIPs=["None"]), ["spec.clusterIP"]),
        (service(clusterIPs=["None", "None"]), ["spec.clusterIPs"]),
        (service(clusterIP="None", sessionAffinity="ClientIP"), ["spec.sessionAffinity"]),
        (
            service(clusterIP="None", internalTrafficPolicy="Local"),
            ["spec.internalTrafficPolicy"],
        ),
        (
            service(clusterIP="None", trafficDistribution="PreferClose"),
            ["spec.trafficDistribution"],
        ),
        (service(clusterIP="None", internalTrafficPolicy="Cluster", sessionAffinity="None"), []),
        (service(sessionAffinity="ClientIP", **affinity(1)), []),
        (service(sessionAffinity="ClientIP", **affinity(86_400)), []),
        (service(sessionAffinity="ClientIP"), []),
        (service(**affinity(60)), ["spec.sessionAffinityConfig"]),
        (service(sessionAffinity="None", **affinity(60)), ["spec.sessionAffinityConfig"]),
        (service(sessionAffinity="ClientIP", **affinity(0)), [TIMEOUT]),
        (service(sessionAffinity="ClientIP", **affinity(86_401)), [TIMEOUT]),
        (service(sessionAffinity="Cookie"), ["spec.sessionAffinity"]),
        (service(trafficDistribution="PreferSameNode"), []),
        (service(trafficDistribution="PreferFar"), ["spec.trafficDistribution"]),
        (service(internalTrafficPolicy="Local"), []),
        (service(internalTrafficPolicy="local"), ["spec.internalTrafficPolicy"]),
        ({"ports": [{"port": 80, "protocol": "SCTP"}]}, ["spec.ports[0].protocol"]),
        ({"ports": [{"port": 80}], "clusterIPs": ["::ffff:10.0.0.1"]}, ["spec.clusterIPs[0]"]),
        ({"ports": [{"port": 80}], "clusterIPs": ["fe80::1%eth0"]}, ["spec.clusterIPs[0]"]),
        ({"ports": [{"port": 80}], "clusterIPs": ["0.0.0.0"]}, ["spec.clusterIPs[0]"]),
        ({"ports": [{"port": 80}], "clusterIPs": ["224.0.0.1"]}, ["spec.clusterIPs[0]"]),
        ({"ports": [{"port": 80}], "clusterIPs": ["010.0.0.1"]}, ["spec.clusterIPs[0]"]),
    ],
)
def test_services(spec, found):
    assert paths("Service", spec) == found


def workload(**spec):
    return {"nodeName": "n1", "cgroup": "pods/x", "addresses": ["10.0.0.1"], **spec}


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        (workload(), []),
        (workload(weight=0), []),
        (workload(weight=65_535), []),
        (workload(weight=-1), ["spec.weight"]),
        (workload(weight=65_536), ["spec.weight"]),
        (workload(weight=1.5), ["spec.weight"]),
        (workload(ports=[{"port": 1, "protocol": "SCTP"}]), ["spec.ports[0].protocol"]),
        (workload(addresses=[]), ["spec.addresses"]),
        (workload(network="host"), ["spec.addresses"]),
        (workload(network="host", addresses=[]), []),
        (workload(addresses=["x", "::"]), ["spec.addresses[0]", "spec.addresses[1]"]),
        (workload(cgroup="/pods"), ["spec.cgroup"]),
        (workload(cgroup="a/../b"), ["spec.cgroup"]),
        (workload(cgroup="a/"), ["spec.cgroup"]),
        (workload(cgroup=""), ["spec.cgroup"]),
        (workload(cgroup="a\x00b"), ["spec.cgroup"]),
        (workload(cgroup="a\nb"), ["spec.cgroup"]),
        (workload(nodeName="N"), ["spec.nodeName"]),
        (workload(serviceAccount="A"), ["spec.serviceAccount"]),
        (workload(ports=[{"port": 1}, {"port": 1}]), ["spec.ports[1].port"]),
        (
            workload(ports=[{"port": 1, "name": "a"}, {"port": 2, "name": "a"}]),
            ["spec.ports[1].name"],
        ),
    ],
)
def test_workloads(spec, found):
    assert paths("Workload", spec) == found


def route(parents=None, **rule):
    return {"parentRefs": parents or [{"kind": "Service", "name": "web"}], "rules": [rule]}


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        (route(), []),
        ({"parentRefs": [], "rules": []}, ["spec.parentRefs", "spec.rules"]),
        (route([{"kind": "Service", "name": "a"}] * 2), ["spec.parentRefs[1]"]),
        (
            route([{"kind": "Service", "name": "a", "namespace": "dev"}]),
            ["spec.parentRefs[0].namespace"],
        ),
        (route(backendRefs=[{"name": "a"}]), ["spec.rules[0].backendRefs[0].port"]),
        (
            route(backendRefs=[{"name": "a", "port": 1, "namespace": "dev"}]),
            ["spec.rules[0].backendRefs[0].namespace"],
        ),
        (route(matches=[{"path": {"value": "x"}}]), ["spec.rules[0].matches[0].path.value"]),
        (
            route(matches=[{"path": {"type": "RegularExpression", "value": "("}}]),
            ["spec.rules[0].matches[0].path.value"],
        ),
        (
            route(
                matches=[{"headers": [{"name": "a b", "value": "x"}, {"name": "c", "value": "d"}]}]
            ),
            ["spec.rules[0].matches[0].headers[0].name"],
        ),
        (
            route(
                matches=[{"headers": [{"name": "A", "value": "x"}, {"name": "a", "value": "d"}]}]
            ),
            ["spec.rules[0].matches[0].headers[1].name"],
        ),
        (
            route(
                matches=[
                    {"queryParams": [{"name": "q", "type": "RegularExpression", "value": "["}]}
                ]
            ),
            ["spec.rules[0].matches[0].queryParams[0].value"],
        ),
    ],
)
def test_routes(spec, found):
    assert paths("HTTPRoute", spec) == found


def policy(peer=None, port=None, **spec):
    rule = {"from": [peer] if peer else [], "ports": [port] if port else []}
    return {"podSelector": {}, "ingress": [rule], **spec}


AT = "spec.ingress[0]"


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        (policy({"podSelector": {}}, {"port": "http"}), []),
        (policy({"podSelector": {}, "namespaceSelector": {}}, {"port": 1, "endPort": 2}), []),
        (policy({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}), []),
        (policy({"ipBlock": {"cidr": "x"}}), [f"{AT}.from[0].ipBlock.cidr"]),
        (policy({"ipBlock": {"cidr": "::ffff:10.0.0.0/104"}}), [f"{AT}.from[0].ipBlock.cidr"]),
        (policy({"ipBlock": {"cidr": "fe80::1%eth0"}}), [f"{AT}.from[0].ipBlock.cidr"]),
        (
            policy({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/8", "::/0"]}}),
            [f"{AT}.from[0].ipBlock.except[0]", f"{AT}.from[0].ipBlock.except[1]"],
        ),
        (policy({"ipBlock": {"cidr": "::/0"}, "podSelector": {}}), [f"{AT}.from[0].ipBlock"]),
        (policy({"podSelector": None}), [f"{AT}.from[0]"]),
        (policy(port={"port": "http", "endPort": 9}), [f"{AT}.ports[0].endPort"]),
        (policy(port={"port": 9, "endPort": 8}), [f"{AT}.ports[0].endPort"]),
        (policy(port={"endPort": 8}), [f"{AT}.ports[0].endPort"]),
        (policy(port={"port": 9, "protocol": "SCTP"}), [f"{AT}.ports[0].protocol"]),
        (policy(policyTypes=["Ingress", "Ingress"]), ["spec.policyTypes"]),
        (
            {"podSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}},
            ["spec.podSelector.matchExpressions[0].values"],
        ),
        (
            {
                "podSelector": {
                    "matchExpressions": [{"key": "a", "operator": "Exists", "values": ["x"]}]
                }
            },
            ["spec.podSelector.matchExpressions[0].values"],
        ),
    ],
)
def test_policies(spec, found):
    assert paths("NetworkPolicy", spec) == found


def test_nodes():
    spec = {"addresses": ["10.0.0.1", "x"], "proxyAddresses": ["fe80::1%a"]}
    assert paths("MeshNode", spec) == ["spec.addresses[1]", "spec.proxyAddresses[0]"]

"""What a TrafficPolicy is refused for, by the path that is named."""

import pytest

from tests.unit.meshapi.resources.asking import paths, words

TP = "TrafficPolicy"


def policy(*names, **parts):
    refs = [{"group": "", "kind": "Service", "name": n} for n in names or ("web",)]
    return {"targetRefs": refs, **(parts or {"outlierDetection": {}})}


def balancing(**parts):
    return policy(loadBalancing=parts)


def health(**check):
    return policy(healthCheck=check)


def outliers(**settings):
    return policy(outlierDetection=settings)


def limit(**settings):
    return policy(connectionLimits={"perIdentity": settings})


HEALTH, LIMIT = "spec.healthCheck", "spec.connectionLimits.perIdentity"


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        (policy(), []),
        (policy("a", "b"), []),
        (policy("a", "a"), ["spec.targetRefs[1]"]),
        (policy("A"), ["spec.targetRefs[0].name"]),
        ({"targetRefs": [], "outlierDetection": {}}, ["spec.targetRefs"]),
        ({"outlierDetection": {}}, ["spec.targetRefs"]),
        (
            {"targetRefs": [{"kind": "HTTPRoute", "name": "a"}]},
            ["spec.targetRefs[0].kind"],
        ),
        (
            {"targetRefs": [{"kind": "Service", "name": "a", "namespace": "b"}]},
            ["spec.targetRefs[0].namespace"],
        ),
        ({"targetRefs": [{"kind": "Service", "name": "a"}]}, ["spec"]),
        (policy(retries={}), ["spec.retries"]),
    ],
)
def test_targets(spec, found):
    assert paths(TP, spec) == found


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        (balancing(), ["spec.loadBalancing"]),
        (balancing(affinity={"type": "ClientIP"}), []),
        (balancing(affinity={"type": "ClientIP", "timeoutSeconds": 86_400}), []),
        (
            balancing(affinity={"type": "ClientIP", "timeoutSeconds": 86_401}),
            ["spec.loadBalancing.affinity.timeoutSeconds"],
        ),
        (balancing(affinity={"type": "Cookie"}), ["spec.loadBalancing.affinity.type"]),
        (balancing(affinity={}), ["spec.loadBalancing.affinity.type"]),
        (balancing(locality={"prefer": "Node"}), []),
        (balancing(locality={"prefer": "Zone"}), []),
        (balancing(locality={"prefer": "None"}), []),
        (balancing(locality={"prefer": "Region"}), ["spec.loadBalancing.locality.prefer"]),
        (balancing(locality={}), ["spec.loadBalancing.locality.prefer"]),
    ],
)
def test_load_balancing(spec, found):
    assert paths(TP, spec) == found


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        (health(), []),
        (health(protocol="HTTP"), []),
        (
            health(
                protocol="HTTP",
                port=8081,
                path="/healthz?full=1",
                host="web.shop",
                expectedStatuses=["200", "300-399"],
                intervalSeconds=10,
                timeoutSeconds=10,
                healthyThreshold=2,
                unhealthyThreshold=1,
            ),
            [],
        ),
        (health(protocol="GRPC"), [f"{HEALTH}.protocol"]),
        (health(port=0), [f"{HEALTH}.port"]),
        (health(port="http"), [f"{HEALTH}.port"]),
        (health(path="/"), []),
        (health(path="/x"), [f"{HEALTH}.path"]),
        (health(host="x"), [f"{HEALTH}.host"]),
        (health(expectedStatuses=["204"]), [f"{HEALTH}.expectedStatuses"]),
        (health(protocol="HTTP", path="x"), [f"{HEALTH}.path"]),
        (health(protocol="HTTP", path="/a b"), [f"{HEALTH}.path"]),
        (health(protocol="HTTP", path="/a\r\nHost: b"), [f"{HEALTH}.path"]),
        (health(protocol="HTTP", path="/" + "a" * 1024), [f"{HEALTH}.path"]),
        (health(protocol="HTTP", host="a b"), [f"{HEALTH}.host"]),
        (health(protocol="HTTP", host="a\r\n"), [f"{HEALTH}.host"]),
        (health(protocol="HTTP", expectedStatuses=[]), [f"{HEALTH}.expectedStatuses"]),
        (health(protocol="HTTP", expectedStatuses=["2xx"]), [f"{HEALTH}.expectedStatuses[0]"]),
        (health(protocol="HTTP", expectedStatuses=["300-200"]), [f"{HEALTH}.expectedStatuses[0]"]),
        (health(protocol="HTTP", expectedStatuses=["600"]), [f"{HEALTH}.expectedStatuses[0]"]),
        (health(intervalSeconds=0), [f"{HEALTH}.intervalSeconds"]),
        (health(intervalSeconds=3601), [f"{HEALTH}.intervalSeconds"]),
        (health(timeoutSeconds=6), [f"{HEALTH}.timeoutSeconds"]),
        (health(healthyThreshold=0), [f"{HEALTH}.healthyThreshold"]),
        (health(unhealthyThreshold=101), [f"{HEALTH}.unhealthyThreshold"]),
    ],
)
def test_health_checks(spec, found):
    assert paths(TP, spec) == found


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        (outliers(consecutiveConnectFailures=0), []),
        (
            outliers(consecutiveConnectFailures=-1),
            ["spec.outlierDetection.consecutiveConnectFailures"],
        ),
        (outliers(baseEjectionSeconds=0), ["spec.outlierDetection.baseEjectionSeconds"]),
        (outliers(maxEjectionPercent=100), []),
        (outliers(maxEjectionPercent=101), ["spec.outlierDetection.maxEjectionPercent"]),
        (outliers(maxEjectionPercent=0), ["spec.outlierDetection.maxEjectionPercent"]),
        (limit(connectionsPerSecond=1), []),
        (limit(connectionsPerSecond=100, burst=10, concurrentConnections=5), []),
        (limit(concurrentConnections=1), []),
        (limit(), [LIMIT]),
        (limit(burst=1), [LIMIT, f"{LIMIT}.burst"]),
        (limit(burst=1, concurrentConnections=1), [f"{LIMIT}.burst"]),
        (limit(connectionsPerSecond=0), [f"{LIMIT}.connectionsPerSecond"]),
        (limit(connectionsPerSecond=1_000_001), [f"{LIMIT}.connectionsPerSecond"]),
        (limit(concurrentConnections=0), [f"{LIMIT}.concurrentConnections"]),
        (policy(connectionLimits={}), [LIMIT]),
    ],
)
def test_outliers_and_limits(spec, found):
    assert paths(TP, spec) == found


def test_the_refusals_read_well():
    assert "it says nothing; give one of loadBalancing, healthCheck" in words(
        TP, {"targetRefs": [{"kind": "Service", "name": "a"}]}
    )
    assert "a TCP check asks for none; write protocol: HTTP" in words(TP, health(path="/x"))

"""What an AuthorizationPolicy is refused for, by the path that is named."""

import pytest

from meshapi import codec
from meshapi.errors import InvalidError
from tests.unit.meshapi.resources.asking import manifest, paths, words

AP = "AuthorizationPolicy"
SOURCE = "spec.rules[0].from[0].source"
OPERATION = "spec.rules[0].to[0].operation"
WHEN = "spec.rules[0].when[0]"


def source(**fields):
    return {"rules": [{"from": [{"source": fields}]}]}


def operation(**fields):
    return {"rules": [{"to": [{"operation": fields}]}]}


def when(key, **condition):
    return {"rules": [{"when": [{"key": key, **(condition or {"values": ["x"]})}]}]}


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        ({}, []),
        ({"rules": []}, []),
        ({"rules": [{}]}, []),
        ({"action": "ALLOW", "selector": {}}, []),
        ({"selector": {"matchLabels": {"app": "web"}}}, []),
        ({"selector": {"matchLabels": {"-": "web"}}}, ["spec.selector.matchLabels['-']"]),
        ({"selector": {"matchExpressions": []}}, ["spec.selector.matchExpressions"]),
        ({"action": "DENY", "rules": [{}]}, []),
        ({"action": "DENY"}, ["spec.rules"]),
        ({"action": "AUDIT"}, ["spec.action"]),
        ({"action": "CUSTOM", "provider": {"name": "x"}}, ["spec.action", "spec.provider"]),
        ({"action": "allow"}, ["spec.action"]),
        ({"targetRefs": [{"kind": "Service", "name": "x"}]}, ["spec.targetRefs"]),
        ({"targetRef": {"kind": "Gateway", "name": "x"}}, ["spec.targetRef"]),
        ({"rules": [{"from": []}]}, ["spec.rules[0].from"]),
        ({"rules": [{"from": [{}]}]}, ["spec.rules[0].from[0].source"]),
        ({"rules": [{"to": []}]}, ["spec.rules[0].to"]),
        ({"rules": [{"when": []}]}, ["spec.rules[0].when"]),
        ({"rules": [{"form": []}]}, ["spec.rules[0].form"]),
    ],
)
def test_the_policy_itself(spec, found):
    assert paths(AP, spec) == found


def test_a_spec_may_be_left_out_and_then_allows_nothing():
    value = manifest(AP, {})
    del value["spec"]
    policy = codec.decode(value)
    assert (policy.spec.action, policy.spec.rules) == ("ALLOW", ())


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        (source(), [SOURCE]),
        (source(principals=["td/ns/a/sa/b", "td/ns/a/*", "*/sa/b", "*"]), []),
        (source(principals=[]), [f"{SOURCE}.principals"]),
        (source(principals=[""]), [f"{SOURCE}.principals[0]"]),
        (source(principals=["td/*/sa"]), [f"{SOURCE}.principals[0]"]),
        (source(principals=["*x*"]), [f"{SOURCE}.principals[0]"]),
        (source(principals=["**"]), [f"{SOURCE}.principals[0]"]),
        (source(notPrincipals=["spiffe://td/ns/a/sa/b"]), [f"{SOURCE}.notPrincipals[0]"]),
        (source(namespaces=["a", "a*", "*a", "*"]), []),
        (source(notNamespaces=["a**"]), [f"{SOURCE}.notNamespaces[0]"]),
        (source(serviceAccounts=["ns/name", "name"]), []),
        (source(serviceAccounts=["*"]), [f"{SOURCE}.serviceAccounts[0]"]),
        (source(serviceAccounts=["a/b*"]), [f"{SOURCE}.serviceAccounts[0]"]),
        (source(serviceAccounts=["/b"]), [f"{SOURCE}.serviceAccounts[0]"]),
        (source(notServiceAccounts=["a/b/c"]), [f"{SOURCE}.notServiceAccounts[0]"]),
        (
            source(serviceAccounts=["a/b"], principals=["td/ns/a/sa/b"]),
            [f"{SOURCE}.serviceAccounts"],
        ),
        (
            source(notServiceAccounts=["a/b"], notNamespaces=["c"]),
            [f"{SOURCE}.notServiceAccounts"],
        ),
        (source(serviceAccounts=["a/b"], ipBlocks=["10.0.0.1"]), []),
        (source(ipBlocks=["10.0.0.1", "10.0.0.0/8", "fd00::/8"]), []),
        (source(ipBlocks=["10.0.0.*"]), [f"{SOURCE}.ipBlocks[0]"]),
        (source(notIpBlocks=["::ffff:10.0.0.1"]), [f"{SOURCE}.notIpBlocks[0]"]),
        (source(remoteIpBlocks=["x"]), [f"{SOURCE}.remoteIpBlocks[0]"]),
        (source(notRemoteIpBlocks=["10.0.0.1"]), []),
        (source(requestPrincipals=["*"], notRequestPrincipals=["iss/sub"]), []),
        (source(user="x"), [f"{SOURCE}.user"]),
    ],
)
def test_sources(spec, found):
    assert paths(AP, spec) == found


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        (operation(), [OPERATION]),
        (operation(ports=["1", "65535"], notPorts=["22"]), []),
        (operation(ports=["0"]), [f"{OPERATION}.ports[0]"]),
        (operation(ports=["65536"]), [f"{OPERATION}.ports[0]"]),
        (operation(ports=["80-90"]), [f"{OPERATION}.ports[0]"]),
        (operation(ports=["8*"]), [f"{OPERATION}.ports[0]"]),
        (operation(ports=["٣"]), [f"{OPERATION}.ports[0]"]),
        (operation(ports=[80]), [f"{OPERATION}.ports[0]"]),
        (operation(hosts=["*.a"], notHosts=["a"], methods=["GET"], notMethods=["P*"]), []),
        (operation(paths=["/a*"], notPaths=["*.html"]), []),
        (operation(paths=["/a/{*}/b"]), [f"{OPERATION}.paths[0]"]),
        (operation(notPaths=["/a/{**}"]), [f"{OPERATION}.notPaths[0]"]),
        (operation(paths=["/a/*/b"]), [f"{OPERATION}.paths[0]"]),
    ],
)
def test_operations(spec, found):
    assert paths(AP, spec) == found


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        (when("source.ip", values=["10.0.0.0/8"], notValues=["10.1.1.1"]), []),
        (when("source.ip"), [f"{WHEN}.values[0]"]),
        (when("remote.ip"), [f"{WHEN}.values[0]"]),
        (when("destination.ip", notValues=["x"]), [f"{WHEN}.notValues[0]"]),
        (when("destination.port", values=["80"]), []),
        (when("destination.port"), [f"{WHEN}.values[0]"]),
        (when("source.namespace", values=["a*"]), []),
        (when("source.principal", values=["spiffe://a"]), [f"{WHEN}.values[0]"]),
        (when("source.serviceAccount", values=["a/b"]), []),
        (when("source.serviceAccount", values=["a/*"]), [f"{WHEN}.values[0]"]),
        (when("connection.sni"), []),
        (when("request.headers[User-Agent]"), []),
        (when("request.auth.principal"), []),
        (when("request.auth.audiences"), []),
        (when("request.auth.presenter"), []),
        (when("request.auth.claims[realm][roles]"), []),
        (when("request.headers[]"), [f"{WHEN}.key"]),
        (when("request.headers[a"), [f"{WHEN}.key"]),
        (when("request.headers"), [f"{WHEN}.key"]),
        (when("request.auth.claims"), [f"{WHEN}.key"]),
        (when("source.labels"), [f"{WHEN}.key"]),
        (when("destination.namespace"), [f"{WHEN}.key"]),
        (when("experimental.envoy.filters.network.x[key]"), [f"{WHEN}.key"]),
        (when("source.ip", values=[]), [f"{WHEN}.values"]),
        ({"rules": [{"when": [{"key": "source.namespace"}]}]}, [WHEN]),
        ({"rules": [{"when": [{"values": ["x"]}]}]}, [f"{WHEN}.key"]),
    ],
)
def test_conditions(spec, found):
    assert paths(AP, spec) == found


def test_the_refusals_read_well():
    assert "AUDIT is not supported yet; use ALLOW or DENY" in words(AP, {"action": "AUDIT"})
    assert "$.spec.targetRefs: not supported yet; use selector" in words(AP, {"targetRefs": []})
    assert "known are source.ip, source.namespace" in words(AP, when("source.ips"))
    spiffe = source(principals=["spiffe://td/ns/a/sa/b"])
    assert "write td/ns/a/sa/b" in words(AP, spiffe)


def test_istios_older_version_is_refused_with_the_one_to_write():
    value = {**manifest(AP, {}), "apiVersion": "security.istio.io/v1beta1"}
    with pytest.raises(InvalidError, match=r"write apiVersion: security\.istio\.io/v1"):
        codec.decode(value)

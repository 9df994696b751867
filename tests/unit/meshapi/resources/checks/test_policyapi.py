"""What a ClusterNetworkPolicy is refused for, by the path that is named."""

import pytest

from tests.unit.meshapi.resources.asking import paths, words

CNP = "ClusterNetworkPolicy"
EVERYBODY = {"namespaces": {}}
IN, OUT = "spec.ingress[0]", "spec.egress[0]"


def policy(**spec):
    return {"tier": "Admin", "priority": 10, "subject": EVERYBODY, **spec}


def ingress(peer=EVERYBODY, **rule):
    return policy(ingress=[{"action": "Deny", "from": [peer], **rule}])


def egress(*peers, action="Accept", **rule):
    return policy(egress=[{"action": action, "to": list(peers), **rule}])


def port(**destination):
    return {"tcp": {"destinationPort": destination}}


def pods(**more):
    return {"pods": {"podSelector": {}, **more}}


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        (policy(), []),
        (policy(tier="Baseline", priority=0), []),
        (policy(priority=1000), []),
        (policy(priority=1001), ["spec.priority"]),
        (policy(priority=-1), ["spec.priority"]),
        (policy(priority="1"), ["spec.priority"]),
        (policy(tier="admin"), ["spec.tier"]),
        ({"priority": 1, "subject": EVERYBODY}, ["spec.tier"]),
        ({"tier": "Admin", "subject": EVERYBODY}, ["spec.priority"]),
        ({"tier": "Admin", "priority": 1}, ["spec.subject"]),
        (policy(subject={}), ["spec.subject"]),
        (policy(subject=pods()), []),
        (policy(subject=pods(namespaceSelector={"matchLabels": {"a": "b"}})), []),
        (policy(subject={**EVERYBODY, **pods()}), ["spec.subject"]),
        (policy(subject={"pods": {}}), ["spec.subject.pods.podSelector"]),
        (
            policy(subject={"namespaces": {"matchLabels": {"-": "b"}}}),
            ["spec.subject.namespaces.matchLabels['-']"],
        ),
        (policy(subject={"nodes": {}}), ["spec.subject.nodes"]),
    ],
)
def test_tier_priority_and_subject(spec, found):
    assert paths(CNP, spec) == found


def test_it_belongs_to_no_namespace():
    assert paths(CNP, policy(), namespace="shop") == ["metadata.namespace"]


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        (ingress(), []),
        (ingress(pods()), []),
        (ingress(name="n" * 100), []),
        (ingress(name="n" * 101), [f"{IN}.name"]),
        (ingress(action="Allow"), [f"{IN}.action"]),
        (ingress({}), [f"{IN}.from[0]"]),
        (ingress({**EVERYBODY, **pods()}), [f"{IN}.from[0]"]),
        (ingress({"networks": ["10.0.0.0/8"]}), [f"{IN}.from[0].networks"]),
        (policy(ingress=[{"action": "Deny", "from": []}]), [f"{IN}.from"]),
        (policy(ingress=[{"action": "Deny"}]), [f"{IN}.from"]),
        (policy(ingress=[{"action": "Deny", "from": [EVERYBODY] * 25}] * 25), []),
        (policy(ingress=[{"action": "Deny", "from": [EVERYBODY]}] * 26), ["spec.ingress"]),
        (policy(ingress=[{"action": "Deny", "from": [EVERYBODY] * 26}]), [f"{IN}.from"]),
        (policy(egress=[{"action": "Deny", "to": [EVERYBODY]}] * 26), ["spec.egress"]),
        (policy(egress=[{"action": "Deny", "to": [EVERYBODY] * 26}]), [f"{OUT}.to"]),
    ],
)
def test_rules_and_their_number(spec, found):
    assert paths(CNP, spec) == found


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        (egress(EVERYBODY), []),
        (egress({"nodes": {}}), []),
        (egress({"nodes": {"matchLabels": {"": "x"}}}), [f"{OUT}.to[0].nodes.matchLabels['']"]),
        (egress({"networks": ["10.0.0.0/8", "fd00::/8", "10.1.2.3/32"]}), []),
        (egress({"networks": []}), [f"{OUT}.to[0].networks"]),
        (egress({"networks": [f"10.{i}.0.0/16" for i in range(26)]}), [f"{OUT}.to[0].networks"]),
        (egress({"networks": ["10.0.0.1"]}), [f"{OUT}.to[0].networks[0]"]),
        (egress({"networks": ["10.0.0.0/33"]}), [f"{OUT}.to[0].networks[0]"]),
        (egress({"networks": ["::ffff:10.0.0.0/104"]}), [f"{OUT}.to[0].networks[0]"]),
        (egress({"networks": ["10.0.0.0/8"] * 2}), [f"{OUT}.to[0].networks[1]"]),
        (egress({"domainNames": ["example.org", "*.example.org", "a_b.c.d."]}), []),
        (egress({"domainNames": ["*"]}), [f"{OUT}.to[0].domainNames[0]"]),
        (egress({"domainNames": ["*a.example.org"]}), [f"{OUT}.to[0].domainNames[0]"]),
        (egress({"domainNames": ["a.*.org"]}), [f"{OUT}.to[0].domainNames[0]"]),
        (egress({"domainNames": ["org"]}), [f"{OUT}.to[0].domainNames[0]"]),
        (egress({"domainNames": ["a.b\n"]}), [f"{OUT}.to[0].domainNames[0]"]),
        (egress({"domainNames": ["a.b", "a.b"]}), [f"{OUT}.to[0].domainNames[1]"]),
        (egress({"domainNames": ["a.b"]}, action="Deny"), [f"{OUT}.to[0].domainNames"]),
        (egress({"domainNames": ["a.b"]}, action="Pass"), [f"{OUT}.to[0].domainNames"]),
        (egress({"domainNames": ["a.b"], "networks": ["::/0"]}), [f"{OUT}.to[0]"]),
    ],
)
def test_where_egress_may_lead(spec, found):
    assert paths(CNP, spec) == found


PROTOCOL = f"{IN}.protocols[0]"


@pytest.mark.parametrize(
    ("protocols", "found"),
    [
        ([port(number=80)], []),
        ([{"udp": {"destinationPort": {"range": {"start": 1, "end": 65535}}}}], []),
        ([{"destinationNamedPort": "http"}], []),
        ([], [f"{IN}.protocols"]),
        ([port(number=1)] * 25, []),
        ([port(number=1)] * 26, [f"{IN}.protocols"]),
        ([{}], [PROTOCOL]),
        ([{"destinationNamedPort": "http", **port(number=80)}], [PROTOCOL]),
        ([{"tcp": {}}], [f"{PROTOCOL}.tcp.destinationPort"]),
        ([port()], [f"{PROTOCOL}.tcp.destinationPort"]),
        ([port(number=0)], [f"{PROTOCOL}.tcp.destinationPort.number"]),
        (
            [port(number=1, range={"start": 1, "end": 2})],
            [f"{PROTOCOL}.tcp.destinationPort"],
        ),
        ([port(range={"start": 2, "end": 2})], [f"{PROTOCOL}.tcp.destinationPort.range.end"]),
        ([port(range={"start": 2})], [f"{PROTOCOL}.tcp.destinationPort.range.end"]),
        ([{"destinationNamedPort": ""}], [f"{PROTOCOL}.destinationNamedPort"]),
        ([{"destinationNamedPort": "80"}], [f"{PROTOCOL}.destinationNamedPort"]),
        ([{"sctp": {"destinationPort": {"number": 7}}}], [f"{PROTOCOL}.sctp"]),
        ([{"icmp": {}}], [f"{PROTOCOL}.icmp"]),
    ],
)
def test_protocols(protocols, found):
    assert paths(CNP, ingress(protocols=protocols)) == found


@pytest.mark.parametrize(
    "peer", [{"nodes": {}}, {"networks": ["::/0"]}, {"domainNames": ["a.example.org"]}]
)
def test_only_workloads_have_named_ports(peer):
    named = [port(number=1), {"destinationNamedPort": "http"}]
    at = [f"{OUT}.protocols[1].destinationNamedPort"]
    assert paths(CNP, egress(peer, protocols=named)) == at
    assert paths(CNP, egress(EVERYBODY, peer, protocols=named)) == at
    assert paths(CNP, egress(EVERYBODY, pods(), protocols=named)) == []


def test_the_refusals_read_well():
    assert "Hoplite tells no SCTP ports apart" in words(CNP, ingress(protocols=[{"sctp": {}}]))
    assert "more than 25; at most 25" in words(CNP, ingress(protocols=[{"sctp": {}}] * 26))
    assert "use Accept or Deny or Pass" in words(CNP, ingress(action="Log"))
    assert "holds namespaces and pods" in words(CNP, ingress({**EVERYBODY, **pods()}))

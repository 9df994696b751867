"""What of an authorization rule can be asked of a connection that is no HTTP request."""

import pytest

from meshapi import codec
from meshapi.resources.authorization import (
    AuthorizationRule,
    From,
    Operation,
    Source,
    To,
    When,
    http_only,
    is_http_key,
    layer4_rule,
    value_matches,
)
from tests.unit.meshapi.resources.asking import manifest


def rule(**parts):
    policy = codec.decode(manifest("AuthorizationPolicy", {"rules": [parts]}))
    return policy.spec.rules[0]


MIXED = rule(
    **{
        "from": [
            {"source": {"namespaces": ["a"], "requestPrincipals": ["*"]}},
            {"source": {"notRemoteIpBlocks": ["10.0.0.1"]}},
        ],
        "to": [
            {"operation": {"ports": ["80"]}},
            {"operation": {"ports": ["81"], "methods": ["GET"], "notPaths": ["/x"]}},
        ],
        "when": [
            {"key": "request.headers[a]", "values": ["b"]},
            {"key": "source.ip", "values": ["10.0.0.0/8"]},
            {"key": "connection.sni", "notValues": ["b"]},
        ],
    }
)


def test_http_only_fields_are_named_by_their_paths():
    assert http_only(MIXED) == (
        "from[0].source.requestPrincipals",
        "from[1].source.notRemoteIpBlocks",
        "to[1].operation.methods",
        "to[1].operation.notPaths",
        "when[0].key",
        "when[2].key",
    )


def test_a_rule_for_connections_stays_as_it_is():
    plain = rule(to=[{"operation": {"ports": ["80"], "notPorts": ["81"]}}])
    assert http_only(plain) == ()
    assert layer4_rule("ALLOW", plain) is plain
    assert layer4_rule("DENY", plain) is plain
    assert layer4_rule("ALLOW", AuthorizationRule()) == AuthorizationRule()


def test_an_allow_rule_that_asks_for_http_matches_no_connection():
    assert layer4_rule("ALLOW", MIXED) is None


def test_a_deny_rule_that_asks_for_http_goes_by_the_rest():
    assert layer4_rule("DENY", MIXED) == AuthorizationRule(
        from_=(From(source=Source(namespaces=("a",))), From(source=Source())),
        to=(
            To(operation=Operation(ports=("80",))),
            To(operation=Operation(ports=("81",))),
        ),
        when=(When(key="source.ip", values=("10.0.0.0/8",)),),
    )


@pytest.mark.parametrize(
    ("key", "http"),
    [
        ("request.headers[x]", True),
        ("request.auth.claims[x]", True),
        ("request.auth.principal", True),
        ("connection.sni", True),
        ("remote.ip", True),
        ("source.ip", False),
        ("destination.port", False),
        ("request.auth.principals", False),
    ],
)
def test_which_attributes_are_https(key, http):
    assert is_http_key(key) == http


@pytest.mark.parametrize(
    ("pattern", "value", "matches"),
    [
        ("abc", "abc", True),
        ("abc", "abcd", False),
        ("abc*", "abc", True),
        ("abc*", "abcd", True),
        ("abc*", "xabc", False),
        ("*abc", "xabc", True),
        ("*abc", "abc", True),
        ("*abc", "abcx", False),
        ("*", "x", True),
        ("*", "", False),
        ("abc", "ABC", False),
    ],
)
def test_values_match_as_istio_says(pattern, value, matches):
    assert value_matches(pattern, value) == matches

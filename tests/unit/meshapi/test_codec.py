import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshapi import codec
from meshapi.errors import HopliteError, InvalidError
from meshapi.resources import Service

WEB = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "web", "namespace": "shop"},
    "spec": {"ports": [{"port": 80}], "clusterIPs": ["10.96.0.1"], "ipFamilies": ["IPv4"]},
}


def with_(**changes):
    return {**WEB, **changes}


def test_a_resource_survives_the_way_there_and_back():
    service = codec.decode(WEB)
    assert isinstance(service, Service)
    assert service.spec.cluster_ips == ("10.96.0.1",)
    assert codec.decode_json(codec.encode_json(service)) == service


def test_what_is_not_set_is_left_out():
    encoded = codec.encode(codec.decode(WEB))
    assert encoded["spec"]["ports"] == [{"port": 80, "protocol": "TCP"}]
    assert "selector" not in encoded["spec"]


@pytest.mark.parametrize(
    ("value", "path", "words"),
    [
        ([], "$", "expected an object"),
        ({}, "$.apiVersion", "missing"),
        ({"apiVersion": "v1"}, "$.kind", "missing"),
        ({"apiVersion": "v1", "kind": 7}, "$.kind", "not a text"),
        (with_(kind="Servce"), "$.kind", "did you mean Service?"),
        (with_(apiVersion="v2"), "$.apiVersion", "write apiVersion: v1"),
        (with_(kind="Pod"), "$.kind", "known kinds are"),
        ({"apiVersion": "v1", "kind": "Service"}, "$.metadata", "missing"),
        (with_(spec={}), "$.spec.ports", "missing"),
        (with_(spec={"ports": [{"port": 0}]}), "$.spec.ports[0].port", ">= 1"),
        (with_(spec={"ports": [{"port": "80"}]}), "$.spec.ports[0].port", "expected `int`"),
        (with_(spec={"ports": [], "x": 1}), "$.spec.x", "unknown field"),
        (
            with_(spec={"ports": [{"port": 1, "protocol": "tcp"}]}),
            "$.spec.ports[0].protocol",
            "TCP",
        ),
        (with_(spec={"ports": []}), "$.spec.ports", "empty"),
        (with_(metadata={"name": "web"}), "$.metadata.namespace", "not a namespace's name"),
        (
            with_(metadata={"name": "web", "labels": {1: "x"}}),
            "$.metadata.labels",
            "expected `str`",
        ),
    ],
)
def test_every_refusal_has_a_path(value, path, words):
    with pytest.raises(InvalidError) as caught:
        codec.decode(value)
    problem = caught.value.problems[0]
    assert problem.path == path
    assert words in str(problem)


def test_all_problems_of_an_object_are_told():
    wrong = with_(spec={"ports": [{"port": 80}, {"port": 80}], "clusterIP": "x"})
    with pytest.raises(InvalidError) as caught:
        codec.decode(wrong)
    assert [p.path for p in caught.value.problems] == [
        "$.spec.ports[0].name",
        "$.spec.ports[1].port",
        "$.spec.ports[1].name",
        "$.spec.clusterIP",
    ]
    assert str(caught.value).startswith("Service shop/web: $.spec.ports[0].name: missing; ")


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b"nul", b"[" * 100_000, b'{"a": 1} x'])
def test_what_is_not_json_is_refused(text):
    with pytest.raises(InvalidError, match=r"not JSON|nested too deeply"):
        codec.parse_json(text)


def test_endless_nesting_is_refused():
    value = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}}
    value["metadata"]["labels"] = value
    with pytest.raises(InvalidError):
        codec.decode(value)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.dictionaries(st.sampled_from(["apiVersion", "kind", "metadata", "spec", "x"]), values))
def test_nothing_but_refusals_comes_of_nonsense(value):
    for candidate in (value, {**WEB, **value}, {**value, "apiVersion": "v1", "kind": "Service"}):
        with contextlib.suppress(HopliteError):
            codec.decode(candidate)

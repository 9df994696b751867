"""Annotations that say how a policy is enforced."""

import pytest

from meshapi import codec
from meshapi.resources.options import Cut, Drain, Keep, PolicyOptions, options_of
from tests.unit.meshapi.resources.asking import manifest, paths, words

SPECS = {
    "NetworkPolicy": {"podSelector": {}},
    "ClusterNetworkPolicy": {"tier": "Admin", "priority": 1, "subject": {"namespaces": {}}},
    "AuthorizationPolicy": {},
}
kinds = pytest.mark.parametrize("kind", SPECS)
AT = "metadata.annotations['mesh.hoplite.io/{}']"


def ours(**options):
    return {f"mesh.hoplite.io/{name}": value for name, value in options.items()}


def options(kind, annotations):
    return options_of(codec.decode(manifest(kind, SPECS[kind], annotations=annotations)))


@kinds
@pytest.mark.parametrize(
    ("annotations", "meant"),
    [
        ({}, PolicyOptions(audit=False, strict=False, established=Cut())),
        ({"example.org/mode": "x"}, PolicyOptions()),
        (ours(mode="enforce", identity="permissive", established="cut"), PolicyOptions()),
        (ours(mode="audit"), PolicyOptions(audit=True)),
        (ours(identity="strict"), PolicyOptions(strict=True)),
        (ours(established="keep"), PolicyOptions(established=Keep())),
        (ours(established="drain 30"), PolicyOptions(established=Drain(30))),
        (ours(established="drain 86400"), PolicyOptions(established=Drain(86_400))),
    ],
)
def test_options(kind, annotations, meant):
    assert options(kind, annotations) == meant


@kinds
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mode", "Audit"),
        ("mode", ""),
        ("mode", "off"),
        ("identity", "true"),
        ("established", "drain"),
        ("established", "drain 0"),
        ("established", "drain 86401"),
        ("established", "drain 30s"),
        ("established", "drain  30"),
        ("established", "drain 30\n"),
        ("established", "drain ٣"),
        ("established", "reset"),
        ("mod", "audit"),
        ("Mode", "audit"),
        ("anything", ""),
    ],
)
def test_what_is_not_known_is_refused(kind, name, value):
    assert paths(kind, SPECS[kind], annotations=ours(**{name: value})) == [AT.format(name)]


@kinds
@pytest.mark.parametrize("key", ["hoplite.io/mode", "policy.hoplite.io/x", "mesh.hoplite.io/"])
def test_no_key_of_ours_is_taken_for_a_strangers(kind, key):
    found = paths(kind, SPECS[kind], annotations={key: "audit"})
    assert found == [f"metadata.annotations[{key!r}]"]


def test_a_typo_is_answered_with_what_was_meant():
    text = words("NetworkPolicy", {"podSelector": {}}, annotations=ours(identiy="strict"))
    assert "did you mean mesh.hoplite.io/identity?" in text


def test_other_kinds_may_carry_what_they_like():
    assert paths("Namespace", {}, annotations=ours(anything="x")) == []


def test_dry_run_is_audit():
    assert options("AuthorizationPolicy", {"istio.io/dry-run": "true"}).audit
    assert not options("AuthorizationPolicy", {"istio.io/dry-run": "false"}).audit
    assert options("AuthorizationPolicy", {"istio.io/dry-run": "true", **ours(mode="audit")}).audit


@pytest.mark.parametrize(
    ("kind", "annotations"),
    [
        ("AuthorizationPolicy", {"istio.io/dry-run": "yes"}),
        ("AuthorizationPolicy", {"istio.io/dry-run": "true", **ours(mode="enforce")}),
        ("AuthorizationPolicy", {"istio.io/dry-run": "false", **ours(mode="audit")}),
        ("NetworkPolicy", {"istio.io/dry-run": "true"}),
        ("ClusterNetworkPolicy", {"istio.io/dry-run": "false"}),
    ],
)
def test_dry_run_that_cannot_be_acted_on_is_refused(kind, annotations):
    found = paths(kind, SPECS[kind], annotations=annotations)
    assert found == ["metadata.annotations['istio.io/dry-run']"]

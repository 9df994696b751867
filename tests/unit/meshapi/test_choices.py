import pytest

from meshapi.choices import allowed
from meshapi.resources import ClusterNetworkPolicy, HTTPRoute, NetworkPolicy, Service


@pytest.mark.parametrize(
    ("kind", "path", "words"),
    [
        (Service, "$.spec.ports[0].protocol", ("TCP", "UDP")),
        (Service, "$.spec.ipFamilies[1]", ("IPv4", "IPv6")),
        (
            Service,
            "$.spec.ipFamilyPolicy",
            ("SingleStack", "PreferDualStack", "RequireDualStack"),
        ),
        (Service, "$.spec.clusterIP", ()),
        (Service, "$.nix.nix[0]", ()),
        (Service, "$", ()),
        (
            HTTPRoute,
            "$.spec.rules[0].matches[0].path.type",
            ("Exact", "PathPrefix", "RegularExpression"),
        ),
        (NetworkPolicy, "$.spec.policyTypes[0]", ("Ingress", "Egress")),
        (ClusterNetworkPolicy, "$.spec.ingress[3].action", ("Accept", "Deny", "Pass")),
        (ClusterNetworkPolicy, "$.spec.tier", ("Admin", "Baseline")),
    ],
)
def test_the_words_of_a_field(kind, path, words):
    assert allowed(kind, path) == words

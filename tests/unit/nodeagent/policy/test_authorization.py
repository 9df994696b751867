from __future__ import annotations

from dataclasses import replace

import pytest

from meshapi.wire import MeshSettings
from nodeagent.policy.members import WORLD, Member
from tests.unit.nodeagent.policy.asking import brief, decide, policies, workload

CACHE = workload("shop", "cache", app="cache")
WEB = workload("shop", "web")
DEV = workload("dev", "web")


def policy(
    rules: str = "",
    action: str = "ALLOW",
    name: str = "ap",
    namespace: str = "shop",
    **annotations: str,
) -> str:
    notes = ", ".join(
        f"{'istio.io/dry-run' if k == 'dry_run' else 'mesh.hoplite.io/' + k}: '{v}'"
        for k, v in annotations.items()
    )
    return f"""---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: {name}, namespace: {namespace}, annotations: {{{notes}}}}}
spec: {{action: {action}, rules: [{rules}]}}
"""


def said(text: str, source: Member = WEB, **more: object) -> str:
    return brief(decide(policies(text), source, CACHE, **more))  # type: ignore[arg-type]


def allows(text: str, source: Member = WEB, **more: object) -> bool:
    return said(text, source, **more).startswith("ALLOW")


def source_of(fields: str) -> str:
    return f"{{from: [{{source: {{{fields}}}}}]}}"


def test_without_rules_nothing_is_allowed() -> None:
    assert said(policy()) == "DENY AUTHORIZATION_DENIED shop/ap no rule allows it"


def test_an_empty_rule_allows_everything() -> None:
    assert said(policy("{}")) == "ALLOW POLICY_ALLOW shop/ap rules[0]"


def test_deny_goes_before_allow_whatever_the_names() -> None:
    text = policy("{}", name="a") + policy("{}", "DENY", name="b")
    assert said(text) == "DENY AUTHORIZATION_DENIED shop/b rules[0]"


def test_deny_alone_leaves_the_rest_open() -> None:
    text = policy(source_of("namespaces: [dev]"), "DENY")
    assert said(text, DEV) == "DENY AUTHORIZATION_DENIED shop/ap rules[0]"
    assert said(text, WEB) == "ALLOW NO_POLICY"


def test_rules_of_several_policies_add_up() -> None:
    text = policy(source_of("namespaces: [dev]"), name="a")
    text += policy(source_of("namespaces: [shop]"), name="b")
    assert [allows(text, s) for s in (WEB, DEV, WORLD)] == [True, True, False]


def test_it_holds_in_addition_to_what_an_admin_accepts() -> None:
    admin = """---
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: admin}
spec:
  tier: Admin
  priority: 0
  subject: {namespaces: {}}
  ingress: [{action: Accept, from: [{namespaces: {}}]}]
"""
    assert said(policy() + admin).startswith("DENY AUTHORIZATION_DENIED")


# -- whom it is about ------------------------------------------------------------------------------


def selects(namespace: str, labels: str, subject: Member) -> bool:
    text = policy(namespace=namespace).replace("spec: {", f"spec: {{selector: {labels}, ")
    held = policies(text, MeshSettings(root_namespace="root"))
    return held.chains(subject, "ingress") is not None


@pytest.mark.parametrize(
    ("namespace", "labels", "selected"),
    [
        ("shop", "{}", True),
        ("dev", "{}", False),
        ("root", "{}", True),
        ("shop", "{matchLabels: {app: cache}}", True),
        ("root", "{matchLabels: {app: cache}}", True),
        ("root", "{matchLabels: {app: web}}", False),
        ("shop", "{matchLabels: {app: cache, tier: a}}", False),
    ],
)
def test_whom_a_policy_is_about(namespace: str, labels: str, *, selected: bool) -> None:
    assert selects(namespace, labels, CACHE) == selected


def test_addresses_have_no_policies() -> None:
    assert not selects("root", "{}", WORLD)


def test_nobodys_egress_is_authorized() -> None:
    assert policies(policy()).chains(CACHE, "egress") is None


# -- who calls -------------------------------------------------------------------------------------

PRINCIPAL = "hoplite.local/ns/shop/sa/web"


@pytest.mark.parametrize(
    ("fields", "web", "dev", "world"),
    [
        (f"principals: [{PRINCIPAL}]", True, False, False),
        ("principals: [cluster.local/ns/shop/sa/web]", True, False, False),
        ("principals: [other.example/ns/shop/sa/web]", False, False, False),
        ("principals: ['*/sa/web']", True, True, False),
        ("principals: ['hoplite.local/ns/d*']", False, True, False),
        ("principals: ['*']", True, True, False),
        (f"notPrincipals: [{PRINCIPAL}]", False, True, True),
        ("notPrincipals: [cluster.local/ns/shop/sa/web]", False, True, True),
        ("notPrincipals: ['*']", False, False, True),
        ("namespaces: ['sh*', x]", True, False, False),
        ("namespaces: ['*']", True, True, False),
        ("notNamespaces: ['*op']", False, True, True),
        ("serviceAccounts: [web]", True, False, False),
        ("serviceAccounts: [dev/web]", False, True, False),
        ("notServiceAccounts: [web]", False, True, True),
        ("ipBlocks: [10.0.0.0/8, 192.0.2.1]", True, False, False),
        ("notIpBlocks: [10.0.0.0/8]", False, True, True),
        ("namespaces: [shop], notIpBlocks: [10.0.0.0/8]", False, False, False),
        ("principals: ['*'], notNamespaces: [dev]", True, False, False),
    ],
)
def test_sources(fields: str, *, web: bool, dev: bool, world: bool) -> None:
    inside = replace(WEB, blocks=frozenset({"10.0.0.0/8"}))
    text = policy(source_of(fields))
    assert [allows(text, s) for s in (inside, DEV, WORLD)] == [web, dev, world]


def test_a_name_alone_is_of_the_policys_namespace_even_in_the_root() -> None:
    text = policy(source_of("serviceAccounts: [web]"), namespace="hoplite-system")
    assert not allows(text, WEB)
    assert allows(text, workload("hoplite-system", "web"))


def test_any_source_is_enough_and_each_field_of_it_is_needed() -> None:
    both = "{from: [{source: {namespaces: [dev]}}, {source: {principals: ['*/sa/web']}}]}"
    assert [allows(policy(both), s) for s in (WEB, DEV, WORLD)] == [True, True, False]


PORT = "{{key: destination.port, values: ['{}', '{}']}}"

# -- what is asked for -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "ports"),
    [
        ("{to: [{operation: {ports: ['80', '81']}}]}", [80, 81]),
        ("{to: [{operation: {ports: ['80', '81'], notPorts: ['81']}}]}", [80]),
        ("{to: [{operation: {notPorts: ['80']}}]}", [81, 82]),
        ("{to: [{operation: {ports: ['80']}}, {operation: {ports: ['82']}}]}", [80, 82]),
        ("{when: [{key: destination.port, values: ['80', '82'], notValues: ['82']}]}", [80]),
        (
            "{to: [{operation: {ports: ['80']}}], when: [{key: destination.port, values: ['81']}]}",
            [],
        ),
        (f"{{when: [{PORT.format('80', '81')}, {PORT.format('81', '82')}]}}", [81]),
    ],
)
def test_ports(rule: str, ports: list[int]) -> None:
    for protocol in ("TCP", "UDP"):
        got = [p for p in (80, 81, 82) if allows(policy(rule), port=p, protocol=protocol)]
        assert got == ports


def test_only_tcp_and_udp_have_ports() -> None:
    wanted = policy("{to: [{operation: {ports: ['80']}}]}")
    unwanted = policy("{to: [{operation: {notPorts: ['80']}}]}")
    assert not allows(wanted, protocol="OTHER")
    assert allows(unwanted, protocol="OTHER")


@pytest.mark.parametrize("field", ["methods: [GET]", "notPaths: [/x]", "hosts: [a]"])
def test_what_only_http_has_never_allows_and_is_no_excuse(field: str) -> None:
    rule = f"{{to: [{{operation: {{{field}, ports: ['80']}}}}]}}"
    assert not allows(policy(rule), port=80)
    denying = policy(rule, "DENY")
    assert [allows(denying, port=p) for p in (80, 81)] == [False, True]


def test_one_source_that_only_http_has_spoils_an_allow_rule() -> None:
    rule = "{from: [{source: {namespaces: [shop]}}, {source: {requestPrincipals: ['*']}}]}"
    assert not allows(policy(rule))
    assert not allows(policy(rule, "DENY"), WORLD)


@pytest.mark.parametrize("key", ["request.headers[x]", "remote.ip", "connection.sni"])
def test_conditions_that_only_http_has(key: str) -> None:
    value = "10.0.0.1" if key == "remote.ip" else "x"
    rule = f"{{when: [{{key: '{key}', values: ['{value}']}}]}}"
    assert not allows(policy(rule))
    assert not allows(policy(rule, "DENY"))


@pytest.mark.parametrize(
    ("condition", "web", "dev", "world"),
    [
        ("key: source.namespace, values: [shop]", True, False, False),
        ("key: source.namespace, notValues: [shop]", False, True, True),
        ("key: source.principal, values: ['*'], notValues: ['*/sa/x']", True, True, False),
        ("key: source.serviceAccount, values: [web, dev/web]", True, True, False),
        ("key: source.ip, notValues: [10.0.0.0/8]", False, True, True),
    ],
)
def test_conditions(condition: str, *, web: bool, dev: bool, world: bool) -> None:
    inside = replace(WEB, blocks=frozenset({"10.0.0.0/8"}))
    text = policy(f"{{when: [{{{condition}}}]}}")
    assert [allows(text, s) for s in (inside, DEV, WORLD)] == [web, dev, world]


DESTINATION = policy("{when: [{key: destination.ip, values: [10.0.0.0/8]}]}", "DENY")


@pytest.mark.parametrize(("blocks", "allowed"), [({"10.0.0.0/8"}, False), (set(), True)])
def test_the_destinations_address(blocks: set[str], *, allowed: bool) -> None:
    cache = replace(CACHE, blocks=frozenset(blocks))
    assert decide(policies(DESTINATION), WEB, cache).allows == allowed


def test_both_ip_versions_of_a_workload_are_closed_by_a_policy_about_one_of_them() -> None:
    held = policies(DESTINATION)
    for blocks in ({"10.0.0.0/8"}, set()):
        member = replace(CACHE, blocks=frozenset(blocks))
        assert held.chains(member, "ingress") is not None


# -- options ---------------------------------------------------------------------------------------


def test_audit_and_dry_run_only_tell() -> None:
    for options in ({"mode": "audit"}, {"dry_run": "true"}):
        assert said(policy(**options)) == "AUDIT WOULD_DENY shop/ap no rule allows it"
        text = policy("{}", "DENY", **options)
        assert said(text) == "AUDIT WOULD_DENY shop/ap rules[0]"


def test_a_policy_in_audit_mode_does_not_allow() -> None:
    text = policy("{}", name="a", mode="audit") + policy(name="b")
    assert said(text) == "DENY AUTHORIZATION_DENIED shop/b no rule allows it"


def test_a_strict_consent_is_for_the_authenticated_unless_another_policy_consents_too() -> None:
    strict = policy("{}", name="a", identity="strict")
    assert said(strict) == "ALLOW POLICY_ALLOW shop/a rules[0] strict"
    assert said(strict + policy("{}", name="b")) == "ALLOW POLICY_ALLOW shop/b rules[0]"

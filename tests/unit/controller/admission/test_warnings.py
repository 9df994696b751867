import pytest


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (
            lambda m: m.service("x"),
            "Service shop/x: no workload matches its selector; connections to it are refused",
        ),
        (lambda m: m.service("x", selector={}), "has no selector"),
        (
            lambda m: m.service(ports=[{"port": 80, "targetPort": "http"}]),
            "$.spec.ports[0].targetPort: no workload that it selects has a port named 'http'",
        ),
        (lambda m: m.route("r", "nix"), "parentRefs[0]: Service shop/nix does not exist"),
        (lambda m: m.route("r", "web", "nix"), "backendRefs[0]: Service shop/nix does not exist"),
        (lambda m: m.route("r", "web", "web", port=1), "Service shop/web has no port 1"),
        (lambda m: m.service("x", clusterIP="None"), "its name has no address until one does"),
        (lambda m: m.service("x", clusterIP="None", selector={}), "its name has no address"),
        (lambda m: m.policy("p", app="nix"), "selects no workload yet"),
        (lambda m: m.authorization("p", app="nix"), "AuthorizationPolicy shop/p: it selects no"),
        (
            lambda m: m.cluster_policy("p", {"namespaces": {"matchLabels": {"a": "b"}}}),
            "ClusterNetworkPolicy p: it selects no workload yet",
        ),
        (
            lambda m: m.traffic("p", "web", "nix"),
            "TrafficPolicy shop/p: $.spec.targetRefs[1]: Service shop/nix does not exist",
        ),
        (
            lambda m: m.quarantine("q", "nix"),
            (
                "Quarantine shop/q: $.spec.workload: Workload shop/nix does not exist; "
                "it will be quarantined from the moment it does"
            ),
        ),
        (
            lambda m: m.quarantine("q", "web-1", allowFrom=[{"namespace": "a", "workload": "b"}]),
            "$.spec.allowFrom[0]: Workload a/b does not exist",
        ),
        (
            lambda m: m.blocks("b", "203.0.113.0/24", "192.0.2.0/24"),
            (
                "BlockList b: $.spec.cidrs[1]: 192.0.2.0/24 holds MeshNode n1's 192.0.2.1; "
                "nobody will reach them"
            ),
        ),
        (lambda m: m.blocks("b", "0.0.0.0/0"), "and 2 more of the mesh's own"),
        (lambda m: m.workload("x", "n9"), "n9 is not a node of this mesh yet"),
    ],
)
def test_what_is_probably_not_meant_is_said(make, wanted, words):
    state = make.state(
        make.node("n1", "192.0.2.1"), make.workload("web-1", address="10.0.0.1"), make.service()
    )
    warnings = make.plan(state, wanted(make)).warnings
    assert len(warnings) == 1
    assert words in warnings[0]


def test_a_sound_set_of_objects_gives_no_warning(make):
    port = {"ports": [{"port": 8080, "name": "http"}]}
    plan = make.plan(
        make.state(),
        make.route("web", "web", "web"),
        make.policy("p", app="web"),
        make.service(ports=[{"port": 80, "targetPort": "http"}]),
        make.workload("web-1", address="10.0.0.1", spec=port),
        make.node("n1"),
        make.traffic("web"),
        make.quarantine("web-1", allowFrom=[{"cidr": "203.0.113.0/24"}]),
        make.blocks("bad", "203.0.113.0/24", "2001:db8::/32"),
        make.cluster_policy("a", {"namespaces": {}}),
        make.cluster_policy("b", {"namespaces": {}}, priority=2),
        make.cluster_policy("c", {"namespaces": {}}, tier="Baseline"),
        make.authorization("all"),
    )
    assert plan.warnings == ()


def test_two_policies_of_one_tier_and_priority_are_named(make):
    state = make.state(
        make.workload("web-1", address="10.0.0.1"),
        make.node("n1"),
        make.cluster_policy("a", {"namespaces": {}}),
        make.cluster_policy("b", {"namespaces": {}}, priority=7),
    )
    same = make.plan(state, make.cluster_policy("c", {"namespaces": {}}))
    assert same.warnings == (
        (
            "ClusterNetworkPolicy c: $.spec.priority: a of tier Admin has priority 1 as well; "
            "which one goes first is not defined"
        ),
    )
    moved = make.plan(state, make.cluster_policy("a", {"namespaces": {}}, priority=7))
    assert "b of tier Admin has priority 7" in moved.warnings[0]
    assert make.plan(state, make.cluster_policy("a", {"namespaces": {}})).warnings == ()


GET = {"operation": {"ports": ["80"], "methods": ["GET"]}}
TOKEN = {"key": "request.auth.principal", "values": ["*"]}


@pytest.mark.parametrize(
    ("action", "rule", "words"),
    [
        (
            "ALLOW",
            {"to": [GET], "when": [TOKEN]},
            [
                (
                    "to[0].operation.methods: only HTTP requests have this; "
                    "at layer 4 this ALLOW rule never matches"
                ),
                (
                    "when[0].key: only HTTP requests have this; "
                    "at layer 4 this ALLOW rule never matches"
                ),
            ],
        ),
        (
            "DENY",
            {"to": [GET]},
            [
                (
                    "to[0].operation.methods: only HTTP requests have this; "
                    "at layer 4 this DENY rule ignores it"
                )
            ],
        ),
        (
            "DENY",
            {"when": [TOKEN]},
            [
                (
                    "when[0].key: only HTTP requests have this; "
                    "at layer 4 this DENY rule ignores it, and so refuses every connection"
                )
            ],
        ),
        ("DENY", {"to": [{"operation": {"ports": ["80"]}}]}, []),
    ],
)
def test_what_only_http_requests_have_is_told(make, action, rule, words):
    state = make.state(make.node("n1"), make.workload("web-1"))
    policy = make.resource("AuthorizationPolicy", "p", {"action": action, "rules": [{}, rule]})
    assert make.plan(state, policy).warnings == tuple(
        f"AuthorizationPolicy shop/p: $.spec.rules[1].{w}" for w in words
    )


@pytest.mark.parametrize(
    ("check", "warned"),
    [({}, True), ({"port": 8080}, False), ({"protocol": "HTTP"}, True)],
)
def test_udp_ports_are_not_asked_for_their_health(make, check, warned):
    ports = [{"port": 53, "name": "tcp"}, {"port": 53, "name": "udp", "protocol": "UDP"}]
    state = make.state(make.node("n1"), make.workload("dns-1"), make.service("dns", ports=ports))
    refs = [{"kind": "Service", "name": "dns"}]
    policy = make.resource("TrafficPolicy", "dns", {"targetRefs": refs, "healthCheck": check})
    warnings = make.plan(state, policy).warnings
    assert len(warnings) == warned
    assert all("the UDP ports of Service shop/dns are not checked" in w for w in warnings)


def test_nobody_dials_a_headless_service(make):
    state = make.state(make.node("n1"), make.workload("db-1"), make.service("db", clusterIP="None"))
    for wanted in (make.route("db", "db"), make.traffic("db")):
        (warning,) = make.plan(state, wanted).warnings
        assert "Service shop/db is headless: nobody dials an address of it" in warning

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
        (lambda m: m.policy("p", app="nix"), "selects no workload yet"),
        (lambda m: m.workload("x", "n9"), "n9 is not a node of this mesh yet"),
    ],
)
def test_what_is_probably_not_meant_is_said(make, wanted, words):
    state = make.state(make.node("n1"), make.workload("web-1"), make.service())
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
        make.workload("web-1", spec=port),
        make.node("n1"),
    )
    assert plan.warnings == ()

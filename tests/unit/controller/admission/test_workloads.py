import pytest

from controller.admission import AdmissionError


def refused(make, state, *wanted):
    with pytest.raises(AdmissionError) as caught:
        make.plan(state, *wanted)
    return str(caught.value)


def test_an_address_has_one_workload(make):
    state = make.state(make.workload("a", "n1", "fd00::1"))
    words = refused(make, state, make.workload("b", "n2", "FD00:0::1"))
    assert "$.spec.addresses[0]: fd00::1 is Workload shop/a's" in words
    make.plan(state, make.workload("a", "n2", "fd00::1"))


def test_addresses_are_written_in_one_form(make):
    plan = make.plan(make.state(), make.workload("a", "n1", "FD00:0:0::1"))
    assert plan.admitted[0].spec.addresses == ("fd00::1",)


def test_an_address_of_the_service_range_is_refused(make):
    assert "lies in the service range" in refused(
        make, make.state(), make.workload("a", "n1", "10.96.3.3")
    )


def test_a_cgroup_has_one_workload_on_its_node(make):
    state = make.state(make.workload("a", spec={"cgroup": "x.slice"}))
    words = refused(make, state, make.workload("b", spec={"cgroup": "x.slice"}))
    assert "$.spec.cgroup: x.slice on n1 is Workload shop/a's" in words
    make.plan(state, make.workload("b", "n2", spec={"cgroup": "x.slice"}))


@pytest.mark.parametrize(
    ("node", "port", "free"),
    [
        ("n1", {"port": 80}, False),
        ("n1", {"port": 80, "protocol": "UDP"}, True),
        ("n1", {"port": 81}, True),
        ("n2", {"port": 80}, True),
    ],
)
def test_a_host_port_has_one_workload(make, node, port, free):
    state = make.state(make.workload("a", spec={"ports": [{"port": 80}]}))
    other = make.workload("b", node, spec={"ports": [{"port": 7}, port]})
    if free:
        make.plan(state, other)
    else:
        words = refused(make, state, other)
        assert "$.spec.ports[1].port: 80/TCP in the network of n1 is Workload shop/a's" in words


def test_pods_may_use_the_same_port(make):
    ports = {"ports": [{"port": 80}]}
    make.state(
        make.workload("a", "n1", "10.0.0.1", spec=ports),
        make.workload("b", "n1", "10.0.0.2", spec=ports),
        make.workload("c", spec=ports),
    )


def test_two_of_the_same_request_are_told_apart_by_name(make):
    words = refused(
        make,
        make.state(),
        make.workload("a", "n1", "10.0.0.1"),
        make.workload("b", "n1", "10.0.0.1"),
    )
    assert "is Workload shop/b's" in words and "is Workload shop/a's" in words


def test_a_workload_may_take_over_what_another_gives_up_in_the_same_apply(make):
    state = make.state(make.workload("a", "n1", "10.0.0.1"))
    make.plan(state, make.workload("a", "n1", "10.0.0.2"), make.workload("b", "n1", "10.0.0.1"))


def test_two_workloads_of_a_node_whose_names_hash_to_one_number_are_refused(make, monkeypatch):
    monkeypatch.setattr("controller.admission.workloads.claim", lambda namespace, name: 7)
    state = make.state(make.workload("a", "n1", "10.0.0.1"))
    words = refused(make, state, make.workload("b", "n1", "10.0.0.2"))
    assert "$.metadata.name: on n1 its name and Workload shop/a's hash to one number" in words
    make.plan(state, make.workload("b", "n2", "10.0.0.2"), make.workload("a", "n1", "10.0.0.1"))

"""Addresses of the mesh in blocks of a list."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.admission.neighbours import Neighbours

OWN = ["10.0.0.1", "10.0.0.2", "10.1.0.1", "fd00::1", "fd00::2"]


@pytest.fixture(scope="session")
def around(make):
    pods = [make.workload(f"w{i}", address=a) for i, a in enumerate(OWN)]
    return Neighbours(make.state(*pods))


def test_whose_address_is_held_is_told(make):
    state = make.state(
        make.node("n1", "192.0.2.1"),
        make.workload("web-1", address="10.0.0.1"),
        make.service(clusterIP="10.96.0.7", ipFamilyPolicy="SingleStack"),
    )
    held = Neighbours(state).held(["10.96.0.7", "192.0.2.0/24", "203.0.113.0/24", "0.0.0.0/0"])
    assert held[0].first == "Service shop/web's 10.96.0.7"
    assert held[1].first == "MeshNode n1's 192.0.2.1"
    assert 2 not in held
    assert held[3].number == 3


def test_a_headless_service_holds_nothing(make):
    state = make.state(make.service(clusterIP="None"))
    assert Neighbours(state).held(["0.0.0.0/0", "::/0"]) == {}


blocks = st.one_of(
    st.tuples(st.sampled_from([*OWN[:3], "10.0.0.3"]), st.integers(0, 32)),
    st.tuples(st.sampled_from([*OWN[3:], "fd00::3"]), st.integers(0, 128)),
).map(lambda t: str(ipaddress.ip_network(f"{t[0]}/{t[1]}", strict=False)))


@given(st.lists(blocks, max_size=5))
def test_blocks_hold_what_they_say(around, cidrs):
    held = around.held(cidrs)
    for i, cidr in enumerate(cidrs):
        network = ipaddress.ip_network(cidr)
        inside = [a for a in OWN if ipaddress.ip_address(a) in network]
        assert (held[i].number if i in held else 0) == len(inside)

import ipaddress
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.admission import AdmissionError, admit
from controller.admission.addresses import choose
from meshapi.resources import Key, Service

V4, V6 = "10.96.1.2", "fd00:96::9"


def spec(state, name="web"):
    return state.of(Service)[Key("Service", "shop", name)].spec


def refused(make, state, service, rules=None):
    with pytest.raises(AdmissionError) as caught:
        admit(state, [service], rules or make.rules)
    return str(caught.value)


def test_a_service_gets_an_address_of_every_family(make):
    given_ = spec(make.state(make.service()))
    assert given_.cluster_ip == given_.cluster_ips[0]
    assert given_.ip_families == ("IPv4", "IPv6")
    assert given_.ip_family_policy == "PreferDualStack"
    for address, network in zip(given_.cluster_ips, make.rules.ranges, strict=True):
        assert ipaddress.ip_address(address) in network


@pytest.mark.parametrize(
    ("wanted", "families"),
    [
        ({"ipFamilies": ["IPv6"]}, ("IPv6",)),
        ({"ipFamilies": ["IPv6"], "ipFamilyPolicy": "PreferDualStack"}, ("IPv6", "IPv4")),
        ({"ipFamilyPolicy": "SingleStack"}, ("IPv4",)),
        ({"ipFamilyPolicy": "RequireDualStack"}, ("IPv4", "IPv6")),
        ({"clusterIP": V6}, ("IPv6", "IPv4")),
        ({"clusterIP": V6, "ipFamilyPolicy": "SingleStack"}, ("IPv6",)),
        ({"clusterIP": V4, "clusterIPs": [V4, V6]}, ("IPv4", "IPv6")),
    ],
)
def test_wishes_are_met(make, wanted, families):
    given_ = spec(make.state(make.service(**wanted)))
    assert given_.ip_families == families
    assert [f"IPv{ipaddress.ip_address(a).version}" for a in given_.cluster_ips] == list(families)
    fixed = wanted.get("clusterIPs") or ([wanted["clusterIP"]] if "clusterIP" in wanted else [])
    assert list(given_.cluster_ips[: len(fixed)]) == fixed


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"clusterIP": "10.1.1.1"}, "$.spec.clusterIP: 10.1.1.1 is outside the service range"),
        ({"clusterIP": V4, "clusterIPs": [V6]}, "is not clusterIPs[0]"),
        ({"clusterIPs": [V4, "10.96.1.3"]}, "same family twice"),
        ({"clusterIPs": [V4, V6], "ipFamilyPolicy": "SingleStack"}, "use PreferDualStack"),
        ({"ipFamilies": ["IPv4", "IPv4"]}, "$.spec.ipFamilies: the same family twice"),
        ({"ipFamilies": ["IPv6"], "clusterIP": V4}, "families and addresses do not match"),
    ],
)
def test_impossible_wishes_are_refused(make, wanted, words):
    assert words in refused(make, make.state(), make.service(**wanted))


def test_one_configured_family_is_enough(make):
    rules = replace(make.rules, ranges=make.rules.ranges[:1])
    plan = admit(make.state(), [make.service()], rules)
    assert plan.admitted[0].spec.ip_families == ("IPv4",)
    assert "IPv4 service addresses only" in refused(
        make, make.state(), make.service(ipFamilyPolicy="RequireDualStack"), rules
    )
    assert "no IPv6 service range" in refused(
        make, make.state(), make.service(ipFamilies=["IPv6"]), rules
    )


def test_a_taken_address_is_refused_by_its_owners_name(make):
    state = make.state(make.service("web", clusterIP=V4))
    assert f"{V4} is Service shop/web's" in refused(make, state, make.service("api", clusterIP=V4))
    both = [make.service("a", clusterIP="10.96.7.7"), make.service("b", clusterIP="10.96.7.7")]
    with pytest.raises(AdmissionError, match=r"10.96.7.7 is Service shop/a's"):
        admit(state, both, make.rules)


def test_addresses_are_kept_and_cannot_change(make):
    state = make.state(make.service())
    before = spec(state)
    assert make.plan(state, make.service()).writes == ()
    assert spec(make.state(make.service(ports=[{"port": 81}]), base=state)) != before
    assert "cannot change" in refused(make, state, make.service(clusterIP=V4))
    assert "cannot change" in refused(
        make, state, make.service(clusterIPs=[before.cluster_ip, "fd00:96::77"])
    )
    assert "first family cannot change" in refused(
        make, state, make.service(ipFamilies=["IPv6", "IPv4"])
    )


def test_the_second_family_can_come_and_go(make):
    one = make.state(make.service(ipFamilyPolicy="SingleStack"))
    two = make.state(make.service(ipFamilyPolicy="PreferDualStack"), base=one)
    assert len(spec(one).cluster_ips) == 1
    assert spec(two).cluster_ips[0] == spec(one).cluster_ip
    assert len(spec(two).cluster_ips) == 2
    again = make.state(make.service(ipFamilyPolicy="SingleStack"), base=two)
    assert spec(again).cluster_ips == spec(one).cluster_ips


def test_a_service_made_again_gets_its_address_back(make):
    state = make.state(make.service())
    gone = make.deleted(state, make.service())
    assert spec(make.state(make.service(), base=gone)).cluster_ips == spec(state).cluster_ips


def test_a_full_range_is_refused(make):
    rules = replace(make.rules, ranges=(ipaddress.ip_network("10.96.0.0/30"),))
    services = [make.service(name) for name in "abc"]
    state = make.applied(make.state(), admit(make.state(), services[:2], rules))
    assert {spec(state, n).cluster_ip for n in "ab"} == {"10.96.0.1", "10.96.0.2"}
    assert "every address of 10.96.0.0/30 is in use" in refused(make, state, services[2], rules)


@given(st.integers(24, 32), st.text(max_size=8), st.sets(st.integers(0, 255)))
def test_choose_finds_a_free_address_if_there_is_one(prefix, name, taken):
    network = ipaddress.ip_network(f"10.0.0.0/{prefix}")
    key = Key("Service", "a", "b")
    used = {f"10.0.0.{n}": key for n in taken}
    usable = [str(a) for a in network.hosts()]
    found = choose(network, used, name)
    free = [a for a in usable if a not in used]
    assert found in free if free else found is None


wishes = st.fixed_dictionaries(
    {},
    optional={
        "ipFamilyPolicy": st.sampled_from(["SingleStack", "PreferDualStack", "RequireDualStack"]),
        "ipFamilies": st.sampled_from([["IPv4"], ["IPv6"], ["IPv4", "IPv6"], ["IPv6", "IPv4"]]),
        "clusterIP": st.sampled_from(["10.96.0.1", "10.96.0.2", "fd00:96::1"]),
    },
)
steps = st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.none() | wishes), max_size=12)


@given(steps)
@settings(max_examples=200)
def test_no_address_is_ever_shared_or_moves(make, steps):
    state = make.state()
    for name, wish in steps:
        before = state.of(Service).get(Key("Service", "shop", name))
        if wish is None:
            state = make.deleted(state, make.service(name)) if before else state
            continue
        try:
            state = make.state(make.service(name, **wish), base=state)
        except AdmissionError:
            continue
        after = spec(state, name)
        if before:
            assert after.cluster_ip == before.spec.cluster_ip
        addresses = [a for s in state.of(Service).values() for a in s.spec.cluster_ips]
        assert len(addresses) == len(set(addresses))
        assert len(after.ip_families) == len(set(after.ip_families)) == len(after.cluster_ips)


# -- headless --------------------------------------------------------------------------------------


def headless(make, **more):
    return make.service(clusterIP="None", **more)


def test_a_headless_service_gets_no_address(make):
    given_ = spec(make.state(headless(make)))
    assert (given_.cluster_ip, given_.cluster_ips) == ("None", ("None",))
    assert given_.ip_families == ("IPv4", "IPv6"), "its name may have addresses of both"
    assert given_.headless
    assert given_.addresses == ()


def test_many_headless_services_do_not_collide(make):
    state = make.state(headless(make), make.service("db", clusterIPs=["None"]))
    assert spec(state, "db").cluster_ips == ("None",)
    again = make.plan(state, headless(make))
    assert again.writes == ()


def test_a_headless_service_stays_one_when_nothing_is_said(make):
    state = make.state(headless(make))
    kept = spec(make.state(make.service(ports=[{"port": 81}]), base=state))
    assert kept.cluster_ips == ("None",)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ({}, {"clusterIP": "None"}, "$.spec.clusterIP: cannot become None (10.96."),
        ({"clusterIP": "None"}, {"clusterIP": V4}, f"cannot become {V4} (None now)"),
        ({"clusterIP": "None"}, {"clusterIPs": [V4]}, f"cannot become {V4} (None now)"),
        (
            {"clusterIP": "None"},
            {"trafficDistribution": "PreferClose"},
            "$.spec.trafficDistribution: a headless service has no address to balance",
        ),
        (
            {"clusterIP": "None", "ipFamilies": ["IPv6"]},
            {"ipFamilies": ["IPv4"]},
            "the first family cannot change",
        ),
    ],
)
def test_a_service_cannot_begin_or_cease_to_be_headless(make, before, after, words):
    state = make.state(make.service(**before))
    assert words in refused(make, state, make.service(**after))


def test_the_default_of_session_affinity_is_written(make):
    state = make.state(make.service(sessionAffinity="ClientIP"))
    assert spec(state).session_affinity_config.client_ip.timeout_seconds == 10_800
    assert make.plan(state, make.service(sessionAffinity="ClientIP")).writes == ()
    assert spec(make.state(make.service())).session_affinity_config is None

"""What a Quarantine and a BlockList are refused for, by the path that is named."""

import pytest

from tests.unit.meshapi.resources.asking import paths, words


def quarantine(*peers, **spec):
    return {"workload": "web-1", "allowFrom": list(peers), **spec}


FIRST = "spec.allowFrom[0]"
WORKLOAD = {"namespace": "ops", "workload": "probe"}


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        ({"workload": "web-1"}, []),
        (quarantine(WORKLOAD, {"cidr": "10.0.0.0/8"}, {"cidr": "fd00::1"}, reason="odd"), []),
        ({}, ["spec.workload"]),
        ({"workload": ""}, ["spec.workload"]),
        ({"workload": "shop/web-1"}, ["spec.workload"]),
        (quarantine({}), [FIRST]),
        (quarantine({"namespace": "ops"}), [f"{FIRST}.workload"]),
        (quarantine({"workload": "probe"}), [f"{FIRST}.namespace"]),
        (
            quarantine({"namespace": "Ops", "workload": "*"}),
            [f"{FIRST}.namespace", f"{FIRST}.workload"],
        ),
        (quarantine({**WORKLOAD, "cidr": "::/0"}), [f"{FIRST}.cidr"]),
        (quarantine({"cidr": "x"}), [f"{FIRST}.cidr"]),
        (quarantine({"cidr": "10.0.0.1/8"}), [f"{FIRST}.cidr"]),
        (quarantine(WORKLOAD, WORKLOAD), ["spec.allowFrom[1]"]),
        (quarantine({"service": "x"}), [f"{FIRST}.service"]),
    ],
)
def test_quarantines(spec, found):
    assert paths("Quarantine", spec) == found


@pytest.mark.parametrize(
    ("cidrs", "found"),
    [
        (["10.0.0.0/8", "203.0.113.9", "2001:db8::/32", "0.0.0.0/0"], []),
        ([], ["spec.cidrs"]),
        (["10.0.0.1/8"], ["spec.cidrs[0]"]),
        (["10.0.0.0/33", "a", ""], ["spec.cidrs[0]", "spec.cidrs[1]", "spec.cidrs[2]"]),
        (["::ffff:10.0.0.1"], ["spec.cidrs[0]"]),
        (["fe80::1%eth0"], ["spec.cidrs[0]"]),
        (["10.0.0.1", "10.0.0.1"], ["spec.cidrs[1]"]),
        ([7], ["spec.cidrs[0]"]),
    ],
)
def test_block_lists(cidrs, found):
    assert paths("BlockList", {"cidrs": cidrs}) == found


def test_a_block_that_is_larger_than_it_looks_is_refused():
    text = words("BlockList", {"cidrs": ["10.1.2.3/8"]})
    assert "is a part of 10.0.0.0/8; write 10.0.0.0/8, or 10.1.2.3 alone" in text
    assert paths("BlockList", {"cidrs": ["10.0.0.1"]}, namespace="shop") == ["metadata.namespace"]

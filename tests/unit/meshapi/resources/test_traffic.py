"""Whose word counts: a service's own fields or its TrafficPolicy."""

import pytest

from meshapi import codec
from meshapi.resources.traffic import affinity_seconds, locality
from tests.unit.meshapi.resources.asking import manifest


def service(**spec):
    return codec.decode(manifest("Service", {"ports": [{"port": 80}], **spec}))


def policy(**balancing):
    refs = [{"kind": "Service", "name": "x"}]
    part = {"loadBalancing": balancing} if balancing else {"outlierDetection": {}}
    return codec.decode(manifest("TrafficPolicy", {"targetRefs": refs, **part}))


STICKY = service(
    sessionAffinity="ClientIP", sessionAffinityConfig={"clientIP": {"timeoutSeconds": 60}}
)
AFFINITY = policy(affinity={"type": "ClientIP", "timeoutSeconds": 5})
NEAR = policy(locality={"prefer": "Node"})
ANYWHERE = policy(locality={"prefer": "None"})


@pytest.mark.parametrize(
    ("of", "by", "seconds"),
    [
        (service(), None, 0),
        (service(sessionAffinity="None"), policy(), 0),
        (service(sessionAffinity="ClientIP"), None, 10_800),
        (STICKY, None, 60),
        (STICKY, NEAR, 60),
        (STICKY, AFFINITY, 5),
        (service(), AFFINITY, 5),
        (service(), policy(affinity={"type": "ClientIP"}), 10_800),
    ],
)
def test_affinity(of, by, seconds):
    assert affinity_seconds(of, by) == seconds


@pytest.mark.parametrize(
    ("of", "by", "place"),
    [
        (service(), None, "None"),
        (service(trafficDistribution="PreferClose"), None, "Zone"),
        (service(trafficDistribution="PreferSameZone"), AFFINITY, "Zone"),
        (service(trafficDistribution="PreferSameNode"), None, "Node"),
        (service(trafficDistribution="PreferSameZone"), NEAR, "Node"),
        (service(trafficDistribution="PreferSameNode"), ANYWHERE, "None"),
        (service(), NEAR, "Node"),
    ],
)
def test_locality(of, by, place):
    assert locality(of, by) == place

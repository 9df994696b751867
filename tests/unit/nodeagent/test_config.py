"""The agent's settings, as far as they are refused."""

import pytest

from meshapi import settings
from meshapi.errors import ConfigError
from nodeagent.config import PREFIX, AgentConfig

TEXT = "{nodeName: n1, controller: 'https://c:7443', cgroupRoot: /sys/fs/cgroup/x}"


def load(**environment):
    return settings.load(AgentConfig, TEXT, "agent.yaml", environment, PREFIX)


def test_labels_come_from_the_environment_too():
    config = load(HOPLITE_AGENT_NODE_LABELS="topology.kubernetes.io/zone=a,rack=7")
    config.check()
    assert config.node_labels == {"topology.kubernetes.io/zone": "a", "rack": "7"}
    assert load().node_labels == {}


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"HOPLITE_AGENT_NODE_LABELS": "zone=a b"}, r"\$\.nodeLabels\['zone'\]: 'a b' is not a"),
        ({"HOPLITE_AGENT_NODE_LABELS": "-=a"}, r"\$\.nodeLabels\['-'\]: not a valid label name"),
        ({"HOPLITE_AGENT_MAP_SIZES": "peers=0"}, r"\$\.mapSizes\.peers: 0 entries; at least 1"),
        ({"HOPLITE_AGENT_MAP_SIZES": "pears=1"}, r"\$\.mapSizes: 'pears' is not a map"),
    ],
)
def test_what_is_wrong_is_named(environment, words):
    with pytest.raises(ConfigError, match=words):
        load(**environment).check()

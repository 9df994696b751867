"""The agent's settings, as far as they are refused, and that the documentation has them all."""

import re
from pathlib import Path

import msgspec
import pytest

from meshapi import settings
from meshapi.errors import ConfigError
from nodeagent.config import DEFAULT_SIZES, PREFIX, AgentConfig

DOCS = Path(__file__).parents[3] / "docs" / "configuration.md"

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


def documented() -> str:
    return DOCS.read_text().partition("## hoplite-agent")[2].partition("\n## ")[0]


def test_every_setting_is_documented():
    rows = re.findall(r"^\| (`[^|]+`) \|", documented(), re.MULTILINE)
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert sorted(named) == sorted(f.encode_name for f in msgspec.structs.fields(AgentConfig))


def test_every_size_of_a_map_is_documented():
    text = documented().partition("`mapSizes`, with")[2]
    assert {n: int(size) for n, size in re.findall(r"`(\w+)`\s(\d+)", text)} == DEFAULT_SIZES

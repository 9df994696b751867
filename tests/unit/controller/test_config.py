import pytest

from controller.config import load
from meshapi.errors import ConfigError


def test_defaults_are_usable():
    config = load("", "f", {})
    assert [str(e) for e in config.listen] == ["127.0.0.1:7443"]
    assert [str(r) for r in config.ranges] == ["10.96.0.0/16", "fd00:96::/112"]
    assert config.metrics_listen is None
    assert (config.trust_domain, config.mesh_domain) == ("hoplite.local", "hoplite.local")
    assert config.root_namespace == "hoplite-system"


def test_the_environment_wins():
    text = "listen: ['[::1]:1']\nlogLevel: debug\nwatchHistory: 500"
    environment = {
        "HOPLITE_CONTROLLER_LISTEN": "",
        "HOPLITE_CONTROLLER_SERVICE_CIDRS": "fd00::/120",
        "HOPLITE_CONTROLLER_METRICS_LISTEN": "[::1]:9",
    }
    config = load(text, "f", environment)
    assert config.listen == ()
    assert [str(r) for r in config.ranges] == ["fd00::/120"]
    assert str(config.metrics_listen) == "[::1]:9"
    assert (config.log_level, config.watch_history) == ("debug", 500)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("listen: ['1.2.3.4']", r"f: \$.listen\[0\]: '1.2.3.4' is not an address to listen on"),
        ("listen: ['1.2.3.4:99999']", "is not an address"),
        ("listen: ['::1:80']", "is not an address"),
        ("listen: 80", "expected `array`"),
        ("serviceCIDRs: []", "empty"),
        ("serviceCIDRs: [10.0.0.1/8]", r"serviceCIDRs\[0\]: not an address range.*host bits"),
        ("serviceCIDRs: [10.0.0.0/8, 11.0.0.0/8]", "second IPv4 range"),
        ("trustDomain: 'A B'", "not a trust domain"),
        ("meshDomain: '-x'", r"\$.meshDomain: '-x' is not a domain name"),
        ("rootNamespace: A.b", r"\$.rootNamespace: 'A.b' is not a namespace's name"),
        ("serverNames: []", "serverNames: empty"),
        ("logLevel: loud", "use debug or info or warning or error"),
        ("watchHistory: 1", ">= 100"),
        ("metricsListen: x", "metricsListen"),
        ("nodeCertificateSeconds: 1", ">= 60"),
        ("listn: []", "known settings are listen"),
        ("a: b: c", "f:1: not YAML"),
    ],
)
def test_wrong_settings_are_refused_in_one_line(text, words):
    with pytest.raises(ConfigError if "YAML" not in words else Exception, match=words) as caught:
        load(text, "f", {})
    assert "\n" not in str(caught.value)


def test_a_wrong_variable_is_named():
    with pytest.raises(ConfigError, match=r"^HOPLITE_CONTROLLER_SERVICE_CIDRS: "):
        load("", "f", {"HOPLITE_CONTROLLER_SERVICE_CIDRS": "x"})

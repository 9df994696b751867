"""What the agent refuses before it touches anything: one line each, and an exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshapi.errors import HopliteError
from nodeagent import machine
from nodeagent.config import DEFAULT_SIZES
from nodeagent.datapath.attach import Datapath
from nodeagent.layout import map_specs

GOOD = "nodeName: n1\ncontroller: https://127.0.0.1:1\ncgroupRoot: /nowhere\n"


def agent(text: str, tmp_path: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    config = tmp_path / "agent.yaml"
    config.write_text(text)
    return subprocess.run(
        [sys.executable, "-m", "nodeagent", "--config", str(config), *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        env={**os.environ, **env},
    )


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    lines = done.stderr.strip().splitlines()
    assert done.returncode == 1, done.stderr
    assert len(lines) == 1, lines
    assert lines[0].startswith("hoplite-agent: ")
    return lines[0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (GOOD + "colour: red\n", ["agent.yaml:4", "$.colour", "unknown field", "stateDir"]),
        ("controller: x\ncgroupRoot: /x\n", ["nodeName", "missing", "HOPLITE_AGENT_NODE_NAME"]),
        (GOOD + "flowHistory: many\n", ["agent.yaml:4", "$.flowHistory"]),
        (GOOD + "mapSizes: {tables: 5}\n", ["$.mapSizes", "not a map", "peers"]),
        (GOOD + "mapSizes: {peers: 0}\n", ["$.mapSizes.peers", "at least 1"]),
        (GOOD + "mapSizes: {events: 5000}\n", ["power of two"]),
        (GOOD + "dnsListen: [localhost]\n", ["$.dnsListen[0]", "'localhost' is not an IP address"]),
        (GOOD + "dnsListen: ['0.0.0.0']\n", ["$.dnsListen[0]", "can be reached from elsewhere"]),
        (GOOD + "dnsListen: ['::']\n", ["$.dnsListen[0]", "can be reached from elsewhere"]),
        (GOOD + "dnsListen: [127.0.0.1, 192.0.2.1]\n", ["$.dnsListen[1]", "169.254.77.1"]),
        (GOOD + "dnsUpstreams: [resolv.conf]\n", ["$.dnsUpstreams[0]", "not an IP address"]),
        (GOOD + "dnsUpstreams: ['192.0.2.1:0']\n", ["$.dnsUpstreams[0]", "192.0.2.1:53"]),
        (GOOD + "dnsUpstreams: [169.254.77.1]\n", ["$.dnsUpstreams[0]", "is this agent itself"]),
        (GOOD + "identityKeySeconds: 7\n", ["$.identityKeySeconds", "too short", "at least 8"]),
        (GOOD + "behindNAT: perhaps\n", ["agent.yaml:4", "$.behindNAT"]),
        (GOOD.replace("n1", "N_1"), ["$.nodeName", "'N_1' is not a valid name"]),
        (GOOD.replace("https://", "http://"), ["$.controller", "is not an https URL"]),
        (GOOD + "addresses: [192.0.2.1, host]\n", ["$.addresses[1]", "not an IP address"]),
        (GOOD + "proxyAddresses: ['::']\n", ["$.proxyAddresses[0]", "nobody's address"]),
        (GOOD + "metricsListen: '15020'\n", ["$.metricsListen", "not host:port"]),
        (GOOD + "metricsListen: 127.0.0.1:0\n", ["$.metricsListen", "127.0.0.1:15020"]),
        (GOOD + "flowHistory: 0\n", ["agent.yaml:4", "$.flowHistory", "512"]),
        (GOOD + "udpIdleSeconds: 0\n", ["agent.yaml:4", "$.udpIdleSeconds"]),
        (GOOD + "proxyUid: -1\n", ["agent.yaml:4", "$.proxyUid"]),
        (GOOD + "logLevel: loud\n", ["agent.yaml:4", "$.logLevel", "debug or info"]),
        (GOOD + "interfaceHooks: xdp\n", ["$.interfaceHooks", "auto or tcx or clsact or none"]),
        ("- a list\n", ["not a mapping"]),
        ("a: [1\n", ["agent.yaml:", "not YAML"]),
    ],
)
def test_settings_that_make_no_sense(text: str, words: list[str], tmp_path: Path) -> None:
    line = refusal(agent(text, tmp_path, "--check"))
    assert all(word in line for word in words), line


@pytest.mark.parametrize(
    "text",
    [
        "dnsListen: []\n",
        "dnsListen: ['127.0.0.53:5353', '::1', 'fd6d:6573:6800:ffff::1']\n",
        "dnsUpstreams: []\n",
        "dnsUpstreams: [/etc/resolv.conf, 192.0.2.1, '[2001:db8::1]:5353', '169.254.77.1:5353']\n",
    ],
)
def test_settings_of_names(text: str, tmp_path: Path) -> None:
    assert agent(GOOD + text, tmp_path, "--check").returncode == 0


def test_good_settings_pass_the_check(tmp_path: Path) -> None:
    done = agent(GOOD, tmp_path, "--check")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_setting_may_come_from_the_environment(tmp_path: Path) -> None:
    text = GOOD.replace("nodeName: n1\n", "")
    assert agent(text, tmp_path, "--check", HOPLITE_AGENT_NODE_NAME="n2").returncode == 0
    bad = agent(GOOD, tmp_path, "--check", HOPLITE_AGENT_FLOW_HISTORY="lots")
    assert "HOPLITE_AGENT_FLOW_HISTORY" in refusal(bad)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "nodeagent", "--config", str(tmp_path / "none.yaml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "none.yaml" in refusal(done)


def test_who_is_not_root_is_told_so(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        assert "needs root" in refusal(agent(GOOD, tmp_path))
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: 1000)
        with pytest.raises(HopliteError, match="needs root"):
            machine.check(Path("/nowhere"), Path("/sys/fs/bpf/x"), owns_machine=False)


@pytest.fixture
def cgroup(mounted_bpffs: None) -> Iterator[Path]:
    path = _cgroup2() / f"hoplite-refusals-{os.getpid()}"
    path.mkdir()
    yield path
    path.rmdir()


@pytest.mark.root
def test_no_such_cgroup() -> None:
    with pytest.raises(HopliteError, match="no such cgroup"):
        machine.check(Path("/nowhere"), Path("/sys/fs/bpf/x"), owns_machine=False)


@pytest.mark.root
def test_not_a_cgroup_v2(tmp_path: Path) -> None:
    with pytest.raises(HopliteError, match="cgroup v2"):
        machine.check(tmp_path, Path("/sys/fs/bpf/x"), owns_machine=False)


@pytest.mark.root
def test_the_root_cgroup_is_refused_unless_it_is_meant(mounted_bpffs: None) -> None:
    with pytest.raises(HopliteError, match="iOwnThisMachine"):
        machine.check(_cgroup2(), Path("/sys/fs/bpf/x"), owns_machine=False)
    machine.check(_cgroup2(), Path("/sys/fs/bpf/x"), owns_machine=True)


@pytest.mark.root
def test_pins_that_are_not_on_a_bpffs(cgroup: Path, tmp_path: Path) -> None:
    with pytest.raises(HopliteError, match="mount -t bpf"):
        machine.check(cgroup, tmp_path / "pins", owns_machine=False)


@pytest.mark.root
def test_no_token_and_not_joined(cgroup: Path, tmp_path: Path) -> None:
    pins = Path(f"/sys/fs/bpf/hoplite-refusals-{os.getpid()}")
    text = (
        f"nodeName: n1\ncontroller: https://127.0.0.1:1\ncgroupRoot: {cgroup}\n"
        f"pinDir: {pins}\nstateDir: {tmp_path}/state\nrunDir: {tmp_path}/run\nmetricsListen: ''\n"
    )
    try:
        done = _in_own_network(text, tmp_path)
        assert "hopctl token create --node n1" in done.stderr.splitlines()[-1]
        assert done.returncode == 1
    finally:
        _in_own_network(text, tmp_path, "--remove")
    assert not pins.exists()


@pytest.mark.root
def test_a_machine_without_bcc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bcc.py").write_text("raise ImportError('No module named bcc')\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}:{Path.cwd()}")
    pins = Path(f"/sys/fs/bpf/hoplite-refusals-{os.getpid()}")
    datapath = Datapath(pins, map_specs(DEFAULT_SIZES))
    try:
        with pytest.raises(HopliteError, match="install the package python3-bpfcc"):
            datapath.load()
    finally:
        datapath.remove()


def _in_own_network(text: str, tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the agent where its addresses on lo trouble nobody."""
    config = tmp_path / "agent.yaml"
    config.write_text(text)
    return subprocess.run(
        ["unshare", "--net", sys.executable, "-m", "nodeagent", "--config", str(config), *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def _cgroup2() -> Path:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        if right.startswith("cgroup2 "):
            return Path(left.split()[4])
    pytest.skip("no cgroup v2 on this machine")

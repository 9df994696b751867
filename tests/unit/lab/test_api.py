from __future__ import annotations

import subprocess

import pytest

from lab import api
from meshapi.errors import HopliteError

pytestmark = pytest.mark.root


def test_exec_in_a_workload(two_nodes: api.Lab) -> None:
    result = two_nodes.exec(
        "node1/shop/web",
        ["sh", "-c", "cat; cat /proc/self/cgroup; echo $COLOUR; exit 7"],
        stdin="in ",
    )
    assert result.returncode == 7
    assert result.stdout.startswith("in ")
    assert f"0::/hoplite-lab-{two_nodes.name}/node1/pods/shop_web\n" in result.stdout
    assert result.stdout.endswith("blue\n")


def test_every_target_has_a_home_of_its_own(two_nodes: api.Lab) -> None:
    script = ["sh", "-c", "echo x > $HOME/x && ls $HOME"]
    for target in ("node1", "node1/shop/web", "node2/shop/web", "node1/ops/monitor"):
        assert two_nodes.exec(target, script).stdout == "x\n"


def test_exec_on_the_node_and_in_its_host_network(two_nodes: api.Lab) -> None:
    script = ["sh", "-c", "cat /proc/self/cgroup; cat /proc/self/net/fib_trie"]
    node = two_nodes.exec("node1", script).stdout
    monitor = two_nodes.exec("node1/ops/monitor", script).stdout
    assert "/node1/system\n" in node
    assert "/node1/host/ops_monitor\n" in monitor
    assert "172.30.0.11" in node
    assert "172.30.0.11" in monitor


def test_several_at_once(two_nodes: api.Lab) -> None:
    running = [two_nodes.popen("node1/shop/web", ["sh", "-c", f"echo {i}"]) for i in range(8)]
    assert [p.communicate(timeout=10)[0].strip() for p in running] == [str(i) for i in range(8)]


def test_a_command_that_does_not_end_is_killed(two_nodes: api.Lab) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        two_nodes.exec("node1", ["sleep", "60"], timeout=0.3)


@pytest.mark.parametrize(
    ("target", "hint"),
    [
        ("node1/shop/wbe", "did you mean node1/shop/web"),
        ("zzz", "there are node1/shop/web, node1/shop/frontend, node1/ops/monitor, node2/shop/web"),
        ("", "there are node1/shop/web"),
    ],
)
def test_an_unknown_target_is_answered_with_near_ones(
    two_nodes: api.Lab, target: str, hint: str
) -> None:
    with pytest.raises(HopliteError) as caught:
        two_nodes.exec(target, ["true"])
    assert hint in str(caught.value)


def test_what_is_wrong_with_the_file_is_said_before_anything_is_made() -> None:
    with pytest.raises(HopliteError, match="<text>: no Lab in it"):
        api.start("", name="unit-none")
    with pytest.raises(HopliteError, match="there is no lab 'unit-none'"):
        api.load("unit-none")

"""A node that reboots enforces its last state before workloads start, with the controller away.

Under a real systemd, with the units of deploy/systemd: its power fails, and it starts again.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import pytest

from lab.patience import VARIABLE
from lab.vm import fetch, guest
from tests.kernels.test_matrix import ROOT, SLOWER

pytestmark = [pytest.mark.kernels, pytest.mark.timeout(1800)]

Boot = Callable[[str], dict[str, Any]]


@pytest.fixture(scope="module")
def boot(tmp_path_factory: pytest.TempPathFactory) -> Boot:
    """Lives of one node, whose state directory stays; what each life says it has seen."""
    shared = tmp_path_factory.mktemp("node")
    (kernel,) = fetch.fetch(["6.1"])

    def live(life: str) -> dict[str, Any]:
        script = f"cd {ROOT} && exec {sys.executable} -m tests.kernels.reboot {life}"
        ended = guest.run(
            kernel,
            ["env", f"{VARIABLE}={SLOWER}", "sh", "-c", script],
            timeout=1500,
            shared=shared,
            systemd=True,
            memory=2048,
        )
        assert ended.status == 0, ended.output[-8000:]
        results: dict[str, Any] = json.loads((shared / "results.json").read_text())
        return results

    return live


@pytest.fixture(scope="module")
def before(boot: Boot) -> dict[str, Any]:
    return boot("before")


def test_the_units_run_a_mesh(before: dict[str, Any]) -> None:
    assert before["unguarded"] == {"friend": {"vault": 1}, "outsider": {"vault": 1}}
    assert before["guarded"] == {"friend": {"vault": 1}, "outsider": {"EPERM": 1}}
    status = before["node"]["status"]
    assert (status["agent"]["ready"], status["l7proxy"]["ready"]) == (True, True)
    assert before["cut"] in {"ECONNABORTED", "ECONNRESET"}, before["logs"]


def test_after_a_power_cut_the_first_connection_is_refused(
    before: dict[str, Any], boot: Boot
) -> None:
    found = boot("after")
    assert found["outsider"] == {"EPERM": 20}
    assert found["friend"] == {"vault": 20}
    compiled, enforced = said(found, "datapath compiled"), said(found, "stored state in force")
    assert compiled < enforced < found["runtime began"], "nothing was pinned, and policy came first"


def test_without_an_agent_no_workload_starts_where_that_is_asked_for(
    before: dict[str, Any], boot: Boot
) -> None:
    found = boot("broken")
    assert said(found, "no such cgroup")
    assert (found["runtime"], found["began"]) == ("inactive", "0")


def said(found: dict[str, Any], words: str) -> int:
    """When the agent's journal had these words for the first time (microseconds since boot)."""
    times = [time for message, time in found["journal"].items() if words in message]
    assert times, found["journal"]
    return min(times)

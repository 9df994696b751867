"""Ends daemons of a running lab and starts them again: crashes, upgrades, reboots.

For tests and benchmarks. Nothing here asks whether it is a good moment.
"""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from lab.account import ROOT
from lab.api import Lab
from lab.patience import stretched
from lab.processes import PATH, Place, launcher
from meshapi.errors import HopliteError

_PATIENCE = 60.0  # seconds; a machine that is busy compiles slowly


def kill(lab: Lab, *cgroup: str, how: signal.Signals = signal.SIGKILL) -> None:
    """End every process of one of the lab's cgroups and wait until they are gone."""
    processes = lab.cgroup(*cgroup, "cgroup.procs")
    for pid in processes.read_text().split():
        os.kill(int(pid), how)
    _until(lambda: not processes.read_text(), f"processes of {'/'.join(cgroup)} do not end")


def start_agent(lab: Lab, node: str, release: Path = ROOT) -> None:
    """Start a node's agent again, as its supervisor would, and wait until it enforces.

    ``release`` is a folder with the packages ``nodeagent``, ``meshapi`` and ``bpf``.
    """
    config = lab.agent_socket(node).parent.parent / "config.yaml"
    place = Place(
        cgroup=str(lab.cgroup(node, "hoplite-agent")),
        netns=f"/run/netns/{lab.node(node).netns}",
    )
    with lab.record.names.log(f"{node}/agent").open("ab") as log:
        subprocess.Popen(
            launcher(place, [sys.executable, "-m", "nodeagent", "--config", str(config)]),
            env={"PATH": PATH, "HOME": "/", "LANG": "C.UTF-8", "PYTHONPATH": str(release)},
            cwd="/",
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    _until(lambda: _ready(lab.agent_socket(node)), f"the agent of {node} does not become ready")


def remove_pins(lab: Lab, node: str) -> None:
    """Take away a node's programs and maps, as a reboot does."""
    shutil.rmtree(lab.record.names.pins / node)


def later_release(folder: Path) -> Path:
    """A copy of the agent's sources in ``folder`` whose flow records have one field more."""
    for package in ("bpf", "meshapi", "nodeagent"):
        shutil.copytree(ROOT / package, folder / package)
    _edit(folder / "bpf" / "types.h", "struct flow {\n", "struct flow {\n\tu64 later;\n")
    layout = folder / "nodeagent" / "layout.py"
    _edit(layout, 'FLOW = struct.Struct("=', 'FLOW = struct.Struct("=Q')
    _edit(layout, '"""FLOW, unpacked."""\n', '"""FLOW, unpacked."""\n\n    later: int\n')
    return folder


def _edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    if text.count(old) != 1:
        raise HopliteError(f"{old!r} is not there exactly once", where=str(file))
    file.write_text(text.replace(old, new))


def _until(condition: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + stretched(_PATIENCE)
    while not condition():
        if time.monotonic() > deadline:
            raise HopliteError(otherwise)
        time.sleep(0.005)


def _ready(path: Path) -> bool:
    connection = http.client.HTTPConnection("localhost", timeout=5)
    connection.sock = socket.socket(socket.AF_UNIX)
    try:
        connection.sock.connect(str(path))
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()

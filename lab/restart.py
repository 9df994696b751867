"""Ends daemons of a running lab and starts them again: crashes, upgrades, reboots.

For tests and benchmarks. Nothing here asks whether it is a good moment.
"""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import socket
import sys
from pathlib import Path

from lab.account import ROOT
from lab.api import Lab
from lab.daemons import environment
from lab.patience import wait
from lab.processes import HOLDER, place_in, start
from meshapi.errors import HopliteError

_PATIENCE = 60.0  # seconds; a machine that is busy compiles slowly


def processes(lab: Lab, *cgroup: str) -> list[int]:
    """The processes of one of the lab's cgroups."""
    return [int(pid) for pid in lab.cgroup(*cgroup, "cgroup.procs").read_text().split()]


def programs(lab: Lab, *cgroup: str) -> list[int]:
    """Those that are not there to hold a pod's network."""
    holder = b"".join(word.encode() + b"\0" for word in HOLDER)
    found = processes(lab, *cgroup)
    return [pid for pid in found if Path(f"/proc/{pid}/cmdline").read_bytes() != holder]


def kill(lab: Lab, *cgroup: str, how: signal.Signals = signal.SIGKILL) -> None:
    """End every process of one of the lab's cgroups and wait until they are gone."""
    for pid in processes(lab, *cgroup):
        os.kill(pid, how)
    otherwise = f"processes of {'/'.join(cgroup)} do not end"
    wait(lambda: not processes(lab, *cgroup), otherwise, _PATIENCE)


def start_agent(lab: Lab, node: str, release: Path = ROOT, **settings: str) -> None:
    """Start a node's agent again, as its supervisor would, and wait until it enforces.

    ``release`` is a folder with the packages ``nodeagent``, ``meshapi`` and ``bpf``; ``settings``
    are of its environment.
    """
    name, config = f"{node}/agent", lab.agent_socket(node).parent.parent / "config.yaml"
    place = place_in(lab.cgroup(node, "hoplite-agent"), lab.node(node).netns)
    command = [sys.executable, "-m", "nodeagent", "--config", str(config)]
    start(name, place, command, environment(release) | settings, lab.record.names.log(name))
    otherwise = f"the agent of {node} does not become ready"
    wait(lambda: _ready(lab.agent_socket(node)), otherwise, _PATIENCE)


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

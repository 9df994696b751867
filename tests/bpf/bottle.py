"""A node in a bottle: the programs attached to a cgroup of their own, and one process in it, in a
network namespace of its own in which every backend's address is local. Runs on any kernel.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from meshapi.resources import Resource, key_of
from meshapi.watch import Snapshot
from nodeagent.datapath.attach import Datapath
from nodeagent.datapath.sync import Writer
from nodeagent.desired.compiler import Compiler
from nodeagent.desired.units import Facts
from nodeagent.machine import cgroup_level
from nodeagent.state import Changes, build

# Listens on PORT at every address. Reads one JSON command a line and answers with one.
CHILD = """
import collections, ctypes, errno, json, os, resource, socket, subprocess, sys, threading

with open(sys.argv[1] + "/cgroup.procs", "w") as file:
    file.write("0")
assert ctypes.CDLL(None, use_errno=True).unshare(0x40000000) == 0, "no network namespace"
resource.setrlimit(resource.RLIMIT_NOFILE, (16384, 16384))
for words in (
    "link set lo up",
    "route add local 10.244.0.0/16 dev lo",
    "-6 route add local fd00:244::/32 dev lo",
):
    subprocess.run(["ip", *words.split()], check=True)
listener = socket.create_server(
    ("::", int(sys.argv[2])), family=socket.AF_INET6, dualstack_ipv6=True, backlog=4096
)
reached, lock = [], threading.Lock()
arrived = threading.Semaphore(0)

def accept():
    while True:
        connection, _ = listener.accept()
        with lock:
            reached.append(connection.getsockname()[0].removeprefix("::ffff:"))
        connection.close()
        arrived.release()

threading.Thread(target=accept, daemon=True).start()
held = []

def dial(address, port, count, hold=False):
    del reached[:]
    errors = collections.Counter()
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for _ in range(count):
        end = socket.socket(family)
        try:
            end.connect((address, port))
        except OSError as error:
            errors[errno.errorcode[error.errno]] += 1
            end.close()
            continue
        arrived.acquire()
        if hold:
            held.append(end)
        else:
            end.close()
    return {"reached": collections.Counter(reached), "errors": errors}

def release():
    for end in held:
        end.close()
    del held[:]
    return {}

print("ready", flush=True)
for line in sys.stdin:
    command, *arguments = json.loads(line)
    print(json.dumps({"dial": dial, "release": release}[command](*arguments)), flush=True)
"""


class Bottle:
    """``hold`` puts objects into force, ``dial`` connects; both as the agent of n1 would."""

    def __init__(self, datapath: Datapath, cgroup: Path, child: subprocess.Popen[str]) -> None:
        self.datapath = datapath
        self._child = child
        self._facts = Facts(
            cgroups={("shop", "client"): (cgroup.stat().st_ino, cgroup_level(cgroup))}
        )
        self._writer = Writer(datapath)
        self.compiler = Compiler("n1")

    def hold(self, *resources: Resource) -> None:
        objects = {key_of(o): o for o in resources}
        self.compiler = Compiler("n1")
        state = build("n1", Snapshot(1, objects))
        self.compiler.update(state, Changes({}, objects), self._facts)
        self._writer.make_equal(self.compiler.tables, self.compiler.settings)

    def dial(self, address: str, port: int, count: int, *, hold: bool = False) -> dict[str, Any]:
        """``reached``: how many connections each backend's address got; ``errors`` by name."""
        return self._tell("dial", address, port, count, hold)

    def release(self) -> None:
        """Close what was held open."""
        self._tell("release")

    def _tell(self, *command: object) -> dict[str, Any]:
        assert self._child.stdin is not None and self._child.stdout is not None
        self._child.stdin.write(json.dumps(command) + "\n")
        self._child.stdin.flush()
        line = self._child.stdout.readline()
        assert line, "the process in the bottle has ended"
        found: dict[str, Any] = json.loads(line)
        return found


@contextmanager
def bottled(datapath: Datapath, hierarchy: Path, port: int) -> Iterator[Bottle]:
    """Attach, start the process, and take everything away again."""
    node = hierarchy / f"hoplite-bottle-{os.getpid()}"
    client = node / "client"
    client.mkdir(parents=True)
    child: subprocess.Popen[str] | None = None
    try:
        datapath.attach(datapath.load(), "node", node)
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(client), str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        yield Bottle(datapath, client, child)
    finally:
        if child is not None:
            child.kill()
            child.communicate()
        for link in (datapath.pins / "links").iterdir():
            link.unlink()
        client.rmdir()
        node.rmdir()

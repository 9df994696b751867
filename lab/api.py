"""The lab as a Python API: what ``hoplite-lab`` does, for the demo, tests and benchmarks."""

from __future__ import annotations

import difflib
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lab import labfile, machine, plan, record, teardown, traces
from lab.names import DEFAULT_NAME, LabNames, check_name
from lab.plan import SYSTEM_CGROUP, PlannedNode, PlannedWorkload
from lab.processes import Place, launcher, place_in, workload_env
from lab.record import Record
from meshapi import nodecontract
from meshapi.errors import ConflictError, NotFoundError

if TYPE_CHECKING:
    from lab.endpoint import Endpoint


@dataclass(frozen=True)
class Target:
    """Where ``exec`` runs things: a workload, or a node's own network."""

    place: Place
    env: dict[str, str]


@dataclass(frozen=True)
class Lab:
    """A lab that is up."""

    record: Record
    warnings: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.record.plan.lab

    @property
    def env(self) -> dict[str, str]:
        """What ``hopctl`` needs in its environment."""
        return {
            "HOPLITE_LAB": self.name,
            "HOPLITE_SERVER": self.record.server,
            "HOPLITE_CA_FILE": self.record.ca_file,
            "HOPLITE_TOKEN_FILE": self.record.token_file,
        }

    @property
    def endpoint(self) -> Endpoint:
        from lab.endpoint import Endpoint  # late: it loads an HTTP client

        record = self.record
        return Endpoint(record.server, Path(record.ca_file), Path(record.token_file))

    def node(self, name: str) -> PlannedNode:
        return next(n for n in self.record.plan.nodes if n.name == name)

    def workload(self, target: str) -> PlannedWorkload:
        """The workload ``NODE/NAMESPACE/NAME``."""
        return next(w for w in self.record.plan.workloads if w.target == target)

    def agent_socket(self, node: str) -> Path:
        return self.record.names.node(node) / "agent" / "run" / nodecontract.ADMIN_SOCKET

    def l7proxy_run(self, node: str) -> Path:
        """Where l7proxy.sock, ads.sock and envoy-admin.sock of a node are."""
        return self.record.names.node(node) / "l7proxy" / "run"

    def cgroup(self, *parts: str) -> Path:
        return Path(self.record.cgroup, *parts)

    def log(self, process: str) -> str:
        """The output so far of ``controller``, ``NODE/agent``, ``NODE/l7proxy`` or a workload."""
        return self.record.names.log(process).read_text(errors="replace")

    def target(self, name: str) -> Target:
        """What ``NODE/NAMESPACE/WORKLOAD`` or ``NODE`` means, near misses named."""
        targets: dict[str, PlannedWorkload | PlannedNode] = {
            **{w.target: w for w in self.record.plan.workloads},
            **{n.name: n for n in self.record.plan.nodes},
        }
        names, found = self.record.names, targets.get(name)
        if isinstance(found, PlannedWorkload):
            resolv_conf = names.resolv_conf(found.namespace)
            place = place_in(self.cgroup(found.node, found.cgroup), found.netns, resolv_conf)
            return Target(place, workload_env(found.env, names.home(name)))
        if isinstance(found, PlannedNode):
            group = self.cgroup(found.name, SYSTEM_CGROUP)
            place = place_in(group, found.netns, names.resolv_conf())
            return Target(place, workload_env({}, names.home(name)))
        near = difflib.get_close_matches(name, targets, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(targets)}"
        raise NotFoundError(f"lab {self.name!r} has no {name!r}", fix=hint)

    def exec(
        self,
        target: str,
        command: Sequence[str],
        *,
        stdin: str = "",
        timeout: float | None = 60,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command there and wait; it is killed after ``timeout`` seconds."""
        there = self.target(target)
        return subprocess.run(
            launcher(there.place, command),
            env=there.env,
            input=stdin,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )

    def popen(
        self, target: str, command: Sequence[str], stdin: int = subprocess.DEVNULL
    ) -> subprocess.Popen[str]:
        """Start a command there; its output is to be read, and it is to be waited for."""
        there = self.target(target)
        return subprocess.Popen(
            launcher(there.place, command),
            env=there.env,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


def start(
    text: str,
    *,
    name: str = DEFAULT_NAME,
    source: str = "<text>",
    say: Callable[[str], None] = lambda _: None,
    keep: bool = False,
) -> Lab:
    """Start the lab that ``text`` describes; if anything fails, nothing of it stays.

    ``say`` hears what is being done; ``keep`` leaves a failed lab for a look at its logs.
    """
    check_name(name)
    file = labfile.parse(text, source)
    planned = plan.make(file, name)
    mount = machine.check(planned)
    if found := traces.of(name):
        raise ConflictError(
            f"lab {name!r} is there already ({found[0]})",
            fix=f"run: hoplite-lab down --name {name}, or give --name another",
        )
    with record.claimed(name):
        try:
            return _start(planned, file, LabNames(name).cgroup(mount), say)
        except BaseException:
            if not keep:
                teardown.remove(name)
            raise


def load(name: str) -> Lab:
    """The lab of that name, which has to be up."""
    return Lab(record.load(name))


def stop(name: str) -> bool:
    """Remove a lab, whole or half-made; False if there is no trace of it."""
    check_name(name)
    if not traces.of(name):
        return False
    with record.claimed(name):
        teardown.remove(name)
    return True


def _start(
    planned: plan.Plan, file: labfile.LabFile, cgroup: Path, say: Callable[[str], None]
) -> Lab:
    # Late, because exec and env should not wait for an HTTP client and netlink to load.
    import asyncio

    from lab.account import unprivileged
    from lab.bringup import BringUp
    from lab.daemons import Daemons

    names = LabNames(planned.lab)
    names.logs.mkdir()
    record.save(Record(phase="starting", plan=planned, cgroup=str(cgroup)))
    bringup = BringUp(planned, file, cgroup, Daemons(names, cgroup, unprivileged()), say)
    endpoint, warnings = asyncio.run(bringup.run())
    started = Record(
        phase="up",
        plan=planned,
        cgroup=str(cgroup),
        server=endpoint.server,
        ca_file=str(endpoint.ca_file),
        token_file=str(endpoint.token_file),
    )
    record.save(started)
    return Lab(started, warnings)

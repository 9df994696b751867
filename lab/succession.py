"""Workloads of a running lab that come after others: at the same address, with other rights.

For tests and benchmarks, as is lab.restart.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import msgspec

from lab.api import Lab
from lab.patience import stretched
from lab.plan import PlannedWorkload
from lab.processes import Place
from lab.restart import kill, processes
from meshapi.errors import HopliteError
from meshapi.resources import ObjectMeta, Workload, WorkloadStatus, by_word

_PATIENCE = 20.0  # seconds until a node has enrolled the successor


@contextmanager
def paused(lab: Lab, node: str) -> Iterator[None]:
    """A node whose agent hears nothing meanwhile; its kernel goes on."""
    pids = processes(lab, node, "hoplite-agent")
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def succeed(lab: Lab, target: str, name: str, labels: Mapping[str, str]) -> Place:
    """End the workload ``target`` and give its addresses to another one, in a cgroup of its own.

    Returns when the node has enrolled it, which whoever starts workloads has to wait for; its
    processes belong into the place that is returned.
    """
    former = lab.workload(target)
    kill(lab, former.node, former.cgroup)
    cgroup = f"{former.cgroup}-{name}"
    path = lab.cgroup(former.node, cgroup)
    path.mkdir()
    asyncio.run(_succeed(lab, former, _Heir(name, cgroup, dict(labels))))
    return msgspec.structs.replace(lab.target(target).place, cgroup=str(path))


@dataclass(frozen=True)
class _Heir:
    name: str
    cgroup: str
    labels: dict[str, str]


async def _succeed(lab: Lab, former: PlannedWorkload, heir: _Heir) -> None:
    kind, replace = by_word("workload"), msgspec.structs.replace
    async with lab.endpoint.client() as client:
        found = await client.get(kind, former.namespace, former.resource)
        if not isinstance(found, Workload):
            raise HopliteError(f"{former.namespace}/{former.resource} is not a Workload")
        await client.delete(kind, former.namespace, former.resource)
        meta = ObjectMeta(name=heir.name, namespace=former.namespace, labels=heir.labels)
        spec = replace(found.spec, cgroup=heir.cgroup, service_account=heir.name)
        made = replace(found, metadata=meta, spec=spec, status=WorkloadStatus())
        await client.apply([made])
        deadline = time.monotonic() + stretched(_PATIENCE)
        while True:
            now = await client.get(kind, former.namespace, heir.name)
            if isinstance(now, Workload) and now.status.ready:
                return
            if time.monotonic() > deadline:
                raise HopliteError(f"{former.namespace}/{heir.name} is not enrolled")
            await asyncio.sleep(0.02)

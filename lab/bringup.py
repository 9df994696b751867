"""Starting a lab, in order: controller, nodes, workloads, mesh resources; then it is up.

Nothing here cleans up: whoever calls ``BringUp.run`` removes the lab by name if it fails.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from lab import netns, places, plan, ports
from lab.daemons import Daemons
from lab.endpoint import Endpoint
from lab.labfile import LabFile
from lab.names import LabNames
from lab.patience import stretched
from lab.plan import Plan, PlannedWorkload
from lab.processes import HOLDER, Running, last_line, place_in, start, workload_env
from meshapi import wire
from meshapi.client import ApiClient
from meshapi.errors import HopliteError, InvalidError, UnavailableError
from meshapi.resources import MeshNode, Resource, Workload, by_word, key_of

_OBJECT = re.compile(r"\$\.objects\[(\d+)\]")  # how the controller names one of several
_PAUSE = 0.02  # seconds between two looks
_CONTROLLER_PATIENCE = 20.0
_NODE_PATIENCE = 60.0  # an agent may have to compile its programs, next to others
_RESOURCE_PATIENCE = 30.0
_PORT_PATIENCE = 15.0
_SETTLE = 0.5  # what a command that serves no port must live through, unless it succeeds


@dataclass(frozen=True)
class Missing:
    """What is still waited for, and the process whose log may say why."""

    what: str
    suspect: str = ""


Probe = Callable[[], Awaitable[Missing | None]]


@dataclass
class BringUp:
    """One ``up``. ``say`` hears what is being waited for."""

    plan: Plan
    file: LabFile
    cgroup: Path
    daemons: Daemons
    say: Callable[[str], None]
    running: list[Running] = field(default_factory=list)

    @property
    def names(self) -> LabNames:
        return self.daemons.names

    async def run(self) -> tuple[Endpoint, tuple[str, ...]]:
        """Start everything; returns how the controller is reached, and its warnings."""
        self.say("making namespaces and cgroups")
        await asyncio.to_thread(places.make, self.plan, self.cgroup)
        self._hold_pods()
        self.say("starting the controller")
        controller, endpoint = self.daemons.controller(self.plan.fabric)
        self.running.append(controller)
        async with self._client(endpoint) as client:
            own = plan.resources(self.plan, self.file)
            extra = [m.resource for m in self.file.manifests]
            await self._apply(client, _merged(own, extra), dry_run=True)
            await self._start_nodes(client)
            await self._apply(client, own)
            await self._enrolled(client)
            await self._start_workloads()
            self.say("applying the resources of the file")
            reply = await self._apply(client, extra)
            await self._acknowledged(client, reply.revision)
        return endpoint, reply.warnings

    # -- controller and nodes ------------------------------------------------------------------

    @asynccontextmanager
    async def _client(self, endpoint: Endpoint) -> AsyncIterator[ApiClient]:
        async def written() -> Missing | None:
            if endpoint.ready:
                return None
            return Missing("the controller has not made its CA", "controller")

        await self._until(written, _CONTROLLER_PATIENCE)
        async with endpoint.client() as client:

            async def answers() -> Missing | None:
                try:
                    await client.list_all(by_word("namespaces"))
                except UnavailableError as error:
                    return Missing(error.what, "controller")
                return None

            await self._until(answers, _CONTROLLER_PATIENCE)
            yield client

    async def _start_nodes(self, client: ApiClient) -> None:
        self.say("starting agents")
        for node in self.plan.nodes:
            request = wire.JoinTokenRequest(node=node.name)
            reply = await client.call(wire.JOIN_TOKENS_PATH, request, wire.JoinTokenReply)
            self.running.append(self.daemons.agent(node, reply.token, self.plan.dns_upstreams))
        await self._until(self._agents_listen, _NODE_PATIENCE)
        self.say("starting node proxies")
        for node in self.plan.nodes:
            self.running.append(self.daemons.l7proxy(node))

        async def ready() -> Missing | None:
            nodes = await _nodes(client)
            for name in (n.name for n in self.plan.nodes):
                node = nodes.get(name)
                if node is None or node.status.agent is None or not node.status.agent.ready:
                    return Missing(f"the agent of {name} is not ready", f"{name}/agent")
                if node.status.l7proxy is None or not node.status.l7proxy.ready:
                    return Missing(f"the l7proxy of {name} is not ready", f"{name}/l7proxy")
            return None

        await self._until(ready, _NODE_PATIENCE)

    async def _agents_listen(self) -> Missing | None:
        """Whether a node proxy would find its agent; sooner it would only wait, and ask in vain."""
        for node in self.plan.nodes:
            if not self.daemons.proxy_socket(node.name).exists():
                return Missing(f"the agent of {node.name} does not listen", f"{node.name}/agent")
        return None

    async def _enrolled(self, client: ApiClient) -> None:
        self.say("waiting until every workload is enrolled")
        wanted = {(w.namespace, w.resource): w for w in self.plan.workloads}

        async def ready() -> Missing | None:
            listed = await client.list_all(by_word("workloads"))
            enrolled = {_key(w): w.status for w in listed if isinstance(w, Workload)}
            for key, workload in wanted.items():
                status = enrolled[key]
                if not status.ready:
                    what = f"{workload.target} is not enrolled {status.message}".strip()
                    return Missing(what, f"{workload.node}/agent")
            return None

        await self._until(ready, _RESOURCE_PATIENCE)

    # -- workloads -----------------------------------------------------------------------------

    def _hold_pods(self) -> None:
        """Give every pod a process that does nothing, by which its node's agent knows its network
        (as Kubernetes does).
        """
        for node in self.plan.nodes:
            for pod in node.pods:
                place = place_in(self.cgroup / node.name / pod.cgroup, pod.netns)
                log, env = self.names.log(pod.target), workload_env({}, self.names.home(pod.target))
                name = f"what holds {pod.target}"
                self.running.append(start(name, place, HOLDER, env, log))

    async def _start_workloads(self) -> None:
        commanded = [w for w in self.plan.workloads if w.command]
        if not commanded:
            return
        self.say("starting the workloads")
        settled = time.monotonic() + _SETTLE
        for workload in commanded:
            group = self.cgroup / workload.node / workload.cgroup
            resolv_conf = self.names.resolv_conf(workload.namespace)
            place = place_in(group, workload.netns, resolv_conf)
            env = workload_env(workload.env, self.names.home(workload.target))
            log = self.names.log(workload.target)
            lasting = bool(workload.ports)  # one that serves nothing may have done its work
            self.running.append(
                start(workload.target, place, workload.command, env, log, lasting=lasting)
            )

        async def at_work() -> Missing | None:
            for workload in commanded:
                if silent := await asyncio.to_thread(_silent_ports, workload):
                    what = f"{workload.target} does not listen on {', '.join(silent)}"
                    return Missing(what, workload.target)
                if not workload.ports and time.monotonic() < settled:
                    return Missing(f"{workload.target} has only begun", workload.target)
            return None

        await self._until(at_work, _PORT_PATIENCE)

    # -- resources -----------------------------------------------------------------------------

    async def _apply(
        self, client: ApiClient, resources: list[Resource], *, dry_run: bool = False
    ) -> wire.ApplyReply:
        try:
            return await client.apply(resources, dry_run=dry_run)
        except InvalidError as error:
            raise located(error, resources, self.file) from error

    async def _acknowledged(self, client: ApiClient, revision: int) -> None:
        async def done() -> Missing | None:
            for name, node in (await _nodes(client)).items():
                for component in ("agent", "l7proxy"):
                    status = getattr(node.status, component)
                    if status is None or status.revision < revision:
                        what = f"{name} has not acknowledged revision {revision}"
                        return Missing(what, f"{name}/{component}")
            return None

        await self._until(done, _RESOURCE_PATIENCE)

    # -- waiting -------------------------------------------------------------------------------

    async def _until(self, probe: Probe, patience: float) -> None:
        """Look until nothing is missing; refuse when a process ends or ``patience`` (s) does."""
        patience = stretched(patience)
        deadline = time.monotonic() + patience
        while missing := await probe():
            self._refuse_deaths()
            if time.monotonic() > deadline:
                said = last_line(self.names.log(missing.suspect))
                raise HopliteError(
                    f"{missing.what} after {patience:g} s",
                    fix=f"{missing.suspect} said last: {said}" if said else "",
                )
            await asyncio.sleep(_PAUSE)
        self._refuse_deaths()

    def _refuse_deaths(self) -> None:
        for running in self.running:
            if death := running.death():
                raise HopliteError(death)


def located(error: InvalidError, resources: list[Resource], file: LabFile) -> HopliteError:
    """The first problem of an apply, with the file and line that it is about. Pure."""
    problem = error.problems[0]
    match = _OBJECT.match(problem.path)
    if match is None:
        return error
    path = "$" + problem.path[match.end() :]
    where = file.where(key_of(resources[int(match[1])]), path)
    return HopliteError(f"{path}: {problem.what}", where=where, fix=problem.fix)


def _silent_ports(workload: PlannedWorkload) -> list[str]:
    """The declared ports on which nobody listens in the workload's network."""
    tables = netns.within(workload.netns, _socket_tables)
    found = ports.listening(tables)
    return [f"{p.port}/{p.protocol}" for p in workload.ports if (p.port, p.protocol) not in found]


def _socket_tables() -> dict[str, str]:
    here = Path("/proc/thread-self/net")
    return {name: (here / name).read_text() for name in ports.TABLES if (here / name).exists()}


async def _nodes(client: ApiClient) -> dict[str, MeshNode]:
    listed = await client.list_all(by_word("meshnodes"))
    return {r.metadata.name: r for r in listed if isinstance(r, MeshNode)}


def _key(resource: Resource) -> tuple[str, str]:
    return resource.metadata.namespace, resource.metadata.name


def _merged(own: list[Resource], extra: list[Resource]) -> list[Resource]:
    """Both, each object once."""
    known = set(map(id, own))
    return [*own, *(r for r in extra if id(r) not in known)]

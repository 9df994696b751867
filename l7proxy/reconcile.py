"""Decides when: brings Envoy and the agent to what the newest snapshot wants.

Woken by a new snapshot, by Envoy, by the agent and by the clock, it looks at everything anew and
has done what can be done now. Pure modules decide what is wanted, and in which order it comes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from l7proxy import snapshot, state
from l7proxy.agent import AgentLink
from l7proxy.apply import Applier
from l7proxy.envoy.admin import EnvoyAdmin
from l7proxy.envoy.supervisor import Supervisor
from l7proxy.lingering import Lingering
from l7proxy.resources.names import parse_port_name
from l7proxy.snapshot import ProxyOptions, Resources
from l7proxy.status import Status, serving
from l7proxy.xds.ads import Ads, EnvoyGoneError
from meshapi.errors import HopliteError
from meshapi.watch import Snapshot
from meshapi.wire import ProxyReady, ServicePortRef

log = logging.getLogger(__name__)

_LOOK_AGAIN_SECONDS = 2.0  # while the last connections drain, or after a failure
_STOP_PATIENCE_SECONDS = 5.0


@dataclass(frozen=True)
class Timing:
    """In seconds: how long Envoy stays unneeded; how long old connections may go on."""

    idle_grace: float
    drain: float


class Reconciler:
    """``status`` and ``resources`` are for others to read; ``changed`` hears of a new status."""

    def __init__(
        self,
        node: str,
        options: ProxyOptions,
        timing: Timing,
        *,
        ads: Ads,
        envoy: Supervisor,
        admin: EnvoyAdmin,
        agent: AgentLink,
        changed: Callable[[], None],
    ) -> None:
        self.status = Status()
        self.resources = Resources()
        self.snapshot: Snapshot | None = None
        self._node = node
        self._options = options
        self._timing = timing
        self._ads = ads
        self._envoy = envoy
        self._admin = admin
        self._agent = agent
        self._changed = changed
        self._applier = Applier(node, options, ads, agent, envoy.accepting)
        self._lingering = Lingering(timing.drain)
        self._idle_since: float | None = None
        self._woken = asyncio.Event()
        self._alarm: float | None = None

    def take(self, new: Snapshot) -> None:
        """Bring this snapshot about; it supersedes whatever was taken before."""
        self.snapshot = new
        self.wake()

    def wake(self) -> None:
        """Something changed: look again."""
        self._woken.set()

    @property
    def ready(self) -> tuple[ServicePortRef, ...]:
        """The service ports that Envoy serves."""
        return self._applier.ready()

    async def retire(self) -> None:
        """Have the agent redirect nothing any more; returns when it has confirmed."""
        revision = self.snapshot.revision if self.snapshot else 0
        self._agent.announce(ProxyReady(revision=revision, services=()))
        await self._agent.confirmed()

    async def run(self) -> None:
        while True:
            await self._wait()
            try:
                await self._look()
            except EnvoyGoneError:
                self._say_starting()
            except HopliteError as error:
                log.warning("cannot go on now", extra={"reason": str(error)})
                self._say(ready=False, state=str(error))
                self._set_alarm(time.monotonic() + _LOOK_AGAIN_SECONDS)

    async def _wait(self) -> None:
        timeout = None if self._alarm is None else max(0.0, self._alarm - time.monotonic())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._woken.wait()
        self._woken.clear()
        self._alarm = None

    async def _look(self) -> None:
        new = self.snapshot
        if new is None:
            return
        now = time.monotonic()
        view = state.view(new, self._node, self._kept_backends(now))
        if view.needed:
            self._idle_since = None
            self._envoy.ensure()  # it starts while the resources are built
        self.resources = snapshot.build(view, self._options, self.resources)
        if not view.needed and not self._envoy.running:
            await self._rest(new.revision)
        elif not self._ads.connected:
            self._say_starting()
        else:
            await self._serve(new.revision, now)

    async def _serve(self, revision: int, now: float) -> None:
        if self._envoy.adopted:
            await self._ads.introduced()
        done = await self._applier.apply(self.resources, revision)
        self._lingering.update(self._applier.clusters(), self.resources.named_clusters(), now)
        self._set_alarm(self._lingering.next_end)
        needed, problems = self.resources.view.needed, self._applier.problems()
        self._say(
            revision=revision if done and not problems else self.status.revision,
            ready=True,
            state=serving(self._applier.ready()) if needed else "idle",
            problems=problems,
        )
        if done and not needed:
            await self._wind_down(revision, now)

    async def _wind_down(self, revision: int, now: float) -> None:
        """Nothing needs Envoy: end it after the grace, when its last connection is closed."""
        if self._agent.redirected != frozenset():
            return  # the agent's word wakes us
        self._idle_since = self._idle_since or now
        due = self._idle_since + self._timing.idle_grace
        if now < due:
            self._set_alarm(due)
        elif now < due + self._timing.drain and await self._admin.active_connections():
            self._set_alarm(now + _LOOK_AGAIN_SECONDS)
        else:
            await self._rest(revision, _STOP_PATIENCE_SECONDS)

    async def _rest(self, revision: int, patience: float = 0.0) -> None:
        """No Envoy, and none needed."""
        await self._envoy.stop(patience)
        self._applier.reset()
        self._lingering.update((), (), 0.0)
        self._agent.announce(ProxyReady(revision=revision, services=()))
        self._say(revision=revision, ready=True, state="idle", problems=())

    def _kept_backends(self, now: float) -> frozenset[ServicePortRef]:
        """Backends that Envoy has and that may be in use, whether or not a route names them."""
        kept = self._applier.clusters() - self._lingering.over(now)
        return frozenset(parse_port_name(name) for name in kept)

    def _set_alarm(self, at: float | None) -> None:
        if at is not None:
            self._alarm = at if self._alarm is None else min(self._alarm, at)

    def _say_starting(self) -> None:
        """An Envoy that starts in its time is no fault of the node's; one that dies is."""
        trouble = self._envoy.trouble
        self._say(ready=not trouble, state=trouble or "starting Envoy")

    def _say(self, **changes: Any) -> None:
        status = replace(self.status, **changes)
        if status != self.status:
            self.status = status
            self._changed()

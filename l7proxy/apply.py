"""Carries a plan out against Envoy and the agent, and remembers what came of each step."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping

from l7proxy import snapshot
from l7proxy.agent import AgentLink
from l7proxy.plan import Announce, Inventory, Put, Remove, Withdraw, plan
from l7proxy.refusals import Refusals, blamed
from l7proxy.resources.listeners import OUTBOUND
from l7proxy.resources.names import parse_port_name
from l7proxy.snapshot import ProxyOptions, Resources
from l7proxy.xds.ads import Ads
from l7proxy.xds.types import Encoded, Type
from meshapi.resources import HTTPRoute, Key, NodeProblem
from meshapi.wire import ProxyReady, ServicePortRef

log = logging.getLogger(__name__)


class Applier:
    """``accepting`` waits until Envoy takes connections."""

    def __init__(
        self,
        node: str,
        options: ProxyOptions,
        ads: Ads,
        agent: AgentLink,
        accepting: Callable[[], Awaitable[None]],
    ) -> None:
        self._node = node
        self._options = options
        self._ads = ads
        self._agent = agent
        self._accepting = accepting
        self._refusals = Refusals()
        self._wanted = Resources()
        self._stream = 0
        self._listens = False
        self._chains: frozenset[str] | None = None  # of the listener that Envoy has, if known
        self._accepted: dict[Type, dict[str, Encoded]] = {t: {} for t in Type}
        self._accepted_routes: dict[str, tuple[HTTPRoute, ...]] = {}
        self._listener: tuple[Mapping[str, bytes], Encoded] | None = None

    async def apply(self, wanted: Resources, revision: int) -> bool:
        """Bring Envoy to ``wanted`` as far as it can be brought now.

        False means that the agent still has to say that it redirects some port no longer; call
        again when it has. EnvoyGoneError means that Envoy went away; call again when it is back.
        """
        self._begin(wanted)
        for step in plan(self._held(), _inventory(wanted), OUTBOUND):
            match step:
                case Put(Type.LISTENER):
                    await self._put_listener()
                case Put(kind, names):
                    await self._put(kind, names)
                case Withdraw(ports):
                    if not self._withdraw(ports, revision):
                        return False
                case Announce():
                    await self._once_accepting()
                    self._agent.announce(ProxyReady(revision=revision, services=self.ready()))
                case Remove(kind, names):
                    self._remove(kind, names)
        return True

    def ready(self) -> tuple[ServicePortRef, ...]:
        """The service ports for which Envoy has chain, routes and warm clusters."""
        routes, chains = self._ads.held(Type.ROUTES), self._present_chains()
        names = [n for n in self._wanted.ports if n in chains and n in routes and self._warm(n)]
        return tuple(parse_port_name(name) for name in sorted(names))

    def clusters(self) -> set[str]:
        """Every cluster that Envoy has or is about to have."""
        return self._ads.held(Type.CLUSTER).keys() | self._ads.offered(Type.CLUSTER).keys()

    def problems(self) -> tuple[NodeProblem, ...]:
        return self._refusals.problems()

    def reset(self) -> None:
        """Envoy was stopped: start over with nothing."""
        self._ads.reset()
        self._refusals.clear()
        self._wanted = Resources()
        self._chains = None
        self._accepted = {t: {} for t in Type}
        self._accepted_routes = {}
        self._listener = None

    # -- steps ---------------------------------------------------------------------------------

    def _begin(self, wanted: Resources) -> None:
        if self._stream != self._ads.streams:  # another Envoy, or the same one anew: ask it
            self._stream = self._ads.streams
            self._chains = None
            self._listens = False
            self._refusals.clear()
        self._wanted = wanted
        for kind in (Type.CLUSTER, Type.ENDPOINTS, Type.ROUTES):
            self._refusals.keep_only(kind, _versions(wanted.offered(kind)))

    async def _put(self, kind: Type, names: Iterable[str]) -> None:
        offered = self._wanted.offered(kind)
        puts = {n: offered[n] for n in names if self._may_put(kind, n, offered[n])}
        known = puts.keys() & self._ads.held(kind).keys()
        self._ads.offer(kind, puts)
        if kind is Type.CLUSTER:
            self._warm_up(known)
        await self._take_verdicts(kind, puts, await self._ads.settle(kind, puts))

    def _warm_up(self, names: Iterable[str]) -> None:
        """Envoy makes a changed cluster anew and waits for endpoints that it does not ask for."""
        endpoints = self._ads.offered(Type.ENDPOINTS)
        self._ads.send_again(Type.ENDPOINTS, {name: endpoints[name] for name in names})

    def _may_put(self, kind: Type, name: str, encoded: Encoded) -> bool:
        if self._refusals.stands(kind, name, encoded.version):
            return False
        return kind is not Type.ROUTES or self._warm(name)

    async def _put_listener(self) -> None:
        """A chain is served only if its routes may be: Envoy would wait for missing ones."""
        served = sorted(self._wanted.ports.keys() & self._ads.offered(Type.ROUTES).keys())
        encoded = self._listener_for(served)
        puts = {OUTBOUND: encoded}
        self._refusals.keep_only(Type.LISTENER, _versions(puts))
        if not served or self._refusals.stands(Type.LISTENER, OUTBOUND, encoded.version):
            return
        self._ads.offer(Type.LISTENER, puts)
        refused = await self._ads.settle(Type.LISTENER, puts)
        await self._take_verdicts(Type.LISTENER, puts, refused)
        if refused:
            return
        self._chains = frozenset(served)
        routes = {name: self._ads.offered(Type.ROUTES)[name] for name in served}
        verdicts = await self._ads.settle(Type.ROUTES, served, asked=True)
        await self._take_verdicts(Type.ROUTES, routes, verdicts)

    def _withdraw(self, ports: Iterable[str], revision: int) -> bool:
        """Whether the agent has confirmed that it does not redirect ``ports`` any more."""
        gone = {parse_port_name(name) for name in ports}
        left = tuple(ref for ref in self.ready() if ref not in gone)
        self._agent.announce(ProxyReady(revision=revision, services=left))
        redirected = self._agent.redirected
        return redirected is not None and not redirected & gone

    def _remove(self, kind: Type, names: Iterable[str]) -> None:
        self._ads.remove(kind, names)
        for name in names:
            self._accepted[kind].pop(name, None)
        if kind is Type.LISTENER:
            self._chains = frozenset()

    async def _once_accepting(self) -> None:
        """Only a new Envoy may not listen yet although it has acknowledged everything."""
        if not self._listens:
            await self._accepting()
            self._listens = True

    # -- verdicts ------------------------------------------------------------------------------

    async def _take_verdicts(
        self, kind: Type, puts: Mapping[str, Encoded], refused: Mapping[str, str]
    ) -> None:
        """Remember what Envoy accepted; put the former one back in the place of what it refused."""
        held = self._ads.held(kind)
        for name, encoded in puts.items():
            if name in refused:
                self._refusals.record(
                    kind, name, encoded.version, refused[name], self._sources(kind, name)
                )
            elif held.get(name) == encoded.version:
                self._accepted[kind][name] = encoded
                self._refusals.accepted(kind, name, encoded.version)
                if kind is Type.ROUTES:
                    self._accepted_routes[name] = self._routes_of(name)
        former = {n: self._accepted[kind][n] for n in refused if n in self._accepted[kind]}
        self._ads.remove(kind, refused.keys() - former.keys())
        if former:
            self._ads.send_again(kind, former)  # what was refused may still wait to warm up
            if kind is Type.CLUSTER:
                self._warm_up(former)
            await self._ads.settle(kind, former)

    def _sources(self, kind: Type, name: str) -> list[Key]:
        if kind is Type.ROUTES:
            return blamed(self._routes_of(name), self._accepted_routes.get(name, ()))
        if kind is Type.LISTENER:
            return [Key("MeshNode", "", self._node)]
        ref = parse_port_name(name)
        return [Key("Service", ref.namespace, ref.name)]

    def _routes_of(self, name: str) -> tuple[HTTPRoute, ...]:
        return self._wanted.view.ports[parse_port_name(name)].routes

    # -- what there is -------------------------------------------------------------------------

    def _held(self) -> Inventory:
        """What Envoy has acknowledged of our offers; an empty version means "not this one"."""
        versions: dict[Type, Mapping[str, str]] = {}
        for kind in Type:
            held, offered = self._ads.held(kind), self._ads.offered(kind)
            known = {n: o.version if held.get(n) == o.version else "" for n, o in offered.items()}
            strangers = dict.fromkeys(held.keys() - known.keys(), "") if kind.wildcard else {}
            versions[kind] = known | strangers
        return Inventory(versions, self._present_chains())

    def _present_chains(self) -> frozenset[str]:
        """The chains of the listener that Envoy has; an inherited one holds a route for each."""
        if self._chains is not None:
            return self._chains
        return frozenset(self._ads.held(Type.ROUTES))

    def _warm(self, name: str) -> bool:
        return self._wanted.needs(name) <= self._ads.held(Type.CLUSTER).keys()

    def _listener_for(self, names: list[str]) -> Encoded:
        chains = {name: self._wanted.ports[name].chain for name in names}
        if self._listener is None or self._listener[0] != chains:
            self._listener = (chains, snapshot.listener(self._wanted, names, self._options))
        return self._listener[1]


def _inventory(wanted: Resources) -> Inventory:
    return Inventory({k: _versions(wanted.offered(k)) for k in Type}, frozenset(wanted.ports))


def _versions(resources: Mapping[str, Encoded]) -> dict[str, str]:
    return {name: encoded.version for name, encoded in resources.items()}

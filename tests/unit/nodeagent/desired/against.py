"""Asking the kernel model and the reference evaluator the same questions, on node n1."""

from __future__ import annotations

import ipaddress
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from hypothesis import Phase, settings

from meshapi.resources import Key, MeshNode, Resource, Service, Workload
from meshapi.verdict import Reason, Verdict
from meshapi.wire import MeshSettings
from nodeagent.desired.local import Settings
from nodeagent.desired.units import Facts
from nodeagent.policy.decisions import Rule
from tests.unit.nodeagent import reference
from tests.unit.nodeagent.desired import worlds
from tests.unit.nodeagent.desired.model import Kernel, Outcome
from tests.unit.nodeagent.reference import Protocol, World

FACTS = Facts(proxy4="169.254.77.1", proxy6="fd6d:6573:6800:ffff::1", proxy_port=15001)
PORTS = (8080, 8080, 8081, 53, 80, 1, 7999, 8000, 9000, 9001, 65535)
PROTOCOLS: tuple[Protocol, ...] = ("TCP", "TCP", "UDP", "OTHER")
OUTSIDE = ("192.0.2.9", "192.0.2.70", "203.0.113.5", "10.244.1.200", "2001:db8::5", "fd00:99::1")


def tries(usual: int) -> settings:
    """How many examples are tried: the same ones every time, or with HOPLITE_EXAMPLES=N N times as
    many, others each time.
    """
    times = os.environ.get("HOPLITE_EXAMPLES")
    return settings(
        max_examples=usual * int(times or 1),
        deadline=None,
        derandomize=times is None,
        phases=(Phase.explicit, Phase.generate, Phase.shrink),  # explaining takes minutes here
    )


class Ask(NamedTuple):
    """A workload of n1 connects to an address, or accepts from it; or n1's own process connects."""

    hook: Literal["connect", "accept", "unenrolled"]
    workload: tuple[str, str]
    address: str
    protocol: Protocol
    port: int


@dataclass(frozen=True)
class Case:
    """A world, and what node n1 knows by itself."""

    objects: dict[Key, Resource]
    mesh: MeshSettings = field(default_factory=MeshSettings)
    redirects: bool = False

    @property
    def world(self) -> World:
        return World(self.objects, self.mesh)

    @property
    def own(self) -> list[Workload]:
        found = (o for o in self.objects.values() if isinstance(o, Workload))
        return [w for w in found if w.spec.node_name == "n1"]

    @property
    def facts(self) -> Facts:
        """Every workload of n1 has been found; perhaps two services go to the node proxy."""
        return replace(
            FACTS,
            cgroups={reference.name(w): (cgroup_of(reference.name(w)), 2) for w in self.own},
            redirected=frozenset({("shop", "s1", 80), ("dev", "s1", 80)} if self.redirects else ()),
        )

    def questions(self, seed: int) -> Iterator[Ask]:
        """Every workload of n1 and every address, each at some ports."""
        drawn = random.Random(seed)  # noqa: S311 - Hypothesis chooses the seed
        virtual, others = self._addresses()

        def some(count: int) -> list[tuple[Protocol, int]]:
            return [(drawn.choice(PROTOCOLS), drawn.choice(PORTS)) for _ in range(count)]

        for workload in self.own:
            own = reference.name(workload)
            for address in virtual:
                for end in (("TCP", 80), ("UDP", 53), *some(1)):
                    yield Ask("connect", own, address, *end)
            for address in others:
                if (
                    address not in workload.spec.addresses
                ):  # a pod that talks to itself is not asked
                    yield from (Ask("connect", own, address, *end) for end in some(4))
                    yield from (Ask("accept", own, address, *end) for end in some(2))
        for address in others:
            for protocol, port in some(1):
                if protocol != "OTHER":
                    yield Ask("unenrolled", ("", ""), address, protocol, port)

    def _addresses(self) -> tuple[list[str], list[str]]:
        """Those of services, and all others."""
        virtual, others = [], list(OUTSIDE)
        for resource in self.objects.values():
            match resource:
                case Service():
                    virtual += resource.spec.addresses
                case MeshNode():
                    others += [*resource.spec.addresses, *resource.spec.proxy_addresses]
                case Workload():
                    others += resource.spec.addresses
        return virtual, others


def cgroup_of(name: tuple[str, str]) -> int:
    return 1000 * (1 + worlds.NAMESPACES.index(name[0])) + int(name[1][1:])


def reference_answer(case: Case, ask: Ask) -> list[reference.Outcome]:
    world = case.world
    if ask.hook == "unenrolled":
        node = next(n for n in world.every(MeshNode) if n.metadata.name == "n1")
        return [reference.connect_unenrolled(world, node, *ask[2:])]
    own = next(w for w in case.own if reference.name(w) == ask.workload)
    address, protocol, port = ask.address, ask.protocol, ask.port
    if ask.hook == "accept":
        return [reference.accept(world, own, address, protocol, port)]
    return reference.connect(world, case.facts.redirected, own, address, protocol, port)


def node_classes(settings: Settings) -> tuple[int, int]:
    return settings.node_class4, settings.node_class6


def kernel_answer(kernel: Kernel, classes: tuple[int, int], ask: Ask) -> set[Outcome]:
    """``classes`` are those of the node's own processes."""
    if ask.hook == "unenrolled":
        return {kernel.connect_unenrolled(classes, ask.address, ask.port, ask.protocol)}
    cgroup = cgroup_of(ask.workload)
    if ask.hook == "connect":
        found = kernel.connect(cgroup, ask.address, ask.port, ask.protocol)
        assert found is not None
        return found
    accepted = kernel.accept(cgroup, ask.address, ask.port, ask.protocol)
    assert accepted is not None
    return {accepted}


def plain(outcome: Outcome | reference.Outcome) -> tuple[Verdict, bool, str]:
    """What both must agree on."""
    if outcome.verdict is Verdict.DENY:
        return (Verdict.DENY, False, "")
    to, _, port = outcome.to.rpartition(":")
    return (outcome.verdict, outcome.strict, f"{ipaddress.ip_address(to)}:{port}" if to else port)


Told = tuple[Reason, str, frozenset[str], str]  # reason; kind, policies and rule that decided


def refuses(outcome: Outcome | reference.Outcome) -> bool:
    """Whether it is refused, or would be but for audit mode."""
    return outcome.verdict in (Verdict.DENY, Verdict.AUDIT)


def told(outcome: Outcome, rules: dict[int, Rule]) -> Told:
    """What a flow record says of a refusal."""
    rule = rules[outcome.rule]
    return outcome.reason, rule.kind, frozenset(rule.policy.split(",")), rule.text


def refusing_rules(outcome: reference.Outcome) -> set[Told]:
    """What a flow record may say of a refusal."""
    audit = outcome.verdict is Verdict.AUDIT
    return {
        (Reason.WOULD_DENY if audit else refusal.reason, *rule)
        for refusal in outcome.refusals
        for rule in refusal.rules
    }

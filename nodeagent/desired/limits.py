"""Connection limits as the kernel counts them: of a service, and of a port of our own. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from meshapi.backends import target_port
from meshapi.resources import Workload
from meshapi.resources.traffic import IdentityLimit
from nodeagent import layout
from nodeagent.desired.numbers import number
from nodeagent.desired.units import Sheet
from nodeagent.layout import PROTOCOLS, port_bytes
from nodeagent.policy.decisions import Rule
from nodeagent.state import Name

_SECOND = 1_000_000_000  # ns


@dataclass(frozen=True)
class Limit:
    """What one caller may do. ``burst`` connections at once; a rate or a number of 0 is any."""

    services: tuple[Name, ...]
    rate: int
    burst: int
    most: int

    @property
    def number(self) -> int:
        return number("limit", self.services)

    def pack(self, sheet: Sheet) -> bytes:
        interval = _SECOND // self.rate if self.rate else 0
        names = ",".join(f"{namespace}/{name}" for namespace, name in self.policies(sheet))
        rule = Rule("TrafficPolicy", names, "connectionLimits")
        return layout.LIMIT.pack(
            interval, (self.burst - 1) * interval, self.most, self.number, sheet.rule(rule)
        )

    def policies(self, sheet: Sheet) -> Iterator[Name]:
        for service in self.services:
            policy = sheet.state.traffic_policy(service)
            if policy is not None:
                yield policy.metadata.namespace, policy.metadata.name


def of_service(sheet: Sheet, name: Name) -> int:
    """The number of a service's limit, which is put into the table; 0 if it has none."""
    limit = _limit(sheet, name)
    if limit is None:
        return 0
    sheet.put("limits", limit.number.to_bytes(4, "little"), limit.pack(sheet))
    return limit.number


def guards(sheet: Sheet, workload: Workload, cgroup: int) -> bool:
    """Bound whoever comes to the ports of a local workload; whether any port is bounded.

    A connection that arrives does not say which service was dialled. Where services with different
    limits lead to one port the most generous of each number holds for what arrives there.
    """
    by_port: dict[tuple[str, int], list[Limit]] = {}
    for name in sorted(sheet.state.services_of(workload)):
        limit = _limit(sheet, name)
        if limit is None:
            continue
        for port in sheet.state.services[name].spec.ports:
            reached = target_port(workload, port)
            if reached:
                by_port.setdefault((port.protocol, reached), []).append(limit)
    for (protocol, port_), limits in by_port.items():
        key = layout.GUARD_KEY.pack(cgroup, port_bytes(port_), PROTOCOLS[protocol])
        sheet.put("guards", key, _together(limits).pack(sheet))
    return bool(by_port)


def _limit(sheet: Sheet, name: Name) -> Limit | None:
    policy = sheet.state.traffic_policy(name)
    wish = policy.spec.connection_limits if policy else None
    return _from(name, wish.per_identity) if wish else None


def _from(name: Name, wish: IdentityLimit) -> Limit:
    rate = wish.connections_per_second or 0
    return Limit((name,), rate, wish.burst or max(rate, 1), wish.concurrent_connections or 0)


def _together(limits: list[Limit]) -> Limit:
    """The most generous of each number; two ports of one service that lead here are one limit."""
    names = tuple(sorted({name for limit in limits for name in limit.services}))
    fastest = max(limits, key=lambda limit: (not limit.rate, limit.rate))
    rate = fastest.rate
    burst = max(limit.burst for limit in limits)
    most = 0 if any(not limit.most for limit in limits) else max(limit.most for limit in limits)
    return Limit(names, rate, burst, most)

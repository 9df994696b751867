"""Kernel records to flows. Pure."""

from __future__ import annotations

import datetime as dt
import errno
import os
from typing import Literal

from meshapi.flow import PROTOCOLS, Flow, FlowEndpoint
from meshapi.verdict import REASON_TEXT, Direction, Hook, Path, Reason, Verdict
from nodeagent.layout import (
    FLOW_AUTHENTICATED,
    STATE_NAMES,
    DatagramFlow,
    Event,
    port_number,
)
from nodeagent.telemetry.names import Names

_STATE_CLOSED = 1
_STATE_FAILED = 2


def from_event(event: Event, names: Names, clock_offset: int) -> Flow:
    """A flow; ``clock_offset`` is nanoseconds from CLOCK_MONOTONIC to the wall clock."""
    local_port, remote_port = port_number(event.local_port), port_number(event.remote_port)
    dialled_port = port_number(event.dialled_port)
    outbound = event.direction == Direction.OUTBOUND
    ours = names.local(
        event.cgroup,
        event.source if outbound else event.destination,
        event.local if outbound else event.dialled,
        local_port if outbound else dialled_port,
    )
    service = names.service(event.service, event.dialled, dialled_port)
    if outbound and event.path == Path.PROXY and service is not None:
        theirs = FlowEndpoint(
            kind="service",
            namespace=service.namespace,
            name=service.name,
            address=service.address,
            port=service.port,
        )
    elif event.flags & FLOW_AUTHENTICATED and not outbound:
        theirs = names.caller(event.claim, event.source, event.remote, remote_port)
    else:
        theirs = names.remote(
            event.destination if outbound else event.source, event.remote, remote_port
        )
    rule = names.rules.get(event.rule)
    reason = Reason(event.cut or event.reason)
    return Flow(
        time=_time(event.time + clock_offset),
        node=names.node,
        direction="outbound" if outbound else "inbound",
        protocol=_protocol(event.protocol),
        verdict=_verdict(event.verdict),
        reason=reason.name,
        reason_code=reason,
        path="proxy" if event.path == Path.PROXY else "direct",
        source=ours if outbound else theirs,
        destination=theirs if outbound else ours,
        state="cut" if event.cut else _state(event.state),
        service=service,
        policy=rule.policy if rule else "",
        policy_kind=rule.kind if rule else "",
        rule=rule.text if rule else "",
        hook=Hook(event.hook).name.lower(),
        authenticated=bool(event.flags & FLOW_AUTHENTICATED),
        bytes_sent=event.sent,
        bytes_received=event.received,
        duration_ms=event.duration / 1e6,
        connect_ms=event.connect / 1e6 if event.connect else None,
        retransmits=event.retransmits,
        error=errno.errorcode.get(event.error, "") if event.error else "",
        message=_message(event, reason),
    )


def idle_datagrams(cookie: int, flow: DatagramFlow, now: int) -> Event:
    """The record of a UDP exchange that went quiet; ``now`` is CLOCK_MONOTONIC in nanoseconds."""
    return Event(
        time=now,
        duration=flow.established - flow.started,
        connect=0,
        cgroup=flow.cgroup,
        cookie=cookie,
        sent=flow.sent,
        received=flow.received,
        local=bytes(16),
        remote=flow.actual,
        dialled=flow.dialled,
        local_port=b"\0\0",
        remote_port=flow.actual_port,
        dialled_port=flow.dialled_port,
        error=0,
        source=flow.source,
        destination=flow.destination,
        service=flow.service,
        rule=flow.rule,
        retransmits=0,
        round_trip=0,
        protocol=flow.protocol,
        direction=flow.direction,
        verdict=flow.verdict,
        reason=flow.reason,
        path=flow.path,
        hook=flow.hook,
        state=_STATE_CLOSED,
        cut=0,
        flags=flow.flags,
        claim=flow.claim,
    )


def _message(event: Event, reason: Reason) -> str:
    if event.cut or event.verdict in (Verdict.DENY, Verdict.AUDIT):
        return REASON_TEXT[reason]
    if event.error:
        return os.strerror(event.error)
    return "the peer refused or did not answer" if event.state == _STATE_FAILED else ""


def _time(nanoseconds: int) -> str:
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    moment = dt.datetime.fromtimestamp(seconds, dt.UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{rest // 1000:06d}Z"


def _protocol(number: int) -> str:
    return PROTOCOLS.get(number, str(number))


def _verdict(number: int) -> Literal["PASS", "ALLOW", "DENY", "REDIRECT", "AUDIT"]:
    return Verdict(number).name  # type: ignore[return-value]


def _state(number: int) -> Literal["open", "closed", "failed", "denied"]:
    return STATE_NAMES[number]  # type: ignore[return-value]

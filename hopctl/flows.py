"""``hopctl flows``: who talked to whom, under which verdict and reason."""

from __future__ import annotations

import argparse
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from hopctl import connection

if TYPE_CHECKING:
    from hopctl.output import Cell, Tone
    from meshapi.flow import Flow, FlowCoverage, FlowEndpoint, FlowQuery

_HEADER = (
    "TIME",
    "NODE",
    "DIR",
    "FROM",
    "TO",
    "SERVICE",
    "PROTO",
    "VERDICT",
    "REASON",
    "PATH",
    "BYTES",
    "DURATION",
)
_WIDE_HEADER = ("STATE", "HOOK", "AUTHENTICATED", "POLICY", "RULE")
_TONES: dict[str, Tone] = {"DENY": "bad", "AUDIT": "warn"}
_BATCH = 200  # rows that are aligned together


def add(verbs: Any) -> None:
    parser: argparse.ArgumentParser = verbs.add_parser(
        "flows",
        parents=[connection.flags()],
        help="show recorded flows",
        description="Show the flows that the nodes have recorded, oldest first.",
    )
    parser.add_argument(
        "--since", metavar="TIME", help="5m (ago), an RFC 3339 time or epoch seconds"
    )
    parser.add_argument("--until", metavar="TIME", help="likewise")
    parser.add_argument("--from", dest="source", default="", metavar="NS/NAME", help="NS/ for all")
    parser.add_argument(
        "--to",
        dest="destination",
        default="",
        metavar="NS/NAME",
        help="workload or service; NS/ for all of a namespace",
    )
    parser.add_argument(
        "--verdict", default="", metavar="V", help="PASS, ALLOW, DENY, REDIRECT or AUDIT"
    )
    parser.add_argument("--direction", default="", metavar="D", help="outbound or inbound")
    parser.add_argument("--protocol", default="", metavar="P", help="TCP, UDP, ICMP, …")
    parser.add_argument("--path", default="", metavar="P", help="direct or proxy")
    parser.add_argument("--last", type=int, metavar="N", help="only the newest N")
    parser.add_argument("-o", "--output", default="table", choices=("table", "wide", "json"))
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    import asyncio

    query = read_query(arguments, time.time())
    target = connection.find(arguments, os.environ)
    return asyncio.run(_flows(target, query, arguments.output))


def read_query(arguments: argparse.Namespace, now: float) -> FlowQuery:
    """The query that the flags mean; what is wrong is refused by the flag's name. Pure."""
    from hopctl.errors import UsageError
    from hopctl.when import instant
    from meshapi import flowfilter
    from meshapi.errors import HopliteError
    from meshapi.flow import FlowQuery

    query = FlowQuery(
        since=instant(arguments.since, "--since", now) if arguments.since else None,
        until=instant(arguments.until, "--until", now) if arguments.until else None,
        source=arguments.source,
        destination=arguments.destination,
        verdict=arguments.verdict.upper(),
        direction=arguments.direction.lower(),
        protocol=arguments.protocol.upper(),
        path=arguments.path.lower(),
        last=arguments.last,
    )
    try:
        flowfilter.check(query)
    except HopliteError as error:
        flag = {"source": "--from", "destination": "--to"}.get(error.where, f"--{error.where}")
        raise UsageError(error.what, where=flag, fix=error.fix) from error
    return query


async def _flows(target: connection.Connection, query: FlowQuery, output: str) -> int:
    from hopctl.output import Table, warn
    from meshapi import codec

    wide = output == "wide"
    table, rows, count = Table(header(wide=wide)), [], 0
    async with target.client() as client:
        async for reply in client.flows(query):
            for coverage in reply.coverage or ():
                line = gap(coverage, query.since)
                if line:
                    warn(f"warning: {line}")
            if reply.flow is None:
                continue
            count += 1
            if output == "json":
                sys.stdout.write(codec.encode_json(reply.flow).decode() + "\n")
            else:
                rows.append(row(reply.flow, wide=wide))
            if len(rows) == _BATCH:
                table.write(rows)
                rows = []
    if rows:
        table.write(rows)
    if not count:
        warn("no flows match")
    return 0


def header(*, wide: bool) -> tuple[str, ...]:
    """The columns' names."""
    return (*_HEADER, *_WIDE_HEADER) if wide else _HEADER


def row(flow: Flow, *, wide: bool = False) -> list[Cell]:
    """A flow's cells. Pure but for the local time zone."""
    import datetime as dt

    from hopctl.output import Cell
    from hopctl.when import lasted

    nothing = Cell("-", "dim")
    refused = flow.state == "denied"
    moment = dt.datetime.fromisoformat(flow.time).astimezone()
    tone: Tone = _TONES.get(flow.verdict, "good")
    service = flow.service
    cells = [
        Cell(moment.strftime("%m-%d %H:%M:%S.%f")[:-3], "dim"),
        Cell(flow.node),
        Cell({"outbound": "out", "inbound": "in"}[flow.direction]),
        Cell(end(flow.source, port=False)),
        Cell(end(flow.destination, port=True)),
        Cell(f"{service.namespace}/{service.name}:{service.port}" if service else "-"),
        Cell(flow.protocol),
        Cell(flow.verdict, tone),
        Cell(flow.reason, tone if tone != "good" else ""),
        Cell(flow.path, "warn" if flow.path == "proxy" else ""),
        nothing if refused else Cell(f"{size(flow.bytes_sent)}/{size(flow.bytes_received)}"),
        nothing if refused else Cell(lasted(flow.duration_ms)),
    ]
    if wide:
        policy = f"{flow.policy_kind} {flow.policy}" if flow.policy else ""
        words = (flow.state, flow.hook, "yes" if flow.authenticated else "", policy, flow.rule)
        cells += [Cell(text) if text else nothing for text in words]
    return cells


def end(endpoint: FlowEndpoint, *, port: bool) -> str:
    """One end by its name where it has one, otherwise by its address."""
    address = f"[{endpoint.address}]" if ":" in endpoint.address else endpoint.address
    name = endpoint.name
    if name and endpoint.namespace:
        name = f"{endpoint.namespace}/{name}"
    elif endpoint.kind in ("world", "unknown"):  # named after the kind: the address says more
        name = address or name
    elif endpoint.kind == "node":
        name = endpoint.node or name
    shown = name or address or endpoint.kind
    return f"{shown}:{endpoint.port}" if port and endpoint.port else shown


def size(count: int) -> str:
    """Bytes in at most four digits."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f}{unit}" if unit == "B" or value >= 100 else f"{value:.1f}{unit}"
        value /= 1000
    return f"{value:.1f}TB"


def gap(coverage: FlowCoverage, since: float | None) -> str:
    """What one node's answer does not cover of the time from ``since`` on; empty if it is whole."""
    if coverage.error:
        return f"{coverage.node}: {coverage.error}"
    parts = [f"{coverage.lost} records lost"] if coverage.lost else []
    if coverage.evicted and not _reaches_back(coverage.since, since):
        parts.append(
            f"{coverage.evicted} older records evicted, kept are those since "
            f"{coverage.since or 'an unknown time'}"
        )
    return f"{coverage.node}: {'; '.join(parts)}" if parts else ""


def _reaches_back(kept_since: str, wanted: float | None) -> bool:
    import datetime as dt

    if not kept_since or wanted is None:
        return False
    return dt.datetime.fromisoformat(kept_since).timestamp() <= wanted

"""``hopctl get``: objects as a table, JSON, YAML or names; ``--watch`` follows them."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, Any

from hopctl import connection

if TYPE_CHECKING:
    from hopctl.columns import Context
    from meshapi.client import ApiClient
    from meshapi.resources import Kind, Resource, TrafficPolicy


def add(verbs: Any) -> None:
    parser: argparse.ArgumentParser = verbs.add_parser(
        "get",
        parents=[connection.flags()],
        help="show resources",
        description="Show the resources of a kind, of all namespaces unless told otherwise.",
    )
    parser.add_argument("kind", metavar="KIND", help="nodes, workloads, services, httproutes, …")
    parser.add_argument("name", metavar="NAME", nargs="?", help="NAME or NAMESPACE/NAME")
    parser.add_argument("-n", "--namespace", help="only this namespace")
    parser.add_argument("-A", "--all-namespaces", action="store_true", help="the default")
    parser.add_argument("-l", "--selector", default="", help="by labels, e.g. app=web,tier!=test")
    parser.add_argument(
        "-o",
        "--output",
        default="table",
        choices=("table", "wide", "json", "yaml", "name"),
    )
    parser.add_argument("-w", "--watch", action="store_true", help="go on with every change")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    import asyncio

    from hopctl.errors import UsageError
    from meshapi.errors import HopliteError
    from meshapi.resources import by_word

    try:
        kind = by_word(arguments.kind)
    except HopliteError as error:
        raise UsageError(error.what, where=error.where, fix=error.fix) from error
    if arguments.all_namespaces and arguments.namespace:
        raise UsageError("-A and -n together", fix="give one of the two")
    if arguments.namespace and not kind.namespaced:
        raise UsageError(f"a {kind.name} belongs to no namespace", where="-n", fix="leave it out")
    if arguments.watch and arguments.name:
        raise UsageError("a watch is of a whole kind", where="--watch", fix="leave the name out")
    target = connection.find(arguments, os.environ)
    return asyncio.run(_get(target, kind, arguments))


async def _get(target: connection.Connection, kind: Kind, arguments: argparse.Namespace) -> int:
    async with target.client() as client:
        if arguments.watch:
            await _watch(client, kind, arguments)
            return 0
        if arguments.name:
            from hopctl.names import resolve

            key = await resolve(client, kind, arguments.name, arguments.namespace)
            found = [await client.get(kind, key.namespace, key.name)]
            await _show(client, kind, found, arguments.output, single=True)
            return 0
        namespace, selector = arguments.namespace or "", arguments.selector
        listing = await client.listing(kind, namespace, selector)
        ordered = sorted(listing.items, key=lambda r: (r.metadata.namespace, r.metadata.name))
        await _show(client, kind, ordered, arguments.output, single=False)
        return 0


async def _show(
    client: ApiClient, kind: Kind, found: list[Resource], output: str, *, single: bool
) -> None:
    from hopctl import columns
    from hopctl.output import Table, json_text, warn, yaml_text
    from meshapi import codec

    if output in ("json", "yaml"):
        values = [codec.encode(resource) for resource in found]
        whole = {"apiVersion": "v1", "kind": "List", "items": values}
        text = json_text if output == "json" else yaml_text
        sys.stdout.write(text(values[0] if single else whole))
    elif output == "name":
        sys.stdout.writelines(_name(resource) for resource in found)
    elif found:
        wide = output == "wide"
        context = await _context(client, kind, wide=wide)
        rows = [columns.row(kind, resource, context, wide=wide) for resource in found]
        Table(columns.header(kind, wide=wide)).write(rows)
    else:
        warn(f"no {kind.plural}")


async def _watch(client: ApiClient, kind: Kind, arguments: argparse.Namespace) -> None:
    from hopctl import columns
    from hopctl.output import Cell, Table
    from meshapi import codec

    wide = arguments.output == "wide"
    table = Table(["EVENT", *columns.header(kind, wide=wide)])
    async for event in client.watch(kind, arguments.namespace or "", arguments.selector):
        if arguments.output == "name":
            sys.stdout.write(_name(event.object))
        elif arguments.output in ("json", "yaml"):  # a stream has one document a line
            sys.stdout.write(codec.encode_json(event.object).decode() + "\n")
        else:
            context = await _context(client, kind, wide=wide)
            cells = columns.row(kind, event.object, context, wide=wide)
            table.write([[Cell(event.type, "bad" if event.type == "DELETED" else "good"), *cells]])
        sys.stdout.flush()


async def _context(client: ApiClient, kind: Kind, *, wide: bool) -> Context:
    """What the rows of a kind need besides the objects themselves."""
    import asyncio
    import datetime as dt

    from hopctl.columns import Context
    from meshapi.resources import HTTPRoute, MeshNode, Service, Workload, by_word

    now = dt.datetime.now(dt.UTC)
    if kind.type is MeshNode:
        listing = await client.listing(by_word("namespaces"))
        if not wide:
            return Context(int(listing.version), now)
        found = await client.list_all(by_word("workloads"))
        hosted = [w for w in found if isinstance(w, Workload)]
        return Context(int(listing.version), now, hosted, quarantined=await _quarantined(client))
    if kind.type is Service:
        workloads, routes, nodes = await asyncio.gather(
            *(client.list_all(by_word(word)) for word in ("workloads", "httproutes", "meshnodes"))
        )
        return Context(
            0,
            now,
            [w for w in workloads if isinstance(w, Workload)],
            [r for r in routes if isinstance(r, HTTPRoute)],
            nodes=[n for n in nodes if isinstance(n, MeshNode)],
            policies=await _balancing(client),
        )
    if kind.type is Workload:
        return Context(0, now, quarantined=await _quarantined(client))
    return Context(0, now)


async def _quarantined(client: ApiClient) -> set[tuple[str, str]]:
    """Namespace and name of the workloads that are cut off."""
    from meshapi.resources import Quarantine, by_word

    found = await client.list_all(by_word("quarantines"))
    return {(q.metadata.namespace, q.spec.workload) for q in found if isinstance(q, Quarantine)}


def _name(resource: Resource) -> str:
    return f"{resource.kind.lower()}/{resource.metadata.name}\n"


async def _balancing(client: ApiClient) -> list[TrafficPolicy]:
    """What says how services are balanced."""
    from meshapi.resources import TrafficPolicy, by_word

    found = await client.list_all(by_word("trafficpolicies"))
    return [policy for policy in found if isinstance(policy, TrafficPolicy)]

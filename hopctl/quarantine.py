"""``hopctl quarantine``: cut a workload off, and let it back."""

from __future__ import annotations

import argparse
import os
import re
import sys
from typing import TYPE_CHECKING, Any

from hopctl import connection

if TYPE_CHECKING:
    from meshapi.client import ApiClient
    from meshapi.resources import Quarantine
    from meshapi.resources.containment import AllowedPeer

_ALLOWED = re.compile(r"\$\.spec\.allowFrom\[(\d+)\]")
_DEFAULT_WAIT = 30.0  # seconds


def add(verbs: Any) -> None:
    parser: argparse.ArgumentParser = verbs.add_parser(
        "quarantine",
        parents=[connection.flags()],
        help="cut a workload off, or let it back",
        description="Quarantine a workload: nothing goes to or from it but what --allow-from lets "
        "in. It makes, changes or (--lift) deletes the Quarantine named after the workload; a "
        "second time it changes nothing.",
    )
    parser.add_argument("workload", metavar="NAMESPACE/WORKLOAD")
    parser.add_argument(
        "--allow-from",
        dest="allow",
        metavar="NAMESPACE/WORKLOAD|CIDR",
        action="append",
        default=[],
        help="who may still connect to it; may be repeated, replaces whom it let in before",
    )
    parser.add_argument(
        "--reason", metavar="TEXT", help="why, for whoever looks (kept if not given)"
    )
    parser.add_argument("--lift", action="store_true", help="end the quarantine")
    parser.add_argument(
        "--wait",
        nargs="?",
        type=float,
        const=_DEFAULT_WAIT,
        metavar="SECONDS",
        help=f"until every node heard of enforces it (default {_DEFAULT_WAIT:g} s)",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    import asyncio

    from hopctl.errors import UsageError

    namespace, name = _named(arguments.workload, "NAMESPACE/WORKLOAD")
    if arguments.lift and (arguments.allow or arguments.reason is not None):
        raise UsageError("with --allow-from or --reason", where="--lift", fix="leave these out")
    allowed = tuple(peer(text) for text in arguments.allow)
    _check(quarantine(None, namespace, name, allowed, arguments.reason), arguments)
    target = connection.find(arguments, os.environ)

    async def carry_out() -> int:
        async with target.client() as client:
            known = await _known(client, namespace, name)
            if arguments.lift:
                return await _lift(client, known, f"{namespace}/{name}", arguments.wait)
            wanted = quarantine(known, namespace, name, allowed, arguments.reason)
            return await _apply(client, wanted, arguments.wait)

    return asyncio.run(carry_out())


def peer(text: str) -> AllowedPeer:
    """Whom ``--allow-from`` means: an address block, otherwise a workload. Pure."""
    from meshapi.resources.checks import parse_network
    from meshapi.resources.containment import AllowedPeer

    if parse_network(text) is not None:
        return AllowedPeer(cidr=text)
    namespace, workload = _named(text, "--allow-from")
    return AllowedPeer(namespace=namespace, workload=workload)


def quarantine(
    known: Quarantine | None,
    namespace: str,
    workload: str,
    allowed: tuple[AllowedPeer, ...],
    reason: str | None,
) -> Quarantine:
    """The quarantine that is wanted, ``known`` changed or a new one. Pure."""
    from msgspec.structs import replace

    from meshapi.resources import ObjectMeta, Quarantine
    from meshapi.resources.containment import QuarantineSpec, QuarantineStatus

    if known is None:
        return Quarantine(
            api_version="mesh.hoplite.io/v1alpha1",
            kind="Quarantine",
            metadata=ObjectMeta(name=workload, namespace=namespace),
            spec=QuarantineSpec(workload=workload, allow_from=allowed, reason=reason or ""),
        )
    kept = known.spec.reason if reason is None else reason
    spec = replace(known.spec, allow_from=allowed, reason=kept)
    return replace(known, spec=spec, status=QuarantineStatus())


def said(wanted: Quarantine, action: str) -> str:
    """What has been done, in one line. Pure."""
    spec, meta = wanted.spec, wanted.metadata
    state = "is quarantined already" if action == "unchanged" else "is quarantined"
    if spec.allow_from:
        who = ", ".join(p.cidr or f"{p.namespace}/{p.workload}" for p in spec.allow_from)
        effect = f"only {who} may connect to it"
    else:
        effect = "nothing goes to it or from it"
    return f"{meta.namespace}/{spec.workload} {state}: {effect}"


def _check(wanted: Quarantine, arguments: argparse.Namespace) -> None:
    """Refuse by the flag what the controller would refuse by its JSON path."""
    from hopctl.errors import UsageError
    from meshapi.resources.checks import check

    for problem in check(wanted):
        match = _ALLOWED.match(problem.path)
        given = f"--allow-from {arguments.allow[int(match[1])]}" if match else arguments.workload
        raise UsageError(problem.what, where=given, fix=problem.fix)


async def _known(client: ApiClient, namespace: str, workload: str) -> Quarantine | None:
    """The workload's quarantine, whatever its name."""
    from meshapi.resources import Quarantine, by_word

    for found in await client.list_all(by_word("quarantines"), namespace):
        if isinstance(found, Quarantine) and found.spec.workload == workload:
            return found
    return None


async def _apply(client: ApiClient, wanted: Quarantine, seconds: float | None) -> int:
    from hopctl.output import warn
    from meshapi.errors import InvalidError

    try:
        reply = await client.apply([wanted])
    except InvalidError as error:
        for problem in error.problems:
            warn(f"hopctl: {problem.what}")
        return 1
    sys.stdout.write(said(wanted, reply.results[0].action) + "\n")
    sys.stdout.flush()
    for warning in reply.warnings:
        warn(f"warning: {warning}")
    return await _wait(client, reply.revision, seconds)


async def _lift(
    client: ApiClient, known: Quarantine | None, name: str, seconds: float | None
) -> int:
    from meshapi.errors import NotFoundError
    from meshapi.resources import by_word, kind_of

    if known is not None:
        try:
            meta = known.metadata
            await client.delete(kind_of(known), meta.namespace, meta.name)
        except NotFoundError:
            known = None  # somebody else was faster
    words = "is not quarantined any more" if known else "is not quarantined"
    sys.stdout.write(f"{name} {words}\n")
    sys.stdout.flush()
    if seconds is None:
        return 0
    listing = await client.listing(by_word("quarantines"))
    return await _wait(client, int(listing.version), seconds)


async def _wait(client: ApiClient, revision: int, seconds: float | None) -> int:
    from hopctl.wait import wait

    return 0 if seconds is None else await wait(client, revision, seconds)


def _named(text: str, where: str) -> tuple[str, str]:
    from hopctl.errors import UsageError

    namespace, _, name = text.partition("/")
    if not namespace or not name or "/" in name:
        what = f"{text!r} names no workload"
        fix = "write NAMESPACE/WORKLOAD" + (" or an address block" if where[0] == "-" else "")
        raise UsageError(what, where=where, fix=fix)
    return namespace, name

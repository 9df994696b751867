"""``hopctl apply``: all of the given resources, or none of them."""

from __future__ import annotations

import argparse
import os
import re
import sys
from typing import TYPE_CHECKING, Any

from hopctl import connection

if TYPE_CHECKING:
    from meshapi.client import ApiClient
    from meshapi.errors import InvalidError
    from meshapi.manifests import Manifest
    from meshapi.wire import ApplyReply

_OBJECT = re.compile(r"\$\.objects\[(\d+)\]")
_DEFAULT_WAIT = 30.0  # seconds


def add(verbs: Any) -> None:
    parser: argparse.ArgumentParser = verbs.add_parser(
        "apply",
        parents=[connection.flags()],
        help="create or change resources, all of them or none",
        description="Create or change resources. All that -f names is applied together.",
    )
    parser.add_argument(
        "-f",
        dest="files",
        metavar="FILE",
        action="append",
        required=True,
        help="file, directory or - (standard input); may be repeated",
    )
    parser.add_argument("-n", "--namespace", default="default", help="for what names none itself")
    parser.add_argument("--dry-run", action="store_true", help="say what would happen")
    parser.add_argument("--strict", action="store_true", help="refuse what would give a warning")
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

    from hopctl import manifests

    found = manifests.read(arguments.files, arguments.namespace)
    target = connection.find(arguments, os.environ)
    return asyncio.run(_apply(target, found, arguments))


async def _apply(
    target: connection.Connection, found: list[Manifest], arguments: argparse.Namespace
) -> int:
    from hopctl.output import warn
    from hopctl.wait import wait
    from meshapi.errors import InvalidError

    async with target.client() as client:
        try:
            if arguments.strict and await _refuse_warnings(client, found):
                return 1
            reply = await client.apply([m.resource for m in found], dry_run=arguments.dry_run)
        except InvalidError as error:
            for line in located(error, found):
                warn(f"hopctl: {line}")
            return 1
        _show(reply, dry_run=arguments.dry_run)
        if arguments.wait is None or arguments.dry_run:
            return 0
        return await wait(client, reply.revision, arguments.wait)


async def _refuse_warnings(client: ApiClient, found: list[Manifest]) -> bool:
    from hopctl.output import warn

    preview = await client.apply([m.resource for m in found], dry_run=True)
    for warning in preview.warnings:
        warn(f"hopctl: {warning} (refused by --strict)")
    return bool(preview.warnings)


def _show(reply: ApplyReply, *, dry_run: bool) -> None:
    from hopctl.output import warn

    for result in reply.results:
        place = f" ({result.namespace})" if result.namespace else ""
        note = " (dry run)" if dry_run else ""
        sys.stdout.write(f"{result.kind.lower()}/{result.name} {result.action}{place}{note}\n")
    sys.stdout.flush()
    for warning in reply.warnings:
        warn(f"warning: {warning}")


def located(error: InvalidError, found: list[Manifest]) -> list[str]:
    """A refusal's problems, each with the file and line that it is about. Pure."""
    lines = []
    for problem in error.problems:
        match = _OBJECT.match(problem.path)
        if match is None:
            lines.append(str(error))
            continue
        path = "$" + problem.path[match.end() :]
        where = found[int(match[1])].where(path)
        lines.append(f"{where}: {path}: {problem.what}")
    return lines

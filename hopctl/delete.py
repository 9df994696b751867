"""``hopctl delete``: named objects, or those of a file."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, Any

from hopctl import connection

if TYPE_CHECKING:
    from meshapi.client import ApiClient
    from meshapi.resources import Key


def add(verbs: Any) -> None:
    parser: argparse.ArgumentParser = verbs.add_parser(
        "delete",
        parents=[connection.flags()],
        help="delete resources",
        description="Delete resources by kind and name, or those that -f names.",
    )
    parser.add_argument("kind", metavar="KIND", nargs="?")
    parser.add_argument("names", metavar="NAME", nargs="*", help="NAME or NAMESPACE/NAME")
    parser.add_argument("-f", dest="files", metavar="FILE", action="append", default=[])
    parser.add_argument("-n", "--namespace")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    import asyncio

    from hopctl.errors import UsageError

    if bool(arguments.files) == bool(arguments.kind):
        raise UsageError("give KIND and NAME, or -f FILE", where="delete")
    if arguments.kind and not arguments.names:
        raise UsageError(f"no NAME after {arguments.kind}", where="delete", fix="give at least one")
    return asyncio.run(_delete(arguments))


async def _delete(arguments: argparse.Namespace) -> int:
    from hopctl.output import warn
    from meshapi.errors import HopliteError
    from meshapi.resources import by_word

    failed = 0
    keys = _from_files(arguments)
    async with connection.find(arguments, os.environ).client() as client:
        keys = keys or await _named(client, arguments)
        for key in keys:
            try:
                await client.delete(by_word(key.kind), key.namespace, key.name)
            except HopliteError as error:
                warn(f"hopctl: {error}")
                failed += 1
                continue
            place = f" ({key.namespace})" if key.namespace else ""
            sys.stdout.write(f"{key.kind.lower()}/{key.name} deleted{place}\n")
    return 1 if failed else 0


def _from_files(arguments: argparse.Namespace) -> list[Key]:
    """What the files name, last first and namespaces at the end: they must be empty by then."""
    if not arguments.files:
        return []
    from hopctl import manifests
    from meshapi.resources import Namespace, key_of

    found = manifests.read(arguments.files, arguments.namespace or "default")
    resources = [m.resource for m in reversed(found)]
    resources.sort(key=lambda r: isinstance(r, Namespace))
    return [key_of(resource) for resource in resources]


async def _named(client: ApiClient, arguments: argparse.Namespace) -> list[Key]:
    from hopctl.errors import UsageError
    from hopctl.names import resolve
    from meshapi.errors import HopliteError
    from meshapi.resources import by_word

    try:
        kind = by_word(arguments.kind)
    except HopliteError as error:
        raise UsageError(error.what, fix=error.fix) from error
    return [await resolve(client, kind, name, arguments.namespace) for name in arguments.names]

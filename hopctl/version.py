"""``hopctl version``: our own and, on request, the controller's."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

import meshapi
from hopctl import connection


def add(verbs: Any) -> None:
    parser: argparse.ArgumentParser = verbs.add_parser(
        "version", parents=[connection.flags(server=False)], help="show versions"
    )
    parser.add_argument(
        "--server",
        nargs="?",
        const="",
        metavar="URL",
        help="the controller's too; without a URL that of HOPLITE_SERVER",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    sys.stdout.write(f"hopctl {meshapi.__version__}\n")
    if arguments.server is None:
        return 0
    import asyncio

    target = connection.find(arguments, os.environ)

    async def ask() -> str:
        async with target.client() as client:
            return await client.server_version()

    sys.stdout.write(f"hoplite-controller {asyncio.run(ask())} at {target.server}\n")
    return 0

"""``hopctl token create``: a one-time token with which a node joins the mesh."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

from hopctl import connection


def add(verbs: Any) -> None:
    parser: argparse.ArgumentParser = verbs.add_parser("token", help="make a node's join token")
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    create: argparse.ArgumentParser = actions.add_parser(
        "create",
        parents=[connection.flags()],
        help="make one and print it",
        description="Print a join token. It works once, for this node, until it expires.",
    )
    create.add_argument("--node", required=True, metavar="NAME")
    create.add_argument("--ttl", default="1h", metavar="DURATION", help="e.g. 30m (default 1h)")
    create.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    import asyncio

    from hopctl.when import duration
    from meshapi.wire import JOIN_TOKENS_PATH, JoinTokenReply, JoinTokenRequest

    request = JoinTokenRequest(
        node=arguments.node, ttl_seconds=int(duration(arguments.ttl, "--ttl"))
    )
    target = connection.find(arguments, os.environ)

    async def create() -> str:
        async with target.client() as client:
            return (await client.call(JOIN_TOKENS_PATH, request, JoinTokenReply)).token

    sys.stdout.write(asyncio.run(create()) + "\n")
    return 0

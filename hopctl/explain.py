"""``hopctl explain REASON``: what a numbered reason means."""

from __future__ import annotations

import argparse
import difflib
import sys
from typing import Any

from meshapi.errors import NotFoundError
from meshapi.verdict import REASON_TEXT, Reason

_FIRST_REFUSAL = 16


def add(verbs: Any) -> None:
    parser: argparse.ArgumentParser = verbs.add_parser(
        "explain",
        help="say what a reason means",
        description="Explain a reason, by name or number.",
    )
    parser.add_argument("reason", metavar="REASON", help="e.g. 17 or INGRESS_DENIED")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    reason = find(arguments.reason)
    effect = "the connection is refused" if reason >= _FIRST_REFUSAL else "the connection goes on"
    sys.stdout.write(f"{reason.name} ({reason.value}): {REASON_TEXT[reason]}; {effect}\n")
    return 0


def find(text: str) -> Reason:
    """The reason of a number or of a name in any spelling."""
    name = text.upper().replace("-", "_")
    for reason in Reason:
        if text == str(reason.value) or name == reason.name:
            return reason
    near = difflib.get_close_matches(name, [r.name for r in Reason], n=3)
    listed = ", ".join(near or [r.name for r in Reason])
    raise NotFoundError(f"{text!r} is not a reason", fix=f"try {listed}")

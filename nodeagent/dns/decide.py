"""What becomes of a query: an answer of our own, somebody else's, or none. Pure."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import Literal

import dns.rcode

from nodeagent.dns import message
from nodeagent.dns.message import Question
from nodeagent.dns.zone import Zone

Kind = Literal["zone", "forwarded", "refused", "failed"]
KINDS: tuple[Kind, ...] = ("zone", "forwarded", "refused", "failed")


@dataclass(frozen=True)
class Reply:
    """The octets to send, and as what the query counts."""

    wire: bytes
    kind: Kind


@dataclass(frozen=True)
class Forward:
    """A name of somebody else, asked by one of ours."""

    question: Question


def decide(
    zone: Zone, own: Container[str], wire: bytes, source: str, *, over_tcp: bool
) -> Reply | Forward | None:
    """Answer a query from address ``source``; None for what is not a query.

    Only the node (its addresses are ``own``) and its workloads have names looked up elsewhere. A
    name of the mesh is never: while no state is known, it cannot be answered.
    """
    question = message.read(wire)
    if question is None:
        return None
    if isinstance(question, bytes):
        return Reply(question, "refused")
    answer = zone.look_up(question.name, question.mnemonic)
    if answer is None:
        if source in own or source in zone.callers:
            return Forward(question)
        return Reply(message.failure(question, dns.rcode.REFUSED), "refused")
    if not zone.state.revision:
        return Reply(message.failure(question, dns.rcode.SERVFAIL), "failed")
    wire = message.write(question, answer, zone.state.revision, over_tcp=over_tcp)
    return Reply(wire, "zone")

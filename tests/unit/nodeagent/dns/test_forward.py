"""Asking others: what is believed, who is asked next, and how much at a time."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import dns.message
import dns.rcode
import dns.rrset
import pytest

from meshapi.endpoint import Endpoint
from nodeagent.dns import forward, message
from nodeagent.dns.forward import Forwarder
from tests.unit.nodeagent.dns.conftest import (
    Run,
    Upstream,
    free_endpoint,
    honest,
    saying,
    silent,
)

Make = Callable[..., Upstream]


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for the silent is what takes time."""
    monkeypatch.setattr(forward, "PATIENCE", 0.2)
    monkeypatch.setattr(forward, "DEADLINE", 1.0)


def question(name: str = "eXample.ORG") -> message.Question:
    found = message.read(dns.message.make_query(name, "A").to_wire())
    assert isinstance(found, message.Question)
    return found


def ask(
    run: Run[Any], *upstreams: Upstream | Endpoint, over_tcp: bool = False
) -> dns.message.Message | None:
    endpoints = tuple(u.endpoint if isinstance(u, Upstream) else u for u in upstreams)
    forwarder = Forwarder(lambda: endpoints)
    asked = question()
    wire: bytes | None = run(forwarder.ask(asked, "10.0.0.1", over_tcp=over_tcp))
    assert forwarder.in_flight == 0
    if wire is None:
        return None
    assert wire[:2] == asked.wire[:2]
    assert b"\x07eXample\x03ORG\0" in wire
    return dns.message.from_wire(wire)


def said(reply: dns.message.Message | None) -> str:
    assert reply is not None
    return reply.answer[0][0].to_text() if reply.answer else dns.rcode.to_text(reply.rcode())


@pytest.mark.parametrize("over_tcp", [False, True])
def test_an_answer_comes_back(run: Run[Any], upstream: Make, over_tcp: bool) -> None:
    def framed(wire: bytes) -> list[bytes]:
        (reply,) = honest()(wire)
        return [len(reply).to_bytes(2, "big"), reply[:7], reply[7:]] if over_tcp else [reply]

    one = upstream(framed, tcp=over_tcp)
    assert said(ask(run, one, over_tcp=over_tcp)) == "192.0.2.1"
    assert one.heard[0][2:] == question().wire[2:]


def test_ids_are_not_the_askers_and_not_guessed(run: Run[Any], upstream: Make) -> None:
    one = upstream(honest())
    for _ in range(8):
        ask(run, one)
    assert len({wire[:2] for wire in one.heard}) > 4


def test_nobody_to_ask(run: Run[Any]) -> None:
    assert ask(run) is None


@pytest.mark.parametrize("over_tcp", [False, True])
def test_where_nobody_listens_the_next_is_asked_at_once(
    run: Run[Any], upstream: Make, over_tcp: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forward, "PATIENCE", 60)
    monkeypatch.setattr(forward, "DEADLINE", 60)
    assert ask(run, free_endpoint(), over_tcp=over_tcp) is None
    if not over_tcp:
        assert said(ask(run, free_endpoint(), upstream(honest("192.0.2.2")))) == "192.0.2.2"


def test_who_is_silent_is_passed_over(run: Run[Any], upstream: Make) -> None:
    assert said(ask(run, upstream(silent), upstream(honest("192.0.2.2")))) == "192.0.2.2"


def test_a_datagram_that_was_lost_is_sent_again(run: Run[Any], upstream: Make) -> None:
    seen: list[bytes] = []

    def second_time(wire: bytes) -> list[bytes]:
        seen.append(wire)
        return honest()(wire) if len(seen) > 1 else []

    assert said(ask(run, upstream(second_time))) == "192.0.2.1"


def test_who_has_spoken_is_not_asked_again(run: Run[Any], upstream: Make) -> None:
    refusing, quiet = upstream(saying(dns.rcode.REFUSED)), upstream(silent)
    ask(run, refusing, quiet)
    assert (len(refusing.heard), len(quiet.heard)) == (1, 2)


def test_silence_everywhere_ends(run: Run[Any], upstream: Make) -> None:
    assert ask(run, upstream(silent), upstream(silent)) is None


def test_who_cannot_answer_is_believed_only_if_nobody_can(run: Run[Any], upstream: Make) -> None:
    refusing = upstream(saying(dns.rcode.REFUSED))
    assert said(ask(run, refusing, upstream(honest()))) == "192.0.2.1"
    assert said(ask(run, refusing, upstream(silent))) == "REFUSED"
    assert said(ask(run, upstream(saying(dns.rcode.NXDOMAIN)), upstream(honest()))) == "NXDOMAIN"


def test_the_one_that_answered_last_is_asked_first(run: Run[Any], upstream: Make) -> None:
    quiet, good = upstream(silent), upstream(honest())
    forwarder = Forwarder(lambda: (quiet.endpoint, good.endpoint))

    async def twice() -> None:
        for _ in range(2):
            await forwarder.ask(question(), "10.0.0.1", over_tcp=False)

    run(twice())
    assert (len(quiet.heard), len(good.heard)) == (1, 2)


def test_what_does_not_fit_is_ignored_and_the_answer_still_awaited(
    run: Run[Any], upstream: Make
) -> None:
    def noisy(wire: bytes) -> list[bytes]:
        (good,) = honest("192.0.2.7")(wire)
        (false,) = honest("203.0.113.66")(wire)
        other = dns.message.make_query("example.net", "A")
        other.id = int.from_bytes(wire[:2], "big")
        wrong_id = bytes([false[0] ^ 1]) + false[1:]
        return [b"", b"x", wrong_id, wire, *honest("203.0.113.66")(other.to_wire()), good]

    assert said(ask(run, upstream(noisy))) == "192.0.2.7"


def test_an_answer_from_another_address_is_not_heard(run: Run[Any], upstream: Make) -> None:
    """Whoever sees the query, but is not who was asked, cannot answer it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        asked.bind(("127.0.0.1", 0))
        asked.settimeout(5)
        forwarder = Forwarder(lambda: (Endpoint("127.0.0.1", asked.getsockname()[1]),))

        async def spoof() -> bytes | None:
            waiting = asyncio.create_task(
                forwarder.ask(question(), "10.0.0.1", over_tcp=False), name="ask"
            )
            wire, peer = await asyncio.to_thread(asked.recvfrom, 4096)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
                other.sendto(honest("203.0.113.66")(wire)[0], peer)
            await asyncio.sleep(0.1)
            asked.sendto(honest("192.0.2.7")(wire)[0], peer)
            return await waiting

        wire = run(spoof())
    assert wire is not None
    assert said(dns.message.from_wire(wire)) == "192.0.2.7"


@pytest.mark.parametrize(
    "sent",
    [
        [],
        [b"\0"],
        [b"\0\0"],
        [b"\xff\xff", b"short"],
        [b"\0\x0c", b"\0" * 12],
    ],
)
def test_a_stream_that_is_no_answer(run: Run[Any], upstream: Make, sent: list[bytes]) -> None:
    assert ask(run, upstream(lambda _: sent, tcp=True), over_tcp=True) is None


def test_so_many_at_a_time_and_so_many_of_one(
    run: Run[Any], upstream: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forward, "MOST", 5)
    monkeypatch.setattr(forward, "MOST_OF_ONE", 3)
    quiet = upstream(silent)
    forwarder = Forwarder(lambda: (quiet.endpoint,))

    async def crowd() -> list[bool]:
        tasks = [
            asyncio.create_task(forwarder.ask(question(), who, over_tcp=False), name=who)
            for who in ("a", "a", "a", "b")
        ]
        await asyncio.sleep(0.05)
        found = [forwarder.full(who) for who in "abc"]
        tasks.append(asyncio.create_task(forwarder.ask(question(), "b", over_tcp=False), name="b"))
        await asyncio.sleep(0.05)
        found += [forwarder.full(who) for who in "abc"]
        assert await forwarder.ask(question(), "c", over_tcp=False) is None
        await asyncio.gather(*tasks)
        return [*found, *(forwarder.full(who) for who in "abc")]

    assert run(crowd()) == [True, False, False, True, True, True, False, False, False]

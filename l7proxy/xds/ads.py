"""Offers resources to Envoy and says what became of them. The only writer of Envoy's resources."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from l7proxy.xds.session import Offer, Session
from l7proxy.xds.types import SILENCE, SILENCE_SECONDS, Encoded, Request, Response, Type

Send = Callable[[Response], None]


class EnvoyGoneError(Exception):
    """Envoy's stream ended before it had answered."""


class Ads:
    """See the module. ``changed`` is called when an Envoy connects or disconnects."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._offer = Offer()
        self._sessions: list[tuple[Session, Send]] = []
        self._current: list[Session] = []
        self._progress = asyncio.Event()
        self.streams = 0
        self.acks = 0
        self.nacks = 0

    # -- streams -------------------------------------------------------------------------------

    @contextmanager
    def stream(self, send: Send, *, current: bool) -> Iterator[Callable[[Request], None]]:
        """One stream of Envoy, for as long as it lasts; the value takes each of its requests.

        During a hot restart there are two Envoys, and only the new one is ``current``: all are sent
        what is offered, but what counts is the answer of that one.
        """
        session = Session(self._offer)
        entry = (session, send)
        self._sessions.append(entry)
        if current:
            self._current.append(session)
            self.streams += 1
            self._changed()

        def receive(request: Request) -> None:
            for response in session.receive(request):
                send(response)
            self._count(request)
            self._pulse()

        try:
            yield receive
        finally:
            self._sessions.remove(entry)
            if current:
                self._current.remove(session)
            self._pulse()
            self._changed()

    @property
    def connected(self) -> bool:
        return bool(self._current)

    # -- resources -----------------------------------------------------------------------------

    def offered(self, kind: Type) -> Mapping[str, Encoded]:
        return self._offer.resources[kind]

    def held(self, kind: Type) -> Mapping[str, str]:
        """Names and versions that the newest Envoy has acknowledged (or brought along)."""
        return self._current[-1].held(kind) if self._current else {}

    def offer(self, kind: Type, resources: Mapping[str, Encoded]) -> None:
        """Offer ``resources`` beside what is on offer already; sent to whoever asked for them."""
        self._offer.resources[kind].update(resources)
        self._offer.complete.add(kind)
        for session, send in self._sessions:
            for response in session.push(kind, resources):
                send(response)

    def remove(self, kind: Type, names: Iterable[str]) -> None:
        """Offer ``names`` no longer, and tell those Envoys that hold them."""
        gone = set(names)
        self._offer.complete.add(kind)
        for name in gone:
            self._offer.resources[kind].pop(name, None)
        for session, send in self._sessions:
            session.forget(kind, gone)
            for response in session.remove(kind, gone):
                send(response)

    def send_again(self, kind: Type, resources: Mapping[str, Encoded]) -> None:
        """Offer ``resources`` and send them even if Envoy has acknowledged just these before."""
        for session, _ in self._sessions:
            for name in resources:
                session.held(kind).pop(name, None)
        self.offer(kind, resources)

    def reset(self) -> None:
        """Offer nothing."""
        for kind in Type:
            self._offer.resources[kind].clear()
        self._offer.complete.clear()

    async def introduced(self) -> None:
        """Wait until the newest Envoy has said which listener and routes it holds.

        A fresh one asks for listeners once its clusters are warm; one that outlived us brings the
        names of its routes right after that of its listener.
        """

        def done(session: Session) -> bool:
            if not session.subscribed(Type.LISTENER, ""):
                return False
            return not session.held(Type.LISTENER) or session.asks_for(Type.ROUTES)

        while not done(self._newest()):
            if not await self._word():
                return

    async def settle(
        self, kind: Type, names: Iterable[str], *, asked: bool = False
    ) -> dict[str, str]:
        """Wait until Envoy has answered for ``names``; returns the refused ones with its reason.

        A name that Envoy did not ask for counts as settled, unless ``asked`` says that it will be.
        Envoy refuses a response as a whole, and one resource that it cannot warm up holds back the
        acknowledgement of all; so both are halved until each resource has an answer of its own.
        """
        refused, silent = await self._answers(kind, names, asked=asked)
        reasons = refused if len(refused) <= 1 else {}
        if not reasons and refused:
            for part in _halves(refused):
                self._push_again(kind, part)
                reasons |= await self.settle(kind, part, asked=asked)
        if silent:
            offers = {name: self._offer.resources[kind][name] for name in silent}
            self.remove(kind, silent)
            if len(silent) == 1:
                return reasons | dict.fromkeys(silent, SILENCE)
            for part in _halves(silent):
                self.offer(kind, {name: offers[name] for name in part})
                reasons |= await self.settle(kind, part, asked=asked)
        return reasons

    async def _answers(
        self, kind: Type, names: Iterable[str], *, asked: bool
    ) -> tuple[dict[str, str], set[str]]:
        """The refused among ``names`` with the reason, and those that Envoy is silent about."""
        refused: dict[str, str] = {}
        waiting = {n: o.version for n in names if (o := self._offer.resources[kind].get(n))}
        while waiting:
            session = self._newest()
            for name, version in list(waiting.items()):
                reason = session.refusal(kind, name, version)
                if reason is not None:
                    refused[name] = reason
                elif session.held(kind).get(name) != version and (
                    asked or kind.wildcard or session.subscribed(kind, name)
                ):
                    continue
                del waiting[name]
            if waiting and not await self._word():
                break
        return refused, set(waiting)

    def _push_again(self, kind: Type, names: Sequence[str]) -> None:
        for session, send in self._sessions:
            session.forget(kind, names)
            for response in session.push(kind, names):
                send(response)

    def _newest(self) -> Session:
        if not self._current:
            raise EnvoyGoneError
        return self._current[-1]

    async def _word(self) -> bool:
        """Wait for the next word from Envoy; False if it stays silent."""
        try:
            async with asyncio.timeout(SILENCE_SECONDS):
                await self._progress.wait()
        except TimeoutError:
            return False
        return True

    def _pulse(self) -> None:
        self._progress.set()
        self._progress = asyncio.Event()

    def _count(self, request: Request) -> None:
        if request.error:
            self.nacks += 1
        elif request.nonce:
            self.acks += 1


def _halves(names: Iterable[str]) -> tuple[list[str], list[str]]:
    ordered = sorted(names)
    middle = len(ordered) // 2
    return ordered[:middle], ordered[middle:]

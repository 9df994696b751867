"""One Envoy's delta ADS stream: what it subscribed to, holds and refused. No I/O (sans-io).

The caller passes in every request and sends every response returned. ``offered`` is shared by all
sessions: what we want Envoy to have. A type is answered only once it is ``complete`` there, so that
an Envoy which outlived us is not told to drop what we have not computed yet.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from l7proxy.xds.types import Encoded, Request, Response, Type


@dataclass
class Offer:
    """The resources on offer, by type and name."""

    resources: dict[Type, dict[str, Encoded]] = field(default_factory=lambda: {t: {} for t in Type})
    complete: set[Type] = field(default_factory=set)


@dataclass
class _Subscription:
    names: set[str] = field(default_factory=set)
    wildcard: bool = False
    answered: bool = False
    held: dict[str, str] = field(default_factory=dict)  # name to acknowledged version
    refused: dict[str, tuple[str, str]] = field(default_factory=dict)  # name to version, reason


class Session:
    """See the module. ``held`` and ``refused`` are what Envoy has answered so far."""

    def __init__(self, offer: Offer) -> None:
        self._offer = offer
        self._subscriptions = {t: _Subscription() for t in Type}
        self._unanswered: dict[str, Response] = {}
        self._nonce = 0

    def receive(self, request: Request) -> list[Response]:
        """Take one request; the result is what to send now."""
        subscription = self._subscriptions[request.kind]
        subscription.held.update(request.holds)
        self._settle(request)
        for name in request.unsubscribe:
            subscription.names.discard(name)
            subscription.held.pop(name, None)
        named = set(request.subscribe) - {"*"}
        if request.kind.wildcard and not subscription.wildcard:
            subscription.wildcard = True
            return self.push(request.kind)
        subscription.names |= named
        return self.push(request.kind, named) if named else []

    def push(self, kind: Type, names: Iterable[str] | None = None) -> list[Response]:
        """Send what Envoy asked for and lacks, of ``names`` or of everything on offer."""
        subscription = self._subscriptions[kind]
        if kind not in self._offer.complete:
            return []
        offered = self._offer.resources[kind]
        wanted = offered.keys() if names is None else names
        changed = {
            name: offered[name]
            for name in wanted
            if name in offered
            and self.subscribed(kind, name)
            and subscription.held.get(name) != offered[name].version
            and not self._on_its_way(kind, name, offered[name].version)
        }
        first = subscription.wildcard and not subscription.answered and not subscription.held
        if not changed and not first:
            return []
        subscription.answered = True
        return [self._respond(kind, changed)]

    def remove(self, kind: Type, names: Iterable[str]) -> list[Response]:
        """Tell Envoy to drop ``names``; what it asks for by name it drops by itself."""
        if not kind.wildcard or not self._subscriptions[kind].wildcard:
            return []
        removed = tuple(sorted(names))
        return [self._respond(kind, {}, removed)] if removed else []

    def subscribed(self, kind: Type, name: str) -> bool:
        subscription = self._subscriptions[kind]
        return subscription.wildcard if kind.wildcard else name in subscription.names

    def asks_for(self, kind: Type) -> bool:
        """Whether Envoy has asked for any resource of that kind by name."""
        return bool(self._subscriptions[kind].names)

    def held(self, kind: Type) -> dict[str, str]:
        """Names and versions that Envoy has acknowledged."""
        return self._subscriptions[kind].held

    def refusal(self, kind: Type, name: str, version: str) -> str | None:
        """Why Envoy refused that version, or None if it did not."""
        refused_version, reason = self._subscriptions[kind].refused.get(name, ("", ""))
        return reason if refused_version == version else None

    def forget(self, kind: Type, names: Iterable[str]) -> None:
        """Make refused ``names`` eligible for another try, and stop waiting for them."""
        for name in names:
            self._subscriptions[kind].refused.pop(name, None)
        asked = set(names)
        for nonce, response in list(self._unanswered.items()):
            if response.kind is kind and asked & response.resources.keys():
                del self._unanswered[nonce]

    def _settle(self, request: Request) -> None:
        response = self._unanswered.pop(request.nonce, None)
        if response is None:
            return
        subscription = self._subscriptions[response.kind]
        if request.error:
            for name, encoded in response.resources.items():
                subscription.refused[name] = (encoded.version, request.error)
            return
        for name, encoded in response.resources.items():
            subscription.held[name] = encoded.version
            subscription.refused.pop(name, None)
        for name in response.removed:
            subscription.held.pop(name, None)

    def _on_its_way(self, kind: Type, name: str, version: str) -> bool:
        return any(
            name in response.resources and response.resources[name].version == version
            for response in self._unanswered.values()
            if response.kind is kind
        )

    def _respond(
        self, kind: Type, changed: dict[str, Encoded], removed: tuple[str, ...] = ()
    ) -> Response:
        self._nonce += 1
        response = Response(kind, str(self._nonce), changed, removed)
        self._unanswered[response.nonce] = response
        return response

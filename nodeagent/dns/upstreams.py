"""Who is asked about names that are not the mesh's: addresses, or files that name them."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from pathlib import Path

from meshapi.endpoint import Endpoint, parse
from meshapi.nodecontract import DNS_PORT

_log = logging.getLogger(__name__)


class Upstreams:
    """The resolvers of the setting ``dnsUpstreams``, in its order; files are read when they change.

    ``ourselves`` are never among them: a node whose resolv.conf names us asks those beside us.
    """

    def __init__(self, settings: Collection[str], ourselves: Collection[Endpoint]) -> None:
        self._sources = [_File(Path(s)) if s.startswith("/") else _Fixed(s) for s in settings]
        self._ourselves = ourselves

    def current(self) -> tuple[Endpoint, ...]:
        """Each resolver once."""
        found = (endpoint for source in self._sources for endpoint in source.endpoints())
        return tuple(dict.fromkeys(e for e in found if e not in self._ourselves))

    def believed(self) -> tuple[tuple[str, int], ...]:
        """Address and port of the resolvers whose answers tell addresses by name: us, and ours."""
        known = (*self._ourselves, *self.current())
        return tuple((endpoint.address, endpoint.port) for endpoint in known)


class _Fixed:
    def __init__(self, text: str) -> None:
        self._endpoint = parse(text, DNS_PORT)

    def endpoints(self) -> tuple[Endpoint, ...]:
        return (self._endpoint,)


class _File:
    """A resolv.conf; what cannot be read any more goes on counting as it was."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._endpoints: tuple[Endpoint, ...] = ()

    def endpoints(self) -> tuple[Endpoint, ...]:
        try:
            found = self._path.stat()
            seen = (found.st_ino, found.st_size, found.st_mtime_ns)
            if seen != self._seen:
                text = self._path.read_text(encoding="utf-8", errors="replace")
                self._endpoints = tuple(name_servers(text, str(self._path)))
                self._seen = seen
        except OSError as error:
            if self._seen != (0, 0, 0):
                _log.warning("cannot read upstreams", extra={"error": str(error)})
            self._seen = (0, 0, 0)
        return self._endpoints


def name_servers(text: str, source: str) -> Iterator[Endpoint]:
    """The ``nameserver`` lines of a resolv.conf(5)."""
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if len(words) < 2 or words[0] != "nameserver":
            continue
        try:
            yield parse(words[1], DNS_PORT)
        except ValueError:
            _log.warning(
                "not a resolver's address",
                extra={"where": f"{source}:{number}", "address": words[1]},
            )

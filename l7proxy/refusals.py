"""What Envoy refused and why, and whom to tell; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from l7proxy.xds.types import SILENCE, Type
from meshapi.resources import HTTPRoute, Key, NodeProblem, key_of

_REASON = "EnvoyRefused"


@dataclass(frozen=True)
class _Refusal:
    version: str
    why: str
    sources: tuple[Key, ...]


_NONE = _Refusal("", "", ())


class Refusals:
    """The refusals that stand: each for one version of one Envoy resource."""

    def __init__(self) -> None:
        self._standing: dict[tuple[Type, str], _Refusal] = {}

    def record(self, kind: Type, name: str, version: str, why: str, sources: Iterable[Key]) -> None:
        self._standing[kind, name] = _Refusal(version, why, tuple(sources))

    def stands(self, kind: Type, name: str, version: str) -> bool:
        """Whether this very version was refused, so that offering it again is useless."""
        refusal = self._standing.get((kind, name))
        return refusal is not None and refusal.version == version and refusal.why != SILENCE

    def accepted(self, kind: Type, name: str, version: str) -> None:
        """Envoy took this version after all."""
        if self._standing.get((kind, name), _NONE).version == version:
            del self._standing[kind, name]

    def keep_only(self, kind: Type, wanted: Mapping[str, str]) -> None:
        """Forget those of versions that nobody wants any more."""
        for key, refusal in list(self._standing.items()):
            if key[0] is kind and wanted.get(key[1]) != refusal.version:
                del self._standing[key]

    def clear(self) -> None:
        self._standing.clear()

    def problems(self) -> tuple[NodeProblem, ...]:
        """One problem for each resource of ours that is to blame, in a stable order."""
        found = {
            (source, refusal.why)
            for refusal in self._standing.values()
            for source in refusal.sources
        }
        return tuple(
            NodeProblem(
                kind=source.kind,
                namespace=source.namespace,
                name=source.name,
                reason=_REASON,
                message=why,
            )
            for source, why in sorted(found)
        )


def blamed(now: tuple[HTTPRoute, ...], accepted: tuple[HTTPRoute, ...]) -> list[Key]:
    """The routes behind a refused configuration: those that changed since it was last accepted."""
    changed = [route for route in now if route not in accepted]
    return [key_of(route) for route in changed or now]

"""Finding the object that ``NAME`` or ``NS/NAME`` means."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hopctl.errors import UsageError
from meshapi.errors import NotFoundError
from meshapi.resources import Key, Kind

if TYPE_CHECKING:
    from meshapi.client import ApiClient


async def resolve(client: ApiClient, kind: Kind, text: str, namespace: str | None) -> Key:
    """The key of an object; without a namespace the name must be the only one of its kind."""
    place, slash, name = text.rpartition("/")
    if not kind.namespaced:
        if slash:
            raise UsageError(
                f"a {kind.name} belongs to no namespace", where=text, fix=f"write {name}"
            )
        return Key(kind.name, "", name)
    if slash and namespace and place != namespace:
        raise UsageError(f"-n says {namespace}", where=text, fix="give one namespace")
    if slash or namespace:
        return Key(kind.name, place or namespace or "", name)
    found = [r for r in await client.list_all(kind) if r.metadata.name == name]
    if not found:
        raise NotFoundError(f"{kind.name} {name} does not exist in any namespace")
    if len(found) > 1:
        places = ", ".join(sorted(f"{r.metadata.namespace}/{name}" for r in found))
        raise UsageError(f"several of that name: {places}", where=name, fix="write one of them")
    return Key(kind.name, found[0].metadata.namespace, name)

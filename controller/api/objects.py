"""What a request for one object means: its key, its body, the options of its deletion."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from controller.errors import BadRequestError
from controller.state import State
from meshapi import codec
from meshapi.errors import InvalidError, NotFoundError, Problem
from meshapi.resources import Key, Kind, Resource


class Preconditions(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    uid: str = ""
    resource_version: str = ""


class DeleteOptions(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """meta/v1 DeleteOptions; grace and propagation mean nothing here, as nothing is owned."""

    kind: str = ""
    api_version: str = ""
    grace_period_seconds: int | None = None
    propagation_policy: str | None = None
    preconditions: Preconditions = Preconditions()
    dry_run: tuple[str, ...] = ()


def key_in(kind: Kind, request: web.Request) -> Key:
    return Key(kind.name, request.match_info.get("namespace", ""), request.match_info["name"])


def require(state: State, key: Key) -> Resource:
    found = state.get(key)
    if found is None:
        raise NotFoundError(f"{key} does not exist")
    return found


def decoded(kind: Kind, request: web.Request, value: Any) -> Resource:
    """The object of a body; what the URL says already may be left out of it, not contradicted."""
    if not isinstance(value, dict):
        raise BadRequestError("an object is expected", where="body")
    found = value.get("metadata")
    metadata = found if isinstance(found, dict) else {}
    stated = {
        "$.apiVersion": (value.get("apiVersion"), kind.api_version),
        "$.kind": (value.get("kind"), kind.name),
        "$.metadata.namespace": (
            metadata.get("namespace"),
            request.match_info.get("namespace"),
        ),
        "$.metadata.name": (metadata.get("name"), request.match_info.get("name")),
    }
    for path, (given, expected) in stated.items():
        if given and expected and given != expected:
            raise InvalidError(
                kind.name,
                [
                    Problem(
                        path,
                        f"{given!r}, but the URL says {expected!r}",
                        "leave one of the two out",
                    )
                ],
            )
    named = {k: v for k in ("namespace", "name") if (v := request.match_info.get(k))}
    kept = {k: v for k, v in metadata.items() if v is not None}  # Go writes null times
    return codec.decode(
        {
            **value,
            "apiVersion": kind.api_version,
            "kind": kind.name,
            "metadata": {**kept, **named},
        }
    )

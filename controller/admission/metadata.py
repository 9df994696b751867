"""The fields that belong to the server: uid, generation, creation time, version and status."""

from __future__ import annotations

from typing import TypeVar

from msgspec.structs import replace

from controller.admission.plan import Rules
from meshapi.errors import ConflictError
from meshapi.resources import Resource, key_of

R = TypeVar("R", bound=Resource)


def check_lock(old: Resource | None, wanted: Resource) -> None:
    """Refuse a write that was made for another version, or another object of the same name."""
    meta = wanted.metadata
    if meta.resource_version:
        if old is None:
            raise ConflictError(
                f"{key_of(wanted)} does not exist any more",
                fix="leave metadata.resourceVersion out to create it",
            )
        if meta.resource_version != old.metadata.resource_version:
            raise ConflictError(
                f"{key_of(wanted)} has been changed: it is at version "
                f"{old.metadata.resource_version}, not {meta.resource_version}",
                fix="read it again and repeat the change",
            )
    if meta.uid and old is not None and meta.uid != old.metadata.uid:
        raise ConflictError(
            f"{key_of(wanted)} is another object of that name (uid {old.metadata.uid})",
            fix="leave metadata.uid out",
        )


def adopt(old: R | None, wanted: R, rules: Rules) -> R:
    """``wanted`` with the server's own fields: fresh ones, or those of the object it replaces."""
    if old is None:
        meta = replace(
            wanted.metadata,
            uid=rules.new_uid(),
            creation_timestamp=rules.now(),
            generation=1,
            resource_version="",
        )
        return replace(wanted, metadata=meta, status=type(wanted.status)())
    meta = replace(
        wanted.metadata,
        uid=old.metadata.uid,
        creation_timestamp=old.metadata.creation_timestamp,
        generation=old.metadata.generation,
        resource_version=old.metadata.resource_version,
    )
    return replace(wanted, metadata=meta, status=old.status)


def seal(old: R | None, new: R) -> R:
    """``new`` with its generation counted up if its spec (defaults included) has changed."""
    if old is None or old.spec == new.spec:
        return new
    meta = replace(new.metadata, generation=old.metadata.generation + 1)
    return replace(new, metadata=meta)

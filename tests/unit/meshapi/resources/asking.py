"""What the checks of a resource say, by the paths they name."""

from meshapi import codec
from meshapi.errors import InvalidError
from meshapi.resources import KINDS

_KINDS = {kind.name: kind for kind in KINDS}


def manifest(kind, spec, **metadata):
    known = _KINDS[kind]
    spaced = {"namespace": "shop"} if known.namespaced else {}
    return {
        "apiVersion": known.api_version,
        "kind": kind,
        "metadata": {"name": "x", **spaced, **metadata},
        "spec": spec,
    }


def paths(kind, spec, **metadata):
    """The paths that are refused, without ``$.``; a good one must survive the wire as well."""
    try:
        resource = codec.decode(manifest(kind, spec, **metadata))
    except InvalidError as error:
        return [p.path.removeprefix("$.") for p in error.problems]
    assert codec.decode_json(codec.encode_json(resource)) == resource
    return []


def words(kind, spec, **metadata):
    """The refusal as a person reads it; empty if there is none."""
    try:
        codec.decode(manifest(kind, spec, **metadata))
    except InvalidError as error:
        return str(error)
    return ""

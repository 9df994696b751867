"""Between plain JSON values and typed resources; every refusal carries a JSON path."""

from __future__ import annotations

import re
from typing import Any, TypeVar

import msgspec

from meshapi.choices import allowed
from meshapi.errors import HopliteError, InvalidError, Problem
from meshapi.resources.checks import check
from meshapi.resources.registry import Key, Resource, find, key_of

T = TypeVar("T")

_MSGSPEC_ERROR = re.compile(r"(?P<what>.*?)(?: - at (?:`key` in )?`(?P<path>\$.*)`)?", re.DOTALL)
_FIELD = re.compile(r"`(?P<field>[^`]+)`$")
_LENGTH = re.compile(r"Expected `\w+` of length (?P<bound>>=|<=) (?P<count>\d+)")
_TOO_DEEP = Problem("$", "nested too deeply", "no resource needs more than a few levels")


def decode(value: object) -> Resource:
    """Turn one parsed manifest into its typed resource, or refuse it with a JSON path."""
    if not isinstance(value, dict):
        raise InvalidError(
            "manifest", [Problem("$", "expected an object", "start with apiVersion and kind")]
        )
    subject = _subject(value)
    for field in ("apiVersion", "kind"):
        if not isinstance(value.get(field), str):
            what = "not a text" if field in value else "missing"
            raise InvalidError(subject, [Problem(f"$.{field}", what, f"name the {field}")])
    try:
        kind = find(value["apiVersion"], value["kind"])
    except HopliteError as error:
        raise InvalidError(subject, [Problem(error.where, error.what, error.fix)]) from error
    resource: Resource = convert(value, kind.type, subject)
    problems = check(resource)
    if problems:
        raise InvalidError(str(key_of(resource)), problems)
    return resource


def decode_json(text: bytes | str) -> Resource:
    """``decode`` for JSON text."""
    return decode(parse_json(text))


def parse_json(text: bytes | str) -> Any:
    """Parse JSON; a syntax error is a refusal that says where in the text it is."""
    try:
        return msgspec.json.decode(text)
    except RecursionError as error:
        raise InvalidError("request", [_TOO_DEEP]) from error
    except msgspec.DecodeError as error:
        raise InvalidError(
            "request", [Problem("$", f"not JSON: {error}", "send one JSON object")]
        ) from error


def convert(value: object, to: type[T], subject: str) -> T:
    """Strictly convert plain values to ``to``; unknown fields and wrong types are refused."""
    try:
        return msgspec.convert(value, to)
    except RecursionError as error:
        raise InvalidError(subject, [_TOO_DEEP]) from error
    except msgspec.ValidationError as error:
        raise InvalidError(subject, [_problem(str(error), to)]) from error


def encode(resource: msgspec.Struct) -> dict[str, Any]:
    """Plain JSON values of a resource; fields that are not set are left out."""
    value: dict[str, Any] = _prune(msgspec.to_builtins(resource))
    return value


def encode_json(resource: msgspec.Struct) -> bytes:
    """``encode`` as JSON text."""
    return msgspec.json.encode(encode(resource))


def replace_status(resource: Resource, status: msgspec.Struct) -> Resource:
    """The same resource with another status."""
    changed: Resource = msgspec.structs.replace(resource, status=status)
    return changed


def _prune(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _prune(v) for k, v in value.items() if v is not None}
    if isinstance(value, (list, tuple)):
        return [_prune(v) for v in value]
    return value


def _problem(message: str, to: Any) -> Problem:
    match = _MSGSPEC_ERROR.fullmatch(message)
    what, path = (match["what"], match["path"] or "$") if match else (message, "$")
    field = _FIELD.search(what)
    if field and "unknown field" in what:
        return Problem(
            f"{path}.{field['field']}",
            "unknown field",
            "remove it or correct its name; this version refuses what it would not act on",
        )
    if field and "missing required field" in what:
        return Problem(f"{path}.{field['field']}", "missing", "this field is required")
    length = _LENGTH.fullmatch(what)
    if length and length["bound"] == "<=":
        return Problem(path, f"more than {length['count']}", f"at most {length['count']}")
    if length:
        return Problem(path, "empty", "give at least one, or leave the field out if it is optional")
    words = allowed(to, path)
    fix = f"use {' or '.join(words)}" if words else ""
    return Problem(path, what[:1].lower() + what[1:], fix)


def _subject(value: dict[str, Any]) -> str:
    metadata = value.get("metadata")
    meta = metadata if isinstance(metadata, dict) else {}
    key = Key(
        str(value.get("kind") or "manifest"),
        str(meta.get("namespace") or ""),
        str(meta.get("name") or ""),
    )
    return str(key).strip()

"""Daemon configuration: one YAML file, every setting also an environment variable.

A setting ``stateDir`` of the agent is read from the file's key ``stateDir`` and, with precedence,
from ``HOPLITE_AGENT_STATE_DIR``. In the environment lists are written comma-separated, and maps as
``key=value`` pairs, comma-separated.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar, get_args, get_origin

import msgspec

from meshapi import yamldocs
from meshapi.codec import convert
from meshapi.errors import ConfigError, HopliteError, InvalidError

T = TypeVar("T", bound=msgspec.Struct)

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def variable(prefix: str, key: str) -> str:
    """The environment variable of a setting: ``HOPLITE_AGENT_`` + ``STATE_DIR``."""
    return f"{prefix}_{_CAMEL.sub('_', key).upper()}"


def load(to: type[T], text: str, source: str, environment: Mapping[str, str], prefix: str) -> T:
    """Settings of type ``to`` from a file's text and the environment; unknown keys are refused."""
    documents = yamldocs.load(text, source)
    if len(documents) > 1:
        raise ConfigError("more than one document", where=source, fix="keep one")
    value: Any = documents[0].value if documents else {}
    if not isinstance(value, dict):
        raise ConfigError("not a mapping", where=source, fix="write key: value lines")
    merged = dict(value)
    fields = {f.encode_name: f for f in msgspec.structs.fields(to)}
    origins = {}
    for key, field in fields.items():
        name = variable(prefix, key)
        if name in environment:
            merged[key] = _from_text(environment[name], field.type)
            origins[key] = name
    try:
        return convert(merged, to, source)
    except InvalidError as error:
        problem = error.problems[0]
        key = problem.path.removeprefix("$.").split("[")[0]
        where = origins.get(key) or (
            documents[0].where(problem.path) if documents else f"{source} or the environment"
        )
        fix = problem.fix
        if "unknown field" in problem.what:
            fix = f"known settings are {', '.join(sorted(fields))}"
        elif problem.what == "missing":
            fix = f"set it in the file or as {variable(prefix, key)}"
        raise ConfigError(f"{problem.path}: {problem.what}", where=where, fix=fix) from error
    except HopliteError as error:
        raise ConfigError(error.what, where=error.where or source, fix=error.fix) from error


def _from_text(text: str, kind: Any) -> Any:
    """The plain value that an environment variable's text stands for.

    Text that does not fit is kept as it is, so that the conversion that follows refuses it.
    """
    kinds = set(_parts(kind))
    if dict in kinds:
        return _map_from_text(text, kind)
    if tuple in kinds:
        return [part.strip() for part in text.split(",") if part.strip()]
    if bool in kinds:
        lowered = text.strip().lower()
        return {"true": True, "1": True, "false": False, "0": False}.get(lowered, text)
    for number in (int, float):
        if number in kinds:
            try:
                return number(text)
            except ValueError:
                continue
    return text


def _map_from_text(text: str, kind: Any) -> Any:
    pairs = [part.partition("=") for part in text.split(",") if part.strip()]
    if not all(equals for _, equals, _ in pairs):
        return text
    of = get_args(kind)[1]
    return {key.strip(): _from_text(value.strip(), of) for key, _, value in pairs}


def _parts(kind: Any) -> Iterator[Any]:
    """A type, its origin and everything that it is put together from."""
    yield kind
    yield get_origin(kind)
    for inner in get_args(kind):
        yield from _parts(inner)

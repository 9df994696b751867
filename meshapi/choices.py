"""Which words a field may hold: looked up in the types, so that a refusal can list them. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec

_STEP = re.compile(r"\.([^.\[]+)|\[([^\]]*)\]")


def allowed(to: Any, path: str) -> tuple[str, ...]:
    """The words of the ``Literal`` at a JSON path of a type; empty if it is not one."""
    kinds = [to]
    for match in _STEP.finditer(path):
        kinds = [inner for kind in kinds for inner in _inside(kind, match[1])]
    return tuple(
        str(word)
        for kind in kinds
        for option in _options(kind)
        if get_origin(option) is Literal
        for word in get_args(option)
    )


def _inside(kind: Any, field: str | None) -> Iterator[Any]:
    """The types one step further in: of a struct's field, or of a collection's elements."""
    for option in _options(kind):
        if field is None:
            yield from [a for a in get_args(option)[-2:] if a is not Ellipsis][-1:]
        elif isinstance(option, type) and issubclass(option, msgspec.Struct):
            yield from (f.type for f in msgspec.structs.fields(option) if f.encode_name == field)


def _options(kind: Any) -> tuple[Any, ...]:
    """The parts of a union, otherwise the type itself, without its constraints."""
    if get_origin(kind) is Annotated:
        return _options(get_args(kind)[0])
    arguments = get_args(kind)
    return arguments if type(None) in arguments else (kind,)

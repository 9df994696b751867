"""Reading requests and writing answers: JSON in, JSON out."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, TypeVar

import msgspec
from aiohttp import web

from controller.api.problems import Status
from controller.api.select import check_parameters
from controller.errors import BadRequestError
from meshapi import codec
from meshapi.errors import InvalidError

T = TypeVar("T")

JSON = "application/json"
MAX_BODY = 16 * 1024 * 1024  # bytes; about 30,000 workloads in one apply


def parameters(request: web.Request, *known: str) -> dict[str, str]:
    """The query's parameters; unknown and repeated ones are refused."""
    query = dict(request.query)
    check_parameters(query, known, len(request.query))
    return query


def flag(query: dict[str, str], name: str) -> bool:
    """A boolean parameter, as Kubernetes clients write it."""
    text = query.get(name, "false").lower()
    if text not in ("true", "1", "false", "0"):
        raise BadRequestError(f"{text!r} is not true or false", where=name)
    return text in ("true", "1")


def number(query: dict[str, str], name: str) -> int | None:
    """A whole number that is not negative, or None if the parameter is not there."""
    text = query.get(name)
    if text is None or text == "":
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise BadRequestError(f"{text!r} is not a whole number", where=name)
    return int(text)


async def read_json(request: web.Request, types: Collection[str] = (JSON,)) -> Any:
    """The request's body, which must be JSON of one of these content types."""
    stated = request.headers.get("Content-Type", JSON)
    if stated.partition(";")[0].strip().lower() not in types:
        raise web.HTTPUnsupportedMediaType(
            text=f"Content-Type {stated} is not accepted here; send {' or '.join(types)}"
        )
    text = await request.read()
    try:
        return codec.parse_json(text)
    except InvalidError as error:
        raise BadRequestError(error.problems[0].what, where="body", fix="send JSON") from error


async def read(request: web.Request, to: type[T]) -> T:
    """The request's body as a typed message."""
    return codec.convert(await read_json(request), to, to.__name__)


def answer(message: msgspec.Struct, code: int = 200) -> web.Response:
    return web.Response(body=codec.encode_json(message), status=code, content_type=JSON)


def answer_bytes(body: bytes, code: int = 200, warnings: Sequence[str] = ()) -> web.Response:
    """An object, with what is odd about it in Warning headers, which kubectl shows."""
    response = web.Response(body=body, status=code, content_type=JSON)
    for warning in warnings:
        quoted = warning.replace("\\", "\\\\").replace('"', '\\"')
        response.headers.add("Warning", f'299 - "{quoted}"')
    return response


def answer_status(status: Status) -> web.Response:
    response = web.Response(body=msgspec.json.encode(status), status=status.code, content_type=JSON)
    if status.code == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response

"""Refusals as Kubernetes ``Status`` answers. Pure."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import msgspec

from controller.admission import AdmissionError
from controller.errors import AlreadyExistsError, BadRequestError, ExpiredError, StoreError
from meshapi.errors import (
    ConflictError,
    ForbiddenError,
    HopliteError,
    InvalidError,
    NotFoundError,
    Problem,
    UnauthorizedError,
    UnavailableError,
)

_ANSWERS: tuple[tuple[type[HopliteError], int, str], ...] = (  # the first that fits
    (AlreadyExistsError, 409, "AlreadyExists"),
    (ConflictError, 409, "Conflict"),
    (ExpiredError, 410, "Expired"),
    (BadRequestError, 400, "BadRequest"),
    (UnauthorizedError, 401, "Unauthorized"),
    (ForbiddenError, 403, "Forbidden"),
    (NotFoundError, 404, "NotFound"),
    (StoreError, 503, "ServiceUnavailable"),
    (UnavailableError, 503, "ServiceUnavailable"),
    (HopliteError, 422, "Invalid"),
)

_REASONS = {
    400: "BadRequest",
    404: "NotFound",
    405: "MethodNotAllowed",
    413: "RequestEntityTooLarge",
    415: "UnsupportedMediaType",
    500: "InternalError",
}


class Status(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """meta/v1 Status: the answer to everything that is not an object."""

    kind: str
    api_version: str
    metadata: dict[str, str]
    status: str
    code: int
    message: str = ""
    reason: str = ""
    details: dict[str, Any] | None = None


def success(code: int, details: dict[str, Any]) -> Status:
    return Status(
        kind="Status",
        api_version="v1",
        metadata={},
        status="Success",
        code=code,
        details=details,
    )


def failure(code: int, message: str, details: dict[str, Any] | None = None) -> Status:
    """A failure that HTTP itself has a code for."""
    reason = _REASONS.get(code) or HTTPStatus(code).phrase.replace(" ", "")
    return _failure(code, reason, message, details)


def status_of(error: HopliteError) -> Status:
    """The answer to a refusal; an invalid object's problems become ``details.causes``."""
    if isinstance(error, InvalidError):
        kind, _, name = error.subject.rpartition(" ")
        details = {"kind": kind, "name": name, "causes": [_cause(p) for p in error.problems]}
        return _failure(422, "Invalid", str(error), details)
    if isinstance(error, AdmissionError):
        return status_of(error.about_one())
    code, reason = next((c, r) for kind_, c, r in _ANSWERS if isinstance(error, kind_))
    return _failure(code, reason, str(error), None)


def _cause(problem: Problem) -> dict[str, str]:
    message = f"{problem.what}; {problem.fix}" if problem.fix else problem.what
    return {"reason": "FieldValueInvalid", "field": problem.path, "message": message}


def _failure(code: int, reason: str, message: str, details: dict[str, Any] | None) -> Status:
    return Status(
        kind="Status",
        api_version="v1",
        metadata={},
        status="Failure",
        code=code,
        reason=reason,
        message=message,
        details=details,
    )

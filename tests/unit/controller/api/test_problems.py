import pytest

from controller.admission import AdmissionError, Refusal
from controller.api.problems import failure, status_of
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


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
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
    ],
)
def test_every_refusal_has_its_answer(error, code, reason):
    status = status_of(error("what", where="where", fix="do this"))
    assert (status.code, status.reason) == (code, reason)
    assert status.message == "where: what; do this"
    assert (status.kind, status.status) == ("Status", "Failure")


def test_problems_become_causes():
    problems = [Problem("$.spec.x", "unknown field", "remove it"), Problem("$.y", "missing")]
    for error in (
        InvalidError("Service shop/web", problems),
        AdmissionError([Refusal(0, "Service shop/web", p) for p in problems]),
    ):
        status = status_of(error)
        assert status.code == 422
        assert status.details == {
            "kind": "Service",
            "name": "shop/web",
            "causes": [
                {
                    "reason": "FieldValueInvalid",
                    "field": "$.spec.x",
                    "message": "unknown field; remove it",
                },
                {"reason": "FieldValueInvalid", "field": "$.y", "message": "missing"},
            ],
        }


def test_http_failures_have_kubernetes_reasons():
    assert failure(415, "x").reason == "UnsupportedMediaType"
    assert failure(418, "x").reason

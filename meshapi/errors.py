"""Refusals: every error a person sees says what was wrong, where, and what to do."""

from __future__ import annotations

from dataclasses import dataclass


class HopliteError(Exception):
    """A refusal in one line: ``where: what; fix``.

    ``where`` is a file and line, a JSON path or both; ``fix`` is the next step for the reader.
    """

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        self.what = what
        self.where = where
        self.fix = fix
        super().__init__(what)

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text}; {self.fix}" if self.fix else text


class ConfigError(HopliteError):
    """A daemon's configuration cannot be used."""


class ConflictError(HopliteError):
    """The write lost a race or the name is taken (HTTP 409)."""


class NotFoundError(HopliteError):
    """No such object (HTTP 404)."""


class UnavailableError(HopliteError):
    """A process we depend on cannot be reached now; trying again may help."""


class ForbiddenError(HopliteError):
    """The caller is known but may not do this (HTTP 403)."""


class UnauthorizedError(HopliteError):
    """The caller did not prove who it is (HTTP 401)."""


@dataclass(frozen=True)
class Problem:
    """One thing wrong with an object: JSON path (``$.spec…``), what, and what to write instead."""

    path: str
    what: str
    fix: str = ""

    def __str__(self) -> str:
        text = f"{self.path}: {self.what}"
        return f"{text}; {self.fix}" if self.fix else text


class InvalidError(HopliteError):
    """An object is refused by its schema or by admission; ``problems`` holds every reason."""

    def __init__(self, subject: str, problems: list[Problem]) -> None:
        self.subject = subject
        self.problems = problems
        super().__init__("; also ".join(str(p) for p in problems), where=subject)

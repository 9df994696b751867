"""Refusals that only the controller makes; ``api.problems`` turns them into HTTP answers."""

from __future__ import annotations

from meshapi.errors import ConflictError, HopliteError


class AlreadyExistsError(ConflictError):
    """An object of that name is there already (HTTP 409, AlreadyExists)."""


class BadRequestError(HopliteError):
    """The request itself cannot be read: syntax, parameters (HTTP 400)."""


class ExpiredError(HopliteError):
    """The wanted history has been compacted away; list again (HTTP 410)."""


class StoreError(HopliteError):
    """The store cannot be opened, read or written."""

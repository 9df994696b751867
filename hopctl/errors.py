"""What goes wrong on this side of the API."""

from __future__ import annotations

from meshapi.errors import HopliteError


class UsageError(HopliteError):
    """The command cannot be carried out as given (exit code 2)."""

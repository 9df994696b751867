"""How long is too long: on an emulated machine everything takes several times as long."""

from __future__ import annotations

import os

VARIABLE = "HOPLITE_LAB_PATIENCE"


def stretched(seconds: float) -> float:
    """A time limit for this machine: ``seconds`` times what the environment says, usually once."""
    return seconds * float(os.environ.get(VARIABLE, "1"))

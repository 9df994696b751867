"""How long is too long: on an emulated machine everything takes several times as long."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from meshapi.errors import HopliteError

VARIABLE = "HOPLITE_LAB_PATIENCE"


def stretched(seconds: float) -> float:
    """A time limit for this machine: ``seconds`` times what the environment says, usually once."""
    return seconds * float(os.environ.get(VARIABLE, "1"))


def wait(
    condition: Callable[[], bool], otherwise: str, patience: float, pause: float = 0.005
) -> None:
    """Return when ``condition`` holds; refuse with ``otherwise`` when it does not in time (s)."""
    deadline = time.monotonic() + stretched(patience)
    while not condition():
        if time.monotonic() > deadline:
            raise HopliteError(otherwise)
        time.sleep(pause)

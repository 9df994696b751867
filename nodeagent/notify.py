"""Tells the service manager that what waits for the agent may start (sd_notify(3))."""

from __future__ import annotations

import os
import socket


def ready(status: str) -> None:
    """Say once that policy is in force; nothing happens where no service manager listens."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):  # an abstract socket
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.connect(address)
        manager.sendall(f"READY=1\nSTATUS={status}\n".encode())

"""Connections that tests hold open in a lab."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from lab import api

# Opens a connection, says "open", and echoes a line every tenth of a second until it fails; then
# says how, and what it had to say.
HOLD = """
import errno, socket, sys, time
connection = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=5)
connection.recv(99)
print("open", flush=True)
try:
    while True:
        connection.sendall(b"x")
        if not connection.recv(1):
            print("EOF", flush=True)
            break
        time.sleep(0.1)
except OSError as error:
    print(errno.errorcode.get(error.errno or 0, type(error).__name__), flush=True)
"""


@contextmanager
def held(lab: api.Lab, target: str, address: str, port: int) -> Iterator[subprocess.Popen[str]]:
    """An open connection in use; ended when the block is."""
    process = lab.popen(target, [sys.executable, "-c", HOLD, address, str(port)])
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        yield process
    finally:
        process.kill()
        process.wait()


def last_word(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    process.wait(timeout=10)
    return process.stdout.read().strip()

"""Connections that tests hold open in a lab."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from lab import api

# Opens a connection (or a socket for datagrams: connected, or not), says "open", and echoes a line
# every tenth of a second until it fails; then says how, and what it had to say.
HOLD = """
import errno, socket, sys, time
address, how = (sys.argv[1], int(sys.argv[2])), sys.argv[3]
if how == "TCP":
    connection = socket.create_connection(address, timeout=5)
    connection.recv(99)
    send = connection.sendall
else:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    connection = socket.socket(family, socket.SOCK_DGRAM)
    connection.settimeout(0.5)
    send = connection.send
    if how == "UDP":
        connection.connect(address)
    else:
        send = lambda data: connection.sendto(data, address)
if how != "TCP":
    send(b"x")
    connection.recv(99)
print("open", flush=True)
try:
    while True:
        send(b"x")
        try:
            if not connection.recv(1 if how == "TCP" else 99):
                print("EOF", flush=True)
                break
        except TimeoutError:  # the other side may have heard of a change of policy sooner
            if how == "TCP":
                raise
        time.sleep(0.1)
except OSError as error:
    print(errno.errorcode.get(error.errno or 0, type(error).__name__), flush=True)
"""


@contextmanager
def held(
    lab: api.Lab, target: str, address: str, port: int, how: str = "TCP"
) -> Iterator[subprocess.Popen[str]]:
    """An open connection in use; ended when the block is. ``how``: TCP, UDP, UDP-unconnected."""
    process = lab.popen(target, [sys.executable, "-c", HOLD, address, str(port), how])
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

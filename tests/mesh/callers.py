"""Callers of a lab that stay ready to be asked what gets through to a server, and what does not."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from lab.api import Target
from lab.processes import launcher

# For every line of standard input, a list of (key, protocol, address, port): connect, or send a
# datagram, and print who answered or which errno came, by key.
_ASK = """
import errno, json, socket, sys
def ask(protocol, address, port):
    kind = socket.SOCK_STREAM if protocol == "TCP" else socket.SOCK_DGRAM
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, kind) as end:
            end.settimeout(2)
            end.connect((address, port))
            if protocol == "UDP":
                end.send(b"x")
            return end.recv(99).decode().partition(":")[0]
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, type(error).__name__)
for line in sys.stdin:
    print(json.dumps({key: ask(*question) for key, *question in json.loads(line)}), flush=True)
"""

# Every way to a server: by TCP and UDP, over IPv4 and IPv6.
WAYS = frozenset({"TCP4", "TCP6", "UDP4", "UDP6"})


class Callers:
    """``asked`` asks all of them at once."""

    def __init__(self, processes: Mapping[str, subprocess.Popen[str]]) -> None:
        self._processes = processes

    def asked(self, addresses: Sequence[str], tcp: int, udp: int) -> dict[str, dict[str, str]]:
        """What each caller heard, by way."""
        questions = [
            (f"{protocol}{4 + 2 * family}", protocol, addresses[family], port)
            for protocol, port in (("TCP", tcp), ("UDP", udp))
            for family in (0, 1)
        ]
        for process in self._processes.values():
            assert process.stdin is not None
            process.stdin.write(json.dumps(questions) + "\n")
            process.stdin.flush()
        heard = {}
        for name, process in self._processes.items():
            assert process.stdout is not None
            heard[name] = json.loads(process.stdout.readline())
        return heard


@contextmanager
def callers(**targets: Target) -> Iterator[Callers]:
    """Callers by name, at these places, until the block ends."""
    processes = {
        name: subprocess.Popen(
            launcher(target.place, [sys.executable, "-c", _ASK]),
            env=target.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name, target in targets.items()
    }
    try:
        yield Callers(processes)
    finally:
        for process in processes.values():
            process.kill()
            process.communicate()

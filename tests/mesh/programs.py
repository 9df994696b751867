"""Small real programs that tests run as workloads, as ``python3 -c`` text."""

from __future__ import annotations

import json

TCP, UDP = 7000, 7001  # where SERVER listens if nothing else is said

# TCP: answers each connection with WHO, then echoes; UDP: answers each datagram with WHO and it.
# Both families, ports from PORT and UDP_PORT.
SERVER = """
import os, socket, threading
who = os.environ["WHO"].encode()

def tcp():
    listener = socket.create_server(
        ("::", int(os.environ["PORT"])), family=socket.AF_INET6, dualstack_ipv6=True, backlog=128
    )
    while True:
        threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

def serve(connection):
    with connection:
        connection.sendall(who)
        while data := connection.recv(65536):
            connection.sendall(data)

def udp():
    endpoint = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    endpoint.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    endpoint.bind(("::", int(os.environ["UDP_PORT"])))
    while True:
        data, peer = endpoint.recvfrom(65536)
        endpoint.sendto(who + b":" + data, peer)

threading.Thread(target=udp, daemon=True).start()
tcp()
"""


def serving(who: str, tcp: int = TCP, udp: int = UDP) -> str:
    """Of a workload in a lab file (as a flow mapping): it runs SERVER, on these ports."""
    ports = f"[{{name: tcp, port: {tcp}}}, {{name: udp, port: {udp}, protocol: UDP}}]"
    return f"ports: {ports}, {answering(who, tcp, udp)}"


def answering(who: str, tcp: int = TCP, udp: int = UDP) -> str:
    """The same without the ports, for those that are declared otherwise."""
    command = json.dumps(["python3", "-c", SERVER.strip() + "\n"])
    return f'env: {{WHO: {who}, PORT: "{tcp}", UDP_PORT: "{udp}"}}, command: {command}'


# Opens COUNT connections one after the other and prints, as JSON, who answered how often, the
# peer's name as the application sees it, and errno names of what failed.
DIAL = """
import collections, errno, json, socket, sys
address, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
answers, peers = collections.Counter(), set()
for _ in range(count):
    try:
        with socket.create_connection((address, port), timeout=2) as connection:
            answers[connection.recv(99).decode()] += 1
            peers.add(connection.getpeername()[:2])
    except OSError as error:
        answers[errno.errorcode.get(error.errno or 0, type(error).__name__)] += 1
print(json.dumps({"answers": answers, "peers": sorted(peers)}))
"""

# The same for UDP: one socket per datagram unless SAME, connected if CONNECTED.
SEND = """
import collections, errno, json, socket, sys
address, port, count, how = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
family = socket.AF_INET6 if ":" in address else socket.AF_INET
answers, peers, endpoint = collections.Counter(), set(), None
for _ in range(count):
    if endpoint is None or how != "same":
        endpoint = socket.socket(family, socket.SOCK_DGRAM)
        endpoint.settimeout(2)
    try:
        if how == "connected":
            endpoint.connect((address, port))
            endpoint.send(b"x")
        else:
            endpoint.sendto(b"x", (address, port))
        data, peer = endpoint.recvfrom(99)
        answers[data.decode().partition(":")[0]] += 1
        peers.add(peer[:2])
    except OSError as error:
        answers[errno.errorcode.get(error.errno or 0, type(error).__name__)] += 1
print(json.dumps({"answers": answers, "peers": sorted(peers)}))
"""

# Sends EXCHANGE[0] bytes, waits for as many back after the greeting, and closes (half first).
EXCHANGE = """
import socket, sys
address, port, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
with socket.create_connection((address, port), timeout=5) as connection:
    greeting = len(connection.recv(99))
    connection.sendall(b"x" * size)
    left = size
    while left:
        left -= len(connection.recv(65536))
print(greeting)
"""

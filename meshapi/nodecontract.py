"""The node contract: every port, address and path that two processes must agree on."""

from __future__ import annotations

import ipaddress

# Ports
CONTROLLER_PORT = 7443
PROXY_OUTBOUND_PORT = 15001  # the node proxy's listener for redirected connections
DNS_PORT = 53
AGENT_METRICS_PORT = 15020
PROXY_METRICS_PORT = 15090

# Addresses on the node's loopback device where pods reach the node proxy.
PROXY_ADDRESS4 = "169.254.77.1"
PROXY_ADDRESS6 = "fd6d:6573:6800:ffff::1"
# Where workloads in the host's own network reach it.
PROXY_HOST_ADDRESS4 = "127.0.0.1"
PROXY_HOST_ADDRESS6 = "::1"

# accept() shows the node proxy the caller's identity as an address in these prefixes:
# 240.x.y.z holds the 28-bit number, fd6d:6573:6800::/96 holds it in the last 32 bits.
IDENTITY_PREFIX4 = "240.0.0.0"
IDENTITY_PREFIX6 = "fd6d:6573:6800::"

# Paths; each is a default that configuration can move.
RUN_DIR = "/run/hoplite"
STATE_DIR = "/var/lib/hoplite"
BPFFS = "/sys/fs/bpf"
PIN_DIR = "/sys/fs/bpf/hoplite"

# Unix sockets below the run directory.
ADMIN_SOCKET = "agent.sock"  # the agent's local admin API (root only)
PROXY_SOCKET = "proxy.sock"  # what the agent offers to l7proxy
L7PROXY_SOCKET = "l7proxy.sock"  # l7proxy's local admin API
ADS_SOCKET = "ads.sock"  # l7proxy's delta ADS for Envoy
ENVOY_ADMIN_SOCKET = "envoy-admin.sock"

# Seconds
REPORT_INTERVAL = 10.0  # how often a node reports when nothing changed
NODE_STALE_AFTER = 30.0  # a node that has not reported for so long is not ready


def identity_address4(identity: int) -> str:
    """The IPv4 address under which the node proxy sees a caller's identity number."""
    return str(ipaddress.IPv4Address(240 << 24 | identity))


def identity_address6(identity: int) -> str:
    """The IPv6 address under which the node proxy sees a caller's identity number."""
    return str(ipaddress.IPv6Address(IDENTITY_PREFIX6) + identity)

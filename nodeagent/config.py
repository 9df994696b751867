"""The agent's settings; docs/configuration.md is the table of them."""

from __future__ import annotations

import ipaddress
import urllib.parse
from collections.abc import Iterator
from typing import Annotated, Literal

import msgspec

from meshapi import nodecontract
from meshapi.endpoint import Endpoint, parse
from meshapi.errors import ConfigError, Problem
from meshapi.resources.checks.common import DNS_SUBDOMAIN, LABEL_FIX, ip, labels

PREFIX = "HOPLITE_AGENT"
SHORTEST_KEY_SECONDS = 8

DEFAULT_SIZES: dict[str, int] = {
    "workloads": 4096,
    "peers": 262144,
    "listeners": 16384,
    "blocks": 16384,
    "services": 65536,
    "slots": 524288,
    "backends": 262144,
    "policy": 1048576,
    "port_rules": 262144,
    "domains": 4096,
    "resolvers": 1024,
    "learnt": 16384,
    "sockets": 65536,
    "datagrams": 16384,
    "accepting": 16384,
    "inflight": 16384,
    "refused": 4096,
    "residents": 131072,
    "node_keys": 16384,
    "pairs": 32768,
    "events": 1048576,
    "interfaces": 8192,
    "blocked": 16384,
    "crossings": 16384,
    "fragments": 1024,
    "affinities": 16384,
    "outliers": 4096,
    "limits": 4096,
    "guards": 4096,
    "allowances": 2048,
}


class AgentConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """One node's agent. Sizes are entries, but ``events``, which is bytes (a power of two)."""

    node_name: str
    controller: str
    cgroup_root: str
    proxy_cgroup: str = "hoplite-l7proxy"
    proxy_uid: Annotated[int, msgspec.Meta(ge=0)] = 0
    addresses: tuple[str, ...] = ()
    proxy_addresses: tuple[str, ...] = ()
    node_labels: dict[str, str] = {}
    join_token: str = ""
    join_token_file: str = ""
    state_dir: str = f"{nodecontract.STATE_DIR}/agent"
    run_dir: str = nodecontract.RUN_DIR
    pin_dir: str = nodecontract.PIN_DIR
    metrics_listen: str = f"127.0.0.1:{nodecontract.AGENT_METRICS_PORT}"
    dns_listen: tuple[str, ...] = (nodecontract.PROXY_ADDRESS4, nodecontract.PROXY_ADDRESS6)
    dns_upstreams: tuple[str, ...] = ("/etc/resolv.conf",)
    identity_tags: bool = True
    identity_key_seconds: int = 86400
    behind_nat: bool = msgspec.field(default=False, name="behindNAT")
    flow_history: Annotated[int, msgspec.Meta(ge=512)] = 50000
    udp_idle_seconds: Annotated[float, msgspec.Meta(gt=0)] = 10.0
    map_sizes: dict[str, int] = {}
    uplinks: tuple[str, ...] = ()
    interface_hooks: Literal["auto", "tcx", "clsact", "none"] = "auto"
    i_own_this_machine: bool = False
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    def check(self) -> None:
        """Refuse what the types let through."""
        self.sizes()
        self.dns()
        if self.identity_key_seconds < SHORTEST_KEY_SECONDS:
            raise ConfigError(
                f"{self.identity_key_seconds} s is too short",
                where="$.identityKeySeconds",
                fix=f"at least {SHORTEST_KEY_SECONDS}: every node has to hear of every key",
            )
        for problem in self._problems():
            raise ConfigError(problem.what, where=problem.path, fix=problem.fix)

    def _problems(self) -> Iterator[Problem]:
        if not DNS_SUBDOMAIN.fullmatch(self.node_name):
            yield Problem("$.nodeName", f"{self.node_name!r} is not a valid name", LABEL_FIX)
        url = urllib.parse.urlsplit(self.controller)
        if url.scheme != "https" or not url.hostname:
            fix = f"write e.g. https://192.0.2.1:{nodecontract.CONTROLLER_PORT}"
            yield Problem("$.controller", f"{self.controller!r} is not an https URL", fix)
        for i, text in enumerate(self.addresses):
            yield from ip(f"$.addresses[{i}]", text)
        for i, text in enumerate(self.proxy_addresses):
            yield from ip(f"$.proxyAddresses[{i}]", text)
        host, _, port = self.metrics_listen.rpartition(":")
        if self.metrics_listen and not (host and port.isdecimal() and 1 <= int(port) <= 65535):
            fix = f"write e.g. 127.0.0.1:{nodecontract.AGENT_METRICS_PORT}, or '' for no port"
            yield Problem("$.metricsListen", f"{self.metrics_listen!r} is not host:port", fix)
        yield from labels("$.nodeLabels", self.node_labels)

    def sizes(self) -> dict[str, int]:
        """Entries of every map; an unknown name or a wrong size is refused."""
        for name, size in self.map_sizes.items():
            if name not in DEFAULT_SIZES:
                raise ConfigError(
                    f"{name!r} is not a map",
                    where="$.mapSizes",
                    fix=f"known maps are {', '.join(DEFAULT_SIZES)}",
                )
            if size < 1:
                raise ConfigError(f"{size} entries", where=f"$.mapSizes.{name}", fix="at least 1")
        events = self.map_sizes.get("events", DEFAULT_SIZES["events"])
        if events < 4096 or events & (events - 1):
            raise ConfigError(
                f"{events} bytes for the ring buffer",
                where="$.mapSizes.events",
                fix="give a power of two, 4096 or more",
            )
        return {**DEFAULT_SIZES, **self.map_sizes}

    def dns(self) -> tuple[Endpoint, ...]:
        """Where names are answered, its upstreams checked too.

        Only this node may ask, so only addresses that nobody else can reach are listened on.
        """
        listen = tuple(
            _endpoint(text, f"$.dnsListen[{i}]") for i, text in enumerate(self.dns_listen)
        )
        for i, endpoint in enumerate(listen):
            if not _local(endpoint.address):
                raise ConfigError(
                    f"{endpoint.address} can be reached from elsewhere",
                    where=f"$.dnsListen[{i}]",
                    fix=f"use {nodecontract.PROXY_ADDRESS4}, {nodecontract.PROXY_ADDRESS6}"
                    " or a loopback address",
                )
        for i, text in enumerate(self.dns_upstreams):
            where = f"$.dnsUpstreams[{i}]"
            if not text.startswith("/") and _endpoint(text, where) in listen:
                raise ConfigError(f"{text} is this agent itself", where=where, fix="remove it")
        return listen


def _endpoint(text: str, where: str) -> Endpoint:
    try:
        return parse(text, nodecontract.DNS_PORT)
    except ValueError:
        raise ConfigError(
            f"{text!r} is not an IP address, with or without a port",
            where=where,
            fix="write e.g. 192.0.2.1, 192.0.2.1:53, 2001:db8::1 or [2001:db8::1]:53",
        ) from None


def _local(address: str) -> bool:
    contract = (nodecontract.PROXY_ADDRESS4, nodecontract.PROXY_ADDRESS6)
    return address in contract or ipaddress.ip_address(address).is_loopback

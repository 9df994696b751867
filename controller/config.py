"""The controller's settings: one YAML file, every setting also ``HOPLITE_CONTROLLER_…``."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from meshapi import settings
from meshapi.errors import ConfigError

PREFIX = "HOPLITE_CONTROLLER"

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_TRUST_DOMAIN = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_ENDPOINT = re.compile(r"(?:\[(?P<v6>[^\]]+)\]|(?P<host>[^:\[\]]+)):(?P<port>\d{1,5})")


class Settings(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True
):
    """What the file and the environment may say; docs/api.md holds the table."""

    listen: tuple[str, ...] = ("127.0.0.1:7443",)
    state_dir: str = "/var/lib/hoplite/controller"
    trust_domain: str = "hoplite.local"
    mesh_domain: str = ""
    root_namespace: str = "hoplite-system"
    service_cidrs: tuple[str, ...] = msgspec.field(
        default=("10.96.0.0/16", "fd00:96::/112"), name="serviceCIDRs"
    )
    server_names: tuple[str, ...] = ("localhost", "127.0.0.1", "::1")
    metrics_listen: str = ""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    watch_history: Annotated[int, msgspec.Meta(ge=100)] = 10_000
    node_certificate_seconds: Annotated[int, msgspec.Meta(ge=60)] = 86_400


class Endpoint(msgspec.Struct, frozen=True):
    """An address to listen on."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """Settings that have been checked."""

    listen: tuple[Endpoint, ...]
    state_dir: Path
    trust_domain: str
    mesh_domain: str
    root_namespace: str
    ranges: tuple[Network, ...]
    server_names: tuple[str, ...]
    metrics_listen: Endpoint | None
    log_level: str
    watch_history: int
    node_certificate_seconds: int


def load(text: str, source: str, environment: Mapping[str, str]) -> Config:
    """Read and check settings; the first thing that is wrong is refused in one line."""
    found = settings.load(Settings, text, source, environment, PREFIX)

    def where(key: str) -> str:
        variable = settings.variable(PREFIX, key)
        return variable if variable in environment else source

    if not _TRUST_DOMAIN.fullmatch(found.trust_domain):
        raise ConfigError(
            f"$.trustDomain: {found.trust_domain!r} is not a trust domain",
            where=where("trustDomain"),
            fix="write a lower-case DNS name such as hoplite.local",
        )
    if found.mesh_domain and not _TRUST_DOMAIN.fullmatch(found.mesh_domain):
        raise ConfigError(
            f"$.meshDomain: {found.mesh_domain!r} is not a domain name",
            where=where("meshDomain"),
            fix="write a lower-case DNS name such as hoplite.local, or leave it out",
        )
    if not _LABEL.fullmatch(found.root_namespace):
        raise ConfigError(
            f"$.rootNamespace: {found.root_namespace!r} is not a namespace's name",
            where=where("rootNamespace"),
            fix="write a lower-case name such as hoplite-system",
        )
    if not found.server_names:
        raise ConfigError(
            "$.serverNames: empty",
            where=where("serverNames"),
            fix="list the names and addresses under which nodes and admins reach the controller",
        )
    return Config(
        listen=tuple(
            _endpoint(text, f"$.listen[{i}]", where("listen"))
            for i, text in enumerate(found.listen)
        ),
        state_dir=Path(found.state_dir),
        trust_domain=found.trust_domain,
        mesh_domain=found.mesh_domain or found.trust_domain,
        root_namespace=found.root_namespace,
        ranges=_ranges(found.service_cidrs, where("serviceCIDRs")),
        server_names=found.server_names,
        metrics_listen=(
            _endpoint(found.metrics_listen, "$.metricsListen", where("metricsListen"))
            if found.metrics_listen
            else None
        ),
        log_level=found.log_level,
        watch_history=found.watch_history,
        node_certificate_seconds=found.node_certificate_seconds,
    )


def _endpoint(text: str, path: str, source: str) -> Endpoint:
    match = _ENDPOINT.fullmatch(text)
    if match is None or int(match["port"]) > 65535:
        raise ConfigError(
            f"{path}: {text!r} is not an address to listen on",
            where=source,
            fix="write host:port or [IPv6]:port, e.g. 127.0.0.1:7443",
        )
    return Endpoint(match["v6"] or match["host"], int(match["port"]))


def _ranges(texts: tuple[str, ...], source: str) -> tuple[Network, ...]:
    ranges: list[Network] = []
    for i, text in enumerate(texts):
        path = f"$.serviceCIDRs[{i}]"
        try:
            network = ipaddress.ip_network(text)
        except ValueError as error:
            raise ConfigError(
                f"{path}: not an address range: {error}",
                where=source,
                fix="write e.g. 10.96.0.0/16 or fd00:96::/112",
            ) from error
        if any(network.version == r.version for r in ranges):
            raise ConfigError(
                f"{path}: a second IPv{network.version} range",
                where=source,
                fix="give at most one range per family",
            )
        ranges.append(network)
    if not ranges:
        raise ConfigError(
            "$.serviceCIDRs: empty", where=source, fix="services need one, e.g. 10.96.0.0/16"
        )
    return tuple(ranges)

"""Where the controller is and how we prove who we are: flags first, then the environment."""

from __future__ import annotations

import argparse
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hopctl.errors import UsageError

if TYPE_CHECKING:
    from meshapi.client import ApiClient


@dataclass(frozen=True)
class Connection:
    """The API's URL, the CA that it must show (PEM), and the admin's token."""

    server: str
    ca: str
    token: str

    def client(self) -> ApiClient:
        """A client; use it with ``async with``."""
        from meshapi.client import ApiClient, server_tls

        try:
            tls = server_tls(self.ca)
        except ssl.SSLError as error:
            raise UsageError(
                "the CA is not a PEM certificate",
                where="HOPLITE_CA_FILE or HOPLITE_CA",
                fix="use the controller's ca/ca.pem",
            ) from error
        return ApiClient(self.server, tls, token=self.token)


def flags(*, server: bool = True) -> argparse.ArgumentParser:
    """The flags that every verb shares, as a parent parser."""
    parent = argparse.ArgumentParser(add_help=False)
    group = parent.add_argument_group("controller")
    if server:
        group.add_argument("--server", metavar="URL", help="instead of HOPLITE_SERVER")
    group.add_argument("--ca-file", metavar="FILE", help="instead of HOPLITE_CA_FILE or HOPLITE_CA")
    group.add_argument(
        "--token-file", metavar="FILE", help="instead of HOPLITE_TOKEN_FILE or HOPLITE_TOKEN"
    )
    return parent


def find(arguments: argparse.Namespace, environment: Mapping[str, str]) -> Connection:
    """The connection that flags and environment name; what is missing is refused."""
    server = arguments.server or environment.get("HOPLITE_SERVER", "")
    if not server:
        raise UsageError(
            "no controller is named",
            where="HOPLITE_SERVER",
            fix="set it to https://host:port, or use --server",
        )
    if not server.startswith("https://"):
        raise UsageError(
            f"{server!r} is not an https URL", where="HOPLITE_SERVER", fix="write https://host:port"
        )
    ca = _text(arguments.ca_file, environment, "HOPLITE_CA", "the controller's ca/ca.pem")
    token = _text(arguments.token_file, environment, "HOPLITE_TOKEN", "its admin.token")
    return Connection(server, ca, token.strip())


def _text(flag: str | None, environment: Mapping[str, str], name: str, what: str) -> str:
    """A text given as a file (flag, then NAME_FILE) or as itself (NAME)."""
    path = flag or environment.get(f"{name}_FILE", "")
    if not path:
        text = environment.get(name, "")
        if text:
            return text
        raise UsageError("is not set", where=f"{name}_FILE", fix=f"name a copy of {what}")
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise UsageError(
            f"cannot be read: {reason}", where=path, fix=f"name a copy of {what}"
        ) from error

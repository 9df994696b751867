"""How a lab's controller is reached from the machine's own network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from meshapi.client import ApiClient, server_tls


@dataclass(frozen=True)
class Endpoint:
    server: str
    ca_file: Path
    token_file: Path

    @property
    def ready(self) -> bool:
        """Whether the controller has made its CA and its first token."""
        return self.ca_file.exists() and self.token_file.exists()

    def client(self) -> ApiClient:
        """A new session as admin; call it where an event loop runs."""
        tls = server_tls(self.ca_file.read_text())
        return ApiClient(self.server, tls, token=self.token_file.read_text().strip())

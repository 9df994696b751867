"""How Envoy is started: command line, bootstrap file, and what it leaves that must go."""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import msgspec

from l7proxy.resources.names import Json

LAUNCH = "hoplite.launch"  # key of the digest in the node's metadata
HOT_RESTART_SOCKET = "hot"  # Envoy makes names like hot_udp_parent_2147483647 of it
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where Envoy keeps its hot-restart state


@dataclass(frozen=True)
class Launch:
    """One way of running Envoy; ``run_dir`` takes its bootstrap, log and hot-restart sockets."""

    binary: Path
    run_dir: Path
    log_path: Path
    bootstrap: Json
    concurrency: int
    drain_seconds: int

    @cached_property
    def digest(self) -> str:
        """Tells one way of running Envoy from another; Envoy repeats it as its node's metadata."""
        binary = self.binary.stat()
        how = [self.bootstrap, self._options, str(self.binary), binary.st_size, binary.st_mtime_ns]
        return hashlib.blake2b(msgspec.json.encode(how), digest_size=8).hexdigest()

    @property
    def config_path(self) -> Path:
        """The bootstrap's file, by whose name an Envoy that outlived us is recognised."""
        return self.run_dir / f"bootstrap-{self.digest}.json"

    def prepare(self, epoch: int) -> list[str]:
        """Write the bootstrap and return the command; ``epoch`` above 0 is a hot restart."""
        for stale in self.run_dir.glob("bootstrap-*.json"):
            stale.unlink()
        node = {**self.bootstrap["node"], "metadata": {LAUNCH: self.digest}}
        self.config_path.write_bytes(msgspec.json.encode({**self.bootstrap, "node": node}))
        return [
            str(self.binary),
            "--config-path",
            str(self.config_path),
            "--restart-epoch",
            str(epoch),
            *self._options,
        ]

    def clean_up(self) -> None:
        """Remove what an ended Envoy leaves behind."""
        (_SHARED_MEMORY / f"envoy_shared_memory_{self._base_id * 10}").unlink(missing_ok=True)
        for pattern in ("bootstrap-*.json", f"{HOT_RESTART_SOCKET}_*", "envoy-admin.sock"):
            for path in self.run_dir.glob(pattern):
                path.unlink()

    @property
    def _base_id(self) -> int:
        """Tells the Envoys of one machine apart. Envoy makes ten times of it an int."""
        return zlib.crc32(str(self.run_dir).encode()) % (2**31 // 10)

    @property
    def _options(self) -> list[str]:
        """The hot-restart socket is a file of ours, so that no other user can speak to it."""
        return [
            "--concurrency",
            str(self.concurrency),
            "--base-id",
            str(self._base_id),
            "--socket-path",
            str(self.run_dir / HOT_RESTART_SOCKET),
            "--socket-mode",
            "600",
            "--log-path",
            str(self.log_path),
            "--log-level",
            "warning",
            "--file-flush-interval-msec",
            "1000",
            "--drain-time-s",
            str(self.drain_seconds),
            "--parent-shutdown-time-s",
            str(self.drain_seconds + 1),
        ]

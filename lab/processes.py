"""Starting processes where they belong: cgroup, namespace, user, log."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from lab import enter, netns

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
HOLDER = ("sleep", "infinity")  # what holds a pod's network
_STANDARD_KEYS = ("time", "level", "logger", "message")  # of meshapi.logs
_TAIL = 8192  # bytes of a log in which its last line is looked for


class Place(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Where and as whom a process runs. Not ``privileged``: as ``uid`` without capabilities.

    ``resolv_conf`` is the file that it finds as /etc/resolv.conf, empty for the machine's own.
    """

    cgroup: str
    netns: str = ""
    resolv_conf: str = ""
    privileged: bool = True
    uid: int = 0
    gid: int = 0
    listen_fds: tuple[int, ...] = ()


@dataclass(frozen=True)
class Running:
    """A process that ``up`` has started; ``lasting``: it should run until the lab goes down."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    lasting: bool

    def death(self) -> str:
        """How it ended, empty while it runs or if it may have done its work."""
        code = self.process.poll()
        if code is None or (code == 0 and not self.lasting):
            return ""
        how = f"killed by signal {-code}" if code < 0 else f"ended with status {code}"
        said = last_line(self.log)
        return f"{self.name} {how}" + (f": {said}" if said else "")


def start(
    name: str,
    place: Place,
    command: Sequence[str],
    env: Mapping[str, str],
    log: Path,
    *,
    lasting: bool = True,
) -> Running:
    """Start a process of the lab; its output goes to ``log``."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            launcher(place, command),
            env=dict(env),
            cwd=env.get("HOME", "/"),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=place.listen_fds,
        )
    return Running(name, process, log, lasting)


def place_in(cgroup: Path, namespace: str, resolv_conf: Path | None = None) -> Place:
    """A privileged place in a named network namespace."""
    return Place(
        cgroup=str(cgroup),
        netns=str(netns.path(namespace)),
        resolv_conf=str(resolv_conf or ""),
    )


def launcher(place: Place, command: Sequence[str]) -> list[str]:
    """The command line that runs ``command`` in ``place``."""
    script = str(Path(enter.__file__))
    return [sys.executable, "-I", "-S", script, msgspec.json.encode(place).decode(), *command]


def workload_env(env: Mapping[str, str], home: Path) -> dict[str, str]:
    """A workload's environment: nothing of the caller's but terminal and language."""
    inherited = {key: os.environ[key] for key in ("TERM", "LANG") if key in os.environ}
    return {"PATH": PATH, "HOME": str(home), **inherited, **env}


def last_line(log: Path) -> str:
    """The last line of a log that is not blank; of a daemon's JSON line, what it says."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _TAIL))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return _plain(lines[-1]) if lines else ""


def _plain(line: str) -> str:
    try:
        entry = msgspec.json.decode(line)
    except msgspec.DecodeError:
        return line
    if not isinstance(entry, dict) or "message" not in entry:
        return line
    more = [f"{k}={v}" for k, v in entry.items() if k not in _STANDARD_KEYS]
    return " ".join([str(entry["message"]), *more])

"""One Envoy process, ours or left by our predecessor, watched by its pidfd."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from pathlib import Path

_KILL_AFTER_SECONDS = 5.0

# Envoy asks the kernel for SIGTERM when its parent ends (PR_SET_PDEATHSIG), but it has to serve on
# when we die. So it gets a parent that has ended before it begins: the shell, of which it is an
# orphan when `kill -0` finds nobody any more. The shell's answer is the process id of the orphan.
_ORPHAN = '( while kill -0 $$ 2>/dev/null; do :; done; exec "$@" ) >>"$0" 2>&1 & echo $!'


class EnvoyProcess:
    """``ended`` is set when the process is gone."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.ended = asyncio.Event()
        self._pidfd = -1
        try:
            self._pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            self.ended.set()
        else:
            asyncio.get_running_loop().add_reader(self._pidfd, self._on_end)

    @classmethod
    def start(cls, command: list[str], log: Path) -> EnvoyProcess:
        """Start ``command`` in a session of its own; what it prints is appended to ``log``."""
        shell = subprocess.run(
            ["/bin/sh", "-c", _ORPHAN, str(log), *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            start_new_session=True,
            check=True,
        )
        return cls(int(shell.stdout))

    async def stop(self) -> None:
        """End it: SIGTERM, and SIGKILL if that does not help."""
        for sent in (signal.SIGTERM, signal.SIGKILL):
            if not self.ended.is_set():
                signal.pidfd_send_signal(self._pidfd, sent)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_KILL_AFTER_SECONDS):
                    await self.ended.wait()
                return

    def _on_end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        with contextlib.suppress(ChildProcessError):  # it is our child only if we are process 1
            os.waitpid(self.pid, os.WNOHANG)
        self.ended.set()

"""The launcher: joins a cgroup and namespaces, drops privileges, becomes the command.

Run as a script (``python -I -S enter.py PLACE COMMAND…``) so that it is single-threaded, starts in
milliseconds, and the command itself never runs a moment in the wrong place. PLACE is JSON; see
``processes.Place``. Standard library only.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

NOT_FOUND = 127  # what shells answer
NOT_STARTED = 126

RESOLV_CONF = "/etc/resolv.conf"

_CLONE_NEWNS = 0x00020000
_CLONE_NEWNET = 0x40000000
_MS_BIND = 0x1000
_MS_REC = 0x4000
_MS_SLAVE = 1 << 19
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_CAPABILITY_VERSION_3 = 0x20080522
_FIRST_LISTEN_FD = 3  # sd_listen_fds(3)
_SPARE_FDS = 64  # above all that are handed over

_libc = ctypes.CDLL(None, use_errno=True)


def enter(place: dict[str, Any]) -> None:
    """Become a process of ``place``; the order matters, each step needs what later ones drop."""
    Path(place["cgroup"], "cgroup.procs").write_text("0")
    if place["netns"]:
        fd = os.open(place["netns"], os.O_RDONLY | os.O_CLOEXEC)
        _checked(_libc.setns(fd, _CLONE_NEWNET), place["netns"])
        os.close(fd)
    if place["resolvConf"]:
        _replace_resolv_conf(place["resolvConf"])
    if place["listenFds"]:
        _hand_over(place["listenFds"])
    if not place["privileged"]:
        _drop_privileges(place["uid"], place["gid"])
    os.umask(0o022)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores these; commands must not
        signal.signal(number, signal.SIG_DFL)


def _replace_resolv_conf(path: str) -> None:
    """Show this process and its children another file; what the machine mounts still comes through.

    Where resolv.conf is a link, it is what the link leads to that is covered.
    """
    _checked(_libc.unshare(_CLONE_NEWNS), "unshare")
    _mount("none", "/", _MS_REC | _MS_SLAVE)
    _mount(path, RESOLV_CONF, _MS_BIND)


def _mount(source: str, target: str, flags: int) -> None:
    result = _libc.mount(source.encode(), target.encode(), None, flags, None)
    _checked(result, f"{source} on {target}")


def _hand_over(fds: list[int]) -> None:
    """Put listening sockets where socket activation has them: 3, 4, …"""
    spare = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _SPARE_FDS) for fd in fds]
    for number, fd in enumerate(spare, start=_FIRST_LISTEN_FD):
        os.dup2(fd, number, inheritable=True)
    os.closerange(_FIRST_LISTEN_FD + len(spare), _SPARE_FDS)
    os.environ["LISTEN_FDS"] = str(len(spare))
    os.environ["LISTEN_PID"] = str(os.getpid())


def _drop_privileges(uid: int, gid: int) -> None:
    """Run as ``uid`` with no capability, and no way to gain one; uid 0 included."""
    for capability in range(_last_capability() + 1):
        _checked(_libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0), "PR_CAPBSET_DROP")
    _checked(_libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0), "PR_CAP_AMBIENT")
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    nothing = (ctypes.c_uint32 * 6)()
    _checked(_libc.capset(header, nothing), "capset")
    _checked(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "PR_SET_NO_NEW_PRIVS")


def _last_capability() -> int:
    return int(Path("/proc/sys/kernel/cap_last_cap").read_text())


def _checked(result: int, subject: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), subject)


def main() -> int:
    place, command = json.loads(sys.argv[1]), sys.argv[2:]
    try:
        enter(place)
    except OSError as error:
        print(f"{command[0]}: cannot be started: {error}", file=sys.stderr)
        return NOT_STARTED
    try:
        os.execvp(command[0], command)  # noqa: S606 - there is no shell to be had
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr)
        return NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_STARTED


if __name__ == "__main__":
    sys.exit(main())

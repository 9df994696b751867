"""Programs at an interface where the kernel has no tcx links (before 6.6): a clsact qdisc with a
filter in each direction (tc-bpf(8)), by netlink. A filter outlives the agent by itself.

Ours are known by their name. The qdisc goes when no filter is left in it, whoever made it.
"""

from __future__ import annotations

import errno
import struct

from nodeagent import netlink

_NEWQDISC, _DELQDISC = 36, 37
_NEWFILTER, _DELFILTER, _GETFILTER = 44, 45, 46
_MESSAGE = struct.Struct("=BxxxiIII")  # tcmsg: family, interface, handle, parent, what
_CLSACT, _CLSACT_HANDLE = 0xFFFFFFF1, 0xFFFF0000
PARENTS = {"tcx_ingress": 0xFFFFFFF2, "tcx_egress": 0xFFFFFFF3}
_TCA_KIND, _TCA_OPTIONS = 1, 2
_BPF_FD, _BPF_NAME, _BPF_FLAGS, _BPF_ID = 6, 7, 8, 11
_DIRECT_ACTION = 1
_HANDLE, _PRIORITY = 1, 0x4D1A  # where our filter stands
_WHAT = _PRIORITY << 16 | 0x0300  # ETH_P_ALL in network order
_PREFIX = "hoplite:"


def attach(index: int, attach_at: str, program: int, name: str) -> None:
    """Put a program (a file descriptor) there, or in its predecessor's place."""
    _qdisc(index)
    options = netlink.nested(
        _TCA_OPTIONS,
        netlink.attribute(_BPF_FD, struct.pack("=I", program)),
        netlink.attribute(_BPF_NAME, f"{_PREFIX}{name}".encode() + b"\0"),
        netlink.attribute(_BPF_FLAGS, struct.pack("=I", _DIRECT_ACTION)),
    )
    message = _MESSAGE.pack(0, index, _HANDLE, PARENTS[attach_at], _WHAT)
    flags = netlink.REQUEST | netlink.ACK | netlink.CREATE | netlink.REPLACE
    _do(_NEWFILTER, flags, message + netlink.attribute(_TCA_KIND, b"bpf\0") + options)


def attached(index: int) -> dict[str, int]:
    """Our programs at an interface: name and program id."""
    return {
        name.removeprefix(_PREFIX): number
        for attach_at in PARENTS
        for name, number in _filters(index, attach_at)
        if name.startswith(_PREFIX)
    }


def detach(index: int) -> None:
    """Take our programs off an interface; one that is gone has none."""
    for attach_at, parent in PARENTS.items():
        if any(name.startswith(_PREFIX) for name, _ in _filters(index, attach_at)):
            message = _MESSAGE.pack(0, index, _HANDLE, parent, _WHAT)
            kind = netlink.attribute(_TCA_KIND, b"bpf\0")
            _do(_DELFILTER, netlink.REQUEST | netlink.ACK, message + kind, gone=True)
            if not any(_filters(index, each) for each in PARENTS):
                message = _MESSAGE.pack(0, index, _CLSACT_HANDLE, _CLSACT, 0)
                _do(_DELQDISC, netlink.REQUEST | netlink.ACK, message, gone=True)


def _qdisc(index: int) -> None:
    message = _MESSAGE.pack(0, index, _CLSACT_HANDLE, _CLSACT, 0)
    flags = netlink.REQUEST | netlink.ACK | netlink.CREATE | netlink.EXCL
    try:
        _do(_NEWQDISC, flags, message + netlink.attribute(_TCA_KIND, b"clsact\0"))
    except OSError as error:
        if error.errno != errno.EEXIST:
            raise


def _filters(index: int, attach_at: str) -> list[tuple[str, int]]:
    """The filters of one direction: name (of those that are BPF) and program id."""
    message = _MESSAGE.pack(0, index, 0, PARENTS[attach_at], 0)
    try:
        answers = list(netlink.ask(_GETFILTER, netlink.REQUEST | netlink.DUMP, message))
    except OSError as error:
        if error.errno in (errno.ENODEV, errno.EINVAL):
            return []  # no such interface, or no clsact on it
        raise
    found = []
    for payload in answers:
        parts = netlink.attributes(payload, _MESSAGE.size)
        options = netlink.attributes(parts.get(_TCA_OPTIONS, b""))
        if options:  # the answer for a chain of filters has none
            name = options.get(_BPF_NAME, b"").rstrip(b"\0").decode(errors="replace")
            number = int.from_bytes(options.get(_BPF_ID, b""), "little")
            found.append((name, number))
    return found


def _do(kind: int, flags: int, message: bytes, *, gone: bool = False) -> None:
    """Carry out a request; with ``gone``, what is not there any more is fine."""
    try:
        for _ in netlink.ask(kind, flags, message):
            pass
    except OSError as error:
        if not gone or error.errno not in (errno.ENODEV, errno.ENOENT, errno.EINVAL):
            raise

"""The few libbpf calls that the agent makes at run time, typed. No compiler, no object files.

libbpf.so.1 comes with Debian's python3-bpfcc. A call that fails raises ``KernelError``: what was
tried, errno's text and, where it is known, what to do.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from meshapi.errors import HopliteError

BPF_ANY, BPF_NOEXIST, BPF_EXIST = 0, 1, 2
BATCH = 4096

# enum bpf_attach_type (uapi/linux/bpf.h)
ATTACH = {
    "cgroup_inet_ingress": 0,
    "cgroup_inet_egress": 1,
    "cgroup_sock_ops": 3,
    "cgroup_inet4_connect": 10,
    "cgroup_inet6_connect": 11,
    "cgroup_udp4_sendmsg": 14,
    "cgroup_udp6_sendmsg": 15,
    "cgroup_udp4_recvmsg": 19,
    "cgroup_udp6_recvmsg": 20,
    "cgroup_getsockopt": 21,
    "cgroup_inet4_getpeername": 29,
    "cgroup_inet6_getpeername": 30,
    "cgroup_inet_sock_release": 34,
    "cgroup_inet4_post_bind": 12,
    "cgroup_inet6_post_bind": 13,
    "tcx_ingress": 46,
    "tcx_egress": 47,
}


def expected_attach(attach: str) -> int:
    """What the kernel wants to know when a program is loaded that will be attached there."""
    return 0 if attach.startswith("tcx") else ATTACH[attach]  # packet classifiers fit both ways


class KernelError(HopliteError):
    """The kernel refused a bpf() call."""

    def __init__(self, what: str, number: int, *, where: str = "", fix: str = "") -> None:
        self.errno = number
        super().__init__(f"{what}: {os.strerror(number)}", where=where, fix=fix)


def load() -> ctypes.CDLL:
    """The library, with the signatures of what is called."""
    try:
        library = ctypes.CDLL("libbpf.so.1", use_errno=True)
    except OSError as error:
        raise HopliteError(
            "libbpf.so.1 is not installed",
            where=str(error),
            fix="install the package libbpf1 (Debian, Ubuntu)",
        ) from error
    pointer, integer, unsigned = ctypes.c_void_p, ctypes.c_int, ctypes.c_uint64
    library.bpf_map_update_elem.argtypes = [integer, pointer, pointer, unsigned]
    library.bpf_map_lookup_elem.argtypes = [integer, pointer, pointer]
    library.bpf_map_lookup_and_delete_elem.argtypes = [integer, pointer, pointer]
    library.bpf_map_delete_elem.argtypes = [integer, pointer]
    library.bpf_map_get_next_key.argtypes = [integer, pointer, pointer]
    library.bpf_map_lookup_batch.argtypes = [integer, *[pointer] * 6]
    library.bpf_map_update_batch.argtypes = [integer, *[pointer] * 4]
    library.bpf_link_create.argtypes = [integer, integer, integer, pointer]
    library.bpf_link_update.argtypes = [integer, integer, pointer]
    library.bpf_obj_get_info_by_fd.argtypes = [integer, pointer, pointer]
    return library


_LIBRARY = load()


def _failed(what: str, where: str = "", fix: str = "") -> KernelError:
    return KernelError(what, ctypes.get_errno(), where=where, fix=fix)


def obj_get(path: Path) -> int:
    """A file descriptor of a pinned map, program or link; the caller closes it."""
    fd: int = _LIBRARY.bpf_obj_get(str(path).encode())
    if fd < 0:
        raise _failed("cannot open the pinned object", str(path))
    return fd


def obj_pin(fd: int, path: Path) -> None:
    if _LIBRARY.bpf_obj_pin(fd, str(path).encode()) < 0:
        raise _failed("cannot pin", str(path), "check that bpffs is mounted there")


class _LinkOptions(ctypes.Structure):
    """The head of struct bpf_link_create_opts (bpf/libbpf.h)."""

    _fields_ = (("size", ctypes.c_size_t), ("flags", ctypes.c_uint32), ("pad", ctypes.c_uint32))


FIRST = 1 << 3  # BPF_F_BEFORE, and no other program named: before all others (tcx)


def link_create(program: int, target: int, attach: str, flags: int = 0) -> int:
    """Attach a program to a cgroup (its file descriptor) or an interface (its index) as a link; the
    link's file descriptor.
    """
    options = _LinkOptions(ctypes.sizeof(_LinkOptions), flags)
    fd: int = _LIBRARY.bpf_link_create(program, target, ATTACH[attach], ctypes.byref(options))
    if fd < 0:
        raise _failed(f"cannot attach at {attach}")
    return fd


def link_update(link: int, program: int) -> None:
    """Replace the link's program in place: no packet meets a gap."""
    if _LIBRARY.bpf_link_update(link, program, None) < 0:
        raise _failed("cannot replace the program of a link")


class _LinkInfo(ctypes.Structure):
    """struct bpf_link_info, cgroup variant (uapi/linux/bpf.h)."""

    _fields_ = (
        ("type", ctypes.c_uint32),
        ("id", ctypes.c_uint32),
        ("prog_id", ctypes.c_uint32),
        ("pad", ctypes.c_uint32),
        ("cgroup_id", ctypes.c_uint64),
        ("attach_type", ctypes.c_uint32),
        ("pad2", ctypes.c_uint32),
    )


class _ProgramInfo(ctypes.Structure):
    """The head of struct bpf_prog_info."""

    _fields_ = (
        ("type", ctypes.c_uint32),
        ("id", ctypes.c_uint32),
        ("tag", ctypes.c_uint8 * 8),
        ("jited_len", ctypes.c_uint32),
        ("xlated_len", ctypes.c_uint32),
    )


class _MapInfo(ctypes.Structure):
    """The head of struct bpf_map_info."""

    _fields_ = (
        ("type", ctypes.c_uint32),
        ("id", ctypes.c_uint32),
        ("key_size", ctypes.c_uint32),
        ("value_size", ctypes.c_uint32),
        ("max_entries", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
    )


def _info(fd: int, into: ctypes.Structure) -> None:
    length = ctypes.c_uint32(ctypes.sizeof(into))
    if _LIBRARY.bpf_obj_get_info_by_fd(fd, ctypes.byref(into), ctypes.byref(length)) < 0:
        raise _failed("cannot read about a bpf object")


def link_target(link: int) -> tuple[int, int]:
    """``(program id, cgroup id)`` of a cgroup link; cgroup id 0 when its cgroup is gone."""
    info = _LinkInfo()
    _info(link, info)
    return info.prog_id, info.cgroup_id


def link_interface(link: int) -> tuple[int, int]:
    """``(program id, interface's index)`` of a tcx link; index 0 when its interface is gone."""
    number, target = link_target(link)
    return number, target & 0xFFFFFFFF  # the attach type is in the upper half


def program_id(program: int) -> int:
    info = _ProgramInfo()
    _info(program, info)
    return int(info.id)


def map_shape(fd: int) -> tuple[int, int, int]:
    """``(key bytes, value bytes, entries)``."""
    info = _MapInfo()
    _info(fd, info)
    return info.key_size, info.value_size, info.max_entries


def possible_cpus() -> int:
    count: int = _LIBRARY.libbpf_num_possible_cpus()
    return count


class KernelMap:
    """One pinned map: bytes in, bytes out. Keys and values are packed by layout.py."""

    def __init__(self, path: Path, key: int, value: int) -> None:
        self.name = path.name.split("@")[0]
        self.fd = obj_get(path)
        self._key = key
        self._value = value
        shape = map_shape(self.fd)
        if shape[:2] != (key, value):
            raise HopliteError(
                f"the pinned map has keys and values of {shape[:2]} bytes, not {(key, value)}",
                where=str(path),
                fix="remove the pin directory and start again",
            )

    def close(self) -> None:
        os.close(self.fd)

    def put(self, key: bytes, value: bytes) -> None:
        if _LIBRARY.bpf_map_update_elem(self.fd, key, value, BPF_ANY) < 0:
            error = _failed(f"map {self.name}")
            if error.errno == errno.E2BIG:
                error.fix = f"raise the agent's setting mapSizes.{self.name}"
            raise error

    def replace(self, key: bytes, value: bytes) -> bool:
        """Write an entry only if it is there; whether it was."""
        if _LIBRARY.bpf_map_update_elem(self.fd, key, value, BPF_EXIST) < 0:
            if ctypes.get_errno() == errno.ENOENT:
                return False
            raise _failed(f"map {self.name}")
        return True

    def insert(self, key: bytes, value: bytes) -> bool:
        """Write an entry only if it is not there; whether it was not. A full map takes no more."""
        if _LIBRARY.bpf_map_update_elem(self.fd, key, value, BPF_NOEXIST) < 0:
            if ctypes.get_errno() in (errno.EEXIST, errno.E2BIG):
                return False
            raise _failed(f"map {self.name}")
        return True

    def put_many(self, entries: list[tuple[bytes, bytes]]) -> None:
        """Write entries in order, in batches where the kernel can (hash maps, 5.6 on)."""
        for start in range(0, len(entries), BATCH):
            part = entries[start : start + BATCH]
            if len(part) > 1 and self._put_batch(part):
                continue
            for key, value in part:
                self.put(key, value)

    def _put_batch(self, part: list[tuple[bytes, bytes]]) -> bool:
        keys = b"".join(key for key, _ in part)
        values = b"".join(value for _, value in part)
        count = ctypes.c_uint32(len(part))
        result = _LIBRARY.bpf_map_update_batch(self.fd, keys, values, ctypes.byref(count), None)
        return bool(result == 0)

    def get(self, key: bytes) -> bytes | None:
        value = ctypes.create_string_buffer(self._value)
        if _LIBRARY.bpf_map_lookup_elem(self.fd, key, value) < 0:
            if ctypes.get_errno() == errno.ENOENT:
                return None
            raise _failed(f"map {self.name}")
        return value.raw

    def get_percpu(self, key: bytes) -> int:
        """The sum over all CPUs of a u64 in a per-CPU map."""
        cpus = possible_cpus()
        values = (ctypes.c_uint64 * cpus)()
        if _LIBRARY.bpf_map_lookup_elem(self.fd, key, values) < 0:
            raise _failed(f"map {self.name}")
        return sum(values)

    def pop(self, key: bytes) -> bytes | None:
        """Remove an entry and return what it held (lookup-and-delete, or both in turn)."""
        value = ctypes.create_string_buffer(self._value)
        if _LIBRARY.bpf_map_lookup_and_delete_elem(self.fd, key, value) == 0:
            return value.raw
        number = ctypes.get_errno()
        if number == errno.ENOENT:
            return None
        held = self.get(key)  # kernels before 5.14 cannot do both at once for hashes
        self.delete(key)
        return held

    def delete(self, key: bytes) -> None:
        """Remove an entry; one that is not there is fine."""
        missing = _LIBRARY.bpf_map_delete_elem(self.fd, key) < 0
        if missing and ctypes.get_errno() != errno.ENOENT:
            raise _failed(f"map {self.name}")

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Every entry; entries that come or go meanwhile may or may not be seen."""
        return self._items_batch() if self._can_batch() else self._items_single()

    def _can_batch(self) -> bool:
        probe = ctypes.c_uint32(0)
        token = ctypes.create_string_buffer(max(self._key, 8))
        result = _LIBRARY.bpf_map_lookup_batch(
            self.fd, None, token, token, token, ctypes.byref(probe), None
        )
        return bool(result == 0)  # ENOTSUPP: this kind of map has no batch operations

    def _items_batch(self) -> Iterator[tuple[bytes, bytes]]:
        token = ctypes.create_string_buffer(max(self._key, 8))
        keys = ctypes.create_string_buffer(BATCH * self._key)
        values = ctypes.create_string_buffer(BATCH * self._value)
        first, size = True, BATCH
        while True:
            count = ctypes.c_uint32(size)
            result = _LIBRARY.bpf_map_lookup_batch(
                self.fd, None if first else token, token, keys, values, ctypes.byref(count), None
            )
            number = ctypes.get_errno() if result < 0 else 0
            if number not in (0, errno.ENOENT):
                raise _failed(f"map {self.name}")
            raw_keys, raw_values = keys.raw, values.raw
            for i in range(count.value):
                yield (
                    raw_keys[i * self._key : (i + 1) * self._key],
                    raw_values[i * self._value : (i + 1) * self._value],
                )
            if number == errno.ENOENT:
                return
            first = False

    def _items_single(self) -> Iterator[tuple[bytes, bytes]]:
        current: bytes | None = None
        following = ctypes.create_string_buffer(self._key)
        while _LIBRARY.bpf_map_get_next_key(self.fd, current, following) == 0:
            current = following.raw
            value = self.get(current)
            if value is not None:
                yield current, value

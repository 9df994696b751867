"""Ways of asking the kernel what it can do. Each probe is a value; ``present()`` asks.

Every answer comes from a system call that changes nothing: a program of two instructions loaded and
closed again, a map of one entry, an attachment to a target that does not exist.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, Protocol

from nodeagent.datapath import libbpf, sockdiag

_LIBRARY = libbpf.load()
_pointer = ctypes.c_void_p
_LIBRARY.libbpf_probe_bpf_map_type.argtypes = [ctypes.c_int, _pointer]
_LIBRARY.bpf_prog_load.argtypes = [
    ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p, _pointer, ctypes.c_size_t, _pointer,
]  # fmt: skip
_LIBRARY.bpf_map_create.argtypes = [
    ctypes.c_int, ctypes.c_char_p, *[ctypes.c_uint32] * 3, _pointer,
]  # fmt: skip

_NOBODY = 0x7FFFFFFF  # a file descriptor and an interface index that nobody has
_LPM_TRIE, _NO_PREALLOC = 11, 1

# struct bpf_insn: opcode, registers (destination in the low half), offset, immediate
_INSTRUCTION = struct.Struct("=BBhi")


class Probe(Protocol):
    """A question to the kernel."""

    def present(self) -> bool: ...


@dataclass(frozen=True)
class Helper:
    """May programs of a type (enum bpf_prog_type) call a helper (enum bpf_func_id)?

    ``attach`` (enum bpf_attach_type) is for helpers that only some attach types have. The verifier
    refuses the call for its arguments if not for the helper, and says which in its log.
    """

    program: int
    number: int
    attach: int = 0

    def present(self) -> bool:
        log = ctypes.create_string_buffer(4096)
        fd = _load(self.program, self.attach, (_call(self.number), *_RETURN_ONE), log)
        if fd >= 0:
            os.close(fd)
            return True
        return bool(log.value) and not any(words in log.value for words in _NO_SUCH_HELPER)


@dataclass(frozen=True)
class MapType:
    number: int

    def present(self) -> bool:
        return bool(_LIBRARY.libbpf_probe_bpf_map_type(self.number, None) == 1)


@dataclass(frozen=True)
class Instructions:
    """Does the verifier take this program: (opcode, registers, offset, immediate) of each step?"""

    program: int
    steps: tuple[tuple[int, int, int, int], ...]

    def present(self) -> bool:
        fd = _load(self.program, 0, self.steps)
        if fd < 0:
            return False
        os.close(fd)
        return True


@dataclass(frozen=True)
class Link:
    """Can a program be attached at an attach type (enum bpf_attach_type) as a link?

    A kernel that knows the attach type looks for the target next, and there is none.
    """

    program: int
    attach: int

    def present(self) -> bool:
        fd = _load(self.program, self.attach, _RETURN_ONE)
        if fd < 0:
            return False
        try:
            _LIBRARY.bpf_link_create(fd, _NOBODY, self.attach, None)
            return ctypes.get_errno() in (errno.EBADF, errno.ENODEV)
        finally:
            os.close(fd)


@dataclass(frozen=True)
class MapOperation:
    """Can user space do this to maps of a type: whole batches, take (read and delete), walk?"""

    map: int
    operation: Literal["batch", "take", "walk"]

    def present(self) -> bool:
        with _small_map(self.map) as fd:
            if fd < 0:
                return False
            key = ctypes.create_string_buffer(8)  # the first entry; to a trie, everything
            value = ctypes.create_string_buffer(8)
            if _LIBRARY.bpf_map_update_elem(fd, key, value, 0) < 0:
                return False
            return bool(self._try(fd, key, value) == 0)

    def _try(self, fd: int, key: object, value: object) -> int:
        if self.operation == "take":
            return int(_LIBRARY.bpf_map_lookup_and_delete_elem(fd, key, value))
        out = ctypes.create_string_buffer(64)
        if self.operation == "walk":
            return int(_LIBRARY.bpf_map_get_next_key(fd, None, out))
        # Two at a time of one: the end of the map (ENOENT) is an answer, too.
        token, count = ctypes.create_string_buffer(64), ctypes.c_uint32(2)
        result = int(
            _LIBRARY.bpf_map_lookup_batch(
                fd, None, token, out, ctypes.create_string_buffer(64), ctypes.byref(count), None
            )
        )
        return 0 if result < 0 and ctypes.get_errno() == errno.ENOENT else result


@dataclass(frozen=True)
class SocketDestroy:
    """Can connections be ended by netlink (sock_diag(7), CONFIG_INET_DIAG_DESTROY)?"""

    def present(self) -> bool:
        return sockdiag.able()


_RETURN_ONE = ((0xB7, 0, 0, 1), (0x95, 0, 0, 0))  # r0 = 1; exit

# libbpf's own probe knows the first two only; kernels since 6.10 say the third.
_NO_SUCH_HELPER = (b"unknown func", b"invalid func", b"cannot use helper")


def _call(helper: int) -> tuple[int, int, int, int]:
    return (0x85, 0, 0, helper)


class _LoadOptions(ctypes.Structure):
    """struct bpf_prog_load_opts (libbpf 1.0 on)."""

    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("attempts", ctypes.c_int),
        ("expected_attach_type", ctypes.c_int),
        ("unused", ctypes.c_uint32 * 8),
        ("unused_pointers", ctypes.c_uint64 * 5),
        ("log_level", ctypes.c_uint32),
        ("log_size", ctypes.c_uint32),
        ("log_buf", ctypes.c_void_p),
    )


def _load(
    program: int,
    attach: int,
    steps: tuple[tuple[int, int, int, int], ...],
    log: ctypes.Array[ctypes.c_char] | None = None,
) -> int:
    """A program's file descriptor, which the caller closes; negative if it is refused."""
    code = b"".join(_INSTRUCTION.pack(*step) for step in steps)
    options = _LoadOptions(ctypes.sizeof(_LoadOptions), 1, attach)
    if log is not None:
        options.log_level, options.log_size = 1, len(log)
        options.log_buf = ctypes.cast(log, ctypes.c_void_p)
    fd: int = _LIBRARY.bpf_prog_load(
        program, None, b"Dual BSD/GPL", code, len(steps), ctypes.byref(options)
    )
    return fd


class _MapOptions(ctypes.Structure):
    """The head of struct bpf_map_create_opts (libbpf 1.0 on)."""

    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("unused", ctypes.c_uint32 * 5),
        ("map_flags", ctypes.c_uint32),
    )


@contextmanager
def _small_map(kind: int) -> Iterator[int]:
    """A map of up to two entries with keys and values of 8 bytes (4 for arrays)."""
    options = _MapOptions(sz=ctypes.sizeof(_MapOptions))
    options.map_flags = _NO_PREALLOC if kind == _LPM_TRIE else 0
    key = 4 if kind in (2, 6) else 8  # arrays
    fd: int = _LIBRARY.bpf_map_create(kind, None, key, 8, 2, ctypes.byref(options))
    try:
        yield fd
    finally:
        if fd >= 0:
            os.close(fd)

"""The BPF loader: a short-lived child of the agent, the only place that imports ``bcc``.

Reads one JSON request on standard input, compiles the text, loads every program, pins them below
the given directory, and says on standard output how it went. The compiler's memory goes with it.
"""

from __future__ import annotations

import ctypes
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec


class LoadRequest(msgspec.Struct, frozen=True):
    """``programs``: (function, program type, attach type); ``headers``: BCC_KERNEL_SOURCE."""

    text: str
    headers: str
    programs: tuple[tuple[str, int, int], ...]
    pin_to: str


class LoadReply(msgspec.Struct, frozen=True):
    """``error`` is one line for people; ``log`` is what the compiler or the verifier said."""

    error: str = ""
    log: str = ""
    compile_seconds: float = 0.0


def main() -> int:
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=LoadRequest)
    with tempfile.TemporaryFile() as log:
        reply = _with_stderr_in(log, request)
    sys.stdout.buffer.write(msgspec.json.encode(reply))
    return 1 if reply.error else 0


def _with_stderr_in(log: Any, request: LoadRequest) -> LoadReply:
    """BCC and the verifier write to file descriptor 2, from C."""
    saved = os.dup(2)
    os.dup2(log.fileno(), 2)
    try:
        started = time.monotonic()
        error = _load(request)
        seconds = time.monotonic() - started
    finally:
        os.dup2(saved, 2)
        os.close(saved)
    log.seek(0)
    text = log.read().decode(errors="replace")
    return LoadReply(error=error, log=text[-20000:], compile_seconds=seconds)


def _load(request: LoadRequest) -> str:
    os.environ["BCC_KERNEL_SOURCE"] = request.headers
    try:
        import bcc
    except ImportError as error:
        return f"BCC is not installed ({error}); install the package python3-bpfcc"
    try:
        module = bcc.BPF(text=request.text)
    except Exception as error:  # noqa: BLE001 - BCC raises bare Exception
        return f"the datapath does not compile: {error}"
    folder = Path(request.pin_to)
    folder.mkdir(parents=True, exist_ok=True)
    for name, program_type, attach in request.programs:
        try:
            function = module.load_func(name, program_type, None, attach)
        except Exception as error:  # noqa: BLE001 - the same
            return f"this kernel refuses the program {name}: {_one_line(error)}"
        failed = _pin(function.fd, folder / name)
        if failed:
            return failed
    return ""


def _pin(fd: int, path: Path) -> str:
    library = ctypes.CDLL("libbpf.so.1", use_errno=True)
    if library.bpf_obj_pin(fd, str(path).encode()) < 0:
        return f"cannot pin {path}: {os.strerror(ctypes.get_errno())}; is bpffs mounted there?"
    return ""


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


if __name__ == "__main__":
    sys.exit(main())

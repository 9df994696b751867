"""One command under another kernel: QEMU's emulation, no installation, no disk, no network.

The guest's root is the host's file system, read-only, below one in memory that takes the writes; so
the repository, ``.venv`` and every program are where they are on the host. ``shared`` is a host
directory that both can write, in the guest at ``/run/guest``.
"""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from lab.vm.fetch import KernelTree
from meshapi.errors import HopliteError

SHARED = "/run/guest"

_SCRIPT = Path(__file__).with_name("guest.sh")
_TAIL = 15  # lines of the console that are shown when a guest ends without a word
_VIRTIOFSD = ("/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd")
_SETUP = "run: sudo deploy/setup.sh kernels"


@dataclass(frozen=True)
class Ended:
    """How it went. ``console`` is what the kernel said; ``output`` is the command's."""

    status: int
    output: str
    console: str
    seconds: float


def run(
    tree: KernelTree,
    command: Sequence[str],
    *,
    timeout: float,
    shared: Path | None = None,
    systemd: bool = False,
    memory: int = 1024,
    cpus: int = 1,
    hear: Callable[[str], None] = lambda _: None,
) -> Ended:
    """Run ``command`` as root and return its exit status; ``hear`` gets its output line by line.

    With ``systemd`` it is a service of the guest's, which has systemd for its first process and
    none of the host's services. The guest ends as if its power failed, once everything is on disk.
    Raises HopliteError when it does not come up, panics, or takes longer than ``timeout`` seconds.
    ``memory`` is in MiB. One CPU is the safe number: with more, kernels that patch their own code
    now and then crash under emulation. Nothing is left behind.
    """
    if os.geteuid() != 0:
        raise HopliteError(
            "a guest sees all of this machine's files and needs root", fix="use sudo"
        )
    began = time.monotonic()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hoplite-vm-")))
        _write(folder, tree, command, shared=shared is not None, systemd=systemd)
        shares = {"host": Path("/"), **({"shared": shared} if shared else {})}
        for tag, source in shares.items():
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(str(folder / f"{tag}.sock"))
                listener.listen(1)
                server = _virtiofsd(tag, source, listener.fileno())
                stack.enter_context(_Process(server, folder / f"{tag}.log", listener.fileno()))
        machine = _qemu(folder, tree, list(shares), memory, cpus)
        qemu = stack.enter_context(_Process(machine, folder / "qemu.log"))
        output = _listen(qemu, timeout, hear)
        console = _text(folder / "console").replace("\r", "")
        status = _status(console)
        if status is None:
            raise HopliteError(
                _why(console, folder, time.monotonic() - began, timeout),
                where=f"guest with kernel {tree.release}",
                fix="its console said last:\n" + "\n".join(console.splitlines()[-_TAIL:]),
            )
    return Ended(status, output, console, time.monotonic() - began)


class _Process:
    """A child that is killed at the end, and by the kernel should this process die before."""

    def __init__(self, command: list[str], log: Path, *fds: int) -> None:
        self._command = ["setpriv", "--pdeathsig", "KILL", "--", *command]
        self._log = log
        self._fds = fds

    def __enter__(self) -> subprocess.Popen[str]:
        with self._log.open("w") as log:
            self._child = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                errors="replace",
                start_new_session=True,
                pass_fds=self._fds,
            )
        return self._child

    def __exit__(self, *_: object) -> None:
        self._child.kill()
        self._child.wait()
        if self._child.stdout is not None:
            self._child.stdout.close()


def _write(folder: Path, tree: KernelTree, command: Sequence[str], **settings: bool) -> None:
    shutil.copy(_SCRIPT, folder / "init.sh")
    (folder / "command").write_text(shlex.join(command))
    modules = shlex.quote(str(tree.folder / "lib" / "modules" / tree.release))
    lines = [f"modules={modules}", *(f"{name}={int(value)}" for name, value in settings.items())]
    (folder / "settings").write_text("\n".join(lines) + "\n")


def _virtiofsd(tag: str, source: Path, listener: int) -> list[str]:
    program = next((p for p in _VIRTIOFSD if Path(p).exists()), None)
    if program is None:
        raise HopliteError("virtiofsd is not installed", fix=_SETUP)
    caching = "always" if tag == "host" else "none"
    options = f"source={source},cache={caching},sandbox=chroot"
    # Given a path instead of a socket, it would leave a file in /run.
    return [program, f"--fd={listener}", "-o", options]


def _qemu(folder: Path, tree: KernelTree, tags: list[str], memory: int, cpus: int) -> list[str]:
    program = shutil.which("qemu-system-x86_64")
    if program is None:
        raise HopliteError("qemu-system-x86_64 is not installed", fix=_SETUP)
    shares: list[str] = []
    for tag in tags:
        shares += ["-chardev", f"socket,id={tag},path={folder / tag}.sock"]
        shares += ["-device", f"vhost-user-fs-pci,chardev={tag},tag={tag},queue-size=1024"]
    kernel = (
        "console=ttyS0 quiet panic=-1 mitigations=off nokaslr random.trust_cpu=on "
        f"hoplite.run={folder}"
    )
    return [
        program,
        *("-M", "q35", "-accel", "tcg,thread=multi,tb-size=512", "-cpu", "Nehalem,+rdrand"),
        *("-smp", str(cpus), "-m", str(memory)),
        *("-object", f"memory-backend-memfd,id=memory,size={memory}M,share=on"),
        *("-numa", "node,memdev=memory"),
        *("-nodefaults", "-no-reboot", "-display", "none"),
        *("-serial", f"file:{folder / 'console'}", "-serial", "stdio"),
        *shares,
        *("-kernel", str(tree.image), "-initrd", str(tree.initramfs), "-append", kernel),
    ]


def _listen(qemu: subprocess.Popen[str], timeout: float, hear: Callable[[str], None]) -> str:
    """The command's output until the guest ends; it is ended after ``timeout`` seconds."""
    lines = []
    alarm = threading.Timer(timeout, qemu.kill)
    alarm.start()
    try:
        for line in qemu.stdout or ():
            lines.append(line)
            hear(line.rstrip("\n"))
        qemu.wait()
    finally:
        alarm.cancel()
    return "".join(lines)


def _status(console: str) -> int | None:
    """The command's exit status, if the guest lived to say it."""
    for line in reversed(console.splitlines()):
        _, found, status = line.partition("hoplite-vm: exit ")
        if found and status.strip().isdigit():
            return int(status)
    return None


def _why(console: str, folder: Path, seconds: float, timeout: float) -> str:
    if seconds >= timeout:
        return f"was not done after {timeout:g} s"
    if "Kernel panic" in console:
        return "its kernel panicked"
    said = " ".join(_text(log).strip() for log in sorted(folder.glob("*.log")))
    return f"ended before its command did: {said[-300:]}"


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""

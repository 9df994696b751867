"""The first file system of a guest: busybox, the modules for the host's files, one script."""

from __future__ import annotations

import gzip
import lzma
import shutil
import subprocess
import tempfile
from pathlib import Path

from meshapi.errors import HopliteError

SCRIPT = Path(__file__).with_name("initramfs.sh")

_MODULES = ("virtio_pci", "virtiofs", "overlay")
_APPLETS = ("sh", "mount", "mkdir", "insmod", "switch_root", "cat", "echo", "poweroff")


def make(folder: Path, release: str, busybox: Path, out: Path) -> None:
    """Write the initramfs of the kernel unpacked in ``folder`` to ``out`` (cpio, gzip)."""
    with tempfile.TemporaryDirectory() as made:
        root = Path(made)
        for name in ("bin", "modules", "proc", "sys", "dev", "host", "writable", "root"):
            (root / name).mkdir()
        shutil.copy(busybox, root / "bin" / "busybox")
        for applet in _APPLETS:
            (root / "bin" / applet).symlink_to("busybox")
        order = []
        for number, module in enumerate(_needed(folder, release)):
            name = f"{number:02}-{module.name.split('.')[0]}.ko"
            (root / "modules" / name).write_bytes(_uncompressed(module))
            order.append(name + "\n")
        (root / "modules" / "order").write_text("".join(order))
        shutil.copy(SCRIPT, root / "init")
        (root / "init").chmod(0o755)
        out.write_bytes(gzip.compress(_cpio(root), 1))


def _needed(folder: Path, release: str) -> list[Path]:
    """The modules' files in loading order; those built into the kernel are not among them."""
    found: dict[Path, None] = {}
    for module in _MODULES:
        done = subprocess.run(
            ["modprobe", "-d", str(folder), "-S", release, "--show-depends", module],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise HopliteError(
                f"kernel {release} has no module {module}: {done.stderr.strip()}",
                where=str(folder),
                fix="a guest needs virtiofs and overlay; use another kernel",
            )
        for line in done.stdout.splitlines():
            word, _, path = line.strip().partition(" ")
            if word == "insmod":
                found[Path(path.strip())] = None
    return list(found)


def _uncompressed(module: Path) -> bytes:
    text = module.read_bytes()
    if module.suffix == ".xz":
        return lzma.decompress(text)
    return text


def _cpio(root: Path) -> bytes:
    names = sorted(str(p.relative_to(root)) for p in root.rglob("*"))
    return subprocess.run(
        ["cpio", "--create", "--format=newc", "--quiet", "--owner=0:0"],
        cwd=root,
        input="\n".join(names).encode(),
        capture_output=True,
        check=True,
    ).stdout

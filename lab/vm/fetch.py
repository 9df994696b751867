"""Kernels into ``.build/kernels``: downloaded and checked by apt, unpacked, never installed.

apt works on lists of its own below that directory; the machine's sources stay as they are.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.vm import catalog, initramfs
from lab.vm.catalog import Kernel
from meshapi.errors import HopliteError

CACHE = Path(__file__).resolve().parents[2] / ".build" / "kernels"


@dataclass(frozen=True)
class KernelTree:
    """An unpacked kernel: ``folder`` has lib/modules/<release>, vmlinuz and initramfs.gz."""

    name: str
    release: str
    folder: Path

    @property
    def image(self) -> Path:
        return self.folder / "vmlinuz"

    @property
    def initramfs(self) -> Path:
        return self.folder / "initramfs.gz"


def cached(name: str) -> KernelTree | None:
    """The kernel of that name if it has been fetched before."""
    link = CACHE / name
    if not link.exists():
        return None
    folder = link.resolve()
    return KernelTree(name, folder.name, folder)


def fetch(names: Sequence[str], say: Callable[[str], None] = lambda _: None) -> list[KernelTree]:
    """Have these kernels; what was fetched before is used as it is, without a network."""
    kernels = [catalog.by_name(name) for name in names]
    missing = [kernel for kernel in kernels if cached(kernel.name) is None]
    if missing:
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE, prefix="fetching-") as work:
            _fetch(missing, Path(work), say)
    return [tree for name in names if (tree := cached(name)) is not None]


def _fetch(kernels: Sequence[Kernel], work: Path, say: Callable[[str], None]) -> None:
    uris = _run(["apt-get", "indextargets", "--format", "$(REPO_URI)"]).split()
    (work / "sources.list").write_text(catalog.sources(kernels, *catalog.mirrors(uris)))
    options = _private(work)
    say(f"reading the package lists for {', '.join(k.name for k in kernels)}")
    _run(["apt-get", *options, "update", "--quiet"], cwd=work)
    madison = _run(["apt-cache", *options, "madison", catalog.META])
    busybox = _busybox(options, work)
    for kernel in kernels:
        version = catalog.newest(kernel, madison)
        say(f"fetching kernel {kernel.name} (Debian's {version})")
        debs = work / f"debs-{kernel.name}"
        debs.mkdir()
        packages = [f"{name}={version}" for name in _closure(options, version)]
        _run(["apt-get", *options, "download", "--quiet", *packages], cwd=debs)
        _install(kernel, _unpack(debs, work / kernel.name), busybox)
        shutil.rmtree(debs)
    # The cache is the clone's owner's, also when sudo made it.
    _run(["chown", "-hR", f"--reference={CACHE.parents[1]}", str(CACHE.parent)])


def _private(work: Path) -> list[str]:
    """apt options that keep it to ``work``; on the command line they outrank every apt.conf."""
    for folder in ("lists/partial", "cache/archives/partial"):
        (work / folder).mkdir(parents=True)
    settings = {
        "Dir::State::Lists": work / "lists",
        "Dir::Cache": work / "cache",
        "Dir::Etc::SourceList": work / "sources.list",
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::Etc::PreferencesParts": "/dev/null",
        "Acquire::Languages": "none",
        "APT::Sandbox::User": "root",  # no other user can write here
        "APT::Update::Error-Mode": "any",
    }
    return [word for key, value in settings.items() for word in ("--option", f"{key}={value}")]


def _closure(options: Sequence[str], version: str) -> list[str]:
    """The packages of one version that together are a kernel; no meta-packages."""
    wanted, found = [catalog.META], [catalog.META]
    while wanted:
        name = f"{wanted.pop()}={version}"
        for part in catalog.parts(_run(["apt-cache", *options, "show", name]), version):
            if part not in found:
                found.append(part)
                wanted.append(part)
    return [name for name in found if not catalog.is_meta(name)]


def _busybox(options: Sequence[str], work: Path) -> Path:
    _run(["apt-get", *options, "download", "--quiet", catalog.BUSYBOX], cwd=work)
    for package in work.glob(f"{catalog.BUSYBOX}_*.deb"):
        _run(["dpkg-deb", "-x", str(package), str(work / "busybox")])
    programs = [
        p for p in (work / "busybox").rglob("busybox") if p.is_file() and not p.is_symlink()
    ]
    return next(p for p in programs if os.access(p, os.X_OK))


def _unpack(debs: Path, folder: Path) -> Path:
    folder.mkdir()
    for package in sorted(debs.glob("*.deb")):
        _run(["dpkg-deb", "-x", str(package), str(folder)])
    merged = folder / "usr" / "lib" / "modules"
    if merged.exists():  # since Debian 13; depmod looks below lib
        (folder / "lib").mkdir(exist_ok=True)
        merged.rename(folder / "lib" / "modules")
    for useless in ("usr/share", "etc"):
        shutil.rmtree(folder / useless, ignore_errors=True)
    return folder


def _install(kernel: Kernel, folder: Path, busybox: Path) -> None:
    """Complete an unpacked kernel and, last, give it its name in the cache."""
    (modules,) = (folder / "lib" / "modules").iterdir()
    release = modules.name
    images = [folder / "boot" / f"vmlinuz-{release}", modules / "vmlinuz"]
    next(p for p in images if p.exists()).rename(folder / "vmlinuz")
    _run(["depmod", "--basedir", str(folder), release])
    initramfs.make(folder, release, busybox, folder / "initramfs.gz")
    place = CACHE / release
    if place.exists():
        shutil.rmtree(place)
    folder.rename(place)
    link = CACHE / f"{kernel.name}.new"
    link.unlink(missing_ok=True)
    link.symlink_to(release)
    link.rename(CACHE / kernel.name)


def _run(command: list[str], cwd: Path | None = None) -> str:
    """What a command says; its failure is one line with the error that it named."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        errors = (
            [line for line in said if line.startswith("E:")] or said[-1:] or ["no reason given"]
        )
        raise HopliteError(
            f"{command[0]} failed: {errors[0].removeprefix('E: ')}",
            where=command[-1],
            fix="check the network and apt's sources, and run this again",
        )
    return done.stdout

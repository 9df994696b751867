"""Which kernels there are, and where Debian has them. Pure.

All are Debian's own builds for virtual machines ("cloud"): small, with BTF, as its users run them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from meshapi.errors import HopliteError

META = "linux-image-cloud-amd64"  # depends on the newest image of its suite
BUSYBOX = "busybox-static"  # a guest's first programs
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"

# What Debian's own sources say; a machine that has another mirror uses that.
_ARCHIVE = "http://deb.debian.org/debian"
_SECURITY = "http://deb.debian.org/debian-security"

_BUSYBOX_SUITE = "sid"
_META = re.compile(r"linux-[a-z]+-cloud-amd64")
_EXACTLY = re.compile(r"(linux-[a-z0-9.+-]+) \(= ([^)]+)\)")


@dataclass(frozen=True)
class Kernel:
    """``name`` is what people call it; the newest image in ``suites`` is taken."""

    name: str
    suites: tuple[str, ...]


KERNELS: tuple[Kernel, ...] = (
    Kernel("5.10", ("bullseye-security",)),
    Kernel("6.1", ("bookworm-security",)),
    Kernel("6.12", ("trixie-security",)),
    Kernel("newest", ("trixie-backports", "sid")),
)


def by_name(name: str) -> Kernel:
    """The kernel of that name; an unknown one is refused with those that there are."""
    for kernel in KERNELS:
        if kernel.name == name:
            return kernel
    known = ", ".join(k.name for k in KERNELS)
    raise HopliteError(f"there is no kernel {name!r}", fix=f"choose from {known}")


def mirrors(uris: Iterable[str]) -> tuple[str, str]:
    """``(archive, security)``: those among the machine's own sources, otherwise Debian's."""
    archive, security = _ARCHIVE, _SECURITY
    for uri in reversed([u.rstrip("/") for u in uris]):  # the first one wins
        if uri.endswith("/debian"):
            archive = uri
        elif uri.endswith("/debian-security"):
            security = uri
    return archive, security


def sources(kernels: Iterable[Kernel], archive: str, security: str) -> str:
    """A sources.list(5) with the suites of these kernels, and of busybox."""
    suites = dict.fromkeys(suite for kernel in kernels for suite in kernel.suites)
    suites[_BUSYBOX_SUITE] = None
    lines = []
    for suite in suites:
        mirror = security if suite.endswith("-security") else archive
        lines.append(f"deb [arch=amd64 signed-by={KEYRING}] {mirror} {suite} main\n")
    return "".join(lines)


def newest(kernel: Kernel, madison: str) -> str:
    """The version to take, from ``apt-cache madison``, which lists the newest first."""
    for line in madison.splitlines():
        columns = [column.strip() for column in line.split("|")]
        if len(columns) == 3 and columns[0] == META:
            _, suite_component = columns[2].split(" ")[:2]
            if suite_component.partition("/")[0] in kernel.suites:
                return columns[1]
    raise HopliteError(
        f"Debian has no kernel {kernel.name} in {' or '.join(kernel.suites)}",
        where=META,
        fix="correct KERNELS in lab/vm/catalog.py",
    )


def is_meta(package: str) -> bool:
    """Whether a package has no files of its own, and only names others."""
    return bool(_META.fullmatch(package))


def parts(record: str, version: str) -> list[str]:
    """The packages of the same source and version that a package record (``apt-cache show``) needs:

    an image alone up to 6.18; since then image, binary and modules apart.
    """
    depends = [line for line in record.splitlines() if line.startswith("Depends:")]
    return [name for line in depends for name, v in _EXACTLY.findall(line) if v == version]

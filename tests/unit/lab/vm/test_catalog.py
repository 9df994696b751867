from __future__ import annotations

import pytest

from lab.vm import catalog
from lab.vm.catalog import KERNELS, Kernel
from meshapi.errors import HopliteError

MADISON = """
linux-image-cloud-amd64 | 7.3.4-1~bpo13+1 | http://m/debian trixie-backports/main amd64 Packages
linux-image-cloud-amd64 | 7.2.13-1 | http://m/debian sid/main amd64 Packages
linux-image-cloud-amd64 | 6.12.117-1 | http://m/debian-security trixie-security/main amd64 Packages
linux-image-cloud-amd64 | 5.10.262-1 | http://m/debian-security bullseye-security/main amd64 P
"""


def test_the_newest_of_the_suites_is_taken() -> None:
    assert catalog.newest(catalog.by_name("newest"), MADISON) == "7.3.4-1~bpo13+1"
    assert catalog.newest(Kernel("sid", ("sid",)), MADISON) == "7.2.13-1"
    assert catalog.newest(catalog.by_name("5.10"), MADISON) == "5.10.262-1"


def test_a_kernel_that_debian_no_longer_has_is_refused() -> None:
    with pytest.raises(HopliteError, match=r"no kernel 6\.1 in bookworm-security"):
        catalog.newest(catalog.by_name("6.1"), MADISON)


def test_an_unknown_kernel_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(HopliteError, match=r"no kernel '4\.19'") as refused:
        catalog.by_name("4.19")
    assert all(kernel.name in refused.value.fix for kernel in KERNELS)


def test_an_image_alone_and_one_in_parts() -> None:
    alone = "Package: x\nDepends: linux-image-6.12.1-cloud-amd64 (= 6.12.1-1)\n"
    assert catalog.parts(alone, "6.12.1-1") == ["linux-image-6.12.1-cloud-amd64"]
    apart = (
        "Depends: dracut | initramfs-tools (>= 0.120), linux-base-7.3.4-cloud-amd64 (= 7.3.4-1), "
        "linux-binary-7.3.4-cloud-amd64 (= 7.3.4-1), linux-base (= 4.9)\n"
        "Recommends: linux-doc (= 7.3.4-1)\n"
    )
    assert catalog.parts(apart, "7.3.4-1") == [
        "linux-base-7.3.4-cloud-amd64",
        "linux-binary-7.3.4-cloud-amd64",
    ]
    assert catalog.is_meta("linux-modules-cloud-amd64")
    assert not catalog.is_meta("linux-modules-7.3.4+deb13-cloud-amd64")


def test_the_machines_own_mirror_is_used() -> None:
    own = ["http://mirror.example/debian/", "http://mirror.example/debian-security/"]
    assert catalog.mirrors(own) == (
        "http://mirror.example/debian",
        "http://mirror.example/debian-security",
    )
    others = ["https://packages.example/apt", "http://archive.example/ubuntu/"]
    assert catalog.mirrors(others) == (
        "http://deb.debian.org/debian",
        "http://deb.debian.org/debian-security",
    )
    assert catalog.mirrors(["http://a/debian", "http://b/debian"])[0] == "http://a/debian"


def test_each_suite_is_read_once_from_where_it_is() -> None:
    kernels = [Kernel("a", ("x-security", "y")), Kernel("b", ("y",))]
    lines = catalog.sources(kernels, "http://m/debian", "http://m/debian-security").splitlines()
    assert [line.partition("] ")[2] for line in lines] == [
        "http://m/debian-security x-security main",
        "http://m/debian y main",
        "http://m/debian sid main",
    ]
    assert all("signed-by=/usr/share/keyrings/debian-archive-keyring.gpg" in line for line in lines)
